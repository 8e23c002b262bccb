// Paths as people and the model read them.
#pragma once

#include <string>
#include <string_view>

namespace holdfast::tools {

// A path on one line of valid text: as it is, or when it holds control characters, a leading quote or bytes
// that are no UTF-8, quoted as git does: "a\nb\377".
std::string ShownPath(std::string_view path);

}  // namespace holdfast::tools
