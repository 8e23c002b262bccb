#include "base/random.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"

namespace holdfast::base {
namespace {

// Random123 1.09, examples/kat_vectors, "philox4x32 10".
TEST(PhiloxTest, MatchesThePublishedVectors) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// The layout of key and counter is on disk, in the sense that stored sessions depend on it.
TEST(RandomBitsTest, TakesItsWordsFromTheDocumentedBlock) {
  const RandomPoint point{.seed = 0x299f31d0'a4093822, .stream = 0x85a308d3, .position = 0x03707344'13198a2e};
  EXPECT_EQ(RandomBits(point, 0x243f6a88), 0x94fdcceb'd16cfe09u);
  EXPECT_EQ(RandomFloat(point, 0x243f6a88), static_cast<float>(0x94fdcc) / 16777216.0f);
  EXPECT_EQ(RandomDouble(point, 0x243f6a88), std::ldexp(static_cast<double>(0x94fdccebd16cfe09u >> 11), -53));
}

TEST(RandomBitsTest, IsAConstantExpression) {
  static_assert(RandomBits({}, 0) == 0xe169c58d'6627e8d5u);
  static_assert(RandomFloat({}, 0) < 1.0f);
}

TEST(RandomBitsTest, EveryFieldMatters) {
  std::set<uint64_t> values;
  const RandomPoint zero;
  values.insert(RandomBits(zero, 0));
  values.insert(RandomBits(zero, 1));
  for (const uint64_t v : {uint64_t{1}, uint64_t{1} << 32}) {
    values.insert(RandomBits({.seed = v}, 0));
    values.insert(RandomBits({.position = v}, 0));
  }
  values.insert(RandomBits({.stream = 1}, 0));
  EXPECT_EQ(values.size(), 7u);
}

TEST(RandomBitsTest, FloatsAndDoublesStayBelowOneAndFillTheirRange) {
  std::array<int, 16> buckets{};
  for (uint64_t position = 0; position < 16'000; ++position) {
    const RandomPoint point{.seed = 7, .position = position};
    const float f = RandomFloat(point, 0);
    const double d = RandomDouble(point, 0);
    ASSERT_TRUE(f >= 0.0f && f < 1.0f && d >= 0.0 && d < 1.0);
    ASSERT_LT(std::abs(d - static_cast<double>(f)), 0x1p-24);
    ++buckets[static_cast<size_t>(f * 16)];
  }
  for (const int count : buckets) EXPECT_NEAR(count, 1000, 150);  // 5 sigma
}

TEST(EntropyTest, KernelFillsAnySizeAndDoesNotRepeat) {
  std::vector<std::byte> bytes(1000);
  RealEntropy().Fill(std::span(bytes).first(0));
  EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; }));
  RealEntropy().Fill(bytes);
  EXPECT_FALSE(std::all_of(bytes.begin() + 900, bytes.end(), [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_NE(RealEntropy().Next64(), RealEntropy().Next64());
}

TEST(EntropyTest, SimulatedRepeatsWithItsSeed) {
  test::SimEntropy a(1), b(1), c(2);
  const uint64_t first = a.Next64();
  EXPECT_EQ(first, b.Next64());
  EXPECT_NE(first, c.Next64());
  EXPECT_NE(first, a.Next64());
}

}  // namespace
}  // namespace holdfast::base
