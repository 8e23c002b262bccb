// Commands that run on beside the calls of a session: started by one call, looked at, written to and ended by
// others.
//
// They belong to the sandbox session: when it ends they end. A runtime that is started again gives the list
// of what its record says to Restore, and what ran then is lost: said so, never started again.
//
// All methods may be called from any thread. Listeners are called on any thread, never under a lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/status.h"
#include "sandbox/command.h"
#include "sandbox/limits.h"
#include "sandbox/outcome.h"
#include "sandbox/sandbox.h"

namespace holdfast::tools {

struct BackgroundBounds {
  size_t running_max = 16;
  size_t ended_max = 64;           // still known after their end; the oldest are forgotten first
  size_t ring_bytes = 256 * 1024;  // of output not looked at yet, for each; the oldest is dropped
  uint64_t ttl_ms = 86'400'000;    // time to live, within the policy's wall clock; 0: the policy's
};

struct BackgroundInfo {
  enum class State { kRunning, kEnded, kLost };
  std::string id;  // "b1", "b2", ... in the order they were started in the session
  std::string command;
  State state = State::kRunning;
  friend bool operator==(const BackgroundInfo&, const BackgroundInfo&) = default;
};

// New output of a background command, and how it is.
struct BackgroundLook {
  BackgroundInfo::State state = BackgroundInfo::State::kRunning;
  std::string text;                         // safe
  uint64_t skipped_bytes = 0;               // before `text`, dropped from the ring
  bool more = false;                        // there is more than was asked for; the next look goes on
  std::optional<sandbox::Outcome> outcome;  // when it has ended; without output
  sandbox::Limits limits;
};

class BackgroundJobs {
 public:
  explicit BackgroundJobs(BackgroundBounds bounds = {});
  // Ends all of them, without waiting.
  ~BackgroundJobs();
  BackgroundJobs(const BackgroundJobs&) = delete;
  BackgroundJobs& operator=(const BackgroundJobs&) = delete;

  // Starts a command and returns its id. ResourceExhausted when running_max run; else the errors of
  // sandbox::Session::Start. Blocks until it runs (some 3 ms). A command that cannot be started has an id
  // too, and has ended. `limits` as for any command: its wall clock is the time to live, at most ttl_ms.
  base::StatusOr<std::string> Start(sandbox::Session& session, sandbox::Command command,
                                    const sandbox::Limits& limits);

  // What was printed since the last look, at most `bytes_max`; moves the place of the next look. NotFound.
  base::StatusOr<BackgroundLook> Look(std::string_view id, size_t bytes_max);

  // NotFound; FailedPrecondition when it has ended, was lost, or its input is closed; ResourceExhausted when
  // it does not read.
  base::Status Write(std::string_view id, std::string_view bytes);
  base::Status CloseInput(std::string_view id);
  // FailedPrecondition without a terminal.
  base::Status Resize(std::string_view id, sandbox::TerminalSize size);
  // Returns at once; one that has ended stays as it is. NotFound.
  base::Status Kill(std::string_view id);

  // Calls `listener` once, when `id` has ended; at once, before returning, when it has, or is unknown.
  // Forgotten by RemoveListener, after which it is not called, or is being called.
  uint64_t WhenEnded(std::string_view id, absl::AnyInvocable<void()> listener);
  void RemoveListener(uint64_t listener);

  size_t running() const;
  std::vector<BackgroundInfo> List() const;  // in the order of their ids

  // For an empty registry: what an earlier one's List said. What ran then is lost. InvalidArgument for ids
  // that are none or out of order; ids go on after the last.
  base::Status Restore(std::span<const BackgroundInfo> jobs);

  // Ends all of them and calls what is lost lost: the sandbox session has been replaced.
  void LoseAll();

 private:
  struct Entry;
  struct State;
  const std::shared_ptr<State> state_;  // shared with the ends of jobs, which may come after this has gone
};

}  // namespace holdfast::tools
