#include "memory/kv/store_state.h"

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
  pending.push_back({id, kind});
  pending_bytes += BytesOf(kind);
}

void StoreState::TrimHeap(Payload& payload, PayloadKind kind) {
  if (payload.heap == nullptr || payload.heap_users > 0 || payload.state != PayloadState::kDurable) return;
  if (!segments.at(payload.at.segment).file->mapped()) return;
  payload.heap.reset();
  heap_bytes -= BytesOf(kind);
}

void StoreState::Discard(NodeId id, PayloadKind kind) {
  Payload& payload = index.at(id).payload(kind);
  HF_CHECK(payload.heap_users == 0);
  if (payload.state == PayloadState::kPending) pending_bytes -= BytesOf(kind);
  if (payload.heap != nullptr) heap_bytes -= BytesOf(kind);
  if (payload.stored()) {
    segments.Free(payload.at);
    to_erase.push_back(payload.at);
  }
  payload = Payload{};
  if (kind == PayloadKind::kBlock) index.at(id).checked.reset();
  index.Settle(id);
}

void StoreState::Quarantine(NodeId id, PayloadKind kind, std::string_view why) {
  Payload& payload = index.at(id).payload(kind);
  HF_CHECK(payload.stored());
  const Location at = payload.at;
  AddEvent(StoreEvent::Kind::kQuarantined,
           SegmentOf(at).path() + ": slot " + std::to_string(at.slot) +
               (kind == PayloadKind::kBlock ? ", block " : ", tail of block ") + ShortName(index.at(id).key) +
               ": " + std::string(why));
  segments.MarkBad(at);
  to_erase.push_back(at);
  ++quarantined;
  if (kind == PayloadKind::kBlock) index.at(id).checked.reset();
  payload.at = Location{};
  if (payload.heap != nullptr) {
    Requeue(id, kind);
  } else {
    payload = Payload{};
    index.Settle(id);
  }
}

void StoreState::QuarantineSegment(uint32_t number, std::string_view why) {
  SegmentState& segment = segments.at(number);
  segment.retired = true;
  const PayloadKind kind =
      segment.file->geometry().kind == SegmentKind::kBlocks ? PayloadKind::kBlock : PayloadKind::kTail;
  const std::vector<NodeId> owners = segment.owner;
  for (uint32_t slot = 0; slot < owners.size(); ++slot) {
    if (owners[slot] >= kBadSlot) continue;
    if (index.at(owners[slot]).payload(kind).stored()) Quarantine(owners[slot], kind, why);
  }
}

void StoreState::AddEvent(StoreEvent::Kind kind, std::string message) {
  events_.push_back({kind, std::move(message)});
}

void StoreState::SetPersistence(base::Status status) {
  if (status.ok() && !persistence.ok())
    AddEvent(StoreEvent::Kind::kPersistenceResumed,
             "the kv store in " + options.directory + " is written again");
  if (!status.ok() && persistence.ok())
    AddEvent(StoreEvent::Kind::kPersistenceLost,
             "the kv store in " + options.directory +
                 " is not written, work goes on in memory: " + base::Message(status));
  persistence = std::move(status);
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
