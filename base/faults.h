// Fault points: named places where a test can stop the world.
//
//   HF_FAULT_POINT("store.segment.before_sync");
//
// Unarmed, a point costs one load of a flag. Armed by the environment, it kills the process (kill -9) when it
// is hit for the N-th time; armed by a test, it calls the test. Names are literals, `folder.unit.moment`.
#pragma once

#include <atomic>
#include <string_view>

#include "base/status.h"

namespace holdfast::base {

// The variable ArmFaultPointFromEnvironment reads.
inline constexpr char kFaultPointVariable[] = "HOLDFAST_FAULT_POINT";

// Reads HOLDFAST_FAULT_POINT = "name" or "name:N" (N >= 1, 1 when absent): the N-th hit of `name` ends the
// process with SIGKILL. Unset does nothing; malformed is InvalidArgument. Called once by main, before
// threads.
Status ArmFaultPointFromEnvironment();

using FaultHandler = void (*)(void* context, std::string_view name);

// Calls `handler` at every hit of every point, on the thread that hits, while it lives. One at a time; the
// handler must bear calls from any thread.
class ScopedFaultHandler {
 public:
  ScopedFaultHandler(FaultHandler handler, void* context);
  ~ScopedFaultHandler();
  ScopedFaultHandler(const ScopedFaultHandler&) = delete;
  ScopedFaultHandler& operator=(const ScopedFaultHandler&) = delete;
};

namespace internal {
extern constinit std::atomic<bool> fault_points_armed;
void HitFaultPoint(std::string_view name);
}  // namespace internal

}  // namespace holdfast::base

#define HF_FAULT_POINT(name)                                                              \
  do {                                                                                    \
    if (::holdfast::base::internal::fault_points_armed.load(std::memory_order_relaxed)) { \
      ::holdfast::base::internal::HitFaultPoint(name);                                    \
    }                                                                                     \
  } while (false)
