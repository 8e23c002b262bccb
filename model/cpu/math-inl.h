// NaN in gives NaN out everywhere: of Min and Max, x86 returns the second operand when one is NaN, so the
// value comes second. A damaged weight must reach the logits, where it is refused.
//
// exp, log1p, sigmoid and softplus of vectors: our own polynomials with fused multiply-add, so that every
// target and every machine gives the same bits. Errors against the exact value: below 2 ulp
// (tests/model/cpu/row_ops_test.cc).
#if defined(HOLDFAST_MODEL_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOLDFAST_MODEL_CPU_MATH_INL_H_
#undef HOLDFAST_MODEL_CPU_MATH_INL_H_
#else
#define HOLDFAST_MODEL_CPU_MATH_INL_H_
#endif

#include "hwy/highway.h"
#include "model/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace holdfast::model::HWY_NAMESPACE {

// e^x. Below -87.33 (where the result leaves the normal range) 0, above 88.72 infinity.
HWY_INLINE VF Exp(VF x) {
  const F d;
  const hn::RebindToSigned<F> di;
  const VF low = hn::Set(d, -87.33f);
  const VF high = hn::Set(d, 88.72284f);
  const VF clamped = hn::Min(high, hn::Max(low, x));
  // x = k ln2 + r, |r| <= ln2 / 2; ln2 in two parts.
  const VF k = hn::Round(hn::Mul(clamped, hn::Set(d, 1.44269504f)));
  VF r = Fma(k, hn::Set(d, -0.693359375f), clamped);
  r = Fma(k, hn::Set(d, 2.12194440e-4f), r);
  VF p = hn::Set(d, 1.0f / 5040);
  p = Fma(p, r, hn::Set(d, 1.0f / 720));
  p = Fma(p, r, hn::Set(d, 1.0f / 120));
  p = Fma(p, r, hn::Set(d, 1.0f / 24));
  p = Fma(p, r, hn::Set(d, 1.0f / 6));
  p = Fma(p, r, hn::Set(d, 0.5f));
  p = Fma(p, r, hn::Set(d, 1.0f));
  p = Fma(p, r, hn::Set(d, 1.0f));
  // 2^k in two steps: k = 128 would leave the exponent's range in one.
  const auto ki = hn::ConvertTo(di, k);
  const auto half = hn::ShiftRight<1>(ki);
  const auto power = [&](auto e) { return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(e, hn::Set(di, 127)))); };
  VF y = hn::Mul(hn::Mul(p, power(half)), power(hn::Sub(ki, half)));
  y = hn::IfThenElse(hn::Gt(x, high), hn::Set(d, HUGE_VALF), y);
  return hn::IfThenZeroElse(hn::Lt(x, low), y);
}

HWY_INLINE VF Sigmoid(VF x) {
  const F d;
  const VF one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, Exp(hn::Neg(x))));
}

// ln(1 + e) for e in [0, 1]: 2 atanh(e / (2 + e)).
HWY_INLINE VF Log1pUnit(VF e) {
  const F d;
  const VF s = hn::Div(e, hn::Add(e, hn::Set(d, 2.0f)));
  const VF z = hn::Mul(s, s);
  VF p = hn::Set(d, 1.0f / 15);
  p = Fma(p, z, hn::Set(d, 1.0f / 13));
  p = Fma(p, z, hn::Set(d, 1.0f / 11));
  p = Fma(p, z, hn::Set(d, 1.0f / 9));
  p = Fma(p, z, hn::Set(d, 1.0f / 7));
  p = Fma(p, z, hn::Set(d, 1.0f / 5));
  p = Fma(p, z, hn::Set(d, 1.0f / 3));
  p = Fma(p, z, hn::Set(d, 1.0f));
  return hn::Mul(hn::Add(s, s), p);
}

HWY_INLINE VF Softplus(VF x) {
  const F d;
  return hn::Add(hn::Max(hn::Zero(d), x), Log1pUnit(Exp(hn::Neg(hn::Abs(x)))));
}

// Applies `f` to n values in place; the last vector is padded with zeros.
template <class Function>
HWY_INLINE void MapArray(float* HWY_RESTRICT values, size_t n, Function&& f) {
  const F d;
  size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) hn::StoreU(f(hn::LoadU(d, values + i)), d, values + i);
  if (i == n) return;
  HWY_ALIGN float tail[kLanes] = {};
  for (size_t j = i; j < n; ++j) tail[j - i] = values[j];
  hn::Store(f(hn::Load(d, tail)), d, tail);
  for (size_t j = i; j < n; ++j) values[j] = tail[j - i];
}

}  // namespace holdfast::model::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HOLDFAST_MODEL_CPU_MATH_INL_H_
