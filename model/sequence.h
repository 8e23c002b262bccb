// The state of one token sequence inside the model: its position, its blocks of compressed entries, and its
// tail (window rows, pending compressor rows). A Sequence is data only; the Engine advances it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/backend.h"
#include "model/config.h"
#include "model/kv_layout.h"

namespace holdfast::model {

// Belongs to the engine that made it: must not outlive it, nor be fed to another. Not thread-safe; one user
// at a time. Memory: block_bytes() per started block of tokens, and TailBytes().
class Sequence {
 public:
  Sequence(const ModelConfig& config, const KvLayout& layout);

  const KvLayout& layout() const { return *layout_; }
  // Tokens fed so far: the position of the next one.
  int64_t position() const { return position_; }
  // Entries fed to draft stage `stage` so far.
  int64_t draft_position(int32_t stage) const { return draft_positions_[static_cast<size_t>(stage)]; }

  // Makes room for the entries of positions below `end`.
  void Reserve(int64_t end);
  void Advance(int64_t tokens) { position_ += tokens; }
  void AdvanceDraft(int32_t stage, int64_t tokens) { draft_positions_[static_cast<size_t>(stage)] += tokens; }

  // Layers number num_layers layers, then the draft stages.
  std::byte* window(int32_t layer) { return &tail_[layers_[static_cast<size_t>(layer)].window]; }
  PendingRows pending(int32_t layer) { return Pending(layers_[static_cast<size_t>(layer)].entries); }
  PendingRows pending_index(int32_t layer) { return Pending(layers_[static_cast<size_t>(layer)].index_keys); }
  PlaneView entries(int32_t layer) const { return View(layout_->entry_plane[static_cast<size_t>(layer)]); }
  PlaneView index_keys(int32_t layer) const { return View(layout_->index_plane[static_cast<size_t>(layer)]); }

  // Calls `visit` with every byte that belongs to the state at position(): complete entries plane by plane,
  // then the tail. Equal states give equal bytes in equal order.
  void VisitState(const std::function<void(std::span<const std::byte>)>& visit) const;

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
  PendingRows Pending(const Offsets& offsets);
  PlaneView View(int32_t plane) const;

  const ModelConfig* config_;
  const KvLayout* layout_;
  int64_t position_ = 0;
  std::vector<int64_t> draft_positions_;
  std::vector<Layer> layers_;
  std::vector<std::byte> tail_;
  std::vector<std::unique_ptr<std::byte[]>> blocks_;
  std::vector<std::vector<std::byte*>> plane_blocks_;  // [plane][block]
};

}  // namespace holdfast::model
