// What a KV block means: which weights, which graph, which bytes in a slot, which bits of arithmetic. Two
// processes with equal root keys compute equal blocks for equal tokens, so they may share a store.
//
//   const std::string config = ConfigText(checkpoint.config());
//   HF_ASSIGN_OR_RETURN(WeightsHash weights, HashWeights(checkpoint.weights(), HashDepth::kSampled, {}));
//   const base::Sha256Digest root = RootKey(config, weights.digest, kKvLayoutVersion, backend.NumericsId());
//
// Source: DESIGN section 5.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/hash.h"
#include "base/status.h"
#include "model/config.h"
#include "model/weights.h"

namespace holdfast::model {

// Raise it when stored KV of before must not be read any more although config, weights and numerics id are
// the same: another order of planes (KvLayout), other bytes of an entry or index key (EntryCodec,
// IndexCodec), another size of a block, another boundary tail (model/sequence.h). Blocks of the old version
// become unreachable and are prefilled again.
inline constexpr int32_t kKvLayoutVersion = 1;

// The fields of a configuration that a result of Forward depends on, one `name=value` a line in fixed order,
// floats as their bits. Not in it: what names tokens (bos, eos), what bounds the window (max_positions:
// positions have the same bits however many are allowed), and the draft head, which changes no result.
std::string ConfigText(const ModelConfig& config);

enum class HashDepth : uint8_t {
  kSampled,  // header and 256 pages of a shard; all of a shard of at most 64 MiB
  kFull,     // every byte
};

struct WeightsHash {
  base::Sha256Digest digest;
  // Only pages were sampled, so a change elsewhere would go unnoticed. Never true of small checkpoints, whose
  // two depths give one hash.
  bool provisional = false;
};

// The hashes of shards that were read before. One small file for any number of checkpoints: lines of text
// with a checksum, rewritten atomically. A shard is known by (device, inode, size, mtime, ctime), so touching
// it is enough to have it read again. A file that is damaged or of another version is ignored and replaced,
// one that cannot be written is done without; it may be deleted at any time. Two processes may use it at
// once; one may then lose what the other has added.
struct WeightsHashCache {
  base::FileSystem* fs = nullptr;  // null: none
  std::string path;
};

struct WeightsHashOptions {
  WeightsHashCache cache;
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;  // of what is not in the cache
  std::stop_token stop;
  // Larger shards are sampled. Part of what the hash is: changed by tests only.
  uint64_t sample_above_bytes = uint64_t{64} << 20;
};

// SHA-256 over the hashes of the shards, in order of their names; the names do not matter. Reads the bytes
// that were mapped, in the caller's thread: some 0.5 to 2 GB/s when the disk keeps up; may run beside an
// engine. Errors: Cancelled after a stop was requested, DataLoss when a shard
// cannot be read (CheckShards). Shards that were done are in the cache even so.
base::StatusOr<WeightsHash> HashWeights(const ModelWeights& weights, HashDepth depth,
                                        const WeightsHashOptions& options);

// The full hash, when the cache has it for every shard; reads no weights.
std::optional<WeightsHash> CachedWeightsHash(const ModelWeights& weights, const WeightsHashCache& cache);

// The parent of a first block.
base::Sha256Digest RootKey(std::string_view config_text, const base::Sha256Digest& weights_hash,
                           int32_t kv_layout_version, std::string_view numerics_id);

}  // namespace holdfast::model
