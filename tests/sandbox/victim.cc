#include "tests/sandbox/victim.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "sandbox/sandbox.h"
#include "tests/sandbox/sandbox_testing.h"

namespace holdfast::sandbox {

int RunVictim(const char* scratch, const char* mode) {
  Policy policy;
  policy.workspace.host = std::string(scratch) + "/tree";
  policy.workspace.inside = "/workspace";
  policy.workspace.mode = std::strcmp(mode, "direct") == 0 ? WorkspaceMode::kDirect : WorkspaceMode::kOverlay;
  if (policy.workspace.mode == WorkspaceMode::kOverlay)
    policy.workspace.layer = std::string(scratch) + "/layer";
  policy.mounts.push_back({.host = GuestPath(), .inside = kGuest});
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
