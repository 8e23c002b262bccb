#include "workspace/layer/scan.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/hash.h"
#include "workspace/layer/git_files.h"
#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr size_t kPieceBytes = 1 << 20;
constexpr int kReadTries = 3;
constexpr uint64_t kIndexBytesMax = 256 << 20;

bool IsAtOrBeneath(std::string_view path, std::string_view directory) {
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

// What a path that cannot be looked at any more has become: gone, or another kind of thing.
bool Vanished(const base::Status& status) {
  return absl::IsNotFound(status) || absl::IsFailedPrecondition(status);
}

std::optional<std::string> ReadIgnoreFile(Tree& tree, const std::string& path, size_t bytes_max) {
  auto content = ReadWhole(tree, path, bytes_max);
  if (!content.ok()) return std::nullopt;
  return std::move(content->bytes);
}

// The ignore files as commands see them.
class MergedSource final : public IgnoreSource {
 public:
  MergedSource(Tree& upper, Tree& lower) : upper_(upper), lower_(lower) {}
  std::optional<std::string> Read(const std::string& path, size_t bytes_max) override {
    Tree* const tree = Holder(path);
    return tree == nullptr ? std::nullopt : ReadIgnoreFile(*tree, path, bytes_max);
  }
  bool IsRepository(const std::string& directory) override {
    return Holder(directory.empty() ? ".git" : directory + "/.git") != nullptr;
  }

  // The tree whose entry at `path` is seen; null: neither's.
  Tree* Holder(const std::string& path) {
    const auto stat = upper_.Stat(path);
    if (stat.ok()) return stat->kind == EntryKind::kWhiteout ? nullptr : &upper_;
    const bool hidden = hides_lower_.has_value() && IsAtOrBeneath(path, *hides_lower_);
    return !hidden && lower_.Stat(path).ok() ? &lower_ : nullptr;
  }

  // The nearest directory on the way that the lower does not show through.
  std::optional<std::string> hides_lower_;

 private:
  Tree& upper_;
  Tree& lower_;
};

// What an entry has to know of the directory it lies in.
struct Above {
  VersionKind base = VersionKind::kDirectory;
  bool shows_lower = true;  // nothing on the way hides the lower
  bool hides = false;       // an entry on the way hides lower paths, and lists them
  bool in_git = false;
};

class Scanner {
 public:
  Scanner(const LayerParts& parts, const ScanInput& input)
      : parts_(parts),
        in_(input),
        source_(parts.upper, parts.lower),
        lower_source_(parts.lower),
        matcher_(source_),
        lower_matcher_(lower_source_) {}

  base::StatusOr<ScanResult> Run() {
    in_.memory.derived.Begin();
    HF_RETURN_IF_ERROR(Directory("", Above()));
    result_.derived = in_.memory.derived.End();
    HF_RETURN_IF_ERROR(CheckDerivedQuota());
    auto& entries = result_.manifest.entries;
    const auto less = [](const ManifestEntry& a, const ManifestEntry& b) {
      return ComparePaths(a.path, b.path) < 0;
    };
    if (!std::is_sorted(entries.begin(), entries.end(), less))
      std::sort(entries.begin(), entries.end(), less);
    PruneUnchangedDirectories();
    return std::move(result_);
  }

 private:
  base::Status Directory(const std::string& path, const Above& above);
  base::Status OneEntry(std::string path, const EntryStat& stat, Above above);
  base::Status DerivedEntry(const std::string& path, const EntryStat& stat);
  bool IsDerived(const std::string& path, EntryKind kind, const Above& above);
  bool IsTracked(const std::string& path, bool directory, const std::string& repository);
  const ScanMemory::Index& IndexOf(const std::string& repository);

  base::StatusOr<Version> NowOf(const std::string& path, const EntryStat& stat);
  base::Status ReadContent(const std::string& path, Version& now);
  base::StatusOr<BlobId> Store(base::File& file, uint64_t size, uint64_t& read);
  base::Status FillBase(const Above& above, ManifestEntry& entry);
  base::Status LowerVersion(const std::string& path, const EntryStat& stat, ManifestEntry& entry);
  BaseCertainty CertaintyOf(const std::string& path, const EntryStat* stat) const;
  base::Status HideBeneath(size_t at);
  base::Status HideLower(const std::string& directory, const std::unordered_set<std::string_view>& present);
  base::Status CheckQuota() const;
  base::Status CheckDerivedQuota() const;
  void PruneUnchangedDirectories();

  const LayerParts& parts_;
  const ScanInput& in_;
  MergedSource source_;
  TreeIgnoreSource lower_source_;
  IgnoreMatcher matcher_, lower_matcher_;
  ScanResult result_;
};

base::Status Scanner::Directory(const std::string& path, const Above& above) {
  auto entries = parts_.upper.List(path, parts_.limits.directory_entries_max);
  if (!path.empty() && Vanished(entries.status())) return {};
  if (!entries.ok()) return entries.status();
  const std::string prefix = path.empty() ? "" : path + "/";
  for (const Entry& entry : *entries) HF_RETURN_IF_ERROR(OneEntry(prefix + entry.name, entry.stat, above));
  return {};
}

base::Status Scanner::OneEntry(std::string path, const EntryStat& stat, Above above) {
  if (path.size() > kPathBytesMax) {
    result_.dropped.push_back(path.substr(0, 200) + "... (over 4096 bytes)");
    return {};
  }
  above.in_git = above.in_git || BaseName(path) == ".git";
  if (IsDerived(path, stat.kind, above)) return DerivedEntry(path, stat);
  if (stat.kind == EntryKind::kOther) {
    result_.dropped.push_back(path);
    return {};
  }
  ManifestEntry entry{.path = std::move(path)};
  auto now = NowOf(entry.path, stat);
  if (Vanished(now.status())) return {};
  if (!now.ok()) return now.status();
  entry.now = std::move(*now);
  if (entry.now.kind == VersionKind::kDirectory) {
    const auto opaque = parts_.upper.IsOpaque(entry.path);
    if (Vanished(opaque.status())) return {};
    if (!opaque.ok()) return opaque.status();
    entry.opaque = *opaque;
  }
  HF_RETURN_IF_ERROR(FillBase(above, entry));
  const size_t at = result_.manifest.entries.size();
  const bool directory = entry.now.kind == VersionKind::kDirectory;
  const bool hides = entry.base.kind == VersionKind::kDirectory && (!directory || entry.opaque);
  Above below = above;
  below.base = entry.base.kind;
  below.hides = above.hides || hides;
  below.shows_lower = above.shows_lower && !entry.opaque && entry.base.kind == VersionKind::kDirectory;
  const std::string here = entry.path;
  result_.manifest.entries.push_back(std::move(entry));
  HF_RETURN_IF_ERROR(CheckQuota());
  if (directory) {
    const bool begins_hiding = above.shows_lower && !below.shows_lower;
    if (begins_hiding) source_.hides_lower_ = here;
    HF_RETURN_IF_ERROR(Directory(here, below));
    if (begins_hiding) source_.hides_lower_.reset();
  }
  return hides && !above.hides ? HideBeneath(at) : base::Status();
}

base::Status Scanner::CheckQuota() const {
  const LayerLimits& limits = parts_.limits;
  if (result_.manifest.entries.size() > limits.files_max) {
    return base::ResourceExhausted(
        "the workspace's layer holds more than " + std::to_string(limits.files_max) +
        " paths that .gitignore does not name; add build outputs to it, or remove files");
  }
  if (result_.bytes > limits.bytes_max) {
    return base::ResourceExhausted(
        "the workspace's layer holds more than " + std::to_string(limits.bytes_max) +
        " bytes in files that .gitignore does not name; add build outputs to it, or "
        "remove files");
  }
  return {};
}

base::Status Scanner::CheckDerivedQuota() const {
  const LayerLimits& limits = parts_.limits;
  if (in_.batch == nullptr) return {};
  if (result_.derived.files <= limits.derived_files_max && result_.derived.bytes <= limits.derived_bytes_max)
    return {};
  return base::ResourceExhausted("ignored files of the workspace: " + std::to_string(result_.derived.files) +
                                 " of at most " + std::to_string(limits.derived_files_max) + ", " +
                                 std::to_string(result_.derived.bytes) + " bytes of at most " +
                                 std::to_string(limits.derived_bytes_max) + "; remove build outputs");
}

// --- Derived paths ---

base::Status Scanner::DerivedEntry(const std::string& path, const EntryStat& stat) {
  if (in_.each_derived) {
    if (stat.kind != EntryKind::kDirectory) {
      in_.each_derived(path, stat);
      return {};
    }
    return parts_.upper.Walk(path, parts_.limits.directory_entries_max,
                             [&](const std::string& below, const EntryStat& below_stat) {
                               if (below_stat.kind != EntryKind::kDirectory)
                                 in_.each_derived(below, below_stat);
                               return WalkStep::kContinue;
                             });
  }
  if (in_.batch == nullptr) return {};
  if (stat.kind == EntryKind::kDirectory) return in_.memory.derived.AddDirectory(path, stat);
  in_.memory.derived.AddFile(path, stat);
  return {};
}

bool Scanner::IsDerived(const std::string& path, EntryKind kind, const Above& above) {
  if (above.in_git) return false;
  bool directory = kind == EntryKind::kDirectory;
  if (kind == EntryKind::kWhiteout) {  // then what it stands for counts
    const auto lower = parts_.lower.Stat(path);
    directory = lower.ok() && lower->kind == EntryKind::kDirectory;
  }
  return matcher_.Ignored(path, directory) && !IsTracked(path, directory, matcher_.repository());
}

// Where git's index cannot be told, what the user's tree holds counts as tracked: better kept than lost.
bool Scanner::IsTracked(const std::string& path, bool directory, const std::string& repository) {
  const ScanMemory::Index& index = IndexOf(repository);
  if (!index.paths.has_value()) return parts_.lower.Stat(path).ok();
  const std::string_view relative =
      repository.empty() ? path : std::string_view(path).substr(repository.size() + 1);
  return HoldsPath(*index.paths, relative) || (directory && HoldsBeneath(*index.paths, relative));
}

const ScanMemory::Index& Scanner::IndexOf(const std::string& repository) {
  const std::string path = repository.empty() ? ".git/index" : repository + "/.git/index";
  ScanMemory::Index& index = in_.memory.indexes[repository];
  Tree* const tree = source_.Holder(path);
  if (tree == nullptr) return index = {};
  const bool of_upper = tree == &parts_.upper;
  const auto stat = tree->Stat(path);
  if (!stat.ok()) return index = {};
  if (index.stamp == Stamp::Of(*stat) && index.of_upper == of_upper) return index;
  const base::UtcTime now = parts_.clock.UtcNow();
  const auto content = ReadWhole(*tree, path, kIndexBytesMax);
  if (!content.ok()) return index = {};
  index = {.stamp = Stamp::Of(content->stat), .of_upper = of_upper, .paths = ParseIndex(content->bytes)};
  if (IsRacy(index.stamp, now)) index.stamp = {};  // is read again
  return index;
}

// --- What the layer has ---

base::StatusOr<Version> Scanner::NowOf(const std::string& path, const EntryStat& stat) {
  Version now;
  switch (stat.kind) {
    case EntryKind::kFile:
      now = {.kind = VersionKind::kFile, .mode = stat.mode, .size_bytes = stat.size_bytes};
      if (const auto known = in_.known.find(path);
          known != in_.known.end() && known->second.stamp == Stamp::Of(stat) &&
          (in_.batch == nullptr || parts_.blobs.Contains(known->second.content))) {
        now.content = known->second.content;
        result_.files.insert(*known);
      } else {
        HF_RETURN_IF_ERROR(ReadContent(path, now));
      }
      result_.bytes += now.size_bytes;
      return now;
    case EntryKind::kDirectory:
      return Version{.kind = VersionKind::kDirectory, .mode = stat.mode};
    case EntryKind::kSymlink: {
      now.kind = VersionKind::kSymlink;
      HF_ASSIGN_OR_RETURN(now.target, parts_.upper.ReadLink(path));
      return now;
    }
    case EntryKind::kWhiteout:
    case EntryKind::kOther:
      return now;
  }
  return now;
}

base::Status Scanner::ReadContent(const std::string& path, Version& now) {
  ++result_.files_read;
  for (int attempt = 1;; ++attempt) {
    const base::UtcTime time = parts_.clock.UtcNow();
    HF_ASSIGN_OR_RETURN(const auto file, parts_.upper.OpenFile(path));
    HF_ASSIGN_OR_RETURN(const EntryStat before, parts_.upper.StatOpen(*file));
    if (before.size_bytes > parts_.limits.file_bytes_max) {
      return base::ResourceExhausted(path + ": " + std::to_string(before.size_bytes) +
                                     " bytes; files of over " + std::to_string(parts_.limits.file_bytes_max) +
                                     " are not kept: name it in .gitignore, or remove it");
    }
    HF_ASSIGN_OR_RETURN(now.content, Store(*file, before.size_bytes, now.size_bytes));
    HF_ASSIGN_OR_RETURN(const EntryStat after, parts_.upper.StatOpen(*file));
    now.mode = after.mode;
    const Stamp stamp = Stamp::Of(after);
    const bool same = stamp == Stamp::Of(before) && now.size_bytes == after.size_bytes;
    if (same && !IsRacy(stamp, time)) result_.files[path] = {stamp, *now.content};
    if (same) return {};
    if (attempt < kReadTries) continue;
    result_.unstable.push_back(path);
    return {};
  }
}

base::StatusOr<BlobId> Scanner::Store(base::File& file, uint64_t size, uint64_t& read) {
  std::vector<std::byte> buffer(static_cast<size_t>(std::min<uint64_t>(size, kPieceBytes)));
  base::Sha256 hash;
  read = 0;
  while (read < size) {
    const auto piece =
        std::span(buffer).first(static_cast<size_t>(std::min<uint64_t>(buffer.size(), size - read)));
    HF_ASSIGN_OR_RETURN(const size_t n, file.ReadAt(read, piece));
    read += n;
    const auto got = piece.first(n);
    if (in_.batch == nullptr) {
      hash.Update(got);
    } else if (n == size) {
      return in_.batch->Add(got);
    } else {
      HF_RETURN_IF_ERROR(in_.batch->Append(got));
    }
    if (n < piece.size()) break;
  }
  if (in_.batch == nullptr) return hash.Finish();
  return read == 0 ? in_.batch->Add({}) : in_.batch->Finish();
}

// --- What the tree underneath had ---

base::Status Scanner::FillBase(const Above& above, ManifestEntry& entry) {
  if (const ManifestEntry* before = in_.before.Find(entry.path); before != nullptr) {
    entry.base = before->base;
    entry.certainty = before->certainty;
    return {};
  }
  if (above.base != VersionKind::kDirectory || in_.batch == nullptr) return {};
  const auto stat = parts_.lower.Stat(entry.path);
  if (stat.ok()) return LowerVersion(entry.path, *stat, entry);
  if (absl::IsNotFound(stat.status())) {
    entry.certainty = CertaintyOf(entry.path, nullptr);
    return {};
  }
  if (!Vanished(stat.status())) return stat.status();
  entry.certainty = BaseCertainty::kUncertain;
  return {};
}

BaseCertainty Scanner::CertaintyOf(const std::string& path, const EntryStat* stat) const {
  if (parts_.base == nullptr) return BaseCertainty::kCertain;
  const BaseEntry* const base = parts_.base->Find(path);
  bool certain = base == nullptr;
  if (stat != nullptr) {
    const bool as_at_start = base != nullptr && base->kind == stat->kind &&
                             (stat->kind == EntryKind::kDirectory || base->stamp == Stamp::Of(*stat));
    certain = as_at_start || IsOlder(Stamp::Of(*stat), in_.last_checkpoint);
  }
  return certain ? BaseCertainty::kCertain : BaseCertainty::kUncertain;
}

base::Status Scanner::LowerVersion(const std::string& path, const EntryStat& stat, ManifestEntry& entry) {
  entry.certainty = CertaintyOf(path, &stat);
  Version& base = entry.base;
  base = {};
  if (stat.kind == EntryKind::kDirectory) {
    base = {.kind = VersionKind::kDirectory, .mode = stat.mode};
  } else if (stat.kind == EntryKind::kSymlink) {
    auto target = parts_.lower.ReadLink(path);
    if (target.ok()) {
      base = {.kind = VersionKind::kSymlink, .target = std::move(*target)};
    } else {
      entry.certainty = BaseCertainty::kUncertain;
    }
  } else if (stat.kind == EntryKind::kFile) {
    base = {.kind = VersionKind::kFile, .mode = stat.mode, .size_bytes = stat.size_bytes};
    if (stat.size_bytes > parts_.limits.base_file_bytes_max) return {};
    const auto file = parts_.lower.OpenFile(path);
    if (!file.ok()) return {};  // not for us to read, so not for the session either
    HF_ASSIGN_OR_RETURN(base.content, Store(**file, stat.size_bytes, base.size_bytes));
    const auto after = parts_.lower.StatOpen(**file);
    if (!after.ok() || Stamp::Of(*after) != Stamp::Of(stat)) entry.certainty = BaseCertainty::kUncertain;
  }
  return {};
}

// The entry at `at` hides all that the lower has beneath it. What is there already stands after `at`.
base::Status Scanner::HideBeneath(size_t at) {
  const std::string directory = result_.manifest.entries[at].path;
  std::vector<ManifestEntry> hidden;
  std::vector<std::string> paths;  // a copy: the list grows
  for (size_t i = at + 1; i < result_.manifest.entries.size(); ++i) {
    paths.push_back(result_.manifest.entries[i].path);
  }
  std::unordered_set<std::string_view> present(paths.begin(), paths.end());
  // What was known before keeps its base.
  const auto& before = in_.before.entries;
  auto it = std::upper_bound(
      before.begin(), before.end(), directory,
      [](std::string_view p, const ManifestEntry& e) { return ComparePaths(p, e.path) < 0; });
  for (; it != before.end() && IsAtOrBeneath(it->path, directory); ++it) {
    if (it->base.kind == VersionKind::kAbsent || !present.insert(it->path).second) continue;
    result_.manifest.entries.push_back(
        {.path = it->path, .hidden = true, .base = it->base, .certainty = it->certainty});
  }
  const ManifestEntry* const self = in_.before.Find(directory);
  const bool hid_before = self != nullptr && !self->hidden && self->base.kind == VersionKind::kDirectory &&
                          (self->now.kind != VersionKind::kDirectory || self->opaque);
  if (hid_before || in_.batch == nullptr) return {};
  return HideLower(directory, present);
}

base::Status Scanner::HideLower(const std::string& directory,
                                const std::unordered_set<std::string_view>& present) {
  base::Status status;
  const auto visit = [&](const std::string& path, const EntryStat& stat) {
    const bool is_directory = stat.kind == EntryKind::kDirectory;
    if (!IsInGit(path) && lower_matcher_.Ignored(path, is_directory) &&
        !IsTracked(path, is_directory, lower_matcher_.repository())) {
      return WalkStep::kSkip;
    }
    if (present.contains(path)) return WalkStep::kContinue;
    ManifestEntry entry{.path = path, .hidden = true};
    status = LowerVersion(path, stat, entry);
    if (status.ok() && entry.base.kind != VersionKind::kAbsent) {
      result_.manifest.entries.push_back(std::move(entry));
      status = CheckQuota();
    }
    return status.ok() ? WalkStep::kContinue : WalkStep::kStop;
  };
  const base::Status walked = parts_.lower.Walk(directory, parts_.limits.directory_entries_max, visit);
  if (!status.ok()) return status;
  return Vanished(walked) ? base::Status() : walked;
}

// A directory of the upper that is as underneath is there for what is in it; with nothing in it, or derived
// things only, it means nothing.
void Scanner::PruneUnchangedDirectories() {
  auto& entries = result_.manifest.entries;
  std::vector<bool> kept(entries.size(), true);
  std::string_view last;  // kept path after this one
  for (size_t i = entries.size(); i-- > 0;) {
    const ManifestEntry& entry = entries[i];
    const bool holds = last.size() > entry.path.size() && IsAtOrBeneath(last, entry.path);
    kept[i] = entry.now.kind != VersionKind::kDirectory || entry.opaque || entry.Changed() || holds;
    if (kept[i]) last = entry.path;
  }
  size_t out = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!kept[i]) continue;
    if (out != i) entries[out] = std::move(entries[i]);
    ++out;
  }
  entries.resize(out);
}

}  // namespace

base::StatusOr<ScanResult> Scan(const LayerParts& parts, const ScanInput& input) {
  return Scanner(parts, input).Run();
}

}  // namespace holdfast::workspace
