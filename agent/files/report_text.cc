#include "agent/files/report_text.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "workspace/unified_diff.h"

namespace holdfast::agent {
namespace {

using workspace::ApplyFate;
using workspace::ChangeKind;
using workspace::TreeChange;

class Lines {
 public:
  explicit Lines(const ReportBounds& bounds) : bounds_(bounds) {}

  void Add(const std::string& line) {
    if (lines_ == bounds_.lines_max || text_.size() + line.size() + 1 > bounds_.bytes_max) return Leave(1);
    ++lines_;
    text_ += line;
    text_ += '\n';
  }
  // Of these many it is only said that they are there too.
  void Leave(uint64_t count) { left_ += count; }

  std::string Text() && {
    if (left_ > 0) text_ += "and " + std::to_string(left_) + " more\n";
    return std::move(text_);
  }

 private:
  const ReportBounds bounds_;
  std::string text_;
  size_t lines_ = 0;
  uint64_t left_ = 0;
};

std::string_view LetterOf(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::kAdded:
      return "A ";
    case ChangeKind::kDeleted:
      return "D ";
    case ChangeKind::kModified:
    case ChangeKind::kModeOnly:
    case ChangeKind::kTypeChanged:
      return "M ";
  }
  return "M ";
}

std::string_view LetterOf(TreeChange::Kind kind) {
  switch (kind) {
    case TreeChange::Kind::kAdded:
      return "A ";
    case TreeChange::Kind::kRemoved:
      return "D ";
    case TreeChange::Kind::kChanged:
      return "M ";
  }
  return "M ";
}

std::string CommitName(const std::string& head) { return head.empty() ? "none" : head; }

}  // namespace

FilesReport ReportOf(const workspace::ApplyReport& report, const workspace::Diff& diff,
                     const ReportBounds& bounds) {
  FilesReport files{.applied = static_cast<int64_t>(report.Count(ApplyFate::kApplied)),
                    .conflicts = static_cast<int64_t>(report.Count(ApplyFate::kConflict)),
                    .refused = static_cast<int64_t>(report.Count(ApplyFate::kRefused)),
                    .failed = static_cast<int64_t>(report.Count(ApplyFate::kFailed))};
  Lines lines(bounds);
  const auto add = [&](ApplyFate fate, const char* word) {
    for (const workspace::ApplyItem& item : report.items) {
      if (item.fate != fate) continue;
      const std::string note = item.note.empty() ? "" : ": " + workspace::QuoteForDiff(item.note);
      lines.Add(word + workspace::QuoteForDiff(item.path) + note);
    }
  };
  add(ApplyFate::kConflict, "conflict: ");
  add(ApplyFate::kRefused, "protected: ");
  add(ApplyFate::kFailed, "failed: ");
  for (const workspace::ApplyItem& item : report.items) {
    if (item.fate != ApplyFate::kApplied) continue;
    const workspace::PathChange* const change = diff.Find(item.path);
    const std::string_view letter = change == nullptr ? "M " : LetterOf(change->kind);
    lines.Add(std::string(letter) + workspace::QuoteForDiff(item.path));
  }
  files.text = std::move(lines).Text();
  return files;
}

FilesReport ReportOf(const workspace::BranchResult& branch, const workspace::Diff& diff,
                     const ReportBounds& bounds) {
  const size_t left_out = std::min(branch.left_out.size(), diff.changes.size());
  Lines lines(bounds);
  lines.Add("branch " + branch.ref + " at " + branch.commit);
  for (const std::string& path : branch.left_out) lines.Add("left out: " + path);
  if (!branch.note.empty()) lines.Add(branch.note);
  return {.applied = static_cast<int64_t>(diff.changes.size() - left_out),
          .refused = static_cast<int64_t>(left_out),
          .text = std::move(lines).Text(),
          .branch = branch.ref,
          .commit = branch.commit};
}

FilesReport ReportOf(const workspace::TreeChanges& changes, const ReportBounds& bounds) {
  Lines lines(bounds);
  if (changes.head_before != changes.head_now) {
    lines.Add("HEAD " + CommitName(changes.head_now) + ", was " + CommitName(changes.head_before));
  }
  for (const TreeChange& change : changes.changes) {
    lines.Add(std::string(LetterOf(change.kind)) + workspace::QuoteForDiff(change.path));
  }
  lines.Leave(changes.count - changes.changes.size());
  return {.text = std::move(lines).Text()};
}

}  // namespace holdfast::agent
