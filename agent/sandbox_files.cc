#include "agent/sandbox_files.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agent/files/check_run.h"
#include "agent/files/diff_report.h"
#include "agent/files/latch.h"
#include "agent/files/report_text.h"
#include "agent/files/used_workspace.h"
#include "tools/command_tools.h"
#include "tools/file_versions.h"
#include "workspace/changes.h"
#include "workspace/git_branch.h"

namespace holdfast::agent {
namespace {

using workspace::CheckpointResult;
using workspace::ManifestId;
using workspace::Workspace;
using workspace::WorkspaceChanges;

constexpr char kBash[] = "bash@2";

template <typename R>
using Answer = absl::AnyInvocable<void(R)>;

// A workspace as it was found.
struct FoundWorkspace {
  std::unique_ptr<Workspace> workspace;
  CheckpointResult checkpoint;
  std::optional<ManifestId> manifest;  // as SessionFiles::found
};

// What became of a step that may replace the session.
struct Replaced {
  base::StatusOr<FilesReport> report = FilesReport{};
  base::Status broken;  // why nobody knows what the layer holds now
};

// Kept by the contexts of calls, beside the workspace.
struct CallState {
  std::shared_ptr<tools::FileVersions> versions;  // shared with SandboxFiles, which may go on with others
  std::shared_ptr<tools::BackgroundJobs> jobs;    // shared with SandboxFiles
};

bool IsDirect(const Workspace& workspace) {
  return workspace.options().mode == sandbox::WorkspaceMode::kDirect;
}

// Makes the layer hold `id` under a new session; when that fails, what it held before. `broken` tells that
// this failed too, and nobody knows what the layer holds.
base::Status MakeEqual(Workspace& workspace, const ManifestId& id, base::Status& broken) {
  const ManifestId before = workspace.current();
  base::Status made = workspace.Restore(id).status();
  broken = {};
  if (made.ok()) return made;
  const base::Status back = workspace.Restore(before).status();
  // The sandbox's errors: the layer is there, but no session.
  if (back.ok() || absl::IsUnavailable(back) || absl::IsFailedPrecondition(back)) return made;
  broken = base::Annotate(back, "the layer was not put back after: " + base::Message(made));
  return broken;
}

class SandboxFiles final : public SessionFiles {
 public:
  SandboxFiles(const SandboxFilesOpener::Parts& parts, const SandboxFilesOptions& options, tools::Tool& bash,
               FoundWorkspace found);
  ~SandboxFiles() override;

  base::Sha256Digest current() const override { return current_; }
  void Checkpoint(Checked done) override;
  tools::ToolContext context() override;
  const std::optional<base::Sha256Digest>& found() const override { return found_; }
  void Remember(std::span<const tools::FileVersion> observed) override;
  void Restore(std::optional<base::Sha256Digest> manifest, Ended done) override;
  void RunCheck(const GoalCheck& check, Answer<base::StatusOr<CheckRan>> done) override;
  void Fork(std::optional<base::Sha256Digest> manifest, std::string directory, Ended done) override;
  void Apply(ApplyRequest request, Answer<base::StatusOr<FilesReport>> done) override;
  void ChangesUnderneath(Answer<base::StatusOr<FilesReport>> done) override;
  void Diff(DiffRequest request, Answer<base::StatusOr<FilesDiff>> done) override;
  FilesCounts counts() const override { return counts_; }
  void Close(Ended done) override;

 private:
  template <typename R>
  void Run(Answer<R> done, Answer<Answer<R>> begin);
  void Next();
  template <typename R>
  void Later(Answer<R> answer, R result);
  template <typename R>
  void OnTools(absl::AnyInvocable<R(Workspace&)> work, Answer<R> then);
  template <typename R>
  void AfterCheckpoint(Answer<R> answer, Answer<Answer<R>> then);
  void ReplaceSession(absl::AnyInvocable<Replaced(Workspace&)> work,
                      Answer<base::StatusOr<FilesReport>> answer);
  void Note(const CheckpointResult& checkpoint);
  void RestoreTo(const ManifestId& id, Ended answer);
  void EndCommands(Answer<bool> then);
  void StartCheck(const GoalCheck& check, Answer<base::StatusOr<CheckRan>> answer);
  void ApplyToTree(std::vector<std::string> paths, Answer<base::StatusOr<FilesReport>> answer);
  void ApplyToBranch(const ApplyRequest& request, Answer<base::StatusOr<FilesReport>> answer);
  void Carry(workspace::Diff diff, workspace::ApplySelection selection,
             Answer<base::StatusOr<FilesReport>> answer);
  void LetGo(Ended answer);
  std::weak_ptr<void> Alive() const { return alive_; }
  ReportBounds report_bounds() const { return {options_.report_lines_max, options_.report_bytes_max}; }

