#include "sandbox/broker/id_map.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "sandbox/broker/kernel.h"
#include "sandbox/broker/mounts.h"

namespace holdfast::sandbox {

using wire::Failure;
using wire::Stage;

bool WriteIdMaps(pid_t child, unsigned inside_uid, unsigned outside_uid, unsigned inside_gid,
                 unsigned outside_gid) {
  char path[64], map[64];
  std::snprintf(path, sizeof(path), "/proc/%d/uid_map", child);
  std::snprintf(map, sizeof(map), "%u %u 1\n", inside_uid, outside_uid);
  if (!WriteText(path, map)) return false;
  std::snprintf(path, sizeof(path), "/proc/%d/gid_map", child);
  std::snprintf(map, sizeof(map), "%u %u 1\n", inside_gid, outside_gid);
  return WriteText(path, map);
}

Failure IdMapper::UserNamespace(uid_t uid, gid_t gid, int& fd) {
  Descriptor& kept = namespaces_[{uid, gid}];
  if (!kept.valid()) {
    const pid_t child = CloneInto(CLONE_NEWUSER, nullptr);
    if (child < 0) return {Stage::kClone, errno, "user namespace"};
    if (child == 0) {
      while (true) pause();
    }
    // Column one is the id on disk, column two what it appears as.
    const bool mapped = WriteIdMaps(child, uid, kRootModeHostId, gid, kRootModeHostId);
    const int error = errno;
    char path[64];
    std::snprintf(path, sizeof(path), "/proc/%d/ns/user", child);
    if (mapped) kept = Descriptor(open(path, O_RDONLY | O_CLOEXEC));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    if (!kept.valid()) return {Stage::kIdMappedMount, mapped ? errno : error, "id map"};
  }
  fd = kept.get();
  return {};
}

Failure IdMapper::Map(const Descriptor& directory, const std::string& path, Stage stage, Descriptor& mount) {
  struct statx stat = {};
  if (statx(directory.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_UID | STATX_GID, &stat) != 0)
    return {stage, errno, path};
  int userns = -1;
  if (Failure failure = UserNamespace(stat.stx_uid, stat.stx_gid, userns); !failure.ok()) return failure;
  mount = CloneIdMapped(directory.get(), userns);
  if (!mount.valid()) return {Stage::kIdMappedMount, errno, path};
  return {};
}

}  // namespace holdfast::sandbox
