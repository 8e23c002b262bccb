#include "tools/commands/command_call.h"

#include <algorithm>
#include <utility>

#include "tools/commands/command_output.h"

namespace holdfast::tools {

// The dispatcher's end of a call.
class CommandCallHandle final : public RunningCall {
 public:
  // Shared with what runs on the lanes and with the job: either end may go first.
  explicit CommandCallHandle(std::shared_ptr<CommandCall> call) : call_(std::move(call)) {}
  ~CommandCallHandle() override { call_->Cancel(); }
  void Cancel() override { call_->Cancel(); }
  bool Harmless() const override { return call_->Harmless(); }

 private:
  // Shared with what runs on the lanes and with the job.
  const std::shared_ptr<CommandCall> call_;
};

CommandCall::CommandCall(const ToolContext& context, Cancellation cancellation, Step first, Done done)
    : context_(context), cancellation_(cancellation), first_(std::move(first)), done_(std::move(done)) {}

std::unique_ptr<RunningCall> CommandCall::Start(const ToolContext& context, Cancellation cancellation,
                                                Step first, Done done) {
  // Shared by the handle, the tasks on the lanes and the end of a job.
  std::shared_ptr<CommandCall> call(
      new CommandCall(context, cancellation, std::move(first), std::move(done)));
  if (context.session == nullptr) {
    call->Finish({.status = ToolStatus::kUnavailable, .text = "there is no sandbox to run it in\n"});
    return nullptr;
  }
  const base::Status posted = context.executor->Post(base::Lane::kTools, [call] { call->Begin(); });
  if (!posted.ok()) {
    call->Finish(SandboxFailure(posted));
    return nullptr;
  }
  return std::make_unique<CommandCallHandle>(std::move(call));
}

void CommandCall::Begin() {
  Step first;
  {
    const std::lock_guard lock(mu_);
    if (cancelled_) return;
    begun_ = true;
    first = std::exchange(first_, nullptr);
  }
  first(*this);
}

bool CommandCall::cancelled() const {
  const std::lock_guard lock(mu_);
  return cancelled_;
}

void CommandCall::Run(CommandRequest request, Ended ended) {
  {
    std::unique_lock lock(mu_);
    if (cancelled_) {
      lock.unlock();
      return ended(*this, absl::CancelledError("cancelled"));
    }
    commanded_ = true;
  }
  // Shared by the end of the job and the way out when it cannot be started.
  auto shared_ended = std::make_shared<Ended>(std::move(ended));
  sandbox::RunOptions options{.limits = request.limits,
                              .output = request.output,
                              .spill = request.sink.get(),
                              .error_spill = request.error_sink.get()};
  options.on_end = [self = shared_from_this(), shared_ended, sink = request.sink,
                    error_sink = request.error_sink](const sandbox::Outcome& outcome) {
    self->context_.executor->PostResult(base::Lane::kTools, [self, shared_ended, outcome] {
      std::unique_ptr<sandbox::Job> ended_job;
      {
        const std::lock_guard lock(self->mu_);
        ended_job = std::move(self->job_);
      }
      ended_job.reset();
      (*shared_ended)(*self, outcome);
    });
  };
  auto job = context_.session->Start(request.command, std::move(options));
  if (!job.ok()) return (*shared_ended)(*this, job.status());
  // on_end's task runs on this lane, so after this.
  const std::lock_guard lock(mu_);
  job_ = *std::move(job);
  if (cancelled_) job_->Kill();
}

void CommandCall::OnStorage(Step step) {
  context_.executor->PostResult(
      base::Lane::kStorage, [self = shared_from_this(), step = std::move(step)]() mutable { step(*self); });
}

void CommandCall::Finish(ToolResult result) {
  Done done;
  {
    const std::lock_guard lock(mu_);
    done = std::exchange(done_, nullptr);
  }
  if (done) done(std::move(result));
}

void CommandCall::Cancel() {
  bool waiting = false;
  {
    const std::lock_guard lock(mu_);
    if (cancelled_) return;
    cancelled_ = true;
    waiting = !begun_;
    if (job_ != nullptr) job_->Kill();
  }
  if (waiting) Finish({.status = ToolStatus::kCancelled});
}

bool CommandCall::Harmless() const {
  const std::lock_guard lock(mu_);
  return cancelled_ && (!commanded_ || cancellation_ == Cancellation::kHarmless);
}

sandbox::Limits LimitsFor(const sandbox::Session& session, uint64_t wall_ms) {
  sandbox::Limits limits = session.policy().limits;
  if (wall_ms != 0) limits.wall_ms = limits.wall_ms == 0 ? wall_ms : std::min(limits.wall_ms, wall_ms);
  return limits;
}

}  // namespace holdfast::tools
