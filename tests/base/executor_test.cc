#include "base/executor.h"

#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"

namespace holdfast::base {
namespace {

using ::testing::ElementsAre;

// --- TimerQueue ---

class TimerQueueTest : public ::testing::Test {
 protected:
  TimerId Add(int64_t when_ns, int value) {
    return queue_.Add({when_ns}, [this, value] { log_.push_back(value); });
  }
  void RunDue(int64_t now_ns) {
    while (const auto timer = queue_.PopDue({now_ns})) {
      if (auto task = queue_.Take(*timer)) (*task)();
    }
  }

  TimerQueue queue_;
  std::vector<int> log_;
};

TEST_F(TimerQueueTest, PopsByTimeThenByAge) {
  Add(5, 1);
  Add(3, 2);
  Add(5, 3);
  EXPECT_EQ(queue_.NextDue()->ns, 3);
  RunDue(2);
  EXPECT_TRUE(log_.empty());
  RunDue(5);
  EXPECT_THAT(log_, ElementsAre(2, 1, 3));
  EXPECT_EQ(queue_.NextDue(), std::nullopt);
  EXPECT_EQ(queue_.size(), 0u);
}

TEST_F(TimerQueueTest, ATimerIsTakenOnceWaitingOrPopped) {
  const TimerId waiting = Add(1, 1);
  EXPECT_TRUE(queue_.Take(waiting).has_value());
  EXPECT_FALSE(queue_.Take(waiting).has_value());
  const TimerId popped = Add(1, 2);
  EXPECT_EQ(queue_.PopDue({1}), popped);
  EXPECT_EQ(queue_.size(), 1u);
  EXPECT_TRUE(queue_.Take(popped).has_value());
  EXPECT_EQ(queue_.size(), 0u);
  EXPECT_FALSE(queue_.Take(TimerId{99}).has_value());
}

TEST_F(TimerQueueTest, RandomTimersMatchASortedList) {
  for (const uint64_t seed : test::TestSeeds(20)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::map<std::pair<int64_t, TimerId>, int> model;
    std::vector<int> expected;
    log_.clear();
    int64_t now_ns = 0;
    for (int i = 0; i < 300; ++i) {
      if (random.Percent(60)) {
        const int64_t when_ns = now_ns + random.Between(-5, 50);
        model[{when_ns, Add(when_ns, i)}] = i;
      } else if (random.Percent(50) && !model.empty()) {
        const auto it = std::next(model.begin(), static_cast<int64_t>(random.Below(model.size())));
        EXPECT_TRUE(queue_.Take(it->first.second).has_value());
        model.erase(it);
      } else {
        now_ns += random.Between(0, 20);
        RunDue(now_ns);
        while (!model.empty() && model.begin()->first.first <= now_ns) {
          expected.push_back(model.begin()->second);
          model.erase(model.begin());
        }
      }
      ASSERT_EQ(log_, expected);
      ASSERT_EQ(queue_.size(), model.size());
    }
    queue_.Clear();
  }
}

// --- ThreadExecutor ---

// Keeps a lane busy until opened.
class Gate {
 public:
  Task Block() {
    return [this] {
      entered_.set_value();
      opened_.get_future().wait();
    };
  }
  void WaitUntilEntered() { entered_.get_future().wait(); }
  void Open() { opened_.set_value(); }

