#include "workspace/unified_diff.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/coding.h"
#include "base/hash.h"
#include "workspace/path.h"
#include "workspace/protected.h"

namespace holdfast::workspace {
namespace {

constexpr std::string_view kNowhere = "/dev/null";

// A side of a change as git sees it: absent, a file, or a link whose content is its target.
struct Side {
  const Version* version = nullptr;
  std::string bytes;
  bool known = true;  // false: too large, or it cannot be read

  bool present() const {
    return version->kind == VersionKind::kFile || version->kind == VersionKind::kSymlink;
  }
  std::string_view mode() const {
    if (version->kind == VersionKind::kSymlink) return "120000";
    return (version->mode & 0100) != 0 ? "100755" : "100644";
  }
};

struct LineEnds {
  size_t lf = 0, crlf = 0;
};

LineEnds CountLineEnds(std::string_view text) {
  LineEnds ends;
  for (size_t at = text.find('\n'); at != text.npos; at = text.find('\n', at + 1)) {
    (at > 0 && text[at - 1] == '\r' ? ends.crlf : ends.lf) += 1;
  }
  return ends;
}

std::string_view LineEndName(const LineEnds& ends) {
  if (ends.crlf == 0) return ends.lf == 0 ? "none" : "LF";
  return ends.lf == 0 ? "CR LF" : "mixed";
}

class Writer {
 public:
  Writer(memory::BlobStore& blobs, Tree* theirs, const UnifiedOptions& options)
      : blobs_(blobs), theirs_(theirs), options_(options) {}

  // The text of one change; empty when there is nothing to show.
  std::string Text(const PathChange& change) {
    Side before = {.version = options_.against == Against::kBase ? &change.base : &change.theirs};
    Side after = {.version = options_.against == Against::kBase ? &change.ours : &change.result};
    std::string text = Remarks(change);
    if (!before.present() && !after.present()) return text;
    Load(change, before);
    Load(change, after);
    text += LineEndRemark(change.path, before, after);
    const bool same_type = before.version->kind == after.version->kind;
    if (before.present() && after.present() && !same_type) {
      // git has no word for it: a deletion and a creation of one name.
      const Side none = {.version = &absent_};
      return text + OneFile(change.path, before, none) + OneFile(change.path, none, after);
    }
    return text + OneFile(change.path, before, after);
  }

  std::optional<LineCounts> Lines(const PathChange& change) {
    Side before = {.version = &change.base}, after = {.version = &change.ours};
    if (!before.present() && !after.present()) return std::nullopt;
    Load(change, before);
    Load(change, after);
    if (!before.known || !after.known || IsBinary(before.bytes) || IsBinary(after.bytes)) return std::nullopt;
    return Count(DiffLines(SplitLines(before.bytes), SplitLines(after.bytes), options_.text));
  }

 private:
  void Load(const PathChange& change, Side& side) {
    const Version& version = *side.version;
    if (version.kind == VersionKind::kSymlink) side.bytes = version.target;
    if (version.kind != VersionKind::kFile) return;
    side.known = false;
    if (!version.content.has_value() || version.size_bytes > options_.file_bytes_max) return;
    if (blobs_.Contains(*version.content)) {
      auto bytes = blobs_.Read(*version.content, options_.file_bytes_max);
      if (bytes.ok()) {
        side.bytes = *std::move(bytes);
        side.known = true;
        return;
      }
    }
    if (theirs_ == nullptr) return;
    auto content = ReadWhole(*theirs_, change.path, options_.file_bytes_max);
    if (!content.ok() || base::Sha256Of(base::AsBytes(content->bytes)) != *version.content) return;
    side.bytes = std::move(content->bytes);
    side.known = true;
  }

  static std::string Remarks(const PathChange& change) {
    std::string text;
    const std::string path = QuoteForDiff(change.path);
    if (change.conflict != Conflict::kNone)
      text += "# " + path + ": conflict: " + std::string(Describe(change.conflict)) + "\n";
    if (change.guard == Guard::kRefused || change.guard == Guard::kRefusedAlways) {
      text += "# " + ShowPath(change.path) + ": not applied: " + ShowPath(change.note) + "\n";
    } else if (change.guard == Guard::kFlagged) {
      text += "# " + path + ": look at this one: " + ShowPath(change.note) + "\n";
    }
    const VersionKind from = change.base.kind, to = change.ours.kind;
    if (from == VersionKind::kDirectory || to == VersionKind::kDirectory) {
      text += "# " + path + ": directory " + std::string(Name(change.kind)) + "\n";
    }
    return text;
  }

  static std::string LineEndRemark(std::string_view path, const Side& before, const Side& after) {
    if (!before.known || !after.known || IsBinary(before.bytes) || IsBinary(after.bytes)) return {};
    if (after.version->kind != VersionKind::kFile) return {};
    const std::string_view now = LineEndName(CountLineEnds(after.bytes));
    if (before.version->kind != VersionKind::kFile) {
      if (now == "none" || now == "LF") return {};
      return "# " + QuoteForDiff(path) + ": line ends " + std::string(now) + "\n";
    }
    const std::string_view then = LineEndName(CountLineEnds(before.bytes));
    if (now == then || now == "none" || then == "none") return {};
    return "# " + QuoteForDiff(path) + ": line ends " + std::string(then) + " became " + std::string(now) +
           "\n";
  }

