// Patterns of permission rules, over texts of which parts may be unknown until they run.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace holdfast::tools {

// A text as code units 0 to 255 (bytes) and holes.
using OpenText = std::u16string;
inline constexpr char16_t kHole = 0x100;  // any text, the empty one included

OpenText ToOpenText(std::string_view bytes);

enum class PatternKind {
  kText,     // `*` any characters, `?` one
  kCommand,  // as kText; a pattern that ends with " *" also matches without the two
  kPath,     // `*` and `?` stop at `/`, `**` does not; `**/` is any number of directories, also none
};

inline constexpr size_t kPatternBytesMax = 4096;

// Whether every text that `text` can stand for matches, or some text. Time and memory are bounded by the
// product of the lengths.
bool MustMatch(PatternKind kind, std::string_view pattern, const OpenText& text);
bool MayMatch(PatternKind kind, std::string_view pattern, const OpenText& text);

}  // namespace holdfast::tools
