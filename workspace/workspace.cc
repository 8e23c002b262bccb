#include "workspace/workspace.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "memory/blob_store.h"
#include "sandbox/sandbox.h"
#include "workspace/layer/base_state.h"
#include "workspace/layer/direct_scan.h"
#include "workspace/layer/layer.h"
#include "workspace/layer/record.h"
#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr uint64_t kBaseBytesMax = uint64_t{1} << 30;
constexpr uint64_t kMemoryBytesMax = 512 << 20;
constexpr size_t kForeignNamed = 3;

bool IsWithin(const std::string& path, const std::string& directory) {
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

base::Status CheckPaths(const WorkspaceOptions& options) {
  for (const std::string* path : {&options.tree, &options.directory}) {
    if (!path->starts_with('/') || path->size() < 2 || path->ends_with('/') ||
        !ValidatePath(std::string_view(*path).substr(1)).ok()) {
      return base::InvalidArgument("workspace: `" + *path +
                                   "` is not an absolute path without `.`, `..` or `//`");
    }
  }
  if (IsWithin(options.directory, options.tree) || IsWithin(options.tree, options.directory)) {
    return base::InvalidArgument("workspace: the directory `" + options.directory + "` and the tree `" +
                                 options.tree + "` lie in one another");
  }
  return {};
}

base::Status ForeignError(const std::string& tree, const std::vector<ForeignPath>& foreign,
                          BaseState::Owner owner) {
  std::string text = "the session acts for user " + std::to_string(owner.uid) + " and group " +
                     std::to_string(owner.gid) + ", and could not change what belongs to others in " + tree +
                     ":";
  for (size_t i = 0; i < std::min(foreign.size(), kForeignNamed); ++i) {
    text += " " + foreign[i].path + " (" + std::to_string(foreign[i].uid) + ":" +
            std::to_string(foreign[i].gid) + ")";
  }
  if (foreign.size() > kForeignNamed) text += " and others";
  return base::FailedPrecondition(
      text +
      ". Change their owner or group, or open the workspace with a snapshot, which is "
      "a copy of the session's own");
}

// A copy of `from` in the empty directory `to`. What changes meanwhile is copied as it is at some moment.
base::Status CopyTree(Tree& from, Tree& to, size_t directory_entries_max) {
  base::Status status;
  std::vector<std::pair<std::string, uint32_t>> directories;
  const auto copy = [&](const std::string& path, const EntryStat& stat) -> base::Status {
    switch (stat.kind) {
      case EntryKind::kDirectory:
        directories.emplace_back(path, stat.mode);
        return to.MakeDirectory(path, 0700);
      case EntryKind::kFile:
        return to.CopyFile(from, path, path, stat.mode & 0777u);
      case EntryKind::kSymlink: {
        HF_ASSIGN_OR_RETURN(const std::string target, from.ReadLink(path));
        return to.MakeLink(path, target);
      }
      case EntryKind::kWhiteout:
      case EntryKind::kOther:
        return {};
    }
    return {};
  };
  const auto visit = [&](const std::string& path, const EntryStat& stat) {
    status = copy(path, stat);
    if (absl::IsNotFound(status)) status = {};  // it vanished
    return status.ok() ? WalkStep::kContinue : WalkStep::kStop;
  };
  HF_RETURN_IF_ERROR(from.Walk("", directory_entries_max, visit));
  HF_RETURN_IF_ERROR(status);
  for (auto it = directories.rbegin(); it != directories.rend(); ++it) {
    HF_RETURN_IF_ERROR(to.SetMode(it->first, it->second & 0777u));
  }
  return {};
}

base::Status EmptyDirectory(const std::string& path, size_t entries_max) {
  HF_ASSIGN_OR_RETURN(const auto tree, OpenTree(path, {.owner_access = OwnerAccess::kForced}));
  HF_ASSIGN_OR_RETURN(const auto names, tree->Names("", entries_max));
  for (const NamedKind& name : names) HF_RETURN_IF_ERROR(RemoveAll(*tree, name.name));
  return {};
}

class WorkspaceImpl final : public Workspace {
 public:
  WorkspaceImpl(WorkspaceOptions options, sandbox::Sandbox& sandbox, memory::BlobStore& blobs,
                base::FileSystem& fs, base::Clock& clock)
      : options_(std::move(options)), sandbox_(sandbox), blobs_(blobs), fs_(fs), clock_(clock) {}

  base::Status Start();

  const WorkspaceOptions& options() const override { return options_; }
  const OpenReport& report() const override { return report_; }
  sandbox::Session* session() override { return session_.get(); }
  Tree* files() override { return files_.get(); }
  ManifestId current() const override { return overlay() ? layer_->current() : direct_current_; }
  Tree& user_tree() override { return *user_tree_; }

  base::Status Reopen() override;
  base::StatusOr<CheckpointResult> Checkpoint() override;
  base::StatusOr<RestoreResult> Restore(const ManifestId& id) override;
  base::StatusOr<RestoreResult> Discard() override { return Restore(EmptyManifestId()); }
  base::Status Fork(const ManifestId& id, const std::string& directory) override;
  base::Status AbsorbTree(const std::vector<std::string>& paths) override;
  base::StatusOr<TreeChanges> ChangesUnderneath(size_t changes_max) override;

 private:
  bool overlay() const { return options_.mode == sandbox::WorkspaceMode::kOverlay; }
  bool snapshot() const { return options_.snapshot == Snapshot::kYes; }
  std::string LayerPath() const { return options_.directory + "/layer"; }
  std::string LowerPath() const { return snapshot() ? options_.directory + "/snapshot" : options_.tree; }

  base::Status OpenRecord();
  base::Status StartFresh();
  base::StatusOr<BaseState::Owner> Owner();
  base::Status OpenLayer();
  base::Status Recover();
  base::StatusOr<RestoreResult> RestoreLayer(const ManifestId& id, Trust trust);
  base::Status SaveMemory();
  void CloseSession();
  base::Status OpenSession();
  base::StatusOr<CheckpointResult> CheckpointDirect();
  LayerParts Parts(Tree& upper, Tree& lower) {
    return {.upper = upper,
            .lower = lower,
            .base = snapshot() ? nullptr : &base_,
            .blobs = blobs_,
            .clock = clock_,
            .limits = options_.limits};
  }

  const WorkspaceOptions options_;
  sandbox::Sandbox& sandbox_;
  memory::BlobStore& blobs_;
  base::FileSystem& fs_;
  base::Clock& clock_;

  std::unique_ptr<base::FileLock> lock_;
  OpenReport report_;
  WorkspaceRecord record_;
  std::string boot_id_;
  std::unique_ptr<Tree> user_tree_, upper_, lower_;
  BaseState base_;                // the tree when the workspace was first opened
  BaseState seen_;                // and when ChangesUnderneath was last asked
  std::unique_ptr<Layer> layer_;  // overlay only
  std::unique_ptr<sandbox::Session> session_;
  std::unique_ptr<Tree> files_;  // goes before the session

  // Direct mode only.
  Manifest direct_manifest_;
  ManifestId direct_current_ = EmptyManifestId();
  KnownFiles direct_known_;
  std::optional<ScanMemory> direct_memory_;
};

base::Status WorkspaceImpl::Start() {
  HF_RETURN_IF_ERROR(CheckPaths(options_));
  HF_ASSIGN_OR_RETURN(boot_id_, BootId(base::RealFileSystem()));
  HF_ASSIGN_OR_RETURN(user_tree_, OpenTree(options_.tree));
  HF_RETURN_IF_ERROR(fs_.CreateDirectories(options_.directory));
  HF_ASSIGN_OR_RETURN(lock_, fs_.Lock(options_.directory + "/lock"));
  HF_RETURN_IF_ERROR(OpenRecord());
  report_.head = record_.head;
  seen_ = base_;
  if (overlay()) {
    HF_RETURN_IF_ERROR(OpenLayer());
    HF_RETURN_IF_ERROR(Recover());
  }
  return OpenSession();
}

base::Status WorkspaceImpl::OpenRecord() {
  HF_ASSIGN_OR_RETURN(const auto found, ReadRecord(fs_, options_.directory));
  if (!found.has_value()) return StartFresh();
  record_ = *found;
  if (record_.tree != options_.tree || record_.mode != options_.mode ||
      record_.snapshot != options_.snapshot) {
    return base::FailedPrecondition(
        "workspace: " + options_.directory + " belongs to the tree " + record_.tree +
        ", or was opened in another mode; give it what it was opened with, or another "
        "directory");
  }
  HF_ASSIGN_OR_RETURN(const std::string bytes, fs_.ReadFile(options_.directory + "/base", kBaseBytesMax));
  HF_ASSIGN_OR_RETURN(base_, BaseState::Decode(bytes));
  return {};
}

// Whom the session acts for: the broker of root maps the owner of the tree, that of a user the user.
base::StatusOr<BaseState::Owner> WorkspaceImpl::Owner() {
  Tree* of = user_tree_.get();
  std::unique_ptr<Tree> own;
  if (!sandbox_.host().root) {
    HF_ASSIGN_OR_RETURN(own, OpenTree(options_.directory));
    of = own.get();
  }
  HF_ASSIGN_OR_RETURN(const EntryStat stat, of->Stat(""));
  return BaseState::Owner{stat.uid, stat.gid};
}

base::Status WorkspaceImpl::StartFresh() {
  HF_ASSIGN_OR_RETURN(const BaseState::Owner owner, Owner());
  std::vector<ForeignPath> foreign;
  HF_ASSIGN_OR_RETURN(base_,
                      BaseState::Take(*user_tree_, options_.limits.directory_entries_max, owner, &foreign));
  HF_ASSIGN_OR_RETURN(const EntryStat root, user_tree_->Stat(""));
  if (root.uid != owner.uid || root.gid != owner.gid) {
    foreign.insert(foreign.begin(), {options_.tree, root.uid, root.gid});
  }
  if (!foreign.empty() && !snapshot()) return ForeignError(options_.tree, foreign, owner);
  if (snapshot()) {
    const std::string path = LowerPath();
    HF_RETURN_IF_ERROR(fs_.CreateDirectories(path));
    HF_RETURN_IF_ERROR(
        EmptyDirectory(path, options_.limits.directory_entries_max));  // of a copy that was cut off
    HF_ASSIGN_OR_RETURN(const auto copy, OpenTree(path, {.owner_access = OwnerAccess::kForced}));
    HF_RETURN_IF_ERROR(CopyTree(*user_tree_, *copy, options_.limits.directory_entries_max));
  }
  HF_RETURN_IF_ERROR(
      base::WriteFileAtomically(fs_, options_.directory + "/base", base::AsBytes(base_.Encode())));
  report_.fresh = true;
  record_ = {.tree = options_.tree,
             .mode = options_.mode,
             .snapshot = options_.snapshot,
             .head = base_.head(),
             .opened = clock_.UtcNow()};
  return WriteRecord(fs_, options_.directory, record_);
}

base::Status WorkspaceImpl::OpenLayer() {
  HF_RETURN_IF_ERROR(fs_.CreateDirectories(LayerPath() + "/upper"));
  HF_RETURN_IF_ERROR(fs_.CreateDirectories(LayerPath() + "/work"));
  HF_ASSIGN_OR_RETURN(upper_, OpenTree(LayerPath() + "/upper", {.owner_access = OwnerAccess::kForced}));
  HF_ASSIGN_OR_RETURN(lower_, OpenTree(LowerPath()));
  layer_ = std::make_unique<Layer>(Parts(*upper_, *lower_), record_.opened);
  return {};
}

// What the layer is now, and what it should be:
//   1. Of another boot, or unknown: all is made anew from the manifest.
//   2. Of this boot, in the middle of a restore: it is restored again.
//   3. Of this boot, and the caller says what it should be: compared, and put right.
//   4. Of this boot otherwise: it is what it is.
// Where 1 or 2 is so, but not what to make, the caller may want an empty layer.
base::Status WorkspaceImpl::Recover() {
  const auto state = ReadState(fs_, options_.directory);
  const bool same_boot = state.has_value() && state->boot_id == boot_id_;
  const bool may_empty = !options_.expected.has_value() && options_.unknown == UnknownLayer::kEmpty;
  if (!state.has_value() && !report_.fresh && !options_.expected.has_value() && !may_empty) {
    return base::FailedPrecondition("workspace: " + options_.directory +
                                    " does not say any more what its layer holds; name the manifest");
  }
  const ManifestId target =
      options_.expected.value_or(state.has_value() ? state->current : EmptyManifestId());
  if (same_boot) {
    if (const auto memory = fs_.ReadFile(options_.directory + "/memory", kMemoryBytesMax); memory.ok()) {
      layer_->DecodeMemory(*memory, state->current);
    }
    if (!state->restoring && !options_.expected.has_value()) return {};
  }
  auto restored = RestoreLayer(target, same_boot ? Trust::kSameBoot : Trust::kNothing);
  if (may_empty && (absl::IsNotFound(restored.status()) || absl::IsDataLoss(restored.status()))) {
    restored = RestoreLayer(EmptyManifestId(), Trust::kNothing);
  }
  HF_ASSIGN_OR_RETURN(report_.restored, std::move(restored));
  report_.rebuilt = !report_.fresh && (!same_boot || state->restoring);
  report_.corrected = same_boot && !state->restoring &&
                      (report_.restored.changed_count > 0 || report_.restored.derived_removed > 0);
  return {};
}

base::StatusOr<RestoreResult> WorkspaceImpl::RestoreLayer(const ManifestId& id, Trust trust) {
  // With another boot's state there is nothing to spoil; a crash then leaves that state, or this one.
  const bool restoring = true;
  HF_RETURN_IF_ERROR(WriteState(fs_, options_.directory,
                                {trust == Trust::kSameBoot ? boot_id_ : std::string(), restoring, id}));
  HF_ASSIGN_OR_RETURN(RestoreResult result, layer_->Restore(id, trust));
  HF_RETURN_IF_ERROR(SaveMemory());
  return result;
}

base::Status WorkspaceImpl::SaveMemory() {
  HF_RETURN_IF_ERROR(WriteUnsynced(fs_, options_.directory + "/memory", layer_->EncodeMemory()));
  return WriteState(fs_, options_.directory, {boot_id_, false, layer_->current()});
}

void WorkspaceImpl::CloseSession() {
  files_.reset();
  session_.reset();
}

base::Status WorkspaceImpl::OpenSession() {
  sandbox::Policy policy = options_.policy;
  policy.workspace.host = LowerPath();
  if (policy.workspace.inside.empty()) policy.workspace.inside = options_.tree;
  policy.workspace.mode = options_.mode;
  policy.workspace.layer = overlay() ? LayerPath() : "";
  // Each session leaves a work directory behind.
  if (overlay())
    HF_RETURN_IF_ERROR(EmptyDirectory(LayerPath() + "/work", options_.limits.directory_entries_max));
  HF_ASSIGN_OR_RETURN(auto session, sandbox_.Open(std::move(policy)));
  HF_ASSIGN_OR_RETURN(base::Descriptor root, session->OpenWorkspace());
  HF_ASSIGN_OR_RETURN(
      files_, OpenTree(root.Release(), {.links = Links::kWithin,
                                        .identity = TreeIdentity{session->host_uid(), session->host_gid()},
                                        .is_protected = overlay() ? nullptr : &sandbox::IsProtectedName}));
  session_ = std::move(session);
  return {};
}

base::Status WorkspaceImpl::Reopen() {
  CloseSession();
  return OpenSession();
}

base::StatusOr<CheckpointResult> WorkspaceImpl::Checkpoint() {
  if (!overlay()) return CheckpointDirect();
  const ManifestId before = layer_->current();
  HF_ASSIGN_OR_RETURN(CheckpointResult result, layer_->Checkpoint());
  if (result.id != before || result.files_read > 0) HF_RETURN_IF_ERROR(SaveMemory());
  return result;
}

base::StatusOr<CheckpointResult> WorkspaceImpl::CheckpointDirect() {
  if (!direct_memory_.has_value()) {
    direct_memory_.emplace(ScanMemory{
        .derived = DerivedIndex(*user_tree_, clock_, options_.limits.directory_entries_max), .indexes = {}});
  }
  const auto batch = blobs_.NewBatch();
  const LayerParts parts = {.upper = *user_tree_,
                            .lower = *user_tree_,
                            .base = &base_,
                            .blobs = blobs_,
                            .clock = clock_,
                            .limits = options_.limits};
  HF_ASSIGN_OR_RETURN(ScanResult scan, DirectScan(parts, {.before = direct_manifest_,
                                                          .known = direct_known_,
                                                          .last_checkpoint = record_.opened,
                                                          .batch = batch.get(),
                                                          .memory = *direct_memory_}));
  HF_ASSIGN_OR_RETURN(
      const ManifestId id,
      EncodeManifest(scan.manifest, [&](std::span<const std::byte> node) { return batch->Add(node); }));
  CheckpointResult result{.id = id, .bytes_stored = batch->new_bytes()};
  if (batch->new_blobs() > 0) HF_RETURN_IF_ERROR(batch->Commit());
  result.changed = ChangedPaths(direct_manifest_, scan.manifest);
  result.dropped = std::move(scan.dropped);
  result.unstable = std::move(scan.unstable);
  result.entries = scan.manifest.entries.size();
  result.files_read = scan.files_read;
  direct_manifest_ = std::move(scan.manifest);
  direct_known_ = std::move(scan.files);
  direct_current_ = id;
  return result;
}

base::StatusOr<RestoreResult> WorkspaceImpl::Restore(const ManifestId& id) {
  if (!overlay()) {
    return base::FailedPrecondition(
        "workspace: in direct mode the tree itself is changed, and what was there is not kept; there is no "
        "way back");
  }
  CloseSession();
  auto result = RestoreLayer(id, Trust::kSameBoot);
  if (!result.ok()) return result.status();
  HF_RETURN_IF_ERROR(OpenSession());
  return result;
}

base::Status WorkspaceImpl::Fork(const ManifestId& id, const std::string& directory) {
  if (!overlay()) return base::FailedPrecondition("workspace: in direct mode there is no layer to fork");
  WorkspaceOptions options = options_;
  options.directory = directory;
  HF_RETURN_IF_ERROR(CheckPaths(options));
  HF_RETURN_IF_ERROR(fs_.CreateDirectories(directory));
  HF_ASSIGN_OR_RETURN(const auto lock, fs_.Lock(directory + "/lock"));
  HF_ASSIGN_OR_RETURN(const auto taken, ReadRecord(fs_, directory));
  if (taken.has_value())
    return absl::AlreadyExistsError(base::View("workspace: " + directory + " is one already"));
  const size_t entries_max = options_.limits.directory_entries_max;
  if (snapshot()) {
    HF_RETURN_IF_ERROR(fs_.CreateDirectories(directory + "/snapshot"));
    HF_RETURN_IF_ERROR(EmptyDirectory(directory + "/snapshot", entries_max));
    HF_ASSIGN_OR_RETURN(const auto copy,
                        OpenTree(directory + "/snapshot", {.owner_access = OwnerAccess::kForced}));
    HF_RETURN_IF_ERROR(CopyTree(*lower_, *copy, entries_max));
  }
  HF_RETURN_IF_ERROR(fs_.CreateDirectories(directory + "/layer/upper"));
  HF_ASSIGN_OR_RETURN(const auto upper,
                      OpenTree(directory + "/layer/upper", {.owner_access = OwnerAccess::kForced}));
  Layer layer(Parts(*upper, *lower_), record_.opened);
  HF_RETURN_IF_ERROR(layer.Restore(id, Trust::kNothing).status());
  HF_RETURN_IF_ERROR(base::WriteFileAtomically(fs_, directory + "/base", base::AsBytes(base_.Encode())));
  HF_RETURN_IF_ERROR(WriteUnsynced(fs_, directory + "/memory", layer.EncodeMemory()));
  HF_RETURN_IF_ERROR(WriteState(fs_, directory, {boot_id_, false, id}));
  return WriteRecord(fs_, directory, record_);
}

base::Status WorkspaceImpl::AbsorbTree(const std::vector<std::string>& paths) {
  // Into copies, so that an error in the middle leaves both as they were.
  BaseState base = base_, seen = seen_;
  HF_RETURN_IF_ERROR(base.Absorb(*user_tree_, paths));
  HF_RETURN_IF_ERROR(seen.Absorb(*user_tree_, paths));
  HF_RETURN_IF_ERROR(
      base::WriteFileAtomically(fs_, options_.directory + "/base", base::AsBytes(base.Encode())));
  base_ = std::move(base);
  seen_ = std::move(seen);
  return {};
}

base::StatusOr<TreeChanges> WorkspaceImpl::ChangesUnderneath(size_t changes_max) {
  HF_ASSIGN_OR_RETURN(BaseState now,
                      BaseState::Take(*user_tree_, options_.limits.directory_entries_max, {}, nullptr));
  TreeChanges changes = seen_.ChangesTo(now, changes_max);
  seen_ = std::move(now);
  return changes;
}

}  // namespace

base::StatusOr<std::unique_ptr<Workspace>> Workspace::Open(WorkspaceOptions options,
                                                           sandbox::Sandbox& sandbox,
                                                           memory::BlobStore& blobs, base::FileSystem& fs,
                                                           base::Clock& clock) {
  auto workspace = std::make_unique<WorkspaceImpl>(std::move(options), sandbox, blobs, fs, clock);
  HF_RETURN_IF_ERROR(workspace->Start());
  return workspace;
}

}  // namespace holdfast::workspace
