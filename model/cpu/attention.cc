#include "model/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "model/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/cpu/attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "model/cpu/decode-inl.h"
#include "model/cpu/lanes-inl.h"
#include "model/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace holdfast::model::HWY_NAMESPACE {

using cpu::AttendRowArgs;
using cpu::AttentionScratch;

constexpr size_t kTileKeys = 16;  // entries decoded at a time
constexpr int kHeadBlock = kWidth == 16 ? 4 : 2;

// Decodes entries [first, first + count) of the list into the tile; the rest of the tile is zero.
HWY_INLINE void DecodeTile(const EntryCodec& codec, const std::byte* const* keys, size_t count, float* tile) {
  const auto d = static_cast<size_t>(codec.dim());
  for (size_t j = 0; j < count; ++j) DecodeEntry(codec, keys[j], tile + j * d);
  std::fill_n(tile + count * d, (kTileKeys - count) * d, 0.0f);
}

// scores[h, first + j] = q[h] . tile[j] for R heads.
template <int R>
HWY_INLINE void ScoreHeads(const float* q, size_t d, const float* tile, size_t count, size_t stride,
                           float* scores) {
  for (size_t j = 0; j < count; j += 4) {
    HWY_ALIGN float lanes[R * 4 * kLanes] = {};
    AccumulateBlock<R, 4>(q, d, tile + j * d, d, d, lanes);
    HF_UNROLL
    for (size_t r = 0; r < R; ++r) {
      for (size_t c = 0; c < std::min<size_t>(4, count - j); ++c) {
        scores[r * stride + j + c] = SumLanes(lanes + (r * 4 + c) * kLanes);
      }
    }
  }
}

// o[h, :] += p[h, j] * tile[j, :], key by key in order, for R heads.
template <int R>
HWY_INLINE void AccumulateValues(const float* p, size_t stride, const float* tile, size_t count, size_t d,
                                 float* o) {
  const F df;
  for (size_t i = 0; i < d; i += kWidth) {
    VF acc[R];
    HF_UNROLL
    for (size_t r = 0; r < R; ++r) acc[r] = hn::LoadU(df, o + r * d + i);
    for (size_t j = 0; j < count; ++j) {
      const VF v = hn::LoadU(df, tile + j * d + i);
      HF_UNROLL
      for (size_t r = 0; r < R; ++r) acc[r] = Fma(hn::Set(df, p[r * stride + j]), v, acc[r]);
    }
    HF_UNROLL
    for (size_t r = 0; r < R; ++r) hn::StoreU(acc[r], df, o + r * d + i);
  }
}

// scores := exp(score * scale - max); returns 1 / (sum over 16 lanes + exp(sink - max)). `n` is a multiple of
// 16; scores past the last key are -infinity.
HWY_INLINE float Softmax(float* HWY_RESTRICT scores, size_t n, float scale, float sink) {
  const F d;
  const VF s = hn::Set(d, scale);
  VF maxima = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (size_t j = 0; j < n; j += kWidth) {
    const VF x = hn::Mul(hn::LoadU(d, scores + j), s);
    hn::StoreU(x, d, scores + j);
    maxima = hn::Max(maxima, x);
  }
  const VF max = hn::MaxOfLanes(d, maxima);
  HWY_ALIGN float lanes[kLanes];
  for (size_t p = 0; p < kParts; ++p) {
    VF sum = hn::Zero(d);
    for (size_t j = p * kWidth; j < n; j += kLanes) {
      const VF e = Exp(hn::Sub(hn::LoadU(d, scores + j), max));
      hn::StoreU(e, d, scores + j);
      sum = hn::Add(sum, e);
    }
    hn::Store(sum, d, lanes + p * kWidth);
  }
  const float sink_term = hn::GetLane(Exp(hn::Sub(hn::Set(d, sink), max)));
  return 1.0f / (SumLanes(lanes) + sink_term);
}

void AttendRowImpl(const AttendRowArgs& a, AttentionScratch& s) {
  const auto d = static_cast<size_t>(a.codec.dim());
  const auto heads = static_cast<size_t>(a.heads);
  const size_t n = s.keys.size();
  const size_t stride = (n + kLanes - 1) / kLanes * kLanes;
  if (s.tile.size() < kTileKeys * d) s.tile.resize(kTileKeys * d);
  if (s.scores.size() < heads * stride) s.scores.resize(heads * stride);
  if (s.inverse_sums.size() < heads) s.inverse_sums.resize(heads);
  for (size_t first = 0; first < n; first += kTileKeys) {
    const size_t count = std::min(kTileKeys, n - first);
    DecodeTile(a.codec, &s.keys[first], count, s.tile.data());
    size_t h = 0;
    for (; h + kHeadBlock <= heads; h += kHeadBlock) {
      ScoreHeads<kHeadBlock>(a.q + h * d, d, s.tile.data(), count, stride, &s.scores[h * stride + first]);
    }
    for (; h < heads; ++h)
      ScoreHeads<1>(a.q + h * d, d, s.tile.data(), count, stride, &s.scores[h * stride + first]);
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (size_t h = 0; h < heads; ++h) {
    std::fill_n(&s.scores[h * stride] + n, stride - n, -std::numeric_limits<float>::infinity());
    s.inverse_sums[h] = Softmax(&s.scores[h * stride], stride, scale, a.sink[h]);
  }
  std::fill_n(a.o, heads * d, 0.0f);
  for (size_t first = 0; first < n; first += kTileKeys) {
    const size_t count = std::min(kTileKeys, n - first);
    DecodeTile(a.codec, &s.keys[first], count, s.tile.data());
    size_t h = 0;
    for (; h + kHeadBlock <= heads; h += kHeadBlock) {
      AccumulateValues<kHeadBlock>(&s.scores[h * stride + first], stride, s.tile.data(), count, d,
                                   a.o + h * d);
    }
    for (; h < heads; ++h)
      AccumulateValues<1>(&s.scores[h * stride + first], stride, s.tile.data(), count, d, a.o + h * d);
  }
  for (size_t h = 0; h < heads; ++h) {
    for (size_t i = 0; i < d; ++i) a.o[h * d + i] *= s.inverse_sums[h];
  }
}

}  // namespace holdfast::model::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace holdfast::model {
HWY_EXPORT(AttendRowImpl);

namespace cpu {

void AttendRow(const AttendRowArgs& args, AttentionScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(AttendRowImpl)(args, scratch);
}

}  // namespace cpu
}  // namespace holdfast::model
#endif  // HWY_ONCE
