// What a workspace changed, and taking it over: diff and apply for a Workspace as a whole.
//
//   HF_ASSIGN_OR_RETURN(const auto checkpoint, workspace->Checkpoint());
//   HF_ASSIGN_OR_RETURN(const WorkspaceChanges changes, CompareWorkspace(*workspace, blobs));
//   ... UnifiedDiff(changes.diff, blobs, nullptr), or MakeBranch(..., changes.manifest, changes.diff, ...)
//   ... HF_ASSIGN_OR_RETURN(const ApplyReport report, ApplyWorkspace(*workspace, blobs, {.everything =
//   true}));
//
// All are of the last checkpoint (Workspace::current), not of what the layer holds at this moment, and are
// for overlay mode; in direct mode (FailedPrecondition) the tree has it all already.
//
// The tree is used with the rights of its owner where this process is root, so that what is made belongs to
// him.
#pragma once

#include <optional>

#include "base/file.h"
#include "base/status.h"
#include "memory/blob_store.h"
#include "workspace/apply.h"
#include "workspace/diff.h"
#include "workspace/manifest.h"
#include "workspace/workspace.h"

namespace holdfast::workspace {

struct WorkspaceChanges {
  Manifest manifest;
  Diff diff;
};

// Protected are the policy's paths. Errors of workspace/diff.h and of reading the manifest.
base::StatusOr<WorkspaceChanges> CompareWorkspace(Workspace& workspace, memory::BlobStore& blobs,
                                                  const DiffLimits& limits = {});

// Finishes what an earlier apply left (RecoverApply), applies, then takes what the tree has now out of the
// layer. For that the session is ended and a new one opened (Workspace::Restore), if anything was taken over;
// with Snapshot::kYes the layer stays, since the snapshot under it does not change. After a crash between the
// two the next call, or the next ApplyWorkspace of nothing, does it.
base::StatusOr<ApplyReport> ApplyWorkspace(Workspace& workspace, memory::BlobStore& blobs,
                                           const ApplySelection& selection,
                                           base::FileSystem& fs = base::RealFileSystem());

// To be called after Workspace::Open; as RecoverApply.
base::StatusOr<std::optional<ApplyReport>> RecoverWorkspaceApply(
    Workspace& workspace, memory::BlobStore& blobs, base::FileSystem& fs = base::RealFileSystem());

}  // namespace holdfast::workspace
