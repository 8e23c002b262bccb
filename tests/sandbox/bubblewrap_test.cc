// The reference backend: what it shares with the first, and, listed in docs/security.md, what it does not.
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "gmock/gmock.h"
#include "sandbox/probe.h"
#include "sandbox/sandbox.h"
#include "tests/sandbox/sandbox_testing.h"

namespace holdfast::sandbox {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class BubblewrapTest : public SandboxTest {
 protected:
  void SetUp() override {
    if (access("/usr/bin/bwrap", X_OK) != 0) GTEST_SKIP() << "bubblewrap is not installed";
    policy_ = DefaultPolicy();
    policy_.backend = Backend::kBubblewrap;
    policy_.required_layers = kRequiredLayersOfBubblewrap;
    OpenSession(policy_);
  }
  RunOptions With(void (*change)(Limits&)) {
    RunOptions options;
    options.limits = policy_.limits;
    change(*options.limits);
    return options;
  }
  Policy policy_;
};
INSTANTIATE_TEST_SUITE_P(, BubblewrapTest, testing::Values(WorkspaceMode::kDirect), ModeName);

TEST_P(BubblewrapTest, CommandsRun) {
  const Outcome outcome = Shell("echo out; echo x > made; id -u; exit 7");
  EXPECT_EQ(outcome.exit_code, 7) << Describe(outcome);
  EXPECT_EQ(outcome.output.head, "out\n1000\n");
  EXPECT_EQ(ReadFileText(tree() + "/made"), "x\n");
  EXPECT_EQ(outcome.layers & kRequiredLayersOfBubblewrap, kRequiredLayersOfBubblewrap);
  EXPECT_FALSE(Has(outcome.layers, Layer::kSecurebits));
}

TEST_P(BubblewrapTest, ProbeHolds) {
  const auto report = Probe(StartSandbox(), policy_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->ok()) << Describe(*report);
}

TEST_P(BubblewrapTest, WritingOutsideTheWorkspaceFails) {
  EXPECT_THAT(
      Guest({"write", "/hf-escape", "/etc/hf-escape", "/usr/hf-escape", "/dev/hf-escape", "/run/hf-escape"})
          .output.head,
      Not(HasSubstr("=OK")));
}

TEST_P(BubblewrapTest, DeniedSystemCallsFail) {
  EXPECT_THAT(Guest({"denied-calls"}).output.head, Not(HasSubstr("=OK")));
  EXPECT_THAT(Guest({"new-namespaces"}).output.head, Not(HasSubstr("=OK")));
  EXPECT_EQ(Guest({"families"}).output.head,
            "family=1\nfamily=2\nfamily=10\nfamily=16\nvsock_high=EPERM\nhuge=EPERM\n");
}

TEST_P(BubblewrapTest, OnlyTheJobsProcessesAndDescriptorsAreThere) {
  EXPECT_EQ(Guest({"processes"}).output.head, "pid=1\npid=2\n");
  EXPECT_EQ(Guest({"descriptors"}).output.head, "fd=0\nfd=1\nfd=2\n");
  EXPECT_THAT(Guest({"attack-init"}).output.head, HasSubstr("alive=1"));
}

TEST_P(BubblewrapTest, ProtectedPathsAreReadOnly) {
  WriteFileText(tree() + "/.git/config", "honest");
  CloseSession();
  OpenSession(policy_);
  EXPECT_EQ(Shell("echo evil > .git/config; mv .git .git2").exit_code, 1);
  EXPECT_EQ(ReadFileText(tree() + "/.git/config"), "honest");
  EXPECT_FALSE(Exists(tree() + "/.vscode"));
}

TEST_P(BubblewrapTest, LimitsHold) {
  EXPECT_EQ(Guest({"sleep"}, With([](Limits& l) { l.wall_ms = 200; })).limit, LimitKind::kWallTime);
  EXPECT_EQ(Guest({"ignore-term"}, With([](Limits& l) { l.wall_ms = 200; })).limit, LimitKind::kWallTime);
  EXPECT_EQ(Guest({"memory-bomb", "4", "30"}, With([](Limits& l) { l.memory_bytes = 64 * kMiB; })).limit,
            LimitKind::kMemory);
}

TEST_P(BubblewrapTest, DaemonsEndWithTheirCommand) {
  for (const char* kind : {"setsid", "double-fork", "nohup"}) {
    EXPECT_EQ(Guest({"daemon", kind, scratch()}).output.head, "started\n");
    EXPECT_TRUE(Eventually(2000, [&] { return ProcessesWith(scratch()).empty(); })) << kind;
  }
}

TEST_P(BubblewrapTest, WorkspaceIsHandedOut) {
  const auto root = OpenSession().OpenWorkspace();
  ASSERT_TRUE(root.ok()) << root.status();
  setfsgid(OpenSession().host_gid());
  setfsuid(OpenSession().host_uid());
  EXPECT_EQ(mkdirat(root->get(), "made", 0755), 0) << errno;
  setfsuid(geteuid());
  setfsgid(getegid());
  EXPECT_EQ(Shell("stat -c %u made").output.head, "1000\n");
}

TEST_P(BubblewrapTest, CommandsOwnFaultsAreData) {
  EXPECT_EQ(Run({.argv = {"no-such-program"}}).start_error, "no-such-program: command not found");
}

TEST_P(BubblewrapTest, TerminalWorks) {
  Command command;
  command.argv = {"stty", "size"};
  command.terminal = TerminalSize{.rows = 30, .columns = 100};
  EXPECT_EQ(Run(command).output.head, "30 100\n");
}

TEST_P(BubblewrapTest, OverlayIsRefused) {
  Policy policy = policy_;
  policy.workspace.mode = WorkspaceMode::kOverlay;
  policy.workspace.layer = scratch() + "/layer";
  EXPECT_EQ(StartSandbox().Open(policy).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(BubblewrapTest, SecurebitsCannotBeRequired) {
  Policy policy = policy_;
  policy.required_layers = kRequiredLayers;
  const auto session = StartSandbox().Open(policy);
  EXPECT_THAT(base::Message(session.status()), HasSubstr("locked securebits (needs the namespaces backend"));
}

}  // namespace
}  // namespace holdfast::sandbox
