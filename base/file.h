// Files: the only door to the disk. PosixFileSystem (RealFileSystem()) is the real one; tests use
// tests/support/sim_file_system.h, which injects crashes, short reads, ENOSPC, EIO and bit flips.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace holdfast::base {

// A read-only mapping of a whole file as it was when mapped. Immutable, safe to read from any thread.
class MappedFile {
 public:
  virtual ~MappedFile() = default;
  virtual std::span<const std::byte> bytes() const = 0;
};

// All methods may be called from any thread. Paths are used as given; errors name the path and the cause.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // Maps the whole of a regular file read-only. An empty file gives an empty span.
  virtual StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) = 0;

  // Reads a whole file of at most `max_bytes`; larger is ResourceExhausted, absent is NotFound.
  virtual StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes) = 0;
};

FileSystem& RealFileSystem();

}  // namespace holdfast::base
