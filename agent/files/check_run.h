// One run of a goal's check: a throw-away workspace beside the layer, one command in it, and no trace of
// either.
//
// Threads: control lane; what blocks is done on the tools lane.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "agent/agent_event.h"
#include "agent/files/used_workspace.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status.h"
#include "memory/blob_store.h"
#include "tools/tool.h"
#include "workspace/workspace.h"

namespace holdfast::agent {

// Where a check runs, and on what.
struct CheckPlace {
  base::Executor& executor;
  base::Clock& clock;
  base::FileSystem& fs;
  sandbox::Sandbox& sandbox;
  memory::BlobStore& blobs;
  tools::Tool& bash;
  int64_t release_ms_max = 0;
  int64_t slack_ms = 0;  // beyond the check's own time, until it is given up
};

// The scratch directory of checks in the directory of a workspace.
std::string CheckDirectory(const std::string& directory);

// Removes what a check has left, or a crash in the middle of one. Blocks; nothing there is fine. Unavailable
// when a call that was given up still runs in it.
base::Status RemoveCheckDirectory(base::FileSystem& fs, const std::string& directory);

class CheckRun;

// Shared by its owner and the steps under way: it cleans up also when the owner has gone.
using SharedCheck = std::shared_ptr<CheckRun>;

class CheckRun : public std::enable_shared_from_this<CheckRun> {
 public:
  using Done = absl::AnyInvocable<void(base::StatusOr<CheckRan>)>;

  // Runs `check` on the manifest that `workspace` was checkpointed with last. In direct mode it runs in the
  // tree, for want of a layer to throw away. `done` is called once, by a task of the control lane, when the
  // scratch directory is gone.
  static SharedCheck Start(const CheckPlace& place, SharedWorkspace workspace, GoalCheck check, Done done);
  ~CheckRun();

  // Ends it early: Cancelled.
  void Cancel();

 private:
  CheckRun(const CheckPlace& place, SharedWorkspace workspace, GoalCheck check, Done done);
  void Begin();
  base::StatusOr<std::unique_ptr<workspace::Workspace>> OpenScratch();
  void RunIn(SharedWorkspace used);
  void End(tools::ToolResult result);
  void GiveUp();
  void Leave(base::StatusOr<CheckRan> ran);
  void Finish(base::StatusOr<CheckRan> ran);
  tools::ToolContext ContextOn(UsedWorkspace& used);

  const CheckPlace place_;
  SharedWorkspace workspace_;  // shared with the session's files
  const GoalCheck check_;
  const workspace::ManifestId manifest_;
  const bool in_place_;
  Done done_;
  SharedWorkspace scratch_;  // shared with the call; null: none is open
  std::unique_ptr<tools::RunningCall> running_;
  base::TimerId timer_{0};
  bool ran_ = false;  // the command has a result, or was given up
  bool cancelled_ = false;
};

}  // namespace holdfast::agent
