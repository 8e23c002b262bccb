#include "agent/files/check_run.h"

#include <utility>

#include "nlohmann/json.hpp"
#include "workspace/tree.h"

namespace holdfast::agent {
namespace {

constexpr char kScratch[] = "check";

base::Status Cancelled() { return absl::CancelledError("the check was cancelled"); }

}  // namespace

std::string CheckDirectory(const std::string& directory) { return directory + "/" + kScratch; }

base::Status RemoveCheckDirectory(base::FileSystem& fs, const std::string& directory) {
  const std::string scratch = CheckDirectory(directory);
  if (absl::IsNotFound(fs.Stat(scratch).status())) return {};
  HF_ASSIGN_OR_RETURN(const auto lock, fs.Lock(scratch + "/lock"));
  HF_ASSIGN_OR_RETURN(
      const auto tree,
      workspace::OpenTree(directory, {.owner_access = workspace::OwnerAccess::kForced, .name = directory}));
  return workspace::RemoveAll(*tree, kScratch);
}

CheckRun::CheckRun(const CheckPlace& place, SharedWorkspace workspace, GoalCheck check, Done done)
    : place_(place),
      workspace_(std::move(workspace)),
      check_(std::move(check)),
      manifest_(workspace_->get()->current()),
      in_place_(workspace_->get()->options().mode == sandbox::WorkspaceMode::kDirect),
      done_(std::move(done)) {}

SharedCheck CheckRun::Start(const CheckPlace& place, SharedWorkspace workspace, GoalCheck check, Done done) {
  SharedCheck run(new CheckRun(place, std::move(workspace), std::move(check), std::move(done)));
  run->Begin();
  return run;
}

// The files of the session may have gone meanwhile, and to end a session blocks.
CheckRun::~CheckRun() {
  place_.executor.PostResult(base::Lane::kTools, [workspace = std::move(workspace_)] {});
}

void CheckRun::Begin() {
  if (in_place_) {
    place_.executor.PostResult(base::Lane::kControl,
                               [self = shared_from_this()] { self->RunIn(self->workspace_); });
    return;
  }
  place_.executor.PostResult(base::Lane::kTools, [self = shared_from_this()] {
    auto opened = self->OpenScratch();
    self->place_.executor.PostResult(base::Lane::kControl, [self, opened = std::move(opened)]() mutable {
      if (!opened.ok()) return self->Leave(base::Annotate(opened.status(), "the layer of a check"));
      self->scratch_ = UsedWorkspace::Make(self->place_.executor, self->place_.clock, *std::move(opened));
      self->RunIn(self->scratch_);
    });
  });
}

base::StatusOr<std::unique_ptr<workspace::Workspace>> CheckRun::OpenScratch() {
  workspace::WorkspaceOptions options = workspace_->get()->options();
  HF_RETURN_IF_ERROR(RemoveCheckDirectory(place_.fs, options.directory));
  options.directory = CheckDirectory(options.directory);
  options.expected.reset();
  options.policy.limits.wall_ms = static_cast<uint64_t>(check_.timeout_ms);
  HF_RETURN_IF_ERROR(workspace_->get()->Fork(manifest_, options.directory));
  return workspace::Workspace::Open(std::move(options), place_.sandbox, place_.blobs, place_.fs,
                                    place_.clock);
}

tools::ToolContext CheckRun::ContextOn(UsedWorkspace& used) {
  const workspace::WorkspaceOptions& options = used.get()->options();
  return {.executor = &place_.executor,
          .clock = &place_.clock,
          .session = used.get()->session(),
          .files = used.get()->files(),
          .inside = options.policy.workspace.inside.empty() ? options.tree : options.policy.workspace.inside,
          .blobs = &place_.blobs,
          .owner = used.Use(nullptr)};
}

void CheckRun::RunIn(SharedWorkspace used) {
  if (cancelled_) return Leave(Cancelled());
  const base::MonotonicTime latest{place_.clock.MonotonicNow().ns +
                                   (check_.timeout_ms + place_.slack_ms) * base::kNsPerMs};
  const auto timer = place_.executor.PostAt(latest, [self = shared_from_this()] { self->GiveUp(); });
  if (!timer.ok()) return Leave(timer.status());
  timer_ = *timer;
  auto running = place_.bash.Start(
      ContextOn(*used), {{"command", check_.command}, {"timeout", check_.timeout_ms}},
      [self = shared_from_this()](tools::ToolResult result) {
        self->place_.executor.PostResult(base::Lane::kControl, [self, result = std::move(result)]() mutable {
          self->End(std::move(result));
        });
      });
  running_ = std::move(running);
}

void CheckRun::Cancel() {
  cancelled_ = true;
  if (running_ != nullptr) running_->Cancel();
}

void CheckRun::GiveUp() {
  if (std::exchange(ran_, true)) return;
  Leave(absl::UnavailableError("the check did not end within its time and " +
                               std::to_string(place_.slack_ms) + " ms more"));
}

void CheckRun::End(tools::ToolResult result) {
  if (std::exchange(ran_, true)) return;
  place_.executor.Cancel(timer_);
  if (cancelled_) return Leave(Cancelled());
  switch (result.status) {
    case tools::ToolStatus::kOk:
    case tools::ToolStatus::kFailed:
    case tools::ToolStatus::kTimeout:
      break;
    default:
      return Leave(absl::UnavailableError("the check could not be run: " + result.text));
  }
  CheckRan ran{.command = check_.command,
               .passed = result.status == tools::ToolStatus::kOk,
               .text = std::move(result.text),
               .manifest = manifest_};
  for (const tools::SpilledBlob& blob : result.blobs) ran.blobs.push_back(blob.id);
  Leave(std::move(ran));
}

void CheckRun::Leave(base::StatusOr<CheckRan> ran) {
  running_.reset();
  if (in_place_) return Finish(std::move(ran));
  const auto remove = [self = shared_from_this()](base::StatusOr<CheckRan> result) {
    self->place_.executor.PostResult(base::Lane::kTools, [self, result = std::move(result)]() mutable {
      if (self->scratch_ != nullptr) self->scratch_->Close();
      // What cannot be removed now is by the next check, or when the workspace is opened again.
      const base::Status ignored =
          RemoveCheckDirectory(self->place_.fs, self->workspace_->get()->options().directory);
      self->place_.executor.PostResult(base::Lane::kControl, [self, result = std::move(result)]() mutable {
        self->Finish(std::move(result));
      });
    });
  };
  if (scratch_ == nullptr) return remove(std::move(ran));
  scratch_->WhenUnused(place_.release_ms_max, [self = shared_from_this(), remove,
                                               ran = std::move(ran)](base::Status unused) mutable {
    // In use: it stays until the call that was given up has gone.
    if (!unused.ok()) return self->Finish(std::move(ran));
    remove(std::move(ran));
  });
}

void CheckRun::Finish(base::StatusOr<CheckRan> ran) {
  scratch_.reset();
  std::exchange(done_, nullptr)(std::move(ran));
}

}  // namespace holdfast::agent
