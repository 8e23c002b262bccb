#include "workspace/tree.h"

#include <algorithm>
#include <utility>

#include "workspace/path.h"

namespace holdfast::workspace {
namespace {

constexpr size_t kCopyChunkBytes = 256 << 10;
constexpr int kReadTries = 3;
constexpr int kLinksMax = 16;
constexpr int kTemporaryNames = 16;
constexpr size_t kDeepPathBytes = 3000;  // from here on RemoveAll shortens the path before it goes deeper
constexpr size_t kRemoveEntriesMax = 16'000'000;

std::string Join(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty()) path += '/';
  return path += name;
}

bool SameFile(const EntryStat& a, const EntryStat& b) {
  return a.inode == b.inode && a.size_bytes == b.size_bytes && a.mtime_ns == b.mtime_ns &&
         a.ctime_ns == b.ctime_ns;
}

// All of an open file of the size it is said to have; fewer bytes when it has become shorter.
base::StatusOr<std::string> ReadAll(base::File& file, uint64_t size) {
  std::string bytes(static_cast<size_t>(size), '\0');
  HF_ASSIGN_OR_RETURN(const size_t read, file.ReadAt(0, std::as_writable_bytes(std::span(bytes))));
  bytes.resize(read);
  return bytes;
}

// What a walk has yet to visit of one directory.
struct Level {
  std::string path;
  std::vector<Entry> entries;
  size_t next = 0;
};

bool Vanished(const base::Status& status) {
  return absl::IsNotFound(status) || absl::IsPermissionDenied(status) || absl::IsFailedPrecondition(status);
}

// A name beside `path` for something that is about to take its place.
std::string TemporaryName(std::string_view path, int attempt) {
  const std::string suffix = ".holdfast-" + std::to_string(attempt);
  std::string name = "." + std::string(BaseName(path));
  name.resize(std::min(name.size(), kNameBytesMax - suffix.size()));
  return Join(Parent(path), name + suffix);
}

// The parts of `path`, last first.
void PushParts(std::string_view path, std::vector<std::string>& parts) {
  while (!path.empty()) {
    if (const std::string_view name = BaseName(path); !name.empty()) parts.emplace_back(name);
    path = Parent(path);
  }
}

// `path` with every link on the way, and at the end, replaced by where it leads. The last part need not be.
base::StatusOr<std::string> ResolveLinks(Tree& tree, std::string_view path) {
  std::vector<std::string> todo;
  PushParts(path, todo);
  std::string done;
  for (int links = 0; !todo.empty();) {
    const std::string part = std::move(todo.back());
    todo.pop_back();
    if (part == ".") continue;
    if (part == "..") {
      if (done.empty()) return base::FailedPrecondition(std::string(path) + ": a link leads out of the tree");
      done = std::string(Parent(done));
      continue;
    }
    const std::string here = Join(done, part);
    const auto stat = tree.Stat(here);
    if (!stat.ok() && !(absl::IsNotFound(stat.status()) && todo.empty())) return stat.status();
    if (!stat.ok() || stat->kind != EntryKind::kSymlink) {
      done = here;
      continue;
    }
    if (++links > kLinksMax) return base::FailedPrecondition(std::string(path) + ": too many links");
    HF_ASSIGN_OR_RETURN(const std::string target, tree.ReadLink(here));
    if (target.starts_with('/')) {
      return base::FailedPrecondition(std::string(path) + ": an absolute link leads out of the tree");
    }
    PushParts(target, todo);
  }
  return done;
}

}  // namespace

std::string_view Name(EntryKind kind) {
  switch (kind) {
    case EntryKind::kFile:
      return "file";
    case EntryKind::kDirectory:
      return "directory";
    case EntryKind::kSymlink:
      return "link";
    case EntryKind::kWhiteout:
      return "whiteout";
    case EntryKind::kOther:
      return "special file";
  }
  return "?";
}

int ComparePaths(std::string_view a, std::string_view b) {
  const size_t common = std::min(a.size(), b.size());
  const auto [at_a, at_b] = std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(common), b.begin());
  if (at_a == a.begin() + static_cast<ptrdiff_t>(common)) {
    return a.size() == b.size() ? 0 : a.size() < b.size() ? -1 : 1;
  }
  const auto rank = [](char c) { return c == '/' ? 0 : static_cast<int>(static_cast<unsigned char>(c)); };
  return rank(*at_a) < rank(*at_b) ? -1 : 1;
}

base::Status Tree::Walk(std::string_view path, size_t entries_max, const WalkVisitor& visitor) {
  std::vector<Level> levels;
  const auto enter = [&](std::string directory) -> base::Status {
    auto entries = List(directory, entries_max);
    if (!entries.ok() && !levels.empty() && Vanished(entries.status())) return {};
    if (!entries.ok()) return entries.status();
    levels.push_back({std::move(directory), std::move(*entries)});
    return {};
  };
  HF_RETURN_IF_ERROR(enter(std::string(path)));
  while (!levels.empty()) {
    Level& level = levels.back();
    if (level.next == level.entries.size()) {
      levels.pop_back();
      continue;
    }
    const Entry& entry = level.entries[level.next++];
    std::string child = Join(level.path, entry.name);
    const WalkStep step = visitor(child, entry.stat);
    if (step == WalkStep::kStop) return {};
    if (step == WalkStep::kContinue && entry.stat.kind == EntryKind::kDirectory) {
      HF_RETURN_IF_ERROR(enter(std::move(child)));
    }
  }
  return {};
}

