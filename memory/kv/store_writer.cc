#include "memory/kv/store_writer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/faults.h"

namespace holdfast::memory::kv {
namespace {

SegmentKind KindOf(PayloadKind kind) {
  return kind == PayloadKind::kBlock ? SegmentKind::kBlocks : SegmentKind::kTails;
}

// The largest power of two of slots that fits the target, within what is sensible.
uint32_t SlotsMax(const BlockStoreOptions& options, uint64_t slot_bytes) {
  uint32_t slots = 1;
  while (slots < 1024 && uint64_t{slots} * 2 * slot_bytes <= options.segment_bytes_target) slots *= 2;
  return std::max(slots, options.segment_slots_first);
}

constexpr uint32_t kTailSlots = 8;
constexpr int kEvictedAtOnce = 256;

}  // namespace

// Erasures come before any new use of a slot: FindSlot gives none away while some are waiting.
void StoreWriter::ApplyErasures() {
  std::vector<Location> to_erase;
  {
    const std::lock_guard guard(state_.mu);
    to_erase.swap(state_.to_erase);
  }
  for (const Location at : to_erase) {
    Segment* file = nullptr;
    {
      const std::lock_guard guard(state_.mu);
      SegmentState& segment = state_.segments.at(at.segment);
      if (segment.file == nullptr) continue;
      segment.dirty = true;
      file = segment.file.get();
    }
    // A record that stays is found again after a restart: an evicted block is right, a damaged one is
    // noticed.
    file->Erase(at.slot).IgnoreError();
  }
}

std::optional<PendingItem> StoreWriter::NextPending() {
  const std::lock_guard guard(state_.mu);
  while (!state_.pending.empty()) {
    const PendingItem item = state_.pending.front();
    state_.pending.pop_front();
    if (state_.index.at(item.id).payload(item.kind).state == PayloadState::kPending) return item;
  }
  return std::nullopt;
}

base::Status StoreWriter::Write(uint64_t bytes_max) {
  ApplyErasures();
  for (uint64_t bytes = 0; bytes < bytes_max;) {
    const auto item = NextPending();
    if (!item.has_value()) break;
    base::Status status = WriteItem(*item);
    const std::lock_guard guard(state_.mu);
    if (!status.ok()) {
      state_.pending.push_front(*item);
      DiscardUnusedPending();
      state_.SetPersistence(status);
      return status;
    }
    state_.SetPersistence(absl::OkStatus());
    bytes += state_.BytesOf(item->kind);
  }
  return absl::OkStatus();
}

base::Status StoreWriter::WriteItem(const PendingItem& item) {
  HF_ASSIGN_OR_RETURN(const Location at, TakeSlot(item));
  SlotRecord record;
  Segment* file = nullptr;
  std::span<const std::byte> bytes;
  {
    const std::lock_guard guard(state_.mu);
    const Node& node = state_.index.at(item.id);
    record.key = node.key;
    record.sequence = ++state_.now;
    record.periodic = item.kind == PayloadKind::kTail && node.periodic_tail;
    if (item.kind == PayloadKind::kBlock) record.parent = state_.index.at(node.parent).key;
    bytes = {state_.index.at(item.id).payload(item.kind).heap.get(), state_.BytesOf(item.kind)};
    SegmentState& segment = state_.segments.at(at.segment);
    segment.dirty = true;
    file = segment.file.get();
  }
  const auto sums_hash = file->Write(at.slot, record, bytes);
  const std::lock_guard guard(state_.mu);
  Payload& payload = state_.index.at(item.id).payload(item.kind);
  if (!sums_hash.ok()) {
    state_.segments.MarkBad(at);
    state_.segments.at(at.segment).retired = true;
    payload.at = Location{};
    return sums_hash.status();
  }
  payload.state = PayloadState::kWritten;
  payload.sums_hash = *sums_hash;
  state_.segments.at(at.segment).unsynced.push_back(item.id);
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
    HF_ASSIGN_OR_RETURN(const bool evicted, EvictSome());
    if (!evicted)
      return base::ResourceExhausted("no room for another block within " +
                                     std::to_string(state_.options.disk_bytes_max) +
                                     " bytes, and everything stored is in use");
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
          at = state_.segments.Next(state_.index.at(node.parent).block.at);
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

base::StatusOr<bool> StoreWriter::EvictSome() {
  for (int evicted = 0; evicted < kEvictedAtOnce; ++evicted) {
    std::optional<NodeId> leaf;
    {
      const std::lock_guard guard(state_.mu);
      leaf = state_.index.OldestLeaf();
    }
    if (!leaf.has_value()) return evicted > 0;
    HF_ASSIGN_OR_RETURN(const bool removed, Evict(*leaf));
    if (removed) return true;
  }
  return true;
}

base::StatusOr<bool> StoreWriter::Evict(NodeId id) {
  std::vector<uint32_t> emptied;
  {
    const std::lock_guard guard(state_.mu);
    if (state_.index.OldestLeaf() != id) return false;  // used meanwhile
    for (const PayloadKind kind : {PayloadKind::kTail, PayloadKind::kBlock}) {
      const Payload& payload = state_.index.at(id).payload(kind);
      if (payload.state == PayloadState::kAbsent) continue;
      const uint32_t number = payload.at.segment;
      if (kind == PayloadKind::kBlock) ++state_.evicted_blocks;
      state_.Discard(id, kind);
      if (state_.segments.at(number).used == 0) emptied.push_back(number);
    }
  }
  for (const uint32_t number : emptied) HF_RETURN_IF_ERROR(RemoveSegment(number));
  return !emptied.empty();
}

// A segment with bad slots stays: somebody may still read there.
base::Status StoreWriter::RemoveSegment(uint32_t number) {
  std::unique_ptr<Segment> file;
  {
    const std::lock_guard guard(state_.mu);
    SegmentState& segment = state_.segments.at(number);
    if (std::count(segment.owner.begin(), segment.owner.end(), kBadSlot) > 0) return absl::OkStatus();
    std::erase_if(state_.to_erase, [number](const Location& at) { return at.segment == number; });
    file = state_.segments.Remove(number);
  }
  return state_.fs.Remove(file->path());
}

base::Status StoreWriter::RemoveEmptySegments() {
  std::vector<uint32_t> empty;
  {
    const std::lock_guard guard(state_.mu);
    for (uint32_t n = 0; n < state_.segments.count(); ++n)
      if (state_.segments.at(n).file != nullptr && state_.segments.at(n).used == 0) empty.push_back(n);
  }
  for (const uint32_t n : empty) HF_RETURN_IF_ERROR(RemoveSegment(n));
  return absl::OkStatus();
}

void StoreWriter::DropTailsLetGo() {
  const std::lock_guard guard(state_.mu);
  for (const NodeId id : std::exchange(state_.tails_let_go, {})) {
    const Node& node = state_.index.at(id);
    if (node.tail_keepers > 0 || node.periodic_tail || node.tail.state == PayloadState::kAbsent) continue;
    state_.Discard(id, PayloadKind::kTail);
  }
}

// Bytes that nobody uses and that cannot be written would only fill the memory.
void StoreWriter::DiscardUnusedPending() {
  const auto items = state_.pending;
  for (auto it = items.rbegin(); it != items.rend(); ++it) {
    const Node& node = state_.index.at(it->id);
    const Payload& payload = state_.index.at(it->id).payload(it->kind);
    if (payload.state != PayloadState::kPending || payload.heap_users > 0) continue;
    const bool used =
        it->kind == PayloadKind::kBlock ? node.references > 0 || node.children > 0 : node.tail_keepers > 0;
    if (!used) state_.Discard(it->id, it->kind);
  }
}

base::Status StoreWriter::Sync() {
  DropTailsLetGo();
  const base::Status written = Write(UINT64_MAX);
  const base::Status removed = RemoveEmptySegments();
  std::vector<uint32_t> dirty;
  {
    const std::lock_guard guard(state_.mu);
    for (uint32_t n = 0; n < state_.segments.count(); ++n)
      if (state_.segments.at(n).dirty && state_.segments.at(n).file != nullptr) dirty.push_back(n);
  }
  const base::Status synced = SyncSegments(dirty);
  if (synced.ok()) return written.ok() ? removed : written;
  const std::lock_guard guard(state_.mu);
  state_.SetPersistence(synced);
  return synced;
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
      MakeDurable(n);
    }
  }
  return first;
}

