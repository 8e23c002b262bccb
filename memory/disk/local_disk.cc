#include "memory/disk/local_disk.h"

namespace holdfast::memory {

base::Status RequireLocalDisk(base::FileSystem& fs, const std::string& directory, std::string_view path) {
  HF_ASSIGN_OR_RETURN(const base::FileSystemInfo info, fs.Info(directory));
  if (!info.network) return {};
  return base::FailedPrecondition(
      std::string(path) + ": lies on a network file system (" + info.type +
      "), whose locks, mappings and syncs cannot be relied on; choose a directory "
      "on a local disk");
}

}  // namespace holdfast::memory
