#include "tools/file_versions.h"

#include <functional>

namespace holdfast::tools {

void FileVersions::Apply(std::span<const FileVersion> observed) {
  const std::lock_guard<std::mutex> lock(mu_);
  for (const FileVersion& version : observed) {
    Seen& seen = paths_[version.path];
    if (seen.order != 0) by_order_.erase(seen.order);
    seen = {.hash = version.hash, .order = next_order_++};
    by_order_.emplace(seen.order, version.path);
    if (paths_.size() > kPathsMax) {
      paths_.erase(by_order_.begin()->second);
      by_order_.erase(by_order_.begin());
    }
  }
}

std::optional<FileVersion> FileVersions::Find(std::string_view path) const {
  const std::lock_guard<std::mutex> lock(mu_);
  const auto it = paths_.find(path);
  if (it == paths_.end()) return std::nullopt;
  return FileVersion{.path = it->first, .hash = it->second.hash};
}

std::vector<FileVersion> FileVersions::Export() const {
  const std::lock_guard<std::mutex> lock(mu_);
  std::vector<FileVersion> versions;
  versions.reserve(by_order_.size());
  for (const auto& [order, path] : by_order_) {
    versions.push_back({.path = path, .hash = paths_.find(path)->second.hash});
  }
  return versions;
}

size_t FileVersions::size() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return paths_.size();
}

}  // namespace holdfast::tools
