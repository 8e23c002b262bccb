// UTF-8 where it may be malformed: what the model reads is always valid.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace holdfast::tools {

// Whether all of `bytes` is well-formed (no overlong forms, no surrogates, nothing above U+10FFFF).
bool IsUtf8(std::string_view bytes);

// Every maximal malformed part becomes one U+FFFD, as the Unicode Standard recommends (section 3.9) and as
// Python's errors="replace" does it.
std::string RepairUtf8(std::string_view bytes);

// The same of a stream that comes in pieces: a character may lie across their borders. One thread at a time.
class Utf8Repairer {
 public:
  // Appends to `out` what is certain; the beginning of a character may wait for the next piece.
  void Feed(std::string_view bytes, std::string& out);
  // Nothing more comes.
  void Finish(std::string& out);

 private:
  std::string waiting_;  // at most 3 bytes
};

// The longest beginning of well-formed `text` that has at most `bytes_max` bytes and ends with a whole
// character; the longest end that begins with one.
std::string_view FirstCharacters(std::string_view text, size_t bytes_max);
std::string_view LastCharacters(std::string_view text, size_t bytes_max);

}  // namespace holdfast::tools
