#include "workspace/changes.h"

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "workspace/protected.h"
#include "workspace/tree.h"

namespace holdfast::workspace {
namespace {

base::Status CheckOverlay(const Workspace& workspace) {
  if (workspace.options().mode == sandbox::WorkspaceMode::kOverlay) return {};
  return base::FailedPrecondition(workspace.options().tree +
                                  ": in direct mode all changes are in the tree already");
}

base::StatusOr<std::unique_ptr<Tree>> OpenAsOwner(Workspace& workspace) {
  HF_ASSIGN_OR_RETURN(const EntryStat root, workspace.user_tree().Stat(""));
  return OpenTree(workspace.options().tree, {.identity = TreeIdentity{root.uid, root.gid}});
}

ApplyPlace PlaceOf(Workspace& workspace, Tree& user, base::FileSystem& fs) {
  return {user, fs, workspace.options().directory + "/apply.journal"};
}

// Makes the layer hold what the tree does not have yet.
base::Status Settle(Workspace& workspace, memory::BlobStore& blobs) {
  if (workspace.options().snapshot == Snapshot::kYes) return {};
  HF_ASSIGN_OR_RETURN(const WorkspaceChanges changes, CompareWorkspace(workspace, blobs));
  const Manifest left = Settled(changes.manifest, changes.diff);
  if (left == changes.manifest) return {};
  const auto batch = blobs.NewBatch();
  HF_ASSIGN_OR_RETURN(const ManifestId id, EncodeManifest(left, [&](std::span<const std::byte> node) {
                        return batch->Add(node);
                      }));
  HF_RETURN_IF_ERROR(batch->Commit());
  std::vector<std::string> taken;
  for (const PathChange& change : changes.diff.changes) {
    if (change.already) taken.push_back(change.path);
  }
  HF_RETURN_IF_ERROR(workspace.AbsorbTree(taken));
  return workspace.Restore(id).status();
}

}  // namespace

base::StatusOr<WorkspaceChanges> CompareWorkspace(Workspace& workspace, memory::BlobStore& blobs,
                                                  const DiffLimits& limits) {
  HF_RETURN_IF_ERROR(CheckOverlay(workspace));
  WorkspaceChanges changes;
  HF_ASSIGN_OR_RETURN(changes.manifest,
                      DecodeManifest(workspace.current(), [&](const BlobId& id, size_t bytes_max) {
                        return blobs.Read(id, bytes_max);
                      }));
  const ProtectedPaths guards(workspace.options().policy.protected_paths);
  HF_ASSIGN_OR_RETURN(changes.diff, DiffThreeWays(changes.manifest, workspace.user_tree(), guards, limits));
  return changes;
}

base::StatusOr<std::optional<ApplyReport>> RecoverWorkspaceApply(Workspace& workspace,
                                                                 memory::BlobStore& blobs,
                                                                 base::FileSystem& fs) {
  HF_RETURN_IF_ERROR(CheckOverlay(workspace));
  HF_ASSIGN_OR_RETURN(const auto user, OpenAsOwner(workspace));
  HF_ASSIGN_OR_RETURN(auto report, RecoverApply(PlaceOf(workspace, *user, fs), blobs));
  if (report.has_value()) HF_RETURN_IF_ERROR(Settle(workspace, blobs));
  return report;
}

base::StatusOr<ApplyReport> ApplyWorkspace(Workspace& workspace, memory::BlobStore& blobs,
                                           const ApplySelection& selection, base::FileSystem& fs) {
  HF_RETURN_IF_ERROR(RecoverWorkspaceApply(workspace, blobs, fs).status());
  HF_ASSIGN_OR_RETURN(const WorkspaceChanges changes, CompareWorkspace(workspace, blobs));
  HF_ASSIGN_OR_RETURN(const auto user, OpenAsOwner(workspace));
  HF_ASSIGN_OR_RETURN(ApplyReport report,
                      Apply(changes.diff, selection, PlaceOf(workspace, *user, fs), blobs));
  HF_RETURN_IF_ERROR(Settle(workspace, blobs));
  return report;
}

}  // namespace holdfast::workspace
