#include "tests/sandbox/victim.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sandbox/sandbox.h"
#include "tests/sandbox/sandbox_testing.h"

namespace holdfast::sandbox {

namespace {

Policy PolicyFor(const char* scratch, const char* mode) {
  Policy policy;
  policy.workspace.host = std::string(scratch) + "/tree";
  policy.workspace.inside = "/workspace";
  policy.workspace.mode = std::strcmp(mode, "direct") == 0 ? WorkspaceMode::kDirect : WorkspaceMode::kOverlay;
  if (policy.workspace.mode == WorkspaceMode::kOverlay)
    policy.workspace.layer = std::string(scratch) + "/layer";
  policy.mounts.push_back({.host = GuestPath(), .inside = kGuest});
  policy.setup_ms_max = 10'000;  // a machine busy with other tests
  return policy;
}

bool Refuse(long number, int error) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (static_cast<unsigned>(error) & SECCOMP_RET_DATA)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {static_cast<unsigned short>(std::size(code)), code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

void WriteLine(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) std::perror(path);
  close(fd);
}

bool EnterUserNamespace(bool forbid_more) {
  const std::string uid = std::to_string(geteuid()), gid = std::to_string(getegid());
  if (unshare(CLONE_NEWUSER) != 0) return false;
  WriteLine("/proc/self/setgroups", "deny");
  WriteLine("/proc/self/uid_map", uid + " " + uid + " 1");
  WriteLine("/proc/self/gid_map", gid + " " + gid + " 1");
  if (forbid_more) WriteLine("/proc/sys/user/max_user_namespaces", "0");
  return true;
}

// A file system whose server never says a word. It goes with this process.
bool MountHung(const std::string& directory) {
  mkdir(directory.c_str(), 0755);
  chmod((directory + "/..").c_str(), 0755);  // a system root that the session's user cannot reach is left out
  const int server = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  const std::string options =
      "fd=" + std::to_string(server) + ",rootmode=40000,user_id=0,group_id=0,allow_other";
  return server >= 0 && unshare(CLONE_NEWNS) == 0 &&
         mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("hung", directory.c_str(), "fuse", 0, options.c_str()) == 0;
}

Policy WithHung(Policy policy, long where, const std::string& path) {
  policy.setup_ms_max = 300;
  if (where == kHungRoot) policy.system_roots.push_back(path);
  if (where == kHungMount) policy.mounts.push_back({.host = path, .inside = "/hung"});
  if (where == kHungWorkspace) policy.workspace.host = path;
  return policy;
}

// A session that needs the hung path is refused, and the sandbox goes on with others.
int RunHung(const Policy& policy, long where, const std::string& directory) {
  if (!MountHung(directory)) {
    std::printf("no FUSE\n");
    return 0;
  }
  const auto sandbox = Sandbox::Start({.broker_path = BrokerPath()});
  if (!sandbox.ok()) return 1;
  const auto hung = (*sandbox)->Open(WithHung(policy, where, directory + "/sub"));
  std::printf("refused: %s\n", hung.status().ToString().c_str());
  const auto session = (*sandbox)->Open(policy);
  const auto outcome = session.ok() ? (*session)->Run(ShellCommand("true")) : session.status();
  std::printf("then: %s\n", outcome.ok() ? Describe(*outcome).c_str() : outcome.status().ToString().c_str());
  return 0;
}

base::StatusOr<Outcome> Touch(const Policy& policy, bool& told) {
  HF_ASSIGN_OR_RETURN(const std::unique_ptr<Sandbox> sandbox, Sandbox::Start({.broker_path = BrokerPath()}));
  HF_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, sandbox->Open(policy));
  RunOptions options;
  options.on_end = [&told](const Outcome&) { told = true; };
  return session->Run(ShellCommand("touch canary"), std::move(options));
}

}  // namespace

int RunWithout(const char* scratch, const char* mode, long number, int error) {
  if (number >= 0 && !Refuse(number, error)) return 1;
  if (number <= kHungRoot) return RunHung(PolicyFor(scratch, mode), number, std::string(scratch) + "/hung");
  if (number < -1 && !EnterUserNamespace(number == kNoUserNamespaces)) return 1;
  bool told = false;
  const auto outcome = Touch(PolicyFor(scratch, mode), told);
  if (!outcome.ok()) {
    std::printf("refused: %s%s\n", outcome.status().ToString().c_str(), told ? " and told to on_end" : "");
    return 0;
  }
  std::printf("ran: %s\n", Describe(*outcome).c_str());
  for (const std::string_view layer : LayerNames(outcome->layers))
    std::printf("%.*s\n", static_cast<int>(layer.size()), layer.data());
  return 0;
}

int RunVictim(const char* scratch, const char* mode) {
  const Policy policy = PolicyFor(scratch, mode);
  auto sandbox = Sandbox::Start({.broker_path = BrokerPath()});
  if (!sandbox.ok()) return 1;
  auto session = (*sandbox)->Open(policy);
  if (!session.ok()) return 2;
  std::vector<std::unique_ptr<Job>> jobs;
  for (const char* kind : {"setsid", "double-fork", "nohup", "vfork"}) {
    Command command = ShellCommand(std::string("/run/guest daemon ") + kind + " " + scratch +
                                   "; exec /run/guest ignore-term " + scratch);
    auto job = (*session)->Start(command);
    if (!job.ok()) return 3;
    while ((*job)->Poll(0, 1024).text.find("ignoring") == std::string::npos) poll(nullptr, 0, 1);
    jobs.push_back(*std::move(job));
  }
  std::printf("ready %d\n", (*sandbox)->broker_pid());
  std::fflush(stdout);
  while (true) pause();
}

}  // namespace holdfast::sandbox
