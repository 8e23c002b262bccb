// What happened to files, in lines for people and for the model: one a path, in a fixed order, bounded.
#pragma once

#include <cstddef>

#include "agent/session_files.h"
#include "workspace/apply.h"
#include "workspace/diff.h"
#include "workspace/git_branch.h"
#include "workspace/workspace.h"

namespace holdfast::agent {

struct ReportBounds {
  size_t lines_max = 200;  // of paths; the rest is counted in a last line
  size_t bytes_max = 16 * 1024;
};

// First what was not taken over, and why ("conflict: PATH: REASON", "protected: ...", "failed: ..."), then
// what was ("A PATH", "M PATH", "D PATH"). `diff` is the one that was applied.
FilesReport ReportOf(const workspace::ApplyReport& report, const workspace::Diff& diff,
                     const ReportBounds& bounds);

// "branch REF at COMMIT", then "left out: PATH: WHY", and why commits made inside were not taken.
FilesReport ReportOf(const workspace::BranchResult& branch, const workspace::Diff& diff,
                     const ReportBounds& bounds);

// "HEAD COMMIT, was COMMIT" when it moved, then "A PATH", "M PATH", "D PATH". Empty when nothing changed.
FilesReport ReportOf(const workspace::TreeChanges& changes, const ReportBounds& bounds);

}  // namespace holdfast::agent
