// Widening of stored numbers to float32 vectors: BF16, FP8 E4M3, and KV entries. Exact, so the target does
// not matter.
#if defined(HOLDFAST_MODEL_CPU_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOLDFAST_MODEL_CPU_DECODE_INL_H_
#undef HOLDFAST_MODEL_CPU_DECODE_INL_H_
#else
#define HOLDFAST_MODEL_CPU_DECODE_INL_H_
#endif

#include "hwy/highway.h"
#include "model/cpu/lanes-inl.h"
#include "model/kv_layout.h"
#include "model/number_formats.h"

HWY_BEFORE_NAMESPACE();
namespace holdfast::model::HWY_NAMESPACE {

HWY_INLINE VF LoadBf16(const uint8_t* HWY_RESTRICT p) {
  const F d;
  const hn::Rebind<uint16_t, F> d16;
  const hn::RebindToUnsigned<F> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}

// E4M3 values times 2^-8: the bits as a half float. The caller folds 2^8 into the scale, which is exact.
HWY_INLINE VF LoadE4m3Over256(const uint8_t* HWY_RESTRICT p) {
  const F d;
  const hn::Rebind<uint8_t, F> d8;
  const hn::Rebind<uint16_t, F> d16;
  const hn::Rebind<hwy::float16_t, F> dh;
  const auto bits = hn::PromoteTo(d16, hn::LoadU(d8, p));
  const auto magnitude = hn::ShiftLeft<7>(hn::And(bits, hn::Set(d16, 0x7f)));
  const auto sign = hn::ShiftLeft<8>(hn::And(bits, hn::Set(d16, 0x80)));
  return hn::PromoteTo(d, hn::BitCast(dh, hn::Or(magnitude, sign)));
}

constexpr float kE4m3Fold = 256.0f;

// A KV entry in stored form, as head_dim float32 values.
HWY_INLINE void DecodeEntry(const EntryCodec& codec, const std::byte* HWY_RESTRICT entry,
                            float* HWY_RESTRICT out) {
  const F d;
  const auto* bytes = reinterpret_cast<const uint8_t*>(entry);
  const auto nope = static_cast<size_t>(codec.nope());
  for (size_t g = 0; g < nope; g += 64) {
    const VF scale =
        hn::Set(d, E8m0ToF32(bytes[static_cast<size_t>(codec.scale_offset()) + g / 64]) * kE4m3Fold);
    for (size_t i = g; i < g + 64; i += kWidth)
      hn::StoreU(hn::Mul(LoadE4m3Over256(bytes + i), scale), d, out + i);
  }
  const uint8_t* rope = bytes + codec.rope_offset();
  const auto count = static_cast<size_t>(codec.rope());
  size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) hn::StoreU(LoadBf16(rope + 2 * i), d, out + nope + i);
  for (; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, rope + 2 * i, 2);
    out[nope + i] = Bf16ToF32(bits);
  }
}

}  // namespace holdfast::model::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HOLDFAST_MODEL_CPU_DECODE_INL_H_
