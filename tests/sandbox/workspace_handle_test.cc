// The workspace from outside: what Session::OpenWorkspace hands out.
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "tests/sandbox/sandbox_testing.h"

namespace holdfast::sandbox {
namespace {

using base::Descriptor;

// Root takes the identity that the session has outside, as a caller has to.
class AsSession {
 public:
  // Only asked for its ids here: it may end before this does.
  explicit AsSession(const Session& session) {
    if (geteuid() != 0) return;
    setfsgid(session.host_gid());
    setfsuid(session.host_uid());
  }
  ~AsSession() {
    if (geteuid() != 0) return;
    setfsuid(0);
    setfsgid(0);
  }
};

Descriptor Beneath(const Descriptor& root, const std::string& path, int flags, mode_t mode = 0) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC | ((flags & O_PATH) != 0 ? 0 : O_NONBLOCK));
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  return Descriptor(static_cast<int>(syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof(how))));
}

std::string ReadAll(const Descriptor& file) {
  std::string text(4096, '\0');
  const ssize_t n = pread(file.get(), text.data(), text.size(), 0);
  text.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return text;
}

std::string ReadBeneath(const Descriptor& root, const std::string& path) {
  const Descriptor file = Beneath(root, path, O_RDONLY);
  return file.valid() ? ReadAll(file) : "error " + std::to_string(errno);
}

// 0, or errno.
int WriteBeneath(const Descriptor& root, const std::string& path, std::string_view text,
                 int flags = O_CREAT) {
  const Descriptor file = Beneath(root, path, O_WRONLY | flags, (flags & O_CREAT) != 0 ? 0644 : 0);
  if (!file.valid()) return errno;
  return write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : errno;
}

// EAGAIN: something was renamed or mounted anywhere on this machine while `..` was looked up.
int OpenError(const Descriptor& root, const std::string& path, int flags = O_RDONLY) {
  for (;;) {
    const Descriptor file = Beneath(root, path, flags);
    if (file.valid()) return 0;
    if (errno != EAGAIN) return errno;
  }
}

class WorkspaceHandleTest : public SandboxTest {
 protected:
  Descriptor Handle() {
    auto handle = OpenSession().OpenWorkspace();
    EXPECT_TRUE(handle.ok()) << handle.status();
    return handle.ok() ? *std::move(handle) : Descriptor();
  }
};
INSTANTIATE_SANDBOX_TEST(WorkspaceHandleTest);

