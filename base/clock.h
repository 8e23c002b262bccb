// Time: the only door to the clocks. Whoever needs the time gets a Clock through its constructor; tests give
// it a simulated one (tests/support/sim_clock.h).
#pragma once

#include <compare>
#include <cstdint>

namespace holdfast::base {

// Durations are int64_t with the unit last in the name.
inline constexpr int64_t kNsPerUs = 1'000;
inline constexpr int64_t kNsPerMs = 1'000'000;
inline constexpr int64_t kNsPerSecond = 1'000'000'000;

// Wall-clock time since the Unix epoch. Jumps, both ways, when somebody sets the clock; means the same after
// a restart and on another machine.
struct UtcTime {
  int64_t ns = 0;
  friend constexpr auto operator<=>(const UtcTime&, const UtcTime&) = default;
};

// Time since some moment of this boot; never goes back, stands still while the machine sleeps, means nothing
// after a restart.
struct MonotonicTime {
  int64_t ns = 0;
  friend constexpr auto operator<=>(const MonotonicTime&, const MonotonicTime&) = default;
};

// All methods may be called from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual UtcTime UtcNow() = 0;
  virtual MonotonicTime MonotonicNow() = 0;
};

// The clocks of this machine (CLOCK_REALTIME, CLOCK_MONOTONIC). Lives forever.
Clock& RealClock();

}  // namespace holdfast::base
