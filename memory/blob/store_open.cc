// Opening a store: whose directory it is, and what its packs hold. The steps are the list in
// docs/formats/blob_pack.md, "Opening".
#include <algorithm>
#include <string>
#include <utility>

#include "base/coding.h"
#include "base/hash.h"
#include "memory/blob/frame_builder.h"
#include "memory/blob/maintenance.h"
#include "memory/blob/pack_reader.h"
#include "memory/disk/local_disk.h"

namespace holdfast::memory::blob {
namespace {

constexpr char kLockName[] = "LOCK";
constexpr char kMarkName[] = "STORE";
constexpr char kMarkTempName[] = "STORE.tmp";  // base::WriteFileAtomically leaves it in a crash
constexpr size_t kEntriesMax = 1'000'000;
constexpr uint64_t kMarkBytesMax = 1024;
constexpr std::string_view kMarkStart = "Holdfast blob store";

// A line, and its checksum on another: a damaged mark is not taken for that of another version.
std::string MarkOf(std::string_view version_line) {
  std::string sum;
  base::PutFixed64(sum, base::Xxh3(base::AsBytes(version_line)));
  return std::string(version_line) + "\n" + base::ToHex(base::AsBytes(sum)) + "\n";
}

std::string OurMark() { return MarkOf(std::string(kMarkStart) + ", version 1"); }

bool IsTemporary(const std::string& name) {
  return name.ends_with(kTemporarySuffix) &&
         ParsePackFileName(name.substr(0, name.size() - kTemporarySuffix.size())).has_value();
}

bool MayBeHere(const std::string& name) {
  return name == kLockName || name == kMarkName || name == kMarkTempName ||
         ParsePackFileName(name).has_value() || IsTemporary(name);
}

// Whether the directory has our mark. Without it, it must hold nothing but what a store may hold.
base::StatusOr<bool> HasMark(const StoreState& state) {
  const std::string& dir = state.options.directory;
  const std::string path = dir + "/" + kMarkName;
  const auto mark = state.fs.ReadFile(path, kMarkBytesMax);
  if (mark.ok() && *mark == OurMark()) return true;
  if (mark.ok() && mark->starts_with(kMarkStart) && *mark == MarkOf(mark->substr(0, mark->find('\n'))))
    return base::FailedPrecondition(path + ": written by another version of Holdfast; use another directory");
  if (!mark.ok() && !absl::IsNotFound(mark.status()) && !absl::IsResourceExhausted(mark.status()))
    return mark.status();
  HF_ASSIGN_OR_RETURN(const auto entries, state.fs.List(dir, kEntriesMax));
  for (const base::DirectoryEntry& entry : entries)
    if (!MayBeHere(entry.name))
      return base::FailedPrecondition(dir + ": not a blob store, and not empty (it has " + entry.name +
                                      "); choose another directory");
  return false;
}

base::StatusOr<std::unique_ptr<base::FileLock>> LockDirectory(StoreState& state) {
  const std::string& dir = state.options.directory;
  HF_RETURN_IF_ERROR(state.fs.CreateDirectories(dir));
  HF_RETURN_IF_ERROR(RequireLocalDisk(state.fs, dir, dir));
  HF_RETURN_IF_ERROR(HasMark(state).status());  // leaves no lock file in somebody else's directory
  auto lock = state.fs.Lock(dir + "/" + kLockName);
  if (absl::IsUnavailable(lock.status()))
    return base::Annotate(lock.status(), "the blob store is in use by another process");
  HF_RETURN_IF_ERROR(lock.status());
  HF_ASSIGN_OR_RETURN(const bool marked, HasMark(state));
  if (!marked)
    HF_RETURN_IF_ERROR(base::WriteFileAtomically(state.fs, dir + "/" + kMarkName, base::AsBytes(OurMark())));
  return lock;
}

struct Found {
  PackContents contents;
  int64_t mtime_ns = 0;
};

base::StatusOr<Found> Read(StoreState& state, uint32_t id) {
  const std::string path = state.PathOf(id);
  HF_ASSIGN_OR_RETURN(const auto file, state.fs.Open(path, base::OpenMode::kRead));
  HF_ASSIGN_OR_RETURN(const base::FileStat stat, state.fs.Stat(path));
  HF_ASSIGN_OR_RETURN(PackContents contents, ReadPack(*file, id));
  return Found{.contents = std::move(contents), .mtime_ns = stat.mtime_ns};
}

// A process that was killed may have left writes that only the page cache has.
base::Status SyncPack(StoreState& state, uint32_t id) {
  HF_ASSIGN_OR_RETURN(const auto file, state.fs.Open(state.PathOf(id), base::OpenMode::kRead));
  return WriteError(file->DataSync());
}

base::Status TakePack(StoreState& state, uint32_t id, bool& needs_directory_sync) {
  const auto found = Read(state, id);
  if (!found.ok()) {
    state.Report(BlobEvent::Kind::kLeftAlone,
                 state.PathOf(id) + ": " + base::Message(found.status()) + "; left alone");
    return absl::OkStatus();
  }
  const PackContents& contents = found->contents;
  if (contents.needs_sync) {
    HF_RETURN_IF_ERROR(SyncPack(state, id));
    needs_directory_sync = true;
  }
  state.AddPack(id, contents.file_bytes, 0);
  state.Publish(id, contents.entries, state.SecondsOf(found->mtime_ns));
  for (const BlobId& missing : contents.damaged) state.MarkMissing(missing);
  for (const std::string& damage : contents.damage)
    state.Report(BlobEvent::Kind::kDamaged, state.PathOf(id) + ": " + damage);
  if (contents.unfinished > 0 || contents.unfinished_bytes)
    state.Report(BlobEvent::Kind::kUnfinished,
                 state.PathOf(id) + ": ends in a batch that was never committed");
  return absl::OkStatus();
}

}  // namespace

base::StatusOr<std::unique_ptr<base::FileLock>> OpenStore(StoreState& state) {
  HF_ASSIGN_OR_RETURN(auto lock, LockDirectory(state));
  const std::string& dir = state.options.directory;
  HF_ASSIGN_OR_RETURN(const auto entries, state.fs.List(dir, kEntriesMax));
  bool needs_directory_sync = false;
  for (const base::DirectoryEntry& entry : entries) {
    if (IsTemporary(entry.name)) state.fs.Remove(dir + "/" + entry.name).IgnoreError();
    const auto id = ParsePackFileName(entry.name);
    if (!id.has_value()) continue;
    state.ReservePackId(*id);
    HF_RETURN_IF_ERROR(TakePack(state, *id, needs_directory_sync));
  }
  if (needs_directory_sync) HF_RETURN_IF_ERROR(WriteError(state.fs.SyncDirectory(dir)));
  return lock;
}

}  // namespace holdfast::memory::blob
