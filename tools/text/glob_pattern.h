// Patterns of file names and paths, as .gitignore and ripgrep know them.
//
//   *.cc            a name, anywhere          src/*.h        beneath the root, this level only
//   **/test_*.py    at any depth              src/**         everything beneath src
//   {a,b}[0-9]?.c   alternatives, a class, one character; \ takes the next character as it is
//
// `*`, `?` and classes never match `/`. A pattern without `/` (but at its end) is about the name alone. Case
// counts. Hidden names are nothing special.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace holdfast::tools {

// Immutable; safe from any thread.
class GlobPattern {
 public:
  static constexpr size_t kAlternativesMax = 1024;  // after {} are multiplied out
  static constexpr size_t kBytesMax = 64 * 1024;    // of all of them

  // InvalidArgument, saying what is wrong, for an empty pattern, an unclosed { or [, or too many
  // alternatives. Leading "./" and "/" are dropped; a pattern that ends with / means all beneath.
  static base::StatusOr<GlobPattern> Make(std::string_view pattern);

  // `path` is relative, without "./". Costs at most alternatives x |pattern| x |path|.
  bool Matches(std::string_view path) const;

 private:
  struct Alternative {
    std::vector<std::string> parts;  // between slashes; "**": any number of whole parts
  };
  std::vector<Alternative> alternatives_;
};

}  // namespace holdfast::tools
