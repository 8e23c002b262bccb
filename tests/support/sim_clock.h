// A clock that stands still until it is moved.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/check.h"
#include "base/clock.h"

namespace holdfast::test {

// May be read from any thread, and moved from one.
class SimClock final : public base::Clock {
 public:
  static constexpr int64_t kStartUtcNs = 1'767'225'600 * base::kNsPerSecond;  // 2026-01-01

  base::UtcTime UtcNow() override { return {utc_ns_.load()}; }
  base::MonotonicTime MonotonicNow() override { return {monotonic_ns_.load()}; }

  // Both clocks go on.
  void Advance(int64_t ns) {
    HF_CHECK(ns >= 0);
    utc_ns_ += ns;
    monotonic_ns_ += ns;
  }

  // Somebody sets the wall clock, or the machine slept: only UTC jumps, either way.
  void JumpUtc(int64_t ns) { utc_ns_ += ns; }

  // A reboot: monotonic time starts anew.
  void Reboot() { monotonic_ns_ = 0; }

 private:
  std::atomic<int64_t> utc_ns_{kStartUtcNs};
  std::atomic<int64_t> monotonic_ns_{0};
};

}  // namespace holdfast::test
