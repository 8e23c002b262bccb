// A sequence that reads blocks of others, was cut back, forked or restored, is the one that never stopped,
// bit for bit.
#include "model/sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/hash.h"
#include "model/engine.h"
#include "tests/model/synth_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::model {
namespace {

using ::testing::HasSubstr;
using Bytes = std::vector<std::byte>;

constexpr int32_t kMaxRows = 64;

ModelConfig SmallConfig(std::vector<int32_t> ratios, int32_t window, int32_t topk) {
  ModelConfig c;
  c.vocab_size = 61;
  c.max_positions = 1 << 20;
  c.hidden_size = 64;
  c.num_layers = static_cast<int32_t>(ratios.size());
  c.compress_ratios = std::move(ratios);
  c.compress_ratios.push_back(0);
  c.draft = DraftKind::kMtp;
  c.num_draft_stages = 1;
  c.rope_dim = 32;
  c.head_dim = 96;
  c.num_heads = 4;
  c.o_groups = 2;
  c.q_lora_rank = 32;
  c.o_lora_rank = 32;
  c.sliding_window = window;
  c.index_heads = 3;
  c.index_head_dim = 64;
  c.index_topk = topk;
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

// Windows that divide a block, do not, and exceed it; ratios beside 4 and 128; blocks of more than 128
// tokens.
std::vector<Shape> SequenceShapes() {
  return {{"seq_plain", SmallConfig({0, 4, 128, 4}, 128, 16), 420},
          {"seq_odd", SmallConfig({128, 4, 2, 0}, 37, 5), 420},
          {"seq_wide", SmallConfig({4, 0, 16}, 150, 40), 420},
          {"seq_long", SmallConfig({4, 96, 4}, 200, 9), 820}};  // blocks of 384
}

struct Kind {
  const char* name;
  std::unique_ptr<Backend> (*make)();
};
void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }
const Kind kCpu = {"Cpu", [] { return MakeCpuBackend({.threads = 2, .pin_threads = false}); }};
const Kind kF32 = {"ReferenceF32", [] { return MakeReferenceBackend({.threads = 2}); }};
const Kind kStored = {"ReferenceStored",
                      [] { return MakeReferenceBackend({.kv_mode = KvMode::kStored, .threads = 2}); }};

// The oracle is scalar and takes minutes under a sanitizer, where one shape shows what there is to show.
bool TooSlow(const Kind& kind, const Shape& shape) {
  return test::Reduced(4) < 4 && kind.make != kCpu.make && shape.name != "seq_odd";
}

Bytes State(const Sequence& sequence) {
  Bytes all;
  sequence.VisitState(
      [&](std::span<const std::byte> part) { all.insert(all.end(), part.begin(), part.end()); });
  return all;
}

// What a KV store would hold: complete blocks and boundary tails of one token stream. Planes lie at odd
// addresses.
class Stored {
 public:
  explicit Stored(const KvLayout& layout) : layout_(layout) {}

  void Add(const std::byte* block) {
    blocks_.emplace_back(static_cast<size_t>(layout_.block_bytes()) + 1);
    std::memcpy(blocks_.back().data() + 1, block, blocks_.back().size() - 1);
  }
  int64_t blocks() const { return static_cast<int64_t>(blocks_.size()); }
  std::vector<const std::byte*> planes(int64_t block) const {
    std::vector<const std::byte*> planes;
    const std::byte* at = blocks_[static_cast<size_t>(block)].data() + 1;
    for (const Plane& plane : layout_.planes) {
      planes.push_back(at);
      at += plane.block_bytes();
    }
    return planes;
  }

  std::map<int64_t, Bytes> tails;  // by position

