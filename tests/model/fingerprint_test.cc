#include "model/fingerprint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <set>

#include "base/coding.h"
#include "tests/model/checkpoint_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::model {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// --- The configuration ---

TEST(ConfigTextTest, EveryFieldThatReachesAResultIsInIt) {
  const ModelConfig config = SynthConfig(SynthShape::kTiny).value();
  const std::function<void(ModelConfig&)> changes[] = {
      [](ModelConfig& c) { c.vocab_size++; },
      [](ModelConfig& c) { c.hidden_size++; },
      [](ModelConfig& c) { c.num_layers--; },
      [](ModelConfig& c) { c.num_heads++; },
      [](ModelConfig& c) { c.head_dim++; },
      [](ModelConfig& c) { c.rope_dim++; },
      [](ModelConfig& c) { c.q_lora_rank++; },
      [](ModelConfig& c) { c.o_lora_rank++; },
      [](ModelConfig& c) { c.o_groups++; },
      [](ModelConfig& c) { c.sliding_window++; },
      [](ModelConfig& c) { c.compress_ratios[1] = 128; },
      [](ModelConfig& c) { c.index_heads++; },
      [](ModelConfig& c) { c.index_head_dim++; },
      [](ModelConfig& c) { c.index_topk++; },
      [](ModelConfig& c) { c.window_rope.theta += 1; },
      [](ModelConfig& c) { c.compress_rope.theta += 1; },
      [](ModelConfig& c) { c.compress_rope.factor += 1; },
      [](ModelConfig& c) { c.compress_rope.original_max_positions++; },
      [](ModelConfig& c) { c.compress_rope.beta_fast += 1; },
      [](ModelConfig& c) { c.compress_rope.beta_slow += 1; },
      [](ModelConfig& c) { c.num_experts++; },
      [](ModelConfig& c) { c.experts_per_token++; },
      [](ModelConfig& c) { c.num_hash_layers++; },
      [](ModelConfig& c) { c.moe_inter_size++; },
      [](ModelConfig& c) { c.routed_scale += 0x1p-20f; },
      [](ModelConfig& c) { c.swiglu_limit += 1; },
      [](ModelConfig& c) { c.hc_mult++; },
      [](ModelConfig& c) { c.hc_sinkhorn_iters++; },
      [](ModelConfig& c) { c.hc_eps *= 1.0001f; },
      [](ModelConfig& c) { c.rms_eps *= 1.0001f; },
      [](ModelConfig& c) { c.fp8_block_rows++; },
      [](ModelConfig& c) { c.fp8_block_cols++; },
  };
  std::set<std::string> texts = {ConfigText(config)};
  for (const auto& change : changes) {
    ModelConfig changed = config;
    change(changed);
    EXPECT_TRUE(texts.insert(ConfigText(changed)).second) << texts.size();
  }
}

TEST(ConfigTextTest, FieldsThatChangeNoResultAreNotInIt) {
  const ModelConfig config = SynthConfig(SynthShape::kTiny).value();
  ModelConfig changed = config;
  changed.max_positions = 4096;
  changed.bos_token_id = 3;
  changed.eos_token_id = 4;
  changed.draft = DraftKind::kNone;
  changed.num_draft_stages = 0;
  changed.compress_ratios.pop_back();
  changed.dspark_markov_rank = 7;
  changed.dspark_target_layers = 2;
  EXPECT_EQ(ConfigText(changed), ConfigText(config));
}

TEST(ConfigTextTest, ReadingAConfigAgainGivesTheSameText) {
  for (const SynthShape shape :
       {SynthShape::kFlash, SynthShape::kPro, SynthShape::kNano, SynthShape::kTiny}) {
    const ModelConfig config = SynthConfig(shape).value();
    EXPECT_EQ(ConfigText(ParseConfig(FormatConfig(config), "config.json").value()), ConfigText(config));
  }
}

TEST(ConfigTextTest, LinesAreNamedAndInFixedOrder) {
  const std::string text = ConfigText(SynthConfig(SynthShape::kTiny).value());
  EXPECT_THAT(text, ::testing::StartsWith("vocab_size="));
  EXPECT_THAT(text, HasSubstr("\ncompress_ratios=0,4,128,4,128\n"));
  EXPECT_THAT(text, HasSubstr("\nwindow_rope.theta=461c4000\n"));  // the bits of 10000
}

// --- The root key ---

base::Sha256Digest Digest(uint8_t fill) {
  base::Sha256Digest digest;
  digest.fill(static_cast<std::byte>(fill));
  return digest;
}

