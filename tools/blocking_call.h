// Running the blocking body of a tool call on Lane::kTools, so that neither the control lane nor the commits
// of the storage lane wait for a file system that hangs.
#pragma once

#include <atomic>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "tools/tool.h"

namespace holdfast::tools {

// Between the body of a call, on the tools lane, and whoever cancels it.
class CallGate {
 public:
  // Whether the body should stop; it then returns any result, which is replaced.
  bool cancelled() const { return state_.load(std::memory_order_acquire) == State::kCancelled; }

  // Called by the body right before it changes anything, once it knows that it wants to. False when the call
  // was cancelled: nothing may be changed. From true on the call goes on to its end.
  bool BeginEffect();

 private:
  friend class BlockingCall;
  enum class State { kQueued, kRunning, kEffect, kCancelled };
  bool Begin();
  bool Cancel(bool* was_queued);
  std::atomic<State> state_{State::kQueued};
};

using BlockingBody = absl::AnyInvocable<ToolResult(CallGate& gate)>;

// Posts `body` to the tools lane. Its result goes to `done`, unless the call was cancelled before
// BeginEffect: then the result is kCancelled, and Harmless() is true. A lane that is full gives kUnavailable.
// `body` must own what it uses (a copy of the context, which keeps the rest alive).
std::unique_ptr<RunningCall> StartBlocking(base::Executor& executor, BlockingBody body, Done done);

}  // namespace holdfast::tools
