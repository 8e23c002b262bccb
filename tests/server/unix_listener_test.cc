#include "server/unix_listener.h"

#include <sys/stat.h>
#include <sys/syscall.h>

#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/socket_testing.h"

namespace holdfast::server {
namespace {

using ::testing::HasSubstr;

constexpr uid_t kNobody = 65534;

class UnixListenerTest : public ::testing::Test {
 protected:
  base::Status Listen() {
    HF_ASSIGN_OR_RETURN(listener_, UnixListener::Listen(path_, door_.options(8)));
    return {};
  }

  const std::string directory_ = ShortDirectory();
  const std::string path_ = directory_ + "/holdfast.sock";
  Door door_;
  std::unique_ptr<UnixListener> listener_;
};

TEST_F(UnixListenerTest, OnlyTheOwnerMayReadAndWriteTheSocket) {
  const mode_t before = umask(0);
  const base::Status listens = Listen();
  umask(before);
  ASSERT_TRUE(listens.ok()) << listens;
  struct stat found = {};
  ASSERT_EQ(stat(path_.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600u);
}

TEST_F(UnixListenerTest, TheOwnerIsAccepted) {
  ASSERT_TRUE(Listen().ok());
  const base::Descriptor client = ConnectUnix(path_);
  ASSERT_TRUE(client.valid());
  door_.Wait(1, 0);
  EXPECT_TRUE(door_.refused().empty());
}

TEST_F(UnixListenerTest, AnotherUserWhoGetsAtTheSocketIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "wants root, to become another user";
  ASSERT_TRUE(Listen().ok());
  // The mode of the file is one lock; this test is about the other.
  ASSERT_EQ(chmod(directory_.c_str(), 0755), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0666), 0);
  std::thread([&] {
    // Of this thread alone: the function of the C library would change the whole process.
    ASSERT_EQ(syscall(SYS_setresuid, kNobody, kNobody, kNobody), 0);
    const base::Descriptor client = ConnectUnix(path_);
    ASSERT_TRUE(client.valid());
    EXPECT_TRUE(IsClosed(client));
  }).join();
  door_.Wait(0, 1);
  EXPECT_TRUE(door_.accepted().empty());
  EXPECT_THAT(door_.refused()[0], HasSubstr("user 65534"));
}

TEST_F(UnixListenerTest, APathThatIsTooLongIsRefusedWithWhatToDo) {
  Door door;
  const auto listener = UnixListener::Listen("/tmp/" + std::string(120, 'x'), door.options(8));
  EXPECT_TRUE(absl::IsInvalidArgument(listener.status()));
  EXPECT_THAT(base::Message(listener.status()), HasSubstr("--socket"));
}

TEST_F(UnixListenerTest, ASocketThatAKilledProcessHasLeftIsReplaced) {
  ASSERT_TRUE(Listen().ok());
  // Another name for the socket, which stays when the listener goes, as after SIGKILL.
  const std::string left = directory_ + "/left.sock";
  ASSERT_EQ(link(path_.c_str(), left.c_str()), 0);
  listener_.reset();
  ASSERT_FALSE(ConnectUnix(left).valid());
  auto again = UnixListener::Listen(left, door_.options(8));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(ConnectUnix(left).valid());
  door_.Wait(1, 0);
}

TEST_F(UnixListenerTest, AFileThatIsNoSocketIsLeftAlone) {
  ASSERT_EQ(mkdir(path_.c_str(), 0700), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(Listen()));
  EXPECT_EQ(rmdir(path_.c_str()), 0);
}

TEST_F(UnixListenerTest, TheSocketGoesWithTheListener) {
  ASSERT_TRUE(Listen().ok());
  listener_.reset();
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace holdfast::server
