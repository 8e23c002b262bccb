#include "agent/files/latch.h"

#include <utility>

namespace holdfast::agent {

Latch::Latch(base::Executor& executor, size_t count, Then then)
    : executor_(executor), left_(count), then_(std::move(then)) {}

SharedLatch Latch::Start(base::Executor& executor, base::Clock& clock, size_t count, int64_t ms, Then then) {
  const SharedLatch latch(new Latch(executor, count, std::move(then)));
  if (count == 0) {
    executor.PostResult(base::Lane::kControl, [latch] { latch->End(true); });
    return latch;
  }
  const auto timer = executor.PostAt({clock.MonotonicNow().ns + ms * base::kNsPerMs}, [latch] {
    latch->timer_.reset();
    latch->End(false);
  });
  if (timer.ok()) {
    latch->timer_ = *timer;
  } else {
    executor.PostResult(base::Lane::kControl, [latch] { latch->End(false); });
  }
  return latch;
}

void Latch::Arrive() {
  executor_.PostResult(base::Lane::kControl, [self = shared_from_this()] {
    if (self->left_ > 0 && --self->left_ == 0) self->End(true);
  });
}

void Latch::End(bool in_time) {
  if (!then_) return;
  if (timer_.has_value()) executor_.Cancel(*std::exchange(timer_, std::nullopt));
  std::exchange(then_, nullptr)(in_time);
}

}  // namespace holdfast::agent