 private:
  const KvLayout& layout_;
  std::vector<Bytes> blocks_;
};

class SequenceTest : public ::testing::Test {
 protected:
  void Use(const Shape& shape, const Kind& kind) {
    engine_ = nullptr;
    shape_ = shape;
    backend_ = kind.make();
    engine_ = std::make_unique<Engine>(shape_.config, SynthWeights(shape).weights(), *backend_,
                                       EngineOptions{.max_rows = kMaxRows});
    tokens_ = SynthTokens(shape, 0, shape.tokens);
    logits_.assign(tokens_.size() * vocab(), 0.0f);
    stored_ = std::make_unique<Stored>(engine_->kv_layout());
    none_.assign(engine_->kv_layout().planes.size(), 0);
  }

  size_t vocab() const { return static_cast<size_t>(shape_.config.vocab_size); }
  int64_t block_tokens() const { return engine_->kv_layout().block_tokens; }
  int64_t tail_bytes() const { return BoundaryTailBytes(shape_.config, backend_->kv_mode()); }

  // Feeds tokens_ up to `end` in chunks of the seed's choice, none across a boundary.
  base::Status Feed(Sequence& sequence, int64_t end, test::SeededRandom& random, float* logits) {
    while (sequence.position() < end) {
      const int64_t at = sequence.position();
      int64_t n = random.Percent(30) ? 1 : random.Between(1, kMaxRows);
      n = std::min({n, end - at, block_tokens() - at % block_tokens()});
      const model::Feed feed{
          .sequence = &sequence,
          .tokens = std::span(tokens_).subspan(static_cast<size_t>(at), static_cast<size_t>(n)),
          .logits = LogitRows::kAll,
          .logits_out = {logits + static_cast<size_t>(at) * vocab(), static_cast<size_t>(n) * vocab()}};
      HF_RETURN_IF_ERROR(engine_->Forward({&feed, 1}));
    }
    return {};
  }

  Bytes Tail(const Sequence& sequence) const {
    Bytes tail(static_cast<size_t>(tail_bytes()), std::byte{0xee});
    sequence.SaveTail(tail);
    return tail;
  }

  // Feeds everything without a stop, keeps what a store would, and returns the final state.
  Bytes Baseline() {
    Sequence sequence = engine_->NewSequence();
    test::SeededRandom random(77);
    const auto end = static_cast<int64_t>(tokens_.size());
    for (int64_t at = block_tokens(); at <= end; at += block_tokens()) {
      EXPECT_TRUE(Feed(sequence, at, random, logits_.data()).ok());
      stored_->tails[at] = Tail(sequence);
    }
    EXPECT_TRUE(Feed(sequence, end, random, logits_.data()).ok());
    Bytes state = State(sequence);
    for (int64_t b = 0; b < sequence.complete_blocks(); ++b) stored_->Add(sequence.TakeBlock(b).get());
    return state;
  }

  void Append(Sequence& sequence, int64_t blocks, std::span<const uint8_t> unchecked) {
    while (sequence.complete_blocks() < blocks) {
      sequence.AppendLentBlock(stored_->planes(sequence.complete_blocks()), unchecked);
    }
  }
  void RestoreOk(Sequence& sequence) {
    const int64_t position = sequence.position();
    const base::Status status = sequence.RestoreTail(position, stored_->tails.at(position));
    ASSERT_TRUE(status.ok()) << status;
  }
  Sequence Restored(int64_t blocks) {
    Sequence sequence = engine_->NewSequence();
    Append(sequence, blocks, none_);
    RestoreOk(sequence);
    return sequence;
  }

  // Feeds the rest and compares logits and state with those of the baseline.
  void ExpectSameToTheEnd(Sequence& sequence, const Bytes& final_state, uint64_t seed) {
    const int64_t from = sequence.position();
    test::SeededRandom random(seed);
    std::vector<float> logits(logits_.size());
    const base::Status status = Feed(sequence, static_cast<int64_t>(tokens_.size()), random, logits.data());
    ASSERT_TRUE(status.ok()) << status;
    const size_t first = static_cast<size_t>(from) * vocab();
    EXPECT_EQ(std::memcmp(&logits[first], &logits_[first], (logits.size() - first) * sizeof(float)), 0);
    EXPECT_EQ(State(sequence), final_state);
  }

