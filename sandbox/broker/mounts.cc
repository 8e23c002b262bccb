#include "sandbox/broker/mounts.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <initializer_list>
#include <utility>

namespace holdfast::sandbox {
namespace {

constexpr unsigned kAllAttributes = AT_EMPTY_PATH | AT_RECURSIVE;

bool SetAttributes(int mount, uint64_t attributes, unsigned flags) {
  mount_attr attr = {};
  attr.attr_set = attributes;
  attr.propagation = MS_PRIVATE;
  return mount_setattr(mount, "", flags, &attr, sizeof(attr)) == 0;
}

Descriptor ContextToMount(int context, unsigned attributes) {
  if (fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return Descriptor();
  return Descriptor(fsmount(context, FSMOUNT_CLOEXEC, attributes));
}

}  // namespace

Descriptor CloneMount(const char* path, CloneOptions options) {
  const unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_NO_AUTOMOUNT |
                         (options.follow ? 0u : static_cast<unsigned>(AT_SYMLINK_NOFOLLOW));
  Descriptor mount(open_tree(AT_FDCWD, path, flags));
  if (!mount.valid()) return mount;
  uint64_t attributes = MOUNT_ATTR_NOSUID;
  if (options.read_only) attributes |= MOUNT_ATTR_RDONLY;
  if (!options.devices) attributes |= MOUNT_ATTR_NODEV;
  if (!SetAttributes(mount.get(), attributes, kAllAttributes)) return Descriptor();
  return mount;
}

Descriptor CloneOpen(int target) {
  Descriptor mount(open_tree(target, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE));
  if (!mount.valid()) return mount;
  if (!SetAttributes(mount.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, kAllAttributes))
    return Descriptor();
  return mount;
}

Descriptor CloneIdMapped(int directory, int userns) {
  // Not recursive: a mount beneath may be of a kind that cannot be id-mapped, and would not be ours to
  // change.
  Descriptor mount(open_tree(directory, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
  if (!mount.valid()) return mount;
  mount_attr attr = {};
  attr.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  attr.propagation = MS_PRIVATE;
  attr.userns_fd = static_cast<uint64_t>(userns);
  if (mount_setattr(mount.get(), "", AT_EMPTY_PATH, &attr, sizeof(attr)) != 0) return Descriptor();
  return mount;
}

Descriptor CloneAsIs(int directory) {
  return Descriptor(
      open_tree(directory, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE));
}

Descriptor NewTmpfs(uint64_t bytes, uint64_t inodes, const char* mode) {
  const Descriptor context(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context.valid()) return Descriptor();
  const auto set = [&](const char* key, const char* value) {
    return fsconfig(context.get(), FSCONFIG_SET_STRING, key, value, 0) == 0;
  };
  char number[32];
  if (!set("mode", mode)) return Descriptor();
  std::snprintf(number, sizeof(number), "%llu", static_cast<unsigned long long>(bytes));
  if (bytes != 0 && !set("size", number)) return Descriptor();
  std::snprintf(number, sizeof(number), "%llu", static_cast<unsigned long long>(inodes));
  if (inodes != 0 && !set("nr_inodes", number)) return Descriptor();
  return ContextToMount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

Descriptor NewInstance(const char* type, const std::vector<std::pair<const char*, const char*>>& options) {
  const Descriptor context(fsopen(type, FSOPEN_CLOEXEC));
  if (!context.valid()) return Descriptor();
  for (const auto& [key, value] : options) {
    const unsigned command = value == nullptr ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
    if (fsconfig(context.get(), command, key, value, 0) != 0) return Descriptor();
  }
  return ContextToMount(context.get(), MOUNT_ATTR_NOSUID);
}

Descriptor RootBuilder::Open(std::string_view path, int flags) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return Descriptor(
      static_cast<int>(syscall(SYS_openat2, root_, std::string(path).c_str(), &how, sizeof(how))));
}

bool RootBuilder::OpenParent(std::string_view path, std::string& name) {
  const size_t slash = path.rfind('/');
  const std::string_view directory = slash == 0 ? path.substr(0, 1) : path.substr(0, slash);
  name = path.substr(slash + 1);
  if (parent_.valid() && directory == parent_path_) return true;
  Descriptor found = Open(directory, O_PATH | O_DIRECTORY);
  if (!found.valid()) {
    if (directory == "/" || !MakeDirectory(directory)) return false;
    found = Open(directory, O_PATH | O_DIRECTORY);
  }
  parent_ = std::move(found);
  parent_path_ = directory;
  return parent_.valid();
}

bool RootBuilder::MakeDirectory(std::string_view path) {
  std::string name;
  return OpenParent(path, name) && (mkdirat(parent_.get(), name.c_str(), 0755) == 0 || errno == EEXIST);
}

bool RootBuilder::MakeFile(std::string_view path, std::string_view content) {
  std::string name;
  if (!OpenParent(path, name)) return false;
  const Descriptor file(
      openat(parent_.get(), name.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
  return file.valid() &&
         write(file.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size());
}

bool RootBuilder::MakeLink(std::string_view path, const std::string& target) {
  std::string name;
  return OpenParent(path, name) &&
         (symlinkat(target.c_str(), parent_.get(), name.c_str()) == 0 || errno == EEXIST);
}

bool RootBuilder::Attach(int mount, std::string_view path, bool directory) {
  std::string name;
  if (!OpenParent(path, name)) return false;
  const int made = directory ? mkdirat(parent_.get(), name.c_str(), 0755)
                             : mknodat(parent_.get(), name.c_str(), S_IFREG | 0644, 0);
  if (made != 0 && errno != EEXIST) return false;
  if (move_mount(mount, "", parent_.get(), name.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) return false;
  if (parent_path_.starts_with(path)) parent_.Reset();  // what was open is covered now
  return true;
}

bool AttachAt(int mount, const char* path) {
  return move_mount(mount, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

bool MakeReadOnly(int mount, bool recursive) {
  return SetAttributes(mount, MOUNT_ATTR_RDONLY, recursive ? kAllAttributes : AT_EMPTY_PATH);
}

}  // namespace holdfast::sandbox
