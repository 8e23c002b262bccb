#include "workspace/diff.h"

#include <algorithm>
#include <array>
#include <map>
#include <span>
#include <utility>

#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr size_t kReadChunkBytes = 256 << 10;
constexpr int kReadAttempts = 3;
constexpr uint32_t kPermissionBits = 0777;

bool IsOneOf(VersionKind kind, const Version& a, const Version& b) {
  return a.kind == kind && b.kind == kind;
}

// Kind and content; of directories that they are ones.
bool SameBody(const Version& a, const Version& b) {
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case VersionKind::kFile:
      return a.size_bytes == b.size_bytes && a.content.has_value() && a.content == b.content;
    case VersionKind::kSymlink:
      return a.target == b.target;
    case VersionKind::kAbsent:
    case VersionKind::kDirectory:
      return true;
  }
  return false;
}

bool HasMode(const Version& v) { return v.kind == VersionKind::kFile || v.kind == VersionKind::kDirectory; }

bool SameMode(const Version& a, const Version& b) {
  return !HasMode(a) || !HasMode(b) || (a.mode & kPermissionBits) == (b.mode & kPermissionBits);
}

bool Same(const Version& a, const Version& b) { return SameBody(a, b) && SameMode(a, b); }

ChangeKind KindOf(const Version& base, const Version& ours) {
  if (base.kind == VersionKind::kAbsent) return ChangeKind::kAdded;
  if (ours.kind == VersionKind::kAbsent) return ChangeKind::kDeleted;
  if (base.kind != ours.kind) return ChangeKind::kTypeChanged;
  return SameBody(base, ours) ? ChangeKind::kModeOnly : ChangeKind::kModified;
}

// Hashes an open file; what was read is `bytes` long.
base::StatusOr<BlobId> HashFile(base::File& file, uint64_t* bytes) {
  base::Sha256 hash;
  std::vector<std::byte> buffer(kReadChunkBytes);
  for (*bytes = 0;;) {
    HF_ASSIGN_OR_RETURN(const size_t n, file.ReadAt(*bytes, buffer));
    hash.Update(std::span(buffer).first(n));
    *bytes += n;
    if (n < buffer.size()) return hash.Finish();
  }
}

base::StatusOr<Version> ReadFileVersion(Tree& tree, std::string_view path, uint64_t bytes_max) {
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    HF_ASSIGN_OR_RETURN(const auto file, tree.OpenFile(path));
    HF_ASSIGN_OR_RETURN(const EntryStat stat, tree.StatOpen(*file));
    if (stat.size_bytes > bytes_max) {
      return base::ResourceExhausted(ShowPath(path) + ": larger than the " + std::to_string(bytes_max) +
                                     " bytes that may be read");
    }
    uint64_t bytes = 0;
    HF_ASSIGN_OR_RETURN(const BlobId content, HashFile(*file, &bytes));
    HF_ASSIGN_OR_RETURN(const EntryStat after, tree.StatOpen(*file));
    if (after == stat && bytes == stat.size_bytes) {
      return Version{VersionKind::kFile, stat.mode, bytes, content, {}};
    }
  }
  return absl::UnavailableError(base::View(ShowPath(path) + ": changes while it is read"));
}

// ---- Merging ----

// Mode and content are merged apart, each from the side that changed it. False when both did.
bool MergeParts(const Version& base, const Version& ours, const Version& theirs, Version& result) {
  const bool our_body = !SameBody(base, ours), their_body = !SameBody(base, theirs);
  const bool our_mode = !SameMode(base, ours), their_mode = !SameMode(base, theirs);
  if (our_body && their_body && !SameBody(ours, theirs)) return false;
  if (our_mode && their_mode && !SameMode(ours, theirs)) return false;
  result = our_body ? ours : theirs;
  result.mode = our_mode ? ours.mode : theirs.mode;
  return true;
}

// Neither files nor new directories get special bits; a directory that has some keeps them.
void DropSpecialBits(const Version& theirs, Version& result) {
  const uint32_t kept = IsOneOf(VersionKind::kDirectory, theirs, result) ? theirs.mode & ~kPermissionBits : 0;
  result.mode = HasMode(result) ? (result.mode & kPermissionBits) | kept : 0;
  if (result.kind != VersionKind::kFile) result.size_bytes = 0;
}

Conflict Merge(const Version& base, const Version& ours, const Version& theirs, Version& result) {
  result = ours;
  if (Same(ours, theirs)) {
    result = theirs;
    return Conflict::kNone;
  }
  if (base.kind == VersionKind::kAbsent) {
    if (theirs.kind == VersionKind::kAbsent) return Conflict::kNone;
    if (!IsOneOf(VersionKind::kDirectory, ours, theirs)) return Conflict::kAddedUnderneath;
    result = theirs;
    return Conflict::kNone;
  }
  if (base.kind == VersionKind::kFile && !base.content.has_value()) return Conflict::kUncertainBase;
  if (Same(base, theirs)) return Conflict::kNone;
  if (ours.kind == VersionKind::kAbsent) return Conflict::kChangedUnderneath;
  if (theirs.kind == VersionKind::kAbsent) return Conflict::kDeletedUnderneath;
  if (base.kind != ours.kind || base.kind != theirs.kind) return Conflict::kBothChanged;
  return MergeParts(base, ours, theirs, result) ? Conflict::kNone : Conflict::kBothChanged;
}