TEST_P(WorkspaceHandleTest, FilesOfTheTreeAreReadAndReplaced) {
  WriteFileText(tree() + "/dir/file", "below\n");
  const Descriptor root = Handle();
  EXPECT_EQ(fcntl(root.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  {
    const AsSession identity(OpenSession());
    EXPECT_EQ(ReadBeneath(root, "dir/file"), "below\n");
    EXPECT_EQ(WriteBeneath(root, "dir/file", "above", 0), 0);
    EXPECT_EQ(ReadBeneath(root, "dir/file"), "above\n");
  }
  EXPECT_EQ(ReadFileText(tree() + "/dir/file"), overlay() ? "below\n" : "above\n");
  EXPECT_EQ(ReadFileText(Written("dir/file")), "above\n");
  EXPECT_EQ(Shell("cat dir/file").output.head, "above\n");
}

TEST_P(WorkspaceHandleTest, NamesAreMadeMovedAndRemoved) {
  for (const char* name : {"removed", "moved"}) WriteFileText(tree() + "/" + name, "text\n");
  const Descriptor root = Handle();
  {
    const AsSession identity(OpenSession());
    EXPECT_EQ(WriteBeneath(root, "made", "new\n", O_CREAT | O_EXCL), 0);
    ASSERT_EQ(mkdirat(root.get(), "dir", 0755), 0) << errno;
    ASSERT_EQ(renameat(root.get(), "moved", root.get(), "dir/here"), 0) << errno;
    ASSERT_EQ(unlinkat(root.get(), "removed", 0), 0) << errno;
    ASSERT_EQ(symlinkat("made", root.get(), "link"), 0) << errno;
  }
  EXPECT_EQ(Shell("cat made dir/here link; ls; stat -c %U:%G made dir/here").output.head,
            "new\ntext\nnew\ndir\nlink\nmade\nagent:agent\nagent:agent\n");
  for (const char* name : {"removed", "moved"}) {
    struct stat stat = {};
    const bool there = lstat(Written(name).c_str(), &stat) == 0;
    EXPECT_EQ(there, overlay()) << name;
    if (overlay()) {
      EXPECT_TRUE(S_ISCHR(stat.st_mode) && stat.st_rdev == makedev(0, 0)) << "no whiteout for " << name;
      EXPECT_EQ(ReadFileText(tree() + "/" + name), "text\n") << "the tree underneath was written to";
    }
  }
  struct stat made = {}, directory = {};
  ASSERT_EQ(stat(Written("made").c_str(), &made), 0);
  ASSERT_EQ(stat(tree().c_str(), &directory), 0);
  EXPECT_EQ(made.st_uid, directory.st_uid) << "on disk it belongs to the owner of the tree";
}

TEST_P(WorkspaceHandleTest, RunningCommandAndHandleSeeEachOtherAtOnce) {
  const Descriptor root = Handle();
  auto job = OpenSession().Start(
      ShellCommand("echo ask > question; while ! [ -e answer ]; do sleep 0.01; done; cat answer"), {});
  ASSERT_TRUE(job.ok()) << job.status();
  ASSERT_TRUE(Eventually(10'000, [&] { return ReadBeneath(root, "question") == "ask\n"; }));
  {
    const AsSession identity(OpenSession());
    ASSERT_EQ(WriteBeneath(root, "pending", "heard\n"), 0);
    ASSERT_EQ(renameat(root.get(), "pending", root.get(), "answer"), 0) << errno;
  }
  const std::optional<Outcome> outcome = (*job)->Wait(10'000);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->output.head, "heard\n");
}

TEST_P(WorkspaceHandleTest, LinksOutwardAreRefused) {
  WriteFileText(scratch() + "/secret", "outside\n");
  const Descriptor root = Handle();
  EXPECT_TRUE(
      Shell("mkdir sub; ln -s " + scratch() +
            "/secret absolute; ln -s ../secret up; "
            "ln -s ../../secret sub/up; ln -s /proc/self/cwd magic; ln -s sub within; echo in > sub/f")
          .ok());
  const AsSession identity(OpenSession());
  EXPECT_EQ(ReadBeneath(root, "within/f"), "in\n");
  for (const char* path :
       {"absolute", "up", "sub/up", "../secret", "sub/../../secret", "magic/f", "within/up"})
    EXPECT_EQ(OpenError(root, path), EXDEV) << path;
  // The handle's mount is attached nowhere, so even a careless caller's `..` stays where it is.
  struct stat here = {}, above = {};
  ASSERT_EQ(fstat(root.get(), &here), 0);
  ASSERT_EQ(fstatat(root.get(), "..", &above, 0), 0);
  EXPECT_EQ(here.st_ino, above.st_ino);
  EXPECT_EQ(here.st_dev, above.st_dev);
}

TEST_P(WorkspaceHandleTest, LinkThatIsSwappedInARaceNeverLeadsOut) {
  WriteFileText(scratch() + "/outside/file", "outside\n");
  const Descriptor root = Handle();
  EXPECT_TRUE(Shell("mkdir a; echo inside > a/file; ln -s " + scratch() + "/outside b; echo > started").ok());
  auto job = OpenSession().Start({.argv = {kGuest, "swap-forever", "a", "b"}}, {});
  ASSERT_TRUE(job.ok()) << job.status();
  const AsSession identity(OpenSession());
  int inside = 0, refused = 0;
  // On one processor it takes a while until the other side has had its turn.
  for (int i = 0; i < 10'000 || (i < 5'000'000 && (inside < 100 || refused < 100)); ++i) {
    const Descriptor file = Beneath(root, "a/file", O_RDONLY);
    if (file.valid()) {
      ASSERT_EQ(ReadAll(file), "inside\n") << "attempt " << i;
      ++inside;
    } else {
      ASSERT_THAT(errno, testing::AnyOf(EXDEV, ENOENT, ESTALE, EAGAIN)) << "attempt " << i;
      ++refused;
    }
  }
  EXPECT_GE(inside, 100);
  EXPECT_GE(refused, 100) << "the link was never met: nothing was tried";
  (*job)->Kill();
  EXPECT_TRUE((*job)->Wait(10'000).has_value());
}

TEST_P(WorkspaceHandleTest, HandleIsAsSafeWhenTheSessionHasEnded) {
  WriteFileText(tree() + "/.git/config", "mine\n");
  WriteFileText(tree() + "/file", "text\n");
  const Descriptor root = Handle();
  EXPECT_TRUE(Shell("echo kept > made; ln -s " + scratch() + "/tree out").ok());
  {
    const AsSession identity(OpenSession());
    StopSandbox();
    EXPECT_EQ(ReadBeneath(root, "made"), "kept\n");
    EXPECT_EQ(WriteBeneath(root, "file", "late\n", 0), 0);
    EXPECT_EQ(OpenError(root, "out/file"), EXDEV);
    EXPECT_EQ(OpenError(root, "../secret"), EXDEV);
    // In a layer of its own there is nothing to protect.
    EXPECT_EQ(WriteBeneath(root, ".git/config", "evil\n", 0), overlay() ? 0 : EROFS);
    EXPECT_EQ(WriteBeneath(root, ".git/hook", "evil\n"), overlay() ? 0 : EROFS);
    EXPECT_EQ(IsProtectedName(root.get(), ".git"), !overlay());
  }
  EXPECT_EQ(ReadFileText(tree() + "/.git/config"), "mine\n");
  EXPECT_EQ(ReadFileText(Written("file")), "late\n");
}

TEST_P(WorkspaceHandleTest, ProtectedPathsAreCoveredForTheHandleToo) {
  WriteFileText(tree() + "/.git/config", "mine\n");
  WriteFileText(tree() + "/.gitmodules", "mine\n");
  WriteFileText(tree() + "/sub/file", "text\n");
  const Descriptor root = Handle();
  EXPECT_TRUE(Shell("ln -s .. sub/back").ok());
  const AsSession identity(OpenSession());
  const int refused = overlay() ? 0 : EROFS;  // in a layer of its own there is nothing to protect
  EXPECT_EQ(WriteBeneath(root, ".gitmodules", "evil\n", 0), refused);
  EXPECT_EQ(WriteBeneath(root, ".git/hooks", "evil\n"), refused);
  EXPECT_EQ(WriteBeneath(root, "sub/back/.git/config", "evil\n", 0), refused);
  EXPECT_EQ(unlinkat(root.get(), ".git/config", 0) == 0 ? 0 : errno, refused);
  // Whoever renames and removes asks for each name, in the directory it has open.
  const Descriptor linked = Beneath(root, "sub/back", O_PATH | O_DIRECTORY);
  for (const Descriptor* directory : {&root, &linked}) {
    EXPECT_EQ(IsProtectedName(directory->get(), ".git"), !overlay());
    EXPECT_EQ(IsProtectedName(directory->get(), ".gitmodules"), !overlay());
    EXPECT_FALSE(IsProtectedName(directory->get(), "sub"));
    EXPECT_FALSE(IsProtectedName(directory->get(), "no-such"));
  }
}

TEST_P(WorkspaceHandleTest, WhatIsWrittenThroughItCountsForTheDiskLimit) {
  if (!overlay()) GTEST_SKIP() << "there the limit is on what the file system has lost, whoever took it";
  Policy policy = DefaultPolicy();
  policy.limits.disk_bytes = 8 * kMiB;
  OpenSession(policy);
  const Descriptor root = Handle();
  {
    const AsSession identity(OpenSession());
    ASSERT_EQ(WriteBeneath(root, "large", std::string(7 << 20, 'x')), 0);
  }
  // 4 MiB would be well within the limit without the 7 that are there.
  const Outcome outcome = Shell(
      "for i in 1 2 3 4; do head -c 1M /dev/zero > part$i; done; sync; while true; do sleep 0.05; done");
  EXPECT_EQ(outcome.limit, LimitKind::kDisk) << Describe(outcome);
}

TEST_P(WorkspaceHandleTest, DevicesAndForeignFilesOpenNoMoreThanForACommand) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make them";
  ASSERT_EQ(mknod((tree() + "/device").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  WriteFileText(tree() + "/foreign", "not the agent's\n");
  ASSERT_EQ(chown((tree() + "/foreign").c_str(), 12'345, 12'345), 0);
  ASSERT_EQ(chmod((tree() + "/foreign").c_str(), 0600), 0);
  const Descriptor root = Handle();
  const AsSession identity(OpenSession());
  EXPECT_EQ(OpenError(root, "device"), EACCES);
  EXPECT_EQ(OpenError(root, "foreign"), EACCES) << "root's rights were used";
  EXPECT_NE(OpenSession().host_uid(), 0u);
}

TEST_P(WorkspaceHandleTest, RootThatKeepsItsIdentityCannotMakeFilesInALayer) {
  if (geteuid() != 0 || !overlay()) GTEST_SKIP();
  EXPECT_EQ(WriteBeneath(Handle(), "made", "x"), EOVERFLOW);
}

TEST_P(WorkspaceHandleTest, EndedSessionHandsOutNothing) {
  Session& session = OpenSession();
  ASSERT_TRUE(session.OpenWorkspace().ok());
  kill(StartSandbox().broker_pid(), SIGKILL);
  ASSERT_TRUE(Eventually(10'000, [&] { return !session.OpenWorkspace().ok(); }));
  EXPECT_EQ(session.OpenWorkspace().status().code(), absl::StatusCode::kUnavailable);
}

TEST_P(WorkspaceHandleTest, NextSessionOfTheLayerGoesOnWithIt) {
  {
    const Descriptor root = Handle();
    const AsSession identity(OpenSession());
    ASSERT_EQ(WriteBeneath(root, "made", "first\n"), 0);
  }
  CloseSession();
  const Descriptor root = Handle();
  const AsSession identity(OpenSession());
  EXPECT_EQ(ReadBeneath(root, "made"), "first\n");
}

}  // namespace
}  // namespace holdfast::sandbox
