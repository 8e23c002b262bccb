#include "tests/support/sim_executor.h"

#include <algorithm>
#include <string>

#include "base/check.h"

namespace holdfast::test {

using base::Lane;
using base::MonotonicTime;
using base::Status;
using base::StatusOr;
using base::Task;
using base::TimerId;

SimExecutor::SimExecutor(SimClock& clock, Options options)
    : clock_(clock), options_(options), random_(options.seed) {}

// What the dropped tasks own may call us while it is destroyed, and then finds everything empty.
SimExecutor::~SimExecutor() {
  closing_ = true;
  base::TimerQueue timers;
  std::swap(timers, timers_);
  for (auto& queue : queues_) std::exchange(queue, {});
}

Status SimExecutor::Post(Lane lane, Task task) {
  auto& queue = queues_[static_cast<size_t>(lane)];
  if (closing_) return absl::UnavailableError("executor: shut down");
  if (queue.size() >= options_.bounds.queued_tasks_max) {
    return base::ResourceExhausted("executor: " + std::to_string(queue.size()) + " tasks wait");
  }
  queue.push_back({.task = std::move(task)});
  return absl::OkStatus();
}

void SimExecutor::PostResult(Lane lane, Task task) {
  if (!closing_) queues_[static_cast<size_t>(lane)].push_back({.task = std::move(task)});
}

StatusOr<TimerId> SimExecutor::PostAt(MonotonicTime when, Task task) {
  if (closing_) return absl::UnavailableError("executor: shut down");
  if (timers_.size() >= options_.bounds.timers_max) {
    return base::ResourceExhausted("executor: " + std::to_string(timers_.size()) + " timers wait");
  }
  return timers_.Add(when, std::move(task));
}

bool SimExecutor::Cancel(TimerId timer) { return timers_.Take(timer).has_value(); }

bool SimExecutor::RunOne(MonotonicTime until) {
  HF_CHECK(!running_);
  for (;;) {
    QueueDueTimers();
    if (const auto lane = PickLane()) {
      RunFront(*lane);
      return true;
    }
    const auto due = timers_.NextDue();
    if (!due || *due > until) return false;
    clock_.Advance(due->ns - clock_.MonotonicNow().ns);
  }
}

void SimExecutor::RunFor(int64_t ns) {
  const MonotonicTime end{clock_.MonotonicNow().ns + ns};
  while (clock_.MonotonicNow() <= end && RunOne(end)) {
  }
  clock_.Advance(std::max<int64_t>(0, end.ns - clock_.MonotonicNow().ns));
}

bool SimExecutor::RunUntil(const std::function<bool()>& done, size_t tasks_max) {
  for (size_t i = 0; i < tasks_max; ++i) {
    if (done()) return true;
    if (!RunOne()) break;
  }
  return done();
}

void SimExecutor::QueueDueTimers() {
  auto& queue = queues_[static_cast<size_t>(Lane::kControl)];
  while (const auto timer = timers_.PopDue(clock_.MonotonicNow())) queue.push_back({.timer = *timer});
}

// A lane that has tasks, none when all are idle.
std::optional<Lane> SimExecutor::PickLane() {
  Lane ready[base::kLaneCount];
  size_t count = 0;
  for (const Lane lane : base::kLanes) {
    if (!queues_[static_cast<size_t>(lane)].empty()) ready[count++] = lane;
  }
  if (count == 0) return std::nullopt;
  return ready[random_.Below(count)];
}

void SimExecutor::RunFront(Lane lane) {
  auto& queue = queues_[static_cast<size_t>(lane)];
  Entry entry = std::move(queue.front());
  queue.pop_front();
  if (entry.timer != TimerId{0}) {
    std::optional<Task> task = timers_.Take(entry.timer);
    if (!task) return;  // cancelled
    entry.task = std::move(*task);
  }
  if (options_.task_ns_max > 0) clock_.Advance(random_.Between(0, options_.task_ns_max));
  running_ = lane;
  entry.task();
  entry.task = nullptr;
  running_.reset();
  ++tasks_run_;
}

}  // namespace holdfast::test