// ---- One diff ----

class Comparison {
 public:
  Comparison(const Manifest& manifest, Tree& theirs, const ProtectedPaths& guards, const DiffLimits& limits)
      : manifest_(manifest), theirs_(theirs), guards_(guards), limits_(limits) {}

  base::StatusOr<Diff> Run() {
    for (const ManifestEntry& entry : manifest_.entries) {
      if (!entry.Changed()) continue;
      HF_RETURN_IF_ERROR(Add(entry));
    }
    // From the leaves up, so that what keeps a directory is known before it is asked for.
    for (size_t i = diff_.changes.size(); i-- > 0;) {
      HF_RETURN_IF_ERROR(CheckEmptied(diff_.changes[i]));
    }
    return std::move(diff_);
  }

 private:
  base::Status Add(const ManifestEntry& entry) {
    PathChange change;
    change.path = entry.path;
    change.base = entry.base;
    change.ours = entry.now;
    change.kind = KindOf(entry.base, entry.now);
    HF_RETURN_IF_ERROR(ReadTheirs(change));
    if (change.conflict == Conflict::kNone) {
      change.conflict = Merge(change.base, change.ours, change.theirs, change.result);
      DropSpecialBits(change.theirs, change.result);
      change.already = change.conflict == Conflict::kNone && Same(change.theirs, change.result);
    }
    if (change.conflict == Conflict::kNone && !change.already) {
      if (entry.certainty == BaseCertainty::kUncertain) change.conflict = Conflict::kUncertainBase;
      if (change.conflict == Conflict::kNone) change.conflict = CheckParent(change);
    }
    CheckGuards(change);
    if (change.conflict != Conflict::kNone && change.note.empty()) change.note = Describe(change.conflict);
    index_.emplace(change.path, diff_.changes.size());
    diff_.changes.push_back(std::move(change));
    return {};
  }

  // Fills `theirs`; what cannot be told is a conflict.
  base::Status ReadTheirs(PathChange& change) {
    if (WillBeDirectory(Parent(change.path))) return {};  // a file or link there now: nothing is in it
    auto version = ReadVersion(theirs_, change.path, limits_.theirs_bytes_max - read_bytes_);
    if (version.ok()) {
      change.theirs = *std::move(version);
      read_bytes_ += change.theirs.size_bytes;
      return {};
    }
    if (absl::IsResourceExhausted(version.status())) return version.status();
    const bool through_other =
        absl::IsFailedPrecondition(version.status()) && !ParentIsDirectory(change.path);
    if (through_other && change.ours.kind == VersionKind::kAbsent) return {};  // there it is absent too
    change.conflict = through_other ? Conflict::kParentNotDirectory : Conflict::kUnsupported;
    change.note = base::Message(version.status());
    return {};
  }

  const PathChange* Find(std::string_view path) const {
    const auto found = index_.find(path);
    return found == index_.end() ? nullptr : &diff_.changes[found->second];
  }

  // Whether this path or one above it is no directory there, and would become one.
  bool WillBeDirectory(std::string_view path) const {
    for (; !path.empty(); path = Parent(path)) {
      const PathChange* change = Find(path);
      if (change == nullptr || change->ours.kind != VersionKind::kDirectory) continue;
      if (change->theirs.kind != VersionKind::kDirectory && change->theirs.kind != VersionKind::kAbsent) {
        return true;
      }
    }
    return false;
  }

  bool ParentIsDirectory(std::string_view path) const {
    const auto stat = theirs_.Stat(Parent(path));
    return stat.ok() && stat->kind == EntryKind::kDirectory;
  }

  Conflict CheckParent(const PathChange& change) {
    const std::string_view parent = Parent(change.path);
    if (parent.empty() || change.result.kind == VersionKind::kAbsent) return Conflict::kNone;
    if (const PathChange* above = Find(parent); above != nullptr) {
      if (above->result.kind == VersionKind::kDirectory && above->conflict == Conflict::kNone) {
        return Conflict::kNone;
      }
      return above->theirs.kind == VersionKind::kAbsent ? Conflict::kParentGone
                                                        : Conflict::kParentNotDirectory;
    }
    const auto stat = theirs_.Stat(parent);
    if (stat.ok()) {
      return stat->kind == EntryKind::kDirectory ? Conflict::kNone : Conflict::kParentNotDirectory;
    }
    return absl::IsNotFound(stat.status()) ? Conflict::kParentGone : Conflict::kParentNotDirectory;
  }

