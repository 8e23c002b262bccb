// The state of one token sequence inside the model: its position, its blocks of compressed entries, and its
// tail (window rows, pending compressor rows). A Sequence is data only; the Engine advances it.
//
// Blocks. The entries of block_tokens tokens are one block. A block that is being filled is heap memory of
// the sequence; a complete one is never written again, and its memory may be somebody else's:
//
//   HeapBlock memory = sequence.TakeBlock(b);       // the caller keeps it alive, the sequence goes on
//   reading it
//   ... the caller writes it to a file and maps that ...
//   sequence.LendBlock(b, planes);                  // read it there from now on; `memory` may go
//
//   Sequence resumed = engine.NewSequence();        // attaching what is stored
//   for (...) resumed.AppendLentBlock(planes, unchecked);
//   HF_RETURN_IF_ERROR(resumed.RestoreTail(resumed.position(), tail));
//
// A resumed sequence gives the bits of one that never stopped. What a failed Forward has spoilt is only what
// lies after the last complete block: TruncateToBlocks and RestoreTail make the sequence good again.
//
// The boundary tail, as SaveTail writes it: for each layer, in order and without padding,
//   window      sliding_window entries (EntryCodec): entry j is the row of position
//               max(0, P - sliding_window) + j; zeros from position P on
//   CSA layers  kv [4, head_dim] and score [4, head_dim], float32 little-endian: of positions P - 4 .. P - 1
//               the halves that the next entry pools (zeros when P is 0); then the same of the index keys,
//               [4, index_head_dim]
// where P is the position. HCA layers have no pending rows at a boundary. Equal states give equal bytes.
// Draft stages are not in it: drafts are guesses, their results change no result of Forward, and they are
// not worth storing. After RestoreTail the window of a draft stage starts empty at P, and so does its
// position; its first guesses see less context than those of a sequence that never stopped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "model/backend.h"
#include "model/config.h"
#include "model/kv_layout.h"

namespace holdfast::model {

// One block on the heap: its planes one after another, in the order of KvLayout::planes.
using HeapBlock = std::unique_ptr<std::byte[]>;

// Who knows whether lent memory is as it was written. Called by Forward, on its thread; may read the disk.
// Must not touch the sequence. An error ends the Forward and is what it returns.
class BlockGuard {
 public:
  virtual ~BlockGuard() = default;

  // Checks plane `plane` (of KvLayout::planes) of block `block`, before it is read for the first time.
  virtual base::Status Check(int64_t block, int32_t plane) = 0;

  // Asked at the end of a Forward when a mapped page anywhere in the process could not be read since it was
  // last asked (base/mapping_faults.h): an error when memory that is lent to this sequence may be among what
  // went bad.
  virtual base::Status CheckMappings();  // DataLoss, unless somebody knows better
};

// Belongs to the engine that made it: must not outlive it, nor be fed to another. Not thread-safe; one user
// at a time. Memory: block_bytes() for each block that it owns, a pointer for each block and plane, and
// TailBytes().
class Sequence {
 public:
  Sequence(const ModelConfig& config, const KvLayout& layout);
  Sequence(Sequence&&) = default;
  Sequence& operator=(Sequence&&) = default;

  const KvLayout& layout() const { return *layout_; }
  // Tokens fed so far: the position of the next one.
  int64_t position() const { return position_; }
  int64_t complete_blocks() const { return position_ / layout_->block_tokens; }
  // Entries fed to draft stage `stage` so far, counted from position 0.
  int64_t draft_position(int32_t stage) const { return draft_positions_[static_cast<size_t>(stage)]; }

  // --- Blocks ---

  // Hands over the memory of a complete block that the sequence owns. The sequence goes on reading it: the
  // caller keeps it alive until LendBlock has moved the block, or until the sequence, and every fork of it,
  // has ended or has cut the block off.
  HeapBlock TakeBlock(int64_t block);
  bool OwnsBlock(int64_t block) const { return owned_[static_cast<size_t>(block)] != nullptr; }

  // From now on reads a complete block at these addresses, one for each plane, of any alignment: memory with
  // the same bytes that outlives the sequence's use of it and is never written.
  void LendBlock(int64_t block, std::span<const std::byte* const> planes);

  // Adds a complete block at the end: position() grows by block_tokens, and until RestoreTail the sequence
  // cannot be fed. `planes` as for LendBlock; `unchecked[p]` != 0 means that the guard must check plane p
  // before it is read. position() must be a boundary.
  void AppendLentBlock(std::span<const std::byte* const> planes, std::span<const uint8_t> unchecked);

  // Asked before an unchecked plane is read; must outlive the sequence or be replaced. Not inherited by
  // forks.
  void set_guard(BlockGuard* guard) { guard_ = guard; }

  // --- The tail ---

  // Writes the tail at position(), a boundary; `out` has BoundaryTailBytes.
  void SaveTail(std::span<std::byte> out) const;

