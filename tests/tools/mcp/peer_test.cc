#include "tools/mcp/peer.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/tools/mcp/scripted_server.h"

namespace holdfast::tools::mcp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kMs = base::kNsPerMs;

class PeerTest : public testing::Test {
 protected:
  Peer& Start() {
    auto transport = std::make_unique<ScriptedServer>(world_, 1);
    server_ = transport.get();
    peer_ = std::make_unique<Peer>(world_.executor, bounds_, counters_, std::move(transport));
    peer_->Start({.started = [this](base::Status) { log_.push_back("started"); },
                  .notification = [this](std::string_view method) { log_.push_back(std::string(method)); },
                  .lost = [this](std::string why) { log_.push_back("lost: " + why); }});
    world_.executor.RunUntilIdle();
    return *peer_;
  }

  OnAnswer Log(std::string name) {
    return [this, name](Answer answer) {
      constexpr const char* kKinds[] = {"result", "error", "deadline", "lost"};
      log_.push_back(name + " " + kKinds[static_cast<int>(answer.kind)] +
                     (answer.kind == Answer::Kind::kResult ? " " + answer.body.dump() : ""));
    };
  }
  base::MonotonicTime InMs(int64_t ms) { return {world_.clock.MonotonicNow().ns + ms * kMs}; }

  ScriptedWorld world_;
  McpBounds bounds_;
  McpCounters counters_;
  ScriptedServer* server_ = nullptr;
  std::unique_ptr<Peer> peer_;
  std::vector<std::string> log_;
};

TEST_F(PeerTest, AnswersFindWhatTheyAnswerInAnyOrder) {
  Peer& peer = Start();
  const int64_t a = *peer.Ask("m", Json::object(), InMs(1'000), Log("a"));
  const int64_t b = *peer.Ask("m", Json::object(), InMs(1'000), Log("b"));
  server_->Answer({{"id", b}}, 2);
  server_->Answer({{"id", a}}, 1);
  world_.executor.RunFor(5'000 * kMs);
  EXPECT_THAT(log_, ElementsAre("started", "b result 2", "a result 1"));
}

TEST_F(PeerTest, DeadlineTellsBothSides) {
  Peer& peer = Start();
  const int64_t id = *peer.Ask("m", Json::object(), InMs(1'000), Log("a"));
  world_.executor.RunFor(999 * kMs);
  EXPECT_THAT(log_, SizeIs(1));
  world_.executor.RunFor(1 * kMs);
  EXPECT_THAT(log_, ElementsAre("started", "a deadline"));
  ASSERT_THAT(world_.Sent("notifications/cancelled"), SizeIs(1));
  EXPECT_EQ(world_.Sent("notifications/cancelled")[0]["params"]["requestId"], id);
}

TEST_F(PeerTest, CancelledAndForgottenRequestsAreNotToldOf) {
  Peer& peer = Start();
  const int64_t a = *peer.Ask("m", Json::object(), InMs(1'000), Log("a"));
  const int64_t b = *peer.Ask("m", Json::object(), InMs(1'000), Log("b"));
  peer.Cancel(a, "x");
  peer.Forget(b);
  peer.Cancel(a, "twice");
  server_->Answer({{"id", a}}, 1);
  world_.executor.RunFor(5'000 * kMs);
  EXPECT_THAT(log_, ElementsAre("started"));
  EXPECT_THAT(world_.Sent("notifications/cancelled"), SizeIs(1));
  EXPECT_EQ(counters_.late_answers, 1u);
}

TEST_F(PeerTest, TheEndIsToldToAllThatWaitThenOnce) {
  Peer& peer = Start();
  EXPECT_TRUE(peer.Ask("m", Json::object(), InMs(1'000), Log("a")).ok());
  EXPECT_TRUE(peer.Ask("m", Json::object(), InMs(1'000), Log("b")).ok());
  server_->End("ended: exit 1");
  server_->Break("after the end");
  world_.executor.RunFor(5'000 * kMs);
  EXPECT_THAT(log_, ElementsAre("started", "a lost", "b lost", "lost: ended: exit 1"));
  EXPECT_FALSE(peer.Ask("m", Json::object(), InMs(1'000), Log("c")).ok());
}

TEST_F(PeerTest, ClosedPeerTellsNothing) {
  Peer& peer = Start();
  EXPECT_TRUE(peer.Ask("m", Json::object(), InMs(1'000), Log("a")).ok());
  peer.Close();
  server_->Write(R"({"jsonrpc":"2.0","method":"n"})");
  server_->End("ended: exit 1");
  world_.executor.RunFor(5'000 * kMs);
  EXPECT_THAT(log_, ElementsAre("started"));
}

TEST_F(PeerTest, UnaskedBytesAreBoundedBetweenAnswers) {
  bounds_.unasked_bytes_max = 100;
  Peer& peer = Start();
  const std::string notification = R"({"jsonrpc":"2.0","method":"n"})";  // 30 bytes
  const int64_t id = *peer.Ask("m", Json::object(), InMs(1'000), Log("a"));
  for (int i = 0; i < 3; ++i) server_->Write(notification);
  server_->Answer({{"id", id}}, 1);
  for (int i = 0; i < 3; ++i) server_->Write(notification);
  world_.executor.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("started", "n", "n", "n", "a result 1", "n", "n", "n"));
  server_->Write(notification);
  server_->Write(notification);
  world_.executor.RunUntilIdle();
  EXPECT_THAT(log_, SizeIs(10));
  EXPECT_EQ(log_.back(), "lost: floods its output");
}

TEST_F(PeerTest, WhatIsNotSentWaitsForNothing) {
  bounds_.request_bytes_max = 1'024;
  Peer& peer = Start();
  EXPECT_EQ(peer.Ask("m", {{"x", std::string(1'024, 'x')}}, InMs(1'000), Log("a")).status().code(),
            absl::StatusCode::kInvalidArgument);
  world_.send_status = base::ResourceExhausted("full");
  EXPECT_EQ(peer.Ask("m", Json::object(), InMs(1'000), Log("b")).status().code(),
            absl::StatusCode::kResourceExhausted);
  world_.executor.RunFor(5'000 * kMs);
  EXPECT_THAT(log_, ElementsAre("started"));
  EXPECT_THAT(world_.sent, IsEmpty());
}

}  // namespace
}  // namespace holdfast::tools::mcp
