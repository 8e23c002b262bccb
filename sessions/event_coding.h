// The fields of each event in the order in which they are written: one walk for both directions. Format:
// docs/formats/session_log.md.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/coding.h"
#include "sessions/event.h"

namespace holdfast::sessions {

class EventWriter {
 public:
  explicit EventWriter(std::string& out) : out_(out) {}

  void operator()(const std::string& text) { base::PutLengthPrefixed(out_, text); }
  template <size_t kBytes>
  void operator()(const std::array<std::byte, kBytes>& bytes) {
    out_.append(base::AsText(bytes));
  }
  void operator()(bool value) { base::PutFixed8(out_, value ? 1 : 0); }
  void operator()(float value) { base::PutFixed32(out_, std::bit_cast<uint32_t>(value)); }
  template <std::integral T>
  void operator()(const T& value) {
    base::PutVarint64(out_, static_cast<uint64_t>(value));
  }
  template <class T>
  requires std::is_enum_v<T>
  void operator()(const T& value, T /*last*/) { base::PutFixed8(out_, static_cast<uint8_t>(value)); }
  template <class T>
  void operator()(const std::vector<T>& list) {
    base::PutVarint64(out_, list.size());
    for (const T& item : list) (*this)(item);
  }
  template <class T>
  void operator()(const std::optional<T>& value) {
    base::PutFixed8(out_, value.has_value() ? 1 : 0);
    if (value.has_value()) WriteValue(*value);
  }

 private:
  template <class T>
  void WriteValue(const T& value);

  std::string& out_;
};

class EventReader {
 public:
  explicit EventReader(std::span<const std::byte> bytes) : in_(bytes) {}

  void operator()(std::string& text) { text = in_.LengthPrefixed(kEventBytesMax); }
  template <size_t kBytes>
  void operator()(std::array<std::byte, kBytes>& bytes) {
    const std::span<const std::byte> from = in_.Bytes(kBytes);
    if (from.size() == kBytes) std::copy(from.begin(), from.end(), bytes.begin());
  }
  void operator()(bool& value) { value = Below(in_.Fixed8(), 2) == 1; }
  void operator()(float& value) { value = std::bit_cast<float>(in_.Fixed32()); }
  template <std::integral T>
  void operator()(T& value) {
    const uint64_t read = in_.Varint64();
    value = static_cast<T>(read);
    if (static_cast<uint64_t>(value) != read) bad_ = true;
  }
  template <class T>
  requires std::is_enum_v<T>
  void operator()(T& value, T last) { value = T{Below(in_.Fixed8(), static_cast<uint8_t>(last) + 1)}; }
  template <class T>
  void operator()(std::vector<T>& list) {
    const uint64_t count = in_.Varint64();
    if (count > in_.remaining()) {  // every item takes a byte at least
      bad_ = true;
      return;
    }
    list.clear();
    for (uint64_t i = 0; i < count && ok(); ++i) (*this)(list.emplace_back());
  }
  template <class T>
  void operator()(std::optional<T>& value) {
    if (Below(in_.Fixed8(), 2) == 1) ReadValue(value.emplace());
  }

  bool ok() const { return in_.ok() && !bad_; }
  base::Status Finish(std::string_view what) const;

 private:
  uint8_t Below(uint8_t value, int end) {
    if (value >= end) bad_ = true;
    return value >= end ? uint8_t{0} : value;
  }
  template <class T>
  void ReadValue(T& value);

  base::Decoder in_;
  bool bad_ = false;  // a value that no writer writes
};

// Walk(io, event): `io` is a reader and `event` is filled, or a writer and `event` is const.
template <class Io, class E>
void Walk(Io& io, E& e) {
  using T = std::remove_const_t<E>;
  if constexpr (std::is_same_v<T, SessionCreated>) {
    io(e.uid), io(e.weights), io(e.config), io(e.tokenizer), io(e.chat_template), io(e.tools), io(e.seed);
    io(e.parent), io(e.parent_seq), io(e.stream);
  } else if constexpr (std::is_same_v<T, Sampling>) {
    io(e.temperature), io(e.top_k), io(e.min_p), io(e.top_p), io(e.seed), io(e.stream), io(e.grammar);
    io(e.numerics);
  } else if constexpr (std::is_same_v<T, TokenRun>) {
    io(e.position), io(e.origin, TokenOrigin::kForced), io(e.ids), io(e.rendered), io(e.sampling);
    io(e.rule, ForcedRule::kMalformed);
  } else if constexpr (std::is_same_v<T, TokensCut>) {
    io(e.position), io(e.count), io(e.reason);
  } else if constexpr (std::is_same_v<T, EpochStarted>) {
    io(e.epoch), io(e.reason);
  } else if constexpr (std::is_same_v<T, Rewound>) {
    io(e.to_seq), io(e.stream);
  } else if constexpr (std::is_same_v<T, StateChanged>) {
    io(e.state, SessionState::kClosed), io(e.wait, WaitFor::kClient), io(e.reason);
  } else if constexpr (std::is_same_v<T, InputReceived>) {
    io(e.kind, InputKind::kReminder), io(e.request_id), io(e.text);
  } else if constexpr (std::is_same_v<T, CallIntent>) {
    io(e.call), io(e.tool), io(e.arguments), io(e.action), io(e.effect, CallEffect::kEffectful);
    io(e.contained), io(e.workspace_before), io(e.client_deadline_utc_ms);
  } else if constexpr (std::is_same_v<T, CallOutcome>) {
    io(e.call), io(e.status, CallStatus::kUnknown), io(e.text), io(e.workspace_after), io(e.blobs);
    io(e.record);
  } else if constexpr (std::is_same_v<T, ApprovalRequested>) {
    io(e.call), io(e.action), io(e.question);
  } else if constexpr (std::is_same_v<T, ApprovalResolved>) {
    io(e.call), io(e.action), io(e.allowed), io(e.request_id);
  } else if constexpr (std::is_same_v<T, TimerSet>) {
    io(e.timer), io(e.due_utc_ms), io(e.remaining_ms);
  } else if constexpr (std::is_same_v<T, TimerEnded>) {
    io(e.timer), io(e.fired);
  } else if constexpr (std::is_same_v<T, TurnFinished>) {
    io(e.reason);
  } else if constexpr (std::is_same_v<T, Recovered>) {
    io(e.generation), io(e.report);
  } else if constexpr (std::is_same_v<T, TokensAccounted>) {
    io(e.attached), io(e.prefilled), io(e.decoded), io(e.forced), io(e.discarded);
  } else if constexpr (std::is_same_v<T, WorkspaceChanged>) {
    io(e.manifest), io(e.reason);
  } else {
    static_assert(std::is_same_v<T, RequestDone>);
    io(e.request_id), io(e.what);
  }
}

template <class T>
void EventWriter::WriteValue(const T& value) {
  if constexpr (std::is_same_v<T, Sampling>) {
    Walk(*this, value);
  } else {
    (*this)(value);
  }
}

template <class T>
void EventReader::ReadValue(T& value) {
  if constexpr (std::is_same_v<T, Sampling>) {
    Walk(*this, value);
  } else {
    (*this)(value);
  }
}

}  // namespace holdfast::sessions