  // Makes the tail what SaveTail wrote at `position`, which must be position(). InvalidArgument when it is
  // not, or when the size is not BoundaryTailBytes; nothing has changed then.
  base::Status RestoreTail(int64_t position, std::span<const std::byte> tail);

  // Forgets all tokens after the first `blocks` blocks, which are complete. Until RestoreTail the sequence
  // cannot be fed, unless `blocks` is 0.
  void TruncateToBlocks(int64_t blocks);

  // Whether the sequence can be fed.
  bool has_tail() const { return has_tail_; }

  // A copy that goes its own way from here. All complete blocks must have been taken or lent; whoever owns
  // them keeps them for both. Has no guard: it needs one before it is fed if blocks are unchecked. Cost: the
  // pointers of the blocks, the tail and the started block.
  Sequence Fork() const;

  // --- For the engine ---

  // Makes room for the entries of positions below `end`.
  void Reserve(int64_t end);
  void Advance(int64_t tokens) { position_ += tokens; }
  void AdvanceDraft(int32_t stage, int64_t tokens) { draft_positions_[static_cast<size_t>(stage)] += tokens; }

  // Layers number num_layers layers, then the draft stages.
  std::byte* window(int32_t layer) { return &tail_[layers_[static_cast<size_t>(layer)].window]; }
  // The first position whose row the window may hold: 0 but for draft stages.
  int64_t window_begin(int32_t layer) const { return layer < config_->num_layers ? 0 : draft_begins_; }
  PendingRows pending(int32_t layer) { return Pending(layers_[static_cast<size_t>(layer)].entries); }
  PendingRows pending_index(int32_t layer) { return Pending(layers_[static_cast<size_t>(layer)].index_keys); }
  PlaneView entries(int32_t layer) const { return View(layout_->entry_plane[static_cast<size_t>(layer)]); }
  PlaneView index_keys(int32_t layer) const { return View(layout_->index_plane[static_cast<size_t>(layer)]); }

  bool HasUnchecked(int32_t plane) const { return unchecked_count_[static_cast<size_t>(plane)] > 0; }
  // Has the guard check every unchecked block of a plane, or those that hold `entries`.
  base::Status CheckPlane(int32_t plane);
  base::Status CheckEntries(int32_t plane, std::span<const int32_t> entries);
  // Whether lent memory is still good when `fault_count` mapped pages have failed so far.
  base::Status CheckMappings(uint64_t fault_count);

  // --- For checks ---

  // Calls `visit` with every byte that the results of later tokens depend on: complete entries layer by
  // layer, then what is alive of the tail. Equal states give equal bytes in equal order. Without draft
  // stages.
  void VisitState(const std::function<void(std::span<const std::byte>)>& visit) const;

  // The same entries, then all memory of the tail, with rows that nothing reads any more and draft windows.
  // The golden of result hashes holds this.
  void VisitMemory(const std::function<void(std::span<const std::byte>)>& visit) const;

 private:
  struct Offsets {  // of one compressor's pending rows inside tail_
    size_t kv = 0;
    size_t score = 0;
  };
  struct Layer {
    size_t window = 0;
    Offsets entries;
    Offsets index_keys;
  };
  Sequence(const Sequence& other);  // Fork does the rest
  PendingRows Pending(const Offsets& offsets);
  PlaneView View(int32_t plane) const;
  void AddBlock(HeapBlock memory);
  void SetBlock(int64_t block, std::span<const std::byte* const> planes);
  void KeepBlocks(int64_t count);
  base::Status CheckBlock(int64_t block, int32_t plane);
  void VisitEntries(const std::function<void(std::span<const std::byte>)>& visit) const;
  template <class Live, class Dead>
  void WalkTail(Live&& live, Dead&& dead) const;
  template <class Live, class Dead>
  void WalkPending(const Offsets& offsets, int64_t ratio, int64_t d, Live&& live, Dead&& dead) const;

  const ModelConfig* config_;
  const KvLayout* layout_;
  int64_t position_ = 0;
  std::vector<int64_t> draft_positions_;
  int64_t draft_begins_ = 0;
  std::vector<Layer> layers_;
  std::vector<std::byte> tail_;
  bool has_tail_ = true;

  std::vector<HeapBlock> owned_;                       // [block]; null: somebody else's
  std::vector<std::vector<std::byte*>> plane_blocks_;  // [plane][block]; written only while owned and started
  std::vector<std::vector<uint8_t>> unchecked_;        // [plane][block]; blocks beyond the end are checked
  std::vector<int64_t> unchecked_count_;               // [plane]
  bool lent_ = false;                                  // some memory may be mapped
  uint64_t fault_count_ = 0;                           // mapped pages that had failed when last looked
  BlockGuard* guard_ = nullptr;
};

}  // namespace holdfast::model
