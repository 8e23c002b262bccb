// The V4 forward pass over a batch of sequences: the one way in which tokens become KV and logits.
//
//   CpuBackend: auto backend = MakeCpuBackend({.threads = 2});
//   Engine engine(checkpoint->config(), checkpoint->weights(), *backend, {.max_rows = 512});
//   Sequence sequence = engine.NewSequence();
//   std::vector<float> logits(config.vocab_size);
//   Feed feed{.sequence = &sequence, .tokens = prompt, .logits = LogitRows::kLast, .logits_out = logits};
//   HF_RETURN_IF_ERROR(engine.Forward({&feed, 1}));
//
// For the same tokens the results are bitwise the same however they are cut into chunks and batches.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "model/backend.h"
#include "model/config.h"
#include "model/sequence.h"
#include "model/weights.h"

namespace holdfast::model {

enum class LogitRows : uint8_t { kNone, kLast, kAll };

// The next tokens of one sequence.
struct Feed {
  Sequence* sequence = nullptr;
  std::span<const int32_t> tokens;
  LogitRows logits = LogitRows::kNone;
  std::span<float> logits_out;  // [1 or tokens, vocab]
  std::span<float> hidden_out;  // empty, or [tokens, hc_mult, D]: the state before the head, for ForwardDraft
};

// The next entries of a draft (MTP) stage: entry t takes the final hidden state at position t and token t +
// 1, and predicts token t + 2.
struct DraftFeed {
  Sequence* sequence = nullptr;
  int32_t stage = 0;
  std::span<const int32_t> next_tokens;
  std::span<const float> hidden;  // [next_tokens, hc_mult, D]
  std::span<float> logits_out;    // [next_tokens, vocab]
};

struct EngineOptions {
  int32_t max_rows = 512;  // tokens of one Forward, all feeds together
};

// Owns the activations: about max_rows * (2 * H * head_dim + 2 * hc_mult * D + index_topk + num_experts)
// floats. Used by one thread at a time; the backend must not be shared with another engine that runs at the
// same moment.
class Engine {
 public:
  // All arguments must outlive the engine.
  Engine(const ModelConfig& config, const ModelWeights& weights, Backend& backend,
         const EngineOptions& options);
  ~Engine();

  const ModelConfig& config() const;
  const KvLayout& kv_layout() const;
  int32_t max_rows() const;
  Sequence NewSequence() const;

  // Feeds every sequence its tokens, as one batch. Errors: InvalidArgument for a token outside the
  // vocabulary, an empty feed, a sequence twice, more rows than max_rows, a position past max_positions
  // (nothing has changed then); what a sequence's BlockGuard answers; DataLoss when a state or a logit is not
  // finite, or when mapped pages that were read are damaged. After the last two, logits and hidden states
  // must not be used and the sequences are spoilt: drop them, or cut them back (model/sequence.h). Once a
  // shard of the weights is damaged every call answers "weights are damaged: <path>: ...".
  base::Status Forward(std::span<const Feed> feeds);

  // The same for a draft stage. FailedPrecondition when the checkpoint ships no MTP head, or when the
  // sequence has not been fed that far.
  base::Status ForwardDraft(const DraftFeed& feed);

  // Called after every layer of Forward with the streams of all rows [n, hc_mult, D]. For checks and tools.
  using LayerObserver = std::function<void(int32_t layer, std::span<const float> h)>;
  void set_layer_observer(LayerObserver observer);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

struct CpuOptions {
  int threads = 0;          // 0: one for each physical core
  bool pin_threads = true;  // workers to physical cores
};
// Final bits: numerics of docs/invariance.md. KV is always kStored.
std::unique_ptr<Backend> MakeCpuBackend(const CpuOptions& options);

// The oracle: float32 activations, scalar, double accumulation. Slow, and keeps a dequantised copy of the
// weights that it meets: one backend for one checkpoint.
struct ReferenceOptions {
  KvMode kv_mode = KvMode::kF32;
  int threads = 1;
};
std::unique_ptr<Backend> MakeReferenceBackend(const ReferenceOptions& options);

}  // namespace holdfast::model
