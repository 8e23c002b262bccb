// Opening a store: whose directory it is, and what the records say. The steps are the list in
// docs/formats/kv_segment.md, "Opening".
#include <algorithm>
#include <utility>

#include "base/coding.h"
#include "memory/kv/store_state.h"

namespace holdfast::memory::kv {
namespace {

constexpr char kLockName[] = "LOCK";
constexpr char kMarkName[] = "STORE";
constexpr std::string_view kMark = "Holdfast KV store, version 1\n";
constexpr size_t kEntriesMax = 1'000'000;

base::Status LockDirectory(StoreState& state) {
  const std::string& dir = state.options.directory;
  HF_RETURN_IF_ERROR(state.fs.CreateDirectories(dir));
  HF_ASSIGN_OR_RETURN(const base::FileSystemInfo info, state.fs.Info(dir));
  if (info.network)
    return base::FailedPrecondition(dir + ": lies on a network file system (" + info.type +
                                    "), whose locks, mappings and syncs cannot be relied on; choose a "
                                    "directory on a local disk");
  auto lock = state.fs.Lock(dir + "/" + kLockName);
  if (absl::IsUnavailable(lock.status()))
    return base::Annotate(lock.status(), "the kv store is in use by another process");
  HF_RETURN_IF_ERROR(lock.status());
  state.lock = *std::move(lock);
  return absl::OkStatus();
}

base::Status CheckMark(StoreState& state, const std::vector<base::DirectoryEntry>& entries) {
  const std::string path = state.options.directory + "/" + kMarkName;
  const auto mark = state.fs.ReadFile(path, 1024);
  if (mark.ok() && *mark == kMark) return absl::OkStatus();
  if (mark.ok() && mark->starts_with("Holdfast KV store"))
    return base::FailedPrecondition(path + ": written by another version of Holdfast; use another directory");
  if (!mark.ok() && !absl::IsNotFound(mark.status())) return mark.status();
  for (const base::DirectoryEntry& entry : entries) {
    const bool ours = entry.name == kLockName || entry.name == std::string(kMarkName) + ".tmp";
    if (!ours)
      return base::FailedPrecondition(state.options.directory + ": not a kv store, and not empty (it has " +
                                      entry.name + "); choose another directory");
  }
  return base::WriteFileAtomically(state.fs, path, base::AsBytes(kMark));
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

// Removes what can never be read again, and leaves alone what another version may read.
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
  state.AddEvent(StoreEvent::Kind::kQuarantined, path + ": " + base::Message(status) + "; left alone");
}

void Take(StoreState& state, Location at, PayloadKind kind, const SlotRecord& record) {
  const NodeId id = state.index.FindOrAdd(record.key);
  Payload& payload = state.index.at(id).payload(kind);
  if (payload.state != PayloadState::kAbsent) {  // written twice, because a sync had failed in between
    state.to_erase.push_back(at);
    return;
  }
  state.segments.Occupy(at, id);
  payload.state = PayloadState::kDurable;
  payload.at = at;
  payload.sums_hash = record.sums_hash;
  Node& node = state.index.at(id);
  node.last_use = std::max(node.last_use, record.sequence);
  state.now = std::max(state.now, record.sequence + 1);
  if (kind == PayloadKind::kTail) node.periodic_tail = record.periodic;
  if (kind == PayloadKind::kBlock) state.index.Link(id, record.parent);
  state.index.Settle(id);
}

base::Status ReadSegment(StoreState& state, const std::string& path, const SegmentName& name) {
  HF_ASSIGN_OR_RETURN(auto segment, Segment::Open(state.fs, path));
  if (segment->geometry().kind != name.kind || segment->geometry().id != name.id)
    return base::DataLoss("the file has the name of another segment");
  HF_ASSIGN_OR_RETURN(const Segment::Records records, segment->ReadRecords());
  segment->CloseFile();
  const PayloadKind kind = name.kind == SegmentKind::kBlocks ? PayloadKind::kBlock : PayloadKind::kTail;
  const uint32_t number = state.segments.Add(std::move(segment));
  for (uint32_t slot = 0; slot < records.slots.size(); ++slot)
    if (records.slots[slot].has_value()) Take(state, {number, slot}, kind, *records.slots[slot]);
  for (const uint32_t slot : records.damaged) {
    ++state.quarantined;
    state.AddEvent(StoreEvent::Kind::kQuarantined,
                   path + ": slot " + std::to_string(slot) + ": damaged record");
    state.to_erase.push_back({number, slot});
  }
  if (state.segments.at(number).used == 0) {
    std::erase_if(state.to_erase, [number](const Location& at) { return at.segment == number; });
    state.segments.Remove(number).reset();
    return state.fs.Remove(path);
  }
  return absl::OkStatus();
}

}  // namespace

base::Status OpenStore(StoreState& state) {
  HF_RETURN_IF_ERROR(LockDirectory(state));
  const std::string& dir = state.options.directory;
  HF_ASSIGN_OR_RETURN(const auto entries, state.fs.List(dir, kEntriesMax));
  HF_RETURN_IF_ERROR(CheckMark(state, entries));
  for (const base::DirectoryEntry& entry : entries) {
    const auto name = ParseSegmentFileName(entry.name);
    if (!name.has_value()) continue;
    state.segments.ReserveId(name->id);
    const std::string path = dir + "/" + entry.name;
    const base::Status status = ReadSegment(state, path, *name);
    if (!status.ok()) SetAside(state, path, status);
  }
  return absl::OkStatus();
}

}  // namespace holdfast::memory::kv
