// Carries changes of a session into the user's tree.
//
//   HF_ASSIGN_OR_RETURN(const Diff diff, DiffThreeWays(manifest, user));
//   HF_ASSIGN_OR_RETURN(const ApplyReport report, Apply(diff, {.everything = true}, place, blobs));
//   ... diff again; Settled(manifest, diff) is what remains in the layer: workspace.h, Restore ...
//
// A crash at any point leaves each file of the tree as it was or as it is to be; RecoverApply then finishes
// (or, when not all new contents were there yet, forgets) what was begun. A path that changes between a
// directory and something else may be absent in between. How:
//
//   1. The journal (docs/formats/apply_journal.md) names a staging directory in the root of the tree.
//   2. All new files and links are made there and synced. An error until here undoes it all.
//   3. The journal gets the steps, each with what must be there before; synced.
//   4. Each step looks whether the path still is what the diff saw, and is done: room is made, then
//      directories, files by rename, removals, modes. A path that changed meanwhile is left: a conflict.
//   5. All directories concerned are synced, the staging directory removed, then the journal.
//
// Between the look of step 4 and the rename some microseconds pass in which a change by somebody else is
// lost; what is added is never put over something (renameat2 with RENAME_NOREPLACE).
//
// A file is replaced, not written to: other names of it (hard links) keep the old content, and what was
// attached to it beside its mode (extended attributes, access lists) is gone. It belongs to whom the tree is
// used as: where the process is root, open the tree with the identity of its owner.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/random.h"
#include "base/status.h"
#include "memory/blob_store.h"
#include "workspace/diff.h"
#include "workspace/manifest.h"
#include "workspace/tree.h"

namespace holdfast::workspace {

struct ApplySelection {
  bool everything = false;
  // Else these, all beneath them, and the new directories above them.
  std::vector<std::string> paths;

  // The operator's decisions, each for one path; neither is ever the model's.
  std::vector<std::string> take_ours;        // despite a conflict over its content, mode or existence
  std::vector<std::string> allow_protected;  // despite Guard::kRefused; nothing helps against kRefusedAlways
};

enum class ApplyFate {
  kApplied,
  kAlready,  // the tree has it so
  kNotSelected,
  kConflict,  // see the note; the tree keeps its version, the layer ours
  kRefused,   // protected
  kFailed,    // the host could not: the note has the error
};
std::string_view Name(ApplyFate fate);

struct ApplyItem {
  std::string path;
  ApplyFate fate = ApplyFate::kApplied;
  std::string note;
};

struct ApplyReport {
  std::vector<ApplyItem> items;  // by ComparePaths, one for each path
  // Set by RecoverApply: what was begun had not got as far as to touch the tree, and is forgotten.
  bool forgotten = false;

  size_t Count(ApplyFate fate) const;
};

// Where an apply is carried out.
struct ApplyPlace {
  Tree& user;            // the tree the diff was made against, with Links::kRefuse
  base::FileSystem& fs;  // of the journal
  std::string journal;   // a path in a directory of the session's own, which nobody else can write to
  size_t sync_all_from =
      24;  // steps from which on one Tree::SyncAll replaces a sync for each file and directory
};

// One apply at a time for each journal.
//
//
// InvalidArgument for a selected path that is not in the diff; FailedPrecondition when an earlier apply waits
// for RecoverApply; errors of the tree, the journal and `blobs` until the first step, and then nothing was
// changed. After that errors are in the report. Costs an fsync for each file and each directory concerned,
// or, for many, two syncs of the whole file system.
base::StatusOr<ApplyReport> Apply(const Diff& diff, const ApplySelection& selection, const ApplyPlace& place,
                                  memory::BlobStore& blobs, base::Entropy& entropy = base::RealEntropy());

// To be called before anything else touches the tree when a session is taken up again. None when there is
// nothing to recover. Steps that are done are left, others done if the tree still is what they need; contents
// that the crash took are read from `blobs` again. DataLoss for a journal that cannot be read: the tree is
// whole then too, file by file, but what was to be done is not known; remove the journal after a look.
base::StatusOr<std::optional<ApplyReport>> RecoverApply(const ApplyPlace& place, memory::BlobStore& blobs);

// The manifest without what the tree has already, as `diff` (made of this manifest, after the apply) says,
// and without directories that hold nothing more.
Manifest Settled(const Manifest& manifest, const Diff& diff);

}  // namespace holdfast::workspace
