#include "model/virtual_kv.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "model/engine.h"
#include "tests/model/synth_testing.h"

namespace holdfast::model {
namespace {

using Bytes = std::vector<std::byte>;

Bytes Block(const KvLayout& layout, uint64_t seed, int64_t block) {
  Bytes bytes(static_cast<size_t>(layout.block_bytes()), std::byte{0xee});
  FillVirtualBlock(layout, seed, block, bytes);
  return bytes;
}

Bytes Tail(const ModelConfig& config, const KvLayout& layout, uint64_t seed, int64_t position) {
  Bytes bytes(static_cast<size_t>(BoundaryTailBytes(config, layout.mode)), std::byte{0xee});
  FillVirtualTail(config, layout, seed, position, bytes);
  return bytes;
}

TEST(VirtualKvTest, ContentFollowsFromSeedAndBlockAlone) {
  const ModelConfig config = Shapes()[0].config;
  const KvLayout layout = MakeKvLayout(config, KvMode::kStored);
  std::set<Bytes> seen;
  for (const uint64_t seed : {uint64_t{1}, uint64_t{2}, uint64_t{1} << 40}) {
    for (const int64_t block : {int64_t{0}, int64_t{1}, int64_t{8191}, int64_t{1} << 33}) {
      EXPECT_TRUE(seen.insert(Block(layout, seed, block)).second);
      EXPECT_FALSE(seen.insert(Block(layout, seed, block)).second);
    }
    EXPECT_TRUE(seen.insert(Tail(config, layout, seed, 128)).second);
    EXPECT_TRUE(seen.insert(Tail(config, layout, seed, 256)).second);
    EXPECT_FALSE(seen.insert(Tail(config, layout, seed, 256)).second);
  }
}

// Entries are what the codec writes for the values that they hold.
TEST(VirtualKvTest, EntriesAreFiniteAndOnTheStoredGrid) {
  for (const Shape& shape : Shapes()) {
    const KvLayout layout = MakeKvLayout(shape.config, KvMode::kStored);
    const Bytes block = Block(layout, 3, 5);
    const std::byte* at = block.data();
    for (const Plane& plane : layout.planes) {
      const bool main = plane.kind == PlaneKind::kEntries;
      std::vector<float> values(static_cast<size_t>(main ? layout.entry.dim() : layout.index_key.dim()));
      Bytes again(static_cast<size_t>(plane.entry_bytes));
      for (int32_t i = 0; i < plane.entries_per_block; ++i, at += plane.entry_bytes) {
        double sum = 0;
        if (main) {
          layout.entry.Decode(at, values.data());
          layout.entry.Encode(values.data(), again.data());
        } else {
          layout.index_key.Decode(at, values.data());
          layout.index_key.Encode(values.data(), again.data());
        }
        for (const float v : values) sum += double{v} * v;
        const double rms = std::sqrt(sum / static_cast<double>(values.size()));
        EXPECT_GT(rms, 0.05);
        EXPECT_LT(rms, 5.0);
        ASSERT_EQ(std::memcmp(at, again.data(), again.size()), 0) << shape.name;
      }
    }
    EXPECT_EQ(at, block.data() + block.size());
  }
}

TEST(VirtualKvTest, OtherModesHoldTheSameValues) {
  const ModelConfig config = Shapes()[0].config;
  const KvLayout stored = MakeKvLayout(config, KvMode::kStored);
  const Bytes packed = Block(stored, 3, 5);
  for (const KvMode mode : {KvMode::kF32, KvMode::kQuantised}) {
    const KvLayout layout = MakeKvLayout(config, mode);
    const Bytes block = Block(layout, 3, 5);
    std::vector<float> values(static_cast<size_t>(stored.index_key.dim()));
    stored.index_key.Decode(packed.data(), values.data());  // the first plane
    EXPECT_EQ(std::memcmp(block.data(), values.data(), values.size() * sizeof(float)), 0);
  }
}

TEST(VirtualKvTest, ATailHasRowsOnlyForPositionsThatExist) {
  ModelConfig config = Shapes()[0].config;
  config.sliding_window = 200;
  const KvLayout layout = MakeKvLayout(config, KvMode::kStored);
  const auto row = static_cast<size_t>(layout.entry.bytes());
  EXPECT_EQ(Tail(config, layout, 1, 0), Bytes(Tail(config, layout, 1, 0).size()));
  const Bytes tail = Tail(config, layout, 1, 128);
  const Bytes zeros(72 * row);
  EXPECT_EQ(std::memcmp(&tail[128 * row], zeros.data(), zeros.size()), 0);
  EXPECT_NE(std::memcmp(&tail[127 * row], zeros.data(), row), 0);
  EXPECT_NE(std::memcmp(&tail[200 * row], zeros.data(), row), 0);
}

// Counts which blocks were selected from.
class CountingGuard final : public BlockGuard {
 public:
  base::Status Check(int64_t block, int32_t plane) override {
    checked.insert({plane, block});
    return {};
  }
  std::set<std::pair<int32_t, int64_t>> checked;
};

void ForwardAfterVirtualKv(const Shape& shape, Backend& backend, int64_t blocks) {
  Engine engine(shape.config, SynthWeights(shape).weights(), backend, {.max_rows = 64});
  const KvLayout& layout = engine.kv_layout();
  std::vector<Bytes> memory;
  Sequence sequence = engine.NewSequence();
  CountingGuard guard;
  sequence.set_guard(&guard);
  std::vector<uint8_t> unchecked;
  for (const Plane& plane : layout.planes) unchecked.push_back(plane.scanned ? 0 : 1);
  for (int64_t b = 0; b < blocks; ++b) {
    memory.push_back(Block(layout, 9, b));
    std::vector<const std::byte*> planes;
    const std::byte* at = memory.back().data();
    for (const Plane& plane : layout.planes) {
      planes.push_back(at);
      at += plane.block_bytes();
    }
    sequence.AppendLentBlock(planes, unchecked);
  }
  ASSERT_TRUE(
      sequence.RestoreTail(sequence.position(), Tail(shape.config, layout, 9, sequence.position())).ok());
  const auto tokens = SynthTokens(shape, 0, 10);
  const auto vocab = static_cast<size_t>(shape.config.vocab_size);
  std::vector<float> logits(tokens.size() * vocab);
  const Feed feed{.sequence = &sequence, .tokens = tokens, .logits = LogitRows::kAll, .logits_out = logits};
  const base::Status status = engine.Forward({&feed, 1});
  ASSERT_TRUE(status.ok()) << status;
  // Different tokens see different things.
  EXPECT_NE(std::memcmp(logits.data(), &logits[vocab], vocab * sizeof(float)), 0);
  // What is selected lies in many blocks, not at one end.
  const int32_t plane = layout.entry_plane[1];
  std::set<int64_t> chosen;
  for (const auto& [p, block] : guard.checked) {
    if (p == plane) chosen.insert(block);
  }
  EXPECT_GT(static_cast<int64_t>(chosen.size()), blocks / 10);
  EXPECT_LT(*chosen.begin(), blocks / 4);
  EXPECT_GT(*chosen.rbegin(), 3 * blocks / 4);
}

TEST(VirtualKvTest, AForwardAfterItIsFinite) {
  const Shape shape = Shapes()[2];  // layer 1 selects 64 of many entries
  auto cpu = MakeCpuBackend({.threads = 2, .pin_threads = false});
  ForwardAfterVirtualKv(shape, *cpu, 100);
  auto reference = MakeReferenceBackend({.threads = 2});
  ForwardAfterVirtualKv(shape, *reference, 40);
}

}  // namespace
}  // namespace holdfast::model
