// Text within a bound, for what the model is told.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace holdfast::agent {

// The smallest bound that BoundedText takes.
inline constexpr size_t kBoundedTextBytesMin = 128;

// `text` when it has at most `bytes_max` bytes; else as much of its beginning and of its end, in equal parts,
// as go in with a mark between them that says how many bytes are left out. UTF-8 stays whole.
std::string BoundedText(std::string_view text, size_t bytes_max);

// The beginning of `text` on one line, for people: control characters are blanks, and what goes beyond
// `bytes_max` is three dots. UTF-8 stays whole.
std::string OneLine(std::string_view text, size_t bytes_max);

}  // namespace holdfast::agent
