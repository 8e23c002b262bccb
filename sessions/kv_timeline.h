// The KV of one session: a model::Sequence whose complete blocks live in the block store. This is where the
// model, which knows nothing of disks, and the store, which knows nothing of tokens, meet.
//
//   KvCache cache(config, engine.kv_layout(), *store, root);
//   KvTimeline line = cache.Attach(tokens);            // stored prefix, in milliseconds; position() says how
//   far HF_RETURN_IF_ERROR(Prefill(engine, line, tokens.subspan(line.position()), ...)); line.Checkpoint();
//   // end of the turn: a tail to go on from store->Sync();                                     // on the
//   storage lane
//
// Blocks are handed to the store as they are completed and are read where the store keeps them. Tails exist
// at block boundaries only; any other position is reached by feeding the tokens after the nearest one below.
// Kept are: one every KvCacheOptions::tail_interval_tokens, those asked for by WantTail (ends of shared
// prefixes), fork points, and the last two checkpoints of each session. Everything is exact: a timeline that
// was attached, forked or rewound gives the bits of one that was fed from the start.
//
// Threads: a timeline is used on the engine lane only; the store may be written and synced meanwhile.
// Source: DESIGN section 5, ADR 0005.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "base/status.h"
#include "memory/block_store.h"
#include "model/engine.h"
#include "model/kv_layout.h"
#include "model/sequence.h"

namespace holdfast::sessions {

class KvCache;

// What keeps the KV of an idle session from being evicted; holds no memory of it.
struct KvPin {
  memory::ChainRef end;
  std::vector<memory::TailRef> tails;
};

// Move-only; must not outlive its cache.
class KvTimeline {
 public:
  KvTimeline(KvTimeline&&) noexcept;
  KvTimeline& operator=(KvTimeline&&) noexcept;
  ~KvTimeline();

  // To be fed by Engine::Forward; every Forward is followed by Fed.
  model::Sequence& sequence() { return *sequence_; }
  int64_t position() const { return position_; }
  // Blocks found in the store when attached, of which those without a tail behind them have to be computed
  // again.
  int64_t blocks_stored_at_attach() const { return blocks_stored_; }

  // How many of the next `tokens` tokens to feed at most before calling Fed, so that tails can be taken where
  // they are wanted; at least 1.
  int64_t FeedLimit(int64_t tokens) const;

  // Tells what a successful Forward has fed. `remaining` of the tokens at hand are still to come: the tail at
  // the last boundary among them is remembered. Hands completed blocks to the store; never waits for the disk
  // (but for a block that the store has already and that this process has not read yet). Afterwards
  // position() is lower in one rare case: a block that was stored turned out to be damaged just then.
  void Fed(std::span<const int32_t> tokens, int64_t remaining);

  // The tail at the last boundary at or below `position` will be kept as long as its block.
  void WantTail(int64_t position);

  // End of a turn: the newest tail goes to the store, to be durable with the next Sync.
  void Checkpoint();

  // A second timeline with the same `position` tokens, at most position() of them; sharing all blocks. Ends
  // where the nearest tail at or below is, when `position` is not position(): feed the tokens from there on.
  KvTimeline Fork(int64_t position);

  // Goes back to `position`, or to the nearest tail below it: feed the tokens from position() on.
  void Rewind(int64_t position);

  // After a Forward that gave DataLoss, or BlockStore::QuarantineDamaged: takes up again what is stored and
  // sound. Feed the tokens from position() on.
  void Reattach();

  // Moves blocks that have become durable out of this process's memory. Fed does it as well.
  void Settle();

  // Keeps what is stored of this timeline and ends it.
  KvPin Park() &&;
  // Ends it and removes from the store what nobody else uses.
  void Drop() &&;

  // For the session's record: what KvCache::Pin takes after a restart.
  memory::BlockKey end_key() const;
  std::vector<memory::BlockKey> tail_keys() const;

 private:
  friend class KvCache;
  class Guard;
  struct BoundaryTail {  // at the end of the last complete block; in this process's memory only
    int64_t position = 0;
    std::unique_ptr<std::byte[]> bytes;  // null: there is none
  };
  struct StoredTail {
    memory::BlockKey key;
    int64_t position = 0;
    memory::TailRef ref;
  };
  explicit KvTimeline(KvCache& cache);
  void AttachTo(std::span<const memory::BlockKey> keys);
  void TakeUp(memory::Attachment found, std::span<const memory::BlockKey> keys);
  void Seal();
  void TakeTail(int64_t remaining);
  // Gives the tail in memory to the store.
  void StoreTail();
  void Keep(StoredTail tail);
  bool TailWanted(int64_t position) const;
  // False when the store has lost the block.
  bool LendFromStore(int64_t block, bool append);
  // The timeline becomes the first blocks of its chain, as found by BlockStore::BackTo. False: none.
  bool CutTo(int64_t position);
  void ReleaseBlocks();

  KvCache* cache_;
  std::unique_ptr<Guard> guard_;
  std::unique_ptr<model::Sequence> sequence_;
  int64_t position_ = 0;
  int64_t blocks_stored_ = 0;
  memory::ChainRef end_;                 // the last complete block, or the root
  std::vector<memory::BlockKey> keys_;   // of complete blocks
  std::vector<memory::BlockId> blocks_;  // the same
  std::vector<int32_t> started_;         // tokens of the block being filled
  std::vector<int64_t> in_memory_;       // complete blocks that are read in the store's memory
  std::set<int64_t> wanted_tails_;       // boundaries still ahead
  BoundaryTail newest_;
  std::deque<StoredTail> kept_;  // the last two checkpoints
};

struct KvCacheOptions {
  int64_t tail_interval_tokens = 4096;  // rounded up to whole blocks
};

// Makes timelines of one model over one store. One engine lane.
class KvCache {
 public:
  // All must outlive the cache; `layout` is that of the backend, and the store has its planes (PlanesOf) and
  // tail size.
  KvCache(const model::ModelConfig& config, const model::KvLayout& layout, memory::BlockStore& store,
          const memory::BlockKey& root, const KvCacheOptions& options = {});

  // A timeline with the longest stored prefix of `tokens` that ends at a tail: position() <= tokens.size().
  // To get logits at the last token, pass all tokens but that one.
  KvTimeline Attach(std::span<const int32_t> tokens);
  // The same when the keys of all complete blocks are at hand (session record).
  KvTimeline Attach(std::span<const memory::BlockKey> keys);

  // Keeps what a session had, by KvTimeline::end_key and tail_keys; what is no longer stored is left out.
  KvPin Pin(const memory::BlockKey& end, std::span<const memory::BlockKey> tails);

  memory::BlockStore& store() { return store_; }
  const model::KvLayout& layout() const { return layout_; }

 private:
  friend class KvTimeline;
  const model::ModelConfig& config_;
  const model::KvLayout& layout_;
  memory::BlockStore& store_;
  const memory::BlockKey root_;
  const int64_t tail_bytes_;
  const int64_t tail_interval_;
  std::vector<const std::byte*> addresses_;  // scratch, [plane]
  std::vector<uint8_t> unchecked_;           // the same
};

// BlockStoreOptions::planes for a layout.
std::vector<memory::PlaneSpec> PlanesOf(const model::KvLayout& layout);

// Feeds `tokens` to one timeline, in chunks of the engine, and says what was fed. `logits_out`: empty, or
// room for the logits of the last token. After an error the timeline is to be reattached (DataLoss) or
// dropped.
base::Status Prefill(model::Engine& engine, KvTimeline& timeline, std::span<const int32_t> tokens,
                     std::span<float> logits_out);

}  // namespace holdfast::sessions
