// Names of Linux file systems by the magic number that statfs reports, and which of them have a server
// between us and the disk.
#pragma once

#include <cstdint>
#include <string>

namespace holdfast::base {

struct FileSystemType {
  std::string name;  // as in /proc/filesystems; "0x..." when unknown
  bool network = false;
};

// An unknown number counts as local: new local file systems are more likely than new network ones.
FileSystemType FileSystemTypeOf(uint32_t magic);

}  // namespace holdfast::base
