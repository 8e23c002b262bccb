#include "model/kv_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/number_formats.h"
#include "model/synth.h"
#include "tests/support/seeded_random.h"

namespace holdfast::model {
namespace {

double BytesPerToken(const ModelConfig& config) {
  const KvLayout layout = MakeKvLayout(config, KvMode::kStored);
  return static_cast<double>(layout.block_bytes()) / layout.block_tokens;
}

// Values of mixed size with some zeros, as activations have.
std::vector<float> RandomValues(test::SeededRandom& random, int32_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  const auto exponent = static_cast<int>(random.Between(-20, 6));
  for (float& v : values) {
    v = random.Percent(5) ? 0.0f
                          : std::ldexp(static_cast<float>(random.Between(-(1 << 20), 1 << 20)),
                                       exponent - 20 + static_cast<int>(random.Between(-6, 0)));
  }
  return values;
}

// Spec 8.1.
TEST(KvLayoutTest, PublishedModelsTakeThePublishedBytesPerToken) {
  EXPECT_DOUBLE_EQ(BytesPerToken(SynthConfig(SynthShape::kFlash).value()), 3514.25);
  EXPECT_NEAR(BytesPerToken(SynthConfig(SynthShape::kPro).value()), 5031.4, 0.05);
  EXPECT_EQ(EntryCodec(KvMode::kStored, 512, 64).bytes(), 584);
  EXPECT_EQ(IndexCodec(KvMode::kStored, 128).bytes(), 68);
}

// Spec 8.1: 128 window rows of 584 bytes a layer, and float32 rows of every compressor.
TEST(KvLayoutTest, TailHoldsWindowsAndPendingRows) {
  const ModelConfig flash = SynthConfig(SynthShape::kFlash).value();
  const int64_t windows = int64_t{44} * 128 * 584;
  const int64_t csa = 2 * 8 * 1024 * 4 + 2 * 8 * 256 * 4;
  const int64_t hca = 2 * 128 * 512 * 4;
  EXPECT_EQ(TailBytes(flash, KvMode::kStored), windows + 21 * csa + 20 * hca);
}

// At a boundary: the windows of the layers, and the halves of four rows that the next entry overlaps.
TEST(KvLayoutTest, BoundaryTailHoldsWhatIsAliveThere) {
  const ModelConfig flash = SynthConfig(SynthShape::kFlash).value();
  const int64_t windows = int64_t{43} * 128 * 584;
  const int64_t csa = 2 * 4 * (512 + 128) * 4;
  EXPECT_EQ(BoundaryTailBytes(flash, KvMode::kStored), windows + 21 * csa);
  EXPECT_EQ(BoundaryTailBytes(flash, KvMode::kStored), 3'644'416);
}

TEST(KvLayoutTest, PlanesThatEveryStepScansComeFirst) {
  const KvLayout layout = MakeKvLayout(SynthConfig(SynthShape::kTiny).value(), KvMode::kStored);
  EXPECT_EQ(layout.block_tokens, 128);
  const std::vector<int32_t> entries = {-1, 4, 2, 5, 3, -1};
  const std::vector<int32_t> keys = {-1, 0, -1, 1, -1, -1};
  EXPECT_EQ(layout.entry_plane, entries);
  EXPECT_EQ(layout.index_plane, keys);
  for (size_t p = 0; p < layout.planes.size(); ++p) {
    const Plane& plane = layout.planes[p];
    EXPECT_EQ(plane.scanned, p < 4) << p;
    EXPECT_EQ(plane.kind, p < 2 ? PlaneKind::kIndexKeys : PlaneKind::kEntries) << p;
    EXPECT_EQ(plane.entries_per_block, p == 2 || p == 3 ? 1 : 32) << p;
    EXPECT_EQ(plane.entry_bytes, p < 2 ? layout.index_key.bytes() : layout.entry.bytes()) << p;
  }
  EXPECT_EQ(layout.index_key.bytes(), 68);
}

class EntryCodecTest : public ::testing::TestWithParam<std::pair<int32_t, int32_t>> {
 protected:
  const int32_t dim_ = GetParam().first;
  const int32_t rope_ = GetParam().second;
};

TEST_P(EntryCodecTest, F32KeepsEveryBit) {
  const EntryCodec codec(KvMode::kF32, dim_, rope_);
  test::SeededRandom random(1);
  const auto values = RandomValues(random, dim_);
  std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes()));
  std::vector<float> back(values.size());
  codec.Encode(values.data(), bytes.data());
  codec.Decode(bytes.data(), back.data());
  EXPECT_EQ(back, values);
}

