// The one list of tensors of a V4 checkpoint. Names and shapes: spec "Tensors and quantisation".
#include "model/weights.h"

namespace holdfast::model {
namespace {

using base::Status;

class Walker {
 public:
  Walker(const ModelConfig& config, WeightVisitor& visitor) : c_(config), v_(visitor) {}

  Status Run(ModelWeights& w) {
    HF_RETURN_IF_ERROR(
        Visit({"embed.weight", TensorKind::kMatrix, Part::kEmbedding, c_.vocab_size, c_.hidden_size},
              {.matrix = &w.embed}));
    w.layers.resize(static_cast<size_t>(c_.num_layers));
    for (int32_t l = 0; l < c_.num_layers; ++l) {
      const bool hashed = l < c_.num_hash_layers;
      HF_RETURN_IF_ERROR(
          Layer("layers." + std::to_string(l) + ".", c_.ratio(l), hashed, w.layers[size_t(l)]));
    }
    HF_RETURN_IF_ERROR(Head("", w.hc_head, w.norm));
    HF_RETURN_IF_ERROR(Visit({"head.weight", TensorKind::kMatrix, Part::kHead, c_.vocab_size, c_.hidden_size},
                             {.matrix = &w.head}));
    draft_ = true;
    if (c_.draft == DraftKind::kMtp) return Mtp(w);
    if (c_.draft == DraftKind::kDspark) return Dspark();
    return {};
  }

 private:
  Status Visit(TensorSpec spec, TensorSlot slot) {
    if (draft_) spec.part = Part::kDraft;
    return v_.Visit(spec, slot);
  }
  Status Vec(const std::string& name, TensorKind kind, Part part, int64_t n, Vector& out) {
    return Visit({name, kind, part, n, 0}, {.vector = &out});
  }
  Status Norm(const std::string& name, int64_t n, Vector& out, Part part = Part::kNorm) {
    return Vec(name, TensorKind::kVector, part, n, out);
  }
  Status Mat(const std::string& name, TensorKind kind, Part part, int64_t rows, int64_t cols, Matrix& out) {
    return Visit({name + ".weight", kind, part, rows, cols}, {.matrix = &out});
  }

  Status Layer(const std::string& p, int32_t ratio, bool hashed, LayerWeights& w) {
    HF_RETURN_IF_ERROR(Hyper(p + "hc_attn", w.hc_attn));
    HF_RETURN_IF_ERROR(Norm(p + "attn_norm.weight", c_.hidden_size, w.attn_norm));
    HF_RETURN_IF_ERROR(Attention(p + "attn.", ratio, w.attn));
    HF_RETURN_IF_ERROR(Hyper(p + "hc_ffn", w.hc_ffn));
    HF_RETURN_IF_ERROR(Norm(p + "ffn_norm.weight", c_.hidden_size, w.ffn_norm));
    return Moe(p + "ffn.", hashed, w.ffn);
  }

  Status Hyper(const std::string& p, HyperConnection& w) {
    const Part part = Part::kHyperConnection;
    HF_RETURN_IF_ERROR(
        Visit({p + "_fn", TensorKind::kF32Matrix, part, c_.hc_rows(), HcWidth()}, {.matrix = &w.fn}));
    HF_RETURN_IF_ERROR(Vec(p + "_base", TensorKind::kF32Vector, part, c_.hc_rows(), w.base));
    return Vec(p + "_scale", TensorKind::kF32Vector, part, 3, w.scale);
  }

  Status Head(const std::string& p, HyperHead& w, Vector& norm) {
    const Part part = Part::kHyperConnection;
    HF_RETURN_IF_ERROR(
        Visit({p + "hc_head_fn", TensorKind::kF32Matrix, part, c_.hc_mult, HcWidth()}, {.matrix = &w.fn}));
    HF_RETURN_IF_ERROR(Vec(p + "hc_head_base", TensorKind::kF32Vector, part, c_.hc_mult, w.base));
    HF_RETURN_IF_ERROR(Vec(p + "hc_head_scale", TensorKind::kF32Vector, part, 1, w.scale));
    return Norm(p + "norm.weight", c_.hidden_size, norm);
  }

