#include <fcntl.h>
#include <linux/capability.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "tests/sandbox/guest.h"

namespace guest {
namespace {

// Prints the privileges that are left, as the kernel tells them.
int Privileges(const Arguments&) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  syscall(SYS_capget, &header, data);
  unsigned any = 0, bounding = 0;
  for (const auto& word : data) any |= word.effective | word.permitted | word.inheritable;
  for (int cap = 0; cap < 64; ++cap) bounding += prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 ? 1 : 0;
  std::printf("capabilities=%u\nbounding=%u\nno_new_privs=%d\nseccomp=%d\nsecurebits=%d\nuid=%u\neuid=%u\n",
              any, bounding, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_SECCOMP, 0, 0, 0, 0),
              prctl(PR_GET_SECUREBITS, 0, 0, 0, 0), getuid(), geteuid());
  return 0;
}

int GainCapability(const Arguments&) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  data[0].effective = data[0].permitted = 1u << CAP_SYS_ADMIN;
  Report("capset", syscall(SYS_capset, &header, data));
  Report("securebits", prctl(PR_SET_SECUREBITS, 0, 0, 0, 0));
  Report("ambient", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
  Report("setuid0", setuid(0));
  Report("setgid0", setgid(0));
  return 0;
}

// Every call here must be refused: a table, so that one that was forgotten shows.
int DeniedCalls(const Arguments&) {
  char buffer[256] = "/tmp";
  Report("mount", syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, nullptr));
  Report("remount", syscall(SYS_mount, "none", "/", nullptr, MS_REMOUNT | MS_BIND, nullptr));
  Report("umount2", syscall(SYS_umount2, "/tmp", MNT_DETACH));
  Report("pivot_root", syscall(SYS_pivot_root, "/tmp", "/tmp"));
  Report("chroot", syscall(SYS_chroot, "/tmp"));
  Report("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
  Report("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE));
  Report("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/tmp", 0));
  Report("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, buffer, 32));
  Report("open_tree_attr", syscall(467, AT_FDCWD, "/", OPEN_TREE_CLONE, buffer, 32));
  Report("setns", syscall(SYS_setns, 0, 0));
  Report("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, buffer, 0));
  Report("name_to_handle_at", syscall(SYS_name_to_handle_at, AT_FDCWD, "/", buffer, buffer, 0));
  Report("bpf", syscall(SYS_bpf, 0, buffer, 64));
  perf_event_attr perf = {};
  perf.size = sizeof(perf);
  Report("perf_event_open", syscall(SYS_perf_event_open, &perf, 0, -1, -1, 0));
  Report("userfaultfd", syscall(SYS_userfaultfd, 1));
  Report("io_uring_setup", syscall(SYS_io_uring_setup, 4, buffer));
  Report("io_uring_enter", syscall(SYS_io_uring_enter, 0, 0, 0, 0, nullptr, 0));
  Report("io_uring_register", syscall(SYS_io_uring_register, 0, 0, nullptr, 0));
  Report("keyctl", syscall(SYS_keyctl, 0, -3, 0, 0, 0));
  Report("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
  Report("request_key", syscall(SYS_request_key, "user", "x", nullptr, -3));
  Report("init_module", syscall(SYS_init_module, buffer, 0, ""));
  Report("kexec_load", syscall(SYS_kexec_load, 0, 0, nullptr, 0));
  Report("reboot", syscall(SYS_reboot, 0, 0, 0, nullptr));
  Report("swapon", syscall(SYS_swapon, "/tmp", 0));
  Report("syslog", syscall(SYS_syslog, 3, buffer, 10));
  Report("settimeofday", syscall(SYS_settimeofday, nullptr, nullptr));
  Report("clock_settime", syscall(SYS_clock_settime, 0, buffer));
  Report("iopl", syscall(SYS_iopl, 3));
  Report("kcmp", syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0));
  Report("pidfd_getfd", syscall(SYS_pidfd_getfd, 0, 0, 0));
  Report("personality", syscall(SYS_personality, READ_IMPLIES_EXEC));
  Report("personality_mixed", syscall(SYS_personality, ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT));
  Report("quotactl", syscall(SYS_quotactl, 0, nullptr, 0, nullptr));
  Report("acct", syscall(SYS_acct, nullptr));
  Report("vhangup", syscall(SYS_vhangup));
  Report("mbind", syscall(SYS_mbind, 0, 0, 0, nullptr, 0, 0));
  Report("unknown_call", syscall(100'000));  // ENOSYS, as anywhere
  return 0;
}

// What must go on working.
int AllowedCalls(const Arguments&) {
  Report("personality_query", syscall(SYS_personality, 0xffffffff));
  Report("personality_no_randomize", syscall(SYS_personality, ADDR_NO_RANDOMIZE));
  Report("personality_default", syscall(SYS_personality, 0));
  const pid_t child = fork();
  if (child == 0) _exit(0);
  Report("fork", child);
  Report("wait", waitpid(child, nullptr, 0));
  Report("unshare_files", unshare(CLONE_FILES));
  return 0;
}

// Every way to a new namespace, the upper halves of the flags set too: the kernel ignores them.
int NewNamespaces(const Arguments&) {
  struct {
    const char* name;
    unsigned long flag;
  } const kinds[] = {{"user", CLONE_NEWUSER},    {"mount", CLONE_NEWNS}, {"pid", CLONE_NEWPID},
                     {"net", CLONE_NEWNET},      {"ipc", CLONE_NEWIPC},  {"uts", CLONE_NEWUTS},
                     {"cgroup", CLONE_NEWCGROUP}};
  for (const auto& kind : kinds) {
    for (const unsigned long high : {0ul, 0xdeadbeef00000000ul}) {
      const std::string suffix = std::string(kind.name) + (high != 0 ? "_high" : "");
      Report("unshare_" + suffix, syscall(SYS_unshare, kind.flag | high));
      const long child = syscall(SYS_clone, kind.flag | high | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
      if (child == 0) _exit(0);
      Report("clone_" + suffix, child);
    }
  }
  clone_args args = {};
  args.flags = CLONE_NEWUSER;
  args.exit_signal = SIGCHLD;
  const long child = syscall(SYS_clone3, &args, sizeof(args));
  if (child == 0) _exit(0);
  Report("clone3", child);
  return 0;
}

// Another architecture's calls, which the filter's numbers do not mean.
int Int80(const Arguments&) {
#if defined(__x86_64__)
  long result = 20;  // getpid there
  asm volatile("int $0x80" : "+a"(result) : : "memory");
  std::printf("int80=%ld\n", result);
#endif
  return 0;
}

int X32(const Arguments&) {
  const long result = syscall(0x40000000 | 39);
  std::printf("x32=%ld\n", result);
  return 0;
}

// Process 1 of the job is not filtered less, but it knows more: it must be out of reach.
int AttackInit(const Arguments&) {
  Report("ptrace", ptrace(PTRACE_ATTACH, 1, nullptr, nullptr));
  Report("seize", ptrace(PTRACE_SEIZE, 1, nullptr, nullptr));
  Report("mem", open("/proc/1/mem", O_RDWR));
  Report("environ", open("/proc/1/environ", O_RDONLY));
  Report("maps", open("/proc/1/maps", O_RDONLY));
  Report("root", open("/proc/1/root/", O_RDONLY | O_DIRECTORY));
  Report("fd", open("/proc/1/fd/3", O_RDWR));
  Report("exe", open("/proc/1/exe", O_RDONLY));
  char byte = 0;
  iovec local = {&byte, 1}, remote = {reinterpret_cast<void*>(0x400000), 1};
  Report("process_vm_readv", process_vm_readv(1, &local, 1, &remote, 1, 0));
  // Signals to process 1 from inside are dropped unless it handles them; it must live on.
  for (const int signal : {SIGSTOP, SIGKILL, SIGTERM, SIGSEGV, SIGTSTP}) kill(1, signal);
  const long pidfd = syscall(SYS_pidfd_open, 1, 0);
  if (pidfd >= 0) syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
  std::printf("alive=%d\n", kill(1, 0) == 0 ? 1 : 0);
  return 0;
}

int KillAll(const Arguments&) {
  Report("kill", kill(-1, SIGKILL));
  return 0;
}

// Prints blocked and ignored signals, which a program would inherit.
int Signals(const Arguments&) {
  for (int signal = 1; signal < 32; ++signal) {
    struct sigaction action = {};
    if (signal == SIGKILL || signal == SIGSTOP || sigaction(signal, nullptr, &action) != 0) continue;
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, nullptr, &blocked);
    if (action.sa_handler != SIG_DFL) std::printf("handled=%d\n", signal);
    if (sigismember(&blocked, signal) == 1) std::printf("blocked=%d\n", signal);
  }
  return 0;
}

int DumpCore(const Arguments&) {
  const rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
  Report("raise_core_limit", setrlimit(RLIMIT_CORE, &more));
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    kill(getpid(), SIGABRT);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  std::printf("core=%d\n", WIFSIGNALED(status) && WCOREDUMP(status) ? 1 : 0);
  return 0;
}

// Pushes a line into the terminal, as typed by whoever sits there.
int PushInput(const Arguments&) {
  char byte = 'x';
  Report("tiocsti", ioctl(0, TIOCSTI, &byte));
  Report("tiocsti_high", syscall(SYS_ioctl, 0, 0xff00000000ul | TIOCSTI, &byte));
  char subcode = 2;
  Report("tioclinux", ioctl(0, TIOCLINUX, &subcode));
  return 0;
}

// What a nested user namespace would be used for: taking a read-only mount away through a handle from before.
int DetachThroughUserns(const Arguments&) {
  const int handle = open("/usr", O_PATH | O_DIRECTORY);
  Report("handle", handle);
  Report("unshare", unshare(CLONE_NEWUSER | CLONE_NEWNS));
  Report("private", mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
  Report("tmpfs", mount("none", "/tmp", "tmpfs", 0, nullptr));
  Report("detach", umount2("/usr", MNT_DETACH));
  Report("write", openat(handle, "hf-escape", O_WRONLY | O_CREAT, 0600));
  return 0;
}

// How many more rulesets of Landlock this process may put upon itself: the kernel allows sixteen in all.
int StackLandlock(const Arguments&) {
  const uint64_t handled = 1;  // running files
  int count = 0;
  while (count < 100) {
    const long ruleset = syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0);
    if (ruleset < 0 || syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) break;
    ++count;
  }
  std::printf("rulesets=%d\n", count);
  return 0;
}

int Nothing(const Arguments&) { return 0; }

}  // namespace

const std::vector<Attempt> kPrivilegeAttempts = {
    {"privileges", Privileges},
    {"gain-capability", GainCapability},
    {"denied-calls", DeniedCalls},
    {"allowed-calls", AllowedCalls},
    {"new-namespaces", NewNamespaces},
    {"int80", Int80},
    {"x32", X32},
    {"attack-init", AttackInit},
    {"kill-all", KillAll},
    {"signals", Signals},
    {"dump-core", DumpCore},
    {"push-input", PushInput},
    {"detach-through-userns", DetachThroughUserns},
    {"stack-landlock", StackLandlock},
    {"nothing", Nothing},
};

}  // namespace guest
