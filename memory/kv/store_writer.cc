#include "memory/kv/store_writer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/faults.h"

namespace holdfast::memory::kv {
namespace {

// The largest power of two of slots that fits the target, within what is sensible.
uint32_t SlotsMax(const BlockStoreOptions& options, uint64_t slot_bytes) {
  uint32_t slots = 1;
  while (slots < 1024 && uint64_t{slots} * 2 * slot_bytes <= options.segment_bytes_target) slots *= 2;
  return std::max(slots, options.segment_slots_first);
}

constexpr uint32_t kTailSlots = 8;
constexpr int kEvictedAtOnce = 256;

}  // namespace

// The file of a segment that is about to be changed; null when it is gone.
Segment* StoreWriter::FileToChange(uint32_t number) {
  const std::lock_guard guard(state_.mu);
  SegmentState& segment = state_.segments.at(number);
  if (segment.file == nullptr) return nullptr;
  segment.dirty = true;
  return segment.file.get();
}

// Erasures come before any new use of a slot: FindSlot gives none away while some are waiting.
void StoreWriter::ApplyErasures() {
  std::vector<Location> to_erase;
  {
    const std::lock_guard guard(state_.mu);
    to_erase.swap(state_.to_erase);
  }
  for (const Location at : to_erase) {
    Segment* const file = FileToChange(at.segment);
    if (file == nullptr) continue;
    // A record that stays is found again after a restart: an evicted block is right, a damaged one is
    // noticed.
    file->Erase(at.slot).IgnoreError();
    const std::lock_guard guard(state_.mu);
    // The sync opens it again. There may be more of them than a process may have descriptors.
    if (state_.segments.at(at.segment).unsynced.empty()) file->CloseFile();
  }
}

// Tails that have become periodic. A record that could not be written may be torn: it is tried again.
base::Status StoreWriter::ApplyRenewals() {
  std::vector<Location> to_renew;
  {
    const std::lock_guard guard(state_.mu);
    to_renew.swap(state_.to_renew);
  }
  if (to_renew.empty()) return absl::OkStatus();
  base::Status first;
  for (const Location at : to_renew) {
    Segment* const file = FileToChange(at.segment);
    if (file == nullptr) continue;
    SlotRecord record;
    {
      const std::lock_guard guard(state_.mu);
      const NodeId id = state_.segments.at(at.segment).owner[at.slot];
      if (id >= kBadSlot || !state_.index.at(id).tail.stored()) continue;
      record = state_.RecordOf(id, PayloadKind::kTail);
    }
    const base::Status written = file->WriteRecord(at.slot, record);
    if (written.ok()) continue;
    first.Update(written);
    const std::lock_guard guard(state_.mu);
    if (!absl::IsDataLoss(written)) state_.to_renew.push_back(at);
  }
  const std::lock_guard guard(state_.mu);
  state_.SetProblem(StoreState::Work::kRenew, first);
  return first;
}

std::optional<PendingItem> StoreWriter::NextPending() {
  const std::lock_guard guard(state_.mu);
  if (state_.pending.empty()) return std::nullopt;
  const PendingItem item = state_.pending.front();
  state_.pending.pop_front();
  Payload& payload = state_.index.at(item.id).payload(item.kind);
  HF_CHECK(payload.state == PayloadState::kPending);
  payload.writing = true;
  return item;
}

base::Status StoreWriter::Write(uint64_t bytes_max) {
  RemoveEmptySegments().IgnoreError();  // tried again
  ApplyErasures();
  if (const base::Status renewed = ApplyRenewals(); !renewed.ok()) return renewed;
  for (uint64_t bytes = 0; bytes < bytes_max;) {
    const auto item = NextPending();
    if (!item.has_value()) break;
    base::Status status = WriteItem(*item);
    const std::lock_guard guard(state_.mu);
    state_.index.at(item->id).payload(item->kind).writing = false;
    if (!status.ok()) {
      state_.pending.push_front(*item);
      DiscardUnusedPending();
      state_.SetProblem(StoreState::Work::kWrite, status);
      return status;
    }
    state_.SetProblem(StoreState::Work::kWrite, absl::OkStatus());
    bytes += state_.BytesOf(item->kind);
  }
  return absl::OkStatus();
}

base::Status StoreWriter::WriteItem(const PendingItem& item) {
  HF_ASSIGN_OR_RETURN(const Location at, TakeSlot(item));
  SlotRecord record;
  std::span<const std::byte> bytes;
  Segment* const file = FileToChange(at.segment);
  {
    const std::lock_guard guard(state_.mu);
    Payload& payload = state_.index.at(item.id).payload(item.kind);
    payload.sequence = std::min(++state_.now, kSequenceMax);
    record = state_.RecordOf(item.id, item.kind);
    bytes = {payload.heap.get(), state_.BytesOf(item.kind)};
  }
  const auto sums_hash = file->Write(at.slot, record, bytes);
  const std::lock_guard guard(state_.mu);
  Payload& payload = state_.index.at(item.id).payload(item.kind);
  SegmentState& segment = state_.segments.at(at.segment);
  if (!sums_hash.ok()) {
    state_.segments.Free(at);  // nobody has read there
    segment.retired |= !absl::IsResourceExhausted(sums_hash.status());
    payload.at = Location{};
    return sums_hash.status();
  }
  payload.state = PayloadState::kWritten;
  payload.sums_hash = *sums_hash;
  segment.unsynced.push_back(item.id);
  state_.pending_bytes -= state_.BytesOf(item.kind);
  state_.written_bytes += bytes.size() + file->geometry().sums_bytes() + kRecordBytes;
  return absl::OkStatus();
}

base::StatusOr<Location> StoreWriter::TakeSlot(const PendingItem& item) {
  for (bool crowded = false;;) {
    if (const auto at = FindSlot(item, crowded)) return *at;
    if (!crowded) {
      HF_ASSIGN_OR_RETURN(const auto at, AddSegment(item));
      if (at.has_value()) return *at;
      crowded = true;
      continue;
    }
    if (!EvictSome()) {
      // What waits for a sync cannot be evicted.
      if (HasUnsynced() && SyncDirty().ok() && EvictSome()) continue;
      return base::ResourceExhausted("no room for another block within " +
                                     std::to_string(state_.options.disk_bytes_max) +
                                     " bytes, and everything stored is in use");
    }
    crowded = false;
    // After an eviction that emptied no segment, its slots will do.
    if (const auto at = FindSlot(item, /*crowded=*/true)) return *at;
  }
}

std::optional<Location> StoreWriter::FindSlot(const PendingItem& item, bool crowded) {
  for (;;) {
    {
      const std::lock_guard guard(state_.mu);
      if (state_.to_erase.empty()) {
        const Node& node = state_.index.at(item.id);
        std::optional<Location> at;
        if (item.kind == PayloadKind::kBlock)
          at = state_.segments.Next(state_.index.at(node.parent).block.at, state_.block_planes);
        if (!at.has_value() && (crowded || item.kind == PayloadKind::kTail))
          at = state_.segments.AnyFree(
              KindOf(item.kind), item.kind == PayloadKind::kBlock ? state_.block_planes : state_.tail_planes);
        if (at.has_value()) Occupy(*at, item);
        return at;
      }
    }
    ApplyErasures();
  }
}

void StoreWriter::Occupy(Location at, const PendingItem& item) {
  state_.segments.Occupy(at, item.id);
  state_.index.at(item.id).payload(item.kind).at = at;
}

base::StatusOr<std::optional<Location>> StoreWriter::AddSegment(const PendingItem& item) {
  SegmentGeometry geometry;
  {
    const std::lock_guard guard(state_.mu);
    const bool block = item.kind == PayloadKind::kBlock;
    const auto& planes = block ? state_.block_planes : state_.tail_planes;
    const uint32_t most = SlotsMax(state_.options, state_.BytesOf(item.kind));
    const Location before = block ? state_.index.at(state_.index.at(item.id).parent).block.at : Location{};
    const uint32_t slots = block
                               ? state_.segments.SlotsOfNew(before, state_.options.segment_slots_first, most)
                               : std::min(kTailSlots, most);
    HF_ASSIGN_OR_RETURN(geometry, MakeGeometry(KindOf(item.kind), state_.segments.next_id(), slots, planes));
    if (state_.segments.files() >= state_.options.segments_max ||
        state_.segments.file_bytes() + geometry.file_bytes > state_.options.disk_bytes_max)
      return std::optional<Location>();
    state_.segments.ReserveId(geometry.id);
  }
  auto segment = Segment::Create(state_.fs, state_.options.directory, std::move(geometry));
  const std::lock_guard guard(state_.mu);
  // When the disk is full: make do with what is there.
  if (absl::IsResourceExhausted(segment.status())) return std::optional<Location>();
  HF_RETURN_IF_ERROR(segment.status());
  const Location at{state_.segments.Add(*std::move(segment)), 0};
  state_.segments.at(at.segment).name_is_new = true;
  Occupy(at, item);
  return std::optional<Location>(at);
}

bool StoreWriter::EvictSome() {
  for (int evicted = 0; evicted < kEvictedAtOnce; ++evicted) {
    const std::optional<std::vector<uint32_t>> emptied = EvictOldest();
    if (!emptied.has_value()) return evicted > 0;
    bool removed = false;
    for (const uint32_t number : *emptied) removed |= RemoveSegment(number).ok();
    if (removed) return true;
  }
  return true;
}

std::optional<std::vector<uint32_t>> StoreWriter::EvictOldest() {
  const std::lock_guard guard(state_.mu);
  const std::optional<NodeId> leaf = state_.index.OldestLeaf();
  if (!leaf.has_value()) return std::nullopt;
  std::vector<uint32_t> emptied;
  for (const PayloadKind kind : {PayloadKind::kTail, PayloadKind::kBlock}) {
    const Payload& payload = state_.index.at(*leaf).payload(kind);
    if (payload.state == PayloadState::kAbsent) continue;
    const uint32_t number = payload.at.segment;
    if (kind == PayloadKind::kBlock) ++state_.evicted_blocks;
    state_.Discard(*leaf, kind);
    if (state_.segments.at(number).used == 0) emptied.push_back(number);
  }
  return emptied;
}

// A segment with bad slots stays: somebody may still read there.
base::Status StoreWriter::RemoveSegment(uint32_t number) {
  std::string path;
  {
    const std::lock_guard guard(state_.mu);
    const SegmentState& segment = state_.segments.at(number);
    if (segment.file == nullptr || segment.used > 0) return absl::OkStatus();
    if (std::count(segment.owner.begin(), segment.owner.end(), kBadSlot) > 0) return absl::OkStatus();
    path = segment.file->path();
  }
  // While it stands it counts.
  const base::Status removed = state_.fs.Remove(path);
  if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  std::unique_ptr<Segment> file;  // unmapped without the lock
  const std::lock_guard guard(state_.mu);
  std::erase_if(state_.to_erase, [number](const Location& at) { return at.segment == number; });
  file = state_.segments.Remove(number);
  return absl::OkStatus();
}

base::Status StoreWriter::RemoveEmptySegments() {
  std::vector<uint32_t> empty;
  {
    const std::lock_guard guard(state_.mu);
    for (uint32_t n = 0; n < state_.segments.count(); ++n)
      if (state_.segments.at(n).file != nullptr && state_.segments.at(n).used == 0) empty.push_back(n);
  }
  base::Status first;
  for (const uint32_t n : empty) first.Update(RemoveSegment(n));
  return first;
}

void StoreWriter::DropTailsLetGo() {
  const std::lock_guard guard(state_.mu);
  for (const BlockKey& key : std::exchange(state_.tails_let_go, {})) {
    const auto id = state_.index.Find(key);
    if (!id.has_value()) continue;
    const Node& node = state_.index.at(*id);
    if (node.tail_keepers > 0 || node.periodic_tail || node.tail.state == PayloadState::kAbsent) continue;
    if (node.tail.readers > 0) {
      state_.tails_let_go.push_back(key);  // next time
    } else {
      state_.Discard(*id, PayloadKind::kTail);
    }
  }
}

// Bytes that nobody uses and that cannot be written would only fill the memory. Children come after their
// parents, so this goes from the end.
void StoreWriter::DiscardUnusedPending() {
  for (size_t i = state_.pending.size(); i-- > 0;) {
    const PendingItem item = state_.pending[i];
    const Node& node = state_.index.at(item.id);
    const bool block_used = node.references > 0 || node.children > 0 || node.block.heap_users > 0;
    const bool used = node.tail_keepers > 0 || (item.kind == PayloadKind::kBlock && block_used);
    if (!used) state_.Discard(item.id, item.kind);
  }
}

base::Status StoreWriter::Sync() {
  DropTailsLetGo();
  const base::Status written = Write(UINT64_MAX);
  const base::Status synced = SyncDirty();
  return synced.ok() ? written : synced;
}

base::Status StoreWriter::SyncDirty() {
  std::vector<uint32_t> dirty;
  {
    const std::lock_guard guard(state_.mu);
    for (uint32_t n = 0; n < state_.segments.count(); ++n) {
      const SegmentState& segment = state_.segments.at(n);
      if (segment.file == nullptr) continue;
      if (segment.heap_stays) TrimSegment(n);
      if (segment.dirty) dirty.push_back(n);
    }
  }
  if (dirty.empty()) return absl::OkStatus();
  const base::Status synced = SyncSegments(dirty);
  const std::lock_guard guard(state_.mu);
  state_.SetProblem(StoreState::Work::kSync, synced);
  return synced;
}

bool StoreWriter::HasUnsynced() const {
  const std::lock_guard guard(state_.mu);
  for (uint32_t n = 0; n < state_.segments.count(); ++n)
    if (!state_.segments.at(n).unsynced.empty()) return true;
  return false;
}

base::Status StoreWriter::SyncSegments(const std::vector<uint32_t>& numbers) {
  base::Status first;
  std::vector<uint32_t> synced;
  bool new_names = false;
  const auto failed = [&](uint32_t n, const base::Status& status) {
    if (first.ok()) first = status;
    SyncFailed(n, status);
  };
  for (const uint32_t n : numbers) {
    Segment* file = nullptr;
    {
      const std::lock_guard guard(state_.mu);
      file = state_.segments.at(n).file.get();
    }
    const base::Status status = file->Sync();
    file->CloseFile();
    if (!status.ok()) {
      failed(n, status);
      continue;
    }
    synced.push_back(n);
    const std::lock_guard guard(state_.mu);
    new_names |= state_.segments.at(n).name_is_new;
  }
  HF_FAULT_POINT("memory.store.segments_synced");
  const base::Status named = new_names ? state_.fs.SyncDirectory(state_.options.directory) : absl::OkStatus();
  for (const uint32_t n : synced) {
    bool name_is_new = false;
    {
      const std::lock_guard guard(state_.mu);
      name_is_new = state_.segments.at(n).name_is_new;
    }
    if (name_is_new && !named.ok()) {
      failed(n, named);
    } else {
      first.Update(MakeDurable(n));
    }
  }
  return first;
}

// After a failed sync the kernel may have dropped the pages: what was written since the last good one is
// written again elsewhere, from memory. When the file is gone, so is all that was in it; and of what a
// process before this one has left there, nobody knows what the disk has.
void StoreWriter::SyncFailed(uint32_t number, const base::Status& status) {
  const std::lock_guard guard(state_.mu);
  SegmentState& segment = state_.segments.at(number);
  segment.retired = true;
  segment.dirty = false;
  const PayloadKind kind = PayloadOf(segment.file->geometry().kind);
  for (const NodeId id : std::exchange(segment.unsynced, {})) {
    const Payload& payload = state_.index.at(id).payload(kind);
    if (payload.state != PayloadState::kWritten || payload.at.segment != number) continue;
    state_.segments.Free(payload.at);  // what is written is read in memory, so nobody reads there
    state_.Requeue(id, kind);
  }
  if (absl::IsDataLoss(status) || segment.inherited) state_.QuarantineSegment(number, base::Message(status));
}

// Removed behind our back just now, or a page of it could not be read: as good as not synced.
base::Status StoreWriter::MakeDurable(uint32_t number) {
  base::Status mapped;
  {
    const std::lock_guard guard(state_.mu);
    SegmentState& segment = state_.segments.at(number);
    mapped = segment.file->Map();
    if (mapped.ok() && segment.file->damaged())
      mapped = base::DataLoss(segment.file->path() + ": a page of the file could not be read");
  }
  if (absl::IsDataLoss(mapped)) {
    SyncFailed(number, mapped);
    return mapped;
  }
  const std::lock_guard guard(state_.mu);
  SegmentState& segment = state_.segments.at(number);
  segment.dirty = false;
  segment.name_is_new = false;
  segment.inherited = false;
  const PayloadKind kind = PayloadOf(segment.file->geometry().kind);
  for (const NodeId id : std::exchange(segment.unsynced, {})) {
    Payload& payload = state_.index.at(id).payload(kind);
    if (payload.state != PayloadState::kWritten || payload.at.segment != number) continue;
    payload.state = PayloadState::kDurable;
    state_.TrimHeap(payload, kind);
    state_.index.Settle(id);
  }
  return absl::OkStatus();
}

// What is durable here had to stay in memory, because the file could not be mapped. Perhaps it can be now.
void StoreWriter::TrimSegment(uint32_t number) {
  SegmentState& segment = state_.segments.at(number);
  if (!segment.file->Map().ok()) return;
  segment.heap_stays = false;
  const PayloadKind kind = PayloadOf(segment.file->geometry().kind);
  for (const NodeId owner : segment.owner)
    if (owner < kBadSlot) state_.TrimHeap(state_.index.at(owner).payload(kind), kind);
}

base::Status StoreWriter::EvictTo(uint64_t bytes) {
  base::Status first;
  for (;;) {
    {
      const std::lock_guard guard(state_.mu);
      if (state_.segments.file_bytes() <= bytes) break;
    }
    const std::optional<std::vector<uint32_t>> emptied = EvictOldest();
    if (!emptied.has_value()) break;
    for (const uint32_t number : *emptied) first.Update(RemoveSegment(number));
  }
  ApplyErasures();
  first.Update(RemoveEmptySegments());
  return first;
}

}  // namespace holdfast::memory::kv
