// What the kernel tests share: the definition of a reduction in plain code, random data, and every
// instruction set.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "model/cpu/targets.h"
#include "tests/support/seeded_random.h"

namespace holdfast::model::cpu {

// The tree of docs/invariance.md.
inline float TreeSum(const float* lanes) {
  float eight[8];
  for (int j = 0; j < 8; ++j) eight[j] = lanes[j] + lanes[j + 8];
  float four[4];
  for (int j = 0; j < 4; ++j) four[j] = eight[j] + eight[j + 4];
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// A dot product in 16 virtual lanes with fused multiply-add.
inline float LaneDot(const float* a, const float* b, size_t n) {
  float lanes[16] = {};
  for (size_t i = 0; i < n; ++i) lanes[i % 16] = std::fma(a[i], b[i], lanes[i % 16]);
  return TreeSum(lanes);
}

// Near-normal values of mixed magnitude.
inline std::vector<float> RandomFloats(test::SeededRandom& random, size_t n, float scale = 1.0f) {
  std::vector<float> out(n);
  for (float& v : out) {
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(random.Below(2001)) / 1000.0f - 1.0f;
    v = sum * scale;
  }
  return out;
}

// Runs each test once for every instruction set of this processor.
class KernelTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { ForceTarget(GetParam()); }
  void TearDown() override { ForceTarget(0); }
};

inline std::string TargetTestName(const ::testing::TestParamInfo<int64_t>& target) {
  return TargetName(target.param);
}

}  // namespace holdfast::model::cpu
