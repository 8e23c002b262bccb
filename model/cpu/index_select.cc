#include "model/cpu/index_select.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "model/cpu/targets.h"
#include "model/number_formats.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/cpu/index_select.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "model/cpu/lanes-inl.h"
#include "model/cpu/x86_ops-inl.h"

HWY_BEFORE_NAMESPACE();
namespace holdfast::model::HWY_NAMESPACE {

using cpu::IndexScratch;
using cpu::SelectRowArgs;

constexpr size_t kBlock = 32;      // elements that share a scale
constexpr size_t kMaxBlocks = 16;  // ParseConfig bounds index_head_dim by 512

// Doubled E2M1 values.
constexpr int8_t kDoubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Queries of 16 heads side by side, four elements of each head at a time, as DotBytes wants them:
// queries[(head group, quad of elements, head, 4)], offsets[(head group, block, head)] = -12 * sum of a
// block.
void PackQueries(const SelectRowArgs& a, IndexScratch& s) {
  const auto dim = static_cast<size_t>(a.codec.dim());
  const auto heads = static_cast<size_t>(a.heads);
  const size_t groups = (heads + kLanes - 1) / kLanes;
  const size_t blocks = dim / kBlock;
  s.queries.assign(groups * dim * kLanes, 0);
  s.offsets.assign(groups * blocks * kLanes, 0);
  s.query_scales.assign(groups * blocks * kLanes, 0.0f);
  s.weights.assign(groups * kLanes, 0.0f);
  const float norm = 1.0f / std::sqrt(static_cast<float>(dim) * static_cast<float>(heads));
  for (size_t h = 0; h < heads; ++h) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(a.q) + h * static_cast<size_t>(a.codec.bytes());
    const size_t group = h / kLanes;
    const size_t lane = h % kLanes;
    s.weights[h] = a.weights[h] * norm;
    for (size_t b = 0; b < blocks; ++b) {
      int32_t sum = 0;
      for (size_t i = b * kBlock; i < (b + 1) * kBlock; ++i) {
        const int8_t value = kDoubled[(bytes[i / 2] >> (4 * (i % 2))) & 15];
        s.queries[((group * (dim / 4) + i / 4) * kLanes + lane) * 4 + i % 4] = value;
        sum += value;
      }
      s.offsets[(group * blocks + b) * kLanes + lane] = -12 * sum;
      // A quarter: both sides are doubled.
      s.query_scales[(group * blocks + b) * kLanes + lane] =
          E8m0ToF32(bytes[static_cast<size_t>(a.codec.scale_offset()) + b]) * 0.25f;
    }
  }
}

// The dots of one key with 16 heads (part p of them), as float32: blocks summed by a binary tree.
HWY_INLINE VF DotHeads(const int8_t* HWY_RESTRICT queries, const int32_t* HWY_RESTRICT offsets,
                       const float* HWY_RESTRICT scales, const uint8_t* HWY_RESTRICT key,
                       const float* HWY_RESTRICT key_scales, size_t blocks) {
  const F d;
  const I32 d32;
  const U8 d8;
  const I8 di8;
  VF sums[kMaxBlocks];
  for (size_t b = 0; b < blocks; ++b) {
    VI32 acc = hn::LoadU(d32, offsets + b * kLanes);
    for (size_t quad = 0; quad < kBlock / 4; ++quad) {
      int32_t four = 0;
      std::memcpy(&four, key + b * kBlock + quad * 4, 4);
      acc = DotBytes(acc, hn::BitCast(d8, hn::Set(d32, four)),
                     hn::LoadU(di8, queries + (b * (kBlock / 4) + quad) * kLanes * 4));
    }
    const VF scale = hn::Mul(hn::LoadU(d, scales + b * kLanes), hn::Set(d, key_scales[b]));
    sums[b] = hn::Mul(hn::ConvertTo(d, acc), scale);
  }
  for (size_t step = 1; step < blocks; step *= 2) {
    for (size_t b = 0; b + step < blocks; b += 2 * step) sums[b] = hn::Add(sums[b], sums[b + step]);
  }
  return sums[0];
}

