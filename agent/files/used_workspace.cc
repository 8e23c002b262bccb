#include "agent/files/used_workspace.h"

#include <utility>

#include "agent/files/latch.h"

namespace holdfast::agent {

class UsedWorkspace::Holder {
 public:
  // `kept` is shared as UsedWorkspace::Use says.
  Holder(SharedWorkspace workspace, std::shared_ptr<void> kept)
      : workspace_(std::move(workspace)), kept_(std::move(kept)) {}

  // The last user may be the thread that waits for commands, which must not wait for the end of a session.
  ~Holder() {
    UsedWorkspace* const workspace = workspace_.get();
    workspace->executor_.PostResult(base::Lane::kTools,
                                    [held = std::move(workspace_), kept = std::move(kept_)]() mutable {
                                      kept.reset();
                                      held->Release();
                                    });
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

 private:
  SharedWorkspace workspace_;
  std::shared_ptr<void> kept_;  // shared as UsedWorkspace::Use says
};

UsedWorkspace::UsedWorkspace(base::Executor& executor, base::Clock& clock,
                             std::unique_ptr<workspace::Workspace> workspace)
    : executor_(executor), clock_(clock), workspace_(std::move(workspace)) {}

SharedWorkspace UsedWorkspace::Make(base::Executor& executor, base::Clock& clock,
                                    std::unique_ptr<workspace::Workspace> workspace) {
  return SharedWorkspace(new UsedWorkspace(executor, clock, std::move(workspace)));
}

// Shared by all copies of a context.
std::shared_ptr<void> UsedWorkspace::Use(std::shared_ptr<void> kept) {
  {
    const std::lock_guard lock(mu_);
    ++uses_;
  }
  // Shared by all copies of a context.
  return std::make_shared<Holder>(shared_from_this(), std::move(kept));
}

void UsedWorkspace::Release() {
  absl::AnyInvocable<void()> unused;
  {
    const std::lock_guard lock(mu_);
    if (--uses_ == 0) unused = std::exchange(unused_, nullptr);
  }
  if (unused) unused();
}

void UsedWorkspace::WhenUnused(int64_t ms, absl::AnyInvocable<void(base::Status)> then) {
  const auto latch = Latch::Start(
      executor_, clock_, 1, ms, [self = shared_from_this(), then = std::move(then)](bool in_time) mutable {
        {
          const std::lock_guard lock(self->mu_);
          self->unused_ = nullptr;
        }
        then(in_time ? base::Status()
                     : absl::UnavailableError("workspace: a call that was given up still uses it"));
      });
  {
    const std::lock_guard lock(mu_);
    if (uses_ > 0) {
      unused_ = [latch] { latch->Arrive(); };
      return;
    }
  }
  latch->Arrive();
}

}  // namespace holdfast::agent
