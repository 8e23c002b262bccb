#include "workspace/apply.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/coding.h"
#include "workspace/apply/apply_journal.h"
#include "workspace/apply/commit.h"
#include "workspace/apply/plan.h"
#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

base::Status WriteJournal(const ApplyPlace& place, const ApplyJournal& journal) {
  return base::WriteFileAtomically(place.fs, place.journal, base::AsBytes(EncodeApplyJournal(journal)));
}

base::Status RemoveJournal(const ApplyPlace& place) {
  HF_RETURN_IF_ERROR(place.fs.Remove(place.journal));
  return place.fs.SyncDirectory(base::ParentDirectory(place.journal));
}

base::Status CheckNoJournal(const ApplyPlace& place) {
  const auto stat = place.fs.Stat(place.journal);
  if (absl::IsNotFound(stat.status())) return {};
  HF_RETURN_IF_ERROR(stat.status());
  return base::FailedPrecondition("an earlier apply was interrupted and must be recovered first: " +
                                  place.journal);
}

// The device of the directory that `path` is, or will be, made in.
base::StatusOr<uint64_t> DeviceAbove(Tree& tree, std::string_view path) {
  for (;;) {
    path = Parent(path);
    const auto stat = tree.Stat(path);
    if (stat.ok()) return stat->device;
    if (!absl::IsNotFound(stat.status()) && !absl::IsFailedPrecondition(stat.status())) return stat.status();
    if (path.empty()) return stat.status();
  }
}

// A rename does not lead from one file system to another, so what is mounted within the tree is left alone.
base::Status LeaveOtherDevices(Tree& user, ApplyPlan& plan) {
  HF_ASSIGN_OR_RETURN(const EntryStat root, user.Stat(""));
  std::set<std::string, std::less<>> elsewhere;
  for (const ApplyStep& step : plan.steps) {
    if (step.kind != ApplyStepKind::kPut) continue;
    HF_ASSIGN_OR_RETURN(const uint64_t device, DeviceAbove(user, step.path));
    if (device != root.device) elsewhere.insert(step.path);
  }
  std::erase_if(plan.steps, [&](const ApplyStep& step) { return elsewhere.contains(step.path); });
  for (const std::string& path : elsewhere) {
    plan.items.push_back({path, ApplyFate::kFailed, "on another file system than the root of the tree"});
  }
  return {};
}

void Sort(std::vector<ApplyItem>& items) {
  std::sort(items.begin(), items.end(),
            [](const ApplyItem& a, const ApplyItem& b) { return ComparePaths(a.path, b.path) < 0; });
}

// Before the first step: all that was made is taken back.
base::Status GiveUp(const ApplyPlace& place, Committer& committer, const base::Status& why) {
  if (committer.Clean().ok()) (void)RemoveJournal(place);  // else RecoverApply does it
  return why;
}

base::Status Finish(const ApplyPlace& place, Committer& committer, const ApplyJournal& journal,
                    ApplyReport& report) {
  HF_RETURN_IF_ERROR(committer.Run(journal.steps, report.items));
  Sort(report.items);
  HF_RETURN_IF_ERROR(committer.Clean());
  return RemoveJournal(place);
}

bool HoldsNothing(const ManifestEntry& entry) { return !entry.Changed() && !entry.hidden && !entry.opaque; }

}  // namespace

std::string_view Name(ApplyFate fate) {
  constexpr std::array<std::string_view, 6> kNames = {"applied",  "already there", "not selected",
                                                      "conflict", "refused",       "failed"};
  return kNames[static_cast<size_t>(fate)];
}

size_t ApplyReport::Count(ApplyFate fate) const {
  return static_cast<size_t>(
      std::count_if(items.begin(), items.end(), [fate](const ApplyItem& item) { return item.fate == fate; }));
}

base::StatusOr<ApplyReport> Apply(const Diff& diff, const ApplySelection& selection, const ApplyPlace& place,
                                  memory::BlobStore& blobs, base::Entropy& entropy) {
  HF_RETURN_IF_ERROR(CheckNoJournal(place));
  HF_ASSIGN_OR_RETURN(ApplyPlan plan, PlanApply(diff, selection));
  HF_RETURN_IF_ERROR(LeaveOtherDevices(place.user, plan));
  ApplyReport report = {.items = std::move(plan.items)};
  if (plan.steps.empty()) {
    Sort(report.items);
    return report;
  }
  ApplyJournal journal = {
      .phase = ApplyPhase::kStaging, .staging = StagingName(entropy.Next64()), .steps = {}};
  HF_RETURN_IF_ERROR(WriteJournal(place, journal));
  Committer committer(place.user, blobs, journal.staging, place.sync_all_from);
  if (const base::Status staged = committer.StageAll(plan.steps); !staged.ok()) {
    return GiveUp(place, committer, staged);
  }
  journal.phase = ApplyPhase::kCommitting;
  journal.steps = std::move(plan.steps);
  if (const base::Status written = WriteJournal(place, journal); !written.ok()) {
    return GiveUp(place, committer, written);
  }
  HF_RETURN_IF_ERROR(Finish(place, committer, journal, report));
  return report;
}

base::StatusOr<std::optional<ApplyReport>> RecoverApply(const ApplyPlace& place, memory::BlobStore& blobs) {
  auto bytes = place.fs.ReadFile(place.journal, kApplyJournalBytesMax);
  if (absl::IsNotFound(bytes.status())) return std::optional<ApplyReport>();
  HF_RETURN_IF_ERROR(bytes.status());
  auto journal = DecodeApplyJournal(base::AsBytes(*bytes));
  if (!journal.ok()) return base::Annotate(journal.status(), place.journal);
  Committer committer(place.user, blobs, journal->staging, place.sync_all_from);
  ApplyReport report;
  if (journal->phase == ApplyPhase::kStaging) {
    report.forgotten = true;
    HF_RETURN_IF_ERROR(committer.Clean());
    HF_RETURN_IF_ERROR(RemoveJournal(place));
    return std::optional(std::move(report));
  }
  HF_RETURN_IF_ERROR(committer.StageMissing(journal->steps));
  HF_RETURN_IF_ERROR(Finish(place, committer, *journal, report));
  return std::optional(std::move(report));
}

Manifest Settled(const Manifest& manifest, const Diff& diff) {
  Manifest left;
  // From the leaves up: a directory stays while something in it does.
  std::set<std::string, std::less<>> needed;
  for (size_t i = manifest.entries.size(); i-- > 0;) {
    ManifestEntry entry = manifest.entries[i];
    const PathChange* change = diff.Find(entry.path);
    const bool settled = change == nullptr ? HoldsNothing(entry) : change->already;
    const bool covers = needed.contains(entry.path);
    if ((settled || (change == nullptr && entry.opaque)) && !covers) continue;
    if (settled && change != nullptr) {
      entry.base = change->theirs;
      entry.now.mode = change->theirs.mode;
    }
    needed.emplace(Parent(entry.path));
    left.entries.push_back(std::move(entry));
  }
  std::reverse(left.entries.begin(), left.entries.end());
  return left;
}

}  // namespace holdfast::workspace
