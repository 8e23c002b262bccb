// Task execution: the only door to threads for control logic. A state machine gets an Executor through its
// constructor and never starts a thread; production gives it a ThreadExecutor, the simulator one that runs
// all lanes on one thread in seeded order (tests/support/sim_executor.h). Compute loops inside an engine task
// use base/parallel.h. Decision: docs/adr/0001-executor.md.
//
// A lane runs its tasks one at a time, in the order they were posted; each task sees what the ones before it
// wrote. Lanes run at once. A task must not wait for another task, and a task of the control lane must
// not block at all.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/status.h"

namespace holdfast::base {

using Task = absl::AnyInvocable<void()>;

enum class Lane {
  kControl,  // sessions, scheduler, store, agent loop; timers fire here
  kEngine,   // owns the model backend
  kStorage,  // work that waits for the runtime's own disk: writes, fsync
  kTools,    // file tools: work on the user's tree, whose file system may hang without holding up a commit
};
inline constexpr Lane kLanes[] = {Lane::kControl, Lane::kEngine, Lane::kStorage, Lane::kTools};
inline constexpr size_t kLaneCount = std::size(kLanes);

enum class TimerId : uint64_t {};

// All methods may be called from any thread, tasks included, and never block. A task that is refused or
// cancelled is destroyed without being run.
class Executor {
 public:
  virtual ~Executor() = default;

  // Runs `task` on `lane`: for new work. ResourceExhausted when the lane has as many tasks waiting as its
  // bound allows (the caller turns work away, or tries again later); Unavailable after shutdown has begun.
  virtual Status Post(Lane lane, Task task) = 0;

  // As Post, but never refused for want of room: for the next step or the result of work that was admitted,
  // which must not get lost. The caller bounds how many there can be. Dropped once the executor has shut
  // down.
  virtual void PostResult(Lane lane, Task task) = 0;

  // Runs `task` on the control lane once the monotonic clock says `when` or later, after what was due or
  // posted earlier. ResourceExhausted when too many timers wait; Unavailable after shutdown has begun.
  virtual StatusOr<TimerId> PostAt(MonotonicTime when, Task task) = 0;

  // True when the timer's task had not started and now never will; false when it has started, is done, or was
  // cancelled before. Called on the control lane, no task can start meanwhile: after Cancel it will not run.
  virtual bool Cancel(TimerId timer) = 0;

  // Whether the caller is a task of `lane`; for HF_CHECK at the door of a state machine.
  virtual bool RunsOn(Lane lane) const = 0;
};

struct ExecutorOptions {
  size_t queued_tasks_max = 65'536;  // of each lane, for Post
  size_t timers_max = 65'536;
};

// Timers in order of (due time, id), shared by all executors. Not thread-safe; the user locks.
class TimerQueue {
 public:
  TimerId Add(MonotonicTime when, Task task);

  // The task of a timer that was neither taken nor cancelled; removes it.
  std::optional<Task> Take(TimerId timer);

  // The earliest due time of the timers not yet popped.
  std::optional<MonotonicTime> NextDue() const;

  // The earliest timer if due at `now`. It keeps its task until Take, so that it can still be cancelled.
  std::optional<TimerId> PopDue(MonotonicTime now);

  size_t size() const { return timers_.size(); }
  void Clear();

 private:
  struct Timer {
    MonotonicTime when;
    Task task;
  };
  uint64_t next_id_ = 1;
  std::map<TimerId, Timer> timers_;
  std::set<std::pair<MonotonicTime, TimerId>> waiting_;  // not popped
};

// One thread a lane.
class ThreadExecutor final : public Executor {
 public:
  explicit ThreadExecutor(ExecutorOptions options = {}, Clock& clock = RealClock());
  ~ThreadExecutor() override;  // Shutdown

  Status Post(Lane lane, Task task) override;
  void PostResult(Lane lane, Task task) override;
  StatusOr<TimerId> PostAt(MonotonicTime when, Task task) override;
  bool Cancel(TimerId timer) override;
  bool RunsOn(Lane lane) const override;

  // Blocks until all lanes are idle with nothing queued, what tasks post meanwhile included. Timers that are
  // not due are not waited for. Not to be called by a task.
  void Drain();

  // Refuses new work, destroys waiting timers, runs what is queued and the results that come of it, then
  // stops all lanes. Whoever posts results from threads of its own stops them first. Later calls do nothing.
  // Not to be called by a task.
  void Shutdown();

 private:
  struct Entry {
    Task task;         // empty for a timer
    TimerId timer{0};  // whose task the TimerQueue holds
  };
  struct LaneState {
    std::deque<Entry> queue;
    bool running = false;
    std::thread thread;  // written by the constructor and Shutdown only
    std::condition_variable wake;
  };

  LaneState& StateOf(Lane lane) { return lanes_[static_cast<size_t>(lane)]; }
  void LaneMain(Lane lane);
  bool WaitForEntry(Lane lane, std::unique_lock<std::mutex>& lock);
  void RunFront(LaneState& state, std::unique_lock<std::mutex>& lock);
  void QueueDueTimers();
  bool Idle() const;
  void DrainLocked(std::unique_lock<std::mutex>& lock);

  const ExecutorOptions options_;
  Clock& clock_;

  std::mutex mu_;  // guards all that follows
  std::condition_variable idle_;
  LaneState lanes_[kLaneCount];
  TimerQueue timers_;
  bool closing_ = false;  // no new work
  bool stopped_ = false;  // no work at all
};

}  // namespace holdfast::base
