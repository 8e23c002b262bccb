#include "sandbox/client/job_message.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>

#include "base/errno.h"

namespace holdfast::sandbox {
namespace {

static_assert(wire::kLayerCpuWatchdog == Bit(Layer::kCpuWatchdog) &&
                  wire::kLayerSeccomp == Bit(Layer::kSeccomp) &&
                  wire::kLayerOverlay == Bit(Layer::kOverlay) &&
                  wire::kLayerMemoryWatchdog == Bit(Layer::kMemoryWatchdog),
              "the two lists of layers are one");

using wire::EndCause;
using wire::MountKind;

LimitKind LimitOf(EndCause cause) {
  switch (cause) {
    case EndCause::kWall:
      return LimitKind::kWallTime;
    case EndCause::kCpu:
      return LimitKind::kCpuTime;
    case EndCause::kIdle:
      return LimitKind::kIdleTime;
    case EndCause::kMemory:
      return LimitKind::kMemory;
    case EndCause::kMachineMemory:
      return LimitKind::kMachineMemory;
    case EndCause::kProcesses:
      return LimitKind::kProcesses;
    case EndCause::kDisk:
      return LimitKind::kDisk;
    case EndCause::kInodes:
      return LimitKind::kInodes;
    case EndCause::kOutput:
      return LimitKind::kOutput;
    default:
      return LimitKind::kNone;
  }
}

// The base set, the policy's, then the command's; the policy's names are not the command's to change.
std::vector<std::string> Environment(const Policy& policy, const Command& command) {
  std::map<std::string, std::string> variables;
  for (const auto& [name, value] : BaseEnvironment(command.terminal.has_value())) variables[name] = value;
  for (const auto& [name, value] : command.environment) variables[name] = value;
  for (const std::string& name : policy.pass_environment) {
    if (const char* value = std::getenv(name.c_str())) variables[name] = value;
  }
  for (const auto& [name, value] : policy.set_environment) variables[name] = value;
  std::vector<std::string> entries;
  for (const auto& [name, value] : variables) entries.push_back(name + "=" + value);
  return entries;
}

bool MakePipe(Descriptor& read_end, Descriptor& write_end) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return false;
  read_end = Descriptor(fds[0]);
  write_end = Descriptor(fds[1]);
  return true;
}

}  // namespace

wire::SessionSpec SessionMessage(const Policy& policy) {
  wire::SessionSpec spec;
  spec.backend =
      policy.backend == Backend::kNamespaces ? wire::Backend::kNamespaces : wire::Backend::kBubblewrap;
  spec.host_network = policy.network == Network::kHost;
  spec.overlay = policy.workspace.mode == WorkspaceMode::kOverlay;
  spec.allow_debugging = policy.debugging == Debugging::kAllowed;
  spec.unix_sockets = policy.unix_sockets == UnixSockets::kAllowed;
  spec.use_cgroups = policy.use_cgroups;
  spec.use_landlock = policy.use_landlock;
  spec.workspace_host = policy.workspace.host;
  spec.workspace_inside = policy.workspace.inside;
  spec.layer = policy.workspace.layer;
  for (const std::string& root : policy.system_roots) {
    spec.mounts.push_back({MountKind::kReadOnly, false, root, root});
  }
  if (spec.host_network) {
    for (const char* path : {"/etc/resolv.conf", "/etc/hosts"}) {
      spec.mounts.push_back({MountKind::kReadOnlyFollow, false, path, path});
    }
  }
  for (const ExtraMount& mount : policy.mounts) {
    const MountKind kind =
        mount.access == Access::kReadOnly ? MountKind::kReadOnlyFollow : MountKind::kReadWrite;
    spec.mounts.push_back({kind, mount.required, mount.host, mount.inside});
  }
  if (!spec.overlay) {
    for (const std::string& path : policy.protected_paths) {
      spec.mounts.push_back({MountKind::kMask, false, path, policy.workspace.inside + "/" + path});
    }
  }
  spec.tmp_bytes = policy.tmp_bytes;
  spec.tmp_inodes = policy.tmp_inodes;
  spec.shm_bytes = policy.shm_bytes;
  spec.home_bytes = policy.home_bytes;
  spec.required_layers = policy.required_layers;
  spec.setup_ms = static_cast<uint32_t>(policy.setup_ms_max);
  return spec;
}

