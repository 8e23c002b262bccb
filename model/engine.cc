#include "model/engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/mapping_faults.h"
#include "model/graph.h"

namespace holdfast::model {
namespace {

using base::DataLoss;
using base::FailedPrecondition;
using base::InvalidArgument;
using base::Status;

// Logits are computed for this many rows at a time, to bound their scratch.
constexpr int32_t kHeadRows = 64;

}  // namespace

class Engine::Impl {
 public:
  Impl(const ModelConfig& config, const ModelWeights& weights, Backend& backend, const EngineOptions& options)
      : c_(config),
        w_(weights),
        backend_(backend),
        max_rows_(CheckedRows(options)),
        layout_(MakeKvLayout(config, backend.kv_mode())),
        graph_(config, layout_, backend, options.max_rows),
        head_memory_(backend.Allocate(HeadBytes())) {
    head_h_ = reinterpret_cast<float*>(head_memory_.get());
    head_x_ = head_h_ + int64_t{kHeadRows} * StreamWidth();
    head_logits_ = head_x_ + int64_t{kHeadRows} * c_.hidden_size;
  }

  Status Forward(std::span<const Feed> feeds) {
    HF_RETURN_IF_ERROR(damage_);
    HF_RETURN_IF_ERROR(Check(feeds));
    MakeBatch(feeds);
    const Status computed = Compute(feeds);
    HF_RETURN_IF_ERROR(CheckMappings());  // the cause of what the computation may have met
    HF_RETURN_IF_ERROR(computed);
    for (const Feed& feed : feeds) feed.sequence->Advance(static_cast<int64_t>(feed.tokens.size()));
    return {};
  }

  Status ForwardDraft(const DraftFeed& feed) {
    HF_RETURN_IF_ERROR(damage_);
    HF_RETURN_IF_ERROR(CheckDraft(feed));
    const auto rows = static_cast<int32_t>(feed.next_tokens.size());
    segments_.assign(1, {{0, rows, feed.sequence->draft_position(feed.stage)}, feed.sequence});
    const Status computed = ComputeDraft(feed);
    HF_RETURN_IF_ERROR(CheckMappings());
    HF_RETURN_IF_ERROR(computed);
    feed.sequence->AdvanceDraft(feed.stage, rows);
    return {};
  }

  const ModelConfig& c_;
  const ModelWeights& w_;
  Backend& backend_;
  const int32_t max_rows_;
  const KvLayout layout_;
  LayerObserver observer_;

 private:
  static int32_t CheckedRows(const EngineOptions& options) {
    HF_CHECK(options.max_rows >= 1);
    return options.max_rows;
  }

  struct HeadRow {
    int32_t row;
    int64_t position;
    float* logits;
  };

  int64_t StreamWidth() const { return int64_t{c_.hc_mult} * c_.hidden_size; }
  size_t HeadBytes() const {
    return static_cast<size_t>(kHeadRows * (StreamWidth() + c_.hidden_size + c_.vocab_size)) * sizeof(float);
  }

  // The batch of tokens_ and segments_: everything but the positions.
  Status Compute(std::span<const Feed> feeds) {
    const Batch batch{tokens_, segments_};
    Activations& a = graph_.activations();
    backend_.Embed({batch.tokens, w_.embed, c_.hc_mult, a.h});
    graph_.FillRope(batch);
    for (int32_t l = 0; l < c_.num_layers; ++l) {
      HF_RETURN_IF_ERROR(graph_.Block(batch, l, w_.layers[static_cast<size_t>(l)]));
      if (observer_) observer_(l, {a.h, tokens_.size() * static_cast<size_t>(StreamWidth())});
    }
    HF_RETURN_IF_ERROR(CheckState(batch));
    head_rows_.clear();
    for (size_t f = 0; f < feeds.size(); ++f) CollectHeadRows(feeds[f], segments_[f].segment);
    HF_RETURN_IF_ERROR(Head(a.h, w_.hc_head, w_.norm));
    for (size_t f = 0; f < feeds.size(); ++f) {
      if (!feeds[f].hidden_out.empty()) {
        std::memcpy(feeds[f].hidden_out.data(), a.h + int64_t{segments_[f].segment.first_row} * StreamWidth(),
                    feeds[f].tokens.size() * static_cast<size_t>(StreamWidth()) * sizeof(float));
      }
    }
    return {};
  }

