#include "model/cpu/row_ops.h"

#include <algorithm>
#include <cmath>

#include "model/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/cpu/row_ops.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "model/cpu/lanes-inl.h"
#include "model/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace holdfast::model::HWY_NAMESPACE {

float SumOfSquaresImpl(const float* x, int64_t n) { return DotLanes(x, x, static_cast<size_t>(n)); }

void ExpArrayImpl(float* values, int64_t n) {
  MapArray(values, static_cast<size_t>(n), [](VF x) { return Exp(x); });
}

void SigmoidArrayImpl(float* values, int64_t n) {
  MapArray(values, static_cast<size_t>(n), [](VF x) { return Sigmoid(x); });
}

void SqrtSoftplusArrayImpl(float* values, int64_t n) {
  MapArray(values, static_cast<size_t>(n), [](VF x) { return hn::Sqrt(Softplus(x)); });
}

void SwiGluImpl(float* gate, const float* up, int64_t n, float weight, float limit) {
  const F d;
  const VF high = hn::Set(d, limit);
  const VF low = hn::Neg(high);
  const VF w = hn::Set(d, weight);
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(kWidth)) {  // n is a multiple of 32
    const VF g = hn::Min(high, hn::LoadU(d, gate + i));
    const VF u = hn::Max(low, hn::Min(high, hn::LoadU(d, up + i)));
    hn::StoreU(hn::Mul(hn::Mul(w, hn::Mul(g, Sigmoid(g))), u), d, gate + i);
  }
}

void PoolChannelsImpl(std::span<const cpu::PoolRow> rows, int64_t channels, float* out) {
  const F d;
  for (int64_t c = 0; c < channels; c += static_cast<int64_t>(kWidth)) {  // channels is a multiple of 16
    VF max = hn::LoadU(d, rows[0].score + c);
    for (const cpu::PoolRow& row : rows) max = hn::Max(max, hn::LoadU(d, row.score + c));
    VF sum = hn::Zero(d);
    VF pooled = hn::Zero(d);
    for (const cpu::PoolRow& row : rows) {
      const VF p = Exp(hn::Sub(hn::LoadU(d, row.score + c), max));
      sum = hn::Add(sum, p);
      pooled = Fma(p, hn::LoadU(d, row.kv + c), pooled);
    }
    hn::StoreU(hn::Div(pooled, sum), d, out + c);
  }
}

}  // namespace holdfast::model::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace holdfast::model {
HWY_EXPORT(SumOfSquaresImpl);
HWY_EXPORT(ExpArrayImpl);
HWY_EXPORT(SigmoidArrayImpl);
HWY_EXPORT(SqrtSoftplusArrayImpl);
HWY_EXPORT(SwiGluImpl);
HWY_EXPORT(PoolChannelsImpl);

namespace cpu {

float SumOfSquares(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(SumOfSquaresImpl)(x, n); }

float InverseRms(const float* x, int64_t n, float eps) {
  return 1.0f / std::sqrt(SumOfSquares(x, n) / static_cast<float>(n) + eps);
}

void ExpArray(float* values, int64_t n) { HWY_DYNAMIC_DISPATCH(ExpArrayImpl)(values, n); }
void SigmoidArray(float* values, int64_t n) { HWY_DYNAMIC_DISPATCH(SigmoidArrayImpl)(values, n); }
void SqrtSoftplusArray(float* values, int64_t n) { HWY_DYNAMIC_DISPATCH(SqrtSoftplusArrayImpl)(values, n); }

void SwiGlu(float* gate, const float* up, int64_t n, float weight, float limit) {
  HWY_DYNAMIC_DISPATCH(SwiGluImpl)(gate, up, n, weight, limit);
}

void PoolChannels(std::span<const PoolRow> rows, int64_t channels, float* out) {
  HWY_DYNAMIC_DISPATCH(PoolChannelsImpl)(rows, channels, out);
}

// Plain code from here on: element by element, and never fused (-ffp-contract=off), so any compiler agrees.

void Rotate(float* x, const float* cos, const float* sin, int64_t rope_dim, float sign) {
  for (int64_t i = 0; i < rope_dim / 2; ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    const float s = sign * sin[i];
    x[2 * i] = a * cos[i] - b * s;
    x[2 * i + 1] = a * s + b * cos[i];
  }
}

void Hadamard(float* x, int64_t n) {
  for (int64_t half = 1; half < n; half *= 2) {
    for (int64_t i = 0; i < n; i += 2 * half) {
      for (int64_t j = i; j < i + half; ++j) {
        const float a = x[j];
        const float b = x[j + half];
        x[j] = a + b;
        x[j + half] = a - b;
      }
    }
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(n));
  for (int64_t i = 0; i < n; ++i) x[i] *= scale;
}

void Sinkhorn(float* c, int64_t s, int64_t rounds, float eps) {
  const auto rows = [&](float add) {
    for (int64_t j = 0; j < s; ++j) {
      float sum = 0;
      for (int64_t k = 0; k < s; ++k) sum += c[j * s + k];
      for (int64_t k = 0; k < s; ++k) c[j * s + k] /= sum + add;
    }
  };
  const auto columns = [&] {
    for (int64_t k = 0; k < s; ++k) {
      float sum = 0;
      for (int64_t j = 0; j < s; ++j) sum += c[j * s + k];
      for (int64_t j = 0; j < s; ++j) c[j * s + k] /= sum + eps;
    }
  };
  for (int64_t j = 0; j < s; ++j) {
    const float max = *std::max_element(c + j * s, c + (j + 1) * s);
    for (int64_t k = 0; k < s; ++k) c[j * s + k] -= max;
  }
  ExpArray(c, s * s);
  rows(0.0f);
  for (int64_t i = 0; i < s * s; ++i) c[i] += eps;
  columns();
  for (int64_t round = 1; round < rounds; ++round) {
    rows(eps);
    columns();
  }
}

}  // namespace cpu
}  // namespace holdfast::model
#endif  // HWY_ONCE