base::Status Tree::SyncAll() {
  base::Status status;
  HF_RETURN_IF_ERROR(Walk("", kRemoveEntriesMax, [&](const std::string& path, const EntryStat& stat) {
    if (stat.kind == EntryKind::kDirectory) {
      status = SyncDirectory(path);
    } else if (stat.kind == EntryKind::kFile) {
      const auto file = OpenFile(path);
      status = file.ok() ? (*file)->Sync() : file.status();
    }
    if (absl::IsNotFound(status)) status = {};
    return status.ok() ? WalkStep::kContinue : WalkStep::kStop;
  }));
  HF_RETURN_IF_ERROR(status);
  return SyncDirectory("");
}

base::Status Tree::CopyFile(Tree& source, std::string_view from, std::string_view to, uint32_t mode) {
  HF_ASSIGN_OR_RETURN(const auto in, source.OpenFile(from));
  HF_ASSIGN_OR_RETURN(const auto out, CreateFile(to, mode));
  std::vector<std::byte> buffer(kCopyChunkBytes);
  for (uint64_t offset = 0;;) {
    HF_ASSIGN_OR_RETURN(const size_t read, in->ReadAt(offset, buffer));
    HF_RETURN_IF_ERROR(out->WriteAt(offset, std::span(buffer).first(read)));
    offset += read;
    if (read < buffer.size()) return {};
  }
}

base::StatusOr<FileContent> ReadWhole(Tree& tree, std::string_view path, uint64_t bytes_max) {
  for (int attempt = 0; attempt < kReadTries; ++attempt) {
    HF_ASSIGN_OR_RETURN(const auto file, tree.OpenFile(path));
    HF_ASSIGN_OR_RETURN(const EntryStat before, tree.StatOpen(*file));
    if (before.size_bytes > bytes_max) {
      return base::ResourceExhausted(std::string(path) + ": " + std::to_string(before.size_bytes) +
                                     " bytes, over the " + std::to_string(bytes_max) + " that are read");
    }
    HF_ASSIGN_OR_RETURN(std::string bytes, ReadAll(*file, before.size_bytes));
    HF_ASSIGN_OR_RETURN(const EntryStat after, tree.StatOpen(*file));
    if (SameFile(before, after) && bytes.size() == after.size_bytes)
      return FileContent{std::move(bytes), after};
  }
  return absl::UnavailableError(base::View(std::string(path) + ": changes while it is read"));
}

base::Status ReplaceFile(Tree& tree, std::string_view path, std::span<const std::byte> bytes, uint32_t mode) {
  HF_RETURN_IF_ERROR(ValidatePath(path));
  HF_ASSIGN_OR_RETURN(const std::string place, ResolveLinks(tree, path));
  for (int attempt = 0; attempt < kTemporaryNames; ++attempt) {
    const std::string temporary = TemporaryName(place, attempt);
    auto file = tree.CreateFile(temporary, mode);
    if (absl::IsAlreadyExists(file.status())) continue;
    if (!file.ok()) return file.status();
    base::Status status = (*file)->WriteAt(0, bytes);
    if (status.ok()) status = tree.Rename(temporary, place, Replace::kYes);
    if (!status.ok()) tree.Remove(temporary).IgnoreError();  // what failed first is what is reported
    return status;
  }
  return base::FailedPrecondition(std::string(path) + ": every temporary name beside it is taken");
}

base::Status MakeParents(Tree& tree, std::string_view path) {
  const std::string_view parent = Parent(path);
  if (parent.empty()) return {};
  base::Status status = tree.MakeDirectory(parent, 0755);
  if (absl::IsNotFound(status)) {
    HF_RETURN_IF_ERROR(MakeParents(tree, parent));
    status = tree.MakeDirectory(parent, 0755);
  }
  if (!absl::IsAlreadyExists(status)) return status;
  HF_ASSIGN_OR_RETURN(const EntryStat stat, tree.StatTarget(parent));
  if (stat.kind == EntryKind::kDirectory) return {};
  return base::FailedPrecondition(std::string(parent) + ": a " + std::string(Name(stat.kind)) +
                                  " where a directory is needed");
}

base::Status RemoveAll(Tree& tree, std::string_view path) {
  const auto stat = tree.Stat(path);
  if (absl::IsNotFound(stat.status())) return {};
  if (!stat.ok()) return stat.status();
  if (stat->kind == EntryKind::kDirectory) {
    HF_ASSIGN_OR_RETURN(const auto names, tree.Names(path, kRemoveEntriesMax));
    for (const NamedKind& name : names) {
      std::string child = Join(path, name.name);
      // Deeper than a path can say: a part of it is moved to the top first.
      if (child.size() > kDeepPathBytes && name.kind == EntryKind::kDirectory) {
        const std::string moved = TemporaryName("removed", static_cast<int>(stat->inode % 1'000'000));
        HF_RETURN_IF_ERROR(RemoveAll(tree, moved));
        HF_RETURN_IF_ERROR(tree.Rename(child, moved, Replace::kNo));
        child = moved;
      }
      if (name.kind == EntryKind::kDirectory) {
        HF_RETURN_IF_ERROR(RemoveAll(tree, child));
      } else if (const base::Status gone = tree.Remove(child); !gone.ok() && !absl::IsNotFound(gone)) {
        return gone;
      }
    }
  }
  if (path.empty()) return {};
  const base::Status gone = tree.Remove(path);
  return absl::IsNotFound(gone) ? base::Status() : gone;
}

}  // namespace holdfast::workspace
