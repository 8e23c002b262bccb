// The guest program: attempts to get out, see more, use more, or live longer than a command may. Each attempt
// prints what came of it; the tests say what must. It runs without the library it attacks.
#pragma once

#include <string>
#include <vector>

namespace guest {

using Arguments = std::vector<std::string>;

struct Attempt {
  const char* name;
  int (*run)(const Arguments& arguments);
};

// Prints "name=OK" when `result` is not negative, else "name=ERRNO_NAME" for the present errno.
void Report(const std::string& name, long result);

// guest_privilege.cc: system calls, capabilities, namespaces, other processes.
extern const std::vector<Attempt> kPrivilegeAttempts;
// guest_files.cc: paths, mounts, descriptors.
extern const std::vector<Attempt> kFileAttempts;
// guest_network.cc
extern const std::vector<Attempt> kNetworkAttempts;
// guest_resources.cc: too much of everything, and not ending.
extern const std::vector<Attempt> kResourceAttempts;

}  // namespace guest
