// A small V4 network over a block store: what the tests of KV timelines share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "memory/block_store.h"
#include "model/engine.h"
#include "model/weights.h"
#include "sessions/kv_timeline.h"

namespace holdfast::sessions {

// 61 words, three layers (CSA, HCA, CSA), an odd window: some 10,000 tokens a second.
model::ModelConfig SmallModel();

// Its weights, written once in a process.
const model::Checkpoint& SmallWeights();

// Tokens that differ with `stream`, equal for equal arguments.
std::vector<int32_t> SmallTokens(uint32_t stream, size_t count);

// What there is to compare of a sequence at its position.
struct Result {
  std::vector<float> logits;  // after the last token
  uint64_t state = 0;         // XXH3 of Sequence::VisitState
  friend bool operator==(const Result&, const Result&) = default;
};
uint64_t StateHash(const model::Sequence& sequence);

// The engine of one process.
class SmallEngine {
 public:
  SmallEngine();
  model::Engine& engine() { return *engine_; }

  // The naive model: `tokens` from position 0, nothing stored, nothing shared. At all of `positions`, in
  // ascending order.
  std::vector<Result> FromZero(std::span<const int32_t> tokens, std::span<const int64_t> positions);
  Result FromZero(std::span<const int32_t> tokens);

 private:
  std::unique_ptr<model::Backend> backend_;
  std::unique_ptr<model::Engine> engine_;
};

memory::BlockKey SmallRoot(uint64_t number);

// A store on a file system and the cache over it: what is gone after a restart.
struct OpenedStore {
  std::unique_ptr<memory::BlockStore> store;
  std::unique_ptr<KvCache> cache;
  std::vector<memory::StoreEvent> events;
};
struct OpenOptions {
  std::string directory = "/kv";
  uint64_t root = 1;
  int64_t tail_interval_tokens = 512;
  uint64_t disk_bytes_max = uint64_t{1} << 30;
};
base::StatusOr<std::unique_ptr<OpenedStore>> TryOpenSmallStore(base::FileSystem& fs, model::Engine& engine,
                                                               const OpenOptions& options = {});
// The same where nothing stands in the way.
std::unique_ptr<OpenedStore> OpenSmallStore(base::FileSystem& fs, model::Engine& engine,
                                            const OpenOptions& options = {});

// Feeds the rest of `tokens` to a timeline that has the first position() of them.
base::StatusOr<Result> Continue(model::Engine& engine, KvTimeline& timeline, std::span<const int32_t> tokens);

}  // namespace holdfast::sessions
