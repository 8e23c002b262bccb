#include "sandbox/broker/meters.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "sandbox/broker/kernel.h"

namespace holdfast::sandbox {
namespace {

constexpr size_t kDepthMax = 512;      // of directories; deeper ones are not counted
constexpr size_t kWalkEntries = 8192;  // of one step: some 20 ms
constexpr int64_t kWalkPauseNs = 5'000'000'000;
constexpr uint64_t kFreeBytesMin = 256 << 20;
constexpr uint64_t kFreeInodesMin = 4096;

std::string ProcPath(pid_t pid, const char* file) { return "/proc/" + std::to_string(pid) + "/" + file; }

// Appends the children that any thread of `pid` has.
void AppendChildren(pid_t pid, std::vector<pid_t>& pids) {
  const std::string tasks = ProcPath(pid, "task");
  DIR* directory = opendir(tasks.c_str());
  if (directory == nullptr) return;
  std::string text;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    if (!ReadText((tasks + "/" + entry->d_name + "/children").c_str(), text)) continue;
    const char* at = text.c_str();
    char* end = nullptr;
    for (long child = std::strtol(at, &end, 10); end != at; child = std::strtol(at, &end, 10)) {
      pids.push_back(static_cast<pid_t>(child));
      at = end;
    }
  }
  closedir(directory);
}

std::vector<pid_t> Tree(pid_t root, size_t processes_max) {
  std::vector<pid_t> pids = {root};
  for (size_t i = 0; i < pids.size() && pids.size() < processes_max; ++i) AppendChildren(pids[i], pids);
  return pids;
}

// Fields 14 to 17 of /proc/PID/stat (user and system time, own and of waited-for children) and 24 (pages).
void AddStat(pid_t pid, ProcessUsage& usage) {
  std::string text;
  if (!ReadText(ProcPath(pid, "stat").c_str(), text)) return;
  const size_t name_end = text.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return;
  const char* at = text.c_str() + name_end + 1;
  uint64_t ticks = 0, pages = 0;
  for (int field = 3; field <= 24 && *at != '\0'; ++field) {
    while (*at == ' ') ++at;
    if (field >= 14 && field <= 17) ticks += std::strtoull(at, nullptr, 10);
    if (field == 24) pages = std::strtoull(at, nullptr, 10);
    while (*at != ' ' && *at != '\0') ++at;
  }
  usage.processes += 1;
  usage.cpu_us += ticks * 1'000'000 / static_cast<uint64_t>(sysconf(_SC_CLK_TCK));
  usage.resident_bytes += pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

uint64_t Lost(uint64_t before, uint64_t now) { return before > now ? before - now : 0; }

uint64_t KilobytesAfter(std::string_view text, std::string_view key) {
  const size_t at = text.find(key);
  if (at == std::string_view::npos) return 0;
  return std::strtoull(std::string(text.substr(at + key.size(), 32)).c_str(), nullptr, 10) * 1024;
}

}  // namespace

ProcessUsage MeasureTree(pid_t root, size_t processes_max) {
  ProcessUsage usage;
  for (const pid_t pid : Tree(root, processes_max)) AddStat(pid, usage);
  return usage;
}

uint64_t MeasureTreeMemoryExactly(pid_t root, size_t processes_max) {
  uint64_t bytes = 0;
  std::string text;
  for (const pid_t pid : Tree(root, processes_max)) {
    if (!ReadText(ProcPath(pid, "smaps_rollup").c_str(), text)) continue;
    bytes += KilobytesAfter(text, "\nPss_Anon:") + KilobytesAfter(text, "\nPss_Shmem:");
  }
  return bytes;
}

uint64_t MachineMemoryAvailable() {
  std::string text;
  if (!ReadText("/proc/meminfo", text) || text.find("\nMemAvailable:") == std::string::npos)
    return UINT64_MAX;
  return KilobytesAfter(text, "\nMemAvailable:");
}

FreeSpace MeasureFreeSpace(const char* path) {
  struct statvfs stat;
  if (statvfs(path, &stat) != 0) return {};
  // A file system without a count of inodes reports none at all.
  return {stat.f_bavail * stat.f_frsize, stat.f_files == 0 ? UINT64_MAX : stat.f_favail};
}

TreeWalk::TreeWalk(const std::string& path) {
  if (DIR* directory = opendir(path.c_str())) stack_.push_back(directory);
}

TreeWalk::~TreeWalk() {
  for (DIR* directory : stack_) closedir(directory);
}

bool TreeWalk::Step(size_t entries) {
  for (; entries > 0 && !stack_.empty(); --entries) {
    DIR* directory = stack_.back();
    const dirent* entry = readdir(directory);
    if (entry == nullptr) {
      closedir(directory);
      stack_.pop_back();
      continue;
    }
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    struct stat stat;
    if (fstatat(dirfd(directory), entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) != 0) {
      complete_ = complete_ && errno != EACCES;
      continue;
    }
    bytes_ += static_cast<uint64_t>(stat.st_blocks) * 512;
    inodes_ += 1;
    if (!S_ISDIR(stat.st_mode)) continue;
    if (stack_.size() >= kDepthMax) {
      complete_ = false;
      continue;
    }
    const int fd = openat(dirfd(directory), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR* child = fd >= 0 ? fdopendir(fd) : nullptr;
    if (child != nullptr) {
      stack_.push_back(child);
    } else {
      complete_ = complete_ && errno != EACCES && errno != EMFILE;
      if (fd >= 0) close(fd);
    }
  }
  return stack_.empty();
}

namespace {

void RemoveIn(int parent, const char* name, int depth, const std::string& kept) {
  fchmodat(parent, name, 0700, 0);
  const int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR* directory = fd >= 0 ? fdopendir(fd) : nullptr;
  if (directory == nullptr) return;
  while (const dirent* entry = readdir(directory)) {
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    if (depth == 0 && entry->d_name == kept) continue;
    if (unlinkat(fd, entry->d_name, 0) == 0 || errno != EISDIR || depth >= 64) continue;
    RemoveIn(fd, entry->d_name, depth + 1, kept);
    unlinkat(fd, entry->d_name, AT_REMOVEDIR);
  }
  closedir(directory);
}

}  // namespace

void RemoveTree(const std::string& path, const std::string& kept) {
  RemoveIn(AT_FDCWD, path.c_str(), 0, kept);
}

DiskMeter::DiskMeter(std::string layer, std::string file_system)
    : layer_(std::move(layer)), file_system_(std::move(file_system)) {
  free_at_start_ = free_at_walk_ = MeasureFreeSpace(file_system_.c_str());
}

uint64_t DiskMeter::BytesAt(const FreeSpace& free) const {
  return exact_bytes_ - std::min(exact_bytes_, Lost(free.bytes, free_at_walk_.bytes));
}

uint64_t DiskMeter::InodesAt(const FreeSpace& free) const {
  return exact_inodes_ - std::min(exact_inodes_, Lost(free.inodes, free_at_walk_.inodes));
}

void DiskMeter::Tick(int64_t now_ns, uint64_t bytes_limit, uint64_t inodes_limit) {
  const FreeSpace free = MeasureFreeSpace(file_system_.c_str());
  nearly_full_ = free.bytes < kFreeBytesMin || free.inodes < kFreeInodesMin;
  const uint64_t bytes_now = exact_bytes_ + Lost(free_at_walk_.bytes, free.bytes);
  const uint64_t inodes_now = exact_inodes_ + Lost(free_at_walk_.inodes, free.inodes);
  if (layer_.empty()) {
    exact_bytes_ = Lost(free_at_start_.bytes, free.bytes);
    exact_inodes_ = Lost(free_at_start_.inodes, free.inodes);
    free_at_walk_ = free;
    return;
  }
  if (walk_ == nullptr) {
    const bool over = (bytes_limit != 0 && bytes_now > bytes_limit) ||
                      (inodes_limit != 0 && inodes_now > inodes_limit) || nearly_full_;
    // Others may have freed space while the layer grew, so it is walked from time to time in any case; a
    // large one more rarely.
    const int64_t rest_ns = (over ? 2 : 20) * walk_cost_ns_ + (over ? 0 : kWalkPauseNs);
    if (now_ns - walked_ns_ < rest_ns) return;
    walk_ = std::make_unique<TreeWalk>(layer_);
    free_at_next_ = free;
    walk_began_ns_ = now_ns;
  }
  if (!walk_->Step(kWalkEntries)) return;
  // What a job has hidden behind a directory that cannot be read is taken for what the disk has lost.
  exact_bytes_ = walk_->complete() ? walk_->bytes() : std::max(walk_->bytes(), bytes_now);
  exact_inodes_ = walk_->complete() ? walk_->inodes() : std::max(walk_->inodes(), inodes_now);
  free_at_walk_ = free_at_next_;
  exact_began_ns_ = walk_began_ns_;
  walk_cost_ns_ = now_ns - walk_began_ns_;
  walked_ns_ = now_ns;
  walk_.reset();
}

}  // namespace holdfast::sandbox
