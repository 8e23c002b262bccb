// The writing side of the block store: slots for what is pending, eviction, syncs. Waits for the disk; the
// store's lock is held only between the waits.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/status.h"
#include "memory/kv/store_state.h"

namespace holdfast::memory::kv {

// One thread at a time.
class StoreWriter {
 public:
  explicit StoreWriter(StoreState& state) : state_(state) {}

  base::Status Write(uint64_t bytes_max);
  base::Status Sync();
  base::Status EvictTo(uint64_t bytes);

 private:
  Segment* FileToChange(uint32_t number);
  std::optional<PendingItem> NextPending();
  base::Status WriteItem(const PendingItem& item);
  // An empty slot for the payload of a node, which owns it from now on. ResourceExhausted when budget or disk
  // are full and nothing can be evicted.
  base::StatusOr<Location> TakeSlot(const PendingItem& item);
  std::optional<Location> FindSlot(const PendingItem& item, bool crowded);
  // The first slot of a new segment; nullopt when there is no room for one.
  base::StatusOr<std::optional<Location>> AddSegment(const PendingItem& item);
  void Occupy(Location at, const PendingItem& item);
  // Evicts until a segment was removed, or enough slots were freed for a while. False: nothing to evict.
  bool EvictSome();
  // Evicts the node that was used longest ago and returns the segments that this emptied; nullopt when there
  // is none.
  std::optional<std::vector<uint32_t>> EvictOldest();
  base::Status RemoveSegment(uint32_t number);
  base::Status RemoveEmptySegments();
  void ApplyErasures();
  base::Status ApplyRenewals();
  void DropTailsLetGo();
  void DiscardUnusedPending();
  base::Status SyncDirty();
  bool HasUnsynced() const;
  base::Status SyncSegments(const std::vector<uint32_t>& numbers);
  void SyncFailed(uint32_t number, const base::Status& status);
  base::Status MakeDurable(uint32_t number);
  void TrimSegment(uint32_t number);

  StoreState& state_;
};

}  // namespace holdfast::memory::kv