  Status Attention(const std::string& p, int32_t ratio, AttentionWeights& w) {
    const Part part = Part::kAttention;
    const int64_t heads_dim = int64_t{c_.num_heads} * c_.head_dim;
    const int64_t o_rank = int64_t{c_.o_groups} * c_.o_lora_rank;
    const auto quantised = TensorKind::kQuantised;
    HF_RETURN_IF_ERROR(Vec(p + "attn_sink", TensorKind::kF32Vector, part, c_.num_heads, w.sink));
    HF_RETURN_IF_ERROR(Mat(p + "wq_a", quantised, part, c_.q_lora_rank, c_.hidden_size, w.wq_a));
    HF_RETURN_IF_ERROR(Norm(p + "q_norm.weight", c_.q_lora_rank, w.q_norm));
    HF_RETURN_IF_ERROR(Mat(p + "wq_b", quantised, part, heads_dim, c_.q_lora_rank, w.wq_b));
    HF_RETURN_IF_ERROR(Mat(p + "wkv", quantised, part, c_.head_dim, c_.hidden_size, w.wkv));
    HF_RETURN_IF_ERROR(Norm(p + "kv_norm.weight", c_.head_dim, w.kv_norm));
    HF_RETURN_IF_ERROR(Mat(p + "wo_a", quantised, part, o_rank, heads_dim / c_.o_groups, w.wo_a));
    HF_RETURN_IF_ERROR(Mat(p + "wo_b", quantised, part, c_.hidden_size, o_rank, w.wo_b));
    if (ratio == 0) return {};
    HF_RETURN_IF_ERROR(Compress(p + "compressor.", Part::kCompressor, ratio, c_.head_dim, w.compressor));
    if (ratio != kOverlapRatio) return {};
    const int64_t index_dim = int64_t{c_.index_heads} * c_.index_head_dim;
    HF_RETURN_IF_ERROR(
        Mat(p + "indexer.wq_b", quantised, Part::kIndexer, index_dim, c_.q_lora_rank, w.indexer.wq_b));
    HF_RETURN_IF_ERROR(Mat(p + "indexer.weights_proj", TensorKind::kMatrix, Part::kIndexer, c_.index_heads,
                           c_.hidden_size, w.indexer.weights_proj));
    return Compress(p + "indexer.compressor.", Part::kIndexer, ratio, c_.index_head_dim,
                    w.indexer.compressor);
  }

  Status Compress(const std::string& p, Part part, int32_t ratio, int32_t d, Compressor& w) {
    const int64_t width = int64_t{ratio == kOverlapRatio ? 2 : 1} * d;
    HF_RETURN_IF_ERROR(Visit({p + "ape", TensorKind::kF32Table, part, ratio, width}, {.vector = &w.ape}));
    HF_RETURN_IF_ERROR(Mat(p + "wkv", TensorKind::kMatrix, part, width, c_.hidden_size, w.wkv));
    HF_RETURN_IF_ERROR(Mat(p + "wgate", TensorKind::kMatrix, part, width, c_.hidden_size, w.wgate));
    return Norm(p + "norm.weight", d, w.norm, part);
  }

  Status Moe(const std::string& p, bool hashed, MoeWeights& w) {
    HF_RETURN_IF_ERROR(
        Mat(p + "gate", TensorKind::kMatrix, Part::kRouter, c_.num_experts, c_.hidden_size, w.gate));
    if (hashed) {
      HF_RETURN_IF_ERROR(Visit(
          {p + "gate.tid2eid", TensorKind::kHashTable, Part::kRouter, c_.vocab_size, c_.experts_per_token},
          {.table = &w.tid2eid}));
    } else {
      HF_RETURN_IF_ERROR(Vec(p + "gate.bias", TensorKind::kF32Vector, Part::kRouter, c_.num_experts, w.bias));
    }
    w.experts.resize(static_cast<size_t>(c_.num_experts));
    for (int32_t e = 0; e < c_.num_experts; ++e) {
      HF_RETURN_IF_ERROR(ExpertWeights(p + "experts." + std::to_string(e) + ".", TensorKind::kExpertMatrix,
                                       Part::kExperts, w.experts[size_t(e)]));
    }
    return ExpertWeights(p + "shared_experts.", TensorKind::kQuantised, Part::kSharedExpert, w.shared);
  }

  Status ExpertWeights(const std::string& p, TensorKind kind, Part part, Expert& w) {
    HF_RETURN_IF_ERROR(Mat(p + "w1", kind, part, c_.moe_inter_size, c_.hidden_size, w.w1));
    HF_RETURN_IF_ERROR(Mat(p + "w2", kind, part, c_.hidden_size, c_.moe_inter_size, w.w2));
    return Mat(p + "w3", kind, part, c_.moe_inter_size, c_.hidden_size, w.w3);
  }

  Status Mtp(ModelWeights& w) {
    w.mtp.resize(static_cast<size_t>(c_.num_draft_stages));
    for (int32_t s = 0; s < c_.num_draft_stages; ++s) {
      const std::string p = "mtp." + std::to_string(s) + ".";
      MtpWeights& m = w.mtp[static_cast<size_t>(s)];
      const int64_t d = c_.hidden_size;
      HF_RETURN_IF_ERROR(Mat(p + "e_proj", TensorKind::kQuantised, Part::kDraft, d, d, m.e_proj));
      HF_RETURN_IF_ERROR(Mat(p + "h_proj", TensorKind::kQuantised, Part::kDraft, d, d, m.h_proj));
      HF_RETURN_IF_ERROR(Norm(p + "enorm.weight", d, m.enorm));
      HF_RETURN_IF_ERROR(Norm(p + "hnorm.weight", d, m.hnorm));
      HF_RETURN_IF_ERROR(Head(p, m.hc_head, m.norm));
      HF_RETURN_IF_ERROR(Layer(p, c_.ratio(c_.num_layers + s), /*hashed=*/false, m.block));
    }
    return {};
  }

