// The operations of the V4 graph. model/graph.cc calls them in paper order; each backend computes them: the
// reference (model/reference/, scalar and obvious: the oracle) and the CPU (model/cpu/, SIMD, final bits).
//
// Conventions: activations are float32, row-major, one row per token of the batch; n is the number of rows.
// A batch is one or more segments: consecutive rows, consecutive positions, one sequence each. Pointers come
// from Backend::Allocate or, for weights and KV, from the checkpoint and the sequences. Operations run to
// completion and are called from one thread at a time. Scratch is kept and grows with the batch and the
// context. Source of every operation: spec "Forward pass, exact".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "model/kv_layout.h"
#include "model/rope.h"
#include "model/weights.h"

namespace holdfast::model {

// Rows [first_row, first_row + rows) of a batch: one sequence from `first_position` on.
struct Segment {
  int32_t first_row = 0;
  int32_t rows = 0;
  int64_t first_position = 0;
};

// h[i, s, :] = embed[token[i]] for every stream s.
struct EmbedArgs {
  std::span<const int32_t> tokens;  // [n]
  const Matrix& embed;              // [vocab, D]
  int32_t streams;
  float* h;  // out [n, streams, D]
};

// Hyper-connection before a sublayer: y = sum_j pre[j] h[j]; post and comb wait for HcPost.
struct HcPreArgs {
  int32_t n;
  int32_t streams;
  int32_t width;   // D
  const float* h;  // [n, streams, D]
  const HyperConnection& hc;
  int32_t sinkhorn_iters;
  float hc_eps;
  float rms_eps;
  float* y;     // out [n, D]
  float* post;  // out [n, streams]
  float* comb;  // out [n, streams (source), streams (destination)]
};

// h'[k] = post[k] * y + sum_j comb[j][k] * h[j], in place.
struct HcPostArgs {
  int32_t n;
  int32_t streams;
  int32_t width;
  const float* y;     // [n, D]
  const float* post;  // [n, streams]
  const float* comb;  // [n, streams, streams]
  float* h;           // in, out [n, streams, D]
};

// y = sum_j pre[j] h[j] before a head.
struct HcHeadArgs {
  int32_t n;
  int32_t streams;
  int32_t width;
  const float* h;  // [n, streams, D]
  const HyperHead& hc;
  float hc_eps;
  float rms_eps;
  float* y;  // out [n, D]
};

// y = x * rsqrt(mean(x^2) + eps) * weight.
struct RmsNormArgs {
  int32_t n;
  int32_t width;
  const float* x;       // [n, width]
  const float* weight;  // [width]
  float eps;
  float* y;  // out [n, width]; may be x
};

// out = W x for every product; all share x, which is quantised once.
struct LinearProduct {
  const Matrix* w;  // [m, k]
  float* out;       // [n, m]
};
struct LinearArgs {
  int32_t n;
  int32_t k;
  const float* x;  // [n, k]
  std::span<const LinearProduct> products;
};

// out[:, g*R .. ] = W[g*R .. (g+1)*R, :] x[:, g*K .. (g+1)*K] for each group g.
struct GroupedLinearArgs {
  int32_t n;
  int32_t groups;
  const float* x;   // [n, groups * K]
  const Matrix& w;  // [groups * R, K]
  float* out;       // [n, groups * R]
};

// Per head: q *= rsqrt(mean(q^2) + eps), then rotary on the last rope dims.
struct QueryArgs {
  int32_t n;
  int32_t heads;
  int32_t head_dim;
  int32_t rope_dim;
  float eps;
  const float* cos;  // [n, rope_dim / 2]
  const float* sin;
  float* q;  // in, out [n, heads, head_dim]
};

// kv = RmsNorm(kv) with rotary on the last rope dims, encoded as a window row.
struct WindowRowArgs {
  int32_t n;
  const float* kv;    // [n, head_dim]
  const float* norm;  // [head_dim]
  float eps;
  const float* cos;  // [n, rope_dim / 2]
  const float* sin;
  const EntryCodec& codec;
  std::byte* rows;  // out [n, codec.bytes()]
};

// The pending rows of one compressor of one sequence: row of position p in slot p mod (overlap ? 2r : r).
struct PendingRows {
  float* kv = nullptr;     // [slots, w]
  float* score = nullptr;  // [slots, w], ape added
};
struct CompressSegment {
  Segment segment;
  PendingRows pending;
  PlaneView out;
};
// Adds n rows to the compressors and writes the entries of every block that they complete: softmax-weighted
// sum over the block (with overlap: also over the block before), norm, rotary at the block's first position,
// and for index keys the Hadamard rotation; then encoded.
struct CompressArgs {
  std::span<const CompressSegment> segments;
  int32_t ratio;
  int32_t d;        // width of an entry; w = overlap ? 2d : d
  bool index_keys;  // encode with index_codec, else with entry_codec
  const float* kv;  // [n, w]
  float* score;     // [n, w]; ape is added in place
  const Compressor& weights;
  float eps;
  int32_t rope_dim;
  const RopeTable& rope;
  const EntryCodec& entry_codec;
  const IndexCodec& index_codec;
};

// Indexer queries: rotary, Hadamard, encoded as keys are.
struct IndexQueryArgs {
  int32_t n;
  int32_t heads;
  int32_t rope_dim;
  const float* cos;  // [n, rope_dim / 2]
  const float* sin;
  float* q;  // [n, heads, dim], scratch
  const IndexCodec& codec;
  std::byte* rows;  // out [n, heads, codec.bytes()]
};

// score(t, i) = sum_h weights[t, h] * relu(q[t, h] . key[i]) over the visible entries of each row; the `topk`
// highest are selected, ties to the lower index, and listed in index order.
struct IndexSelectSegment {
  Segment segment;
  PlaneView keys;
};
struct IndexSelectArgs {
  std::span<const IndexSelectSegment> segments;
  int32_t heads;
  int32_t ratio;
  int32_t topk;
  const std::byte* q;    // [n, heads, codec.bytes()]
  const float* weights;  // [n, heads], before scaling by (dim * heads)^-0.5
  const IndexCodec& codec;
  int32_t* selected;        // out [n, topk]
  int32_t* selected_count;  // out [n]; -1: a score is not finite, attention gives NaN
};

// Attention of every head over the window and the compressed entries, one softmax with a sink, then the
// inverse rotary. Row t sees window positions max(window_begin, t - window + 1) .. t, and of the
// floor((t+1)/ratio) complete entries all (selected == nullptr) or the selected ones.
struct AttentionSegment {
  Segment segment;
  const std::byte* window = nullptr;  // ring of `window` rows: positions before the segment
  PlaneView entries;
  int64_t window_begin = 0;  // positions before it have no row
};
struct AttentionArgs {
  std::span<const AttentionSegment> segments;
  int32_t heads;
  int32_t window;
  int32_t ratio;  // 0: window only
  int32_t topk;
  const int32_t* selected;        // [n, topk] or null
  const int32_t* selected_count;  // [n]
  const float* q;                 // [n, heads, head_dim]
  const std::byte* rows;          // [n, codec.bytes()]: window rows of this batch
  const EntryCodec& codec;
  const float* sink;  // [heads]
  const float* cos;   // [n, rope_dim / 2]
  const float* sin;
  float* o;  // out [n, heads, head_dim]
};

// Copies the last window rows of each segment into its ring.
struct KeepWindowSegment {
  Segment segment;
  std::byte* window = nullptr;
};
struct KeepWindowArgs {
  std::span<const KeepWindowSegment> segments;
  int32_t window;
  int32_t row_bytes;
  const std::byte* rows;  // [n, row_bytes]
};

// s = sqrt(softplus(gate)); experts by table (hash layers) or the top of s + bias, ties to the lower id;
// weight = s / sum of the chosen s * scale. Experts of a row are listed in ascending order.
struct RouteArgs {
  std::span<const int32_t> tokens;  // [n]
  const MoeWeights& moe;
  int32_t experts_per_token;
  float scale;
  const float* gate;  // [n, num_experts]: W_gate x
  int32_t* experts;   // out [n, experts_per_token]
  float* weights;     // out [n, experts_per_token]
};

// y = shared(x) + sum of weight * expert(x), expert(x) = w2 (weight * silu(min(w1 x, limit)) * clamp(w3 x)).
// Experts are summed in ascending order, the shared one last.
struct ExpertsArgs {
  int32_t n;
  int32_t width;
  int32_t inter;
  int32_t experts_per_token;
  float limit;
  const MoeWeights& moe;
  const float* x;          // [n, D]
  const int32_t* experts;  // [n, experts_per_token]
  const float* weights;    // [n, experts_per_token]
  float* y;                // out [n, D]
};

// x[i, s, :] += e[i, :]: the draft head's input.
struct AddToStreamsArgs {
  int32_t n;
  int32_t streams;
  int32_t width;
  const float* e;  // [n, D]
  float* x;        // in, out [n, streams, D]
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Names the bits: two runs with equal numerics ids (and equal weights and layout) give equal results.
  virtual std::string NumericsId() const = 0;
  virtual KvMode kv_mode() const = 0;

