#include "server/acceptor.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/unix_listener.h"
#include "tests/server/socket_testing.h"

namespace holdfast::server {
namespace {

using ::testing::HasSubstr;

class AcceptorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto listener = UnixListener::Listen(path_, door_.options(2));
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
  }

  const std::string path_ = ShortDirectory() + "/s";
  Door door_;
  std::unique_ptr<UnixListener> listener_;
};

TEST_F(AcceptorTest, MoreConnectionsThanTheBoundAreClosedAtOnce) {
  const base::Descriptor one = ConnectUnix(path_), two = ConnectUnix(path_), three = ConnectUnix(path_);
  EXPECT_TRUE(IsClosed(three));
  door_.Wait(2, 1);
  EXPECT_EQ(door_.accepted().size(), 2u);
  EXPECT_THAT(door_.refused()[0], HasSubstr("there are 2 already"));
}

TEST_F(AcceptorTest, AConnectionThatWasClosedMakesRoom) {
  const base::Descriptor one = ConnectUnix(path_), two = ConnectUnix(path_);
  door_.Wait(2, 0);
  door_.accepted()[0].Reset();  // by whom it was handed to
  const base::Descriptor three = ConnectUnix(path_);
  door_.Wait(3, 0);
  EXPECT_TRUE(door_.refused().empty());
}

TEST_F(AcceptorTest, AnotherFileInThePlaceOfAClosedDescriptorIsNoConnection) {
  const base::Descriptor one = ConnectUnix(path_), two = ConnectUnix(path_);
  door_.Wait(2, 0);
  const int number = door_.accepted()[0].get();
  door_.accepted()[0].Reset();
  const base::Descriptor other(dup2(0, number));
  const base::Descriptor three = ConnectUnix(path_);
  door_.Wait(3, 0);
  EXPECT_TRUE(door_.refused().empty());
}

}  // namespace
}  // namespace holdfast::server
