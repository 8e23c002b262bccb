// A tool call made of commands that run one after another in the session's sandbox, with blocking steps
// between them on the tools lane. No thread waits for a command.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "base/status.h"
#include "sandbox/command.h"
#include "sandbox/limits.h"
#include "sandbox/outcome.h"
#include "sandbox/output.h"
#include "sandbox/sandbox.h"
#include "tools/tool.h"

namespace holdfast::tools {

struct CommandRequest {
  sandbox::Command command;
  sandbox::Limits limits;  // within the policy's
  sandbox::OutputOptions output;
  // Shared, because a job that was given up still ends by them.
  std::shared_ptr<sandbox::OutputSink> sink;
  std::shared_ptr<sandbox::OutputSink> error_sink;  // ErrorStream::kSeparate
};

// What a call can do when its commands are given up halfway.
enum class Cancellation {
  kHarmless,   // nothing: they only read
  kAfterward,  // what they did until then
};

class CommandCall : public std::enable_shared_from_this<CommandCall> {
 public:
  using Step = absl::AnyInvocable<void(CommandCall& call)>;
  // What became of a command. An error is the sandbox's; Cancelled when the call was before it began.
  using Ended = absl::AnyInvocable<void(CommandCall& call, base::StatusOr<sandbox::Outcome> outcome)>;

  // Runs `first` on the tools lane. It, and what it leads to, calls Finish at last. A call that is cancelled
  // while it waits for the lane ends as kCancelled.
  static std::unique_ptr<RunningCall> Start(const ToolContext& context, Cancellation cancellation, Step first,
                                            Done done);

  // For steps, on the tools lane.
  const ToolContext& context() const { return context_; }
  bool cancelled() const;
  // Starts a command; `ended` runs on the tools lane. Blocks until the command runs (some 3 ms).
  void Run(CommandRequest request, Ended ended);
  // Goes on with `step` on the storage lane, for what waits for the runtime's own disk.
  void OnStorage(Step step);
  // The result. Once; a call that was cancelled before it began has its result already.
  void Finish(ToolResult result);

 private:
  friend class CommandCallHandle;
  CommandCall(const ToolContext& context, Cancellation cancellation, Step first, Done done);
  void Begin();
  void Cancel();
  bool Harmless() const;

  const ToolContext context_;
  const Cancellation cancellation_;

  mutable std::mutex mu_;  // guards all that follows
  Step first_;
  Done done_;
  std::unique_ptr<sandbox::Job> job_;
  bool begun_ = false;      // the first step
  bool commanded_ = false;  // a command has been started, or tried
  bool cancelled_ = false;
};

// The policy's limits with a wall clock of at most `wall_ms` (0: the policy's own).
sandbox::Limits LimitsFor(const sandbox::Session& session, uint64_t wall_ms);

}  // namespace holdfast::tools
