#include "tests/server/raw_calls.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/server/server_testing.h"

namespace holdfast::server {
namespace {

constexpr int64_t kAnswerDeadlineMs = 120'000;

class RawCallsTest : public ::testing::Test {
 protected:
  bool Answers() { return Call(server_.stub(), &SessionStub::ListSessions, v1::ListSessionsRequest()).ok(); }

  TestServer server_;
  RawCaller caller_{server_.directory() + "/holdfast.sock"};
};

TEST_F(RawCallsTest, WhatIsNoRequestIsRefusedByEveryMethod) {
  for (const std::string& method : SessionMethods()) {
    const base::Status status = caller_.Call(method, "\xff\xff\xff");
    EXPECT_FALSE(status.ok()) << method;
    EXPECT_NE(status.code(), absl::StatusCode::kUnknown) << method << ": " << status.ToString();
  }
  EXPECT_TRUE(Answers());
}

TEST_F(RawCallsTest, ARequestThatIsTooLargeIsRefused) {
  for (const std::string& method : SessionMethods()) {
    EXPECT_FALSE(caller_.Call(method, std::string(16 << 20, 'x')).ok()) << method;
  }
  EXPECT_TRUE(Answers());
}

TEST_F(RawCallsTest, AMethodThatIsNotThereIsUnimplemented) {
  for (const char* method : {"/holdfast.v1.SessionService/Frobnicate", "/other.v1.Service/Get"}) {
    EXPECT_EQ(caller_.Call(method, "", kAnswerDeadlineMs).code(), absl::StatusCode::kUnimplemented) << method;
  }
}

TEST_F(RawCallsTest, CallsThatAreCancelledLeaveNothingBehind) {
  ASSERT_TRUE(Call(server_.stub(), &SessionStub::CreateSession, NewSession("a")).ok());
  v1::WatchSessionRequest watch;
  watch.set_name("sessions/a");
  for (int i = 0; i < 200; ++i) {
    grpc::ClientContext context;
    SetDeadline(context);
    const auto reader = server_.stub().WatchSession(&context, watch);
    context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Answers());
}

}  // namespace
}  // namespace holdfast::server
