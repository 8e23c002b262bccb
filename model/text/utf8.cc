#include "model/text/utf8.h"

namespace holdfast::model {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

Utf8State FirstByte(uint8_t byte) {
  if (byte < 0x80) return Utf8State::kClean;
  if (byte < 0xC2) return Utf8State::kBad;
  if (byte < 0xE0) return Utf8State::kNeed1;
  if (byte == 0xE0) return Utf8State::kAfterE0;
  if (byte == 0xED) return Utf8State::kAfterEd;
  if (byte < 0xF0) return Utf8State::kNeed2;
  if (byte == 0xF0) return Utf8State::kAfterF0;
  if (byte < 0xF4) return Utf8State::kNeed3;
  return byte == 0xF4 ? Utf8State::kAfterF4 : Utf8State::kBad;
}

Utf8State Within(uint8_t byte, uint8_t low, uint8_t high, Utf8State next) {
  return byte >= low && byte <= high ? next : Utf8State::kBad;
}

}  // namespace

Utf8State Utf8Step(Utf8State state, uint8_t byte) {
  switch (state) {
    case Utf8State::kClean:
      return FirstByte(byte);
    case Utf8State::kNeed1:
      return Within(byte, 0x80, 0xBF, Utf8State::kClean);
    case Utf8State::kNeed2:
      return Within(byte, 0x80, 0xBF, Utf8State::kNeed1);
    case Utf8State::kNeed3:
      return Within(byte, 0x80, 0xBF, Utf8State::kNeed2);
    case Utf8State::kAfterE0:
      return Within(byte, 0xA0, 0xBF, Utf8State::kNeed1);
    case Utf8State::kAfterEd:
      return Within(byte, 0x80, 0x9F, Utf8State::kNeed1);
    case Utf8State::kAfterF0:
      return Within(byte, 0x90, 0xBF, Utf8State::kNeed2);
    case Utf8State::kAfterF4:
      return Within(byte, 0x80, 0x8F, Utf8State::kNeed2);
    case Utf8State::kBad:
      break;
  }
  return Utf8State::kBad;
}

size_t ValidUtf8Prefix(std::string_view bytes) {
  Utf8State state = Utf8State::kClean;
  size_t whole = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    state = Utf8Step(state, static_cast<uint8_t>(bytes[i]));
    if (state == Utf8State::kBad) break;
    if (state == Utf8State::kClean) whole = i + 1;
  }
  return whole;
}

bool IsValidUtf8(std::string_view bytes) { return ValidUtf8Prefix(bytes) == bytes.size(); }

void AppendUtf8(uint32_t c, std::string* out) {
  const auto tail = [&](int shift) { out->push_back(static_cast<char>(0x80 | ((c >> shift) & 0x3F))); };
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (c >> 6)));
    tail(0);
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (c >> 12)));
    tail(6);
    tail(0);
  } else {
    out->push_back(static_cast<char>(0xF0 | (c >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

void Utf8Stream::Feed(std::string_view bytes, std::string* out) {
  for (const char c : bytes) {
    Utf8State next = Utf8Step(state_, static_cast<uint8_t>(c));
    if (next == Utf8State::kBad && state_ != Utf8State::kClean) {
      Finish(out);  // what was begun is invalid; the byte may begin a character of its own
      next = Utf8Step(Utf8State::kClean, static_cast<uint8_t>(c));
    }
    if (next == Utf8State::kBad) {
      out->append(kReplacement);
      continue;
    }
    state_ = next;
    pending_.push_back(c);
    if (state_ == Utf8State::kClean) {
      out->append(pending_);
      pending_.clear();
    }
  }
}

void Utf8Stream::Finish(std::string* out) {
  if (!pending_.empty()) out->append(kReplacement);
  pending_.clear();
  state_ = Utf8State::kClean;
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string out;
  Utf8Stream stream;
  stream.Feed(bytes, &out);
  stream.Finish(&out);
  return out;
}

}  // namespace holdfast::model
