// Process 1 of a job: gives up every privilege, starts the command, waits for it, and ends with it, which
// ends whatever the command left behind.
#pragma once

#include <linux/filter.h>

#include <vector>

#include "sandbox/broker/descriptor.h"
#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

struct JobStart {
  const wire::SessionSpec& session;
  wire::JobSpec spec;
  uint64_t id = 0;
  Descriptor channel;                // to the broker
  std::vector<Descriptor> standard;  // stdin, stdout, stderr; empty with a terminal
  int landlock_abi = 0;
  const std::vector<sock_filter>& filter;
  bool in_bubblewrap = false;  // which has made the view, and dropped what capabilities there were
};

// The life of the process; it was just cloned into pid and mount namespaces of its own.
[[noreturn]] void RunJob(JobStart start);

}  // namespace holdfast::sandbox
