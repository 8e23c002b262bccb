// Process 1 of a session: builds what the session sees, then starts a job for each request. It keeps the
// capabilities of its own user namespace, and never runs a command itself; no job can see it.
#pragma once

#include <linux/filter.h>

#include <string>
#include <vector>

#include "sandbox/broker/descriptor.h"
#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

// The ids inside: the command is user 1000 in the session, whoever it is outside.
inline constexpr unsigned kInsideId = 1000;

// Its home.
inline constexpr char kHome[] = "/agent";

struct SessionStart {
  wire::SessionSpec spec;
  std::string work;  // overlay: name of a new directory in the layer's work/
  uint64_t id = 0;
  Descriptor channel;  // to the broker
  // Detached, id-mapped mounts; only where the broker is root.
  Descriptor workspace;
  Descriptor layer;
  std::vector<Descriptor> extra;  // of the spec's mounts that OpenedByBroker, in their order; invalid: absent
  bool broker_is_root = false;
  unsigned outside_uid = 0;  // of the broker, where it is not root
  unsigned outside_gid = 0;
  int landlock_abi = 0;  // 0: none, or not wanted
  std::vector<sock_filter> filter;
};

// Mounts that are somebody's, unlike parts of the system: where the broker is root it opens them, since who
// sessions run as there owns nothing and could not reach them.
inline bool OpenedByBroker(const wire::MountEntry& entry) {
  return entry.kind == wire::MountKind::kReadWrite || entry.kind == wire::MountKind::kReadOnlyFollow;
}

// The life of the process; it was just cloned into its namespaces, its ids not mapped yet.
[[noreturn]] void RunSession(SessionStart start);

}  // namespace holdfast::sandbox
