#include "tools/blocking_call.h"

#include <optional>

#include "gtest/gtest.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"

namespace holdfast::tools {
namespace {

class BlockingCallTest : public ::testing::Test {
 protected:
  Done Keep() {
    return [this](ToolResult result) {
      ++answers_;
      result_ = std::move(result);
    };
  }
  test::SimClock clock_;
  test::SimExecutor executor_{clock_, {}};
  int answers_ = 0;
  std::optional<ToolResult> result_;
};

TEST_F(BlockingCallTest, TheBodyRunsOnTheToolsLane) {
  const auto call = StartBlocking(
      executor_,
      [this](CallGate& gate) {
        EXPECT_TRUE(executor_.RunsOn(base::Lane::kTools));
        EXPECT_TRUE(gate.BeginEffect());
        EXPECT_TRUE(gate.BeginEffect());
        return Succeeded("done");
      },
      Keep());
  EXPECT_EQ(answers_, 0);
  executor_.RunUntilIdle();
  EXPECT_EQ(answers_, 1);
  EXPECT_EQ(result_->text, "done");
  EXPECT_FALSE(call->Harmless());
}

TEST_F(BlockingCallTest, CancelledInTheQueueItNeverRuns) {
  bool ran = false;
  const auto call = StartBlocking(
      executor_,
      [&ran](CallGate&) {
        ran = true;
        return Succeeded("");
      },
      Keep());
  call->Cancel();
  EXPECT_EQ(answers_, 1);
  EXPECT_EQ(result_->status, ToolStatus::kCancelled);
  EXPECT_TRUE(call->Harmless());
  executor_.RunUntilIdle();
  call->Cancel();
  EXPECT_FALSE(ran);
  EXPECT_EQ(answers_, 1);
}

TEST_F(BlockingCallTest, CancelledBeforeItsEffectItChangesNothing) {
  std::unique_ptr<RunningCall> call;
  call = StartBlocking(
      executor_,
      [&](CallGate& gate) {
        call->Cancel();
        EXPECT_TRUE(gate.cancelled());
        EXPECT_FALSE(gate.BeginEffect());
        return Succeeded("ignored");
      },
      Keep());
  executor_.RunUntilIdle();
  EXPECT_EQ(result_->status, ToolStatus::kCancelled);
  EXPECT_TRUE(call->Harmless());
}

TEST_F(BlockingCallTest, CancelledAfterItsEffectBeganItGoesOn) {
  std::unique_ptr<RunningCall> call;
  call = StartBlocking(
      executor_,
      [&](CallGate& gate) {
        EXPECT_TRUE(gate.BeginEffect());
        call->Cancel();
        return Succeeded("written");
      },
      Keep());
  executor_.RunUntilIdle();
  EXPECT_EQ(result_->text, "written");
  EXPECT_FALSE(call->Harmless());
}

TEST_F(BlockingCallTest, AFullLaneIsUnavailable) {
  test::SimExecutor small(clock_, {.bounds = {.queued_tasks_max = 1}});
  const auto first = StartBlocking(
      small, [](CallGate&) { return Succeeded(""); }, [](ToolResult) {});
  EXPECT_EQ(StartBlocking(
                small, [](CallGate&) { return Succeeded(""); }, Keep()),
            nullptr);
  EXPECT_EQ(result_->status, ToolStatus::kUnavailable);
}

}  // namespace
}  // namespace holdfast::tools
