// The number formats of the checkpoints and of the KV store: BF16, FP8 E4M3FN, FP4 E2M1 and UE8M0 scales, as
// pure scalar functions. Every encoder rounds to nearest, ties to even, and works on the bits alone, so all
// backends and machines agree. Source: spec "Packing and numerics"; OCP 8-bit and microscaling formats.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace holdfast::model {

inline float Bf16ToF32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// NaN stays NaN (quiet); overflow rounds to infinity.
inline uint16_t F32ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// 2^(byte - 127); byte 0 is 2^-127 (a float32 denormal), byte 255 is NaN.
inline float E8m0ToF32(uint8_t byte) {
  if (byte == 255) return std::bit_cast<float>(0x7fc00000u);
  return byte == 0 ? std::bit_cast<float>(0x00400000u) : std::bit_cast<float>(uint32_t{byte} << 23);
}

inline float E4m3ToF32(uint8_t byte) {
  const uint32_t sign = uint32_t{byte & 0x80u} << 24;
  const uint32_t magnitude = byte & 0x7fu;
  if (magnitude == 0x7f) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (magnitude < 8) {  // denormal: magnitude * 2^-9
    const float value = static_cast<float>(magnitude) * 0x1p-9f;
    return sign != 0 ? -value : value;
  }
  return std::bit_cast<float>(sign | ((magnitude << 20) + (120u << 23)));
}

// `value` must lie within +-448 (callers clamp); NaN gives the NaN code.
inline uint8_t F32ToE4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
  if (magnitude < (121u << 23)) {  // below 2^-6: a multiple of 2^-9, rounded by float addition
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;  // ulp of 2^14 is 2^-9
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) & 0xfu));
  }
  const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
  const uint32_t code = (rounded >> 20) - (120u << 3);
  return static_cast<uint8_t>(sign | (code > 0x7eu ? 0x7eu : code));
}

inline constexpr float kE2m1Values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                          -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// Nearest E2M1 code, ties to the even code; beyond +-6 saturates. NaN gives +6's code.
inline uint8_t F32ToE2m1(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>((bits >> 28) & 0x8u);
  const float a = std::bit_cast<float>(bits & 0x7fffffffu);
  // Borders between neighbouring codes; a tie goes to the even one: 0.25->0, 0.75->2, 1.25->2, ...
  uint8_t code = 7;
  if (a <= 0.25f)
    code = 0;
  else if (a < 0.75f)
    code = 1;
  else if (a <= 1.25f)
    code = 2;
  else if (a < 1.75f)
    code = 3;
  else if (a <= 2.5f)
    code = 4;
  else if (a < 3.5f)
    code = 5;
  else if (a <= 5.0f)
    code = 6;
  return static_cast<uint8_t>(sign | code);
}

// Exponent e of the smallest power of two with 2^e >= amax * reciprocal_max, read off the float32 product's
// bits; `amax` must be finite and above 0. (reciprocal_max: F32(1/448) for E4M3, F32(1/6) for E2M1.)
inline int32_t ScaleExponent(float amax, float reciprocal_max) {
  const uint32_t bits = std::bit_cast<uint32_t>(amax * reciprocal_max);
  return static_cast<int32_t>((bits >> 23) & 0xffu) - 127 + ((bits & 0x7fffffu) != 0 ? 1 : 0);
}

inline constexpr float kE4m3Max = 448.0f;
inline constexpr float kE2m1Max = 6.0f;
// Floors of amax: the KV and activation quantiser's, and the FP4 quantiser's (6 * 2^-126).
inline constexpr float kE4m3AmaxFloor = 1e-4f;
inline constexpr float kE2m1AmaxFloor = 6.0f * 0x1p-126f;

}  // namespace holdfast::model
