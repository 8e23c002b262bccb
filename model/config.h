// The configuration of a DeepSeek-V4 checkpoint, read from its config.json. Everything that the graph, the
// loader and the KV layout need to know about a checkpoint stands here; nothing else is assumed anywhere.
// Source: the published config.json files; spec "Configurations".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace holdfast::model {

// What a layer attends to beside its sliding window.
enum class LayerRole : uint8_t {
  kSwa,  // ratio 0: the window only; rotary base rope_theta, no YaRN
  kCsa,  // ratio 4: overlapping compressor, indexer, top-k entries
  kHca,  // any other ratio: every visible compressed entry
};

// One rotary table: base, and YaRN when `factor` is not 1.
struct RopeConfig {
  float theta = 10000.0f;
  float factor = 1.0f;
  int32_t original_max_positions = 0;
  float beta_fast = 32.0f;
  float beta_slow = 1.0f;
};

// The draft head (`mtp.*` tensors) that a checkpoint ships.
enum class DraftKind : uint8_t { kNone, kMtp, kDspark };

struct ModelConfig {
  int32_t vocab_size = 0;
  int32_t max_positions = 0;
  int32_t hidden_size = 0;
  int32_t num_layers = 0;
  int32_t bos_token_id = 0;
  int32_t eos_token_id = 1;

  int32_t num_heads = 0;
  int32_t head_dim = 0;
  int32_t rope_dim = 0;  // the last rope_dim of head_dim are rotated
  int32_t q_lora_rank = 0;
  int32_t o_lora_rank = 0;
  int32_t o_groups = 0;
  int32_t sliding_window = 0;
  // num_layers entries, then one per draft stage.
  std::vector<int32_t> compress_ratios;
  int32_t index_heads = 0;
  int32_t index_head_dim = 0;
  int32_t index_topk = 0;
  RopeConfig window_rope;    // ratio-0 layers and draft stages
  RopeConfig compress_rope;  // all layers with a ratio

  int32_t num_experts = 0;
  int32_t experts_per_token = 0;
  int32_t num_hash_layers = 0;  // layers below this route by token id
  int32_t moe_inter_size = 0;
  float routed_scale = 1.0f;
  float swiglu_limit = 0.0f;

  int32_t hc_mult = 0;  // residual streams
  int32_t hc_sinkhorn_iters = 0;
  float hc_eps = 1e-6f;
  float rms_eps = 1e-6f;

  // FP8 weights: one scale per fp8_block_rows x fp8_block_cols tile.
  int32_t fp8_block_rows = 128;
  int32_t fp8_block_cols = 128;

  DraftKind draft = DraftKind::kNone;
  int32_t num_draft_stages = 0;
  // DSpark only: width of the Markov head, and how many layers feed main_proj.
  int32_t dspark_markov_rank = 0;
  int32_t dspark_target_layers = 0;

  int32_t nope_dim() const { return head_dim - rope_dim; }
  int32_t hc_rows() const { return (2 + hc_mult) * hc_mult; }  // rows of hc_*_fn
  int32_t ratio(int32_t layer) const { return compress_ratios[static_cast<size_t>(layer)]; }
  LayerRole role(int32_t layer) const;
  const RopeConfig& rope(int32_t layer) const { return ratio(layer) == 0 ? window_rope : compress_rope; }
  // Tokens per KV block: least common multiple of 128 and every ratio above 0.
  int32_t block_tokens() const;
};

// A ratio-4 compressor pools two neighbouring blocks; its rows are twice as wide.
inline constexpr int32_t kOverlapRatio = 4;

// Reads and validates a config.json. `origin` names the file in errors. Unknown fields are ignored; a
// missing, mistyped or out-of-range field is InvalidArgument and names the field, what it is and what it must
// be.
base::StatusOr<ModelConfig> ParseConfig(std::string_view json, std::string_view origin);

// The config.json text of `config`, as the official checkpoints spell it: ParseConfig of it gives `config`
// back. A DSpark head is left out.
std::string FormatConfig(const ModelConfig& config);

}  // namespace holdfast::model
