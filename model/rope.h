// Rotary position embedding tables: interleaved pairs, YaRN by ramp, no attention factor. Sine and cosine are
// our own double-precision polynomials, so that every machine and backend gets the same float32 bits. Source:
// spec "RoPE".
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"

namespace holdfast::model {

class RopeTable {
 public:
  RopeTable(const RopeConfig& config, int32_t rope_dim);
  int32_t pairs() const { return static_cast<int32_t>(frequencies_.size()); }
  std::span<const float> frequencies() const { return frequencies_; }
  // cos and sin of position * frequency for each pair (the product rounded to float32 first). `cos` and `sin`
  // hold pairs() values. Some 20 ns a pair; no allocation.
  void Fill(int64_t position, float* cos, float* sin) const;

 private:
  std::vector<float> frequencies_;  // [rope_dim / 2]
};

// sin and cos of a finite `x` with |x| < 2^27, within one float32 ulp; no libm, no fused operations.
void SinCos(float x, float& sin, float& cos);

}  // namespace holdfast::model
