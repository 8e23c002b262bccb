// Stores of this folder lie on a disk of this machine.
#pragma once

#include <string>
#include <string_view>

#include "base/file.h"
#include "base/status.h"

namespace holdfast::memory {

// FailedPrecondition, naming `path` and the kind of file system, when `directory` lies on another machine's:
// locks, mappings and syncs cannot be relied on there. The directory must exist.
base::Status RequireLocalDisk(base::FileSystem& fs, const std::string& directory, std::string_view path);

}  // namespace holdfast::memory