  void CheckGuards(PathChange& change) {
    GuardVerdict verdict = guards_.Check(change.path);
    if (verdict.guard < Guard::kRefused && change.ours.kind != VersionKind::kAbsent) {
      std::string why;
      if (change.ours.kind == VersionKind::kSymlink && !SameBody(change.base, change.ours)) {
        why = WhyLinkLeaves(change.path, change.ours.target);
      }
      if (why.empty() && LiesInRepository(change.path)) {
        why = "makes or changes a bare repository, whose configuration git would obey";
      }
      if (!why.empty()) verdict = {Guard::kRefused, std::move(why)};
    }
    change.guard = verdict.guard;
    if (verdict.guard != Guard::kNone) change.note = std::move(verdict.reason);
    if (change.note.empty() && change.ours.kind == VersionKind::kFile &&
        (change.ours.mode & ~kPermissionBits) != 0) {
      change.note = "set-user-id, set-group-id and sticky bits are not applied";
    }
  }

  // git takes a directory with HEAD, objects and refs for a repository without being told, and then runs what
  // the config in it names.
  bool LiesInRepository(std::string_view path) {
    do {
      path = Parent(path);
      auto [known, fresh] = repositories_.try_emplace(std::string(path), false);
      if (fresh) known->second = LooksLikeRepository(path);
      if (known->second) return true;
    } while (!path.empty());
    return false;
  }

  bool LooksLikeRepository(std::string_view directory) {
    const auto has = [&](std::string_view name) {
      std::string path(directory);
      if (!path.empty()) path += '/';
      path += name;
      if (const ManifestEntry* entry = manifest_.Find(path); entry != nullptr && !entry->hidden) {
        return entry->now.kind != VersionKind::kAbsent;
      }
      return theirs_.Stat(path).ok();
    };
    return has("HEAD") && ((has("objects") && has("refs")) || has("commondir"));
  }

  // A directory goes only when all that is in it there goes too.
  base::Status CheckEmptied(PathChange& change) {
    const bool goes = change.theirs.kind == VersionKind::kDirectory &&
                      change.result.kind != VersionKind::kDirectory && change.Clean() && !change.already;
    if (!goes) return {};
    auto names = theirs_.Names(change.path, limits_.entries_max);
    if (!names.ok()) {
      change.conflict = Conflict::kUnsupported;
      change.note = base::Message(names.status());
      return {};
    }
    for (const NamedKind& entry : *names) {
      const PathChange* inside = Find(change.path + "/" + entry.name);
      if (inside != nullptr && inside->Clean() && inside->result.kind == VersionKind::kAbsent) continue;
      change.conflict = Conflict::kNotEmpty;
      change.note = std::string(Describe(Conflict::kNotEmpty)) + ": " + ShowPath(entry.name);
      return {};
    }
    return {};
  }

  const Manifest& manifest_;
  Tree& theirs_;
  const ProtectedPaths& guards_;
  const DiffLimits& limits_;
  uint64_t read_bytes_ = 0;
  Diff diff_;
  std::map<std::string, size_t, std::less<>> index_;
  std::map<std::string, bool, std::less<>> repositories_;
};

}  // namespace

std::string_view Name(ChangeKind kind) {
  constexpr std::array<std::string_view, 5> kNames = {"added", "modified", "mode", "deleted", "type"};
  return kNames[static_cast<size_t>(kind)];
}

std::string_view Describe(Conflict conflict) {
  constexpr std::array<std::string_view, 10> kTexts = {"none",
                                                       "changed on both sides",
                                                       "something else was added in the tree",
                                                       "deleted in the tree",
                                                       "deleted here, but changed in the tree",
                                                       "its directory is gone from the tree",
                                                       "its directory is something else in the tree",
                                                       "the tree has more in this directory",
                                                       "the base is not known for certain",
                                                       "cannot be compared"};
  return kTexts[static_cast<size_t>(conflict)];
}

bool PathChange::Clean() const {
  return conflict == Conflict::kNone && (guard == Guard::kNone || guard == Guard::kFlagged);
}

const PathChange* Diff::Find(std::string_view path) const {
  const auto found = std::lower_bound(changes.begin(), changes.end(), path,
                                      [](const PathChange& change, std::string_view wanted) {
                                        return ComparePaths(change.path, wanted) < 0;
                                      });
  return found != changes.end() && found->path == path ? &*found : nullptr;
}

base::StatusOr<Diff> DiffThreeWays(const Manifest& manifest, Tree& theirs, const ProtectedPaths& guards,
                                   const DiffLimits& limits) {
  return Comparison(manifest, theirs, guards, limits).Run();
}

base::StatusOr<Version> ReadVersion(Tree& tree, std::string_view path, uint64_t bytes_max) {
  const auto found = tree.Stat(path);
  if (absl::IsNotFound(found.status())) return Version();
  if (!found.ok()) return found.status();
  switch (found->kind) {
    case EntryKind::kFile:
      return ReadFileVersion(tree, path, bytes_max);
    case EntryKind::kDirectory:
      return Version{VersionKind::kDirectory, found->mode, 0, {}, {}};
    case EntryKind::kSymlink: {
      HF_ASSIGN_OR_RETURN(std::string target, tree.ReadLink(path));
      return Version{VersionKind::kSymlink, 0, 0, {}, std::move(target)};
    }
    case EntryKind::kWhiteout:
    case EntryKind::kOther:
      break;
  }
  return base::FailedPrecondition(ShowPath(path) + ": neither a file nor a directory nor a link");
}

}  // namespace holdfast::workspace
