#include "workspace/layer/base_state.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/hash.h"
#include "workspace/layer/git_files.h"
#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr std::string_view kMagic = "HFBASE01";
constexpr size_t kForeignMax = 100;
constexpr size_t kChecksumBytes = 8;

bool SameThing(const BaseEntry& a, const BaseEntry& b) {
  if (a.kind != b.kind || a.mode != b.mode) return false;
  return a.kind == EntryKind::kDirectory || a.stamp == b.stamp;
}

}  // namespace

bool IsInGit(std::string_view path) {
  while (!path.empty()) {
    if (BaseName(path) == ".git") return true;
    path = Parent(path);
  }
  return false;
}

base::StatusOr<BaseState> BaseState::Take(Tree& tree, size_t directory_entries_max, Owner owner,
                                          std::vector<ForeignPath>* foreign) {
  BaseState state;
  const auto visit = [&](const std::string& path, const EntryStat& stat) {
    if (foreign != nullptr && foreign->size() < kForeignMax &&
        (stat.uid != owner.uid || stat.gid != owner.gid)) {
      foreign->push_back({path, stat.uid, stat.gid});
    }
    state.entries_.push_back({path, stat.kind, stat.mode, Stamp::Of(stat)});
    return BaseName(path) == ".git" ? WalkStep::kSkip : WalkStep::kContinue;
  };
  HF_RETURN_IF_ERROR(tree.Walk("", directory_entries_max, visit));
  state.head_ = ReadHead(tree, "");
  return state;
}

const BaseEntry* BaseState::Find(std::string_view path) const {
  const auto it =
      std::lower_bound(entries_.begin(), entries_.end(), path,
                       [](const BaseEntry& e, std::string_view p) { return ComparePaths(e.path, p) < 0; });
  return it != entries_.end() && it->path == path ? &*it : nullptr;
}

TreeChanges BaseState::ChangesTo(const BaseState& now, size_t changes_max) const {
  TreeChanges result{.head_before = head_, .head_now = now.head_};
  const auto note = [&](TreeChange::Kind kind, const std::string& path) {
    ++result.count;
    if (result.changes.size() < changes_max) result.changes.push_back({kind, path});
  };
  auto a = entries_.begin();
  auto b = now.entries_.begin();
  while (a != entries_.end() || b != now.entries_.end()) {
    const int order = a == entries_.end() ? 1 : b == now.entries_.end() ? -1 : ComparePaths(a->path, b->path);
    if (order < 0) {
      note(TreeChange::Kind::kRemoved, (a++)->path);
    } else if (order > 0) {
      note(TreeChange::Kind::kAdded, (b++)->path);
    } else {
      const bool in_git = BaseName(a->path) == ".git";
      if (!in_git && !SameThing(*a, *b)) note(TreeChange::Kind::kChanged, a->path);
      ++a, ++b;
    }
  }
  return result;
}

// magic, head, count, then for each entry: bytes shared with the path before, the rest, kind, mode, stamp;
// then XXH3 of all that.
base::Status BaseState::Absorb(Tree& tree, const std::vector<std::string>& paths) {
  std::vector<BaseEntry> merged;
  merged.reserve(entries_.size() + paths.size());
  auto old = entries_.begin();
  for (const std::string& path : paths) {
    while (old != entries_.end() && ComparePaths(old->path, path) < 0) merged.push_back(std::move(*old++));
    if (old != entries_.end() && old->path == path) ++old;
    const auto stat = tree.Stat(path);
    if (stat.ok()) {
      merged.push_back({path, stat->kind, stat->mode, Stamp::Of(*stat)});
    } else if (!absl::IsNotFound(stat.status()) && !absl::IsFailedPrecondition(stat.status())) {
      return stat.status();
    }
  }
  merged.insert(merged.end(), std::make_move_iterator(old), std::make_move_iterator(entries_.end()));
  entries_ = std::move(merged);
  return {};
}

std::string BaseState::Encode() const {
  std::string out(kMagic);
  base::PutLengthPrefixed(out, head_);
  base::PutVarint64(out, entries_.size());
  std::string_view before;
  for (const BaseEntry& entry : entries_) {
    const auto same = std::mismatch(before.begin(), before.end(), entry.path.begin(), entry.path.end());
    const auto shared = static_cast<size_t>(same.first - before.begin());
    base::PutVarint64(out, shared);
    base::PutLengthPrefixed(out, std::string_view(entry.path).substr(shared));
    base::PutFixed8(out, static_cast<uint8_t>(entry.kind));
    base::PutFixed16(out, static_cast<uint16_t>(entry.mode));
    PutStamp(out, entry.stamp);
    before = entry.path;
  }
  base::PutFixed64(out, base::Xxh3(base::AsBytes(out)));
  return out;
}

base::StatusOr<BaseState> BaseState::Decode(std::string_view bytes) {
  constexpr std::string_view kWhat = "the record of the tree at the start";
  const auto damaged = [&] { return base::DataLoss(std::string(kWhat) + " is damaged"); };
  if (bytes.size() < kMagic.size() + kChecksumBytes) return damaged();
  const std::string_view body = bytes.substr(0, bytes.size() - kChecksumBytes);
  const auto sum = base::LoadLittle<uint64_t>(base::AsBytes(bytes).data() + body.size());
  if (sum != base::Xxh3(base::AsBytes(body)) || !body.starts_with(kMagic)) return damaged();
  base::Decoder in(base::AsBytes(body.substr(kMagic.size())));
  BaseState state;
  state.head_ = in.LengthPrefixed(128);
  const uint64_t count = in.Varint64();
  std::string path;
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    const uint64_t shared = in.Varint64();
    const std::string_view rest = in.LengthPrefixed(kPathBytesMax);
    if (shared > path.size()) return damaged();
    path.resize(shared);
    path += rest;
    BaseEntry entry{.path = path};
    const uint8_t kind = in.Fixed8();
    entry.mode = in.Fixed16();
    entry.stamp = TakeStamp(in);
    if (kind > static_cast<uint8_t>(EntryKind::kOther)) return damaged();
    entry.kind = static_cast<EntryKind>(kind);
    state.entries_.push_back(std::move(entry));
  }
  HF_RETURN_IF_ERROR(in.Finish(kWhat));
  return state;
}

}  // namespace holdfast::workspace
