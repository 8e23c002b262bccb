#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/sandbox/guest.h"

namespace guest {
namespace {

// Tries to open each argument for writing (creating it).
int Write(const Arguments& paths) {
  for (const std::string& path : paths) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    Report(path, fd < 0 ? -1 : write(fd, "x", 1));
  }
  return 0;
}

// As Write, without creating: for files of /proc/sys.
int OpenForWriting(const Arguments& paths) {
  for (const std::string& path : paths) Report(path, open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return 0;
}

int Read(const Arguments& paths) {
  for (const std::string& path : paths) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    char byte;
    Report(path, fd < 0 ? -1 : read(fd, &byte, 1));
  }
  return 0;
}

// Descriptors that came along.
int Descriptors(const Arguments&) {
  for (int fd = 0; fd < 4096; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) std::printf("fd=%d\n", fd);
  }
  return 0;
}

int Processes(const Arguments&) {
  DIR* proc = opendir("/proc");
  while (const dirent* entry = readdir(proc)) {
    if (std::atoi(entry->d_name) > 0) std::printf("pid=%s\n", entry->d_name);
  }
  closedir(proc);
  return 0;
}

int HardLink(const Arguments& arguments) {
  Report("link", link(arguments[0].c_str(), arguments[1].c_str()));
  Report("link_magic", linkat(AT_FDCWD, ("/proc/self/root" + arguments[0]).c_str(), AT_FDCWD,
                              arguments[1].c_str(), AT_SYMLINK_FOLLOW));
  return 0;
}

int Nodes(const Arguments& arguments) {
  const std::string base = arguments[0];
  Report("block", mknod((base + "/block").c_str(), S_IFBLK | 0666, makedev(254, 0)));
  Report("char", mknod((base + "/char").c_str(), S_IFCHR | 0666, makedev(1, 1)));
  Report("fifo", mknod((base + "/fifo").c_str(), S_IFIFO | 0666, 0));
  return 0;
}

// Whether the mounts that hold programs let one gain by set-user-id.
int SetUserId(const Arguments& paths) {
  for (const std::string& path : paths) {
    struct statvfs stat;
    if (statvfs(path.c_str(), &stat) != 0) continue;
    std::printf("%s=%s\n", path.c_str(), (stat.f_flag & ST_NOSUID) != 0 ? "nosuid" : "suid");
  }
  return 0;
}

// The directories above the root, and around it through /proc.
int AboveRoot(const Arguments& names) {
  for (const std::string& name : names) {
    for (const char* prefix : {"/../../../../..", "/proc/self/root/..", "/proc/self/cwd/../../..",
                               "/proc/1/root", "/proc/self/task/self/root/.."}) {
      Report(prefix + name, open((prefix + name).c_str(), O_RDONLY | O_CLOEXEC));
    }
  }
  return 0;
}

int RenameOver(const Arguments& arguments) {
  Report("rename", rename(arguments[0].c_str(), arguments[1].c_str()));
  return 0;
}

// Exchanges two names as fast as it can, so that a path checked a moment ago leads elsewhere.
int SwapForever(const Arguments& names) {
  while (renameat2(AT_FDCWD, names[0].c_str(), AT_FDCWD, names[1].c_str(), RENAME_EXCHANGE) == 0) {
  }
  Report("swap", -1);
  return 1;
}

}  // namespace

const std::vector<Attempt> kFileAttempts = {
    {"write", Write},
    {"open-for-writing", OpenForWriting},
    {"read", Read},
    {"descriptors", Descriptors},
    {"processes", Processes},
    {"hard-link", HardLink},
    {"nodes", Nodes},
    {"set-user-id", SetUserId},
    {"above-root", AboveRoot},
    {"rename", RenameOver},
    {"swap-forever", SwapForever},
};

}  // namespace guest