// A key's codes as unsigned bytes (doubled value + 12) and its scales.
HWY_INLINE void DecodeKey(const std::byte* entry, size_t dim, uint8_t* HWY_RESTRICT codes,
                          float* HWY_RESTRICT scales) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(entry);
  const hn::CappedTag<uint8_t, 16> d;
  HWY_ALIGN static constexpr uint8_t kCodes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
  const auto table = hn::Load(d, kCodes);
  const auto mask = hn::Set(d, 15);
  const hn::Repartition<uint16_t, decltype(d)> d16;
  for (size_t i = 0; i < dim / 2; i += 16) {
    const auto pair = hn::LoadU(d, bytes + i);
    const auto low = hn::TableLookupBytes(table, hn::And(pair, mask));
    const auto high =
        hn::TableLookupBytes(table, hn::And(hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(d16, pair))), mask));
    hn::StoreU(hn::InterleaveLower(d, low, high), d, codes + 2 * i);
    hn::StoreU(hn::InterleaveUpper(d, low, high), d, codes + 2 * i + 16);
  }
  for (size_t b = 0; b < dim / kBlock; ++b) scales[b] = E8m0ToF32(bytes[dim / 2 + b]);
}

float ScoreKey(const SelectRowArgs& a, const IndexScratch& s, const std::byte* entry) {
  const F d;
  const auto dim = static_cast<size_t>(a.codec.dim());
  const size_t blocks = dim / kBlock;
  const size_t groups = s.weights.size() / kLanes;
  HWY_ALIGN uint8_t key[kMaxBlocks * kBlock];
  HWY_ALIGN float key_scales[kMaxBlocks];
  DecodeKey(entry, dim, key, key_scales);
  HWY_ALIGN float lanes[kLanes];
  for (size_t p = 0; p < kParts; ++p) {
    VF acc = hn::Zero(d);
    for (size_t g = 0; g < groups; ++g) {
      const VF dot = DotHeads(&s.queries[g * dim * kLanes + p * kWidth * 4],
                              &s.offsets[g * blocks * kLanes + p * kWidth],
                              &s.query_scales[g * blocks * kLanes + p * kWidth], key, key_scales, blocks);
      acc = Fma(hn::LoadU(d, &s.weights[g * kLanes + p * kWidth]), hn::Max(hn::Zero(d), dot), acc);
    }
    hn::Store(acc, d, lanes + p * kWidth);
  }
  return SumLanes(lanes);
}

void ScoreRowImpl(const SelectRowArgs& a, IndexScratch& s) {
  PackQueries(a, s);
  for (int64_t e = 0; e < a.visible; ++e) s.scores[static_cast<size_t>(e)] = ScoreKey(a, s, a.keys.entry(e));
}

}  // namespace holdfast::model::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace holdfast::model {
HWY_EXPORT(ScoreRowImpl);

namespace cpu {

int32_t SelectRow(const SelectRowArgs& a, IndexScratch& s) {
  const auto topk = static_cast<int32_t>(std::min(a.visible, a.topk));
  if (topk == a.visible) {  // everything is selected: no score is needed
    for (int32_t e = 0; e < topk; ++e) a.selected[e] = e;
    return topk;
  }
  const auto visible = static_cast<size_t>(a.visible);
  if (s.scores.size() < visible) s.scores.resize(visible);
  HWY_DYNAMIC_DISPATCH(ScoreRowImpl)(a, s);
  for (size_t e = 0; e < visible; ++e) {
    if (!std::isfinite(s.scores[e])) return kNotFinite;
  }
  if (s.order.size() < visible) s.order.resize(visible);
  std::copy_n(s.scores.begin(), visible, s.order.begin());
  std::nth_element(s.order.begin(), s.order.begin() + topk - 1,
                   s.order.begin() + static_cast<int64_t>(visible), std::greater<>());
  const float threshold = s.order[static_cast<size_t>(topk) - 1];
  int32_t ties = topk;
  for (size_t e = 0; e < visible; ++e) ties -= s.scores[e] > threshold ? 1 : 0;
  int32_t count = 0;
  for (size_t e = 0; e < visible; ++e) {
    const bool tie = s.scores[e] == threshold;
    if (s.scores[e] > threshold || (tie && ties > 0)) {
      ties -= tie ? 1 : 0;
      a.selected[count++] = static_cast<int32_t>(e);
    }
  }
  return count;
}

}  // namespace cpu
}  // namespace holdfast::model
#endif  // HWY_ONCE
