// One token timeline, with or without a KV store behind it: what a command that runs the model itself needs
// to go on where an earlier run stopped, however it stopped.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/status.h"
#include "memory/block_store.h"
#include "model/engine.h"
#include "model/weights.h"
#include "sessions/kv_flusher.h"
#include "sessions/kv_timeline.h"

namespace holdfast::cli {

// One thread at a time, beside its own storage lane.
class KvSession {
 public:
  // Without a directory nothing is stored. Hashes the weights (sampled, cached in the store's parent), locks
  // the store. Everything must outlive the session.
  static base::StatusOr<std::unique_ptr<KvSession>> Open(const std::string& directory,
                                                         const model::Checkpoint& checkpoint,
                                                         const model::Backend& backend,
                                                         model::Engine& engine);
  ~KvSession();

  // Takes up what is stored of all tokens but the last, so that feeding gives logits. The tokens are kept.
  void Start(std::span<const int32_t> tokens);

  // Adds a token, to be fed by the next CatchUp.
  void Append(int32_t token) { tokens_.push_back(token); }

  // Feeds what is missing; `logits` are those after the last token. `go_on` is called between chunks with the
  // position reached; false stops (Cancelled). Damage in the store is repaired on the way.
  base::Status CatchUp(std::span<float> logits, const std::function<bool(int64_t)>& go_on);

  int64_t position() const { return line_ ? line_->position() : sequence_->position(); }
  int64_t attached() const { return attached_; }

  // Makes everything durable.
  base::Status Finish();

 private:
  explicit KvSession(model::Engine& engine) : engine_(engine) {}
  base::Status FeedSome(std::span<float> logits);

  model::Engine& engine_;
  std::vector<int32_t> tokens_;
  int64_t attached_ = 0;
  std::optional<model::Sequence> sequence_;  // without a store
  // With one, in order of need:
  std::unique_ptr<memory::BlockStore> store_;
  std::optional<sessions::KvCache> cache_;
  std::optional<sessions::KvTimeline> line_;
  std::optional<base::ThreadExecutor> executor_;
  std::optional<sessions::KvFlusher> flusher_;
};

}  // namespace holdfast::cli
