#include "workspace/layer/direct_scan.h"

#include <algorithm>
#include <set>
#include <utility>

#include "workspace/ignore.h"
#include "workspace/layer/git_files.h"
#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr uint64_t kIndexBytesMax = 256 << 20;
constexpr size_t kPieceBytes = 1 << 20;

Version BaseVersion(const BaseEntry* base) {
  if (base == nullptr) return {};
  switch (base->kind) {
    case EntryKind::kFile:
      return {.kind = VersionKind::kFile, .mode = base->mode, .size_bytes = base->stamp.size_bytes};
    case EntryKind::kDirectory:
      return {.kind = VersionKind::kDirectory, .mode = base->mode};
    case EntryKind::kSymlink:
    case EntryKind::kWhiteout:
    case EntryKind::kOther:
      return {};
  }
  return {};
}

class DirectScanner {
 public:
  DirectScanner(const LayerParts& parts, const ScanInput& input)
      : parts_(parts), in_(input), tree_(parts.upper), source_(tree_), matcher_(source_) {}

  base::StatusOr<ScanResult> Run() {
    HF_ASSIGN_OR_RETURN(const BaseState now,
                        BaseState::Take(tree_, parts_.limits.directory_entries_max, {}, nullptr));
    const TreeChanges changes = parts_.base->ChangesTo(now, SIZE_MAX);
    for (const TreeChange& change : changes.changes) {
      const BaseEntry* const there = now.Find(change.path);
      if (!IsDerived(change.path, there)) HF_RETURN_IF_ERROR(Add(change.path, there, now));
    }
    auto& entries = result_.manifest.entries;
    std::sort(entries.begin(), entries.end(), [](const ManifestEntry& a, const ManifestEntry& b) {
      return ComparePaths(a.path, b.path) < 0;
    });
    return std::move(result_);
  }

 private:
  bool IsDerived(const std::string& path, const BaseEntry* there) {
    const BaseEntry* const either = there != nullptr ? there : parts_.base->Find(path);
    const bool directory = either != nullptr && either->kind == EntryKind::kDirectory;
    if (!matcher_.Ignored(path, directory)) return false;
    const std::string repository = matcher_.repository();
    const std::string index_path = repository.empty() ? ".git/index" : repository + "/.git/index";
    auto [it, fresh] = indexes_.try_emplace(repository);
    if (fresh) {
      const auto bytes = ReadWhole(tree_, index_path, kIndexBytesMax);
      if (bytes.ok()) it->second = ParseIndex(bytes->bytes);
    }
    if (!it->second.has_value()) return parts_.base->Find(path) == nullptr;
    const std::string relative = repository.empty() ? path : path.substr(repository.size() + 1);
    return !HoldsPath(*it->second, relative) && !(directory && HoldsBeneath(*it->second, relative));
  }

  // The directories on the way, which stand as they did or are noted for themselves.
  base::Status AddParents(const std::string& path, const BaseState& now) {
    const std::string parent(Parent(path));
    if (parent.empty() || !added_.insert(parent).second) return {};
    HF_RETURN_IF_ERROR(AddParents(parent, now));
    return Append(parent, now.Find(parent));
  }

  base::Status Add(const std::string& path, const BaseEntry* there, const BaseState& now) {
    if (there != nullptr && (there->kind == EntryKind::kOther || there->kind == EntryKind::kWhiteout)) {
      result_.dropped.push_back(path);
      return {};
    }
    HF_RETURN_IF_ERROR(AddParents(path, now));
    return added_.insert(path).second ? Append(path, there) : base::Status();
  }

  base::Status Append(const std::string& path, const BaseEntry* there) {
    ManifestEntry entry{.path = path, .base = BaseVersion(parts_.base->Find(path))};
    if (there != nullptr) {
      auto version = NowOf(path, *there);
      if (absl::IsNotFound(version.status()) || absl::IsFailedPrecondition(version.status())) {
        result_.unstable.push_back(path);
      } else if (!version.ok()) {
        return version.status();
      } else {
        entry.now = std::move(*version);
      }
    }
    // Below what is no directory any more everything that was is hidden.
    const BaseEntry* const above = parts_.base->Find(Parent(path));
    const auto parent_stat = Parent(path).empty() ? tree_.Stat("") : tree_.Stat(Parent(path));
    const bool parent_stands = parent_stat.ok() && parent_stat->kind == EntryKind::kDirectory;
    if (!parent_stands) {
      if (above == nullptr || entry.base.kind == VersionKind::kAbsent) return {};
      entry.hidden = true;
      entry.now = {};
    }
    result_.manifest.entries.push_back(std::move(entry));
    if (result_.manifest.entries.size() > parts_.limits.files_max) {
      return base::ResourceExhausted("more than " + std::to_string(parts_.limits.files_max) +
                                     " paths of the workspace were changed");
    }
    return {};
  }

  base::StatusOr<Version> NowOf(const std::string& path, const BaseEntry& there) {
    Version now;
    if (there.kind == EntryKind::kDirectory)
      return Version{.kind = VersionKind::kDirectory, .mode = there.mode};
    if (there.kind == EntryKind::kSymlink) {
      now.kind = VersionKind::kSymlink;
      HF_ASSIGN_OR_RETURN(now.target, tree_.ReadLink(path));
      return now;
    }
    now = {.kind = VersionKind::kFile, .mode = there.mode, .size_bytes = there.stamp.size_bytes};
    const auto known = in_.known.find(path);
    if (known != in_.known.end() && known->second.stamp == there.stamp &&
        parts_.blobs.Contains(known->second.content)) {
      now.content = known->second.content;
      result_.files.insert(*known);
      return now;
    }
    ++result_.files_read;
    const base::UtcTime time = parts_.clock.UtcNow();
    HF_ASSIGN_OR_RETURN(const auto file, tree_.OpenFile(path));
    if (there.stamp.size_bytes > parts_.limits.file_bytes_max) {
      return base::ResourceExhausted(path + ": larger than the " +
                                     std::to_string(parts_.limits.file_bytes_max) +
                                     " bytes that are kept of a file; name it in .gitignore, or remove it");
    }
    HF_RETURN_IF_ERROR(Store(*file, now));
    HF_ASSIGN_OR_RETURN(const EntryStat after, tree_.StatOpen(*file));
    if (Stamp::Of(after) != there.stamp) result_.unstable.push_back(path);
    if (Stamp::Of(after) == there.stamp && !IsRacy(there.stamp, time)) {
      result_.files[path] = {there.stamp, *now.content};
    }
    return now;
  }

  base::Status Store(base::File& file, Version& now) {
    std::vector<std::byte> buffer(kPieceBytes);
    uint64_t at = 0;
    for (;;) {
      HF_ASSIGN_OR_RETURN(const size_t read, file.ReadAt(at, buffer));
      HF_RETURN_IF_ERROR(in_.batch->Append(std::span(buffer).first(read)));
      at += read;
      if (read < buffer.size() || at > parts_.limits.file_bytes_max) break;
    }
    now.size_bytes = at;
    HF_ASSIGN_OR_RETURN(now.content, in_.batch->Finish());
    return {};
  }

  const LayerParts& parts_;
  const ScanInput& in_;
  Tree& tree_;
  TreeIgnoreSource source_;
  IgnoreMatcher matcher_;
  std::map<std::string, std::optional<std::vector<std::string>>> indexes_;
  std::set<std::string> added_;
  ScanResult result_;
};

}  // namespace

base::StatusOr<ScanResult> DirectScan(const LayerParts& parts, const ScanInput& input) {
  return DirectScanner(parts, input).Run();
}

}  // namespace holdfast::workspace