 private:
  std::promise<void> entered_;
  std::promise<void> opened_;
};

TEST(ThreadExecutorTest, ALaneRunsInOrderAndOneAtATime) {
  ThreadExecutor executor;
  for (const Lane lane : kLanes) {
    std::vector<int> log;  // no lock: only one task runs at a time
    for (int i = 0; i < 1000; ++i) ASSERT_TRUE(executor.Post(lane, [&, i] { log.push_back(i); }).ok());
    executor.Drain();
    ASSERT_EQ(log.size(), 1000u);
    EXPECT_TRUE(std::is_sorted(log.begin(), log.end()));
  }
}

TEST(ThreadExecutorTest, LanesRunAtOnce) {
  for (const Lane blocked : kLanes) {
    for (const Lane free : kLanes) {
      if (blocked == free) continue;
      ThreadExecutor executor;
      Gate gate;
      ASSERT_TRUE(executor.Post(blocked, gate.Block()).ok());
      gate.WaitUntilEntered();
      ASSERT_TRUE(executor.Post(free, [&] { gate.Open(); }).ok());
      executor.Drain();
    }
  }
}

TEST(ThreadExecutorTest, AFullLaneIsNamed) {
  ThreadExecutor executor({.queued_tasks_max = 0});
  EXPECT_EQ(Message(executor.Post(Lane::kEngine, [] {})), "executor: 0 tasks wait for the engine lane");
  EXPECT_EQ(Message(executor.Post(Lane::kStorage, [] {})), "executor: 0 tasks wait for the storage lane");
}

TEST(ThreadExecutorTest, ManyThreadsPostWithoutLoss) {
  ThreadExecutor executor;
  uint64_t count = 0;
  std::vector<std::thread> posters;
  for (int t = 0; t < 4; ++t) {
    posters.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) EXPECT_TRUE(executor.Post(Lane::kControl, [&] { ++count; }).ok());
    });
  }
  for (std::thread& poster : posters) poster.join();
  executor.Drain();
  EXPECT_EQ(count, 4000u);
}

TEST(ThreadExecutorTest, AFullLaneRefusesNewWorkButTakesResults) {
  ThreadExecutor executor({.queued_tasks_max = 2});
  Gate gate;
  ASSERT_TRUE(executor.Post(Lane::kControl, gate.Block()).ok());
  gate.WaitUntilEntered();
  int ran = 0;
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(executor.Post(Lane::kControl, [&] { ++ran; }).ok());
  const Status refused = executor.Post(Lane::kControl, [&] { ++ran; });
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_EQ(Message(refused), "executor: 2 tasks wait for the control lane");
  EXPECT_TRUE(executor.Post(Lane::kEngine, [] {}).ok());
  executor.PostResult(Lane::kControl, [&] { ++ran; });
  gate.Open();
  executor.Drain();
  EXPECT_EQ(ran, 3);
}

TEST(ThreadExecutorTest, TasksKnowTheirLane) {
  ThreadExecutor executor;
  ThreadExecutor other;
  EXPECT_FALSE(executor.RunsOn(Lane::kControl));
  ASSERT_TRUE(executor
                  .Post(Lane::kEngine,
                        [&] {
                          EXPECT_TRUE(executor.RunsOn(Lane::kEngine));
                          EXPECT_FALSE(executor.RunsOn(Lane::kControl));
                          EXPECT_FALSE(other.RunsOn(Lane::kEngine));
                        })
                  .ok());
  executor.Drain();
}

TEST(ThreadExecutorTest, ATimerFiresOnTheControlLaneWhenDue) {
  ThreadExecutor executor;
  std::promise<MonotonicTime> fired;
  const MonotonicTime when{RealClock().MonotonicNow().ns + 2 * kNsPerMs};
  ASSERT_TRUE(executor
                  .PostAt(when,
                          [&] {
                            EXPECT_TRUE(executor.RunsOn(Lane::kControl));
                            fired.set_value(RealClock().MonotonicNow());
                          })
                  .ok());
  EXPECT_GE(fired.get_future().get(), when);
}

TEST(ThreadExecutorTest, AnEarlierTimerIsNotHeldUpByALaterOne) {
  ThreadExecutor executor;
  std::promise<void> fired;
  ASSERT_TRUE(executor.PostAt({INT64_MAX}, [] { ADD_FAILURE(); }).ok());
  ASSERT_TRUE(executor.PostAt({RealClock().MonotonicNow().ns + kNsPerMs}, [&] { fired.set_value(); }).ok());
  fired.get_future().wait();
}

