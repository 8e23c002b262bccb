#include "model/trace.h"

#include <algorithm>

namespace holdfast::model {
namespace {

using base::Status;
using base::StatusOr;

class Tracer {
 public:
  Tracer(Engine& engine, Sequence& sequence, std::span<const int32_t> tokens, const TraceOptions& options)
      : engine_(engine),
        sequence_(sequence),
        tokens_(tokens),
        options_(options),
        vocab_(static_cast<size_t>(engine.config().vocab_size)),
        width_(static_cast<size_t>(engine.config().hc_mult) *
               static_cast<size_t>(engine.config().hidden_size)) {}

  StatusOr<Trace> Run() {
    trace_.logits.resize(tokens_.size() * vocab_);
    if (options_.hidden) Observe();
    const auto chunk = static_cast<size_t>(options_.chunk > 0 ? std::min(options_.chunk, engine_.max_rows())
                                                              : engine_.max_rows());
    const auto prefill =
        std::min(static_cast<size_t>(std::max<int64_t>(options_.prefill, 0)), tokens_.size());
    Status status;
    for (size_t at = 0; at < tokens_.size() && status.ok();) {
      const size_t count = at < prefill ? std::min(chunk, prefill - at) : 1;
      status = Step(at, count);
      at += count;
      if (options_.progress) options_.progress(static_cast<int64_t>(at));
    }
    engine_.set_layer_observer(nullptr);
    HF_RETURN_IF_ERROR(status);
    return std::move(trace_);
  }

 private:
  void Observe() {
    trace_.hidden.resize(static_cast<size_t>(engine_.config().num_layers));
    engine_.set_layer_observer([this](int32_t layer, std::span<const float> h) {
      auto& out = trace_.hidden[static_cast<size_t>(layer)];
      out.insert(out.end(), h.begin(), h.end());
    });
  }

  Status Step(size_t at, size_t count) {
    final_hidden_.resize(options_.mtp ? count * width_ : 0);
    const Feed feed{.sequence = &sequence_,
                    .tokens = tokens_.subspan(at, count),
                    .logits = LogitRows::kAll,
                    .logits_out = std::span(trace_.logits).subspan(at * vocab_, count * vocab_),
                    .hidden_out = final_hidden_};
    HF_RETURN_IF_ERROR(engine_.Forward({&feed, 1}));
    if (!options_.mtp) return {};
    const size_t entries = std::min(count, tokens_.size() - 1 - at);
    if (entries == 0) return {};
    trace_.mtp_logits.resize((at + entries) * vocab_);
    return engine_.ForwardDraft({.sequence = &sequence_,
                                 .next_tokens = tokens_.subspan(at + 1, entries),
                                 .hidden = std::span<const float>(final_hidden_).first(entries * width_),
                                 .logits_out = std::span(trace_.mtp_logits).subspan(at * vocab_)});
  }

  Engine& engine_;
  Sequence& sequence_;
  const std::span<const int32_t> tokens_;
  const TraceOptions& options_;
  const size_t vocab_;
  const size_t width_;
  Trace trace_;
  std::vector<float> final_hidden_;
};

}  // namespace

StatusOr<Trace> RunTrace(Engine& engine, Sequence& sequence, std::span<const int32_t> tokens,
                         const TraceOptions& options) {
  return Tracer(engine, sequence, tokens, options).Run();
}

}  // namespace holdfast::model
