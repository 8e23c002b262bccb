// What happened. What the command did is data here; what the host could not do is an error Status instead.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sandbox/output.h"

namespace holdfast::sandbox {

// Properties that can be in force, a bit each (1 << value).
enum class Layer : uint32_t {
  kUserNamespace,
  kMountNamespace,
  kPidNamespace,     // of the session
  kJobPidNamespace,  // of the command, nested in it
  kNetNamespace,
  kIpcNamespace,
  kUtsNamespace,
  kCgroupNamespace,
  kNoCapabilities,
  kSecurebits,
  kNoNewPrivileges,
  kSeccomp,
  kLandlock,
  kNonZeroUid,  // outside, even for root
  kMinimalRoot,
  kPrivateProc,
  kOverlay,
  kNoNestedUserNamespaces,
  kMemoryCgroup,  // memory of all processes together, by the kernel
  kPidsCgroup,
  kMemoryWatchdog,  // the same measured every 50 ms, where there is no group
  kProcessRlimit,   // counted for the session
  kDiskWatchdog,
  kCpuWatchdog,
  kEnd,
};

using LayerSet = uint32_t;
constexpr LayerSet Bit(Layer layer) { return LayerSet{1} << static_cast<uint32_t>(layer); }
constexpr bool Has(LayerSet set, Layer layer) { return (set & Bit(layer)) != 0; }

inline constexpr LayerSet kRequiredLayers =
    Bit(Layer::kUserNamespace) | Bit(Layer::kMountNamespace) | Bit(Layer::kPidNamespace) |
    Bit(Layer::kJobPidNamespace) | Bit(Layer::kIpcNamespace) | Bit(Layer::kUtsNamespace) |
    Bit(Layer::kNoCapabilities) | Bit(Layer::kSecurebits) | Bit(Layer::kNoNewPrivileges) |
    Bit(Layer::kSeccomp) | Bit(Layer::kNonZeroUid) | Bit(Layer::kMinimalRoot) | Bit(Layer::kPrivateProc);

// What Backend::kBubblewrap can give of them: it leaves no capability to lock securebits with.
inline constexpr LayerSet kRequiredLayersOfBubblewrap = kRequiredLayers & ~Bit(Layer::kSecurebits);

// "user namespace", "seccomp", ...
std::string_view LayerName(Layer layer);
// The names of a set, ascending.
std::vector<std::string_view> LayerNames(LayerSet set);

enum class Ending {
  kExited,      // exit_code
  kSignalled,   // signal
  kLimit,       // limit; the command and all it started were ended
  kKilled,      // by Job::Kill
  kSessionEnd,  // with its session
  kNotStarted,  // the command's own fault: start_error (not found, not executable, no such directory, ...)
};
std::string_view EndingName(Ending ending);

enum class LimitKind {
  kNone,
  kWallTime,
  kCpuTime,
  kIdleTime,
  kMemory,
  kMachineMemory,  // the machine was about to run out, and this was the largest
  kProcesses,
  kFileSize,
  kDisk,
  kInodes,
  kOutput,
};
std::string_view LimitName(LimitKind kind);

struct Usage {
  uint64_t wall_ms = 0;
  uint64_t cpu_ms = 0;
  uint64_t memory_peak_bytes = 0;
};

struct Outcome {
  Ending ending = Ending::kExited;
  int exit_code = 0;
  int signal = 0;
  LimitKind limit = LimitKind::kNone;
  std::string start_error;
  bool stopped = false;                // the command stopped itself, or was, at some time
  bool process_limit_reached = false;  // a fork was refused
  bool unkillable = false;             // the kernel still holds a process, in a state that no signal ends
  Usage usage;
  CapturedOutput output;
  CapturedOutput error_output;  // ErrorStream::kSeparate only
  LayerSet layers = 0;          // in force for this command

  bool ok() const { return ending == Ending::kExited && exit_code == 0; }
};

// One line without times, pids and sizes that differ from run to run: "exit 0", "killed by signal 9
// (Killed)", "stopped by the limit on memory", "not started: make: command not found".
std::string Describe(const Outcome& outcome);

}  // namespace holdfast::sandbox
