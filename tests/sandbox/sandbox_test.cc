// The plain use of the sandbox: commands, their results, their files.
#include "sandbox/sandbox.h"

#include <unistd.h>

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "tests/sandbox/sandbox_testing.h"

namespace holdfast::sandbox {
namespace {

using ::testing::HasSubstr;

class CommandTest : public SandboxTest {};
INSTANTIATE_SANDBOX_TEST(CommandTest);

TEST_P(CommandTest, OutputAndExitCodeComeBack) {
  const Outcome outcome = Shell("echo out; echo err >&2; exit 7");
  EXPECT_EQ(outcome.ending, Ending::kExited);
  EXPECT_EQ(outcome.exit_code, 7);
  EXPECT_EQ(outcome.output.head, "out\nerr\n");
  EXPECT_EQ(outcome.layers & kRequiredLayers, kRequiredLayers) << "missing layers";
}

TEST_P(CommandTest, SignalIsReported) {
  const Outcome outcome = Shell("kill -SEGV $$");
  EXPECT_EQ(outcome.ending, Ending::kSignalled);
  EXPECT_EQ(outcome.signal, SIGSEGV);
}

TEST_P(CommandTest, FilesAreReadAndWrittenWhereTheModeSays) {
  WriteFileText(tree() + "/there.txt", "from the host\n");
  EXPECT_EQ(Shell("cat there.txt; echo new > made.txt; rm there.txt").output.head, "from the host\n");
  CloseSession();
  EXPECT_EQ(ReadFileText(Written("made.txt")), "new\n");
  EXPECT_EQ(Exists(tree() + "/made.txt"), !overlay());
  EXPECT_EQ(Exists(tree() + "/there.txt"), overlay()) << "the overlay leaves the tree as it was";
}

TEST_P(CommandTest, SessionStandsBetweenCommands) {
  Shell("echo kept > /tmp/file; echo kept > $HOME/file");
  EXPECT_EQ(Shell("cat /tmp/file $HOME/file").output.head, "kept\nkept\n");
  CloseSession();
  EXPECT_THAT(Shell("cat /tmp/file").output.head, HasSubstr("No such file"));
}

TEST_P(CommandTest, ExtraMountsAreThereAsAsked) {
  WriteFileText(scratch() + "/docs/page", "page\n");
  std::filesystem::create_directories(scratch() + "/cache");
  Policy policy = DefaultPolicy();
  policy.mounts.push_back({.host = scratch() + "/docs", .inside = "/opt-docs"});
  policy.mounts.push_back({.host = scratch() + "/cache", .inside = "/cache", .access = Access::kReadWrite});
  policy.mounts.push_back(
      {.host = scratch() + "/none", .inside = "/none", .access = Access::kReadWrite, .required = false});
  OpenSession(policy);
  EXPECT_EQ(Shell("cat /opt-docs/page; echo kept > /cache/file; ls -d /none").output.head,
            "page\nls: cannot access '/none': No such file or directory\n");
  EXPECT_EQ(Shell("echo x > /opt-docs/page").exit_code, 1);
  EXPECT_EQ(ReadFileText(scratch() + "/cache/file"), "kept\n");
}

}  // namespace
}  // namespace holdfast::sandbox
