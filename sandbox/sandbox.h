// Running commands in isolation.
//
//   HF_ASSIGN_OR_RETURN(auto sandbox, Sandbox::Start({}));
//   HF_ASSIGN_OR_RETURN(auto session, sandbox->Open(policy));
//   HF_ASSIGN_OR_RETURN(Outcome outcome, session->Run(ShellCommand("make test")));
//
// A Sandbox owns the broker, a small process that makes everything else; the runtime itself never forks. A
// session is a set of namespaces that stands between commands: files in /tmp and servers in the background
// live as long as it does. Each command is a job with a pid namespace of its own inside.
//
// Errors of all calls here are the host's: FailedPrecondition when the isolation that the policy asks for
// cannot be had (the message says what is missing, why, and what would help; nothing was run), Unavailable
// when the broker or the session has ended, ResourceExhausted for too many jobs at once, InvalidArgument for
// a policy, command or limits that Normalise or Validate refuse. What a command does is in its Outcome.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/descriptor.h"
#include "base/status.h"
#include "sandbox/command.h"
#include "sandbox/limits.h"
#include "sandbox/outcome.h"
#include "sandbox/output.h"
#include "sandbox/policy.h"

namespace holdfast::sandbox {

struct RunOptions {
  std::optional<Limits> limits;  // none: the policy's
  OutputOptions output;
  OutputSink* spill = nullptr;        // of the output; must outlive the job
  OutputSink* error_spill = nullptr;  // of a separate standard error
  // Called once, on the supervisor's thread, when the job has ended; must not wait for that thread. Not
  // called when Start returns an error.
  absl::AnyInvocable<void(const Outcome&)> on_end;
};

// New output of a job since an earlier look.
struct OutputPart {
  std::string text;            // safe
  uint64_t next = 0;           // where the next look goes on
  uint64_t skipped_bytes = 0;  // printed since, but gone from the ring
};

// A started command. It belongs to its session and ends with it; destroying this handle kills it. All methods
// may be called from any thread.
class Job {
 public:
  virtual ~Job() = default;

  // Set once the job has ended.
  virtual std::optional<Outcome> Result() = 0;

  // Waits for the end, at most `ms`; as Result.
  virtual std::optional<Outcome> Wait(int64_t ms) = 0;

  // What was printed from byte `from` on, at most `bytes_max` of it. With `ErrorStream::kSeparate` standard
  // output only.
  virtual OutputPart Poll(uint64_t from, size_t bytes_max) = 0;

  // Adds to the input. FailedPrecondition when it is closed; ResourceExhausted when more than 4 MiB wait to
  // be read.
  virtual base::Status Write(std::string_view bytes) = 0;
  virtual base::Status CloseInput() = 0;

  // FailedPrecondition without a terminal.
  virtual base::Status Resize(TerminalSize size) = 0;

  // SIGTERM, then after the grace period the end of every process of the job. Returns at once.
  virtual void Kill() = 0;
};

// All methods may be called from any thread; several commands may run at once. Destroying it ends everything
// in it. Jobs and sessions may be destroyed in any order, but all before their Sandbox.
class Session {
 public:
  virtual ~Session() = default;

  // Starts a command and returns once it runs, or has failed to start (then the job has ended: kNotStarted).
  virtual base::StatusOr<std::unique_ptr<Job>> Start(const Command& command, RunOptions options = {}) = 0;

  // Runs a command to its end.
  base::StatusOr<Outcome> Run(const Command& command, RunOptions options = {});

  virtual const Policy& policy() const = 0;

  // In force for every command of the session.
  virtual LayerSet layers() const = 0;

  // The workspace as commands see it (overlay: the merged view; direct: the tree with its protected paths
  // read-only), to read and write from outside: an O_PATH | O_DIRECTORY descriptor of its root, attached
  // nowhere, so that `..` stays at the root. What is done through it a running command sees at once, and the
  // other way round; in overlay mode it goes to the layer and counts for the disk limit of the next command.
  // Devices do not open. Commands change the tree at any time, so take every step with
  // openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS), O_NONBLOCK for what may be a FIFO, and trust no path
  // that was checked before.
  //
  // Files belong to host_uid() and host_gid(), who commands are outside. A caller with other ids (root) sets
  // these around accesses with setfsuid and setfsgid: it then has a command's rights and no more; without
  // that, what it makes in an overlay fails with EOVERFLOW.
  //
  // Before a name is removed, renamed or renamed over: IsProtectedName below. The kernel refuses that to
  // commands, but not to who is outside of their mount namespace.
  //
  // The descriptor stays good, and as safe, when the session has ended. But the layer is in use as long as it
  // or anything opened beneath is open: close all before another session takes the layer.
  // Backend::kBubblewrap: the tree as it is, protected paths not covered.
  //
  // Any thread; costs one fcntl. Unavailable when the session has ended.
  virtual base::StatusOr<base::Descriptor> OpenWorkspace() = 0;
  virtual uint32_t host_uid() const = 0;
  virtual uint32_t host_gid() const = 0;
};

// Whether `name` in the open directory is a protected path of direct mode, whatever way led to the directory.
// No command can make it one or cease to be, so the answer holds. One statx; false for a name that is not
// there.
bool IsProtectedName(int directory, const std::string& name);

struct SandboxOptions {
  // The broker's program. Empty: `holdfast-sandbox` beside this program, then in ../libexec/holdfast.
  std::string broker_path;
  std::vector<Secret> secrets;  // never shown in any output
  size_t jobs_max = 256;
  base::Clock* clock = nullptr;  // null: the real one
};

struct HostFacts {
  bool root = false;
  uint32_t landlock_abi = 0;  // 0: none
  std::string cgroups;        // for people
};

// All methods may be called from any thread.
class Sandbox {
 public:
  // Starts the broker. FailedPrecondition with what would help when it cannot be started or is of another
  // version.
  static base::StatusOr<std::unique_ptr<Sandbox>> Start(SandboxOptions options);

  // Ends the broker and with it all sessions and jobs.
  virtual ~Sandbox() = default;

  // Makes the namespaces of a session. Costs some 5 ms; a job in it some 3 ms.
  virtual base::StatusOr<std::unique_ptr<Session>> Open(Policy policy) = 0;

  virtual const HostFacts& host() const = 0;

  // The broker's program, and its process id, for people and tests.
  virtual const std::string& broker_path() const = 0;
  virtual int broker_pid() const = 0;
};

}  // namespace holdfast::sandbox
