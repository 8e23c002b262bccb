#include "base/clock.h"

#include <ctime>

#include "gtest/gtest.h"

namespace holdfast::base {
namespace {

TEST(ClockTest, MonotonicTimeNeverGoesBack) {
  MonotonicTime last = RealClock().MonotonicNow();
  for (int i = 0; i < 10'000; ++i) {
    const MonotonicTime now = RealClock().MonotonicNow();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(ClockTest, UtcCountsFromTheEpoch) {
  const int64_t before_s = std::time(nullptr) - 1;  // time() may lag by a tick
  const UtcTime now = RealClock().UtcNow();
  EXPECT_GE(now.ns, before_s * kNsPerSecond);
  EXPECT_LE(now.ns, (before_s + 60) * kNsPerSecond);
}

}  // namespace
}  // namespace holdfast::base