// Encoding what was decoded gives the same values; each value moves by at most half a step of its group.
TEST_P(EntryCodecTest, StoredRoundsOnceAndByHalfAStepAtMost) {
  const EntryCodec codec(KvMode::kStored, dim_, rope_);
  ASSERT_EQ(codec.bytes() % 8, 0);
  for (const uint64_t seed : test::TestSeeds(200)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    const auto values = RandomValues(random, dim_);
    std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes()), std::byte{0xaa});
    std::vector<std::byte> again(bytes.size());
    std::vector<float> back(values.size());
    std::vector<float> twice(values.size());
    codec.Encode(values.data(), bytes.data());
    codec.Decode(bytes.data(), back.data());
    codec.Encode(back.data(), again.data());
    codec.Decode(again.data(), twice.data());
    EXPECT_EQ(twice, back);
    for (auto i = static_cast<size_t>(codec.scale_offset() + codec.nope() / 64); i < bytes.size(); ++i) {
      EXPECT_EQ(bytes[i], std::byte{0}) << "padding " << i;
    }
    for (int32_t i = 0; i < dim_; ++i) {
      const float x = values[static_cast<size_t>(i)];
      if (i >= codec.nope()) {
        EXPECT_EQ(back[static_cast<size_t>(i)], Bf16ToF32(F32ToBf16(x)));
        continue;
      }
      const auto* group = &values[static_cast<size_t>(i / 64 * 64)];
      float amax = kE4m3AmaxFloor;
      for (int j = 0; j < 64; ++j) amax = std::max(amax, std::fabs(group[j]));
      // Relative step 2^-3, halved by rounding; below the normal range 2^-10 of the scale, at most amax/224.
      const float limit = std::max(std::fabs(x) * 0x1p-4f, amax / 224 * 0x1p-10f);
      EXPECT_LE(std::fabs(back[static_cast<size_t>(i)] - x), limit) << i;
    }
  }
}

TEST_P(EntryCodecTest, QuantisedIsTheStoredGridWithRotatedDimsUntouched) {
  const EntryCodec stored(KvMode::kStored, dim_, rope_);
  const EntryCodec quantised(KvMode::kQuantised, dim_, rope_);
  test::SeededRandom random(7);
  const auto values = RandomValues(random, dim_);
  std::vector<std::byte> bytes(static_cast<size_t>(quantised.bytes()));
  std::vector<float> grid(values.size());
  std::vector<float> want(values.size());
  quantised.Encode(values.data(), bytes.data());
  quantised.Decode(bytes.data(), grid.data());
  stored.Encode(values.data(), bytes.data());
  stored.Decode(bytes.data(), want.data());
  std::copy(values.begin() + stored.nope(), values.end(), want.begin() + stored.nope());
  EXPECT_EQ(grid, want);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EntryCodecTest,
                         ::testing::Values(std::pair{512, 64}, std::pair{128, 64}, std::pair{192, 64},
                                           std::pair{96, 32}),
                         [](const auto& instance) { return "Dim" + std::to_string(instance.param.first); });

TEST(KvLayoutTest, ZeroAndTinyEntriesKeepTheFloorOfTheScale) {
  const EntryCodec codec(KvMode::kStored, 128, 64);
  std::vector<float> values(128, 0.0f);
  std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes()));
  std::vector<float> back(128, 1.0f);
  codec.Encode(values.data(), bytes.data());
  codec.Decode(bytes.data(), back.data());
  EXPECT_EQ(back, values);
  // 1e-4 / 448 lies between 2^-23 and 2^-22.
  EXPECT_EQ(static_cast<int>(bytes[static_cast<size_t>(codec.scale_offset())]), 127 - 22);
}

TEST(KvLayoutTest, IndexKeysRoundOnceToTheNearestCode) {
  const IndexCodec codec(KvMode::kStored, 128);
  const IndexCodec quantised(KvMode::kQuantised, 128);
  for (const uint64_t seed : test::TestSeeds(200)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    const auto values = RandomValues(random, 128);
    std::vector<std::byte> bytes(68);
    std::vector<std::byte> again(68);
    std::vector<std::byte> floats(512);
    std::vector<float> back(128);
    codec.Encode(values.data(), bytes.data());
    codec.Decode(bytes.data(), back.data());
    codec.Encode(back.data(), again.data());
    quantised.Encode(values.data(), floats.data());
    EXPECT_EQ(std::memcmp(floats.data(), back.data(), 512), 0);
    std::vector<float> twice(128);
    codec.Decode(again.data(), twice.data());
    EXPECT_EQ(twice, back);
    for (size_t i = 0; i < 128; ++i) {
      const float scale = E8m0ToF32(static_cast<uint8_t>(bytes[64 + i / 32]));
      for (const float other : kE2m1Values) {
        EXPECT_LE(std::fabs(back[i] - values[i]), std::fabs(other * scale - values[i])) << i;
      }
    }
  }
}

TEST(KvLayoutTest, ViewFindsEntriesAcrossBlocks) {
  std::byte first[12] = {};
  std::byte second[12] = {};
  std::byte* const blocks[] = {first, second};
  const PlaneView view{.blocks = blocks, .entries_per_block = 3, .entry_bytes = 4};
  EXPECT_EQ(view.entry(2), first + 8);
  EXPECT_EQ(view.entry(3), second);
}

}  // namespace
}  // namespace holdfast::model