  // Checked, not used yet.
  Status Dspark() {
    const int64_t d = c_.hidden_size;
    LayerWeights block;
    for (int32_t s = 0; s < c_.num_draft_stages; ++s) {
      const std::string p = "mtp." + std::to_string(s) + ".";
      HF_RETURN_IF_ERROR(Layer(p, c_.ratio(c_.num_layers + s), /*hashed=*/false, block));
      if (s == 0) {
        HF_RETURN_IF_ERROR(Visit(
            {p + "main_proj.weight", TensorKind::kQuantised, Part::kDraft, d, d * c_.dspark_target_layers},
            {}));
        HF_RETURN_IF_ERROR(Visit({p + "main_norm.weight", TensorKind::kVector, Part::kDraft, d, 0}, {}));
      }
      if (s + 1 < c_.num_draft_stages) continue;
      HyperHead head;
      Vector norm;
      HF_RETURN_IF_ERROR(Head(p, head, norm));
      for (const char* name : {"markov_head.markov_w1.weight", "markov_head.markov_w2.weight"}) {
        HF_RETURN_IF_ERROR(
            Visit({p + name, TensorKind::kMatrix, Part::kDraft, c_.vocab_size, c_.dspark_markov_rank}, {}));
      }
      HF_RETURN_IF_ERROR(Visit({p + "confidence_head.proj.weight", TensorKind::kMatrix, Part::kDraft, 1,
                                d + c_.dspark_markov_rank},
                               {}));
    }
    return {};
  }

  int64_t HcWidth() const { return int64_t{c_.hc_mult} * c_.hidden_size; }

  const ModelConfig& c_;
  WeightVisitor& v_;
  bool draft_ = false;
};

class Counter : public WeightVisitor {
 public:
  Counter(const ModelConfig& config, const CountOptions& options, std::vector<PartCount>& parts)
      : c_(config), options_(options), parts_(parts) {}

  Status Visit(const TensorSpec& spec, TensorSlot) override {
    const int64_t elements = spec.rows * (spec.cols == 0 ? 1 : spec.cols);
    switch (spec.kind) {
      case TensorKind::kVector:
      case TensorKind::kMatrix:
        Add(spec, elements, 2 * elements);
        break;
      case TensorKind::kF32Vector:
      case TensorKind::kF32Table:
      case TensorKind::kF32Matrix:
        Add(spec, elements, 4 * elements);
        break;
      case TensorKind::kHashTable:
        Add(spec, elements, 8 * elements);
        break;
      case TensorKind::kQuantised:
        Fp8(spec, elements);
        break;
      case TensorKind::kExpertMatrix:
        if (options_.fp8_experts) {
          Fp8(spec, elements);
        } else {
          Add(spec, elements, elements / 2);
          Add(spec, 0, spec.rows * (spec.cols / 32));
        }
        break;
    }
    return {};
  }

 private:
  void Fp8(const TensorSpec& spec, int64_t elements) {
    const int64_t tiles = ((spec.rows + c_.fp8_block_rows - 1) / c_.fp8_block_rows) *
                          ((spec.cols + c_.fp8_block_cols - 1) / c_.fp8_block_cols);
    Add(spec, elements, elements);
    Add(spec, 0, tiles * (options_.f32_scales ? 4 : 1));
  }
  void Add(const TensorSpec& spec, int64_t parameters, int64_t bytes) {
    PartCount& part = parts_[static_cast<size_t>(spec.part)];
    ++part.tensors;
    part.parameters += parameters;
    part.bytes += bytes;
  }

  const ModelConfig& c_;
  const CountOptions& options_;
  std::vector<PartCount>& parts_;
};

constexpr std::string_view kPartNames[] = {
    "embedding", "attention",      "compressor", "indexer", "hyper-connections", "router",
    "experts",   "shared experts", "norms",      "head",    "draft head"};

}  // namespace

std::string_view PartName(Part part) { return kPartNames[static_cast<size_t>(part)]; }

Status WalkWeights(const ModelConfig& config, ModelWeights& weights, WeightVisitor& visitor) {
  return Walker(config, visitor).Run(weights);
}

std::vector<PartCount> CountWeights(const ModelConfig& config, const CountOptions& options) {
  std::vector<PartCount> parts(std::size(kPartNames));
  for (size_t i = 0; i < parts.size(); ++i) parts[i].part = static_cast<Part>(i);
  ModelWeights weights;
  Counter counter(config, options, parts);
  (void)WalkWeights(config, weights, counter);  // a counter never fails
  return parts;
}

}  // namespace holdfast::model
