// Waiting on the control lane for something that happens elsewhere, for so long and no longer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"

namespace holdfast::agent {

class Latch;

// Shared by the timer and by those who arrive: each may be the last.
using SharedLatch = std::shared_ptr<Latch>;

class Latch : public std::enable_shared_from_this<Latch> {
 public:
  using Then = absl::AnyInvocable<void(bool in_time)>;

  // `then` is called once, by a task of the control lane: after `count` arrivals, or after `ms` without them.
  // Too many timers, or an executor that shuts down, count as too late.
  static SharedLatch Start(base::Executor& executor, base::Clock& clock, size_t count, int64_t ms, Then then);

  // Any thread.
  void Arrive();

 private:
  Latch(base::Executor& executor, size_t count, Then then);
  void End(bool in_time);

  base::Executor& executor_;
  // Control lane only.
  size_t left_;
  Then then_;
  std::optional<base::TimerId> timer_;
};

}  // namespace holdfast::agent
