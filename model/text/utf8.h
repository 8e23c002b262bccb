// UTF-8 as a byte automaton: strict (no overlong forms, no surrogates, nothing above U+10FFFF).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace holdfast::model {

// Where a byte stream stands within a character. kClean is a boundary; the others name what must follow.
enum class Utf8State : uint8_t {
  kClean,
  kNeed1,
  kNeed2,
  kNeed3,
  kAfterE0,  // 2 more, the first A0..BF
  kAfterEd,  // 2 more, the first 80..9F
  kAfterF0,  // 3 more, the first 90..BF
  kAfterF4,  // 3 more, the first 80..8F
  kBad,      // the byte cannot follow; absorbing
};
inline constexpr int kUtf8States = 8;  // without kBad

Utf8State Utf8Step(Utf8State state, uint8_t byte);

bool IsValidUtf8(std::string_view bytes);

// The length of the longest prefix of `bytes` that is whole valid characters.
size_t ValidUtf8Prefix(std::string_view bytes);

// Appends code point `c` (at most 0x10FFFF) to `out` as UTF-8.
void AppendUtf8(uint32_t c, std::string* out);

// Turns a byte stream into valid UTF-8: a character comes out once it is whole, and every maximal invalid
// sequence becomes one U+FFFD (as Python's errors="replace" does). The output does not depend on the cuts.
class Utf8Stream {
 public:
  void Feed(std::string_view bytes, std::string* out);
  // Ends the stream: an unfinished character becomes U+FFFD.
  void Finish(std::string* out);

 private:
  Utf8State state_ = Utf8State::kClean;
  std::string pending_;  // bytes of the unfinished character
};

// The whole of `bytes` through a Utf8Stream.
std::string ReplaceInvalidUtf8(std::string_view bytes);

}  // namespace holdfast::model
