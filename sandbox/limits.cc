#include "sandbox/limits.h"

#include <string>

namespace holdfast::sandbox {
namespace {

struct Bound {
  const char* name;
  uint64_t Limits::*value;
  uint64_t least;
  uint64_t most;
  bool may_be_none;
};

constexpr uint64_t kYearMs = uint64_t{366} * 24 * 3600 * 1000;

constexpr Bound kBounds[] = {
    {"wall_ms", &Limits::wall_ms, 1, kYearMs, true},
    {"idle_ms", &Limits::idle_ms, 1, kYearMs, true},
    {"cpu_ms", &Limits::cpu_ms, 1, kYearMs, true},
    {"memory_bytes", &Limits::memory_bytes, 4 * kMiB, uint64_t{1} << 48, false},
    {"processes", &Limits::processes, 2, 1 << 20, false},
    {"open_files", &Limits::open_files, 8, 1 << 20, false},
    {"file_bytes", &Limits::file_bytes, 1, uint64_t{1} << 60, false},
    {"disk_bytes", &Limits::disk_bytes, 1, uint64_t{1} << 60, false},
    {"disk_inodes", &Limits::disk_inodes, 1, uint64_t{1} << 40, false},
    {"output_bytes", &Limits::output_bytes, 1, uint64_t{1} << 60, false},
    {"kill_grace_ms", &Limits::kill_grace_ms, 0, 60'000, true},
};

}  // namespace

base::Status Validate(const Limits& limits) {
  for (const Bound& bound : kBounds) {
    const uint64_t value = limits.*bound.value;
    if (value == 0 && bound.may_be_none) continue;
    if (value < bound.least || value > bound.most) {
      return base::InvalidArgument(std::string("limits: ") + bound.name + " is " + std::to_string(value) +
                                   ", must be " + std::to_string(bound.least) + " to " +
                                   std::to_string(bound.most));
    }
  }
  return absl::OkStatus();
}

base::Status CheckWithin(const Limits& limits, const Limits& most) {
  for (const Bound& bound : kBounds) {
    const uint64_t value = limits.*bound.value;
    const uint64_t allowed = most.*bound.value;
    const bool no_bound_asked = value == 0 && bound.value != &Limits::kill_grace_ms;
    if (allowed == 0 && bound.value != &Limits::kill_grace_ms) continue;
    if (no_bound_asked || value > allowed) {
      return base::InvalidArgument(std::string("limits: ") + bound.name + " " +
                                   (no_bound_asked ? "none" : std::to_string(value)) +
                                   " is more than the policy's " + std::to_string(allowed));
    }
  }
  return absl::OkStatus();
}

}  // namespace holdfast::sandbox
