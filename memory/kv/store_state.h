// What the parts of the block store share: options, index, segments, what waits to be written, events; and
// the small steps that change several of them together.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "memory/block_store.h"
#include "memory/kv/block_index.h"
#include "memory/kv/segment_set.h"

namespace holdfast::memory::kv {

struct PendingItem {
  NodeId id;
  PayloadKind kind;
};

class StoreState {
 public:
  StoreState(base::FileSystem& file_system, BlockStoreOptions store_options);

  // --- Constant
  base::FileSystem& fs;
  const BlockStoreOptions options;
  const std::vector<uint32_t> block_planes;  // bytes of each
  const std::vector<uint32_t> tail_planes;   // one
  uint64_t block_bytes = 0;

  // --- Guarded by mu
  mutable std::mutex mu;
  std::unique_ptr<base::FileLock> lock;
  BlockIndex index;
  SegmentSet segments;
  std::deque<PendingItem> pending;     // each payload that is kPending and not being written, once
  std::vector<Location> to_erase;      // free or bad slots whose records are still on disk
  std::vector<Location> to_renew;      // slots of tails that have become periodic
  std::vector<BlockKey> tails_let_go;  // kept once, and no longer
  uint64_t now = 1;                    // counts uses
  uint64_t foreign_bytes = 0;
  bool left_alone = false;  // there are segments that could not be read
  uint64_t heap_bytes = 0;
  uint64_t pending_bytes = 0;
  uint64_t quarantined = 0;
  uint64_t written_bytes = 0;
  uint64_t evicted_blocks = 0;

  // All of these want mu held.
  uint64_t BytesOf(PayloadKind kind) const {
    return kind == PayloadKind::kBlock ? block_bytes : options.tail_bytes;
  }
  Segment& SegmentOf(Location at) { return *segments.at(at.segment).file; }
  SlotRecord RecordOf(NodeId id, PayloadKind kind) const;
  // A block or tail of this process's layout that is in memory or in a slot.
  bool Usable(const Payload& payload, PayloadKind kind) const;
  // `payload` goes into memory and waits to be written.
  void Enqueue(NodeId id, PayloadKind kind, std::unique_ptr<std::byte[]> bytes);
  // Waits again to be written, from the memory it still has.
  void Requeue(NodeId id, PayloadKind kind);
  // Frees the memory of a durable payload that nobody reads there.
  void TrimHeap(Payload& payload, PayloadKind kind);
  // Gives up slot and memory of a payload; the node may be gone afterwards.
  void Discard(NodeId id, PayloadKind kind);
  // The bytes in the slot are not what was stored: neither slot nor record are used again.
  void Quarantine(NodeId id, PayloadKind kind, std::string_view why);
  // Nothing more is read from the file or written to it. What it holds is left there, to be found again after
  // a restart if it can be read then.
  void QuarantineSegment(uint32_t number, std::string_view why);
  // Maps the segment of a slot, or quarantines it; false then.
  bool MapOrQuarantine(Location at);
  void AddEvent(StoreEvent::Kind kind, std::string message);
  // Why nothing is written, of each kind of work; a kind is believed to work only when it was tried.
  enum class Work : uint8_t { kWrite, kRenew, kSync };
  void SetProblem(Work work, base::Status status);
  base::Status persistence() const;

  // Wants mu free: hands events to options.on_event.
  void DeliverEvents();

 private:
  void GiveUpSlot(NodeId id, PayloadKind kind);

  base::Status problems_[3];        // by Work; guarded by mu
  std::mutex deliver_mu_;           // keeps events in order; taken before mu
  std::vector<StoreEvent> events_;  // guarded by mu
};

// Makes the directory a store if it is none, locks it and reads all records into `state`.
base::Status OpenStore(StoreState& state);

}  // namespace holdfast::memory::kv