// On disk: a change here makes every stored block unreachable. Computed once by a script of its own.
TEST(RootKeyTest, IsWhatItAlwaysWas) {
  EXPECT_EQ(base::ToHex(RootKey("a=1\n", Digest(0x5a), 1, "cpu/kv-stored/1")),
            "db46c5cafe44c9651f9f2056915173f2eaef33eb5d99495beb1caf186a25f2f5");
}

TEST(RootKeyTest, DependsOnEachPartAndOnWhereOneEnds) {
  std::set<base::Sha256Digest> keys;
  EXPECT_TRUE(keys.insert(RootKey("ab", Digest(1), 1, "cd")).second);
  EXPECT_TRUE(keys.insert(RootKey("ac", Digest(1), 1, "cd")).second);
  EXPECT_TRUE(keys.insert(RootKey("ab", Digest(2), 1, "cd")).second);
  EXPECT_TRUE(keys.insert(RootKey("ab", Digest(1), 2, "cd")).second);
  EXPECT_TRUE(keys.insert(RootKey("ab", Digest(1), 1, "ce")).second);
  EXPECT_TRUE(keys.insert(RootKey("abc", Digest(1), 1, "d")).second);
  EXPECT_TRUE(keys.insert(RootKey("a", Digest(1), 1, "bcd")).second);
}

// --- The weights ---

class WeightsHashTest : public ::testing::Test {
 protected:
  WeightsHashTest() { Open(); }

  void Open() {
    checkpoint_ = nullptr;
    auto opened = made_.Open();
    HF_CHECK(opened.ok());
    checkpoint_ = std::move(*opened);
  }
  static const std::string& Shard() {
    static const std::string& path = *new std::string(DamagedCheckpoint::kShard);
    return path;
  }
  uint64_t ShardBytes() { return made_.fs.Stat(Shard())->size_bytes; }
  uint64_t DataBegin() { return ShardBytes() - made_.data.size(); }

  WeightsHashOptions Cached() { return {.cache = {&made_.fs, "cache"}}; }
  // A sampling that reads a small part of this checkpoint.
  static WeightsHashOptions Sampling() { return {.sample_above_bytes = 1 << 20}; }

  WeightsHash Hash(HashDepth depth, const WeightsHashOptions& options) {
    const auto hash = HashWeights(checkpoint_->weights(), depth, options);
    EXPECT_TRUE(hash.ok()) << hash.status();
    return hash.value_or(WeightsHash());
  }
  base::Sha256Digest Full() { return Hash(HashDepth::kFull, {}).digest; }

