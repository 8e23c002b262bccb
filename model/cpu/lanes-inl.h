// Final bits: every float32 reduction runs over 16 virtual lanes with fused multiply-add and one fixed tree,
// whatever the width of a vector: one AVX-512 register, two AVX2, four of 128 bits. Lane j takes elements j,
// j + 16, ... See docs/invariance.md.
#if defined(HOLDFAST_MODEL_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOLDFAST_MODEL_CPU_LANES_INL_H_
#undef HOLDFAST_MODEL_CPU_LANES_INL_H_
#else
#define HOLDFAST_MODEL_CPU_LANES_INL_H_
#endif

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace holdfast::model::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Before a loop of constant length over registers: without it they live in memory.
#define HF_UNROLL _Pragma("GCC unroll 16")

constexpr size_t kLanes = 16;
using F = hn::CappedTag<float, kLanes>;
using VF = hn::Vec<F>;
constexpr size_t kWidth = hn::MaxLanes(F());  // lanes of one register
constexpr size_t kParts = kLanes / kWidth;    // registers of 16 lanes
static_assert(kWidth >= 4 && kParts * kWidth == kLanes);

// a * b + c with one rounding, also where the hardware has no fused operation.
HWY_INLINE VF Fma(VF a, VF b, VF c) {
#if HWY_TARGET <= HWY_AVX2 || HWY_TARGET == HWY_NEON
  return hn::MulAdd(a, b, c);
#else
  const F d;
  HWY_ALIGN float x[kWidth];
  HWY_ALIGN float y[kWidth];
  HWY_ALIGN float z[kWidth];
  hn::Store(a, d, x);
  hn::Store(b, d, y);
  hn::Store(c, d, z);
  for (size_t i = 0; i < kWidth; ++i) z[i] = std::fma(x[i], y[i], z[i]);
  return hn::Load(d, z);
#endif
}

// The tree: lane j + lane j + 8, then + 4, + 2, + 1. `lanes` holds 16 values, 64-byte aligned.
HWY_INLINE float SumLanes(const float* HWY_RESTRICT lanes) {
  const hn::CappedTag<float, 4> d4;
  const auto a = hn::Add(hn::Load(d4, lanes), hn::Load(d4, lanes + 8));
  const auto b = hn::Add(hn::Load(d4, lanes + 4), hn::Load(d4, lanes + 12));
  HWY_ALIGN float s[4];
  hn::Store(hn::Add(a, b), d4, s);
  return (s[0] + s[2]) + (s[1] + s[3]);
}

// sum of a[i] * b[i]; n is a multiple of 16.
HWY_INLINE float DotLanes(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, size_t n) {
  const F d;
  HWY_ALIGN float lanes[kLanes];
  for (size_t p = 0; p < kParts; ++p) {
    VF acc = hn::Zero(d);
    for (size_t i = p * kWidth; i < n; i += kLanes) acc = Fma(hn::LoadU(d, a + i), hn::LoadU(d, b + i), acc);
    hn::Store(acc, d, lanes + p * kWidth);
  }
  return SumLanes(lanes);
}

// lanes[r][c][:] += x[r][i] * w[c][i] for R rows of x and C rows of w; n is a multiple of 16. The one loop of
// all float32 products: its order is the same for any R and C.
template <int R, int C>
HWY_INLINE void AccumulateBlock(const float* HWY_RESTRICT x, size_t x_stride, const float* HWY_RESTRICT w,
                                size_t w_stride, size_t n, float* HWY_RESTRICT lanes) {
  const F d;
  for (size_t p = 0; p < kParts; ++p) {
    float* at = lanes + p * kWidth;
    VF acc[R][C];
    HF_UNROLL
    for (int r = 0; r < R; ++r) {
      HF_UNROLL
      for (int c = 0; c < C; ++c) acc[r][c] = hn::Load(d, at + static_cast<size_t>(r * C + c) * kLanes);
    }
    for (size_t i = p * kWidth; i < n; i += kLanes) {
      VF wv[C];
      HF_UNROLL
      for (int c = 0; c < C; ++c) wv[c] = hn::LoadU(d, w + static_cast<size_t>(c) * w_stride + i);
      HF_UNROLL
      for (int r = 0; r < R; ++r) {
        const VF xv = hn::LoadU(d, x + static_cast<size_t>(r) * x_stride + i);
        HF_UNROLL
        for (int c = 0; c < C; ++c) acc[r][c] = Fma(xv, wv[c], acc[r][c]);
      }
    }
    HF_UNROLL
    for (int r = 0; r < R; ++r) {
      HF_UNROLL
      for (int c = 0; c < C; ++c) hn::Store(acc[r][c], d, at + static_cast<size_t>(r * C + c) * kLanes);
    }
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace holdfast::model::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HOLDFAST_MODEL_CPU_LANES_INL_H_
