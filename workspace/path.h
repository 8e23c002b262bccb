// Paths within a tree: relative, `/` between the parts, bytes rather than text.
#pragma once

#include <cstddef>
#include <string_view>

#include "base/status.h"

namespace holdfast::workspace {

inline constexpr size_t kPathBytesMax = 4096;
inline constexpr size_t kNameBytesMax = 255;

// InvalidArgument, saying what is wrong, for a path that is absolute, longer than kPathBytesMax, holds a NUL
// byte, or has a part that is empty, ".", ".." or longer than kNameBytesMax. The empty path is the root of
// the tree and fine.
base::Status ValidatePath(std::string_view path);

// "a/b/c" -> "a/b", "a" -> "".
std::string_view Parent(std::string_view path);

// "a/b/c" -> "c".
std::string_view BaseName(std::string_view path);

}  // namespace holdfast::workspace
