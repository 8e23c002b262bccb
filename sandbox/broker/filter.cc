#include "sandbox/broker/filter.h"

#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>
#include <string>

#include "sandbox/broker/descriptor.h"

namespace holdfast::sandbox {
namespace {

using wire::Failure;
using wire::Stage;

constexpr uint64_t kLow32 = 0xffffffff;
constexpr int kIoctlTiocsti = 0x5412;    // pushes input into a terminal
constexpr int kIoctlTioclinux = 0x541C;  // pastes into a console
constexpr int kIoctlTioccons = 0x541D;   // takes over console output
constexpr uint64_t kPersonalityNoRandomize = 0x0040000;
constexpr uint64_t kCloneNewTime = 0x80;

// No option of prctl, answered by our filter and by nothing else: so it can be told from a filter that was
// there before, a container's say, when something in between only claims to have installed ours.
constexpr int kMark = 0x6866'4d4b;
constexpr int kMarkError = ENOANO;

constexpr const char* kDeniedCalls[] = {
    // The file system's shape.
    "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount",
    "fspick", "mount_setattr", "setns", "open_by_handle_at", "name_to_handle_at", "quotactl", "quotactl_fd",
    "swapon", "swapoff", "acct",
    // Other processes and the kernel.
    "kcmp", "pidfd_getfd", "process_madvise", "bpf", "perf_event_open", "userfaultfd", "init_module",
    "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "syslog", "lookup_dcookie",
    "iopl", "ioperm", "vhangup", "nfsservctl", "uselib", "modify_ldt",
    // Ways around the filter and out of the namespaces.
    "io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key", "request_key",
    // The clock and memory of the machine.
    "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "mbind", "set_mempolicy", "migrate_pages",
    "move_pages"};

constexpr const char* kDebuggingCalls[] = {"ptrace", "process_vm_readv", "process_vm_writev"};

// Collects rules; the first failure sticks.
class Rules {
 public:
  explicit Rules(scmp_filter_ctx context) : context_(context) {}

  // A call that this version of libseccomp does not know by name, or that the machine does not have, is
  // skipped: clone3 and what came after it are covered by number below.
  void Deny(const char* name) {
    const int call = seccomp_syscall_resolve_name(name);
    if (call != __NR_SCMP_ERROR && call >= 0) DenyNumber(call);
  }

  void DenyNumber(int call, int error = EPERM) {
    Check(seccomp_rule_add_exact(context_, SCMP_ACT_ERRNO(static_cast<unsigned>(error)), call, 0));
  }

  // Denies when (argument & mask) == value. Comparing under a mask of 32 bits or less sees the argument as
  // the kernel does, which ignores the upper half.
  void DenyArgument(int call, unsigned argument, uint64_t mask, uint64_t value, int error = EPERM) {
    const scmp_arg_cmp compare = {argument, SCMP_CMP_MASKED_EQ, mask, value};
    Check(seccomp_rule_add_exact_array(context_, SCMP_ACT_ERRNO(static_cast<unsigned>(error)), call, 1,
                                       &compare));
  }

  void DenyArguments(int call, std::initializer_list<scmp_arg_cmp> compare) {
    Check(seccomp_rule_add_exact_array(context_, SCMP_ACT_ERRNO(EPERM), call,
                                       static_cast<unsigned>(compare.size()), compare.begin()));
  }

  int error() const { return error_; }

