// How long the disk took to make things durable: all fsync and fdatasync of this process through
// RealFileSystem(). For metrics.
#pragma once

#include <cstdint>

namespace holdfast::base {

struct SyncTimes {
  uint64_t count = 0;
  uint64_t ns = 0;
};

// From any thread.
SyncTimes GetSyncTimes();

}  // namespace holdfast::base