TEST(ThreadExecutorTest, DrainDoesNotWaitForTimersThatAreNotDue) {
  test::SimClock clock;
  ThreadExecutor executor({}, clock);
  std::atomic<bool> ran{false};
  ASSERT_TRUE(executor.PostAt({100}, [&] { ran = true; }).ok());
  executor.Drain();
  EXPECT_FALSE(ran);
  clock.Advance(100);
  ASSERT_TRUE(executor.Post(Lane::kControl, [] {}).ok());
  executor.Drain();
  EXPECT_TRUE(ran);
}

TEST(ThreadExecutorTest, CancelOnTheControlLaneIsFinal) {
  ThreadExecutor executor;
  bool cancelled = false;
  ASSERT_TRUE(executor
                  .Post(Lane::kControl,
                        [&] {
                          const auto due = executor.PostAt({0}, [] { ADD_FAILURE(); });
                          cancelled = executor.Cancel(*due);
                          EXPECT_FALSE(executor.Cancel(*due));
                        })
                  .ok());
  executor.Drain();
  EXPECT_TRUE(cancelled);
}

TEST(ThreadExecutorTest, CancelAfterTheRunIsFalse) {
  ThreadExecutor executor;
  const auto timer = executor.PostAt({0}, [] {});
  ASSERT_TRUE(timer.ok());
  executor.Drain();
  EXPECT_FALSE(executor.Cancel(*timer));
}

TEST(ThreadExecutorTest, TooManyTimersAreRefused) {
  ThreadExecutor executor({.timers_max = 1});
  const auto first = executor.PostAt({INT64_MAX}, [] {});
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(executor.PostAt({INT64_MAX}, [] {}).status()));
  EXPECT_TRUE(executor.Cancel(*first));
  EXPECT_TRUE(executor.PostAt({INT64_MAX}, [] {}).ok());
}

TEST(ThreadExecutorTest, ShutdownRunsWhatIsQueuedAndItsResultsAndNothingNew) {
  ThreadExecutor executor;
  std::vector<int> log;
  ASSERT_TRUE(executor.PostAt({INT64_MAX}, [&] { log.push_back(-1); }).ok());
  Gate gate;
  ASSERT_TRUE(executor.Post(Lane::kEngine, gate.Block()).ok());
  ASSERT_TRUE(executor
                  .Post(Lane::kEngine,
                        [&] {
                          log.push_back(1);
                          EXPECT_TRUE(absl::IsUnavailable(executor.Post(Lane::kControl, [] {})));
                          EXPECT_TRUE(absl::IsUnavailable(executor.PostAt({0}, [] {}).status()));
                          executor.PostResult(Lane::kControl, [&] { log.push_back(2); });
                        })
                  .ok());
  gate.WaitUntilEntered();
  std::thread stopper([&] { executor.Shutdown(); });
  while (executor.Post(Lane::kControl, [] {}).ok()) std::this_thread::yield();  // until shutdown has begun
  gate.Open();
  stopper.join();
  EXPECT_THAT(log, ElementsAre(1, 2));
  executor.PostResult(Lane::kControl, [&] { log.push_back(3); });
  executor.Shutdown();
  EXPECT_THAT(log, ElementsAre(1, 2));
}

TEST(ThreadExecutorTest, WhatADroppedTimerOwnsMayCallTheExecutor) {
  struct Owner {
    explicit Owner(Executor& e) : executor(e) {}
    ~Owner() {
      EXPECT_FALSE(executor.Post(Lane::kControl, [] {}).ok());
    }
    Executor& executor;
  };
  ThreadExecutor executor;
  auto owner = std::make_unique<Owner>(executor);
  ASSERT_TRUE(executor.PostAt({INT64_MAX}, [o = std::move(owner)] {}).ok());
  executor.Shutdown();
}

TEST(ThreadExecutorDeathTest, DrainInATaskIsAProgrammersError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ThreadExecutor executor;
        executor.Post(Lane::kControl, [&] { executor.Drain(); }).IgnoreError();
        executor.Drain();
      },
      "CHECK failed");
}

}  // namespace
}  // namespace holdfast::base