 private:
  void Check(int result) {
    if (result < 0 && error_ == 0) error_ = -result;
  }
  const scmp_filter_ctx context_;
  int error_ = 0;
};

void DenyNamespaces(Rules& rules) {
  for (const int flag : {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS,
                         CLONE_NEWCGROUP}) {
    const auto bit = static_cast<uint64_t>(flag);
    rules.DenyArgument(SYS_clone, 0, bit, bit);
    rules.DenyArgument(SYS_unshare, 0, bit, bit);
  }
  rules.DenyArgument(SYS_unshare, 0, kCloneNewTime, kCloneNewTime);
  // Its flags lie in memory, out of a filter's sight. Libraries fall back to clone.
  rules.DenyNumber(SYS_clone3, ENOSYS);
}

// Socket families are an allow-list, written as what is denied: the others below 32 one by one, and every
// number with a bit above those.
void DenyFamilies(Rules& rules, bool unix_sockets) {
  for (const int call : {SYS_socket, SYS_socketpair}) {
    for (uint64_t family = 0; family < 32; ++family) {
      const bool allowed = family == AF_INET || family == AF_INET6 || family == AF_NETLINK ||
                           (family == AF_UNIX && (unix_sockets || call == SYS_socketpair));
      if (!allowed) rules.DenyArgument(call, 0, kLow32, family);
    }
    for (int bit = 5; bit < 32; ++bit) rules.DenyArgument(call, 0, uint64_t{1} << bit, uint64_t{1} << bit);
  }
  for (int bit = 0; bit < 32; ++bit) {  // NETLINK_ROUTE is 0
    rules.DenyArguments(SYS_socket, {{0, SCMP_CMP_MASKED_EQ, kLow32, AF_NETLINK},
                                     {2, SCMP_CMP_MASKED_EQ, uint64_t{1} << bit, uint64_t{1} << bit}});
  }
  // Raw sockets need a capability in any case; the type may carry flags above its low bits.
  rules.DenyArgument(SYS_socket, 1, 0xf, SOCK_RAW & 0xf);
  rules.DenyArgument(SYS_socket, 1, 0xf, SOCK_PACKET & 0xf);
}

// Allowed: 0, switching address randomisation off, and the query, which has all bits set.
void DenyPersonalities(Rules& rules) {
  const uint64_t top = uint64_t{1} << 31;
  for (int bit = 0; bit < 31; ++bit) {
    const uint64_t flag = uint64_t{1} << bit;
    if (flag != kPersonalityNoRandomize) rules.DenyArgument(SYS_personality, 0, top | flag, flag);
    rules.DenyArgument(SYS_personality, 0, top | flag, top);
  }
}

void AddRules(Rules& rules, const FilterOptions& options) {
  rules.DenyArgument(SYS_prctl, 0, kLow32, kMark, kMarkError);
  for (const char* name : kDeniedCalls) rules.Deny(name);
  rules.DenyNumber(467 /* open_tree_attr */);
  if (!options.allow_debugging) {
    for (const char* name : kDebuggingCalls) rules.Deny(name);
  }
  if (!options.allow_memfd) {
    rules.DenyNumber(SYS_memfd_create, ENOSYS);
    rules.DenyNumber(SYS_shmget, ENOSYS);
  }
  rules.DenyNumber(447 /* memfd_secret */, ENOSYS);
  DenyNamespaces(rules);
  DenyFamilies(rules, options.unix_sockets);
  DenyPersonalities(rules);
  for (const int request : {kIoctlTiocsti, kIoctlTioclinux, kIoctlTioccons}) {
    rules.DenyArgument(SYS_ioctl, 1, kLow32, static_cast<uint64_t>(request));
  }
}

int Export(scmp_filter_ctx context, std::vector<sock_filter>& program) {
  Descriptor file(memfd_create("filter", MFD_CLOEXEC));
  if (!file.valid()) return errno;
  if (const int result = seccomp_export_bpf(context, file.get()); result < 0) return -result;
  struct stat stat;
  if (fstat(file.get(), &stat) != 0) return errno;
  program.resize(static_cast<size_t>(stat.st_size) / sizeof(sock_filter));
  const ssize_t want = static_cast<ssize_t>(program.size() * sizeof(sock_filter));
  return pread(file.get(), program.data(), static_cast<size_t>(want), 0) == want && want > 0 ? 0 : EIO;
}

}  // namespace

Failure BuildFilter(const FilterOptions& options, std::vector<sock_filter>& program) {
  scmp_filter_ctx context = seccomp_init(SCMP_ACT_ALLOW);
  if (context == nullptr) return {Stage::kSeccomp, ENOMEM, "seccomp_init"};
  seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);  // a tree over the calls
  Rules rules(context);
  AddRules(rules, options);
  const int error = rules.error() != 0 ? rules.error() : Export(context, program);
  seccomp_release(context);
  return error == 0 ? Failure{} : Failure{Stage::kSeccomp, error, "building the filter"};
}

Failure InstallFilter(const std::vector<sock_filter>& program, uint32_t& layers) {
  sock_fprog prog = {static_cast<unsigned short>(program.size()), const_cast<sock_filter*>(program.data())};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) != 0) return {Stage::kSeccomp, errno, ""};
  if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != SECCOMP_MODE_FILTER || prctl(kMark, 0, 0, 0, 0) != -1 ||
      errno != kMarkError) {
    return {Stage::kVerify, 0, "the filter is not in force"};
  }
  layers |= wire::kLayerSeccomp;
  return {};
}

}  // namespace holdfast::sandbox
