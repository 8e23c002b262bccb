#include "agent/files/diff_report.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "workspace/unified_diff.h"

namespace holdfast::agent {
namespace {

using workspace::PathChange;

// As workspace/unified_diff.h ends a text that was cut: no line of a diff begins so.
constexpr std::string_view kCutBegin = "# ";
constexpr std::string_view kCutEnd = " more changes are not shown\n";

bool IsCut(std::string_view text) {
  if (!text.ends_with(kCutEnd)) return false;
  const size_t line = text.rfind('\n', text.size() - 2);
  return text.substr(line == std::string_view::npos ? 0 : line + 1).starts_with(kCutBegin);
}

bool IsFileOrLink(const workspace::Version& version) {
  return version.kind == workspace::VersionKind::kFile || version.kind == workspace::VersionKind::kSymlink;
}

bool IsAskedFor(const DiffRequest& request, const std::string& path) {
  return request.paths.empty() ||
         std::any_of(request.paths.begin(), request.paths.end(), [&path](const std::string& asked) {
           return path == asked ||
                  (path.size() > asked.size() && path.starts_with(asked) && path[asked.size()] == '/');
         });
}

std::string NoteOf(const PathChange& change) {
  if (change.Clean()) return {};
  if (change.conflict != workspace::Conflict::kNone) {
    return std::string(workspace::Describe(change.conflict)) +
           (change.note.empty() ? "" : ": " + change.note);
  }
  return "protected" + (change.note.empty() ? "" : ": " + change.note);
}

}  // namespace

base::StatusOr<FilesDiff> DiffReportOf(workspace::Diff diff, const DiffRequest& request,
                                       memory::BlobStore& blobs) {
  std::erase_if(diff.changes,
                [&request](const PathChange& change) { return !IsAskedFor(request, change.path); });
  HF_ASSIGN_OR_RETURN(const auto counted, StatDiff(diff, blobs));
  FilesDiff report;
  for (const workspace::FileStat& file : counted) {
    PathStat stat{.path = file.path, .kind = std::string(workspace::Name(file.kind))};
    if (file.lines.has_value()) {
      stat.added = static_cast<int64_t>(file.lines->added);
      stat.removed = static_cast<int64_t>(file.lines->removed);
    }
    report.total.added += stat.added;
    report.total.removed += stat.removed;
    const PathChange* const change = diff.Find(file.path);
    if (change != nullptr) {
      stat.note = NoteOf(*change);
      if (IsFileOrLink(change->base) || IsFileOrLink(change->ours)) ++report.total.files;
    }
    if (report.paths.size() < request.paths_max) {
      report.paths.push_back(std::move(stat));
    } else {
      ++report.paths_left;
    }
  }
  if (request.text_bytes_max == 0) return report;
  HF_ASSIGN_OR_RETURN(report.text,
                      UnifiedDiff(diff, blobs, nullptr, {.text_bytes_max = request.text_bytes_max}));
  report.text_cut = IsCut(report.text);
  return report;
}

}  // namespace holdfast::agent
