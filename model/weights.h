// The weights of a checkpoint, as the graph uses them: matrices are views into the mapped shards (nothing is
// converted, experts are never copied), small vectors are widened to float32 once.
// One walk (WalkWeights) names every tensor with its shape; loading, counting, checking and synthesis all use
// it. Source: spec "Tensors and quantisation".
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "model/config.h"
#include "model/safetensors.h"

namespace holdfast::model {

enum class MatrixFormat : uint8_t {
  kF32,
  kBf16,
  kFp8,  // E4M3, one scale per block_rows x block_cols tile
  kFp4,  // E2M1, two per byte (even column in the low nibble), one UE8M0 scale per row and 32 columns
};
enum class ScaleFormat : uint8_t { kNone, kE8m0, kF32 };

// A row-major matrix [rows, cols] as stored; y = W x. Views into a mapping or into Weights.
struct Matrix {
  MatrixFormat format = MatrixFormat::kF32;
  ScaleFormat scale_format = ScaleFormat::kNone;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;
  const std::byte* scales = nullptr;  // [scale_rows, scale_cols]
  int32_t block_rows = 1;             // rows and columns that share a scale
  int32_t block_cols = 1;

  int64_t scale_cols() const { return (cols + block_cols - 1) / block_cols; }
  int64_t row_bytes() const;
  const std::byte* row(int64_t r) const { return data + r * row_bytes(); }
  // The scale of element (r, c); 1 when the format has none.
  float scale(int64_t r, int64_t c) const;
  // Rows [first, first + count) as a matrix; `first` must be a multiple of block_rows.
  Matrix Rows(int64_t first, int64_t count) const;
};

// One element, dequantised. Slow: for the reference, tests and tools.
float MatrixElement(const Matrix& m, int64_t r, int64_t c);

using Vector = std::vector<float>;

// Hyper-connection of one sublayer (hc = hc_mult, D = hidden_size).
struct HyperConnection {
  Matrix fn;     // F32 [(2+hc)*hc, hc*D]
  Vector base;   // [(2+hc)*hc]
  Vector scale;  // [3]
};

// Combines the streams before a head.
struct HyperHead {
  Matrix fn;     // F32 [hc, hc*D]
  Vector base;   // [hc]
  Vector scale;  // [1]
};

// Pools `ratio` tokens into one entry; w = (overlap ? 2 : 1) * d.
struct Compressor {
  Matrix wkv;    // [w, D]
  Matrix wgate;  // [w, D]
  Vector ape;    // [ratio, w]
  Vector norm;   // [d]
};

struct Indexer {
  Matrix wq_b;          // [index_heads * index_head_dim, q_lora_rank]
  Matrix weights_proj;  // [index_heads, D]
  Compressor compressor;
};

struct AttentionWeights {
  Matrix wq_a;            // [q_lora_rank, D]
  Vector q_norm;          // [q_lora_rank]
  Matrix wq_b;            // [H * head_dim, q_lora_rank]
  Matrix wkv;             // [head_dim, D]
  Vector kv_norm;         // [head_dim]
  Vector sink;            // [H]
  Matrix wo_a;            // [o_groups * o_lora_rank, H * head_dim / o_groups]
  Matrix wo_b;            // [D, o_groups * o_lora_rank]
  Compressor compressor;  // layers with a ratio
  Indexer indexer;        // CSA layers
};

struct Expert {
  Matrix w1;  // gate [inter, D]
  Matrix w2;  // down [D, inter]
  Matrix w3;  // up   [inter, D]
};

struct MoeWeights {
  Matrix gate;                   // [num_experts, D]
  Vector bias;                   // [num_experts]; score-routed layers
  std::vector<int32_t> tid2eid;  // [vocab, experts_per_token]; hash-routed layers
  std::vector<Expert> experts;
  Expert shared;
};

struct LayerWeights {
  HyperConnection hc_attn;
  Vector attn_norm;  // [D]
  AttentionWeights attn;
  HyperConnection hc_ffn;
  Vector ffn_norm;  // [D]
  MoeWeights ffn;
};

// The preview draft head: one block with ratio 0 over e_proj(enorm(embed)) + h_proj(hnorm(h)).
struct MtpWeights {
  Matrix e_proj;  // [D, D]
  Matrix h_proj;  // [D, D]
  Vector enorm;   // [D]
  Vector hnorm;   // [D]
  Vector norm;    // [D]
  HyperHead hc_head;
  LayerWeights block;
};

// A file that matrices are views of.
struct WeightShard {
  std::string path;
  const base::MappedFile* mapping = nullptr;
  base::FileStat stat;  // of the file that was mapped, when it was
};

struct ModelWeights {
  Matrix embed;  // [vocab, D]
  std::vector<LayerWeights> layers;
  HyperHead hc_head;
  Vector norm;  // [D]
  Matrix head;  // [vocab, D]
  std::vector<MtpWeights> mtp;
  std::vector<WeightShard> shards;  // empty when the weights are not mapped
};

// DataLoss, naming the file, when a page of a shard could not be read: the file was truncated or its disk
// fails, and the page reads as zeros (base/mapping_faults.h). From then on nothing computed can be trusted.
base::Status CheckShards(const ModelWeights& weights);

// Which part of the model a tensor belongs to, for counts.
enum class Part : uint8_t {
  kEmbedding,
  kAttention,
  kCompressor,
  kIndexer,
  kHyperConnection,
  kRouter,
  kExperts,
  kSharedExpert,
  kNorm,
  kHead,
  kDraft
};
std::string_view PartName(Part part);

// What WalkWeights says of a tensor. `rows` x `cols` is the logical shape; a vector has cols == 0.
enum class TensorKind : uint8_t {
  kVector,        // BF16 or F32 [rows]
  kF32Vector,     // F32 [rows]
  kF32Table,      // F32 [rows, cols], kept as a vector
  kHashTable,     // I64 [rows, cols]
  kF32Matrix,     // F32
  kMatrix,        // BF16 (F32 is taken too)
  kQuantised,     // FP8 with `.scale` (BF16 and F32 are taken too)
  kExpertMatrix,  // FP4 or FP8 with `.scale` (BF16 and F32 are taken too)
};
struct TensorSpec {
  std::string name;  // for kQuantised and kExpertMatrix the `.weight`; `.scale` replaces the suffix
  TensorKind kind = TensorKind::kMatrix;
  Part part = Part::kAttention;
  int64_t rows = 0;
  int64_t cols = 0;
};

// Receives every tensor in the walker's order. Exactly one pointer of a slot is set, or none for tensors that
// are checked but not used (a DSpark head).
struct TensorSlot {
  Matrix* matrix = nullptr;
  Vector* vector = nullptr;
  std::vector<int32_t>* table = nullptr;
};
class WeightVisitor {
 public:
  virtual ~WeightVisitor() = default;
  virtual base::Status Visit(const TensorSpec& spec, TensorSlot slot) = 0;
};
// Stops at the first error. `weights` receives its layers and experts (empty views when the visitor binds
// none).
base::Status WalkWeights(const ModelConfig& config, ModelWeights& weights, WeightVisitor& visitor);

// A loaded checkpoint. Immutable; safe to read from any thread.
class Checkpoint {
 public:
  // Reads config.json, then maps every shard of model.safetensors.index.json (or model.safetensors alone) and
  // checks presence, dtype and shape of each tensor before returning. Errors name the file, the tensor, what
  // was found and what was expected; DataLoss when a shard cannot be read, Unavailable when one was replaced
  // or written meanwhile. Cost: page tables and small vectors; no weights are read but scales of dense
  // matrices, which must hold no NaN.
  static base::StatusOr<std::unique_ptr<Checkpoint>> Open(base::FileSystem& fs, const std::string& directory);

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }
  // Tensors of the shards that the configuration does not name; they are not used.
  const std::vector<std::string>& unused_tensors() const { return unused_; }
  const std::string& directory() const { return directory_; }
  // Whether some page of a shard could not be read so far; CheckShards says of which.
  bool damaged() const { return !CheckShards(weights_).ok(); }

 private:
  Checkpoint() = default;

  std::string directory_;
  ModelConfig config_;
  ModelWeights weights_;
  std::vector<std::unique_ptr<base::MappedFile>> shards_;
  std::vector<std::string> unused_;
};

// Counts of a checkpoint by part, from its configuration alone. Tensors and bytes are those of the official
// layout (FP4 experts unless `fp8_experts`; F32 scales when `f32_scales`).
struct PartCount {
  Part part = Part::kAttention;
  int64_t tensors = 0;
  int64_t parameters = 0;  // without scales; hash tables count
  int64_t bytes = 0;
};
struct CountOptions {
  bool fp8_experts = false;
  bool f32_scales = false;
};
std::vector<PartCount> CountWeights(const ModelConfig& config, const CountOptions& options = {});

}  // namespace holdfast::model
