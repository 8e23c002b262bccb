// The file system of a session: a small tmpfs with an explicit list of the host's directories in it.
#pragma once

#include "sandbox/broker/session_init.h"

namespace holdfast::sandbox {

// Builds it in the mount namespace of this process and makes it the root. Steps:
//   1. copies of all sources are taken while the host's tree can still be seen;
//   2. a tmpfs is mounted and filled: system, /dev, /proc, /tmp, home, workspace (an overlay of two parts
//   that are
//      attached in the host's tree);
//   3. it becomes the root, and the host's tree is let go;
//   4. the root is made read-only;
//   5. `handle` gets the workspace as commands see it, for the runtime.
wire::Failure BuildSessionRoot(const SessionStart& start, uint32_t& layers, Descriptor& handle);

// Gives a job its own view: a new /proc of its own pid namespace, with what concerns the machine covered, and
// a new /dev/pts. Called in the job's own mount and pid namespaces.
wire::Failure BuildJobView();

// What a job may write beneath.
std::vector<std::string> WritablePaths(const wire::SessionSpec& spec);

}  // namespace holdfast::sandbox