  Shape shape_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Engine> engine_;
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;  // [T, vocab] of the baseline
  std::unique_ptr<Stored> stored_;
  std::vector<uint8_t> none_;  // no plane is unchecked
};

class SequenceOnBackendsTest : public SequenceTest, public ::testing::WithParamInterface<Kind> {};
INSTANTIATE_TEST_SUITE_P(Backends, SequenceOnBackendsTest, ::testing::Values(kCpu, kF32, kStored),
                         [](const auto& tested) { return tested.param.name; });

TEST_P(SequenceOnBackendsTest, RestoredAtAnyBoundaryIsTheOneThatNeverStopped) {
  for (const Shape& shape : SequenceShapes()) {
    if (TooSlow(GetParam(), shape)) continue;
    Use(shape, GetParam());
    const Bytes final_state = Baseline();
    ASSERT_GE(stored_->blocks(), 2);
    for (int64_t blocks = 1; blocks <= stored_->blocks(); ++blocks) {
      SCOPED_TRACE(shape.name + " restored after block " + std::to_string(blocks));
      Sequence sequence = Restored(blocks);
      EXPECT_EQ(sequence.position(), blocks * block_tokens());
      EXPECT_EQ(Tail(sequence), stored_->tails.at(sequence.position()));
      ExpectSameToTheEnd(sequence, final_state, static_cast<uint64_t>(blocks));
    }
  }
}

// Feeds, takes, lends, forks, cuts back and restores at random; whatever happened, the state at a position is
// that of a fresh sequence fed so far.
TEST_F(SequenceTest, AnyHistoryGivesTheStateOfItsTokens) {
  for (const Shape& shape : SequenceShapes()) {
    if (shape.name == "seq_long") continue;  // the same code, three times the tokens
    Use(shape, kCpu);
    Baseline();
    std::vector<uint64_t> state_at = {};  // by position
    Sequence plain = engine_->NewSequence();
    test::SeededRandom one(1);
    std::vector<float> logits(logits_.size());
    for (size_t p = 0; p <= tokens_.size(); ++p) {
      ASSERT_TRUE(Feed(plain, static_cast<int64_t>(p), one, logits.data()).ok());
      state_at.push_back(base::Xxh3(State(plain)));
    }
    for (const uint64_t seed : test::TestSeeds(6)) {
      SCOPED_TRACE(::testing::Message() << shape.name << " HOLDFAST_TEST_SEED=" << seed);
      test::SeededRandom random(seed);
      std::vector<HeapBlock> taken;  // outlives the sequences
      std::vector<Sequence> sequences;
      sequences.push_back(engine_->NewSequence());
      for (int step = 0; step < 60; ++step) {
        Sequence& s = sequences[random.Below(sequences.size())];
        const int64_t blocks = s.complete_blocks();
        const auto give = [&](int64_t block) {
          if (s.OwnsBlock(block) && random.Percent(70)) taken.push_back(s.TakeBlock(block));
          if (s.OwnsBlock(block) || random.Percent(50)) s.LendBlock(block, stored_->planes(block));
        };
        switch (random.Below(5)) {
          case 0:
            if (blocks > 0) give(random.Between(0, blocks - 1));
            break;
          case 1:
            for (int64_t b = 0; b < blocks; ++b) give(b);
            if (sequences.size() < 4) sequences.push_back(s.Fork());
            break;
          case 2: {
            s.TruncateToBlocks(random.Between(0, blocks));
            Append(s, random.Between(s.complete_blocks(), stored_->blocks()), none_);
            if (!s.has_tail()) RestoreOk(s);
            break;
          }
          default: {
            const int64_t end = std::min<int64_t>(s.position() + random.Between(1, 90), shape.tokens);
            ASSERT_TRUE(Feed(s, end, random, logits.data()).ok());
            const size_t last = static_cast<size_t>(end - 1) * vocab();
            ASSERT_EQ(std::memcmp(&logits[last], &logits_[last], vocab() * sizeof(float)), 0) << end;
          }
        }
        for (const Sequence& each : sequences) {
          ASSERT_EQ(base::Xxh3(State(each)), state_at[static_cast<size_t>(each.position())])
              << "step " << step << " position " << each.position();
        }
      }
    }
  }
}

TEST_F(SequenceTest, AForkGoesItsOwnWay) {
  Use(SequenceShapes()[1], kCpu);
  const Bytes final_state = Baseline();
  Sequence sequence = Restored(1);
  test::SeededRandom random(3);
  std::vector<float> logits(logits_.size());
  ASSERT_TRUE(Feed(sequence, 201, random, logits.data()).ok());
  Sequence fork = sequence.Fork();
  EXPECT_EQ(fork.position(), 201);
  EXPECT_EQ(State(fork), State(sequence));
  const std::vector<int32_t> tokens = tokens_;
  for (size_t i = 201; i < tokens_.size(); ++i) tokens_[i] = (tokens_[i] + 7) % 61;
  std::vector<float> fork_logits(logits_.size());
  ASSERT_TRUE(Feed(fork, shape_.tokens, random, fork_logits.data()).ok());
  Sequence fresh = engine_->NewSequence();
  std::vector<float> fresh_logits(logits_.size());
  ASSERT_TRUE(Feed(fresh, shape_.tokens, random, fresh_logits.data()).ok());
  EXPECT_EQ(State(fork), State(fresh));
  EXPECT_NE(State(fork), final_state);
  tokens_ = tokens;
  ExpectSameToTheEnd(sequence, final_state, 5);
}

TEST_F(SequenceTest, TakenMemoryIsTheBlockPlaneByPlaneAndStaysInUse) {
  Use(SequenceShapes()[0], kCpu);
  Sequence sequence = engine_->NewSequence();
  test::SeededRandom random(1);
  ASSERT_TRUE(Feed(sequence, 130, random, logits_.data()).ok());
  EXPECT_EQ(sequence.complete_blocks(), 1);
  EXPECT_TRUE(sequence.OwnsBlock(0));
  const HeapBlock memory = sequence.TakeBlock(0);
  EXPECT_FALSE(sequence.OwnsBlock(0));
  const std::byte* at = memory.get();
  for (const Plane& plane : sequence.layout().planes) {
    const PlaneView view =
        plane.kind == PlaneKind::kEntries ? sequence.entries(plane.layer) : sequence.index_keys(plane.layer);
    EXPECT_EQ(view.entry(0), at);
    at += plane.block_bytes();
  }
  Stored elsewhere(sequence.layout());
  elsewhere.Add(memory.get());
  const auto planes = elsewhere.planes(0);
  sequence.LendBlock(0, planes);
  for (size_t p = 0; p < planes.size(); ++p) {
    const Plane& plane = sequence.layout().planes[p];
    const PlaneView view =
        plane.kind == PlaneKind::kEntries ? sequence.entries(plane.layer) : sequence.index_keys(plane.layer);
    EXPECT_EQ(view.entry(0), planes[p]);
  }
}

// --- The tail ---

// The documented bytes, put together from the ring and the pending rows.
TEST_F(SequenceTest, TheTailIsWhatTheHeaderSays) {
  for (const Shape& shape : SequenceShapes()) {
    SCOPED_TRACE(shape.name);
    Use(shape, kCpu);
    Sequence sequence = engine_->NewSequence();
    test::SeededRandom random(1);
    for (int64_t end = block_tokens(); end <= shape.tokens; end += block_tokens()) {
      ASSERT_TRUE(Feed(sequence, end, random, logits_.data()).ok());
      const ModelConfig& c = shape.config;
      const auto row_bytes = static_cast<size_t>(sequence.layout().entry.bytes());
      Bytes want;
      const auto put = [&want](const void* from, size_t bytes) {
        const auto* at = static_cast<const std::byte*>(from);
        want.insert(want.end(), at, at + bytes);
      };
      for (int32_t l = 0; l < c.num_layers; ++l) {
        const int64_t first = std::max<int64_t>(0, end - c.sliding_window);
        for (int64_t j = 0; j < c.sliding_window; ++j) {
          const Bytes zeros(row_bytes);
          const int64_t p = first + j;
          put(p < end ? sequence.window(l) + static_cast<size_t>(p % c.sliding_window) * row_bytes
                      : zeros.data(),
              row_bytes);
        }
        if (c.role(l) != LayerRole::kCsa) continue;
        for (const auto& [rows, d] : {std::pair(sequence.pending(l), c.head_dim),
                                      std::pair(sequence.pending_index(l), c.index_head_dim)}) {
          for (const float* values : {rows.kv, rows.score}) {
            for (int64_t p = end - 4; p < end; ++p)
              put(values + p % 8 * 2 * d, static_cast<size_t>(d) * sizeof(float));
          }
        }
      }
      EXPECT_EQ(static_cast<int64_t>(want.size()), tail_bytes());
      EXPECT_EQ(Tail(sequence), want) << "position " << end;
    }
  }
}

TEST_F(SequenceTest, TheTailOfPositionZeroIsZeros) {
  Use(SequenceShapes()[0], kCpu);
  const Bytes final_state = Baseline();
  Sequence sequence = engine_->NewSequence();
  EXPECT_EQ(Tail(sequence), Bytes(static_cast<size_t>(tail_bytes())));
  ASSERT_TRUE(sequence.RestoreTail(0, Tail(sequence)).ok());
  ExpectSameToTheEnd(sequence, final_state, 1);
  sequence.TruncateToBlocks(0);
  EXPECT_EQ(Tail(sequence), Bytes(static_cast<size_t>(tail_bytes())));
  ExpectSameToTheEnd(sequence, final_state, 2);
}

TEST_F(SequenceTest, ATailThatDoesNotFitIsRefused) {
  Use(SequenceShapes()[0], kCpu);
  Baseline();
  Sequence sequence = engine_->NewSequence();
  Append(sequence, 2, none_);
  EXPECT_FALSE(sequence.has_tail());
  Bytes tail = stored_->tails.at(256);
  const auto refused = [&](int64_t position, std::span<const std::byte> bytes) {
    const base::Status status = sequence.RestoreTail(position, bytes);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(sequence.has_tail());
    return base::Message(status);
  };
  EXPECT_EQ(refused(128, tail), "tail of position 128: the sequence ends at 256");
  EXPECT_THAT(refused(256, std::span(tail).first(tail.size() - 1)), HasSubstr("bytes, not"));
  tail.push_back({});
  EXPECT_THAT(refused(256, tail), HasSubstr("bytes, not"));
  EXPECT_THAT(refused(256, {}), HasSubstr("0 bytes, not"));
  RestoreOk(sequence);
  EXPECT_TRUE(sequence.has_tail());
  test::SeededRandom random(1);
  ASSERT_TRUE(Feed(sequence, 257, random, logits_.data()).ok());
  EXPECT_EQ(sequence.RestoreTail(257, stored_->tails.at(256)).code(), absl::StatusCode::kInvalidArgument);
}

// --- Checks on first use ---

// Holds the stored blocks as garbage until asked: what was read without a check spoils the result.
class LazyGuard final : public BlockGuard {
 public:
  LazyGuard(const KvLayout& layout, const Stored& stored) : layout_(layout), stored_(stored) {
    for (int64_t b = 0; b < stored.blocks(); ++b) {
      const Bytes garbage(static_cast<size_t>(layout.block_bytes()), std::byte{0xff});
      lazy_.push_back(garbage);
    }
  }
  std::vector<const std::byte*> planes(int64_t block) {
    std::vector<const std::byte*> planes;
    for (size_t p = 0; p < layout_.planes.size(); ++p) planes.push_back(Address(block, p));
    return planes;
  }
  base::Status Check(int64_t block, int32_t plane) override {
    EXPECT_TRUE(checked.insert({block, plane}).second) << "checked twice";
    if (std::pair(block, plane) == bad) return base::DataLoss("bad block");
    Fill(block, static_cast<size_t>(plane));
    return {};
  }
  void Fill(int64_t block, size_t plane) {
    std::memcpy(Address(block, plane), stored_.planes(block)[plane],
                static_cast<size_t>(layout_.planes[plane].block_bytes()));
  }

