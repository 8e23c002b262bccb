#include "tools/text/utf8.h"

#include <cstdint>

namespace holdfast::tools {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Part {
  size_t bytes = 0;
  enum class Kind { kCharacter, kMalformed, kUnfinished } kind = Kind::kMalformed;
};

bool IsContinuation(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

// The character or malformed part that `bytes` begins with (Unicode Standard, table 3-7). Unfinished: it is
// the whole of `bytes` and could still become a character.
Part First(std::string_view bytes) {
  using enum Part::Kind;
  const auto lead = static_cast<uint8_t>(bytes[0]);
  if (lead < 0x80) return {1, kCharacter};
  if (lead < 0xc2 || lead > 0xf4) return {1, kMalformed};
  const size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (bytes.size() == 1) return {1, kUnfinished};
  const auto second = static_cast<uint8_t>(bytes[1]);
  if (second < low || second > high) return {1, kMalformed};
  for (size_t i = 2; i < length; ++i) {
    if (i == bytes.size()) return {i, kUnfinished};
    if (!IsContinuation(bytes[i])) return {i, kMalformed};
  }
  return {length, kCharacter};
}

}  // namespace

bool IsUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const Part part = First(bytes);
    if (part.kind != Part::Kind::kCharacter) return false;
    bytes.remove_prefix(part.bytes);
  }
  return true;
}

void Utf8Repairer::Feed(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!waiting_.empty()) {
    joined = waiting_.append(bytes);
    bytes = joined;
    waiting_.clear();
  }
  out.reserve(out.size() + bytes.size());
  while (!bytes.empty()) {
    const Part part = First(bytes);
    if (part.kind == Part::Kind::kUnfinished) {
      waiting_ = bytes;
      return;
    }
    out += part.kind == Part::Kind::kCharacter ? bytes.substr(0, part.bytes) : kReplacement;
    bytes.remove_prefix(part.bytes);
  }
}

void Utf8Repairer::Finish(std::string& out) {
  if (!waiting_.empty()) out += kReplacement;
  waiting_.clear();
}

std::string RepairUtf8(std::string_view bytes) {
  std::string out;
  Utf8Repairer repairer;
  repairer.Feed(bytes, out);
  repairer.Finish(out);
  return out;
}

std::string_view FirstCharacters(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  size_t end = bytes_max;
  while (end > 0 && IsContinuation(text[end])) --end;
  return text.substr(0, end);
}

std::string_view LastCharacters(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  size_t begin = text.size() - bytes_max;
  while (begin < text.size() && IsContinuation(text[begin])) ++begin;
  return text.substr(begin);
}

}  // namespace holdfast::tools
