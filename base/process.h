// What this process is and what machine it runs on. Starting other processes is not here: posix_spawn stands
// only in sandbox/ and server/. Files of /proc and /sys are read through a FileSystem, so that a test can
// describe any machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/file.h"
#include "base/status.h"

namespace holdfast::base {

int ProcessId();

size_t PageSizeBytes();

// The most memory this process has had resident so far.
uint64_t PeakResidentBytes();

struct MemoryInfo {
  uint64_t total_bytes = 0;
  uint64_t available_bytes = 0;  // what can be used without swapping; file cache counts as available
};

// Memory of the machine (/proc/meminfo), lowered to what the control groups (v2) around this process allow.
// DataLoss when the kernel's text cannot be read. Costs a handful of small reads.
StatusOr<MemoryInfo> GetMemoryInfo(FileSystem& fs = RealFileSystem());

// The logical CPUs this thread may run on, ascending (its affinity mask).
std::vector<int> AllowedCpus();

// One CPU for each physical core that has a CPU in `allowed`: the first of it, in the order of `allowed`.
// Where the kernel does not describe a CPU's siblings, the CPU counts as a core.
std::vector<int> PhysicalCores(std::span<const int> allowed, FileSystem& fs = RealFileSystem());

// Size of PhysicalCores(AllowedCpus()): the right number of threads for compute. At least 1.
int PhysicalCoreCount();

// Keeps the calling thread on one CPU.
Status PinThisThread(int cpu);

}  // namespace holdfast::base