  std::set<std::pair<int64_t, int32_t>> checked;
  std::pair<int64_t, int32_t> bad = {-1, -1};

 private:
  std::byte* Address(int64_t block, size_t plane) {
    std::byte* at = lazy_[static_cast<size_t>(block)].data();
    for (size_t p = 0; p < plane; ++p) at += layout_.planes[p].block_bytes();
    return at;
  }
  const KvLayout& layout_;
  const Stored& stored_;
  std::vector<Bytes> lazy_;
};

class SequenceGuardTest : public SequenceTest {
 protected:
  // A restored sequence with planes unchecked: all, or those that are not scanned.
  Sequence RestoredLazily(LazyGuard& guard, int64_t blocks, bool scanned_too) {
    std::vector<uint8_t> unchecked;
    for (size_t p = 0; p < engine_->kv_layout().planes.size(); ++p) {
      unchecked.push_back(scanned_too || !engine_->kv_layout().planes[p].scanned ? 1 : 0);
      for (int64_t b = 0; b < blocks && unchecked[p] == 0; ++b) guard.Fill(b, p);
    }
    Sequence sequence = engine_->NewSequence();
    for (int64_t b = 0; b < blocks; ++b) sequence.AppendLentBlock(guard.planes(b), unchecked);
    sequence.set_guard(&guard);
    RestoreOk(sequence);
    return sequence;
  }
};

TEST_F(SequenceGuardTest, NothingIsReadBeforeItIsChecked) {
  for (const Kind& kind : {kCpu, kF32}) {
    for (const Shape& shape : SequenceShapes()) {
      if (TooSlow(kind, shape)) continue;
      Use(shape, kind);
      Baseline();
      for (const bool scanned_too : {false, true}) {
        for (int64_t blocks = 1; blocks <= stored_->blocks(); ++blocks) {
          SCOPED_TRACE(shape.name + " on " + kind.name + " from block " + std::to_string(blocks));
          LazyGuard guard(engine_->kv_layout(), *stored_);
          Sequence sequence = RestoredLazily(guard, blocks, scanned_too);
          const int64_t from = sequence.position();
          test::SeededRandom random(static_cast<uint64_t>(blocks));
          std::vector<float> logits(logits_.size());
          const int64_t end = std::min<int64_t>(from + 40, shape.tokens);
          ASSERT_TRUE(Feed(sequence, end, random, logits.data()).ok());
          const auto first = static_cast<size_t>(from) * vocab();
          const auto count = static_cast<size_t>(end - from) * vocab();
          EXPECT_EQ(std::memcmp(&logits[first], &logits_[first], count * sizeof(float)), 0);
          EXPECT_FALSE(guard.checked.empty() && end > from);
        }
      }
    }
  }
}

TEST_F(SequenceGuardTest, OnlyBlocksWithASelectedEntryAreChecked) {
  Shape shape = {"seq_far", SmallConfig({4, 128}, 16, 2), 128 * 9};
  Use(shape, kCpu);
  Baseline();
  LazyGuard guard(engine_->kv_layout(), *stored_);
  Sequence sequence = RestoredLazily(guard, 8, /*scanned_too=*/true);
  test::SeededRandom random(1);
  ASSERT_TRUE(Feed(sequence, 128 * 8 + 1, random, logits_.data()).ok());
  const KvLayout& layout = engine_->kv_layout();
  std::map<int32_t, size_t> blocks_of_plane;
  for (const auto& [block, plane] : guard.checked) ++blocks_of_plane[plane];
  EXPECT_EQ(blocks_of_plane[layout.index_plane[0]], 8u);
  EXPECT_EQ(blocks_of_plane[layout.entry_plane[1]], 8u);
  EXPECT_GE(blocks_of_plane[layout.entry_plane[0]], 1u);
  EXPECT_LE(blocks_of_plane[layout.entry_plane[0]], 2u);
  for (size_t p = 0; p < layout.planes.size(); ++p)
    EXPECT_EQ(sequence.HasUnchecked(static_cast<int32_t>(p)), !layout.planes[p].scanned);
}

TEST_F(SequenceGuardTest, ABadBlockEndsTheForwardAndCuttingBackMendsTheSequence) {
  Use(SequenceShapes()[1], kCpu);
  const Bytes final_state = Baseline();
  const auto planes = static_cast<int32_t>(engine_->kv_layout().planes.size());
  int bad_blocks_met = 0;
  for (int32_t plane = 0; plane < planes; ++plane) {
    SCOPED_TRACE(plane);
    LazyGuard guard(engine_->kv_layout(), *stored_);
    guard.bad = {1, plane};
    Sequence sequence = RestoredLazily(guard, 3, /*scanned_too=*/true);
    test::SeededRandom random(1);
    std::vector<float> logits(logits_.size());
    const base::Status status = Feed(sequence, shape_.tokens, random, logits.data());
    if (status.ok()) continue;  // no entry of the bad block was selected
    ++bad_blocks_met;
    EXPECT_EQ(base::Message(status), "bad block");
    sequence.TruncateToBlocks(1);
    RestoreOk(sequence);
    guard.bad = {-1, -1};
    ExpectSameToTheEnd(sequence, final_state, 2);
  }
  EXPECT_GE(bad_blocks_met, 3);  // every scanned plane at least
}

TEST_F(SequenceGuardTest, AForkNeedsItsOwnGuard) {
  Use(SequenceShapes()[0], kCpu);
  const Bytes final_state = Baseline();
  LazyGuard guard(engine_->kv_layout(), *stored_);
  Sequence sequence = RestoredLazily(guard, 2, /*scanned_too=*/true);
  Sequence fork = sequence.Fork();
  LazyGuard other(engine_->kv_layout(), *stored_);
  for (int64_t b = 0; b < 2; ++b) fork.LendBlock(b, other.planes(b));
  fork.set_guard(&other);
  ExpectSameToTheEnd(fork, final_state, 1);
  EXPECT_TRUE(guard.checked.empty());
  ExpectSameToTheEnd(sequence, final_state, 1);
  EXPECT_EQ(guard.checked, other.checked);
}

// --- Draft stages ---

class SequenceDraftTest : public SequenceTest {
 protected:
  // Feeds tokens one by one up to `end` and drafts along; entries' logits are kept by position. `hidden` of
  // the last fed token waits for its next token.
  void FeedAndDraft(Sequence& sequence, int64_t end, std::map<int64_t, std::vector<float>>& drafts) {
    const auto width = static_cast<size_t>(shape_.config.hc_mult * shape_.config.hidden_size);
    std::vector<float> logits(vocab());
    while (sequence.position() < end) {
      const auto at = static_cast<size_t>(sequence.position());
      std::vector<float> hidden(width);
      const model::Feed feed{
          .sequence = &sequence, .tokens = std::span(tokens_).subspan(at, 1), .hidden_out = hidden};
      ASSERT_TRUE(engine_->Forward({&feed, 1}).ok());
      const base::Status status = engine_->ForwardDraft({.sequence = &sequence,
                                                         .stage = 0,
                                                         .next_tokens = std::span(tokens_).subspan(at + 1, 1),
                                                         .hidden = hidden,
                                                         .logits_out = logits});
      ASSERT_TRUE(status.ok()) << status;
      drafts[static_cast<int64_t>(at)] = logits;
    }
  }
};

TEST_F(SequenceDraftTest, AfterARestoreDraftsStartWithAnEmptyWindow) {
  Use(SequenceShapes()[1], kCpu);  // a window of 37
  const Bytes final_state = Baseline();
  std::map<int64_t, std::vector<float>> never_stopped;
  Sequence plain = engine_->NewSequence();
  FeedAndDraft(plain, 256 + 60, never_stopped);

  std::map<int64_t, std::vector<float>> restored;
  Sequence sequence = Restored(2);
  EXPECT_EQ(sequence.draft_position(0), 256);
  FeedAndDraft(sequence, 256 + 60, restored);
  EXPECT_NE(restored.at(256), never_stopped.at(256));
  for (int64_t p = 256 + 37 - 1; p < 256 + 60; ++p) {  // the window is full
    EXPECT_EQ(restored.at(p), never_stopped.at(p)) << p;
  }
  // Rows of another past are not seen.
  std::map<int64_t, std::vector<float>> cut_back;
  plain.TruncateToBlocks(2);
  RestoreOk(plain);
  EXPECT_EQ(plain.draft_position(0), 256);
  FeedAndDraft(plain, 256 + 60, cut_back);
  EXPECT_EQ(cut_back, restored);
  ExpectSameToTheEnd(plain, final_state, 3);  // and nothing else knows of drafts
}

// --- Programmer's errors ---

class SequenceDeathTest : public SequenceTest {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    Use(SequenceShapes()[0], kF32);
  }
  void FeedOk(Sequence& sequence, int64_t end) {
    test::SeededRandom random(1);
    ASSERT_TRUE(Feed(sequence, end, random, logits_.data()).ok());
  }
};

