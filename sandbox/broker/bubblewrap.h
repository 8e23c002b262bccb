// The second backend: bubblewrap makes the namespaces, once for each job; then job-init runs as its process 1
// and does what it always does. Direct mode only. It is there to compare with: both backends pass the same
// tests, but for what is listed in docs/security.md.
#pragma once

#include <string>
#include <vector>

#include "sandbox/broker/descriptor.h"
#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

inline constexpr char kBubblewrapProgram[] = "/usr/bin/bwrap";

struct BubblewrapStart {
  const wire::SessionSpec& spec;
  const wire::JobSpec& job;
  uint64_t id = 0;
  Descriptor channel;                // of the job
  std::vector<Descriptor> standard;  // stdin, stdout, stderr; empty with a terminal
  Descriptor workspace;              // detached, id-mapped; only where the broker is root
  bool broker_is_root = false;
};

// The life of the process, just cloned: becomes bwrap, which becomes process 1 of the job.
[[noreturn]] void RunBubblewrap(BubblewrapStart start);

// In that process 1: takes its specification from the channel (descriptor 3) and goes on as a job.
[[noreturn]] void RunBubblewrapJob();

// What it gives.
uint32_t BubblewrapLayers(const wire::SessionSpec& spec);

}  // namespace holdfast::sandbox
