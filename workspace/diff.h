// What a session changed, compared three ways: the base it saw, what its layer holds now (ours), and what the
// user's tree holds now (theirs). workspace/unified_diff.h makes text of it, workspace/apply.h carries it
// out.
//
// Contents are compared by their SHA-256. A file that both sides made the same is no conflict, and mode and
// content are merged apart: a new mode on one side and new content on the other go together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "workspace/manifest.h"
#include "workspace/protected.h"
#include "workspace/tree.h"

namespace holdfast::workspace {

enum class ChangeKind { kAdded, kModified, kModeOnly, kDeleted, kTypeChanged };
std::string_view Name(ChangeKind kind);  // "added", "modified", "mode", ...

// Why the tree cannot take a change as it is.
enum class Conflict {
  kNone,
  kBothChanged,         // neither side is the base, and they differ
  kAddedUnderneath,     // something else is there that was not there before
  kDeletedUnderneath,   // changed here, gone there
  kChangedUnderneath,   // deleted here, changed there
  kParentGone,          // the directory it lies in is gone there
  kParentNotDirectory,  // it lies in what is a file, link or other thing there
  kNotEmpty,            // a directory deleted here that holds things there which the session never saw
  kUncertainBase,       // the base was changing while it was recorded, or was too large to keep
  kUnsupported,         // a FIFO, socket or device is there, or it cannot be read
};
std::string_view Describe(Conflict conflict);  // "changed on both sides"

struct PathChange {
  std::string path;
  ChangeKind kind = ChangeKind::kModified;
  Version base, ours, theirs;

  // What the path should become: ours, with what only their side changed, and never set-user-id, set-group-id
  // or sticky for a file.
  Version result;

  bool already = false;  // theirs is the result: nothing to do
  Conflict conflict = Conflict::kNone;
  Guard guard = Guard::kNone;
  std::string note;  // of conflict or guard, for people: "looks like a part of .git", "a link to ..."

  // kNone or kFlagged, and no conflict.
  bool Clean() const;
};

struct DiffLimits {
  uint64_t theirs_bytes_max = uint64_t{16} << 30;  // of all their files that are hashed
  size_t entries_max = 1'000'000;                  // of a directory that is looked into
};

struct Diff {
  std::vector<PathChange> changes;  // by ComparePaths, each path once; directories before what is in them

  const PathChange* Find(std::string_view path) const;
};

// Costs a stat for each change and its new parents, and a read of each of their files that could be the base
// or the result. Errors of single paths become conflicts; ResourceExhausted names the limit that was met.
base::StatusOr<Diff> DiffThreeWays(const Manifest& manifest, Tree& theirs, const ProtectedPaths& guards = {},
                                   const DiffLimits& limits = {});

// What a tree holds at a path, with the content's hash. NotFound is kAbsent. FailedPrecondition when it is no
// file, directory or link, or lies under one; ResourceExhausted for a file of more than `bytes_max`;
// Unavailable for one that changes while it is read, three times running.
base::StatusOr<Version> ReadVersion(Tree& tree, std::string_view path, uint64_t bytes_max = UINT64_MAX);

}  // namespace holdfast::workspace
