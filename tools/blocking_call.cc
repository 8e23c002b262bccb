#include "tools/blocking_call.h"

#include <utility>

namespace holdfast::tools {
namespace {

ToolResult CancelledResult() { return {.status = ToolStatus::kCancelled}; }

struct CallState {
  CallGate gate;
  Done done;
};
// Shared by the task on the tools lane and the RunningCall: either may go first.
using SharedState = std::shared_ptr<CallState>;

}  // namespace

bool CallGate::Begin() {
  State expected = State::kQueued;
  return state_.compare_exchange_strong(expected, State::kRunning, std::memory_order_acq_rel);
}

bool CallGate::BeginEffect() {
  State expected = State::kRunning;
  return state_.compare_exchange_strong(expected, State::kEffect, std::memory_order_acq_rel) ||
         expected == State::kEffect;
}

// True when the call is cancelled now or was before.
bool CallGate::Cancel(bool* was_queued) {
  *was_queued = false;
  State expected = State::kQueued;
  if (state_.compare_exchange_strong(expected, State::kCancelled, std::memory_order_acq_rel)) {
    *was_queued = true;
    return true;
  }
  expected = State::kRunning;
  return state_.compare_exchange_strong(expected, State::kCancelled, std::memory_order_acq_rel) ||
         expected == State::kCancelled;
}

class BlockingCall final : public RunningCall {
 public:
  explicit BlockingCall(SharedState state) : state_(std::move(state)) {}
  ~BlockingCall() override { BlockingCall::Cancel(); }

  void Cancel() override {
    bool was_queued = false;
    harmless_ = state_->gate.Cancel(&was_queued);
    // The task will find the gate closed and leave `done` alone.
    if (was_queued) std::exchange(state_->done, nullptr)(CancelledResult());
  }

  bool Harmless() const override { return harmless_; }

  static void Run(CallState& state, BlockingBody& body) {
    if (!state.gate.Begin()) return;
    ToolResult result = body(state.gate);
    if (state.gate.cancelled()) result = CancelledResult();
    state.done(std::move(result));
  }

 private:
  const SharedState state_;
  bool harmless_ = false;
};

std::unique_ptr<RunningCall> StartBlocking(base::Executor& executor, BlockingBody body, Done done) {
  const auto state = std::make_shared<CallState>();  // shared as SharedState says
  state->done = std::move(done);
  const base::Status posted = executor.Post(
      base::Lane::kTools, [state, body = std::move(body)]() mutable { BlockingCall::Run(*state, body); });
  if (!posted.ok()) {
    state->done({.status = ToolStatus::kUnavailable, .text = base::Message(posted) + "\n"});
    return nullptr;
  }
  return std::make_unique<BlockingCall>(state);
}

}  // namespace holdfast::tools