  std::string OneFile(std::string_view path, const Side& before, const Side& after) const {
    const std::string a = Quoted("a/", path), b = Quoted("b/", path);
    std::string text = "diff --git " + a + " " + b + "\n";
    if (!before.present()) {
      text += "new file mode " + std::string(after.mode()) + "\n";
    } else if (!after.present()) {
      text += "deleted file mode " + std::string(before.mode()) + "\n";
    } else if (before.mode() != after.mode()) {
      text += "old mode " + std::string(before.mode()) + "\nnew mode " + std::string(after.mode()) + "\n";
    }
    if (before.known && after.known && before.bytes == after.bytes) {
      return before.present() && after.present() && before.mode() == after.mode() ? "" : text;
    }
    const std::string_view from = before.present() ? a : kNowhere, to = after.present() ? b : kNowhere;
    if (!before.known || !after.known || IsBinary(before.bytes) || IsBinary(after.bytes)) {
      return text + "Binary files " + std::string(from) + " and " + std::string(to) + " differ\n";
    }
    const auto old_lines = SplitLines(before.bytes), new_lines = SplitLines(after.bytes);
    text += "--- " + Header(from) + "\n+++ " + Header(to) + "\n";
    return text + UnifiedHunks(old_lines, new_lines, DiffLines(old_lines, new_lines, options_.text),
                               options_.context);
  }

  static std::string Quoted(std::string_view prefix, std::string_view path) {
    std::string quoted = QuoteForDiff(path);
    return quoted.starts_with('"') ? "\"" + std::string(prefix) + quoted.substr(1)
                                   : std::string(prefix) + quoted;
  }

  // A name with a space would end there for `patch`, so a tab says where it ends.
  static std::string Header(std::string_view name) {
    const bool space = name.find(' ') != name.npos && !name.starts_with('"');
    return std::string(name) + (space ? "\t" : "");
  }

  memory::BlobStore& blobs_;
  Tree* theirs_;
  const UnifiedOptions& options_;
  const Version absent_;
};

bool IsPlain(std::string_view path) {
  // What ShowPath leaves alone or shows as an ordinary letter.
  for (size_t at = 0; at < path.size(); ++at) {
    const auto c = static_cast<unsigned char>(path[at]);
    if (c < 0x20 || c == 0x7F || c == '"' || c == '\\' || c >= 0x80) return false;
  }
  return true;
}

}  // namespace

base::StatusOr<std::string> UnifiedDiff(const Diff& diff, memory::BlobStore& blobs, Tree* theirs,
                                        const UnifiedOptions& options) {
  if (options.against == Against::kTheirs && theirs == nullptr) {
    return base::InvalidArgument("a diff against the tree needs the tree");
  }
  Writer writer(blobs, theirs, options);
  std::string text;
  size_t left_out = 0;
  for (const PathChange& change : diff.changes) {
    if (left_out > 0) {
      ++left_out;
      continue;
    }
    const std::string one = writer.Text(change);
    if (text.size() + one.size() > options.text_bytes_max) {
      left_out = 1;
      continue;
    }
    text += one;
  }
  if (left_out > 0) text += "# " + std::to_string(left_out) + " more changes are not shown\n";
  return text;
}

base::StatusOr<std::vector<FileStat>> StatDiff(const Diff& diff, memory::BlobStore& blobs,
                                               const UnifiedOptions& options) {
  Writer writer(blobs, nullptr, options);
  std::vector<FileStat> stats;
  for (const PathChange& change : diff.changes) {
    stats.push_back({change.path, change.kind, writer.Lines(change)});
  }
  return stats;
}

std::string Describe(const std::vector<FileStat>& stats) {
  size_t width = 0;
  uint64_t added = 0, removed = 0;
  for (const FileStat& stat : stats) width = std::max(width, QuoteForDiff(stat.path).size());
  std::string text;
  for (const FileStat& stat : stats) {
    const std::string path = QuoteForDiff(stat.path);
    text += " " + path + std::string(width - path.size(), ' ') + " | " + std::string(Name(stat.kind));
    if (stat.lines.has_value()) {
      text += " +" + std::to_string(stat.lines->added) + " -" + std::to_string(stat.lines->removed);
      added += stat.lines->added;
      removed += stat.lines->removed;
    }
    text += '\n';
  }
  return text + " " + std::to_string(stats.size()) + " changed, +" + std::to_string(added) + " -" +
         std::to_string(removed) + " lines\n";
}

std::string QuoteForDiff(std::string_view path) {
  if (IsPlain(path)) return std::string(path);
  std::string quoted = "\"";
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte >= 0x7F) {
      char octal[8];
      std::snprintf(octal, sizeof(octal), "\\%03o", byte);
      quoted += octal;
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

}  // namespace holdfast::workspace
