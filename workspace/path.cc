#include "workspace/path.h"

#include <string>

namespace holdfast::workspace {
namespace {

base::Status ValidatePart(std::string_view part) {
  if (part.empty()) return base::InvalidArgument("a path with an empty part");
  if (part == "." || part == "..") {
    return base::InvalidArgument("a path with the part \"" + std::string(part) + "\"");
  }
  if (part.size() > kNameBytesMax) return base::InvalidArgument("a path with a name of over 255 bytes");
  return {};
}

}  // namespace

base::Status ValidatePath(std::string_view path) {
  if (path.empty()) return {};
  if (path.front() == '/') return base::InvalidArgument("an absolute path where a relative one is needed");
  if (path.size() > kPathBytesMax) return base::InvalidArgument("a path of over 4096 bytes");
  if (path.find('\0') != std::string_view::npos) return base::InvalidArgument("a path with a NUL byte");
  for (size_t at = 0;;) {
    const size_t slash = path.find('/', at);
    HF_RETURN_IF_ERROR(ValidatePart(path.substr(at, slash == path.npos ? path.npos : slash - at)));
    if (slash == path.npos) return {};
    at = slash + 1;
  }
}

std::string_view Parent(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? std::string_view() : path.substr(0, slash);
}

std::string_view BaseName(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

}  // namespace holdfast::workspace