TEST_F(SequenceDeathTest, MisuseIsCaught) {
  Sequence sequence = engine_->NewSequence();
  FeedOk(sequence, 130);
  EXPECT_DEATH(sequence.TakeBlock(1), "CHECK failed");  // not complete
  EXPECT_DEATH(sequence.TakeBlock(-1), "CHECK failed");
  EXPECT_DEATH(sequence.LendBlock(1, {}), "CHECK failed");  // not complete
  EXPECT_DEATH(sequence.LendBlock(0, {}), "CHECK failed");  // too few planes
  EXPECT_DEATH(sequence.Fork(), "CHECK failed");            // owns block 0
  EXPECT_DEATH(sequence.TruncateToBlocks(2), "CHECK failed");
  Bytes tail(static_cast<size_t>(tail_bytes()));
  EXPECT_DEATH(sequence.SaveTail(tail), "CHECK failed");  // not at a boundary
  const HeapBlock block = sequence.TakeBlock(0);
  EXPECT_DEATH(sequence.TakeBlock(0), "CHECK failed");  // not its own any more
  Stored elsewhere(sequence.layout());
  elsewhere.Add(block.get());
  EXPECT_DEATH(sequence.AppendLentBlock(elsewhere.planes(0), none_), "CHECK failed");  // not at a boundary
  sequence.TruncateToBlocks(1);
  EXPECT_DEATH(FeedOk(sequence, 131), "CHECK failed");  // no tail
  EXPECT_DEATH(sequence.SaveTail(tail), "CHECK failed");
  EXPECT_DEATH(sequence.Fork(), "CHECK failed");
}

TEST_F(SequenceDeathTest, UncheckedPlanesWithoutAGuardAreCaught) {
  Baseline();
  Sequence sequence = engine_->NewSequence();
  Append(sequence, 1, std::vector<uint8_t>(none_.size(), 1));
  RestoreOk(sequence);
  EXPECT_DEATH(FeedOk(sequence, 129), "CHECK failed");
}

}  // namespace
}  // namespace holdfast::model