  const SandboxFilesOpener::Parts parts_;
  const SandboxFilesOptions& options_;
  tools::Tool& bash_;
  const bool direct_;
  const std::string inside_;
  const std::optional<base::Sha256Digest> found_;
  SharedWorkspace workspace_;                      // null when closed
  std::shared_ptr<tools::FileVersions> versions_;  // shared with contexts
  std::shared_ptr<tools::BackgroundJobs> jobs_;    // shared with contexts and tasks
  std::shared_ptr<void> use_;                      // what contexts hold; null: none is out
  bool replacing_ = false;                         // the session: there is none for calls
  base::Status broken_;                            // why nobody knows what the layer holds
  base::Sha256Digest current_;
  FilesCounts counts_;
  std::deque<absl::AnyInvocable<void()>> queue_;  // operations not begun
  bool busy_ = false;                             // with one of them
  bool closing_ = false;
  SharedCheck check_;  // null: none runs
  // Shared with nobody: what is under way holds it weakly, and so knows when this has gone.
  std::shared_ptr<void> alive_ = std::make_shared<char>();
};

SandboxFiles::SandboxFiles(const SandboxFilesOpener::Parts& parts, const SandboxFilesOptions& options,
                           tools::Tool& bash, FoundWorkspace found)
    : parts_(parts),
      options_(options),
      bash_(bash),
      direct_(IsDirect(*found.workspace)),
      inside_(options.policy.workspace.inside.empty() ? found.workspace->options().tree
                                                      : options.policy.workspace.inside),
      found_(found.manifest),
      workspace_(UsedWorkspace::Make(parts.executor, parts.clock, std::move(found.workspace))),
      versions_(std::make_shared<tools::FileVersions>()),                   // shared: see there
      jobs_(std::make_shared<tools::BackgroundJobs>(options.background)) {  // shared: see there
  Note(found.checkpoint);
}

SandboxFiles::~SandboxFiles() {
  if (check_ != nullptr) check_->Cancel();
  alive_.reset();
  use_.reset();
  // To end a session blocks.
  parts_.executor.PostResult(base::Lane::kTools,
                             [workspace = std::move(workspace_), jobs = std::move(jobs_)]() mutable {
                               jobs.reset();
                               workspace.reset();
                             });
}

// --- One operation after the other

// `begin` is given what to call with the result, by a task of its own, once.
template <typename R>
void SandboxFiles::Run(Answer<R> done, Answer<Answer<R>> begin) {
  if (closing_)
    return Later<R>(std::move(done), absl::UnavailableError("the files of the session are closed"));
  if (queue_.size() >= options_.operations_max) {
    return Later<R>(std::move(done), base::ResourceExhausted("too many operations on the session's files"));
  }
  queue_.push_back([this, done = std::move(done), begin = std::move(begin)]() mutable {
    begin([this, alive = Alive(), done = std::move(done)](R result) mutable {
      done(std::move(result));
      if (!alive.expired()) Next();
    });
  });
  if (!busy_) Next();
}

void SandboxFiles::Next() {
  busy_ = !queue_.empty();
  if (!busy_) return;
  auto operation = std::move(queue_.front());
  queue_.pop_front();
  operation();
}

template <typename R>
void SandboxFiles::Later(Answer<R> answer, R result) {
  parts_.executor.PostResult(base::Lane::kControl, [alive = Alive(), answer = std::move(answer),
                                                    result = std::move(result)]() mutable {
    if (!alive.expired()) answer(std::move(result));
  });
}

// `work` outlives this.
template <typename R>
void SandboxFiles::OnTools(absl::AnyInvocable<R(Workspace&)> work, Answer<R> then) {
  parts_.executor.PostResult(
      base::Lane::kTools, [&executor = parts_.executor, alive = Alive(), used = workspace_,
                           work = std::move(work), then = std::move(then)]() mutable {
        R result = work(*used->get());
        executor.PostResult(base::Lane::kControl, [alive = std::move(alive), then = std::move(then),
                                                   result = std::move(result)]() mutable {
          if (!alive.expired()) then(std::move(result));
        });
      });
}

// --- Checkpoints

void SandboxFiles::Note(const CheckpointResult& checkpoint) {
  current_ = checkpoint.id;
  ++counts_.checkpoints;
  counts_.changed += static_cast<int64_t>(checkpoint.changed.size());
  counts_.dropped += static_cast<int64_t>(checkpoint.dropped.size());
  counts_.unstable += static_cast<int64_t>(checkpoint.unstable.size());
}

// An error is the answer; else `then` goes on with it.
template <typename R>
void SandboxFiles::AfterCheckpoint(Answer<R> answer, Answer<Answer<R>> then) {
  if (!broken_.ok()) return Later<R>(std::move(answer), broken_);
  OnTools<base::StatusOr<CheckpointResult>>([](Workspace& workspace) { return workspace.Checkpoint(); },
                                            [this, answer = std::move(answer), then = std::move(then)](
                                                base::StatusOr<CheckpointResult> checkpoint) mutable {
                                              if (!checkpoint.ok()) return answer(checkpoint.status());
                                              Note(*checkpoint);
                                              then(std::move(answer));
                                            });
}

void SandboxFiles::Checkpoint(Checked done) {
  using R = base::StatusOr<base::Sha256Digest>;
  Run<R>(std::move(done), [this](Answer<R> answer) {
    AfterCheckpoint<R>(std::move(answer), [this](Answer<R> to) { to(current_); });
  });
}

// --- Calls

tools::ToolContext SandboxFiles::context() {
  // Shared as CallState says.
  const auto state = std::make_shared<CallState>(CallState{versions_, jobs_});
  tools::ToolContext context{.executor = &parts_.executor,
                             .clock = &parts_.clock,
                             .inside = inside_,
                             .blobs = &parts_.blobs,
                             .versions = versions_.get(),
                             .jobs = jobs_.get(),
                             .owner = state};
  if (workspace_ == nullptr || replacing_) return context;
  if (use_ == nullptr) use_ = workspace_->Use(state);
  context.session = workspace_->get()->session();
  context.files = workspace_->get()->files();
  context.owner = use_;
  return context;
}

void SandboxFiles::Remember(std::span<const tools::FileVersion> observed) {
  // Shared with contexts; those that are out go on with theirs.
  versions_ = std::make_shared<tools::FileVersions>();
  versions_->Apply(observed);
  use_.reset();
}

// Runs `work`, which may replace the session, once no call uses it any more.
void SandboxFiles::ReplaceSession(absl::AnyInvocable<Replaced(Workspace&)> work,
                                  Answer<base::StatusOr<FilesReport>> answer) {
  replacing_ = true;
  use_.reset();
  workspace_->WhenUnused(options_.release_ms_max, [this, alive = Alive(), work = std::move(work),
                                                   answer = std::move(answer)](base::Status unused) mutable {
    if (alive.expired()) return;
    if (!unused.ok()) {
      replacing_ = false;
      return answer(unused);
    }
    OnTools<Replaced>(
        [jobs = jobs_, work = std::move(work)](Workspace& workspace) mutable {
          jobs->LoseAll();
          return work(workspace);
        },
        [this, answer = std::move(answer)](Replaced replaced) mutable {
          replacing_ = false;
          current_ = workspace_->get()->current();
          broken_ = replaced.broken;
          answer(std::move(replaced.report));
        });
  });
}

// --- Restore, fork

void SandboxFiles::Restore(std::optional<base::Sha256Digest> manifest, Ended done) {
  const ManifestId id = manifest.value_or(workspace::EmptyManifestId());
  Run<base::Status>(std::move(done), [this, id](Ended answer) {
    // There is nothing to be kept of a layer that nobody knows.
    if (!broken_.ok()) return RestoreTo(id, std::move(answer));
    AfterCheckpoint<base::Status>(std::move(answer), [this, id](Ended to) {
      const bool equal = current_ == id || direct_;  // as equal as the tree can be made
      if (equal && workspace_->get()->session() != nullptr) return to({});
      RestoreTo(id, std::move(to));
    });
  });
}

void SandboxFiles::RestoreTo(const ManifestId& id, Ended answer) {
  ReplaceSession(
      [id, direct = direct_](Workspace& workspace) {
        Replaced replaced;
        const base::Status made = direct ? workspace.Reopen() : MakeEqual(workspace, id, replaced.broken);
        if (!made.ok()) replaced.report = made;
        return replaced;
      },
      [answer = std::move(answer)](base::StatusOr<FilesReport> report) mutable { answer(report.status()); });
}

void SandboxFiles::Fork(std::optional<base::Sha256Digest> manifest, std::string directory, Ended done) {
  const ManifestId id = manifest.value_or(workspace::EmptyManifestId());
  Run<base::Status>(std::move(done), [this, id, directory = std::move(directory)](Ended answer) {
    OnTools<base::Status>([id, directory](Workspace& workspace) { return workspace.Fork(id, directory); },
                          std::move(answer));
  });
}

// --- Checks

// Ends what runs in the background and tells whether all has ended.
void SandboxFiles::EndCommands(Answer<bool> then) {
  std::vector<std::string> running;
  for (const tools::BackgroundInfo& info : jobs_->List()) {
    if (info.state == tools::BackgroundInfo::State::kRunning) running.push_back(info.id);
  }
  const int64_t ms = options_.release_ms_max + static_cast<int64_t>(options_.policy.limits.kill_grace_ms);
  const auto latch = Latch::Start(parts_.executor, parts_.clock, running.size(), ms,
                                  [alive = Alive(), then = std::move(then)](bool in_time) mutable {
                                    if (!alive.expired()) then(in_time);
                                  });
  for (const std::string& id : running) {
    jobs_->WhenEnded(id, [latch] { latch->Arrive(); });
    // One that has ended meanwhile, or was forgotten, has arrived.
    const base::Status ignored = jobs_->Kill(id);
  }
}

void SandboxFiles::RunCheck(const GoalCheck& check, Answer<base::StatusOr<CheckRan>> done) {
  using R = base::StatusOr<CheckRan>;
  Run<R>(std::move(done), [this, check](Answer<R> answer) {
    if (check.timeout_ms < 1 || check.timeout_ms > options_.check_timeout_ms_max) {
      return Later<R>(std::move(answer),
                      base::InvalidArgument("a check's time is 1 to " +
                                            std::to_string(options_.check_timeout_ms_max) + " ms"));
    }
    EndCommands([this, check, answer = std::move(answer)](bool ended) mutable {
      if (!ended) return answer(absl::UnavailableError("a command in the background does not end"));
      AfterCheckpoint<R>(std::move(answer),
                         [this, check](Answer<R> to) { StartCheck(check, std::move(to)); });
    });
  });
}

void SandboxFiles::StartCheck(const GoalCheck& check, Answer<base::StatusOr<CheckRan>> answer) {
  if (closing_) return answer(absl::CancelledError("the session's files are being closed"));
  const CheckPlace place{.executor = parts_.executor,
                         .clock = parts_.clock,
                         .fs = parts_.fs,
                         .sandbox = parts_.sandbox,
                         .blobs = parts_.blobs,
                         .bash = bash_,
                         .release_ms_max = options_.release_ms_max,
                         .slack_ms = options_.check_slack_ms};
  check_ = CheckRun::Start(
      place, workspace_, check,
      [this, alive = Alive(), answer = std::move(answer)](base::StatusOr<CheckRan> ran) mutable {
        if (alive.expired()) return;
        check_.reset();
        answer(std::move(ran));
      });
}

// --- The user's tree

void SandboxFiles::Apply(ApplyRequest request, Answer<base::StatusOr<FilesReport>> done) {
  using R = base::StatusOr<FilesReport>;
  Run<R>(std::move(done), [this, request = std::move(request)](Answer<R> answer) mutable {
    if (!request.branch.empty() && !request.paths.empty()) {
      return Later<R>(std::move(answer), base::InvalidArgument("a branch has all changes: name no paths"));
    }
    AfterCheckpoint<R>(std::move(answer), [this, request = std::move(request)](Answer<R> to) mutable {
      if (!request.branch.empty()) return ApplyToBranch(request, std::move(to));
      if (direct_) return to(FilesReport{});
      ApplyToTree(std::move(request.paths), std::move(to));
    });
  });
}

void SandboxFiles::ApplyToTree(std::vector<std::string> paths, Answer<base::StatusOr<FilesReport>> answer) {
  OnTools<base::StatusOr<WorkspaceChanges>>(
      [&blobs = parts_.blobs](Workspace& workspace) { return CompareWorkspace(workspace, blobs); },
      [this, paths = std::move(paths),
       answer = std::move(answer)](base::StatusOr<WorkspaceChanges> changes) mutable {
        if (!changes.ok()) return answer(changes.status());
        for (const std::string& path : paths) {
          if (changes->diff.Find(path) == nullptr) {
            return answer(base::InvalidArgument(path + ": the session has not changed it"));
          }
        }
        if (changes->diff.changes.empty()) return answer(FilesReport{});
        const bool everything = paths.empty();
        Carry(std::move(changes->diff), {.everything = everything, .paths = std::move(paths)},
              std::move(answer));
      });
}

// Git runs in a sandbox of its own; the layer's session goes on.
void SandboxFiles::ApplyToBranch(const ApplyRequest& request, Answer<base::StatusOr<FilesReport>> answer) {
  using R = base::StatusOr<FilesReport>;
  OnTools<R>(
      [request, parts = &parts_, bounds = report_bounds()](Workspace& workspace) -> R {
        HF_ASSIGN_OR_RETURN(const WorkspaceChanges changes, CompareWorkspace(workspace, parts->blobs));
        workspace::BranchRequest branch{.tree = workspace.options().tree,
                                        .scratch = workspace.options().directory + "/branch",
                                        .name = request.branch,
                                        .base = workspace.report().head};
        if (!request.message.empty()) branch.message = request.message;
        HF_ASSIGN_OR_RETURN(const workspace::BranchResult made,
                            MakeBranch(branch, changes.manifest, changes.diff, parts->blobs, parts->sandbox,
                                       parts->fs, parts->clock));
        return ReportOf(made, changes.diff, bounds);
      },
      std::move(answer));
}

void SandboxFiles::Carry(workspace::Diff diff, workspace::ApplySelection selection,
                         Answer<base::StatusOr<FilesReport>> answer) {
  ReplaceSession(
      [diff = std::move(diff), selection = std::move(selection), &blobs = parts_.blobs, &fs = parts_.fs,
       bounds = report_bounds()](Workspace& workspace) {
        Replaced replaced;
        const auto report = ApplyWorkspace(workspace, blobs, selection, fs);
        if (report.ok()) {
          replaced.report = ReportOf(*report, diff, bounds);
          return replaced;
        }
        replaced.report = report.status();
        if (workspace.session() == nullptr) {
          // What went wrong first is the answer.
          const base::Status ignored = MakeEqual(workspace, workspace.current(), replaced.broken);
        }
        return replaced;
      },
      std::move(answer));
}

void SandboxFiles::ChangesUnderneath(Answer<base::StatusOr<FilesReport>> done) {
  using R = base::StatusOr<FilesReport>;
  Run<R>(std::move(done), [this](Answer<R> answer) {
    if (direct_) return Later<R>(std::move(answer), FilesReport{});
    OnTools<R>(
        [bounds = report_bounds()](Workspace& workspace) -> R {
          HF_ASSIGN_OR_RETURN(const auto changes, workspace.ChangesUnderneath(bounds.lines_max));
          return ReportOf(changes, bounds);
        },
        std::move(answer));
  });
}

void SandboxFiles::Diff(DiffRequest request, Answer<base::StatusOr<FilesDiff>> done) {
  using R = base::StatusOr<FilesDiff>;
  request.text_bytes_max = std::min(request.text_bytes_max, options_.diff_bytes_max);
  Run<R>(std::move(done), [this, request = std::move(request)](Answer<R> answer) mutable {
    OnTools<R>(
        [&blobs = parts_.blobs, request = std::move(request)](Workspace& workspace) -> R {
          HF_ASSIGN_OR_RETURN(WorkspaceChanges changes, CompareWorkspace(workspace, blobs));
          return DiffReportOf(std::move(changes.diff), request, blobs);
        },
        std::move(answer));
  });
}

// --- The end

void SandboxFiles::Close(Ended done) {
  if (!closing_) {
    // Behind what was asked for before, however much that is.
    queue_.push_back([this, done = std::move(done)]() mutable { LetGo(std::move(done)); });
    closing_ = true;
    if (check_ != nullptr) check_->Cancel();
    if (!busy_) Next();
    return;
  }
  Later<base::Status>(std::move(done), absl::UnavailableError("the files of the session are closed"));
}

void SandboxFiles::LetGo(Ended answer) {
  use_.reset();
  // What still uses it lets it go later.
  SharedWorkspace workspace = std::exchange(workspace_, nullptr);
  UsedWorkspace& used = *workspace;
  used.WhenUnused(options_.release_ms_max, [&executor = parts_.executor, alive = Alive(), jobs = jobs_,
                                            workspace = std::move(workspace),
                                            answer = std::move(answer)](base::Status unused) mutable {
    executor.PostResult(
        base::Lane::kTools, [&executor, alive = std::move(alive), jobs = std::move(jobs),
                             workspace = std::move(workspace), answer = std::move(answer), unused]() mutable {
          jobs->LoseAll();
          if (unused.ok()) workspace->Close();
          executor.PostResult(base::Lane::kControl,
                              [alive = std::move(alive), answer = std::move(answer), unused]() mutable {
                                if (!alive.expired()) answer(unused);
                              });
        });
  });
}

// --- Opening

base::StatusOr<workspace::WorkspaceOptions> WorkspaceOptionsFor(const FilesSpec& spec,
                                                                const SandboxFilesOptions& options) {
  workspace::WorkspaceOptions workspace{.tree = spec.tree,
                                        .directory = spec.directory,
                                        .policy = options.policy,
                                        .limits = options.limits,
                                        .unknown = workspace::UnknownLayer::kEmpty};
  if (spec.mode == "direct") {
    workspace.mode = sandbox::WorkspaceMode::kDirect;
  } else if (spec.mode == "snapshot") {
    workspace.snapshot = workspace::Snapshot::kYes;
  } else if (spec.mode != "overlay") {
    return base::InvalidArgument("session " + spec.session + ": no workspace mode is called `" + spec.mode +
                                 "`");
  }
  return workspace;
}

base::StatusOr<FoundWorkspace> Find(const FilesSpec& spec, const SandboxFilesOpener::Parts& parts,
                                    const SandboxFilesOptions& options) {
  HF_ASSIGN_OR_RETURN(auto workspace_options, WorkspaceOptionsFor(spec, options));
  FoundWorkspace found;
  HF_ASSIGN_OR_RETURN(found.workspace, Workspace::Open(std::move(workspace_options), parts.sandbox,
                                                       parts.blobs, parts.fs, parts.clock));
  Workspace& workspace = *found.workspace;
  // What cannot be removed is told by the next check.
  const base::Status ignored = RemoveCheckDirectory(parts.fs, spec.directory);
  // Before the apply, which ends with a restore of what was checkpointed.
  HF_ASSIGN_OR_RETURN(found.checkpoint, workspace.Checkpoint());
  if (!IsDirect(workspace)) {
    HF_ASSIGN_OR_RETURN(const auto recovered, RecoverWorkspaceApply(workspace, parts.blobs, parts.fs));
    if (recovered.has_value()) {
      HF_ASSIGN_OR_RETURN(found.checkpoint, workspace.Checkpoint());
    }
  }
  const bool trusted = !workspace.report().fresh && !workspace.report().rebuilt;
  if (trusted) found.manifest = found.checkpoint.id;
  return found;
}

}  // namespace

base::StatusOr<std::unique_ptr<SandboxFilesOpener>> SandboxFilesOpener::Make(Parts parts,
                                                                             SandboxFilesOptions options) {
  if (options.operations_max == 0 || options.release_ms_max <= 0 || options.check_timeout_ms_max <= 0 ||
      options.check_slack_ms <= 0 || options.report_lines_max == 0 || options.report_bytes_max == 0 ||
      options.diff_bytes_max == 0) {
    return base::InvalidArgument("sandbox files: a bound of 0");
  }
  std::unique_ptr<SandboxFilesOpener> opener(new SandboxFilesOpener(parts, std::move(options)));
  HF_RETURN_IF_ERROR(tools::AddCommandTools(opener->registry_));
  if (opener->registry_.Find(kBash) == nullptr) {
    return base::Internal(std::string("sandbox files: there is no ") + kBash);
  }
  return opener;
}

void SandboxFilesOpener::Open(FilesSpec spec, Opened done) {
  parts_.executor.PostResult(base::Lane::kTools, [this, spec = std::move(spec),
                                                  done = std::move(done)]() mutable {
    auto found = Find(spec, parts_, options_);
    parts_.executor.PostResult(base::Lane::kControl, [this, found = std::move(found),
                                                      done = std::move(done)]() mutable {
      if (!found.ok()) return done(found.status());
      done(std::make_unique<SandboxFiles>(parts_, options_, *registry_.Find(kBash)->tool, *std::move(found)));
    });
  });
}

}  // namespace holdfast::agent
