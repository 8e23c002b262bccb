#include "base/process.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/errno.h"

namespace holdfast::base {
namespace {

constexpr uint64_t kMaxProcFileBytes = 1 << 20;
constexpr int kMaxCpus = 1 << 16;

std::optional<uint64_t> ParseNumber(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() ? std::optional(value) : std::nullopt;
}

// The number that follows `key` at the start of a line.
std::optional<uint64_t> NumberAfter(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.starts_with(key)) return ParseNumber(line.substr(key.size()));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return std::nullopt;
}

std::optional<uint64_t> NumberInFile(FileSystem& fs, const std::string& path, std::string_view key) {
  const auto text = fs.ReadFile(path, kMaxProcFileBytes);
  return text.ok() ? NumberAfter(*text, key) : std::nullopt;
}

// Where this process stands in the unified hierarchy, "" when that cannot be told.
std::string ControlGroup(FileSystem& fs) {
  const auto text = fs.ReadFile("/proc/self/cgroup", kMaxProcFileBytes);
  if (!text.ok()) return "";
  constexpr std::string_view kUnified = "0::";
  const size_t start = text->rfind(kUnified);
  if (start == std::string::npos) return "";
  const size_t begin = start + kUnified.size();
  return text->substr(begin, text->find('\n', begin) - begin);
}

void LowerToGroup(FileSystem& fs, const std::string& directory, MemoryInfo& info) {
  const auto limit = NumberInFile(fs, directory + "/memory.max", "");  // "max": no limit, no number
  if (!limit) return;
  const uint64_t used = NumberInFile(fs, directory + "/memory.current", "").value_or(0);
  const uint64_t file = NumberInFile(fs, directory + "/memory.stat", "file ").value_or(0);
  const uint64_t shared = NumberInFile(fs, directory + "/memory.stat", "shmem ").value_or(0);
  const uint64_t cache = file - std::min(file, shared);
  const uint64_t needed = used - std::min(used, cache);
  info.total_bytes = std::min(info.total_bytes, *limit);
  info.available_bytes = std::min(info.available_bytes, *limit - std::min(*limit, needed));
}

}  // namespace

int ProcessId() { return getpid(); }

size_t PageSizeBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

uint64_t PeakResidentBytes() {
  rusage usage;
  HF_CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

StatusOr<MemoryInfo> GetMemoryInfo(FileSystem& fs) {
  HF_ASSIGN_OR_RETURN(const std::string text, fs.ReadFile("/proc/meminfo", kMaxProcFileBytes));
  const auto total_kib = NumberAfter(text, "MemTotal:");
  const auto available_kib = NumberAfter(text, "MemAvailable:");
  if (!total_kib || !available_kib) return DataLoss("/proc/meminfo: MemTotal or MemAvailable is missing");
  MemoryInfo info{.total_bytes = *total_kib * 1024, .available_bytes = *available_kib * 1024};
  // The tightest of the group and all groups around it counts.
  for (std::string group = ControlGroup(fs);; group.resize(group.rfind('/'))) {
    LowerToGroup(fs, "/sys/fs/cgroup" + group, info);
    if (group.find('/') == std::string::npos) return info;
  }
}

std::vector<int> AllowedCpus() {
  for (int capacity = 1024; capacity <= kMaxCpus; capacity *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(capacity),
                                                               [](cpu_set_t* s) { CPU_FREE(s); });
    const size_t size = CPU_ALLOC_SIZE(capacity);
    if (sched_getaffinity(0, size, set.get()) != 0) continue;  // the kernel's mask is wider
    std::vector<int> cpus;
    for (int cpu = 0; cpu < capacity; ++cpu) {
      if (CPU_ISSET_S(cpu, size, set.get())) cpus.push_back(cpu);
    }
    return cpus;
  }
  return {0};
}

std::vector<int> PhysicalCores(std::span<const int> allowed, FileSystem& fs) {
  std::vector<int> cores;
  std::set<std::string> seen;
  for (const int cpu : allowed) {
    const std::string path =
        "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list";
    const auto siblings = fs.ReadFile(path, kMaxProcFileBytes);
    if (!siblings.ok() || seen.insert(*siblings).second) cores.push_back(cpu);
  }
  return cores;
}

int PhysicalCoreCount() { return std::max<int>(1, static_cast<int>(PhysicalCores(AllowedCpus()).size())); }

Status PinThisThread(int cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE) return InvalidArgument("cpu " + std::to_string(cpu) + " out of range");
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof(set), &set) == 0) return absl::OkStatus();
  const int error = errno;
  return ErrnoStatus(error, "pin to cpu " + std::to_string(cpu));
}

}  // namespace holdfast::base
