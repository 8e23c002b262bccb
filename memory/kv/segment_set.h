// All segments of a store and who sits in which slot. Consecutive blocks of a chain are given consecutive
// slots where that can be had, since kernels scan planes along them.
//
// A chain starts in a small segment; the one that continues a full one is twice as large, up to a bound. So a
// short session wastes little of its preallocated space, and a long one lies in few files.
//
// Threads: the owner locks; Segment's own rules hold for what is written into the files.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "memory/kv/block_index.h"
#include "memory/kv/segment.h"

namespace holdfast::memory::kv {

inline constexpr NodeId kBadSlot{UINT32_MAX - 1};  // holds damaged bytes: not used again by this process

struct SegmentState {
  std::unique_ptr<Segment> file;  // null once removed
  std::vector<NodeId> owner;      // by slot; kNoNode is free
  uint32_t used = 0;              // slots with an owner, bad ones not counted
  bool retired = false;           // an I/O error was met: nothing more is written here
  bool dirty = false;             // written or erased since the last sync
  bool name_is_new = false;       // the directory is to be synced
  bool inherited = false;         // found at the start and not synced yet: perhaps only the page cache has it
  bool heap_stays = false;        // could not be mapped: what is durable here is read in memory still
  std::vector<NodeId> unsynced;   // owners of slots written since the last good sync
};

inline PayloadKind PayloadOf(SegmentKind kind) {
  return kind == SegmentKind::kBlocks ? PayloadKind::kBlock : PayloadKind::kTail;
}
inline SegmentKind KindOf(PayloadKind kind) {
  return kind == PayloadKind::kBlock ? SegmentKind::kBlocks : SegmentKind::kTails;
}

class SegmentSet {
 public:
  // Takes over a segment; its slots are free. Returns its number.
  uint32_t Add(std::unique_ptr<Segment> file);

  SegmentState& at(uint32_t number) { return segments_[number]; }
  const SegmentState& at(uint32_t number) const { return segments_[number]; }
  uint32_t count() const { return static_cast<uint32_t>(segments_.size()); }  // removed ones included

  void Occupy(Location at, NodeId owner);
  void Free(Location at);
  void MarkBad(Location at);

  // The slot behind `before` when it is free, in a segment with exactly these planes.
  std::optional<Location> Next(Location before, const std::vector<uint32_t>& plane_bytes) const;
  // Any free slot of a segment with exactly these planes, of the segment with the most of them.
  std::optional<Location> AnyFree(SegmentKind kind, const std::vector<uint32_t>& plane_bytes) const;
  // How many slots a segment should have that goes on behind `before` (or starts a chain).
  uint32_t SlotsOfNew(Location before, uint32_t first, uint32_t most) const;

  // Forgets a segment without owners and returns its file, to be removed.
  std::unique_ptr<Segment> Remove(uint32_t number);

  uint64_t next_id() const { return next_id_; }
  void ReserveId(uint64_t id) { next_id_ = std::max(next_id_, id + 1); }
  uint64_t file_bytes() const { return file_bytes_; }
  uint32_t files() const { return files_; }

 private:
  std::vector<SegmentState> segments_;
  uint64_t next_id_ = 1;
  uint64_t file_bytes_ = 0;
  uint32_t files_ = 0;
};

}  // namespace holdfast::memory::kv
