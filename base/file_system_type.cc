#include "base/file_system_type.h"

#include <cstdio>

namespace holdfast::base {
namespace {

struct Known {
  uint32_t magic;
  const char* name;
  bool network;
};

// Source: statfs(2), linux/magic.h and the sources of those that neither lists.
constexpr Known kKnown[] = {
    {0x0000ef53, "ext4", false},  // ext2 and ext3 too
    {0x58465342, "xfs", false},
    {0x9123683e, "btrfs", false},
    {0x2fc12fc1, "zfs", false},
    {0xf2f52010, "f2fs", false},
    {0xca451a4e, "bcachefs", false},
    {0x01021994, "tmpfs", false},
    {0x858458f6, "ramfs", false},
    {0x794c7630, "overlay", false},
    {0x0000f15f, "ecryptfs", false},
    {0x00004d44, "vfat", false},
    {0x2011bab0, "exfat", false},
    {0x7366746e, "ntfs3", false},
    {0x3153464a, "jfs", false},
    {0x73717368, "squashfs", false},
    {0x00009fa0, "proc", false},
    {0x62656572, "sysfs", false},
    // A server on another machine.
    {0x00006969, "nfs", true},
    {0x0000517b, "smb", true},
    {0xff534d42, "cifs", true},
    {0xfe534d42, "smb2", true},
    {0x0000564c, "ncp", true},
    {0x00c36400, "ceph", true},
    {0x5346414f, "afs", true},  // OpenAFS
    {0x6b414653, "afs", true},  // the kernel's own
    {0x73757245, "coda", true},
    {0x0bd00bd0, "lustre", true},
    {0x47504653, "gpfs", true},
    {0x20030528, "orangefs", true},
    {0x19830326, "beegfs", true},
    {0xaad7aaea, "panfs", true},
    {0xbeefdead, "snfs", true},
    // Disks shared with other machines.
    {0x01161970, "gfs2", true},
    {0x7461636f, "ocfs2", true},
    {0x61636673, "acfs", true},
    // A host or a process behind it.
    {0x01021997, "9p", true},
    {0x65735546, "fuse", true},  // sshfs, virtiofs, ntfs-3g, ...: which one does not show
    {0x786f4256, "vboxsf", true},
    {0xbacbacbc, "vmhgfs", true},
    {0x7c7c6673, "prl_fs", true},
};

}  // namespace

FileSystemType FileSystemTypeOf(uint32_t magic) {
  for (const Known& known : kKnown) {
    if (known.magic == magic) return {known.name, known.network};
  }
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", magic);
  return {text, false};
}

}  // namespace holdfast::base
