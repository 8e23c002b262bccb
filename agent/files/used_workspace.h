// A workspace and those who still use it. A call that was given up may go on using the session and the files
// it was given, for as long as the kernel keeps it; until then neither may go. So contexts of calls hold a
// use, and what takes the session away waits until none is left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "workspace/workspace.h"

namespace holdfast::agent {

class UsedWorkspace;

// Shared by its owner, its uses and the tasks on the tools lane: the last of them lets it go.
using SharedWorkspace = std::shared_ptr<UsedWorkspace>;

class UsedWorkspace : public std::enable_shared_from_this<UsedWorkspace> {
 public:
  static SharedWorkspace Make(base::Executor& executor, base::Clock& clock,
                              std::unique_ptr<workspace::Workspace> workspace);

  // Null once it was closed. The workspace is used on the tools lane, its session and files by whoever holds
  // a use.
  workspace::Workspace* get() const { return workspace_.get(); }

  // Keeps the workspace, its session, and `kept`. May be dropped on any thread; what it kept is dropped on
  // the tools lane.
  std::shared_ptr<void> Use(std::shared_ptr<void> kept);

  // Calls `then` on the control lane when nobody holds a use: Unavailable when somebody still does after
  // `ms`. Once at a time.
  void WhenUnused(int64_t ms, absl::AnyInvocable<void(base::Status)> then);

  // Ends the session and lets go of the directory. Tools lane, unused.
  void Close() { workspace_.reset(); }

 private:
  class Holder;
  UsedWorkspace(base::Executor& executor, base::Clock& clock,
                std::unique_ptr<workspace::Workspace> workspace);
  void Release();

  base::Executor& executor_;
  base::Clock& clock_;
  std::unique_ptr<workspace::Workspace> workspace_;

  std::mutex mu_;  // guards all that follows
  size_t uses_ = 0;
  absl::AnyInvocable<void()> unused_;
};

}  // namespace holdfast::agent
