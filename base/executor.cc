#include "base/executor.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "base/check.h"

namespace holdfast::base {
namespace {

// What the current thread is running, so that tasks can be told from outsiders.
thread_local const ThreadExecutor* current_executor = nullptr;
thread_local Lane current_lane = Lane::kControl;

// Waits are cut to this, so that a far-away due time does not overflow the arithmetic of the wait.
constexpr int64_t kWaitMaxNs = 3600 * kNsPerSecond;

constexpr const char* kLaneNames[kLaneCount] = {"control", "engine", "storage", "tools"};

const char* NameOf(Lane lane) { return kLaneNames[static_cast<size_t>(lane)]; }

Status ShutDownError() { return absl::UnavailableError("executor: shut down"); }

}  // namespace

TimerId TimerQueue::Add(MonotonicTime when, Task task) {
  const TimerId id{next_id_++};
  timers_.emplace(id, Timer{when, std::move(task)});
  waiting_.emplace(when, id);
  return id;
}

std::optional<Task> TimerQueue::Take(TimerId timer) {
  const auto it = timers_.find(timer);
  if (it == timers_.end()) return std::nullopt;
  std::optional<Task> task(std::move(it->second.task));
  waiting_.erase({it->second.when, timer});
  timers_.erase(it);
  return task;
}

std::optional<MonotonicTime> TimerQueue::NextDue() const {
  return waiting_.empty() ? std::nullopt : std::optional(waiting_.begin()->first);
}

std::optional<TimerId> TimerQueue::PopDue(MonotonicTime now) {
  if (waiting_.empty() || waiting_.begin()->first > now) return std::nullopt;
  return waiting_.extract(waiting_.begin()).value().second;
}

void TimerQueue::Clear() {
  waiting_.clear();
  timers_.clear();
}

ThreadExecutor::ThreadExecutor(ExecutorOptions options, Clock& clock) : options_(options), clock_(clock) {
  for (const Lane lane : kLanes) StateOf(lane).thread = std::thread([this, lane] { LaneMain(lane); });
}

ThreadExecutor::~ThreadExecutor() { Shutdown(); }

Status ThreadExecutor::Post(Lane lane, Task task) {
  const std::lock_guard<std::mutex> lock(mu_);
  LaneState& state = StateOf(lane);
  if (closing_) return ShutDownError();
  if (state.queue.size() >= options_.queued_tasks_max) {
    return ResourceExhausted("executor: " + std::to_string(state.queue.size()) + " tasks wait for the " +
                             NameOf(lane) + " lane");
  }
  state.queue.push_back({.task = std::move(task)});
  state.wake.notify_one();
  return absl::OkStatus();
}

void ThreadExecutor::PostResult(Lane lane, Task task) {
  const std::lock_guard<std::mutex> lock(mu_);
  if (stopped_) return;
  LaneState& state = StateOf(lane);
  state.queue.push_back({.task = std::move(task)});
  state.wake.notify_one();
}

StatusOr<TimerId> ThreadExecutor::PostAt(MonotonicTime when, Task task) {
  const std::lock_guard<std::mutex> lock(mu_);
  if (closing_) return ShutDownError();
  if (timers_.size() >= options_.timers_max) {
    return ResourceExhausted("executor: " + std::to_string(timers_.size()) + " timers wait");
  }
  const TimerId id = timers_.Add(when, std::move(task));
  StateOf(Lane::kControl).wake.notify_one();
  return id;
}

bool ThreadExecutor::Cancel(TimerId timer) {
  std::unique_lock<std::mutex> lock(mu_);
  const std::optional<Task> task = timers_.Take(timer);
  lock.unlock();  // the task is destroyed outside: what it owns may call us
  return task.has_value();
}

bool ThreadExecutor::RunsOn(Lane lane) const { return current_executor == this && current_lane == lane; }

void ThreadExecutor::Drain() {
  std::unique_lock<std::mutex> lock(mu_);
  DrainLocked(lock);
}

void ThreadExecutor::Shutdown() {
  TimerQueue dropped;
  std::unique_lock<std::mutex> lock(mu_);
  if (closing_) return;
  closing_ = true;
  std::swap(dropped, timers_);
  DrainLocked(lock);
  stopped_ = true;
  for (LaneState& state : lanes_) state.wake.notify_one();
  lock.unlock();
  for (LaneState& state : lanes_) state.thread.join();
}

void ThreadExecutor::DrainLocked(std::unique_lock<std::mutex>& lock) {
  HF_CHECK(current_executor != this);
  idle_.wait(lock, [this] { return Idle(); });
}

bool ThreadExecutor::Idle() const {
  const bool lanes_idle = std::all_of(std::begin(lanes_), std::end(lanes_),
                                      [](const LaneState& s) { return s.queue.empty() && !s.running; });
  const auto due = timers_.NextDue();
  return lanes_idle && (!due || *due > clock_.MonotonicNow());
}

void ThreadExecutor::LaneMain(Lane lane) {
  current_executor = this;
  current_lane = lane;
  std::unique_lock<std::mutex> lock(mu_);
  while (WaitForEntry(lane, lock)) RunFront(StateOf(lane), lock);
}

// False when the executor has stopped.
bool ThreadExecutor::WaitForEntry(Lane lane, std::unique_lock<std::mutex>& lock) {
  LaneState& state = StateOf(lane);
  for (;;) {
    if (lane == Lane::kControl) QueueDueTimers();
    if (!state.queue.empty()) return true;
    if (stopped_) return false;
    if (Idle()) idle_.notify_all();
    const auto due = lane == Lane::kControl ? timers_.NextDue() : std::nullopt;
    if (!due) {
      state.wake.wait(lock);
    } else {
      const int64_t now_ns = clock_.MonotonicNow().ns;
      const int64_t wait_ns = due->ns <= now_ns ? 0 : std::min(due->ns - now_ns, kWaitMaxNs);
      state.wake.wait_for(lock, std::chrono::nanoseconds(wait_ns));
    }
  }
}

// Due timers line up behind what was posted before they came due.
void ThreadExecutor::QueueDueTimers() {
  const MonotonicTime now = clock_.MonotonicNow();
  while (const auto timer = timers_.PopDue(now)) StateOf(Lane::kControl).queue.push_back({.timer = *timer});
}

void ThreadExecutor::RunFront(LaneState& state, std::unique_lock<std::mutex>& lock) {
  Entry entry = std::move(state.queue.front());
  state.queue.pop_front();
  if (entry.timer != TimerId{0}) {
    std::optional<Task> task = timers_.Take(entry.timer);
    if (!task) return;  // cancelled
    entry.task = std::move(*task);
  }
  state.running = true;
  lock.unlock();
  entry.task();
  entry.task = nullptr;  // what it owns goes before the lane counts as idle
  lock.lock();
  state.running = false;
}

}  // namespace holdfast::base
