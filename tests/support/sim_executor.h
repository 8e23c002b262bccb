// All lanes of an Executor on one thread, in seeded order, in virtual time.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <utility>

#include "base/executor.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"

namespace holdfast::test {

// Tasks run only inside the Run... calls. Order inside a lane is kept; which lane goes next is the seed's
// choice, as is the time a task takes, up to `task_ns_max`. Destroying it is a crash: tasks and timers are
// dropped. One thread at a time.
class SimExecutor final : public base::Executor {
 public:
  struct Options {
    uint64_t seed = 1;
    int64_t task_ns_max = 100 * base::kNsPerUs;
    base::ExecutorOptions bounds;
  };

  SimExecutor(SimClock& clock, Options options);
  ~SimExecutor() override;

  base::Status Post(base::Lane lane, base::Task task) override;
  void PostResult(base::Lane lane, base::Task task) override;
  base::StatusOr<base::TimerId> PostAt(base::MonotonicTime when, base::Task task) override;
  bool Cancel(base::TimerId timer) override;
  bool RunsOn(base::Lane lane) const override { return running_ == lane; }

  // Runs one task. When none is queued, time first goes on to the next timer, but not beyond `until`. False
  // when there was nothing to run.
  bool RunOne(base::MonotonicTime until = {INT64_MAX});

  // Runs what is queued or due, without letting time go on but for what the tasks take.
  void RunUntilIdle() {
    while (RunOne(clock_.MonotonicNow())) {
    }
  }

  // Runs everything due within the next `ns`, then moves the clock to the end of them.
  void RunFor(int64_t ns);

  // Runs until `done()`; false when nothing is left to run or `tasks_max` tasks were not enough.
  bool RunUntil(const std::function<bool()>& done, size_t tasks_max = 1'000'000);

  size_t tasks_run() const { return tasks_run_; }

 private:
  struct Entry {
    base::Task task;
    base::TimerId timer{0};
  };

  void QueueDueTimers();
  std::optional<base::Lane> PickLane();
  void RunFront(base::Lane lane);

  SimClock& clock_;
  const Options options_;
  SeededRandom random_;
  std::deque<Entry> queues_[base::kLaneCount];
  base::TimerQueue timers_;
  std::optional<base::Lane> running_;
  bool closing_ = false;
  size_t tasks_run_ = 0;
};

}  // namespace holdfast::test
