#include "memory/kv/store_state.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace holdfast::memory::kv {
namespace {

std::vector<uint32_t> Sizes(const std::vector<PlaneSpec>& planes) {
  std::vector<uint32_t> sizes;
  for (const PlaneSpec& plane : planes) sizes.push_back(plane.bytes);
  return sizes;
}

}  // namespace

StoreState::StoreState(base::FileSystem& file_system, BlockStoreOptions store_options)
    : fs(file_system),
      options(std::move(store_options)),
      block_planes(Sizes(options.planes)),
      tail_planes({options.tail_bytes}) {
  for (const uint32_t bytes : block_planes) block_bytes += bytes;
}

bool StoreState::Usable(const Payload& payload, PayloadKind kind) const {
  if (payload.state == PayloadState::kAbsent) return false;
  if (!payload.stored()) return true;
  const auto& planes = segments.at(payload.at.segment).file->geometry().plane_bytes;
  return planes == (kind == PayloadKind::kBlock ? block_planes : tail_planes);
}

void StoreState::Enqueue(NodeId id, PayloadKind kind, std::unique_ptr<std::byte[]> bytes) {
  Payload& payload = index.at(id).payload(kind);
  HF_CHECK(payload.state == PayloadState::kAbsent);
  payload.heap = std::move(bytes);
  heap_bytes += BytesOf(kind);
  Requeue(id, kind);
}

void StoreState::Requeue(NodeId id, PayloadKind kind) {
  Payload& payload = index.at(id).payload(kind);
  HF_CHECK(payload.heap != nullptr && payload.state != PayloadState::kPending);
  payload.state = PayloadState::kPending;
  payload.at = Location{};
  payload.readers = 0;
  if (kind == PayloadKind::kBlock) index.at(id).checked.reset();
  pending.push_back({id, kind});
  pending_bytes += BytesOf(kind);
}

void StoreState::TrimHeap(Payload& payload, PayloadKind kind) {
  if (payload.heap == nullptr || payload.heap_users > 0 || payload.state != PayloadState::kDurable) return;
  if (!SegmentOf(payload.at).mapped()) {
    segments.at(payload.at.segment).heap_stays = true;
    return;
  }
  payload.heap.reset();
  heap_bytes -= BytesOf(kind);
}

void StoreState::Discard(NodeId id, PayloadKind kind) {
  Payload& payload = index.at(id).payload(kind);
  HF_CHECK(payload.heap_users == 0 && payload.readers == 0 && !payload.writing);
  if (payload.state == PayloadState::kPending) {
    pending_bytes -= BytesOf(kind);
    // What is discarded while pending was mostly appended a moment ago.
    const auto it = std::find_if(pending.rbegin(), pending.rend(),
                                 [&](const PendingItem& item) { return item.id == id && item.kind == kind; });
    HF_CHECK(it != pending.rend());
    pending.erase(std::next(it).base());
  }
  if (payload.heap != nullptr) heap_bytes -= BytesOf(kind);
  if (payload.stored()) {
    segments.Free(payload.at);
    to_erase.push_back(payload.at);
  }
  payload = Payload{};
  if (kind == PayloadKind::kBlock) index.at(id).checked.reset();
  index.Settle(id);
}

// Nobody is given the slot again: there may be readers.
void StoreState::GiveUpSlot(NodeId id, PayloadKind kind) {
  Payload& payload = index.at(id).payload(kind);
  HF_CHECK(payload.stored());
  segments.MarkBad(payload.at);
  ++quarantined;
  if (payload.heap != nullptr) {
    Requeue(id, kind);
  } else {
    if (kind == PayloadKind::kBlock) index.at(id).checked.reset();
    payload = Payload{};
  }
  index.Settle(id);
}

void StoreState::Quarantine(NodeId id, PayloadKind kind, std::string_view why) {
  const Location at = index.at(id).payload(kind).at;
  AddEvent(StoreEvent::Kind::kQuarantined,
           SegmentOf(at).path() + ": slot " + std::to_string(at.slot) +
               (kind == PayloadKind::kBlock ? ", block " : ", tail of block ") + ShortName(index.at(id).key) +
               ": " + std::string(why));
  to_erase.push_back(at);
  GiveUpSlot(id, kind);
}

void StoreState::QuarantineSegment(uint32_t number, std::string_view why) {
  SegmentState& segment = segments.at(number);
  segment.retired = true;
  const PayloadKind kind = PayloadOf(segment.file->geometry().kind);
  const std::vector<NodeId> owners = segment.owner;
  uint64_t lost = 0;
  for (const NodeId owner : owners) {
    if (owner >= kBadSlot || !index.at(owner).payload(kind).stored()) continue;
    GiveUpSlot(owner, kind);
    ++lost;
  }
  if (lost > 0)
    AddEvent(StoreEvent::Kind::kQuarantined, segment.file->path() + ": " + std::to_string(lost) +
                                                 (kind == PayloadKind::kBlock ? " blocks" : " tails") +
                                                 " are no longer used: " + std::string(why));
}

bool StoreState::MapOrQuarantine(Location at) {
  const base::Status mapped = SegmentOf(at).Map();
  if (!mapped.ok()) QuarantineSegment(at.segment, base::Message(mapped));
  return mapped.ok();
}

SlotRecord StoreState::RecordOf(NodeId id, PayloadKind kind) const {
  const Node& node = index.at(id);
  const Payload& payload = kind == PayloadKind::kBlock ? node.block : node.tail;
  SlotRecord record{.key = node.key, .sequence = payload.sequence, .sums_hash = payload.sums_hash};
  if (kind == PayloadKind::kTail) {
    record.periodic = node.periodic_tail;
  } else {
    record.parent = index.at(node.parent).key;
    record.depth = node.depth;
  }
  return record;
}

void StoreState::AddEvent(StoreEvent::Kind kind, std::string message) {
  events_.push_back({kind, std::move(message)});
}

base::Status StoreState::persistence() const {
  base::Status first;
  for (const base::Status& problem : problems_) first.Update(problem);
  return first;
}

void StoreState::SetProblem(Work work, base::Status status) {
  const bool was_ok = persistence().ok();
  problems_[static_cast<size_t>(work)] = std::move(status);
  if (persistence().ok() == was_ok) return;
  if (was_ok) {
    AddEvent(StoreEvent::Kind::kPersistenceLost,
             "the kv store in " + options.directory +
                 " is not written, work goes on in memory: " + base::Message(persistence()));
  } else {
    AddEvent(StoreEvent::Kind::kPersistenceResumed,
             "the kv store in " + options.directory + " is written again");
  }
}

void StoreState::DeliverEvents() {
  const std::lock_guard deliver(deliver_mu_);
  std::vector<StoreEvent> events;
  {
    const std::lock_guard guard(mu);
    events.swap(events_);
  }
  if (options.on_event == nullptr) return;
  for (const StoreEvent& event : events) options.on_event(event);
}

}  // namespace holdfast::memory::kv
