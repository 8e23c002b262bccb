// From a diff and what the operator chose of it to the steps of an apply, in an order that never needs
// anything twice. For apply.cc.
#pragma once

#include <vector>

#include "base/status.h"
#include "workspace/apply.h"
#include "workspace/apply/apply_journal.h"
#include "workspace/diff.h"

namespace holdfast::workspace {

struct ApplyPlan {
  std::vector<ApplyStep> steps;
  std::vector<ApplyItem> items;  // of what has no step, in the order of the diff
};

// Order: what must make room (children first), directories (parents first), files and links, removals
// (children first), modes of directories (children first).
base::StatusOr<ApplyPlan> PlanApply(const Diff& diff, const ApplySelection& selection);

}  // namespace holdfast::workspace