  // Zeroed memory that the operations can reach, 64-byte aligned; freed with the backend's buffer.
  using Buffer = std::unique_ptr<std::byte[], void (*)(std::byte*)>;
  virtual Buffer Allocate(size_t bytes) = 0;

  virtual void Embed(const EmbedArgs& args) = 0;
  virtual void HcPre(const HcPreArgs& args) = 0;
  virtual void HcPost(const HcPostArgs& args) = 0;
  virtual void HcHead(const HcHeadArgs& args) = 0;
  virtual void RmsNorm(const RmsNormArgs& args) = 0;
  virtual void Linear(const LinearArgs& args) = 0;
  virtual void GroupedLinear(const GroupedLinearArgs& args) = 0;
  virtual void Query(const QueryArgs& args) = 0;
  virtual void WindowRow(const WindowRowArgs& args) = 0;
  virtual void Compress(const CompressArgs& args) = 0;
  virtual void IndexQuery(const IndexQueryArgs& args) = 0;
  virtual void IndexSelect(const IndexSelectArgs& args) = 0;
  virtual void Attention(const AttentionArgs& args) = 0;
  virtual void KeepWindow(const KeepWindowArgs& args) = 0;
  virtual void Route(const RouteArgs& args) = 0;
  virtual void Experts(const ExpertsArgs& args) = 0;
  virtual void AddToStreams(const AddToStreamsArgs& args) = 0;
};

}  // namespace holdfast::model
