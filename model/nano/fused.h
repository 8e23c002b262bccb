// Vectors of 16 floats in GCC's own notation, and the few functions on them that the fused passes need. T is
// the type of activations in memory: float, or BF16 kept as uint16_t. All arithmetic is float32.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace nano {

constexpr int kLanes = 16;
typedef float Vec __attribute__((vector_size(64)));
typedef int32_t IntVec __attribute__((vector_size(64)));
typedef uint32_t BitVec __attribute__((vector_size(64)));
typedef uint16_t HalfVec __attribute__((vector_size(32)));
using Bf16 = uint16_t;

template <class To, class From>
inline To BitCast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

inline Vec Load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline Vec Load(const Bf16* p) {
  HalfVec half;
  std::memcpy(&half, p, sizeof(half));
  return BitCast<Vec>(__builtin_convertvector(half, BitVec) << 16);
}
inline void Store(float* p, Vec v) { std::memcpy(p, &v, sizeof(v)); }
inline void Store(Bf16* p, Vec v) {  // to nearest, ties to even
  BitVec bits = BitCast<BitVec>(v);
  bits += 0x7fff + ((bits >> 16) & 1);
  const HalfVec half = __builtin_convertvector(bits >> 16, HalfVec);
  std::memcpy(p, &half, sizeof(half));
}
inline float Get(const float* p) { return *p; }
inline float Get(const Bf16* p) { return BitCast<float>(uint32_t{*p} << 16); }
inline void Put(float* p, float v) { *p = v; }
inline void Put(Bf16* p, float v) {
  const uint32_t bits = BitCast<uint32_t>(v);
  *p = static_cast<Bf16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline Vec Splat(float v) { return Vec{} + v; }
inline Vec Max(Vec a, Vec b) { return a > b ? a : b; }
inline Vec Min(Vec a, Vec b) { return a < b ? a : b; }

inline float Sum(Vec v) {
  float lanes[kLanes];
  Store(lanes, v);
  for (int n = 8; n; n /= 2)
    for (int i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  return lanes[0];
}
inline float Largest(Vec v) {
  float lanes[kLanes];
  Store(lanes, v);
  for (int n = 8; n; n /= 2)
    for (int i = 0; i < n; ++i) lanes[i] = lanes[i] > lanes[i + n] ? lanes[i] : lanes[i + n];
  return lanes[0];
}

// e^x to 2 ulp; 0 below -87.
inline Vec Exp(Vec x) {
  const Vec low = Splat(-87.0F);
  const auto dead = x < low;
  x = Min(Max(x, low), Splat(88.0F));
  const Vec shift = Splat(12582912.0F);  // 1.5 * 2^23: adding it rounds to whole numbers
  const Vec rounded = x * 1.44269504F + shift;
  const Vec whole = rounded - shift;
  const Vec f = x - whole * 0.693145752F - whole * 1.42860677e-6F;
  Vec p = Splat(1.0F / 720);
  p = p * f + 1.0F / 120;
  p = p * f + 1.0F / 24;
  p = p * f + 1.0F / 6;
  p = p * f + 0.5F;
  p = p * f + 1.0F;
  p = p * f + 1.0F;
  const BitVec power = (BitCast<BitVec>(rounded) - 0x4B400000U + 127U) << 23;
  const Vec scaled = p * BitCast<Vec>(power);
  return dead ? Vec{} : scaled;
}
inline Vec Sigmoid(Vec x) { return 1.0F / (1.0F + Exp(-x)); }

// One rotary vector: interleaved pairs, turned by table = 16 cosines (each twice), 16 sines (signed for the
// pair).
inline Vec Turn(Vec x, const float* table, bool inverse) {
  const IntVec swap = {1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14};
  const Vec sine = Load(table + kLanes);
  const Vec other = __builtin_shuffle(x, swap);
  return x * Load(table) + (inverse ? -(other * sine) : other * sine);
}

// C [M, N] = (add ? C : 0) + A B, N a multiple of 16. A [i][k] stands at a[i * row + k * col], so that a
// transposed A costs nothing. Register tiles of 4 x 80.
template <int kRows, int kVecs>
inline void Tile(int depth, const float* a, int row, int col, const float* b, int ldb, float* c, int ldc,
                 bool add) {
  Vec sum[kRows][kVecs];
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVecs; ++v) sum[i][v] = add ? Load(c + i * ldc + v * kLanes) : Vec{};
  for (int k = 0; k < depth; ++k) {
    Vec bk[kVecs];
    for (int v = 0; v < kVecs; ++v) bk[v] = Load(b + static_cast<int64_t>(k) * ldb + v * kLanes);
    for (int i = 0; i < kRows; ++i) {
      const Vec ai = Splat(a[i * row + k * col]);
      for (int v = 0; v < kVecs; ++v) sum[i][v] += ai * bk[v];
    }
  }
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVecs; ++v) Store(c + i * ldc + v * kLanes, sum[i][v]);
}

template <int kVecs>
inline void Columns(int m, int depth, const float* a, int row, int col, const float* b, int ldb, float* c,
                    int ldc, bool add) {
  int i = 0;
  for (; i + 4 <= m; i += 4) Tile<4, kVecs>(depth, a + i * row, row, col, b, ldb, c + i * ldc, ldc, add);
  for (; i < m; ++i) Tile<1, kVecs>(depth, a + i * row, row, col, b, ldb, c + i * ldc, ldc, add);
}

inline void Gemm(int m, int n, int depth, const float* a, int row, int col, const float* b, int ldb, float* c,
                 int ldc, bool add) {
  int j = 0;
  for (; j + 80 <= n; j += 80) Columns<5>(m, depth, a, row, col, b + j, ldb, c + j, ldc, add);
  for (; j + 32 <= n; j += 32) Columns<2>(m, depth, a, row, col, b + j, ldb, c + j, ldc, add);
  for (; j < n; j += kLanes) Columns<1>(m, depth, a, row, col, b + j, ldb, c + j, ldc, add);
}

}  // namespace nano
