// The system call filter of a job: everything is allowed but what a command has no use for and an attacker
// has.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

struct FilterOptions {
  bool host_network = false;     // also packets of other families stay denied
  bool unix_sockets = true;      // socket(AF_UNIX)
  bool allow_debugging = false;  // ptrace and its kin, inside the job's own pid namespace
  bool allow_memfd = true;       // false where nothing else bounds memory that no process maps
};

// Builds the program with libseccomp; about 1 ms, so it is made once for a session. Calls of another
// architecture kill the process.
wire::Failure BuildFilter(const FilterOptions& options, std::vector<sock_filter>& program);

// Installs it for this process and all it starts. Needs no_new_privs. Reads the mode back.
wire::Failure InstallFilter(const std::vector<sock_filter>& program, uint32_t& layers);

}  // namespace holdfast::sandbox
