// What the machine does not give. A process of its own runs with one system call refused, as a container or a
// kernel without the feature would, and tries to run a command: it must be refused with the cause, or run
// with what is left, never run without what the policy requires.
#include <fcntl.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "sandbox/broker/descriptor.h"
#include "tests/sandbox/sandbox_testing.h"
#include "tests/sandbox/victim.h"

namespace holdfast::sandbox {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class RefusalTest : public SandboxTest {
 protected:
  // What came of a command in a process for which system call `number` fails with `error`.
  std::string Without(long number, int error) {
    return RunSelf({"--without", scratch(), overlay() ? "overlay" : "direct", std::to_string(number),
                    std::to_string(error)});
  }
  // Refused before anything ran, and `cause` named.
  void ExpectRefused(long number, int error, const char* cause) {
    const std::string text = Without(number, error);
    EXPECT_THAT(text, AllOf(StartsWith("refused: FAILED_PRECONDITION: "), HasSubstr(cause),
                            HasSubstr("Nothing was run."), testing::Not(HasSubstr("told"))));
    EXPECT_FALSE(Exists(Written("canary"))) << "the command ran";
  }

 private:
  static std::string RunSelf(std::vector<std::string> arguments) {
    std::string self(4096, '\0');
    self.resize(static_cast<size_t>(readlink("/proc/self/exe", self.data(), self.size())));
    arguments.insert(arguments.begin(), self);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) return "no pipe";
    const Descriptor read_end(fds[0]);
    Descriptor write_end(fds[1]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, write_end.get(), 1);
    pid_t pid = -1;
    const int error = posix_spawn(&pid, self.c_str(), &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    write_end.Reset();
    if (error != 0) return "no process";
    std::string text;
    char buffer[4096];
    ssize_t n;
    while ((n = read(read_end.get(), buffer, sizeof(buffer))) > 0)
      text.append(buffer, static_cast<size_t>(n));
    waitpid(pid, nullptr, 0);
    return text;
  }
};
INSTANTIATE_SANDBOX_TEST(RefusalTest);

// The other tests mean nothing if this fails.
TEST_P(RefusalTest, CommandRunsWhenNothingIsRefused) {
  EXPECT_THAT(Without(-1, 0), StartsWith("ran: exit 0"));
  EXPECT_TRUE(Exists(Written("canary")));
}

TEST_P(RefusalTest, NoNamespaces) {  // 60: as in a container with Docker's own filter
  ExpectRefused(SYS_clone3, ENOSYS, "making namespaces failed");
  ExpectRefused(SYS_clone3, ENOSYS, "its seccomp profile must allow clone3");
}

TEST_P(RefusalTest, UserNamespacesSwitchedOff) {  // 60: the sysctl is 0
  ExpectRefused(kNoUserNamespaces, 0, "making namespaces failed");
  ExpectRefused(kNoUserNamespaces, 0, "user.max_user_namespaces");
}

TEST_P(RefusalTest, RootOfAContainerOnly) {
  if (geteuid() != 0) GTEST_SKIP() << "an ordinary user has no other users to map in any case";
  ExpectRefused(kOnlyContainerRoot, 0, "run Holdfast as an ordinary user");
}

TEST_P(RefusalTest, NoMounts) {
  ExpectRefused(SYS_mount, EPERM, "building the root failed");
  ExpectRefused(SYS_fsopen, ENOSYS, "failed");
  ExpectRefused(SYS_fsmount, EPERM, "failed");
  ExpectRefused(SYS_open_tree, ENOSYS, "failed");
  ExpectRefused(SYS_move_mount, EPERM, "failed");
  ExpectRefused(SYS_mount_setattr, ENOSYS, "failed");
  ExpectRefused(SYS_pivot_root, EPERM, "changing the root failed");
}

TEST_P(RefusalTest, NoFilter) {  // 60
  ExpectRefused(SYS_seccomp, ENOSYS, "installing the system call filter failed");
  ExpectRefused(SYS_seccomp, EINVAL, "CONFIG_SECCOMP_FILTER");
}

// A kernel, or a filter, that says yes and does nothing: what was to be in force is looked up, not believed.
TEST_P(RefusalTest, LayersThatOnlyClaimToBeThere) {
  ExpectRefused(SYS_seccomp, 0, "failed");
  ExpectRefused(SYS_capset, 0, "failed");
  ExpectRefused(SYS_prctl, 0, "failed");
}

TEST_P(RefusalTest, PrivilegesThatCannotBeGivenUp) {
  ExpectRefused(SYS_capset, EPERM, "dropping capabilities failed");
  ExpectRefused(SYS_prctl, EPERM, "failed");
}

TEST_P(RefusalTest, IdsThatCannotBeChanged) {
  if (geteuid() != 0) GTEST_SKIP() << "an ordinary user's session keeps its own";
  ExpectRefused(SYS_setresuid, EPERM, "changing ids failed");
  ExpectRefused(SYS_setresgid, EPERM, "changing ids failed");
  ExpectRefused(SYS_setresuid, 0, "verifying the isolation failed");
}

// Not required, so done without, and told.
TEST_P(RefusalTest, NoLandlock) {
  const std::string text = Without(SYS_landlock_create_ruleset, ENOSYS);
  EXPECT_THAT(text, StartsWith("ran: exit 0"));
  EXPECT_THAT(text, testing::Not(HasSubstr("landlock")));
}

TEST_P(RefusalTest, LandlockThatIsThereButDoesNotApply) {
  if (Without(-1, 0).find("landlock") == std::string::npos) GTEST_SKIP() << "this kernel has none";
  unlink(Written("canary").c_str());
  ExpectRefused(SYS_landlock_restrict_self, EPERM, "applying Landlock failed");
}

TEST_P(RefusalTest, FileSystemsThatDoNotAnswer) {  // 21
  if (geteuid() != 0) GTEST_SKIP() << "only root can mount one";
  for (const long where : {kHungRoot, kHungMount, kHungWorkspace}) {
    const std::string text = Without(where, 0);
    if (text == "no FUSE\n") GTEST_SKIP() << "this kernel has no FUSE";
    EXPECT_THAT(text, StartsWith("refused: FAILED_PRECONDITION: ")) << where;
    EXPECT_THAT(text, HasSubstr("may not answer")) << where;
    EXPECT_THAT(text, HasSubstr("then: exit 0\n")) << "the broker is held up: " << where;
  }
}

TEST_P(RefusalTest, NoKeyrings) { EXPECT_THAT(Without(SYS_keyctl, ENOSYS), StartsWith("ran: exit 0")); }

}  // namespace
}  // namespace holdfast::sandbox
