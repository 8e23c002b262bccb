#include "tests/support/sim_executor.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::test {
namespace {

using base::kNsPerMs;
using base::kNsPerSecond;
using base::Lane;
using base::MonotonicTime;
using base::TimerId;
using ::testing::ElementsAre;

class SimExecutorTest : public ::testing::Test {
 protected:
  void PostOk(SimExecutor& executor, Lane lane, base::Task task) {
    ASSERT_TRUE(executor.Post(lane, std::move(task)).ok());
  }
  TimerId PostAtOk(SimExecutor& executor, int64_t at_ns, base::Task task) {
    const auto id = executor.PostAt({at_ns}, std::move(task));
    HF_CHECK(id.ok());
    return *id;
  }

  SimClock clock_;
  std::vector<std::string> log_;
};

TEST_F(SimExecutorTest, LanesKeepTheirOrderAndSeedsMixThem) {
  std::set<std::vector<std::string>> orders;
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::vector<std::string> order;
    for (int run = 0; run < 2; ++run) {
      log_.clear();
      SimExecutor executor(clock_, {.seed = seed});
      for (const char* name : {"c1", "c2"})
        PostOk(executor, Lane::kControl, [&, name] { log_.push_back(name); });
      for (const char* name : {"e1", "e2"})
        PostOk(executor, Lane::kEngine, [&, name] { log_.push_back(name); });
      PostOk(executor, Lane::kStorage, [&] { log_.push_back("s1"); });
      executor.RunUntilIdle();
      EXPECT_EQ(executor.tasks_run(), 5u);
      EXPECT_LT(std::find(log_.begin(), log_.end(), "c1"), std::find(log_.begin(), log_.end(), "c2"));
      EXPECT_LT(std::find(log_.begin(), log_.end(), "e1"), std::find(log_.begin(), log_.end(), "e2"));
      if (run == 1) {
        EXPECT_EQ(log_, order);
      }
      order = log_;
    }
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 30u);  // all that keep c1 < c2 and e1 < e2
}

TEST_F(SimExecutorTest, TimeGoesOnToTheNextTimer) {
  SimExecutor executor(clock_, {.task_ns_max = 0});
  PostAtOk(executor, 2 * kNsPerSecond, [&] { log_.push_back("late"); });
  PostAtOk(executor, 1 * kNsPerSecond, [&] { log_.push_back("early"); });
  PostOk(executor, Lane::kControl, [&] { log_.push_back("now"); });
  executor.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("now"));
  EXPECT_EQ(clock_.MonotonicNow().ns, 0);
  EXPECT_TRUE(executor.RunOne());
  EXPECT_EQ(clock_.MonotonicNow().ns, kNsPerSecond);
  EXPECT_TRUE(executor.RunOne());
  EXPECT_FALSE(executor.RunOne());
  EXPECT_THAT(log_, ElementsAre("now", "early", "late"));
}

TEST_F(SimExecutorTest, RunForEndsAtItsEnd) {
  SimExecutor executor(clock_, {.task_ns_max = 0});
  PostAtOk(executor, 10 * kNsPerMs, [&] { log_.push_back("in"); });
  PostAtOk(executor, 30 * kNsPerMs, [&] { log_.push_back("out"); });
  executor.RunFor(20 * kNsPerMs);
  EXPECT_THAT(log_, ElementsAre("in"));
  EXPECT_EQ(clock_.MonotonicNow().ns, 20 * kNsPerMs);
}

TEST_F(SimExecutorTest, RunUntilGivesUpAtItsBound) {
  SimExecutor executor(clock_, {});
  std::function<void()> again = [&] { executor.PostResult(Lane::kControl, again); };
  again();
  EXPECT_FALSE(executor.RunUntil([] { return false; }, 100));
  EXPECT_EQ(executor.tasks_run(), 100u);
  EXPECT_TRUE(executor.RunUntil([&] { return executor.tasks_run() == 105; }));
}

TEST_F(SimExecutorTest, ACancelledTimerNeverRunsEvenWhenDue) {
  SimExecutor executor(clock_, {.task_ns_max = 0});
  TimerId second{};
  PostAtOk(executor, 5, [&] { log_.push_back(executor.Cancel(second) ? "cancelled" : "late"); });
  second = PostAtOk(executor, 5, [&] { log_.push_back("ran"); });
  while (executor.RunOne()) {
  }
  EXPECT_THAT(log_, ElementsAre("cancelled"));
  EXPECT_FALSE(executor.Cancel(second));
}

TEST_F(SimExecutorTest, BoundsRefuseNewWorkButNotResults) {
  SimExecutor executor(clock_, {.bounds = {.queued_tasks_max = 1, .timers_max = 1}});
  PostOk(executor, Lane::kControl, [] {});
  EXPECT_TRUE(absl::IsResourceExhausted(executor.Post(Lane::kControl, [] {})));
  EXPECT_TRUE(executor.Post(Lane::kEngine, [] {}).ok());
  executor.PostResult(Lane::kControl, [&] { log_.push_back("result"); });
  PostAtOk(executor, 1, [] {});
  EXPECT_TRUE(absl::IsResourceExhausted(executor.PostAt({1}, [] {}).status()));
  executor.RunUntilIdle();
  EXPECT_THAT(log_, ElementsAre("result"));
}

TEST_F(SimExecutorTest, TasksKnowTheirLane) {
  SimExecutor executor(clock_, {});
  EXPECT_FALSE(executor.RunsOn(Lane::kControl));
  PostOk(executor, Lane::kEngine, [&] {
    EXPECT_TRUE(executor.RunsOn(Lane::kEngine));
    EXPECT_FALSE(executor.RunsOn(Lane::kControl));
  });
  executor.RunUntilIdle();
}

// A crash: what waits is dropped, and what it owns may still call the executor as it goes.
TEST_F(SimExecutorTest, DestructionDropsTasksUnrun) {
  struct Owner {
    explicit Owner(SimExecutor* e) : executor(e) {}
    SimExecutor* executor;
    ~Owner() {
      EXPECT_FALSE(executor->Post(Lane::kControl, [] {}).ok());
    }
  };
  {
    SimExecutor executor(clock_, {});
    auto owner = std::make_unique<Owner>(&executor);
    PostAtOk(executor, 5, [&, o = std::move(owner)] { log_.push_back("timer"); });
    owner = std::make_unique<Owner>(&executor);
    PostOk(executor, Lane::kEngine, [&, o = std::move(owner)] { log_.push_back("task"); });
  }
  EXPECT_TRUE(log_.empty());
}

}  // namespace
}  // namespace holdfast::test
