// Every code of the small formats, and every encoder against the nearest of all codes.
#include "model/number_formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/seeded_random.h"

namespace holdfast::model {
namespace {

float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }
uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }

// The published rule of an E4M3FN code: sign, 4 exponent bits of bias 7, 3 mantissa bits, NaN at 0x7f.
float E4m3Rule(int code) {
  const float sign = (code & 0x80) != 0 ? -1.0f : 1.0f;
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  if ((code & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -9);
  return sign * std::ldexp(1.0f + static_cast<float>(mantissa) / 8.0f, exponent - 7);
}

// The nearest code to `value` among `count` positive codes in ascending order, ties to the even code.
template <class Decode>
int Nearest(double value, int count, Decode decode) {
  int best = 0;
  for (int code = 1; code < count; ++code) {
    const double now = std::fabs(value - decode(code));
    const double before = std::fabs(value - decode(best));
    if (now < before || (now == before && code % 2 == 0)) best = code;
  }
  return best;
}

TEST(NumberFormatsTest, EveryE4m3CodeHasItsPublishedValue) {
  for (int code = 0; code < 256; ++code) {
    const float got = E4m3ToF32(static_cast<uint8_t>(code));
    const float want = E4m3Rule(code);
    if (std::isnan(want)) {
      EXPECT_TRUE(std::isnan(got)) << code;
    } else {
      EXPECT_EQ(Bits(got), Bits(want)) << code;
    }
  }
  EXPECT_EQ(E4m3ToF32(0x7e), 448.0f);
  EXPECT_EQ(E4m3ToF32(0x01), 0x1p-9f);
}

TEST(NumberFormatsTest, EveryE4m3CodeEncodesToItself) {
  for (int code = 0; code < 256; ++code) {
    EXPECT_EQ(F32ToE4m3(E4m3ToF32(static_cast<uint8_t>(code))), code);
  }
}

TEST(NumberFormatsTest, E4m3RoundsToNearestAtAndBesideEveryBorder) {
  for (int code = 0; code < 0x7e; ++code) {
    const float middle = (E4m3Rule(code) + E4m3Rule(code + 1)) / 2;  // exact
    const int even = code % 2 == 0 ? code : code + 1;
    for (const int sign : {0, 0x80}) {
      const auto encode = [&](float v) { return F32ToE4m3(sign != 0 ? -v : v); };
      EXPECT_EQ(encode(middle), sign | even) << code;
      EXPECT_EQ(encode(std::nextafter(middle, 0.0f)), sign | code) << code;
      EXPECT_EQ(encode(std::nextafter(middle, 1000.0f)), sign | (code + 1)) << code;
    }
  }
}

TEST(NumberFormatsTest, E4m3OfRandomValuesIsTheNearestCode) {
  for (const uint64_t seed : test::TestSeeds(2)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    for (int i = 0; i < 20'000; ++i) {
      const float value = FromBits(static_cast<uint32_t>(random.Next()));
      if (!(std::fabs(value) <= kE4m3Max)) continue;
      const int sign = std::signbit(value) ? 0x80 : 0;
      EXPECT_EQ(F32ToE4m3(value), sign | Nearest(std::fabs(value), 0x7f, E4m3Rule)) << value;
    }
  }
}

TEST(NumberFormatsTest, E4m3SaturatesAndKeepsNan) {
  EXPECT_EQ(F32ToE4m3(448.0f), 0x7e);
  EXPECT_EQ(F32ToE4m3(-448.0f), 0xfe);
  EXPECT_EQ(F32ToE4m3(std::numeric_limits<float>::infinity()), 0x7e);
  EXPECT_EQ(F32ToE4m3(std::numeric_limits<float>::quiet_NaN()) & 0x7f, 0x7f);
}

TEST(NumberFormatsTest, E2m1TiesGoToTheEvenCode) {
  // Spec 2.2: 0.25 -> 0, 0.75 -> 1, 1.25 -> 1, 1.75 -> 2, 2.5 -> 2, 3.5 -> 4, 5 -> 4 (values).
  const float ties[][2] = {{0.25f, 0.0f}, {0.75f, 1.0f}, {1.25f, 1.0f}, {1.75f, 2.0f},
                           {2.5f, 2.0f},  {3.5f, 4.0f},  {5.0f, 4.0f}};
  for (const auto& [value, want] : ties) {
    EXPECT_EQ(kE2m1Values[F32ToE2m1(value)], want) << value;
    EXPECT_EQ(kE2m1Values[F32ToE2m1(-value)], -want) << value;
    const auto code = [](float v) { return static_cast<int>(F32ToE2m1(v)); };
    EXPECT_EQ(code(std::nextafter(value, 9.0f)), code(std::nextafter(value, 0.0f)) + 1) << value;
  }
}

TEST(NumberFormatsTest, EveryE2m1CodeEncodesToItselfAndBeyondSaturates) {
  for (int code = 0; code < 16; ++code) EXPECT_EQ(F32ToE2m1(kE2m1Values[code]), code);
  EXPECT_EQ(F32ToE2m1(6.5f), 7);
  EXPECT_EQ(F32ToE2m1(-1e30f), 15);
}

TEST(NumberFormatsTest, E2m1OfRandomValuesIsTheNearestCode) {
  test::SeededRandom random(3);
  for (int i = 0; i < 20'000; ++i) {
    const float value = static_cast<float>(random.Between(-7000, 7000)) / 1000.0f;
    const int want = Nearest(std::fabs(value), 8, [](int code) { return kE2m1Values[code]; });
    EXPECT_EQ(F32ToE2m1(value), (std::signbit(value) ? 8 : 0) | want) << value;
  }
}

TEST(NumberFormatsTest, EveryE8m0CodeIsItsPowerOfTwo) {
  for (int byte = 0; byte < 255; ++byte) {
    EXPECT_EQ(E8m0ToF32(static_cast<uint8_t>(byte)), std::ldexp(1.0f, byte - 127)) << byte;
  }
  EXPECT_TRUE(std::isnan(E8m0ToF32(255)));
}

TEST(NumberFormatsTest, EveryBf16EncodesToItself) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = Bf16ToF32(static_cast<uint16_t>(bits));
    EXPECT_EQ(Bits(value), bits << 16);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(value))));
    } else {
      EXPECT_EQ(F32ToBf16(value), bits);
    }
  }
}

