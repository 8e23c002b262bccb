// The plain use of the sandbox: commands, their results, their files.
#include "sandbox/sandbox.h"

#include <unistd.h>

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

}  // namespace
}  // namespace holdfast::sandbox
