#include "server/event_proto.h"

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "agent/agent_event.h"
#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "holdfast/v1/event.pb.h"

namespace holdfast::server {
namespace {

class EventProtoTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto loaded = model::Tokenizer::Load(base::RealFileSystem(),
                                         HOLDFAST_SOURCE_DIR "/model/nano/checkpoint/tokenizer.json");
    ASSERT_TRUE(loaded.ok());
    tokenizer_ = loaded->release();
  }
  static void TearDownTestSuite() { delete tokenizer_; }

  static v1::SessionEvent Told(sessions::EventBody body, const EventView& view = {}) {
    v1::SessionEvent out;
    EventToProto({.seq = 7, .utc_ms = 1500, .body = std::move(body)}, view, *tokenizer_, &out);
    EXPECT_EQ(out.sequence(), 7u);
    EXPECT_EQ(out.time().seconds(), 1);
    EXPECT_LE(out.ByteSizeLong(), kEventProtoBytesMax);
    v1::SessionEvent again;
    EXPECT_TRUE(again.ParseFromString(out.SerializeAsString())) << "not UTF-8 somewhere";
    return out;
  }

  static std::vector<int32_t> Ids(const std::string& text) {
    return *tokenizer_->Encode(text, model::AddedTokens::kPlain);
  }

  static inline model::Tokenizer* tokenizer_ = nullptr;
};

TEST_F(EventProtoTest, SampledTokensAreTold) {
  const std::vector<int32_t> ids = Ids("Hello, world");
  const auto told =
      Told(sessions::TokenRun{.position = 3, .origin = sessions::TokenOrigin::kSampled, .ids = ids});
  EXPECT_EQ(told.tokens().position(), 3);
  EXPECT_EQ(told.tokens().count(), static_cast<int64_t>(ids.size()));
  EXPECT_EQ(told.tokens().text(), "Hello, world");
  EXPECT_EQ(told.tokens().ids_size(), 0);
}

TEST_F(EventProtoTest, FedTextAndIdsAreToldWhenAskedFor) {
  const sessions::TokenRun run{.origin = sessions::TokenOrigin::kFed, .ids = Ids("secret")};
  EXPECT_EQ(Told(run).tokens().text(), "");
  const auto told = Told(run, {.token_ids = true, .fed_text = true});
  EXPECT_EQ(told.tokens().text(), "secret");
  EXPECT_EQ(told.tokens().ids_size(), static_cast<int>(run.ids.size()));
}

TEST_F(EventProtoTest, ALongRunIsCutAndSaysSo) {
  const std::vector<int32_t> ids(300'000, Ids("Hello")[0]);
  const auto told =
      Told(sessions::TokenRun{.origin = sessions::TokenOrigin::kSampled, .ids = ids}, {.token_ids = true});
  EXPECT_EQ(told.tokens().count(), 300'000);
  EXPECT_LE(told.tokens().text().size(), kTokenTextBytesMax);
  EXPECT_TRUE(told.tokens().text_truncated());
  EXPECT_EQ(told.tokens().ids_size(), kTokenIdsMax);
}

TEST_F(EventProtoTest, IdsWithoutATokenSayNothing) {
  const auto told =
      Told(sessions::TokenRun{.origin = sessions::TokenOrigin::kSampled, .ids = {-1, 2'000'000'000}});
  EXPECT_EQ(told.tokens().count(), 2);
  EXPECT_EQ(told.tokens().text(), "");
}

TEST_F(EventProtoTest, BytesOfToolsBecomeUtf8) {
  const auto told = Told(sessions::CallOutcome{.call = "c1",
                                               .status = sessions::CallStatus::kFailed,
                                               .text = std::string("\x80\xff binary"),
                                               .record = "{}"});
  EXPECT_EQ(told.call_ended().status(), v1::CallEndedEvent::STATUS_FAILED);
  EXPECT_THAT(told.call_ended().text(), ::testing::EndsWith(" binary"));
  EXPECT_EQ(told.call_ended().record(), "{}");
}

TEST_F(EventProtoTest, TextsBeyondTheirBoundAreCut) {
  const std::string large(5 << 20, 'x');
  EXPECT_THAT(Told(sessions::InputReceived{.text = large}).input().text(), ::testing::HasSubstr("left out"));
  const auto ended = Told(sessions::CallOutcome{.call = "c1", .text = large, .record = large});
  EXPECT_TRUE(ended.call_ended().text_truncated());
  EXPECT_EQ(ended.call_ended().record(), "") << "half of a JSON text is none";
  EXPECT_TRUE(
      Told(sessions::CallIntent{.call = "c1", .arguments = large}).call_started().arguments_truncated());
}

TEST_F(EventProtoTest, WhatWouldBeTooLargeAllTheSameKeepsItsNumber) {
  agent::PlanSet plan;
  for (int i = 0; i < 1000; ++i) plan.items.push_back({.text = std::string(4000, 'x'), .state = "done"});
  const auto told = Told(agent::Encode(plan));
  EXPECT_EQ(told.kind_case(), v1::SessionEvent::kOther);
  EXPECT_EQ(told.other().kind(), "AGENT_261");
}

TEST_F(EventProtoTest, AgentEventsAreTold) {
  const auto goal =
      Told(agent::Encode(agent::GoalSet{.text = "tests pass", .checks = {{.command = "make test"}}}));
  EXPECT_EQ(goal.goal_set().goal().text(), "tests pass");
  EXPECT_EQ(goal.goal_set().goal().checks(0).command(), "make test");
  EXPECT_EQ(goal.goal_set().goal().checks(0).timeout().seconds(), 600);
  EXPECT_EQ(goal.goal_set().goal().budgets().tokens(), 10'000'000);
  const auto changed = Told(agent::Encode(agent::GoalChanged{.state = agent::GoalState::kSucceeded}));
  EXPECT_EQ(changed.goal_changed().state(), v1::Goal::STATE_SUCCEEDED);
  EXPECT_TRUE(Told(agent::Encode(agent::PlanSet{})).has_plan());
}

TEST_F(EventProtoTest, KindsWithoutAMessageAreToldByName) {
  EXPECT_EQ(Told(sessions::TimerSet{.timer = "wait"}).other().kind(), "TIMER_SET");
  EXPECT_EQ(Told(sessions::AgentEvent{.kind = 9999, .payload = "?"}).other().kind(), "AGENT_9999");
  EXPECT_EQ(Told(sessions::AgentEvent{.kind = 257, .payload = "no json"}).other().kind(), "AGENT_257");
}

TEST_F(EventProtoTest, StatesAndWaitsAreThoseOfTheRecord) {
  const auto told = Told(sessions::StateChanged{
      .state = sessions::SessionState::kWaiting, .wait = sessions::WaitFor::kApproval, .reason = "c1"});
  EXPECT_EQ(told.state_changed().state(), v1::Session::STATE_WAITING);
  EXPECT_EQ(told.state_changed().wait(), v1::WAIT_REASON_APPROVAL);
}

}  // namespace
}  // namespace holdfast::server
