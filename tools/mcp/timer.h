// A deadline on the control lane that its owner can drop.
#pragma once

#include <memory>
#include <utility>

#include "base/executor.h"

namespace holdfast::tools::mcp {

// Used and destroyed on the control lane, or when the executor runs nothing any more.
class Timer {
 public:
  Timer() = default;
  ~Timer() { Cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Runs `task` at `when`, instead of what was set before. When the executor has no timer to give, the
  // deadline counts as reached: nothing waits without one.
  void Set(base::Executor& executor, base::MonotonicTime when, base::Task task) {
    Cancel();
    executor_ = &executor;
    // Shared with what was posted, which finds it gone after Cancel, and keeps it while it runs.
    task_ = std::make_shared<base::Task>(std::move(task));
    const auto run = [weak = std::weak_ptr(task_)] {
      if (const auto alive = weak.lock()) (*alive)();
    };
    auto timer = executor.PostAt(when, run);
    if (timer.ok()) {
      timer_ = *timer;
    } else {
      executor.PostResult(base::Lane::kControl, run);
    }
  }

  void Cancel() {
    if (task_ == nullptr) return;
    task_.reset();
    executor_->Cancel(timer_);
    timer_ = base::TimerId{0};
  }

 private:
  base::Executor* executor_ = nullptr;
  base::TimerId timer_{0};
  std::shared_ptr<base::Task> task_;  // shared with what was posted
};

inline base::MonotonicTime Later(base::MonotonicTime from, int64_t ms) {
  return {from.ns > INT64_MAX - ms * base::kNsPerMs ? INT64_MAX : from.ns + ms * base::kNsPerMs};
}

}  // namespace holdfast::tools::mcp
