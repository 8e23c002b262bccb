#include "sandbox/outcome.h"

#include <cstring>

namespace holdfast::sandbox {
namespace {

constexpr std::string_view kLayerNames[] = {"user namespace",
                                            "mount namespace",
                                            "pid namespace",
                                            "pid namespace of the job",
                                            "network namespace",
                                            "ipc namespace",
                                            "uts namespace",
                                            "cgroup namespace",
                                            "no capabilities",
                                            "locked securebits",
                                            "no_new_privs",
                                            "seccomp",
                                            "landlock",
                                            "non-zero host uid",
                                            "minimal root",
                                            "private /proc",
                                            "overlay workspace",
                                            "no nested user namespaces",
                                            "memory control group",
                                            "pids control group",
                                            "memory watchdog",
                                            "process rlimit",
                                            "disk watchdog",
                                            "cpu watchdog"};
static_assert(std::size(kLayerNames) == static_cast<size_t>(Layer::kEnd));

}  // namespace

std::string_view LayerName(Layer layer) { return kLayerNames[static_cast<size_t>(layer)]; }

std::vector<std::string_view> LayerNames(LayerSet set) {
  std::vector<std::string_view> names;
  for (uint32_t i = 0; i < static_cast<uint32_t>(Layer::kEnd); ++i) {
    if (Has(set, static_cast<Layer>(i))) names.push_back(kLayerNames[i]);
  }
  return names;
}

std::string_view EndingName(Ending ending) {
  switch (ending) {
    case Ending::kExited:
      return "exited";
    case Ending::kSignalled:
      return "signalled";
    case Ending::kLimit:
      return "limit";
    case Ending::kKilled:
      return "killed";
    case Ending::kSessionEnd:
      return "session ended";
    case Ending::kNotStarted:
      return "not started";
  }
  return "unknown";
}

std::string_view LimitName(LimitKind kind) {
  switch (kind) {
    case LimitKind::kNone:
      return "none";
    case LimitKind::kWallTime:
      return "wall time";
    case LimitKind::kCpuTime:
      return "CPU time";
    case LimitKind::kIdleTime:
      return "time without output";
    case LimitKind::kMemory:
      return "memory";
    case LimitKind::kMachineMemory:
      return "the machine's memory";
    case LimitKind::kProcesses:
      return "processes";
    case LimitKind::kFileSize:
      return "file size";
    case LimitKind::kDisk:
      return "disk space";
    case LimitKind::kInodes:
      return "number of files";
    case LimitKind::kOutput:
      return "output";
  }
  return "unknown";
}

std::string Describe(const Outcome& outcome) {
  switch (outcome.ending) {
    case Ending::kExited:
      return "exit " + std::to_string(outcome.exit_code);
    case Ending::kSignalled:
      return "killed by signal " + std::to_string(outcome.signal) + " (" + strsignal(outcome.signal) + ")";
    case Ending::kLimit:
      return "stopped by the limit on " + std::string(LimitName(outcome.limit));
    case Ending::kKilled:
      return "killed on request";
    case Ending::kSessionEnd:
      return "ended with its session";
    case Ending::kNotStarted:
      return "not started: " + outcome.start_error;
  }
  return "unknown";
}

}  // namespace holdfast::sandbox
