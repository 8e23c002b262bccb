// Keeps a page that cannot be read from killing the process. Reading mapped memory whose file was truncated,
// or whose disk fails, raises SIGBUS; for a mapping that is watched here the page is replaced by zeros, the
// mapping is marked damaged, a counter is raised, and the read goes on.
//
// What this means for a reader: bytes that were read may be zeros that the file does not hold. Compare
// MappingFaultCount() from before and after, or ask the mapping, and only then use what was computed.
//
// Not covered: a system call that is handed such memory fails with EFAULT instead.
//
// The handler is installed with the first watch and stays. A SIGBUS anywhere else goes to the handler that
// was there before, or ends the process as if there were none: with a core of the place where it happened.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace holdfast::base {

// Pages replaced so far, by the whole process. After a read by another thread it counts what that thread met
// if the two have synchronised.
uint64_t MappingFaultCount();

struct WatchedMapping;  // private to mapping_faults.cc

// Watches memory that mmap returned, read-only, from construction to destruction: the whole mapping, or an
// empty span. Nobody may read the memory at or after the end. Threads may make and end watches at once.
//
// The first pages that fail are replaced one by one; after kMappingFaultsMax of them the whole mapping
// becomes zeros, so that a large file that was emptied costs neither a fault nor a kernel mapping for each
// page.
class MappingWatch {
 public:
  explicit MappingWatch(std::span<const std::byte> memory);
  MappingWatch(const MappingWatch&) = delete;
  MappingWatch& operator=(const MappingWatch&) = delete;
  ~MappingWatch();

  bool damaged() const;

 private:
  WatchedMapping* const mapping_;  // null for an empty span
};

inline constexpr uint32_t kMappingFaultsMax = 64;

}  // namespace holdfast::base
