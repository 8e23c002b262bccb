// Building the file system that a session sees, with the mount calls that work on descriptors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sandbox/broker/descriptor.h"
#include "sandbox/broker/wire.h"

namespace holdfast::sandbox {

// A copy of the mount at `path` that is attached nowhere yet, private, without set-user-id programs; and
// without devices but for `devices`. Invalid with errno set. A symbolic link at the end is not followed
// unless `follow`.
struct CloneOptions {
  bool read_only = true;
  bool devices = false;
  bool follow = false;
};
Descriptor CloneMount(const char* path, CloneOptions options);

// As CloneMount, read-only, of what is open already.
Descriptor CloneOpen(int target);

// As CloneMount, of a directory that is already open, seen through the id map of user namespace `userns`:
// needs CAP_SYS_ADMIN over the file system.
Descriptor CloneIdMapped(int directory, int userns);

// A copy of the open directory's mount and of what is mounted beneath, as they are, attached nowhere: it
// outlives the mount namespace, and `..` leads nowhere from its root. Invalid with errno set.
Descriptor CloneAsIs(int directory);

// A new tmpfs of at most `bytes` and `inodes` (0: what the kernel gives), attached nowhere. Invalid with
// errno.
Descriptor NewTmpfs(uint64_t bytes, uint64_t inodes, const char* mode);

// A new instance of a file system without options (proc), attached nowhere. Invalid with errno set.
Descriptor NewInstance(const char* type, const std::vector<std::pair<const char*, const char*>>& options);

// Builds paths beneath one directory and attaches mounts to them. Nothing is ever followed out of it.
class RootBuilder {
 public:
  explicit RootBuilder(int root) : root_(root) {}

  // Makes the directory `path` (absolute, as the session will see it) and its parents. False with errno.
  bool MakeDirectory(std::string_view path);
  // Makes `path` an empty file, a link, or a file with content; parents too.
  bool MakeFile(std::string_view path, std::string_view content);
  bool MakeLink(std::string_view path, const std::string& target);
  // Attaches `mount` at `path`, which is made first, as a directory or an empty file.
  bool Attach(int mount, std::string_view path, bool directory);

 private:
  Descriptor Open(std::string_view path, int flags);
  // Opens the directory that holds `path`, which is made when absent, and splits off the last name. One after
  // the other have the same: it is kept.
  bool OpenParent(std::string_view path, std::string& name);

  const int root_;
  std::string parent_path_;
  Descriptor parent_;
};

// Attaches `mount` at an existing path.
bool AttachAt(int mount, const char* path);

// Makes a mount read-only; the whole tree beneath it when `recursive`.
bool MakeReadOnly(int mount, bool recursive);

}  // namespace holdfast::sandbox