  // x = e_proj(enorm(embed(next token))) + h_proj(hnorm(h)) for each stream, one block, the stage's own head.
  Status ComputeDraft(const DraftFeed& feed) {
    const MtpWeights& w = w_.mtp[static_cast<size_t>(feed.stage)];
    const auto n = static_cast<int32_t>(feed.next_tokens.size());
    const int32_t d = c_.hidden_size;
    const Batch batch{feed.next_tokens, segments_};
    Activations& a = graph_.activations();
    graph_.FillRope(batch);
    backend_.Embed({batch.tokens, w_.embed, 1, a.x});
    backend_.RmsNorm({n, d, a.x, w.enorm.data(), c_.rms_eps, a.x});
    const LinearProduct e_proj[] = {{&w.e_proj, a.y}};
    backend_.Linear({n, d, a.x, e_proj});
    std::memcpy(a.streams, feed.hidden.data(), feed.hidden.size_bytes());
    backend_.RmsNorm({n * c_.hc_mult, d, a.streams, w.hnorm.data(), c_.rms_eps, a.streams});
    const LinearProduct h_proj[] = {{&w.h_proj, a.h}};
    backend_.Linear({n * c_.hc_mult, d, a.streams, h_proj});
    backend_.AddToStreams({n, c_.hc_mult, d, a.y, a.h});
    HF_RETURN_IF_ERROR(graph_.Block(batch, c_.num_layers + feed.stage, w.block));
    HF_RETURN_IF_ERROR(CheckState(batch));
    head_rows_.clear();
    for (int32_t i = 0; i < n; ++i) {
      head_rows_.push_back(
          {i, segments_[0].segment.first_position + i, feed.logits_out.data() + int64_t{i} * c_.vocab_size});
    }
    return Head(a.h, w.hc_head, w.norm);
  }

  // Whether pages read as zeros because they could not be read: now, or before and noticed only now. The
  // handler counts a page before it replaces it, so what read zeros is counted by the end of the computation.
  Status CheckMappings() {
    const uint64_t faults = base::MappingFaultCount();
    if (faults != fault_count_) damage_ = CheckShards(w_);
    fault_count_ = faults;
    HF_RETURN_IF_ERROR(damage_);
    for (const BatchSegment& s : segments_) HF_RETURN_IF_ERROR(s.sequence->CheckMappings(faults));
    return {};
  }

  // The streams of every row, whether or not its logits are asked for: what is not finite must not become KV.
  Status CheckState(const Batch& batch) {
    for (const BatchSegment& s : batch.segments) {
      for (int64_t i = 0; i < s.segment.rows; ++i) {
        const float* h = graph_.activations().h + (s.segment.first_row + i) * StreamWidth();
        float probe = 0;  // 0 * x is NaN when x is not finite
        for (int64_t d = 0; d < StreamWidth(); ++d) probe += h[d] * 0.0f;
        if (!std::isnan(probe)) continue;
        return DataLoss("the state at position " + std::to_string(s.segment.first_position + i) +
                        " is not finite; the checkpoint's weights are damaged or out of range");
      }
    }
    return {};
  }

  Status CheckTokens(std::span<const int32_t> tokens) const {
    if (tokens.empty()) return InvalidArgument("forward: a feed without tokens");
    for (int32_t token : tokens) {
      if (token < 0 || token >= c_.vocab_size) {
        return InvalidArgument("forward: token id " + std::to_string(token) +
                               " is outside the vocabulary of " + std::to_string(c_.vocab_size));
      }
    }
    return {};
  }

  Status CheckPositions(int64_t first, size_t count) const {
    if (first + static_cast<int64_t>(count) <= c_.max_positions) return {};
    return InvalidArgument("forward: position " + std::to_string(first + static_cast<int64_t>(count)) +
                           " is past the model's window of " + std::to_string(c_.max_positions) + " tokens");
  }

  Status Check(std::span<const Feed> feeds) const {
    size_t rows = 0;
    for (size_t f = 0; f < feeds.size(); ++f) {
      HF_CHECK(&feeds[f].sequence->layout() == &layout_);
      HF_CHECK(feeds[f].sequence->has_tail());
      HF_RETURN_IF_ERROR(CheckTokens(feeds[f].tokens));
      HF_RETURN_IF_ERROR(CheckPositions(feeds[f].sequence->position(), feeds[f].tokens.size()));
      rows += feeds[f].tokens.size();
      for (size_t g = 0; g < f; ++g) {
        if (feeds[g].sequence == feeds[f].sequence)
          return InvalidArgument("forward: a sequence stands twice");
      }
      const size_t logit_rows = feeds[f].logits == LogitRows::kNone   ? 0
                                : feeds[f].logits == LogitRows::kLast ? 1
                                                                      : feeds[f].tokens.size();
      HF_CHECK(feeds[f].logits_out.size() >= logit_rows * static_cast<size_t>(c_.vocab_size));
      HF_CHECK(feeds[f].hidden_out.empty() ||
               feeds[f].hidden_out.size() >= feeds[f].tokens.size() * static_cast<size_t>(StreamWidth()));
    }
    if (rows == 0 || rows > static_cast<size_t>(max_rows_)) {
      return InvalidArgument("forward: " + std::to_string(rows) + " tokens; a batch takes 1 to " +
                             std::to_string(max_rows_));
    }
    return {};
  }