TEST(NumberFormatsTest, Bf16RoundsToNearestTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7f80; ++bits) {  // up to the largest finite one
    const uint32_t low = bits << 16;
    EXPECT_EQ(F32ToBf16(FromBits(low | 0x7fff)), bits);
    EXPECT_EQ(F32ToBf16(FromBits(low | 0x8000)), bits + (bits & 1));
    EXPECT_EQ(F32ToBf16(FromBits(low | 0x8001)), bits + 1);
  }
  EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(FromBits(0x7f800001)))));  // payload in the dropped bits only
}

// Spec 2.2: s = 2^ceil(log2(amax / max)), so that amax / s is at most max and more than half of it.
TEST(NumberFormatsTest, ScaleExponentIsTheSmallestThatHoldsAmax) {
  test::SeededRandom random(5);
  for (int i = 0; i < 20'000; ++i) {
    const float amax = FromBits(static_cast<uint32_t>(random.Between(0x38000000, 0x47000000)));
    for (const float max : {kE4m3Max, kE2m1Max}) {
      const float product = amax * (1.0f / max);
      const int32_t e = ScaleExponent(amax, 1.0f / max);
      EXPECT_GE(std::ldexp(1.0f, e), product) << amax;
      EXPECT_LT(std::ldexp(1.0f, e - 1), product) << amax;
    }
  }
  for (int e = -20; e <= 20; ++e) {
    EXPECT_EQ(ScaleExponent(std::ldexp(1.0f, e), 1.0f), e);
    EXPECT_EQ(ScaleExponent(std::nextafter(std::ldexp(1.0f, e), 1e30f), 1.0f), e + 1);
  }
}

}  // namespace
}  // namespace holdfast::model
