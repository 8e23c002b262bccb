// One V4 block in paper order, over a Backend. Private to the engine: engine.cc owns batches and checks, this
// file owns the order of operations and the activations.
#pragma once

#include <span>
#include <vector>

#include "base/status.h"
#include "model/backend.h"
#include "model/config.h"
#include "model/sequence.h"

namespace holdfast::model {

// Which sequence each segment of the batch belongs to.
struct BatchSegment {
  Segment segment;
  Sequence* sequence = nullptr;
};

struct Batch {
  std::span<const int32_t> tokens;         // [n]
  std::span<const BatchSegment> segments;  // cover the n rows in order
  int32_t rows() const { return static_cast<int32_t>(tokens.size()); }
};

// Activations of a batch of at most `max_rows` rows, allocated once.
class Activations {
 public:
  Activations(const ModelConfig& config, const KvLayout& layout, Backend& backend, int32_t max_rows);

  // Shapes: n rows, S streams, D hidden, H heads, d head_dim, Hi index heads, di index dim, E experts, k per
  // token.
  float* h;               // [n, S, D]
  float* x;               // [n, D] input of a sublayer, normed
  float* y;               // [n, D] output of a sublayer
  float* post;            // [n, S]
  float* comb;            // [n, S, S]
  float* qr;              // [n, q_lora]
  float* q;               // [n, H, d]
  float* o;               // [n, H, d]
  float* kv;              // [n, d]
  float* o_low;           // [n, o_groups * o_lora]
  float* compress_kv;     // [n, 2d]
  float* compress_score;  // [n, 2d]
  float* index_kv;        // [n, 2di]
  float* index_score;     // [n, 2di]
  float* index_q;         // [n, Hi, di]
  float* index_weights;   // [n, Hi]
  float* gate;            // [n, E]
  float* expert_weights;  // [n, k]
  float* streams;         // [n, S, D] scratch of the draft head
  float* cos[2];          // [n, rope/2]: window table, compress table
  float* sin[2];
  int32_t* selected;        // [n, topk]
  int32_t* selected_count;  // [n]
  int32_t* experts;         // [n, k]
  std::byte* rows;          // [n, entry bytes]
  std::byte* index_rows;    // [n, Hi, index key bytes]

 private:
  Backend::Buffer memory_;
};

class Graph {
 public:
  Graph(const ModelConfig& config, const KvLayout& layout, Backend& backend, int32_t max_rows);

  Activations& activations() { return a_; }
  // cos and sin of every row, both tables.
  void FillRope(const Batch& batch);
  // One block: attention and MoE sublayers over the streams in activations().h. `layer` counts draft stages
  // after the layers. Errors are those of the sequences' guards.
  base::Status Block(const Batch& batch, int32_t layer, const LayerWeights& w);

 private:
  base::Status Attention(const Batch& batch, int32_t layer, const AttentionWeights& w);
  void Project(const Batch& batch, int32_t layer, const AttentionWeights& w);
  void Compress(const Batch& batch, int32_t layer, const AttentionWeights& w);
  base::Status Select(const Batch& batch, int32_t layer);
  base::Status CheckEntries(const Batch& batch, int32_t layer) const;
  void Attend(const Batch& batch, int32_t layer, const AttentionWeights& w);
  void Moe(const Batch& batch, const MoeWeights& w);
  int RopeIndex(int32_t layer) const { return c_.ratio(layer) == 0 ? 0 : 1; }

  const ModelConfig& c_;
  const KvLayout& layout_;
  Backend& backend_;
  RopeTable ropes_[2];
  Activations a_;
  // Reused segment lists, so that a batch allocates nothing once warm.
  std::vector<CompressSegment> compress_segments_;
  std::vector<IndexSelectSegment> select_segments_;
  std::vector<AttentionSegment> attention_segments_;
  std::vector<KeepWindowSegment> keep_segments_;
};

}  // namespace holdfast::model
