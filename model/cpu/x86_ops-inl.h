// Integer dot products of bytes: the instruction where the target has one, the same integers where it has
// not.
#if defined(HOLDFAST_MODEL_CPU_X86_OPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOLDFAST_MODEL_CPU_X86_OPS_INL_H_
#undef HOLDFAST_MODEL_CPU_X86_OPS_INL_H_
#else
#define HOLDFAST_MODEL_CPU_X86_OPS_INL_H_
#endif

#include "hwy/highway.h"
#include "model/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace holdfast::model::HWY_NAMESPACE {

using I32 = hn::RebindToSigned<F>;
using VI32 = hn::Vec<I32>;
using U8 = hn::Repartition<uint8_t, F>;
using VU8 = hn::Vec<U8>;
using I8 = hn::Repartition<int8_t, F>;
using VI8 = hn::Vec<I8>;

// Lane j of the result is acc[j] + sum of u[4j + i] * s[4j + i], i = 0..3. Exact while neighbouring products
// sum below 2^15 in magnitude: u <= 24 and |s| <= 127 here.
HWY_INLINE VI32 DotBytes(VI32 acc, VU8 u, VI8 s) {
#if HWY_TARGET == HWY_AVX3_DL
  // Highway's attributes for this target lack avx512vnni, which the intrinsic wants; its CPU check does not.
  asm("vpdpbusd %2, %1, %0" : "+v"(acc.raw) : "v"(u.raw), "v"(s.raw));
  return acc;
#elif HWY_TARGET == HWY_AVX3
  const __m512i pairs = _mm512_maddubs_epi16(u.raw, s.raw);
  return VI32{_mm512_add_epi32(acc.raw, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
#elif HWY_TARGET == HWY_AVX2
  const __m256i pairs = _mm256_maddubs_epi16(u.raw, s.raw);
  return VI32{_mm256_add_epi32(acc.raw, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))};
#else
  const hn::Repartition<int16_t, F> d16;
  const I32 d32;
  const auto u16 = hn::BitCast(d16, u);
  const auto s16 = hn::BitCast(d16, s);
  const auto u_even = hn::And(u16, hn::Set(d16, 0xff));
  const auto u_odd = hn::ShiftRight<8>(u16);  // u < 128: the sign bit is clear
  const auto s_even = hn::ShiftRight<8>(hn::ShiftLeft<8>(s16));
  const auto s_odd = hn::ShiftRight<8>(s16);
  const auto pairs = hn::BitCast(d32, hn::Add(hn::Mul(u_even, s_even), hn::Mul(u_odd, s_odd)));
  const auto low = hn::ShiftRight<16>(hn::ShiftLeft<16>(pairs));
  return hn::Add(acc, hn::Add(low, hn::ShiftRight<16>(pairs)));
#endif
}

}  // namespace holdfast::model::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HOLDFAST_MODEL_CPU_X86_OPS_INL_H_
