#include "base/parallel.h"

#include <atomic>
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast::base {
namespace {

constexpr int kThreads[] = {1, 2, 3, 4, 7};
constexpr size_t kTasks[] = {0, 1, 2, 3, 4, 5, 31, 64, 1000};

TEST(ThreadPoolTest, RunsEachTaskOnceOnAThreadInRange) {
  for (const int threads : kThreads) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const size_t tasks : kTasks) {
      std::vector<int> runs(tasks, 0);
      std::atomic<int> bad_threads{0};
      pool.ParallelFor(tasks, [&](size_t task, int thread) {
        ++runs[task];
        if (thread < 0 || thread >= threads) ++bad_threads;
      });
      EXPECT_EQ(runs, std::vector<int>(tasks, 1)) << threads << " threads";
      EXPECT_EQ(bad_threads, 0);
    }
  }
}

TEST(ThreadPoolTest, WritesBeforeALoopAndInItAreSeenByTheNext) {
  ThreadPool pool(3);
  std::vector<uint64_t> values(16, 0);
  uint64_t step = 0;
  for (int loop = 0; loop < 5000; ++loop) {
    ++step;
    std::vector<uint64_t> next(values.size());
    pool.ParallelFor(values.size(), [&](size_t task, int) { next[task] = values[15 - task] + 1; });
    values.swap(next);
    ASSERT_EQ(std::accumulate(values.begin(), values.end(), uint64_t{0}), step * values.size());
  }
}

TEST(ThreadPoolTest, AThreadIndexIsNeverInUseTwiceAtOnce) {
  ThreadPool pool(4);
  std::vector<uint64_t> count(4, 0);  // not atomic: two users at once lose counts, and TSAN sees it
  for (int loop = 0; loop < 1000; ++loop) {
    pool.ParallelFor(8, [&](size_t, int thread) { ++count[static_cast<size_t>(thread)]; });
  }
  EXPECT_EQ(std::accumulate(count.begin(), count.end(), uint64_t{0}), 8000u);
}

TEST(ThreadPoolTest, WorkersTakePartAfterHavingParked) {
  ThreadPool pool(2);
  for (int round = 0; round < 20; ++round) {
    // Each task waits for the other: only two threads at once can end the loop.
    std::atomic<int> arrived{0};
    pool.ParallelFor(2, [&](size_t, int) {
      ++arrived;
      while (arrived.load() < 2) std::this_thread::yield();
    });
    EXPECT_EQ(arrived, 2);
    for (int i = 0; i < 100000; ++i) arrived.fetch_add(1);  // longer than workers spin
  }
}

TEST(ThreadPoolTest, ACallerThatFinishesFirstWaitsForTheOthers) {
  ThreadPool pool(2);
  std::atomic<int> started{0};
  uint64_t slow_result = 0;
  pool.ParallelFor(2, [&](size_t, int thread) {
    ++started;
    while (started.load() < 2) std::this_thread::yield();
    if (thread == 0) return;
    for (int i = 0; i < 2'000'000; ++i) slow_result += started.load();
  });
  EXPECT_EQ(slow_result, 4'000'000u);
}

TEST(ThreadPoolTest, MayMoveFromThreadToThread) {
  ThreadPool pool(2);
  std::atomic<uint64_t> sum{0};
  for (int i = 0; i < 4; ++i) {
    std::thread([&] { pool.ParallelFor(100, [&](size_t task, int) { sum += task; }); }).join();
  }
  EXPECT_EQ(sum, 4u * 4950u);
}

TEST(ThreadPoolTest, PinnedWorkersDoTheSameWork) {
  ThreadPool pool(2, Pinning::kPhysicalCores);
  std::atomic<uint64_t> sum{0};
  pool.ParallelFor(100, [&](size_t task, int) { sum += task; });
  EXPECT_EQ(sum, 4950u);
}

TEST(ThreadPoolTest, TakesAConstFunctionObject) {
  ThreadPool pool(2);
  std::atomic<size_t> calls{0};
  const auto f = [&](size_t, int) { ++calls; };
  pool.ParallelFor(10, f);
  EXPECT_EQ(calls, 10u);
}

TEST(ThreadPoolTest, ManyPoolsComeAndGoWithoutWork) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(1 + i % 4);
}

TEST(ThreadPoolDeathTest, ANestedLoopIsAProgrammersError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ThreadPool pool(1);
  EXPECT_DEATH(pool.ParallelFor(1, [&](size_t, int) { pool.ParallelFor(1, [](size_t, int) {}); }), "busy_");
}

TEST(ThreadPoolDeathTest, NoThreadsIsAProgrammersError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(ThreadPool pool(0), "threads >= 1");
}

}  // namespace
}  // namespace holdfast::base
