// Opening a store: whose directory it is, and what the records say. The steps are the list in
// docs/formats/kv_segment.md, "Opening".
#include <algorithm>
#include <utility>

#include "base/coding.h"
#include "base/hash.h"
#include "memory/disk/local_disk.h"
#include "memory/kv/store_state.h"

namespace holdfast::memory::kv {
namespace {

constexpr char kLockName[] = "LOCK";
constexpr char kMarkName[] = "STORE";
constexpr char kMarkTempName[] = "STORE.tmp";  // base::WriteFileAtomically leaves it in a crash
constexpr size_t kEntriesMax = 1'000'000;
constexpr uint64_t kMarkBytesMax = 1024;
constexpr uint64_t kSequencesPerGap = uint64_t{1} << 40;

// A line, and its checksum on another: a damaged mark is not taken for that of another version.
std::string MarkOf(std::string_view version_line) {
  std::string sum;
  base::PutFixed64(sum, base::Xxh3(base::AsBytes(version_line)));
  return std::string(version_line) + "\n" + base::ToHex(base::AsBytes(sum)) + "\n";
}

std::string OurMark() { return MarkOf("Holdfast KV store, version 1"); }

enum class Mark { kOurs, kNone };

// Whether the directory has the mark of a store. Without it, it must hold nothing but what a store may hold.
base::StatusOr<Mark> ReadMark(const StoreState& state) {
  const std::string& dir = state.options.directory;
  const std::string path = dir + "/" + kMarkName;
  const auto mark = state.fs.ReadFile(path, kMarkBytesMax);
  if (mark.ok() && *mark == OurMark()) return Mark::kOurs;
  if (mark.ok() && mark->starts_with("Holdfast KV store") &&
      *mark == MarkOf(mark->substr(0, mark->find('\n'))))
    return base::FailedPrecondition(path + ": written by another version of Holdfast; use another directory");
  if (!mark.ok() && !absl::IsNotFound(mark.status()) && !absl::IsResourceExhausted(mark.status()))
    return mark.status();
  HF_ASSIGN_OR_RETURN(const auto entries, state.fs.List(dir, kEntriesMax));
  for (const base::DirectoryEntry& entry : entries) {
    if (entry.name == kLockName || entry.name == kMarkName || entry.name == kMarkTempName) continue;
    if (ParseSegmentFileName(entry.name).has_value()) continue;
    return base::FailedPrecondition(dir + ": not a kv store, and not empty (it has " + entry.name +
                                    "); choose another directory");
  }
  return Mark::kNone;
}

base::Status LockDirectory(StoreState& state) {
  const std::string& dir = state.options.directory;
  HF_RETURN_IF_ERROR(state.fs.CreateDirectories(dir));
  HF_RETURN_IF_ERROR(RequireLocalDisk(state.fs, dir, dir));
  HF_RETURN_IF_ERROR(ReadMark(state).status());  // leaves no lock file in somebody else's directory
  auto lock = state.fs.Lock(dir + "/" + kLockName);
  if (absl::IsUnavailable(lock.status()))
    return base::Annotate(lock.status(), "the kv store is in use by another process");
  HF_RETURN_IF_ERROR(lock.status());
  state.lock = *std::move(lock);
  return absl::OkStatus();
}

base::Status MakeMark(StoreState& state) {
  HF_ASSIGN_OR_RETURN(const Mark mark, ReadMark(state));
  if (mark == Mark::kOurs) return absl::OkStatus();
  return base::WriteFileAtomically(state.fs, state.options.directory + "/" + kMarkName,
                                   base::AsBytes(OurMark()));
}

// A file that a crash left before its header was durable.
bool Unfinished(StoreState& state, const std::string& path) {
  auto file = state.fs.Open(path, base::OpenMode::kRead);
  if (!file.ok()) return false;
  std::vector<std::byte> page(kHeaderBytes);
  const auto read = (*file)->ReadAt(0, page);
  if (!read.ok()) return false;
  return std::all_of(page.begin(), page.begin() + static_cast<ptrdiff_t>(*read),
                     [](std::byte b) { return b == std::byte{0}; });
}

// Removes what can never be read again, and leaves alone what another version, or a later attempt, may read.
void SetAside(StoreState& state, const std::string& path, const base::Status& status) {
  if (absl::IsDataLoss(status)) {
    if (!Unfinished(state, path)) {
      ++state.quarantined;
      state.AddEvent(StoreEvent::Kind::kQuarantined, path + ": " + base::Message(status) + "; file removed");
    }
    state.fs.Remove(path).IgnoreError();
    return;
  }
  const auto stat = state.fs.Stat(path);
  if (stat.ok()) state.foreign_bytes += stat->size_bytes;
  state.left_alone = true;
  state.AddEvent(StoreEvent::Kind::kQuarantined, path + ": " + base::Message(status) + "; left alone");
}

// False for the older of two records of one key: it was written again, because a sync had failed or because
// it had been given up.
bool Take(StoreState& state, Location at, PayloadKind kind, const SlotRecord& record) {
  state.now = std::max(state.now, record.sequence + 1);
  const NodeId id = state.index.FindOrAdd(record.key);
  Node& node = state.index.at(id);
  Payload& payload = node.payload(kind);
  if (payload.state != PayloadState::kAbsent) {
    if (record.sequence <= payload.sequence) return false;
    state.segments.Free(payload.at);
    state.to_erase.push_back(payload.at);
    if (kind == PayloadKind::kBlock) state.index.Unlink(id);
  }
  state.segments.Occupy(at, id);
  payload.state = PayloadState::kDurable;
  payload.at = at;
  payload.sums_hash = record.sums_hash;
  payload.sequence = record.sequence;
  node.last_use = std::max(node.last_use, record.sequence);
  if (kind == PayloadKind::kTail) {
    node.periodic_tail = record.periodic;
  } else {
    node.depth = record.depth;
    state.index.Link(id, record.parent);
  }
  state.index.Settle(id);
  return true;
}

base::Status ReadSegment(StoreState& state, const std::string& path, const SegmentName& name) {
  HF_ASSIGN_OR_RETURN(auto segment, Segment::Open(state.fs, path));
  if (segment->geometry().kind != name.kind || segment->geometry().id != name.id)
    return base::DataLoss("the file has the name of another segment");
  HF_ASSIGN_OR_RETURN(const Segment::Records records, segment->ReadRecords());
  segment->CloseFile();
  const uint32_t number = state.segments.Add(std::move(segment));
  // A process that was killed may have left writes that only the page cache has. The first sync saves them.
  state.segments.at(number).inherited = true;
  state.segments.at(number).dirty = true;
  state.segments.at(number).name_is_new = true;
  for (uint32_t slot = 0; slot < records.slots.size(); ++slot) {
    const auto& record = records.slots[slot];
    if (record.has_value() && !Take(state, {number, slot}, PayloadOf(name.kind), *record))
      state.to_erase.push_back({number, slot});
  }
  for (const uint32_t slot : records.damaged) {
    ++state.quarantined;
    state.AddEvent(StoreEvent::Kind::kQuarantined,
                   path + ": slot " + std::to_string(slot) + ": damaged record");
    state.to_erase.push_back({number, slot});
  }
  return absl::OkStatus();
}

// Those without any block, and those of which all blocks were found in a later record elsewhere.
void RemoveEmpty(StoreState& state) {
  for (uint32_t n = 0; n < state.segments.count(); ++n) {
    if (state.segments.at(n).file == nullptr || state.segments.at(n).used > 0) continue;
    const base::Status removed = state.fs.Remove(state.segments.at(n).file->path());
    if (!removed.ok() && !absl::IsNotFound(removed)) continue;  // tried again when the store is synced
    std::erase_if(state.to_erase, [n](const Location& at) { return at.segment == n; });
    state.segments.Remove(n).reset();
  }
}

}  // namespace

base::Status OpenStore(StoreState& state) {
  HF_RETURN_IF_ERROR(LockDirectory(state));
  HF_RETURN_IF_ERROR(MakeMark(state));
  const std::string& dir = state.options.directory;
  HF_ASSIGN_OR_RETURN(const auto entries, state.fs.List(dir, kEntriesMax));
  for (const base::DirectoryEntry& entry : entries) {
    const auto name = ParseSegmentFileName(entry.name);
    if (!name.has_value()) continue;
    state.segments.ReserveId(name->id);
    const std::string path = dir + "/" + entry.name;
    const base::Status status = ReadSegment(state, path, *name);
    if (!status.ok()) SetAside(state, path, status);
  }
  // What is written from now on must count as later than what could not be read.
  if (state.left_alone) state.now += kSequencesPerGap;
  state.index.BreakRings();
  RemoveEmpty(state);
  return absl::OkStatus();
}

}  // namespace holdfast::memory::kv