  Status CheckDraft(const DraftFeed& feed) const {
    if (feed.stage < 0 || static_cast<size_t>(feed.stage) >= w_.mtp.size()) {
      return FailedPrecondition("draft: the checkpoint ships no MTP stage " + std::to_string(feed.stage));
    }
    HF_CHECK(&feed.sequence->layout() == &layout_);
    HF_CHECK(feed.sequence->has_tail());
    HF_RETURN_IF_ERROR(CheckTokens(feed.next_tokens));
    if (feed.next_tokens.size() > static_cast<size_t>(max_rows_)) {
      return InvalidArgument("draft: more than " + std::to_string(max_rows_) + " entries in one batch");
    }
    const int64_t end =
        feed.sequence->draft_position(feed.stage) + static_cast<int64_t>(feed.next_tokens.size());
    if (end > feed.sequence->position()) {
      return FailedPrecondition("draft: entry " + std::to_string(end - 1) +
                                " needs a hidden state that was not computed");
    }
    HF_CHECK(feed.hidden.size() == feed.next_tokens.size() * static_cast<size_t>(StreamWidth()));
    HF_CHECK(feed.logits_out.size() >= feed.next_tokens.size() * static_cast<size_t>(c_.vocab_size));
    return {};
  }

  void MakeBatch(std::span<const Feed> feeds) {
    tokens_.clear();
    segments_.clear();
    for (const Feed& feed : feeds) {
      const auto rows = static_cast<int32_t>(feed.tokens.size());
      segments_.push_back(
          {{static_cast<int32_t>(tokens_.size()), rows, feed.sequence->position()}, feed.sequence});
      tokens_.insert(tokens_.end(), feed.tokens.begin(), feed.tokens.end());
      feed.sequence->Reserve(feed.sequence->position() + rows);
    }
  }

  void CollectHeadRows(const Feed& feed, const Segment& s) {
    if (feed.logits == LogitRows::kNone) return;
    const int32_t first = feed.logits == LogitRows::kAll ? 0 : s.rows - 1;
    for (int32_t i = first; i < s.rows; ++i) {
      head_rows_.push_back({s.first_row + i, s.first_position + i,
                            feed.logits_out.data() + int64_t{i - first} * c_.vocab_size});
    }
  }

  // Logits of head_rows_, gathered so that the head's weights are read once for many rows.
  Status Head(const float* h, const HyperHead& hc, const Vector& norm) {
    for (size_t begin = 0; begin < head_rows_.size(); begin += kHeadRows) {
      const size_t count = std::min<size_t>(kHeadRows, head_rows_.size() - begin);
      const auto n = static_cast<int32_t>(count);
      for (size_t i = 0; i < count; ++i) {
        std::memcpy(head_h_ + static_cast<int64_t>(i) * StreamWidth(),
                    h + head_rows_[begin + i].row * StreamWidth(),
                    static_cast<size_t>(StreamWidth()) * sizeof(float));
      }
      backend_.HcHead({n, c_.hc_mult, c_.hidden_size, head_h_, hc, c_.hc_eps, c_.rms_eps, head_x_});
      backend_.RmsNorm({n, c_.hidden_size, head_x_, norm.data(), c_.rms_eps, head_x_});
      const LinearProduct product[] = {{&w_.head, head_logits_}};
      backend_.Linear({n, c_.hidden_size, head_x_, product});
      for (size_t i = 0; i < count; ++i)
        HF_RETURN_IF_ERROR(Deliver(head_rows_[begin + i], static_cast<int64_t>(i)));
    }
    return {};
  }

  Status Deliver(const HeadRow& row, int64_t index) const {
    const float* logits = head_logits_ + index * c_.vocab_size;
    for (int32_t v = 0; v < c_.vocab_size; ++v) {
      if (!std::isfinite(logits[v])) {
        return DataLoss("logit " + std::to_string(v) + " at position " + std::to_string(row.position) +
                        " is not finite; the checkpoint's weights are damaged or out of range");
      }
    }
    std::memcpy(row.logits, logits, static_cast<size_t>(c_.vocab_size) * sizeof(float));
    return {};
  }

  Graph graph_;
  Backend::Buffer head_memory_;
  float* head_h_;
  float* head_x_;
  float* head_logits_;
  std::vector<int32_t> tokens_;
  std::vector<BatchSegment> segments_;
  std::vector<HeadRow> head_rows_;
  uint64_t fault_count_ = 0;  // mapped pages that had failed when the shards were last asked
  Status damage_;             // of the weights; stays
};

Engine::Engine(const ModelConfig& config, const ModelWeights& weights, Backend& backend,
               const EngineOptions& options)
    : impl_(std::make_unique<Impl>(config, weights, backend, options)) {}
Engine::~Engine() = default;

const ModelConfig& Engine::config() const { return impl_->c_; }
const KvLayout& Engine::kv_layout() const { return impl_->layout_; }
int32_t Engine::max_rows() const { return impl_->max_rows_; }
Sequence Engine::NewSequence() const { return Sequence(impl_->c_, impl_->layout_); }
base::Status Engine::Forward(std::span<const Feed> feeds) { return impl_->Forward(feeds); }
base::Status Engine::ForwardDraft(const DraftFeed& feed) { return impl_->ForwardDraft(feed); }
void Engine::set_layer_observer(LayerObserver observer) { impl_->observer_ = std::move(observer); }

}  // namespace holdfast::model
