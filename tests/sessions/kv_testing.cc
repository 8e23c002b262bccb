#include "tests/sessions/kv_testing.h"

#include <gtest/gtest.h>

#include "base/hash.h"
#include "base/random.h"
#include "model/synth.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::sessions {

model::ModelConfig SmallModel() {
  model::ModelConfig c;
  c.vocab_size = 61;
  c.max_positions = 1 << 20;
  c.hidden_size = 64;
  c.num_layers = 3;
  c.compress_ratios = {4, 128, 4, 0};
  c.draft = model::DraftKind::kMtp;
  c.num_draft_stages = 1;
  c.rope_dim = 32;
  c.head_dim = 96;
  c.num_heads = 2;
  c.o_groups = 1;
  c.q_lora_rank = 32;
  c.o_lora_rank = 32;
  c.sliding_window = 37;
  c.index_heads = 2;
  c.index_head_dim = 32;
  c.index_topk = 16;
  c.compress_rope = {.theta = 160000.0f, .factor = 16.0f, .original_max_positions = 65536};
  c.num_experts = 4;
  c.experts_per_token = 2;
  c.moe_inter_size = 32;
  c.routed_scale = 1.5f;
  c.swiglu_limit = 10.0f;
  c.hc_mult = 2;
  c.hc_sinkhorn_iters = 3;
  c.fp8_block_rows = c.fp8_block_cols = 32;
  return c;
}

const model::Checkpoint& SmallWeights() {
  static const auto checkpoint = [] {
    test::SimClock clock;
    static test::SimFileSystem fs(clock);  // mappings live as long as it does
    EXPECT_TRUE(model::WriteSynthCheckpoint(fs, SmallModel(), "/model", {.seed = 3}).ok());
    auto opened = model::Checkpoint::Open(fs, "/model");
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }();
  return *checkpoint;
}

std::vector<int32_t> SmallTokens(uint32_t stream, size_t count) {
  std::vector<int32_t> tokens(count);
  for (size_t i = 0; i < count; ++i)
    tokens[i] = static_cast<int32_t>(base::RandomBits({.seed = 9, .stream = stream, .position = i}, 0) % 61);
  return tokens;
}

uint64_t StateHash(const model::Sequence& sequence) {
  std::vector<std::byte> all;
  sequence.VisitState(
      [&](std::span<const std::byte> part) { all.insert(all.end(), part.begin(), part.end()); });
  return base::Xxh3(all);
}

SmallEngine::SmallEngine()
    : backend_(model::MakeCpuBackend({.threads = 1, .pin_threads = false})),
      engine_(std::make_unique<model::Engine>(SmallWeights().config(), SmallWeights().weights(), *backend_,
                                              model::EngineOptions{.max_rows = 200})) {}

std::vector<Result> SmallEngine::FromZero(std::span<const int32_t> tokens,
                                          std::span<const int64_t> positions) {
  std::vector<Result> results;
  model::Sequence sequence = engine_->NewSequence();
  for (const int64_t position : positions) {
    Result result;
    result.logits.resize(61);
    while (sequence.position() < position) {
      const auto at = static_cast<size_t>(sequence.position());
      const size_t count = std::min<size_t>(static_cast<size_t>(position) - at, 200);
      const model::Feed feed{.sequence = &sequence,
                             .tokens = tokens.subspan(at, count),
                             .logits = model::LogitRows::kLast,
                             .logits_out = result.logits};
      const base::Status status = engine_->Forward({&feed, 1});
      EXPECT_TRUE(status.ok()) << status;
    }
    result.state = StateHash(sequence);
    results.push_back(std::move(result));
  }
  return results;
}

Result SmallEngine::FromZero(std::span<const int32_t> tokens) {
  const int64_t end = static_cast<int64_t>(tokens.size());
  return FromZero(tokens, {&end, 1}).front();
}

memory::BlockKey SmallRoot(uint64_t number) { return {base::Sha256Of(std::as_bytes(std::span(&number, 1)))}; }

base::StatusOr<std::unique_ptr<OpenedStore>> TryOpenSmallStore(base::FileSystem& fs, model::Engine& engine,
                                                               const OpenOptions& options) {
  auto opened = std::make_unique<OpenedStore>();
  const model::KvLayout& layout = engine.kv_layout();
  auto store = memory::BlockStore::Open(
      fs, {.directory = options.directory,
           .planes = PlanesOf(layout),
           .tail_bytes = static_cast<uint32_t>(model::BoundaryTailBytes(engine.config(), layout.mode)),
           .disk_bytes_max = options.disk_bytes_max,
           .segment_bytes_target = 1 << 20,
           .on_event = [events = &opened->events](const memory::StoreEvent& e) { events->push_back(e); }});
  HF_RETURN_IF_ERROR(store.status());
  opened->store = *std::move(store);
  opened->cache =
      std::make_unique<KvCache>(engine.config(), layout, *opened->store, SmallRoot(options.root),
                                KvCacheOptions{.tail_interval_tokens = options.tail_interval_tokens});
  return opened;
}

std::unique_ptr<OpenedStore> OpenSmallStore(base::FileSystem& fs, model::Engine& engine,
                                            const OpenOptions& options) {
  auto opened = TryOpenSmallStore(fs, engine, options);
  EXPECT_TRUE(opened.ok()) << opened.status();
  return *std::move(opened);
}

base::StatusOr<Result> Continue(model::Engine& engine, KvTimeline& timeline,
                                std::span<const int32_t> tokens) {
  Result result;
  result.logits.resize(61);
  HF_RETURN_IF_ERROR(
      Prefill(engine, timeline, tokens.subspan(static_cast<size_t>(timeline.position())), result.logits));
  result.state = StateHash(timeline.sequence());
  return result;
}

}  // namespace holdfast::sessions
