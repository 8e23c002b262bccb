// What is inside the KV cache of a V4 model: the bytes of one entry, and which planes of entries a block of
// tokens holds. Entries never change once written; stored bytes equal memory bytes.
// Source: spec "KV size per token", "KV entry quant", "Indexer q and k".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"

namespace holdfast::model {

enum class KvMode : uint8_t {
  kF32,        // every value a float32
  kQuantised,  // float32 values on the grid of the model's own quantiser (FP8 entries, FP4 index keys),
               // rotated dims untouched: what the official code holds when its activations are float32
  kStored,     // the bytes that the KV store keeps: FP8 + BF16 entries, FP4 index keys
};

// Codec of one main entry (window row, CSA or HCA entry) of head_dim values, the last rope_dim rotated.
//   kStored: nope x E4M3 | rope x BF16 | nope/64 x UE8M0 | zeros up to a multiple of 8     (Flash: 584 bytes)
//   kF32, kQuantised: head_dim x F32
// An entry with a value that is not finite is stored with NaN in its rotated dims, so that whoever attends to
// it knows.
class EntryCodec {
 public:
  EntryCodec() = default;
  EntryCodec(KvMode mode, int32_t head_dim, int32_t rope_dim);
  KvMode mode() const { return mode_; }
  int32_t dim() const { return nope_ + rope_; }
  int32_t nope() const { return nope_; }
  int32_t rope() const { return rope_; }
  int32_t bytes() const { return bytes_; }
  int32_t rope_offset() const { return nope_; }               // kStored
  int32_t scale_offset() const { return nope_ + 2 * rope_; }  // kStored
  void Encode(const float* values, std::byte* out) const;
  void Decode(const std::byte* entry, float* values) const;

 private:
  KvMode mode_ = KvMode::kF32;
  int32_t nope_ = 0;
  int32_t rope_ = 0;
  int32_t bytes_ = 0;
};

// Codec of one index key (or indexer query head) of index_head_dim values, after the Hadamard rotation.
//   kStored: dim/2 x two E2M1 (even one in the low nibble) | dim/32 x UE8M0                (Flash: 68 bytes)
//   kF32, kQuantised: dim x F32
// A group with a value that is not finite gets the NaN scale.
class IndexCodec {
 public:
  IndexCodec() = default;
  IndexCodec(KvMode mode, int32_t dim);
  KvMode mode() const { return mode_; }
  int32_t dim() const { return dim_; }
  int32_t bytes() const { return bytes_; }
  int32_t scale_offset() const { return dim_ / 2; }  // kStored
  void Encode(const float* values, std::byte* out) const;
  void Decode(const std::byte* entry, float* values) const;

 private:
  KvMode mode_ = KvMode::kF32;
  int32_t dim_ = 0;
  int32_t bytes_ = 0;
};

enum class PlaneKind : uint8_t { kEntries, kIndexKeys };

// All entries of one layer and kind inside one block lie side by side.
struct Plane {
  int32_t layer = 0;
  PlaneKind kind = PlaneKind::kEntries;
  int32_t entries_per_block = 0;
  int32_t entry_bytes = 0;
  bool scanned = false;  // every step reads all of it: index keys, HCA entries; else what was selected
  int64_t block_bytes() const { return int64_t{entries_per_block} * entry_bytes; }
};

struct KvLayout {
  KvMode mode = KvMode::kStored;
  int32_t block_tokens = 128;
  EntryCodec entry;
  IndexCodec index_key;
  // Scanned planes first: the index keys of every CSA layer, the entries of every HCA layer, then the entries
  // of every CSA layer; each kind in layer order. Part of the store's layout (kKvLayoutVersion).
  std::vector<Plane> planes;
  // Per layer (draft stages follow the layers): its plane, or -1.
  std::vector<int32_t> entry_plane;
  std::vector<int32_t> index_plane;

  int64_t block_bytes() const;  // of all planes
};
KvLayout MakeKvLayout(const ModelConfig& config, KvMode mode);

// Bytes of what a sequence holds in memory beside its blocks: window rows and pending compressor rows
// (float32), room for those of every position.
int64_t TailBytes(const ModelConfig& config, KvMode mode);

// Bytes of the boundary tail (Sequence::SaveTail): of that, what is alive where a block ends.
int64_t BoundaryTailBytes(const ModelConfig& config, KvMode mode);

// One plane of one sequence: entry i lies in block i / entries_per_block.
struct PlaneView {
  std::byte* const* blocks = nullptr;
  int32_t entries_per_block = 1;
  int32_t entry_bytes = 0;
  std::byte* entry(int64_t i) const {
    return blocks[i / entries_per_block] + (i % entries_per_block) * entry_bytes;
  }
};

}  // namespace holdfast::model
