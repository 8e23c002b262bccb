#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/model/golden_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::model {
namespace {

constexpr RopeConfig kPlain = {.theta = 10000.0f};
constexpr RopeConfig kYarn = {.theta = 160000.0f, .factor = 16.0f, .original_max_positions = 65536};

// Distance in units in the last place of `want`, which may be near 0: then of 2^-24.
double Ulps(float got, long double want) {
  const double magnitude = std::max(std::fabs(static_cast<double>(want)), 0x1p-24);
  const double ulp = std::ldexp(1.0, std::ilogb(magnitude) - 23);
  return std::fabs(static_cast<double>(got - want)) / ulp;
}

TEST(RopeTest, SinAndCosAreWithinOneUlpUpToAMillion) {
  for (const uint64_t seed : test::TestSeeds(2)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    double worst = 0;
    const auto check = [&](float x) {
      float sin = 0;
      float cos = 0;
      SinCos(x, sin, cos);
      worst = std::max({worst, Ulps(sin, std::sin(static_cast<long double>(x))),
                        Ulps(cos, std::cos(static_cast<long double>(x)))});
    };
    for (int i = 0; i < 200'000; ++i) {
      check(std::ldexp(static_cast<float>(random.Between(-(1 << 24), 1 << 24)),
                       static_cast<int>(random.Between(-34, -4))));  // up to 2^20
    }
    for (int k = 0; k < 20'000; ++k) {  // beside the borders of quadrants
      const auto border = static_cast<float>(k * 33 * 0.78539816339744831);
      check(border);
      check(std::nextafter(border, 0.0f));
      check(std::nextafter(border, 1e9f));
    }
    EXPECT_LE(worst, 1.0);
  }
}

TEST(RopeTest, PlainFrequenciesArePowersOfTheta) {
  const RopeTable table(kPlain, 64);
  ASSERT_EQ(table.pairs(), 32);
  for (int i = 0; i < 32; ++i) {
    const double want = std::pow(10000.0, -2.0 * i / 64);
    EXPECT_NEAR(table.frequencies()[static_cast<size_t>(i)], want, want * 2e-7) << i;
  }
}

// Spec "RoPE": with these settings pairs up to 15 keep their frequency, from 25 on it is a 16th.
TEST(RopeTest, YarnKeepsFastPairsAndSlowsTheSlowOnes) {
  const RopeTable table(kYarn, 64);
  for (int i = 0; i < 32; ++i) {
    const double base = std::pow(160000.0, -2.0 * i / 64);
    const double ramp = std::clamp((i - 15) / 10.0, 0.0, 1.0);
    const double want = base / 16 * ramp + base * (1 - ramp);
    EXPECT_NEAR(table.frequencies()[static_cast<size_t>(i)], want, want * 1e-6) << i;
  }
}

TEST(RopeTest, FillGivesTheAnglesOfAPosition) {
  const RopeTable table(kYarn, 64);
  std::vector<float> cos(32);
  std::vector<float> sin(32);
  for (const int64_t position : {0, 1, 127, 65536, 1048575}) {
    table.Fill(position, cos.data(), sin.data());
    for (size_t i = 0; i < 32; ++i) {
      const float angle = static_cast<float>(position) * table.frequencies()[i];
      EXPECT_NEAR(cos[i], std::cos(static_cast<double>(angle)), 1e-7);
      EXPECT_NEAR(sin[i], std::sin(static_cast<double>(angle)), 1e-7);
    }
  }
}

TEST(RopeTest, TablesEqualTheOfficialOnes) {
  if (GoldenDirectory().empty()) GTEST_SKIP() << "golden data not present";
  const auto golden = TensorFile::Open(GoldenDirectory() + "/units/unit_yarn.safetensors");
  const auto dims = golden->Ints("dims");
  const std::pair<RopeConfig, std::string> tables[] = {{kPlain, "off"}, {kYarn, "yarn"}};
  for (const auto& [config, name] : tables) {
    const RopeTable table(config, dims[1]);
    const auto pairs = static_cast<size_t>(table.pairs());
    std::vector<float> cos(pairs * static_cast<size_t>(dims[0]));
    std::vector<float> sin(cos.size());
    for (size_t p = 0; p < static_cast<size_t>(dims[0]); ++p) {
      table.Fill(static_cast<int64_t>(p), &cos[p * pairs], &sin[p * pairs]);
    }
    EXPECT_LE(MaxAbsDifference(cos, golden->Floats("cos_" + name)), 5e-6) << name;
    EXPECT_LE(MaxAbsDifference(sin, golden->Floats("sin_" + name)), 5e-6) << name;
  }
}

}  // namespace
}  // namespace holdfast::model
