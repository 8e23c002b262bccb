#include "base/clock.h"

#include <ctime>

#include "base/check.h"

namespace holdfast::base {
namespace {

int64_t NowNs(clockid_t id) {
  timespec t;
  HF_CHECK(clock_gettime(id, &t) == 0);
  return int64_t{t.tv_sec} * kNsPerSecond + t.tv_nsec;
}

class SystemClock final : public Clock {
 public:
  UtcTime UtcNow() override { return {NowNs(CLOCK_REALTIME)}; }
  MonotonicTime MonotonicNow() override { return {NowNs(CLOCK_MONOTONIC)}; }
};

}  // namespace

Clock& RealClock() {
  static SystemClock& clock = *new SystemClock;
  return clock;
}

}  // namespace holdfast::base
