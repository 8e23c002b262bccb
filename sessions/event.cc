#include "sessions/event.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "base/coding.h"
#include "sessions/event_coding.h"

namespace holdfast::sessions {
namespace {

constexpr size_t kOwnKinds = std::variant_size_v<EventBody> - 1;  // AgentEvent has a range of its own

constexpr std::string_view kNames[kOwnKinds] = {
    "SESSION_CREATED",   "TOKEN_RUN",         "TOKENS_CUT",   "EPOCH_STARTED", "REWOUND",
    "STATE_CHANGED",     "INPUT_RECEIVED",    "CALL_INTENT",  "CALL_OUTCOME",  "APPROVAL_REQUESTED",
    "APPROVAL_RESOLVED", "TIMER_SET",         "TIMER_ENDED",  "TURN_FINISHED", "RECOVERED",
    "TOKENS_ACCOUNTED",  "WORKSPACE_CHANGED", "REQUEST_DONE",
};

// The fields that a run of each origin has, and no other.
bool IsConsistent(const TokenRun& run) {
  const bool tokens = run.position >= 0 && !run.ids.empty() && run.ids.size() <= kRunTokensMax &&
                      std::none_of(run.ids.begin(), run.ids.end(), [](int32_t id) { return id < 0; });
  return tokens && run.sampling.has_value() == (run.origin == TokenOrigin::kSampled) &&
         (run.rule != ForcedRule::kNone) == (run.origin == TokenOrigin::kForced) &&
         (run.rendered.empty() || run.origin == TokenOrigin::kFed) &&
         std::is_sorted(run.rendered.begin(), run.rendered.end());
}

// Enumerations start at 1, but for those whose 0 means none.
bool IsConsistent(const EventBody& body) {
  if (const auto* run = std::get_if<TokenRun>(&body)) {
    return run->origin != TokenOrigin{0} && IsConsistent(*run);
  }
  if (const auto* cut = std::get_if<TokensCut>(&body)) return cut->position >= 0 && cut->count > 0;
  if (const auto* changed = std::get_if<StateChanged>(&body)) {
    return changed->state != SessionState{0} &&
           (changed->wait != WaitFor::kNothing) == (changed->state == SessionState::kWaiting);
  }
  if (const auto* input = std::get_if<InputReceived>(&body)) return input->kind != InputKind{0};
  if (const auto* intent = std::get_if<CallIntent>(&body)) return intent->effect != CallEffect{0};
  if (const auto* outcome = std::get_if<CallOutcome>(&body)) return outcome->status != CallStatus{0};
  if (const auto* request = std::get_if<RequestDone>(&body)) {
    return !request->request_id.empty() && request->request_id.size() <= kRequestIdBytesMax;
  }
  return true;
}

template <size_t kAt = 0>
base::StatusOr<EventBody> DecodeOwn(size_t index, std::span<const std::byte> bytes) {
  if constexpr (kAt == kOwnKinds) {
    return base::Internal("no such event");
  } else {
    if (index != kAt) return DecodeOwn<kAt + 1>(index, bytes);
    std::variant_alternative_t<kAt, EventBody> body;
    EventReader reader(bytes);
    Walk(reader, body);
    HF_RETURN_IF_ERROR(reader.Finish(kNames[kAt]));
    return EventBody(std::move(body));
  }
}

}  // namespace

base::Status EventReader::Finish(std::string_view what) const {
  if (bad_) return base::DataLoss(std::string(what) + ": a value that is never written");
  return in_.Finish(what);
}

uint16_t KindOf(const EventBody& body) {
  if (const auto* agent = std::get_if<AgentEvent>(&body)) return agent->kind;
  return static_cast<uint16_t>(body.index() + 1);
}

std::string KindName(uint16_t kind) {
  if (kind >= 1 && kind <= kOwnKinds) return std::string(kNames[kind - 1]);
  return (kind >= kFirstAgentEvent ? "AGENT_" : "UNKNOWN_") + std::to_string(kind);
}

std::string EncodeBody(const EventBody& body) {
  std::string out;
  std::visit(
      [&out](const auto& event) {
        if constexpr (std::is_same_v<std::decay_t<decltype(event)>, AgentEvent>) {
          out = event.payload;
        } else {
          EventWriter writer(out);
          Walk(writer, event);
        }
      },
      body);
  return out;
}

base::StatusOr<EventBody> DecodeBody(uint16_t kind, std::span<const std::byte> bytes) {
  if (bytes.size() > kEventBytesMax) return base::DataLoss("an event of more than 8 MiB");
  if (kind >= kFirstAgentEvent) {
    return EventBody(AgentEvent{.kind = kind, .payload = std::string(base::AsText(bytes))});
  }
  if (kind == 0 || kind > kOwnKinds) {
    return base::DataLoss("an event of kind " + std::to_string(kind) + ", which this version does not know");
  }
  HF_ASSIGN_OR_RETURN(EventBody body, DecodeOwn(size_t{kind} - 1, bytes));
  if (!IsConsistent(body)) return base::DataLoss(KindName(kind) + ": fields that do not go together");
  return body;
}

base::Sha256Digest ChainRoot(const SessionUid& uid) {
  base::Sha256 hash;
  hash.Update(base::AsBytes("holdfast session log 1"));
  hash.Update(uid);
  return hash.Finish();
}

base::Sha256Digest NextChain(const base::Sha256Digest& before, uint64_t seq, int64_t utc_ms, uint16_t kind,
                             std::span<const std::byte> body) {
  std::string head;
  base::PutFixed64(head, seq);
  base::PutFixed64(head, static_cast<uint64_t>(utc_ms));
  base::PutFixed16(head, kind);
  base::PutFixed64(head, body.size());
  base::Sha256 hash;
  hash.Update(before);
  hash.Update(base::AsBytes(head));
  hash.Update(body);
  return hash.Finish();
}

}  // namespace holdfast::sessions
