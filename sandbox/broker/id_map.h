// Where the broker is root: sessions run as a host user of their own, and see the owner of the workspace as
// it.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <utility>

#include "sandbox/broker/descriptor.h"
#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

// The host user and group that sessions of a root broker run as. Nobody's, by the usual allotments: above the
// ranges for containers, below 2^31.
inline constexpr unsigned kRootModeHostId = 1'900'000'000;

// Makes detached mounts in which the owner of a directory appears as kRootModeHostId. Descriptors of the user
// namespaces that carry the maps are kept, one for each owner.
class IdMapper {
 public:
  // A mount of the open directory, called `path` in messages. Others than its owner appear as nobody in it,
  // and what belongs to them cannot be changed. Waits for no file system.
  wire::Failure Map(const Descriptor& directory, const std::string& path, wire::Stage stage,
                    Descriptor& mount);

 private:
  wire::Failure UserNamespace(uid_t uid, gid_t gid, int& fd);
  std::map<std::pair<uid_t, gid_t>, Descriptor> namespaces_;
};

// Writes uid_map and gid_map of a child that was just cloned into a user namespace. False with errno set.
bool WriteIdMaps(pid_t child, unsigned inside_uid, unsigned outside_uid, unsigned inside_gid,
                 unsigned outside_gid);

}  // namespace holdfast::sandbox
