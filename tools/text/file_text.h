// Text files as the file tools see them: lines, their ends, and what is no text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::tools {

inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Why bytes are not text that a tool could edit without harm: "a NUL byte at byte 3", "it is UTF-16",
// "malformed in line 17". Empty: they are UTF-8.
std::string WhyNotText(std::string_view bytes);

enum class LineEnd : uint8_t { kNone, kLf, kCrLf };
std::string_view LineEndText(LineEnd end);

// A line without its end. Only the last line of a file may have none.
struct Line {
  std::string_view text;
  LineEnd end = LineEnd::kNone;
};

// Of a text without byte order mark. No line stands after the last line end; an empty text has none.
std::vector<Line> SplitLines(std::string_view text);

// What a literal replacement found and made.
struct Replacement {
  uint64_t count = 0;               // occurrences that do not overlap; with Occurrence::kOne, all of them
  std::vector<uint64_t> lines;      // where they begin, from 1; at most `places_max`
  std::optional<std::string> text;  // the whole new content, unless nothing or too much was found
};

enum class Occurrence {
  kOne,  // exactly one, counting those that overlap: otherwise nothing is replaced
  kAll,
};

// Replaces `old_text` (not empty) in a file's bytes. A byte order mark stays. Where the file has CR LF, line
// ends in `old_text` match either kind, and those of `new_text` become what stands there. Linear in the file,
// but for places times lengths.
Replacement ReplaceText(std::string_view bytes, std::string_view old_text, std::string_view new_text,
                        Occurrence occurrence, size_t places_max);

// The line (from 1) where text most like `wanted` begins: blanks at the ends of lines do not count there. 0
// when nothing is near. Linear in the file times the lines of `wanted` that agree.
uint64_t NearestLine(const std::vector<Line>& lines, std::string_view wanted);

}  // namespace holdfast::tools
