#include "server/metrics.h"

#include <string>
#include <utility>
#include <vector>

#include "agent/agent_event.h"
#include "gtest/gtest.h"

namespace holdfast::server {
namespace {

using sessions::TokenOrigin;

class MetricsTest : public ::testing::Test {
 protected:
  void Tell(int64_t utc_ms, sessions::EventBody body) {
    metrics_.OnEvent("a", {.seq = ++seq_, .utc_ms = utc_ms, .body = std::move(body)});
  }
  void TellTokens(int64_t utc_ms, TokenOrigin origin, size_t count) {
    Tell(utc_ms, sessions::TokenRun{.origin = origin, .ids = std::vector<int32_t>(count)});
  }
  // A line with this name and value.
  ::testing::AssertionResult Has(const std::string& line) {
    const std::string text = metrics_.Text();
    if (text.find("\n" + line + "\n") != std::string::npos) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << line << " is not in\n" << text;
  }

  Metrics metrics_;
  uint64_t seq_ = 0;
};

TEST_F(MetricsTest, TokensAreCountedByWhereTheyCameFrom) {
  Tell(0, sessions::TokensAccounted{.attached = 100, .prefilled = 20, .decoded = 7});
  Tell(0, sessions::TokensAccounted{.attached = 1, .prefilled = 2, .decoded = 3});
  EXPECT_TRUE(Has("holdfast_prompt_tokens_total 22"));
  EXPECT_TRUE(Has("holdfast_generation_tokens_total 10"));
  EXPECT_TRUE(Has("holdfast_prefix_cache_queries_total 123"));
  EXPECT_TRUE(Has("holdfast_prefix_cache_hits_total 101"));
}

TEST_F(MetricsTest, LatenciesComeFromTheTimesOfCommits) {
  TellTokens(1'000, TokenOrigin::kFed, 50);
  TellTokens(3'000, TokenOrigin::kSampled, 4);   // 2 s to the first
  TellTokens(4'000, TokenOrigin::kSampled, 10);  // 100 ms each
  EXPECT_TRUE(Has("holdfast_time_to_first_token_seconds_count 1"));
  EXPECT_TRUE(Has("holdfast_time_to_first_token_seconds_sum 2"));
  EXPECT_TRUE(Has("holdfast_inter_token_latency_seconds_count 10"));
  EXPECT_TRUE(Has("holdfast_inter_token_latency_seconds_bucket{le=\"0.05\"} 0"));
  EXPECT_TRUE(Has("holdfast_inter_token_latency_seconds_bucket{le=\"0.25\"} 10"));
}

TEST_F(MetricsTest, WhatIsPrefilledAgainAfterARecoveryIsCountedOnce) {
  Tell(0, sessions::Recovered{});
  TellTokens(0, TokenOrigin::kFed, 30);
  Tell(0, sessions::TokensAccounted{.attached = 900, .prefilled = 35});  // 5 were there before
  Tell(0, sessions::TokensAccounted{.prefilled = 1000});
  EXPECT_TRUE(Has("holdfast_resume_reprefill_tokens_total 5"));
  EXPECT_TRUE(Has("holdfast_sessions_recovered_total 1"));
}

TEST_F(MetricsTest, SessionsGoalsAndOutcomesAreToldByState) {
  Tell(0, sessions::StateChanged{.state = sessions::SessionState::kPaused});
  Tell(0, agent::Encode(agent::GoalSet{.text = "x"}));
  Tell(0, agent::Encode(agent::GoalChanged{.state = agent::GoalState::kSucceeded}));
  Tell(0, sessions::CallOutcome{.status = sessions::CallStatus::kUnknown});
  EXPECT_TRUE(Has("holdfast_sessions{state=\"paused\"} 1"));
  EXPECT_TRUE(Has("holdfast_sessions{state=\"idle\"} 0"));
  EXPECT_TRUE(Has("holdfast_goals{state=\"succeeded\"} 1"));
  EXPECT_TRUE(Has("holdfast_goals{state=\"active\"} 0"));
  EXPECT_TRUE(Has("holdfast_tool_outcome_total{outcome=\"unknown\"} 1"));
  EXPECT_TRUE(Has("holdfast_unknown_outcomes_total 1"));
}

TEST_F(MetricsTest, CallsAreCountedByMethodAndCode) {
  metrics_.OnCall({.method = "GetSession", .took_ns = 2'000'000});
  metrics_.OnCall({.method = "GetSession", .status = base::NotFound("x")});
  metrics_.OnRefused("unix");
  EXPECT_TRUE(Has("holdfast_rpcs_total{code=\"OK\",method=\"GetSession\"} 1"));
  EXPECT_TRUE(Has("holdfast_rpcs_total{code=\"NOT_FOUND\",method=\"GetSession\"} 1"));
  EXPECT_TRUE(Has("holdfast_rpc_seconds_count{method=\"GetSession\"} 2"));
  EXPECT_TRUE(Has("holdfast_connections_refused_total{door=\"unix\"} 1"));
}

TEST_F(MetricsTest, WhatIsSampledIsAskedForWhenSomebodyLooks) {
  ASSERT_TRUE(metrics_.Serve("127.0.0.1:0", [](MetricsSample& sample) { sample.watchers = 3; }).ok());
  EXPECT_GT(metrics_.port(), 0);
  EXPECT_TRUE(Has("holdfast_watchers 3"));
}

TEST_F(MetricsTest, OnlyTheLoopbackInterfaceIsServed) {
  EXPECT_TRUE(absl::IsInvalidArgument(metrics_.Serve("0.0.0.0:0", [](MetricsSample&) {})));
}

}  // namespace
}  // namespace holdfast::server