// After a failed sync the kernel may have dropped the pages: what was written since the last good one is
// written again elsewhere, from memory.
void StoreWriter::SyncFailed(uint32_t number, const base::Status& status) {
  const std::lock_guard guard(state_.mu);
  SegmentState& segment = state_.segments.at(number);
  segment.retired = true;
  segment.dirty = false;
  if (absl::IsDataLoss(status)) {
    state_.QuarantineSegment(number, base::Message(status));
    segment.unsynced.clear();
    return;
  }
  const PayloadKind kind =
      segment.file->geometry().kind == SegmentKind::kBlocks ? PayloadKind::kBlock : PayloadKind::kTail;
  for (const NodeId id : std::exchange(segment.unsynced, {})) {
    Payload& payload = state_.index.at(id).payload(kind);
    if (payload.state != PayloadState::kWritten || payload.at.segment != number) continue;
    state_.segments.MarkBad(payload.at);
    state_.Requeue(id, kind);
    state_.index.Settle(id);
  }
}

void StoreWriter::MakeDurable(uint32_t number) {
  const std::lock_guard guard(state_.mu);
  SegmentState& segment = state_.segments.at(number);
  segment.dirty = false;
  segment.name_is_new = false;
  segment.file->Map().IgnoreError();  // without a mapping the bytes stay in memory
  const PayloadKind kind =
      segment.file->geometry().kind == SegmentKind::kBlocks ? PayloadKind::kBlock : PayloadKind::kTail;
  for (const NodeId id : std::exchange(segment.unsynced, {})) {
    Payload& payload = state_.index.at(id).payload(kind);
    if (payload.state != PayloadState::kWritten || payload.at.segment != number) continue;
    payload.state = PayloadState::kDurable;
    state_.TrimHeap(payload, kind);
    state_.index.Settle(id);
  }
}

base::Status StoreWriter::EvictTo(uint64_t bytes) {
  for (;;) {
    std::optional<NodeId> leaf;
    {
      const std::lock_guard guard(state_.mu);
      if (state_.segments.file_bytes() > bytes) leaf = state_.index.OldestLeaf();
    }
    if (!leaf.has_value()) break;
    HF_RETURN_IF_ERROR(Evict(*leaf).status());
  }
  ApplyErasures();
  return RemoveEmptySegments();
}

}  // namespace holdfast::memory::kv