wire::JobSpec JobMessage(const Policy& policy, uint64_t session, const Command& command,
                         const JobRecord& job) {
  wire::JobSpec spec;
  spec.session = session;
  spec.argv = command.argv;
  spec.environment = Environment(policy, command);
  spec.directory = job.directory;
  spec.terminal = command.terminal.has_value();
  if (spec.terminal) {
    spec.rows = command.terminal->rows;
    spec.columns = command.terminal->columns;
  }
  const Limits& limits = job.limits;
  spec.limits = {.wall_ms = limits.wall_ms,
                 .cpu_ms = limits.cpu_ms,
                 .memory_bytes = limits.memory_bytes,
                 .processes = limits.processes,
                 .open_files = limits.open_files,
                 .file_bytes = limits.file_bytes,
                 .disk_bytes = limits.disk_bytes,
                 .disk_inodes = limits.disk_inodes,
                 .kill_grace_ms = limits.kill_grace_ms};
  return spec;
}

Outcome OutcomeOf(const wire::JobEnd& end, const Limits& limits) {
  Outcome outcome;
  outcome.stopped = end.stopped;
  outcome.process_limit_reached = end.process_limit_reached;
  outcome.unkillable = end.unkillable;
  outcome.layers = end.layers;
  outcome.usage = {
      .wall_ms = end.wall_us / 1000, .cpu_ms = end.cpu_us / 1000, .memory_peak_bytes = end.peak_memory_bytes};
  if (end.has_status && WIFEXITED(end.wait_status)) outcome.exit_code = WEXITSTATUS(end.wait_status);
  if (end.has_status && WIFSIGNALED(end.wait_status)) outcome.signal = WTERMSIG(end.wait_status);
  if (outcome.signal != 0) outcome.ending = Ending::kSignalled;
  if (!end.has_status) {
    outcome.ending = Ending::kSignalled;
    outcome.signal = SIGKILL;
  }
  if (end.cause == EndCause::kCaller) {
    outcome.ending = Ending::kKilled;
  } else if (end.cause == EndCause::kSession) {
    outcome.ending = Ending::kSessionEnd;
  } else if (end.cause != EndCause::kNone) {
    outcome.ending = Ending::kLimit;
    outcome.limit = LimitOf(end.cause);
  } else if (outcome.signal == SIGXFSZ) {
    outcome.ending = Ending::kLimit;
    outcome.limit = LimitKind::kFileSize;
  } else if (outcome.signal == SIGXCPU ||
             (outcome.signal == SIGKILL && limits.cpu_ms != 0 && end.cpu_us >= limits.cpu_ms * 1000)) {
    outcome.ending = Ending::kLimit;
    outcome.limit = LimitKind::kCpuTime;
  }
  return outcome;
}

base::Status JobPipes::Make(const Command& command, JobRecord& job) {
  if (command.terminal.has_value()) return absl::OkStatus();
  bool good = MakePipe(input_, job.input) && MakePipe(job.output.fd, output_);
  if (good && command.error_stream == ErrorStream::kSeparate) good = MakePipe(job.error.fd, error_);
  if (!good) return base::ErrnoStatus(errno, "sandbox: pipe");
  for (const Descriptor* near : {&job.input, &job.output.fd, &job.error.fd}) {
    if (near->valid()) fcntl(near->get(), F_SETFL, O_NONBLOCK);
  }
  return absl::OkStatus();
}

std::vector<int> JobPipes::ForJob() const {
  if (!output_.valid()) return {};
  return {input_.get(), output_.get(), error_.valid() ? error_.get() : output_.get()};
}

void JobPipes::CloseForJob() {
  input_.Reset();
  output_.Reset();
  error_.Reset();
}

}  // namespace holdfast::sandbox
