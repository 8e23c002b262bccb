// Control groups, where they can be had: a group of its own for each job, for memory and number of processes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sandbox/broker/descriptor.h"

namespace holdfast::sandbox {

// Where groups can be made. Both versions of the interface are known; a controller is used where a directory
// was really made and a limit really written.
struct CgroupPlaces {
  std::string memory;  // a writable directory; empty: none
  std::string pids;
  std::string cpuacct;  // version 1 only; version 2 counts CPU time in every group
  bool memory_v2 = false;
  bool pids_v2 = false;
};

// Looks at /proc/self/cgroup and the mounts, and tries. `explanation` says for people what was found.
CgroupPlaces FindCgroups(std::string& explanation);

// Removes groups that a broker that was killed left behind.
void RemoveStaleGroups(const CgroupPlaces& places);

struct CgroupUsage {
  uint64_t cpu_us = 0;
  uint64_t memory_peak_bytes = 0;
  uint64_t oom_kills = 0;
  uint64_t fork_failures = 0;
};

// The groups of one job. Empty when there are none to be had.
class CgroupSet {
 public:
  CgroupSet() = default;
  ~CgroupSet();
  CgroupSet(CgroupSet&&) = default;
  CgroupSet& operator=(CgroupSet&&) = default;

  // Makes the groups `name`; limits of 0 are none. What cannot be made is left out.
  static CgroupSet Make(const CgroupPlaces& places, const std::string& name, uint64_t memory_bytes,
                        uint64_t processes);

  // Files that a process of one thread writes "0" to in order to move there itself. Opened here, they carry
  // the rights of the broker. False with errno set.
  //
  // Moving another process makes the kernel wait for an RCU grace period, some 10 ms, as it must for several
  // threads. With version 1 a thread that moves itself through `tasks` spares that; version 2 has no such
  // door.
  bool OpenDoors(std::vector<Descriptor>& doors) const;

  bool limits_memory() const { return !memory_.empty(); }
  bool limits_processes() const { return !pids_.empty(); }
  bool counts_cpu() const { return !cpuacct_.empty() || (memory_v2_ && limits_memory()); }

  CgroupUsage Usage() const;

  // Removes the groups; false while a process is still in one.
  bool Remove();

 private:
  struct Group {
    std::string path;
    bool v2 = false;
  };
  std::vector<Group> Groups() const;
  std::string memory_, pids_, cpuacct_;
  bool memory_v2_ = false;
  bool pids_v2_ = false;
};

}  // namespace holdfast::sandbox
