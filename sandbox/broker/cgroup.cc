#include "sandbox/broker/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "sandbox/broker/kernel.h"

namespace holdfast::sandbox {
namespace {

constexpr char kPrefix[] = "holdfast-";

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

bool Contains(const std::vector<std::string_view>& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// The number after `key ` at the start of a line, or of the whole text when `key` is empty.
uint64_t Number(const std::string& text, std::string_view key) {
  for (const std::string_view line : Split(text, '\n')) {
    if (!line.starts_with(key)) continue;
    return std::strtoull(std::string(line.substr(key.size())).c_str(), nullptr, 10);
  }
  return 0;
}

uint64_t ReadNumber(const std::string& path, std::string_view key) {
  std::string text;
  return ReadText(path.c_str(), text) ? Number(text, key) : 0;
}

// This process's group of each hierarchy: (controllers, path), controllers empty for version 2.
struct OwnGroup {
  std::string controllers;
  std::string path;
};

std::vector<OwnGroup> OwnGroups() {
  std::vector<OwnGroup> groups;
  std::string text;
  if (!ReadText("/proc/self/cgroup", text)) return groups;
  for (const std::string_view line : Split(text, '\n')) {
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    groups.push_back(
        {std::string(line.substr(first + 1, second - first - 1)), std::string(line.substr(second + 1))});
  }
  return groups;
}

struct CgroupMount {
  bool v2 = false;
  std::string options;  // of version 1: its controllers among them
  std::string root;     // what of the hierarchy is mounted
  std::string point;
};

std::vector<CgroupMount> CgroupMounts() {
  std::vector<CgroupMount> mounts;
  std::string text;
  if (!ReadText("/proc/self/mountinfo", text, 1 << 20)) return mounts;
  for (const std::string_view line : Split(text, '\n')) {
    const size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    const auto left = Split(line.substr(0, dash), ' ');
    const auto right = Split(line.substr(dash + 3), ' ');
    if (left.size() < 5 || right.size() < 3 || (right[0] != "cgroup" && right[0] != "cgroup2")) continue;
    mounts.push_back(
        {right[0] == "cgroup2", std::string(right[2]), std::string(left[3]), std::string(left[4])});
  }
  return mounts;
}

// The directory of `group` as seen through `mount`.
std::string Directory(const CgroupMount& mount, const std::string& group) {
  std::string path = group;
  if (mount.root != "/" && path.starts_with(mount.root)) path = path.substr(mount.root.size());
  return path == "/" || path.empty() ? mount.point : mount.point + path;
}

bool TryGroup(const std::string& parent, const char* limit_file, const char* value) {
  const std::string group = parent + "/" + kPrefix + std::to_string(getpid()) + "-probe";
  if (mkdir(group.c_str(), 0755) != 0 && errno != EEXIST) return false;
  const bool good = limit_file == nullptr || WriteText((group + "/" + limit_file).c_str(), value);
  rmdir(group.c_str());
  return good;
}

// Version 1: beneath our own group and nowhere else.
std::string FindV1(const std::vector<CgroupMount>& mounts, const std::vector<OwnGroup>& groups,
                   const char* name, const char* limit_file, const char* value) {
  for (const OwnGroup& group : groups) {
    if (!Contains(Split(group.controllers, ','), name)) continue;
    for (const CgroupMount& mount : mounts) {
      if (mount.v2 || !Contains(Split(mount.options, ','), name)) continue;
      const std::string directory = Directory(mount, group.path);
      if (TryGroup(directory, limit_file, value)) return directory;
    }
  }
  return "";
}

// Version 2: a group with processes in it cannot hand out controllers, so the nearest ancestor that does and
// that we may write to is taken (what a delegated subtree gives).
std::string FindV2(const std::vector<CgroupMount>& mounts, const std::vector<OwnGroup>& groups,
                   const char* name, const char* limit_file, const char* value) {
  for (const OwnGroup& group : groups) {
    if (!group.controllers.empty()) continue;
    for (const CgroupMount& mount : mounts) {
      if (!mount.v2) continue;
      std::string directory = Directory(mount, group.path);
      for (int level = 0; level < 3 && directory.size() >= mount.point.size(); ++level) {
        std::string enabled;
        ReadText((directory + "/cgroup.subtree_control").c_str(), enabled);
        std::replace(enabled.begin(), enabled.end(), '\n', ' ');
        if (Contains(Split(enabled, ' '), name) && TryGroup(directory, limit_file, value)) return directory;
        directory = directory.substr(0, directory.rfind('/'));
      }
    }
  }
  return "";
}

}  // namespace

CgroupPlaces FindCgroups(std::string& explanation) {
  const std::vector<CgroupMount> mounts = CgroupMounts();
  const std::vector<OwnGroup> groups = OwnGroups();
  CgroupPlaces places;
  places.memory = FindV2(mounts, groups, "memory", "memory.max", "max");
  places.memory_v2 = !places.memory.empty();
  if (!places.memory_v2) places.memory = FindV1(mounts, groups, "memory", "memory.limit_in_bytes", "-1");
  places.pids = FindV2(mounts, groups, "pids", "pids.max", "max");
  places.pids_v2 = !places.pids.empty();
  if (!places.pids_v2) places.pids = FindV1(mounts, groups, "pids", "pids.max", "max");
  places.cpuacct = FindV1(mounts, groups, "cpuacct", nullptr, nullptr);
  explanation = "memory: " + (places.memory.empty() ? "no writable group" : places.memory) +
                "; pids: " + (places.pids.empty() ? "no writable group" : places.pids);
  return places;
}

void RemoveStaleGroups(const CgroupPlaces& places) {
  for (const std::string& parent : {places.memory, places.pids, places.cpuacct}) {
    DIR* directory = parent.empty() ? nullptr : opendir(parent.c_str());
    if (directory == nullptr) continue;
    while (const dirent* entry = readdir(directory)) {
      const std::string_view name = entry->d_name;
      if (!name.starts_with(kPrefix)) continue;
      const long pid = std::strtol(entry->d_name + sizeof(kPrefix) - 1, nullptr, 10);
      if (pid > 0 && kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) {
        rmdir((parent + "/" + entry->d_name).c_str());  // fails while a process is in it
      }
    }
    closedir(directory);
  }
}

CgroupSet::~CgroupSet() { Remove(); }

CgroupSet CgroupSet::Make(const CgroupPlaces& places, const std::string& name, uint64_t memory_bytes,
                          uint64_t processes) {
  CgroupSet set;
  const std::string full = kPrefix + std::to_string(getpid()) + "-" + name;
  const auto make = [&](const std::string& parent, std::string& group) {
    if (parent.empty()) return false;
    const std::string path = parent + "/" + full;
    if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return false;
    group = path;
    return true;
  };
  set.memory_v2_ = places.memory_v2;
  set.pids_v2_ = places.pids_v2;
  if (memory_bytes != 0 && make(places.memory, set.memory_)) {
    const char* file = places.memory_v2 ? "/memory.max" : "/memory.limit_in_bytes";
    if (!WriteText((set.memory_ + file).c_str(), std::to_string(memory_bytes))) {
      rmdir(set.memory_.c_str());
      set.memory_.clear();
    } else if (places.memory_v2) {
      WriteText((set.memory_ + "/memory.swap.max").c_str(), "0");
      WriteText((set.memory_ + "/memory.oom.group").c_str(), "1");
    } else {
      WriteText((set.memory_ + "/memory.memsw.limit_in_bytes").c_str(), std::to_string(memory_bytes));
    }
  }
  const bool shared =
      places.pids_v2 && places.memory_v2 && places.pids == places.memory && !set.memory_.empty();
  if (processes != 0 && (shared || make(places.pids, set.pids_))) {
    if (shared) set.pids_ = set.memory_;
    if (!WriteText((set.pids_ + "/pids.max").c_str(), std::to_string(processes)) && !shared) {
      rmdir(set.pids_.c_str());
      set.pids_.clear();
    }
  }
  if (!set.memory_v2_) make(places.cpuacct, set.cpuacct_);
  return set;
}

std::vector<CgroupSet::Group> CgroupSet::Groups() const {
  std::vector<Group> groups;
  if (!memory_.empty()) groups.push_back({memory_, memory_v2_});
  if (!pids_.empty() && pids_ != memory_) groups.push_back({pids_, pids_v2_});
  if (!cpuacct_.empty()) groups.push_back({cpuacct_, false});
  return groups;
}

bool CgroupSet::OpenDoors(std::vector<Descriptor>& doors) const {
  for (const Group& group : Groups()) {
    const std::string path = group.path + (group.v2 ? "/cgroup.procs" : "/tasks");
    doors.emplace_back(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!doors.back().valid()) return false;
  }
  return true;
}

CgroupUsage CgroupSet::Usage() const {
  CgroupUsage usage;
  if (!memory_.empty()) {
    usage.memory_peak_bytes =
        ReadNumber(memory_ + (memory_v2_ ? "/memory.peak" : "/memory.max_usage_in_bytes"), "");
    usage.oom_kills =
        ReadNumber(memory_ + (memory_v2_ ? "/memory.events" : "/memory.oom_control"), "oom_kill ");
  }
  if (!pids_.empty()) usage.fork_failures = ReadNumber(pids_ + "/pids.events", "max ");
  if (!cpuacct_.empty()) {
    usage.cpu_us = ReadNumber(cpuacct_ + "/cpuacct.usage", "") / 1000;
  } else if (counts_cpu()) {
    usage.cpu_us = ReadNumber(memory_ + "/cpu.stat", "usage_usec ");
  }
  return usage;
}

bool CgroupSet::Remove() {
  bool gone = true;
  for (const Group& group : Groups()) gone = (rmdir(group.path.c_str()) == 0 || errno == ENOENT) && gone;
  if (gone) {
    memory_.clear();
    pids_.clear();
    cpuacct_.clear();
  }
  return gone;
}

}  // namespace holdfast::sandbox
