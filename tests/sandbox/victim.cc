#include "tests/sandbox/victim.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
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
