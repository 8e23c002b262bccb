// What the broker knows of a job.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "sandbox/broker/cgroup.h"
#include "sandbox/broker/descriptor.h"
#include "sandbox/broker/meters.h"
#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

enum class JobState {
  kStarting,     // process 1 is being made; not known yet
  kPreparing,    // it is known and gives up its privileges
  kRunning,      // the command runs
  kTerminating,  // asked to end
  kKilled,       // sent SIGKILL, or ended by itself; its pid namespace is emptying
};

struct Job {
  uint64_t id = 0;
  uint64_t session = 0;
  JobState state = JobState::kStarting;
  wire::LimitSpec limits;
  Descriptor channel;
  Descriptor pidfd;     // of process 1
  Descriptor terminal;  // the master, until the runtime has it
  Descriptor monitor;   // bubblewrap's outer process, a child of the broker
  pid_t pid = 0;
  CgroupSet cgroups;
  bool failed = false;  // told to the runtime as failed: no end will be told
  wire::JobEnd end;
  int64_t began_ns = 0;
  int64_t deadline_ns = 0;  // of the state: set-up, wall clock, grace, death
  FreeSpace free_at_start;  // of the layer's file system
  // Of the layer when the job began; known once it has been walked since.
  bool disk_before_known = false;
  uint64_t disk_bytes_before = 0;
  uint64_t disk_inodes_before = 0;
  uint64_t peak_resident_bytes = 0;
};

}  // namespace holdfast::sandbox
