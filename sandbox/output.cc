#include "sandbox/output.h"

namespace holdfast::sandbox {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr size_t kControlStringMax = 8192;  // of an OSC, DCS, ... without an end it is taken for text

struct CodePoint {
  uint32_t value = 0;
  size_t bytes = 0;  // 0: malformed
};

// Decodes strictly: no overlong forms, no surrogates, nothing above U+10FFFF.
CodePoint DecodeUtf8(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {first, 1};
  size_t length = 0;
  uint32_t value = 0, least = 0;
  if ((first & 0xe0) == 0xc0) {
    length = 2, value = first & 0x1f, least = 0x80;
  } else if ((first & 0xf0) == 0xe0) {
    length = 3, value = first & 0x0f, least = 0x800;
  } else if ((first & 0xf8) == 0xf0) {
    length = 4, value = first & 0x07, least = 0x10000;
  }
  if (length == 0 || s.size() < length) return {};
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    value = value << 6 | (byte(i) & 0x3f);
  }
  if (value < least || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return {};
  return {value, length};
}

bool IsHarmful(uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c <= 0x9f) ||       // control characters
         c == 0x061c || c == 0x200e || c == 0x200f ||  // marks of direction
         (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

bool Between(char c, int low, int high) {
  const int value = static_cast<uint8_t>(c);
  return value >= low && value <= high;
}

// The length of the escape sequence at the start of `s` (which begins with ESC), ECMA-48. One that the text
// breaks off ends with the text.
size_t EscapeLength(std::string_view s) {
  if (s.size() < 2) return s.size();
  const char kind = s[1];
  size_t i = 2;
  if (kind == '[') {
    while (i < s.size() && Between(s[i], 0x20, 0x3f)) ++i;
    return i < s.size() && Between(s[i], 0x40, 0x7e) ? i + 1 : i;
  }
  if (kind == ']' || kind == 'P' || kind == 'X' || kind == '^' || kind == '_') {
    for (; i < s.size() && i < kControlStringMax; ++i) {
      if (s[i] == '\a') return i + 1;
      if (s[i] == '\x1b') return i + 1 < s.size() && s[i + 1] == '\\' ? i + 2 : i;
    }
    return 2;
  }
  i = 1;
  while (i < s.size() && Between(s[i], 0x20, 0x2f)) ++i;
  return i < s.size() && Between(s[i], 0x30, 0x7e) ? i + 1 : i;
}

}  // namespace

std::string MakeSafe(std::string_view bytes) {
  std::string safe;
  safe.reserve(bytes.size());
  while (!bytes.empty()) {
    const char c = bytes[0];
    if (c == '\x1b') {
      bytes.remove_prefix(EscapeLength(bytes));
      continue;
    }
    if (c == '\r') {
      if (bytes.size() < 2 || bytes[1] != '\n') safe += '\n';
      bytes.remove_prefix(1);
      continue;
    }
    const CodePoint point = DecodeUtf8(bytes);
    if (point.bytes == 0) {
      safe += kReplacement;
      bytes.remove_prefix(1);
      continue;
    }
    if (IsHarmful(point.value) && c != '\n' && c != '\t') {
      safe += kReplacement;
    } else {
      safe += bytes.substr(0, point.bytes);
    }
    bytes.remove_prefix(point.bytes);
  }
  return safe;
}

std::string Render(const CapturedOutput& output) {
  if (output.omitted_bytes == 0) return output.head + output.tail;
  std::string mark = "[... " + std::to_string(output.omitted_bytes) + " bytes, " +
                     std::to_string(output.omitted_lines) + " lines omitted";
  if (!output.spill_name.empty()) {
    mark += "; ";
    mark += output.spill_bytes < output.total_bytes
                ? "first " + std::to_string(output.spill_bytes) + " bytes: "
                : "full: ";
    mark += output.spill_name;
  }
  mark += "]\n";
  std::string text = output.head;
  if (!text.empty() && text.back() != '\n') text += '\n';
  return text + mark + output.tail;
}

}  // namespace holdfast::sandbox
