#include "model/graph.h"

#include <algorithm>

namespace holdfast::model {

using base::Status;

namespace {

// Hands out 64-byte aligned pieces of one allocation; run once to measure, once to place.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <typename T>
  void Take(T*& out, int64_t count) {
    out = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
  }
  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

size_t Carve(Activations& a, const ModelConfig& c, const KvLayout& layout, int64_t n, std::byte* base) {
  Carver carver(base);
  const int64_t wide = int64_t{c.num_heads} * c.head_dim;
  const int64_t streams = int64_t{c.hc_mult} * c.hidden_size;
  carver.Take(a.h, n * streams);
  carver.Take(a.x, n * c.hidden_size);
  carver.Take(a.y, n * c.hidden_size);
  carver.Take(a.post, n * c.hc_mult);
  carver.Take(a.comb, n * c.hc_mult * c.hc_mult);
  carver.Take(a.qr, n * c.q_lora_rank);
  carver.Take(a.q, n * wide);
  carver.Take(a.o, n * wide);
  carver.Take(a.kv, n * c.head_dim);
  carver.Take(a.o_low, n * c.o_groups * c.o_lora_rank);
  carver.Take(a.compress_kv, n * 2 * c.head_dim);
  carver.Take(a.compress_score, n * 2 * c.head_dim);
  carver.Take(a.index_kv, n * 2 * c.index_head_dim);
  carver.Take(a.index_score, n * 2 * c.index_head_dim);
  carver.Take(a.index_q, n * c.index_heads * c.index_head_dim);
  carver.Take(a.index_weights, n * c.index_heads);
  carver.Take(a.gate, n * c.num_experts);
  carver.Take(a.expert_weights, n * c.experts_per_token);
  carver.Take(a.streams, n * streams);
  for (int table = 0; table < 2; ++table) {
    carver.Take(a.cos[table], n * c.rope_dim / 2);
    carver.Take(a.sin[table], n * c.rope_dim / 2);
  }
  carver.Take(a.selected, n * c.index_topk);
  carver.Take(a.selected_count, n);
  carver.Take(a.experts, n * c.experts_per_token);
  carver.Take(a.rows, n * layout.entry.bytes());
  carver.Take(a.index_rows, n * c.index_heads * layout.index_key.bytes());
  return carver.used();
}

}  // namespace

Activations::Activations(const ModelConfig& config, const KvLayout& layout, Backend& backend,
                         int32_t max_rows)
    : memory_(backend.Allocate(Carve(*this, config, layout, max_rows, nullptr))) {
  Carve(*this, config, layout, max_rows, memory_.get());
}

Graph::Graph(const ModelConfig& config, const KvLayout& layout, Backend& backend, int32_t max_rows)
    : c_(config),
      layout_(layout),
      backend_(backend),
      ropes_{RopeTable(config.window_rope, config.rope_dim),
             RopeTable(config.compress_rope, config.rope_dim)},
      a_(config, layout, backend, max_rows) {}

void Graph::FillRope(const Batch& batch) {
  for (const BatchSegment& s : batch.segments) {
    for (int32_t i = 0; i < s.segment.rows; ++i) {
      for (int table = 0; table < 2; ++table) {
        const int64_t at = int64_t{s.segment.first_row + i} * ropes_[table].pairs();
        ropes_[table].Fill(s.segment.first_position + i, a_.cos[table] + at, a_.sin[table] + at);
      }
    }
  }
}

Status Graph::Block(const Batch& batch, int32_t layer, const LayerWeights& w) {
  const int32_t n = batch.rows();
  const auto before = [&](const HyperConnection& hc, const Vector& norm) {
    backend_.HcPre({n, c_.hc_mult, c_.hidden_size, a_.h, hc, c_.hc_sinkhorn_iters, c_.hc_eps, c_.rms_eps,
                    a_.x, a_.post, a_.comb});
    backend_.RmsNorm({n, c_.hidden_size, a_.x, norm.data(), c_.rms_eps, a_.x});
  };
  const auto after = [&] { backend_.HcPost({n, c_.hc_mult, c_.hidden_size, a_.y, a_.post, a_.comb, a_.h}); };
  before(w.hc_attn, w.attn_norm);
  HF_RETURN_IF_ERROR(Attention(batch, layer, w.attn));
  after();
  before(w.hc_ffn, w.ffn_norm);
  Moe(batch, w.ffn);
  after();
  return {};
}

Status Graph::Attention(const Batch& batch, int32_t layer, const AttentionWeights& w) {
  const int32_t n = batch.rows();
  Project(batch, layer, w);
  if (c_.ratio(layer) != 0) Compress(batch, layer, w);
  if (c_.role(layer) == LayerRole::kCsa) HF_RETURN_IF_ERROR(Select(batch, layer));
  HF_RETURN_IF_ERROR(CheckEntries(batch, layer));
  Attend(batch, layer, w);
  backend_.GroupedLinear({n, c_.o_groups, a_.o, w.wo_a, a_.o_low});
  const LinearProduct out[] = {{&w.wo_b, a_.y}};
  backend_.Linear({n, c_.o_groups * c_.o_lora_rank, a_.o_low, out});
  return {};
}

// Everything that reads the normed input: queries, the window row, and what the compressors pool.
void Graph::Project(const Batch& batch, int32_t layer, const AttentionWeights& w) {
  const int32_t n = batch.rows();
  const int rope = RopeIndex(layer);
  LinearProduct products[7] = {{&w.wq_a, a_.qr}, {&w.wkv, a_.kv}};
  size_t count = 2;
  if (c_.ratio(layer) != 0) {
    products[count++] = {&w.compressor.wkv, a_.compress_kv};
    products[count++] = {&w.compressor.wgate, a_.compress_score};
  }
  if (c_.role(layer) == LayerRole::kCsa) {
    products[count++] = {&w.indexer.compressor.wkv, a_.index_kv};
    products[count++] = {&w.indexer.compressor.wgate, a_.index_score};
    products[count++] = {&w.indexer.weights_proj, a_.index_weights};
  }
  backend_.Linear({n, c_.hidden_size, a_.x, {products, count}});

  backend_.RmsNorm({n, c_.q_lora_rank, a_.qr, w.q_norm.data(), c_.rms_eps, a_.qr});
  LinearProduct from_qr[2] = {{&w.wq_b, a_.q}, {&w.indexer.wq_b, a_.index_q}};
  backend_.Linear({n, c_.q_lora_rank, a_.qr, {from_qr, c_.role(layer) == LayerRole::kCsa ? 2u : 1u}});
  backend_.Query({n, c_.num_heads, c_.head_dim, c_.rope_dim, c_.rms_eps, a_.cos[rope], a_.sin[rope], a_.q});
  backend_.WindowRow(
      {n, a_.kv, w.kv_norm.data(), c_.rms_eps, a_.cos[rope], a_.sin[rope], layout_.entry, a_.rows});
}

void Graph::Compress(const Batch& batch, int32_t layer, const AttentionWeights& w) {
  const auto run = [&](bool index_keys, int32_t d, const float* kv, float* score, const Compressor& weights) {
    compress_segments_.clear();
    for (const BatchSegment& s : batch.segments) {
      compress_segments_.push_back(
          {s.segment, index_keys ? s.sequence->pending_index(layer) : s.sequence->pending(layer),
           index_keys ? s.sequence->index_keys(layer) : s.sequence->entries(layer)});
    }
    backend_.Compress({compress_segments_, c_.ratio(layer), d, index_keys, kv, score, weights, c_.rms_eps,
                       c_.rope_dim, ropes_[RopeIndex(layer)], layout_.entry, layout_.index_key});
  };
  run(false, c_.head_dim, a_.compress_kv, a_.compress_score, w.compressor);
  if (c_.role(layer) == LayerRole::kCsa) {
    run(true, c_.index_head_dim, a_.index_kv, a_.index_score, w.indexer.compressor);
  }
}

Status Graph::Select(const Batch& batch, int32_t layer) {
  const int rope = RopeIndex(layer);
  const int32_t plane = layout_.index_plane[static_cast<size_t>(layer)];
  for (const BatchSegment& s : batch.segments) {
    if (s.sequence->HasUnchecked(plane)) HF_RETURN_IF_ERROR(s.sequence->CheckPlane(plane));
  }
  backend_.IndexQuery({batch.rows(), c_.index_heads, c_.rope_dim, a_.cos[rope], a_.sin[rope], a_.index_q,
                       layout_.index_key, a_.index_rows});
  select_segments_.clear();
  for (const BatchSegment& s : batch.segments) {
    select_segments_.push_back({s.segment, s.sequence->index_keys(layer)});
  }
  backend_.IndexSelect({select_segments_, c_.index_heads, c_.ratio(layer), c_.index_topk, a_.index_rows,
                        a_.index_weights, layout_.index_key, a_.selected, a_.selected_count});
  return {};
}

// Blocks that were attached unchecked, before attention reads them: of a CSA layer those that hold a selected
// entry, of an HCA layer all.
Status Graph::CheckEntries(const Batch& batch, int32_t layer) const {
  const int32_t plane = layout_.entry_plane[static_cast<size_t>(layer)];
  if (plane < 0) return {};
  for (const BatchSegment& s : batch.segments) {
    if (!s.sequence->HasUnchecked(plane)) continue;
    if (c_.role(layer) != LayerRole::kCsa) {
      HF_RETURN_IF_ERROR(s.sequence->CheckPlane(plane));
      continue;
    }
    for (int64_t row = s.segment.first_row; row < s.segment.first_row + s.segment.rows; ++row) {
      const int32_t count = std::max(0, a_.selected_count[row]);  // -1: the row is spoilt, nothing is read
      HF_RETURN_IF_ERROR(
          s.sequence->CheckEntries(plane, {a_.selected + row * c_.index_topk, static_cast<size_t>(count)}));
    }
  }
  return {};
}

void Graph::Attend(const Batch& batch, int32_t layer, const AttentionWeights& w) {
  const int rope = RopeIndex(layer);
  attention_segments_.clear();
  keep_segments_.clear();
  for (const BatchSegment& s : batch.segments) {
    attention_segments_.push_back(
        {s.segment, s.sequence->window(layer), s.sequence->entries(layer), s.sequence->window_begin(layer)});
    keep_segments_.push_back({s.segment, s.sequence->window(layer)});
  }
  backend_.Attention({attention_segments_, c_.num_heads, c_.sliding_window, c_.ratio(layer), c_.index_topk,
                      c_.role(layer) == LayerRole::kCsa ? a_.selected : nullptr, a_.selected_count, a_.q,
                      a_.rows, layout_.entry, w.sink.data(), a_.cos[rope], a_.sin[rope], a_.o});
  backend_.KeepWindow({keep_segments_, c_.sliding_window, layout_.entry.bytes(), a_.rows});
}

void Graph::Moe(const Batch& batch, const MoeWeights& w) {
  const int32_t n = batch.rows();
  const LinearProduct gate[] = {{&w.gate, a_.gate}};
  backend_.Linear({n, c_.hidden_size, a_.x, gate});
  backend_.Route(
      {batch.tokens, w, c_.experts_per_token, c_.routed_scale, a_.gate, a_.experts, a_.expert_weights});
  backend_.Experts({n, c_.hidden_size, c_.moe_inter_size, c_.experts_per_token, c_.swiglu_limit, w, a_.x,
                    a_.experts, a_.expert_weights, a_.y});
}

}  // namespace holdfast::model
