// Same tokens, same bits: random chunkings, batch mixes, thread counts and instruction sets, compared with
// memcmp.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "model/cpu/targets.h"
#include "model/engine.h"
#include "tests/model/synth_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::model {
namespace {

constexpr int32_t kMaxRows = 512;

struct Result {
  std::vector<float> logits;  // [T, vocab]
  uint64_t state = 0;
};

// The baseline: one sequence alone, one thread, chunks of 512, the best target.
const Result& Baseline(const Shape& shape, uint32_t stream, int64_t count) {
  static std::map<std::string, Result> cache;
  Result& result = cache[shape.name + "/" + std::to_string(stream) + "/" + std::to_string(count)];
  if (result.logits.empty()) {
    auto backend = MakeCpuBackend({.threads = 1, .pin_threads = false});
    Engine engine(shape.config, SynthWeights(shape).weights(), *backend, {.max_rows = kMaxRows});
    Sequence sequence = engine.NewSequence();
    const auto tokens = SynthTokens(shape, stream, count);
    const auto vocab = static_cast<size_t>(shape.config.vocab_size);
    result.logits.resize(tokens.size() * vocab);
    for (size_t at = 0; at < tokens.size(); at += kMaxRows) {
      const size_t n = std::min<size_t>(kMaxRows, tokens.size() - at);
      const Feed feed{.sequence = &sequence,
                      .tokens = std::span(tokens).subspan(at, n),
                      .logits = LogitRows::kAll,
                      .logits_out = std::span(result.logits).subspan(at * vocab, n * vocab)};
      const auto status = engine.Forward({&feed, 1});
      EXPECT_TRUE(status.ok()) << status;
    }
    result.state = StateHash(sequence);
  }
  return result;
}

// Sizes of the next feed: mostly what real use brings, and what lands beside the borders.
size_t NextCount(test::SeededRandom& random, int64_t position, size_t left, size_t room) {
  static constexpr int64_t kBorders[] = {3, 4, 127, 128, 129, 255, 256, 257, 511, 512, 513, 2047, 2048, 2049};
  size_t count = 1;
  switch (random.Below(5)) {
    case 0:
      count = 1 + random.Below(8);
      break;
    case 1:
      count = 1 + random.Below(200);
      break;
    case 2:
      count = kMaxRows;
      break;
    case 3: {
      const int64_t border = kBorders[random.Below(std::size(kBorders))];
      count = border > position ? static_cast<size_t>(border - position) : 1;
      break;
    }
    default:
      break;
  }
  return std::min({count, left, room});
}

struct Runner {
  uint32_t stream;
  std::vector<int32_t> tokens;
  Sequence sequence;
  size_t at = 0;
  std::vector<float> logits;
};

// Feeds `streams` sequences of `count` tokens in random mixed batches and compares every logit and the final
// state.
void CheckPlan(const Shape& shape, int64_t count, int threads, uint64_t seed, uint32_t streams) {
  SCOPED_TRACE("shape " + shape.name + " threads " + std::to_string(threads) + " seed " +
               std::to_string(seed));
  test::SeededRandom random(seed);
  auto backend = MakeCpuBackend({.threads = threads, .pin_threads = false});
  Engine engine(shape.config, SynthWeights(shape).weights(), *backend, {.max_rows = kMaxRows});
  const auto vocab = static_cast<size_t>(shape.config.vocab_size);
  std::vector<Runner> runners;
  for (uint32_t s = 0; s < streams; ++s)
    runners.push_back({s, SynthTokens(shape, s, count), engine.NewSequence(), 0, {}});
  for (;;) {
    std::vector<Feed> feeds;
    std::vector<Runner*> fed;
    size_t room = kMaxRows;
    for (Runner& r : runners) {
      if (r.at == r.tokens.size() || room == 0 || (runners.size() > 1 && random.Below(4) == 0)) continue;
      const size_t n = NextCount(random, static_cast<int64_t>(r.at), r.tokens.size() - r.at, room);
      r.logits.resize(n * vocab);
      feeds.push_back({.sequence = &r.sequence,
                       .tokens = std::span(r.tokens).subspan(r.at, n),
                       .logits = LogitRows::kAll,
                       .logits_out = r.logits});
      fed.push_back(&r);
      room -= n;
    }
    if (feeds.empty()) {
      if (std::all_of(runners.begin(), runners.end(),
                      [](const Runner& r) { return r.at == r.tokens.size(); }))
        break;
      continue;
    }
    const auto status = engine.Forward(feeds);
    ASSERT_TRUE(status.ok()) << status;
    for (size_t f = 0; f < feeds.size(); ++f) {
      Runner& r = *fed[f];
      const Result& want = Baseline(shape, r.stream, count);
      ASSERT_EQ(std::memcmp(r.logits.data(), &want.logits[r.at * vocab], r.logits.size() * sizeof(float)), 0)
          << "logits differ within positions " << r.at << " .. " << r.at + feeds[f].tokens.size() - 1
          << " of stream " << r.stream;
      r.at += feeds[f].tokens.size();
    }
  }
  for (const Runner& r : runners) EXPECT_EQ(StateHash(r.sequence), Baseline(shape, r.stream, count).state);
}

TEST(InvarianceTest, AnyChunkingBatchAndThreadCountGivesTheSameBits) {
  for (const Shape& shape : Shapes()) {
    if (shape.name == "selecting") continue;
    for (const uint64_t seed : test::TestSeeds(6))
      CheckPlan(shape, shape.tokens, 1 + static_cast<int>(seed % 4), seed, 3);
  }
}

TEST(InvarianceTest, WhereTopKSelectsAnyChunkingGivesTheSameBits) {
  const Shape shape = Shapes()[2];
  for (const uint64_t seed : test::TestSeeds(2))
    CheckPlan(shape, shape.tokens, 1 + static_cast<int>(seed % 4), seed, 1);
}

TEST(InvarianceTest, TokenByTokenGivesTheSameBitsAsOneChunk) {
  const Shape shape = Shapes()[0];
  auto backend = MakeCpuBackend({.threads = 2, .pin_threads = false});
  Engine engine(shape.config, SynthWeights(shape).weights(), *backend, {.max_rows = kMaxRows});
  Sequence sequence = engine.NewSequence();
  const auto tokens = SynthTokens(shape, 0, shape.tokens);
  const Result& want = Baseline(shape, 0, shape.tokens);
  const auto vocab = static_cast<size_t>(shape.config.vocab_size);
  std::vector<float> logits(vocab);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const Feed feed{.sequence = &sequence,
                    .tokens = std::span(tokens).subspan(i, 1),
                    .logits = LogitRows::kLast,
                    .logits_out = logits};
    ASSERT_TRUE(engine.Forward({&feed, 1}).ok());
    ASSERT_EQ(std::memcmp(logits.data(), &want.logits[i * vocab], vocab * sizeof(float)), 0)
        << "position " << i;
  }
  EXPECT_EQ(StateHash(sequence), want.state);
}

TEST(InvarianceTest, EveryInstructionSetGivesTheSameBits) {
  const auto targets = cpu::AvailableTargets();
  const Shape shape = Shapes()[1];
  const auto tokens = static_cast<int64_t>(test::Reduced(600));
  (void)Baseline(shape, 0, tokens);
  for (const int64_t target : targets) {
    SCOPED_TRACE(cpu::TargetName(target));
    cpu::ForceTarget(target);
    CheckPlan(shape, tokens, 2, 1, 1);
    cpu::ForceTarget(0);
  }
  std::printf("%zu instruction sets\n", targets.size());
}

}  // namespace
}  // namespace holdfast::model
