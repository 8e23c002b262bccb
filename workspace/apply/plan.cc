#include "workspace/apply/plan.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr uint32_t kOwnerAll = 0700;

using PathSet = std::set<std::string, std::less<>>;

bool IsDirectory(const Version& version) { return version.kind == VersionKind::kDirectory; }
bool IsAbsent(const Version& version) { return version.kind == VersionKind::kAbsent; }

bool IsSelected(const PathSet& paths, std::string_view path) {
  for (;; path = Parent(path)) {
    if (paths.contains(path)) return true;
    if (path.empty()) return false;
  }
}

// Whether the operator's word can settle it: what is lost is one file or link that he was shown.
bool CanTakeOurs(const PathChange& change) {
  switch (change.conflict) {
    case Conflict::kBothChanged:
    case Conflict::kAddedUnderneath:
    case Conflict::kDeletedUnderneath:
    case Conflict::kChangedUnderneath:
    case Conflict::kUncertainBase:
      return !IsDirectory(change.theirs) && !IsDirectory(change.ours);
    default:
      return false;
  }
}

class Planner {
 public:
  Planner(const Diff& diff, const ApplySelection& selection)
      : diff_(diff),
        selection_(selection),
        take_ours_(selection.take_ours.begin(), selection.take_ours.end()),
        allowed_(selection.allow_protected.begin(), selection.allow_protected.end()) {}

  base::StatusOr<ApplyPlan> Run() {
    HF_RETURN_IF_ERROR(CheckNames());
    const PathSet chosen = Chosen();
    for (const PathChange& change : diff_.changes) {
      if (chosen.contains(change.path)) {
        Consider(change);
      } else {
        plan_.items.push_back({change.path, ApplyFate::kNotSelected, change.note});
      }
    }
    std::reverse(room_.begin(), room_.end());
    std::reverse(removals_.begin(), removals_.end());
    std::reverse(modes_.begin(), modes_.end());
    for (std::vector<ApplyStep>* part : {&room_, &directories_, &puts_, &removals_, &modes_}) {
      for (ApplyStep& step : *part) plan_.steps.push_back(std::move(step));
    }
    return std::move(plan_);
  }

 private:
  base::Status CheckNames() const {
    for (const std::vector<std::string>* paths :
         {&selection_.paths, &selection_.take_ours, &selection_.allow_protected}) {
      for (const std::string& path : *paths) {
        HF_RETURN_IF_ERROR(ValidatePath(path));
        const bool known =
            path.empty() || std::any_of(diff_.changes.begin(), diff_.changes.end(), [&](const auto& c) {
              return c.path == path || (c.path.starts_with(path) && c.path[path.size()] == '/');
            });
        if (!known) return base::InvalidArgument(ShowPath(path) + ": nothing was changed there");
      }
    }
    return {};
  }

  PathSet Chosen() const {
    PathSet chosen;
    const PathSet wanted(selection_.paths.begin(), selection_.paths.end());
    for (const PathChange& change : diff_.changes) {
      if (selection_.everything || IsSelected(wanted, change.path)) chosen.insert(change.path);
    }
    // A file cannot be put into a directory that is not there.
    PathSet above;
    for (const std::string& path : chosen) {
      for (std::string_view parent = Parent(path); !parent.empty(); parent = Parent(parent)) {
        const PathChange* change = diff_.Find(parent);
        if (change != nullptr && IsDirectory(change->result) && !IsDirectory(change->theirs))
          above.emplace(parent);
      }
    }
    chosen.merge(above);
    return chosen;
  }

  void Consider(const PathChange& change) {
    const auto leave = [&](ApplyFate fate) { plan_.items.push_back({change.path, fate, change.note}); };
    if (change.guard == Guard::kRefusedAlways) return leave(ApplyFate::kRefused);
    if (change.guard == Guard::kRefused && !allowed_.contains(change.path)) return leave(ApplyFate::kRefused);
    if (change.conflict != Conflict::kNone && !(take_ours_.contains(change.path) && CanTakeOurs(change))) {
      return leave(ApplyFate::kConflict);
    }
    if (change.already) return leave(ApplyFate::kAlready);
    AddSteps(change, change.conflict == Conflict::kNone ? change.result : OursAlone(change));
  }

  static Version OursAlone(const PathChange& change) {
    Version result = change.ours;
    result.mode &= 0777;
    return result;
  }

  void AddSteps(const PathChange& change, const Version& result) {
    const Version& theirs = change.theirs;
    const bool swaps_kind =
        !IsAbsent(theirs) && !IsAbsent(result) && IsDirectory(theirs) != IsDirectory(result);
    if (swaps_kind) room_.push_back({ApplyStepKind::kRemove, change.path, theirs, result, 0});
    const Version expected = swaps_kind ? Version() : theirs;
    if (IsAbsent(result)) {
      // In a directory that something else will replace, it must be gone before.
      (RoomIsNeeded(change.path) ? room_ : removals_)
          .push_back({ApplyStepKind::kRemove, change.path, expected, result, 0});
    } else if (IsDirectory(result)) {
      AddDirectory(change.path, expected, result);
    } else {
      AddFile(change, expected, result);
    }
  }

  bool RoomIsNeeded(std::string_view path) const {
    for (path = Parent(path); !path.empty(); path = Parent(path)) {
      const PathChange* above = diff_.Find(path);
      if (above != nullptr && IsDirectory(above->theirs) && !IsDirectory(above->result) &&
          !IsAbsent(above->result)) {
        return true;
      }
    }
    return false;
  }

  void AddDirectory(const std::string& path, const Version& expected, const Version& result) {
    Version open = result;
    open.mode |= kOwnerAll;  // until all is in it
    if (!IsDirectory(expected)) {
      directories_.push_back({ApplyStepKind::kMakeDirectory, path, expected, open, 0});
      if (open.mode == result.mode) return;
      modes_.push_back({ApplyStepKind::kSetMode, path, open, result, 0});
    } else if (expected.mode != result.mode) {
      modes_.push_back({ApplyStepKind::kSetMode, path, expected, result, 0});
    }
  }

  void AddFile(const PathChange& change, const Version& expected, const Version& result) {
    const bool mode_only = expected.kind == VersionKind::kFile && result.kind == VersionKind::kFile &&
                           expected.content == result.content;
    if (mode_only) {
      puts_.push_back({ApplyStepKind::kSetMode, change.path, expected, result, 0});
    } else {
      puts_.push_back({ApplyStepKind::kPut, change.path, expected, result, next_staged_++});
    }
  }

  const Diff& diff_;
  const ApplySelection& selection_;
  const PathSet take_ours_, allowed_;
  ApplyPlan plan_;
  std::vector<ApplyStep> room_, directories_, puts_, removals_, modes_;
  uint32_t next_staged_ = 0;
};

}  // namespace

base::StatusOr<ApplyPlan> PlanApply(const Diff& diff, const ApplySelection& selection) {
  return Planner(diff, selection).Run();
}

}  // namespace holdfast::workspace
