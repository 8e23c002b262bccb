#include "sandbox/broker/probe_guest.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace holdfast::sandbox {
namespace {

void Tell(const char* what, bool holds, const char* detail) {
  std::printf("%s\t%d\t%s\n", what, holds ? 1 : 0, detail);
}

// The attempt must fail.
void MustFail(const char* what, long result) {
  Tell(what, result < 0, result < 0 ? strerrorname_np(errno) : "it worked");
}

long Create(const char* path) { return open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600); }

void ProbePrivileges() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  const long got = syscall(SYS_capget, &header, data);
  unsigned left = 0;
  for (const auto& word : data) left |= word.effective | word.permitted | word.inheritable;
  for (int cap = 0; cap < 64; ++cap) left |= prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 ? 1u : 0u;
  Tell("no capability is left", got == 0 && left == 0, left == 0 ? "none" : "some");
  Tell("privileges cannot grow", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "no_new_privs");
  Tell("system calls are filtered", prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2, "seccomp mode 2");
  Tell("the user is not root", getuid() != 0 && geteuid() != 0, "uid");
  MustFail("nobody becomes root", setuid(0));
  MustFail("no user namespace can be made", syscall(SYS_unshare, CLONE_NEWUSER));
  MustFail("nothing can be mounted", syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, nullptr));
  MustFail("process 1 cannot be traced", ptrace(PTRACE_ATTACH, 1, nullptr, nullptr));
  MustFail("no io_uring can be made", syscall(SYS_io_uring_setup, 4, nullptr));
}

void ProbeFiles() {
  MustFail("writes to the root are refused", Create("/hf-probe"));
  MustFail("writes to the system are refused", Create("/usr/hf-probe"));
  MustFail("the host's shadow file is not there", open("/etc/shadow", O_RDONLY | O_CLOEXEC));
  MustFail("root's home is not there", open("/root", O_RDONLY | O_CLOEXEC));
  MustFail("kernel settings are not writable", open("/proc/sys/kernel/core_pattern", O_WRONLY | O_CLOEXEC));
  const long own = Create("/tmp/hf-probe");
  Tell("/tmp can be written", own >= 0, own >= 0 ? "yes" : strerrorname_np(errno));
  unlink("/tmp/hf-probe");
}

void ProbeProcesses() {
  // First, before anything here opens a descriptor.
  int leaked = 0;
  for (int fd = 3; fd < 1024; ++fd) leaked += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  Tell("no descriptor came along", leaked == 0, leaked == 0 ? "none" : "some");
  int others = 0;
  DIR* proc = opendir("/proc");
  while (const dirent* entry = proc != nullptr ? readdir(proc) : nullptr) {
    const int pid = std::atoi(entry->d_name);
    others += pid > 1 && pid != getpid() ? 1 : 0;
  }
  if (proc != nullptr) closedir(proc);
  Tell("other processes are not seen", proc != nullptr && others == 0, others == 0 ? "none" : "some");
}

void ProbeNetwork() {
  MustFail("no socket to the hypervisor can be made", socket(40 /* AF_VSOCK */, SOCK_STREAM, 0));
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(9);
  inet_pton(AF_INET, "192.0.2.1",
            &to.sin_addr);  // reserved for documentation: no packet would arrive anywhere
  MustFail("there is no way out to the network",
           fd < 0 ? -1 : connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)));
}

}  // namespace

int RunProbeGuest(bool network_off) {
  ProbeProcesses();
  ProbePrivileges();
  ProbeFiles();
  if (network_off) ProbeNetwork();
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace holdfast::sandbox