  DamagedCheckpoint made_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

TEST_F(WeightsHashTest, OneFlippedBitInAnyTensorChangesIt) {
  const auto before = Full();
  EXPECT_EQ(Full(), before);
  std::set<base::Sha256Digest> seen = {before};
  test::SeededRandom random(1);
  size_t tensors = 0;
  for (const auto& [name, entry] : made_.header.items()) {
    if (name == "__metadata__" || (test::Reduced(4) == 1 && random.Percent(75))) continue;
    ++tensors;
    const auto begin = entry["data_offsets"][0].get<uint64_t>();
    const auto end = entry["data_offsets"][1].get<uint64_t>();
    const uint64_t bit = (DataBegin() + begin) * 8 + random.Below((end - begin) * 8);
    made_.fs.FlipBit(Shard(), bit);
    EXPECT_TRUE(seen.insert(Full()).second) << name;
    EXPECT_FALSE(Hash(HashDepth::kSampled, {}).provisional);
    made_.fs.FlipBit(Shard(), bit);
  }
  EXPECT_GE(tensors, 10u);
  EXPECT_EQ(Full(), before);
}

TEST_F(WeightsHashTest, SmallShardsHaveOneHashAtBothDepths) {
  const WeightsHash sampled = Hash(HashDepth::kSampled, {});
  const WeightsHash full = Hash(HashDepth::kFull, {});
  EXPECT_EQ(sampled.digest, full.digest);
  EXPECT_FALSE(sampled.provisional);
  EXPECT_FALSE(full.provisional);
}

TEST_F(WeightsHashTest, LargeShardsAreSampledAndSoIsTheHashProvisional) {
  const WeightsHash sampled = Hash(HashDepth::kSampled, Sampling());
  EXPECT_TRUE(sampled.provisional);
  EXPECT_NE(sampled.digest, Full());
  const WeightsHash full = Hash(HashDepth::kFull, Sampling());
  EXPECT_FALSE(full.provisional);
  EXPECT_EQ(full.digest, Full());
  // The header, the first page after it and the last page are always among what is read.
  for (const uint64_t offset : {uint64_t{9}, DataBegin() - 1, DataBegin(), DataBegin() + 4095,
                                ShardBytes() - 1, ShardBytes() - 4096}) {
    made_.fs.FlipBit(Shard(), offset * 8 + 3);
    EXPECT_NE(Hash(HashDepth::kSampled, Sampling()).digest, sampled.digest) << offset;
    made_.fs.FlipBit(Shard(), offset * 8 + 3);
  }
  // 256 pages are read, evenly spread: of so many flips in an 8 MB shard some are seen, not all.
  int seen = 0;
  for (int i = 0; i < 40; ++i) {
    const uint64_t bit = (DataBegin() + made_.data.size() * static_cast<uint64_t>(i) / 40 + 2000) * 8;
    made_.fs.FlipBit(Shard(), bit);
    seen += Hash(HashDepth::kSampled, Sampling()).digest != sampled.digest ? 1 : 0;
    made_.fs.FlipBit(Shard(), bit);
  }
  EXPECT_GT(seen, 0);
  EXPECT_LT(seen, 40);
}

TEST_F(WeightsHashTest, ShardsCountInTheirOrderNotByTheirNames) {
  test::SimClock clock;
  test::SimFileSystem fs(clock);
  const auto config = SynthConfig(SynthShape::kTiny, {.layers = 3, .experts = 4, .vocab = 64});
  ASSERT_TRUE(WriteSynthCheckpoint(fs, *config, "a", {.seed = 1, .max_shard_bytes = 1 << 20}).ok());
  ASSERT_TRUE(WriteSynthCheckpoint(fs, *config, "b", {.seed = 1, .max_shard_bytes = 1 << 20}).ok());
  ASSERT_TRUE(WriteSynthCheckpoint(fs, *config, "c", {.seed = 2, .max_shard_bytes = 1 << 20}).ok());
  std::vector<base::Sha256Digest> digests;
  for (const char* directory : {"a", "b", "c"}) {
    const auto checkpoint = Checkpoint::Open(fs, directory);
    ASSERT_TRUE(checkpoint.ok());
    ASSERT_GT((*checkpoint)->weights().shards.size(), 2u);
    digests.push_back(HashWeights((*checkpoint)->weights(), HashDepth::kFull, {})->digest);
    ModelWeights swapped;
    swapped.shards = (*checkpoint)->weights().shards;
    std::swap(swapped.shards[0], swapped.shards[1]);
    EXPECT_NE(HashWeights(swapped, HashDepth::kFull, {})->digest, digests.back());
  }
  EXPECT_EQ(digests[0], digests[1]);
  EXPECT_NE(digests[0], digests[2]);
}

TEST_F(WeightsHashTest, ProgressReachesTheTotalAndAStopIsObeyed) {
  uint64_t last = 0;
  uint64_t total = 0;
  WeightsHashOptions options = Cached();
  options.progress = [&](uint64_t done, uint64_t of) {
    EXPECT_GT(done, last);
    last = done;
    total = of;
  };
  std::stop_source stop;
  options.stop = stop.get_token();
  stop.request_stop();
  EXPECT_EQ(HashWeights(checkpoint_->weights(), HashDepth::kFull, options).status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(last, 0u);
  options.stop = {};
  Hash(HashDepth::kFull, options);
  EXPECT_EQ(last, ShardBytes());
  EXPECT_EQ(total, ShardBytes());
  last = 0;
  Hash(HashDepth::kFull, options);
  EXPECT_EQ(last, 0u) << "nothing is left to read";
}

TEST_F(WeightsHashTest, AShardThatWasCutOffIsDataLossAndNotRemembered) {
  auto file = made_.fs.Open(Shard(), base::OpenMode::kReadWrite);
  ASSERT_TRUE((*file)->Truncate(ShardBytes() / 2).ok());
  const base::Status status = HashWeights(checkpoint_->weights(), HashDepth::kFull, Cached()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(base::Message(status), HasSubstr(Shard()));
  EXPECT_FALSE(CachedWeightsHash(checkpoint_->weights(), Cached().cache).has_value());
}

// --- The cache. A bit flipped by the disk changes no time, so whether the cache was used shows. ---

TEST_F(WeightsHashTest, AKnownShardIsNotReadAgain) {
  EXPECT_FALSE(CachedWeightsHash(checkpoint_->weights(), Cached().cache).has_value());
  const auto before = Hash(HashDepth::kFull, Cached()).digest;
  EXPECT_EQ(CachedWeightsHash(checkpoint_->weights(), Cached().cache)->digest, before);
  made_.fs.FlipBit(Shard(), DataBegin() * 8);
  EXPECT_EQ(Hash(HashDepth::kFull, Cached()).digest, before);
  Open();  // another process
  EXPECT_EQ(Hash(HashDepth::kFull, Cached()).digest, before);
  EXPECT_EQ(CachedWeightsHash(checkpoint_->weights(), Cached().cache)->digest, before);
  EXPECT_NE(Full(), before);
}

TEST_F(WeightsHashTest, ATouchedShardIsReadAgain) {
  const auto before = Hash(HashDepth::kFull, Cached()).digest;
  made_.fs.FlipBit(Shard(), DataBegin() * 8);
  made_.clock.Advance(1);
  auto file = made_.fs.Open(Shard(), base::OpenMode::kReadWrite);
  std::byte first[1];
  ASSERT_TRUE((*file)->ReadAt(0, first).ok());
  ASSERT_TRUE((*file)->WriteAt(0, first).ok());
  Open();
  EXPECT_FALSE(CachedWeightsHash(checkpoint_->weights(), Cached().cache).has_value());
  const auto after = Hash(HashDepth::kFull, Cached()).digest;
  EXPECT_NE(after, before);
  EXPECT_EQ(after, Full());
}

TEST_F(WeightsHashTest, DepthsAreRememberedApart) {
  WeightsHashOptions options = Sampling();
  options.cache = Cached().cache;
  const WeightsHash sampled = Hash(HashDepth::kSampled, options);
  EXPECT_FALSE(CachedWeightsHash(checkpoint_->weights(), options.cache).has_value());
  const WeightsHash full = Hash(HashDepth::kFull, options);
  EXPECT_NE(full.digest, sampled.digest);
  made_.fs.FlipBit(Shard(), DataBegin() * 8);
  EXPECT_EQ(Hash(HashDepth::kSampled, options).digest, sampled.digest);
  EXPECT_EQ(Hash(HashDepth::kFull, options).digest, full.digest);
}

TEST_F(WeightsHashTest, OneCacheServesManyCheckpoints) {
  DamagedCheckpoint other({.layers = 2, .experts = 4, .vocab = 64});
  made_.WriteFile("cache", "");
  const auto first = Hash(HashDepth::kFull, Cached()).digest;
  // The other checkpoint's disk counts inodes as ours does, so its shard has to differ by more than that.
  const auto opened = other.Open();
  ASSERT_TRUE(opened.ok());
  const auto second = HashWeights((*opened)->weights(), HashDepth::kFull, Cached());
  ASSERT_TRUE(second.ok());
  EXPECT_NE(second->digest, first);
  EXPECT_EQ(CachedWeightsHash((*opened)->weights(), Cached().cache)->digest, second->digest);
  EXPECT_EQ(CachedWeightsHash(checkpoint_->weights(), Cached().cache)->digest, first);
}

TEST_F(WeightsHashTest, ADamagedCacheIsIgnoredAndReplaced) {
  Hash(HashDepth::kFull, Cached());
  const std::string good = made_.ReadFile("cache");
  made_.fs.FlipBit(Shard(), DataBegin() * 8);
  const auto truth = Full();
  const auto expect_ignored = [&](const std::string& bad, const std::string& what) {
    made_.WriteFile("cache", bad);
    EXPECT_FALSE(CachedWeightsHash(checkpoint_->weights(), Cached().cache).has_value()) << what;
  };
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    expect_ignored(bad, "byte " + std::to_string(i));
    expect_ignored(good.substr(0, i), "first " + std::to_string(i) + " bytes");
  }
  expect_ignored(good + "\n", "a line more");
  expect_ignored(good + good, "twice");
  expect_ignored(std::string(2 << 20, 'x'), "too large");
  EXPECT_EQ(Hash(HashDepth::kFull, Cached()).digest, truth);
  EXPECT_EQ(CachedWeightsHash(checkpoint_->weights(), Cached().cache)->digest, truth);
}

TEST_F(WeightsHashTest, LinesThatNobodyWroteAreIgnoredThoughTheChecksumFits) {
  for (const std::string line : {"1 2 3", "1 2 3 4 5 all zz", "one 2 3 4 5 all 00", ""}) {
    const std::string text = "holdfast weights hashes 1\n" + line + "\n";
    char checksum[32];
    std::snprintf(checksum, sizeof(checksum), "xxh3 %016llx\n",
                  static_cast<unsigned long long>(base::Xxh3(base::AsBytes(text))));
    made_.WriteFile("cache", text + checksum);
    EXPECT_FALSE(CachedWeightsHash(checkpoint_->weights(), Cached().cache).has_value());
    EXPECT_EQ(Hash(HashDepth::kFull, Cached()).digest, Full());
  }
}

TEST_F(WeightsHashTest, ACacheThatCannotBeWrittenIsDoneWithout) {
  made_.fs.FailRandomly(test::SimOp::kCreate, 100, ENOSPC);
  EXPECT_EQ(Hash(HashDepth::kFull, Cached()).digest, Full());
  EXPECT_FALSE(CachedWeightsHash(checkpoint_->weights(), Cached().cache).has_value());
}

}  // namespace
}  // namespace holdfast::model
