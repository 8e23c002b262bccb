// How much a command may use.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace holdfast::sandbox {

inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;

// 0 means no limit, where that is allowed (idle_ms, cpu_ms, wall_ms).
struct Limits {
  uint64_t wall_ms = 120'000;
  uint64_t idle_ms = 0;  // without output or input
  uint64_t cpu_ms = 600'000;
  uint64_t memory_bytes = 4 * kGiB;
  uint64_t processes = 512;
  uint64_t open_files = 4096;
  uint64_t file_bytes = 1 * kGiB;
  uint64_t disk_bytes = 8 * kGiB;  // of the whole layer; in direct mode of what the disk has lost since
  uint64_t disk_inodes = 400'000;
  uint64_t output_bytes = 1 * kGiB;  // then the command is ended
  uint64_t kill_grace_ms = 500;      // between SIGTERM and the end of all its processes
};

// InvalidArgument when a bound that must exist is 0, or one is beyond what can be enforced.
base::Status Validate(const Limits& limits);

// InvalidArgument when `limits` allows more than `most` does, naming the first such bound: what a model asks
// for never goes above the policy.
base::Status CheckWithin(const Limits& limits, const Limits& most);

}  // namespace holdfast::sandbox
