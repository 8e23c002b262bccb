#include "model/cpu/matmul.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/cpu/targets.h"
#include "model/number_formats.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/cpu/matmul.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "model/cpu/decode-inl.h"
#include "model/cpu/lanes-inl.h"
#include "model/cpu/x86_ops-inl.h"

HWY_BEFORE_NAMESPACE();
namespace holdfast::model::HWY_NAMESPACE {

using cpu::Int8Rows;
using cpu::kInt8Group;
using cpu::MatmulRows;
using cpu::MatmulScratch;

// A block is R rows of activations by kBlockCols rows of weights, as many as the registers hold.
constexpr int kBlockCols = 4;
constexpr int kBlockRows = kWidth == 16 ? 4 : 2;
// Up to this many activation rows, weights are decoded in short pieces that stay in the first-level cache;
// above, panels of whole rows are decoded once for all of them.
constexpr int64_t kFewRows = 8;
constexpr int64_t kPieceColumns = 1024;
constexpr int64_t kPanelRows = 16;

HWY_INLINE float BlockScale(const Matrix& m, int64_t row, int64_t block) {
  const int64_t at = row / m.block_rows * m.scale_cols() + block;
  if (m.scale_format == ScaleFormat::kE8m0) return E8m0ToF32(static_cast<uint8_t>(m.scales[at]));
  float scale = 0;
  std::memcpy(&scale, m.scales + 4 * at, 4);
  return scale;
}

// w[k0 .. k0 + kn) of one row, widened and scaled.
void DecodeFloats(const Matrix& m, int64_t row, int64_t k0, int64_t kn, float* HWY_RESTRICT out) {
  const F d;
  const auto* bytes = reinterpret_cast<const uint8_t*>(m.row(row));
  switch (m.format) {
    case MatrixFormat::kF32:
      std::memcpy(out, bytes + 4 * k0, static_cast<size_t>(kn) * 4);
      return;
    case MatrixFormat::kBf16:
      for (int64_t k = 0; k < kn; k += static_cast<int64_t>(kWidth)) {
        hn::StoreU(LoadBf16(bytes + 2 * (k0 + k)), d, out + k);
      }
      return;
    case MatrixFormat::kFp8:
      for (int64_t k = 0; k < kn;) {
        const int64_t end = std::min(kn, ((k0 + k) / m.block_cols + 1) * m.block_cols - k0);
        const int64_t block = (k0 + k) / m.block_cols;
        const VF scale = hn::Set(d, BlockScale(m, row, block) * kE4m3Fold);
        for (; k < end; k += static_cast<int64_t>(kWidth)) {
          hn::StoreU(hn::Mul(LoadE4m3Over256(bytes + k0 + k), scale), d, out + k);
        }
      }
      return;
    case MatrixFormat::kFp4:
      return;  // DecodeCodes
  }
}

// One group of 128 FP4 weights as unsigned codes (doubled value + 12): 64 even elements, then 64 odd ones.
HWY_INLINE void DecodeCodeGroup(const uint8_t* HWY_RESTRICT packed, uint8_t* HWY_RESTRICT out) {
  const U8 d;
  HWY_ALIGN static constexpr uint8_t kCodes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
  const auto table = hn::LoadDup128(d, kCodes);
  const auto mask = hn::Set(d, 15);
  const hn::Repartition<uint16_t, U8> d16;
  for (size_t i = 0; i < 64; i += hn::Lanes(d)) {
    const auto bytes = hn::LoadU(d, packed + i);
    const auto high = hn::And(hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(d16, bytes))), mask);
    hn::StoreU(hn::TableLookupBytes(table, hn::And(bytes, mask)), d, out + i);
    hn::StoreU(hn::TableLookupBytes(table, high), d, out + 64 + i);
  }
}

// Groups [g0, g0 + gn) of one FP4 row. What lies beyond the row's end is zero with scale zero.
void DecodeCodes(const Matrix& m, int64_t row, int64_t g0, int64_t gn, uint8_t* HWY_RESTRICT codes,
                 float* HWY_RESTRICT scales) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(m.row(row));
  const auto* exponents = reinterpret_cast<const uint8_t*>(m.scales) + row * m.scale_cols();
  for (int64_t g = g0; g < g0 + gn; ++g, codes += kInt8Group, scales += 16) {
    const int64_t columns = std::min(kInt8Group, m.cols - g * kInt8Group);
    if (columns == kInt8Group) {
      DecodeCodeGroup(bytes + g * kInt8Group / 2, codes);
    } else {
      HWY_ALIGN uint8_t padded[64] = {};
      std::memcpy(padded, bytes + g * kInt8Group / 2, static_cast<size_t>(columns) / 2);
      DecodeCodeGroup(padded, codes);
    }
    for (int64_t b = 0; b < 4; ++b) {
      const float scale = b * 32 < columns ? E8m0ToF32(exponents[g * 4 + b]) : 0.0f;
      std::fill_n(scales + 4 * b, 4, scale);
    }
  }
}

// lanes[r][c][:] += FP4 products of gn groups; the loop of all of them.
template <int R>
HWY_INLINE void AccumulateCodes(const Int8Rows& x, const int32_t* HWY_RESTRICT pick, int64_t g0, int64_t gn,
                                const uint8_t* HWY_RESTRICT codes, const float* HWY_RESTRICT scales,
                                int64_t panel_groups, float* HWY_RESTRICT lanes) {
  const F d;
  const I32 d32;
  const U8 d8;
  const I8 di8;
  for (size_t p = 0; p < kParts; ++p) {
    const int8_t* values[R];
    const float* x_scales[R];
    const int32_t* offsets[R];
    VF acc[R][kBlockCols];
    HF_UNROLL
    for (int r = 0; r < R; ++r) {
      values[r] = x.values(pick[r]) + g0 * kInt8Group + p * 4 * kWidth;
      x_scales[r] = x.scales(pick[r]) + g0 * 16 + p * kWidth;
      offsets[r] = x.offsets(pick[r]) + g0 * 16 + p * kWidth;
      HF_UNROLL
      for (int c = 0; c < kBlockCols; ++c)
        acc[r][c] = hn::Load(d, lanes + (r * kBlockCols + c) * 16 + p * kWidth);
    }
    for (int64_t g = 0; g < gn; ++g) {
      HF_UNROLL
      for (int c = 0; c < kBlockCols; ++c) {
        const int64_t at = c * panel_groups + g;
        const VU8 even = hn::LoadU(d8, codes + at * kInt8Group + p * 4 * kWidth);
        const VU8 odd = hn::LoadU(d8, codes + at * kInt8Group + 64 + p * 4 * kWidth);
        const VF w_scale = hn::LoadU(d, scales + at * 16 + p * kWidth);
        HF_UNROLL
        for (int r = 0; r < R; ++r) {
          VI32 sum = hn::LoadU(d32, offsets[r] + g * 16);
          sum = DotBytes(sum, even, hn::LoadU(di8, values[r] + g * kInt8Group));
          sum = DotBytes(sum, odd, hn::LoadU(di8, values[r] + g * kInt8Group + 64));
          const VF scale = hn::Mul(w_scale, hn::LoadU(d, x_scales[r] + g * 16));
          acc[r][c] = Fma(hn::ConvertTo(d, sum), scale, acc[r][c]);
        }
      }
    }
    HF_UNROLL
    for (int r = 0; r < R; ++r) {
      HF_UNROLL
      for (int c = 0; c < kBlockCols; ++c)
        hn::Store(acc[r][c], d, lanes + (r * kBlockCols + c) * 16 + p * kWidth);
    }
  }
}

// What differs between float and FP4 weights: how a piece of a panel is decoded, and its products.
class FloatPanel {
 public:
  static constexpr int64_t kUnit = 16;  // columns
  FloatPanel(const Matrix& w, const MatmulRows& x, MatmulScratch& s, int64_t rows, int64_t units)
      : w_(w), x_(x), units_(units), panel_(s.panel) {
    const auto need = static_cast<size_t>(rows * units * kUnit);
    if (panel_.size() < need) panel_.resize(need);
  }
  void Decode(int64_t slot, int64_t row, int64_t u0, int64_t un) {
    DecodeFloats(w_, row, u0 * kUnit, un * kUnit, &panel_[static_cast<size_t>(slot * units_ * kUnit)]);
  }
  template <int R>
  void Accumulate(int64_t slot, int64_t first, int64_t u0, int64_t un, float* lanes) const {
    // Picked rows need not be neighbours: gather by calling per row when they are not.
    const float* w = &panel_[static_cast<size_t>(slot * units_ * kUnit)];
    const auto stride = static_cast<size_t>(units_ * kUnit);
    const auto n = static_cast<size_t>(un * kUnit);
    const int32_t* pick = &x_.pick[static_cast<size_t>(first)];
    const float* x = x_.f32 + pick[0] * x_.stride + u0 * kUnit;
    bool neighbours = true;
    for (int r = 1; r < R; ++r) neighbours &= pick[r] == pick[0] + r;
    if (neighbours) {
      AccumulateBlock<R, kBlockCols>(x, static_cast<size_t>(x_.stride), w, stride, n, lanes);
      return;
    }
    HF_UNROLL
    for (int r = 0; r < R; ++r) {
      AccumulateBlock<1, kBlockCols>(x_.f32 + pick[r] * x_.stride + u0 * kUnit, 0, w, stride, n,
                                     lanes + r * kBlockCols * 16);
    }
  }

 private:
  const Matrix& w_;
  const MatmulRows& x_;
  const int64_t units_;
  std::vector<float>& panel_;
};

class CodePanel {
 public:
  static constexpr int64_t kUnit = kInt8Group;
  CodePanel(const Matrix& w, const MatmulRows& x, MatmulScratch& s, int64_t rows, int64_t units)
      : w_(w), x_(x), units_(units), codes_(s.codes), scales_(s.code_scales) {
    const auto need = static_cast<size_t>(rows * units);
    if (codes_.size() < need * kInt8Group) codes_.resize(need * kInt8Group);
    if (scales_.size() < need * 16) scales_.resize(need * 16);
  }
  void Decode(int64_t slot, int64_t row, int64_t u0, int64_t un) {
    DecodeCodes(w_, row, u0, un, &codes_[static_cast<size_t>(slot * units_ * kInt8Group)],
                &scales_[static_cast<size_t>(slot * units_ * 16)]);
  }
  template <int R>
  void Accumulate(int64_t slot, int64_t first, int64_t u0, int64_t un, float* lanes) const {
    AccumulateCodes<R>(*x_.int8, &x_.pick[static_cast<size_t>(first)], u0, un,
                       &codes_[static_cast<size_t>(slot * units_ * kInt8Group)],
                       &scales_[static_cast<size_t>(slot * units_ * 16)], units_, lanes);
  }

 private:
  const Matrix& w_;
  const MatmulRows& x_;
  const int64_t units_;
  std::vector<uint8_t>& codes_;
  std::vector<float>& scales_;
};

template <class Panel>
HWY_INLINE void AccumulateRows(const Panel& panel, int rows, int64_t slot, int64_t first, int64_t u0,
                               int64_t un, float* lanes) {
  switch (rows) {
    case 1:
      return panel.template Accumulate<1>(slot, first, u0, un, lanes);
    case 2:
      return panel.template Accumulate<2>(slot, first, u0, un, lanes);
    case 3:
      if constexpr (kBlockRows >= 3) return panel.template Accumulate<3>(slot, first, u0, un, lanes);
      break;
    default:
      if constexpr (kBlockRows >= 4) return panel.template Accumulate<4>(slot, first, u0, un, lanes);
      break;
  }
}

struct Output {
  float* out;
  int64_t stride;
  int64_t begin;
  int64_t end;
};

// Sums the lanes of a block of `rows` x kBlockCols and stores those that exist.
HWY_INLINE void Finish(const float* lanes, int rows, int64_t first, int64_t row, const Output& o) {
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < kBlockCols && row + c < o.end; ++c) {
      o.out[(first + r) * o.stride + row + c - o.begin] = SumLanes(lanes + (r * kBlockCols + c) * 16);
    }
  }
}

template <class Panel>
void FewRows(const Matrix& w, const MatmulRows& x, const Output& o, MatmulScratch& s) {
  const auto n = static_cast<int64_t>(x.pick.size());
  const int64_t units = (w.cols + Panel::kUnit - 1) / Panel::kUnit;
  const int64_t piece = std::min(units, kPieceColumns / Panel::kUnit);
  Panel panel(w, x, s, kBlockCols, piece);
  HWY_ALIGN float lanes[kFewRows * kBlockCols * 16];
  for (int64_t row = o.begin; row < o.end; row += kBlockCols) {
    std::fill_n(lanes, n * kBlockCols * 16, 0.0f);
    for (int64_t u0 = 0; u0 < units; u0 += piece) {
      const int64_t un = std::min(piece, units - u0);
      for (int64_t c = 0; c < std::min<int64_t>(kBlockCols, o.end - row); ++c)
        panel.Decode(c, row + c, u0, un);
      for (int64_t i = 0; i < n; i += kBlockRows) {
        const auto rows = static_cast<int>(std::min<int64_t>(kBlockRows, n - i));
        AccumulateRows(panel, rows, 0, i, u0, un, lanes + i * kBlockCols * 16);
      }
    }
    for (int64_t i = 0; i < n; ++i) Finish(lanes + i * kBlockCols * 16, 1, i, row, o);
  }
}

template <class Panel>
void ManyRows(const Matrix& w, const MatmulRows& x, const Output& o, MatmulScratch& s) {
  const auto n = static_cast<int64_t>(x.pick.size());
  const int64_t units = (w.cols + Panel::kUnit - 1) / Panel::kUnit;
  Panel panel(w, x, s, kPanelRows, units);
  HWY_ALIGN float lanes[kBlockRows * kBlockCols * 16];
  for (int64_t row = o.begin; row < o.end; row += kPanelRows) {
    const int64_t count = std::min(kPanelRows, o.end - row);
    for (int64_t c = 0; c < count; ++c) panel.Decode(c, row + c, 0, units);
    for (int64_t i = 0; i < n; i += kBlockRows) {
      const auto rows = static_cast<int>(std::min<int64_t>(kBlockRows, n - i));
      for (int64_t c = 0; c < count; c += kBlockCols) {
        std::fill_n(lanes, kBlockRows * kBlockCols * 16, 0.0f);
        AccumulateRows(panel, rows, c, i, 0, units, lanes);
        Finish(lanes, rows, i, row + c, o);
      }
    }
  }
}

void DotRowsImpl(const Matrix& w, int64_t begin, int64_t end, const MatmulRows& x, float* out,
                 int64_t out_stride, MatmulScratch& s) {
  const Output o{out, out_stride, begin, end};
  const bool few = static_cast<int64_t>(x.pick.size()) <= kFewRows;
  if (cpu::WantsInt8(w)) {
    few ? FewRows<CodePanel>(w, x, o, s) : ManyRows<CodePanel>(w, x, o, s);
  } else {
    few ? FewRows<FloatPanel>(w, x, o, s) : ManyRows<FloatPanel>(w, x, o, s);
  }
}

// Rounds one group of up to 128 values: see Int8Rows.
void QuantiseGroup(const float* HWY_RESTRICT x, int64_t columns, int8_t* HWY_RESTRICT values,
                   float* HWY_RESTRICT scales, int32_t* HWY_RESTRICT offsets) {
  const F d;
  const I32 d32;
  HWY_ALIGN int32_t rounded[kInt8Group] = {};
  std::fill_n(scales, 16, 0.0f);
  for (int64_t b = 0; b * 32 < columns; ++b) {
    VF max = hn::Zero(d);
    VF probe = hn::Zero(d);  // 0 * x: NaN when x is not finite, which Max may lose
    for (int64_t i = b * 32; i < b * 32 + 32; i += kWidth) {
      const VF v = hn::LoadU(d, x + i);
      max = hn::Max(max, hn::Abs(v));
      probe = hn::Add(probe, hn::Mul(v, hn::Zero(d)));
    }
    const float amax = hn::GetLane(hn::MaxOfLanes(d, max)) + hn::GetLane(hn::SumOfLanes(d, probe));
    // Half the scale: FP4 codes are doubled. A group too small to matter is zero.
    const bool zero = amax <= 1e-30f;
    std::fill_n(scales + 4 * b, 4, zero ? 0.0f : amax / 127.0f * 0.5f);
    const VF inverse = hn::Set(d, zero ? 0.0f : 127.0f / amax);
    const VF limit = hn::Set(d, 127.0f);
    for (int64_t i = b * 32; i < b * 32 + 32; i += kWidth) {
      const VF scaled = hn::Mul(hn::LoadU(d, x + i), inverse);
      const VF clamped = hn::Max(hn::Min(scaled, limit), hn::Neg(limit));
      hn::Store(hn::NearestInt(clamped), d32, rounded + i);
    }
  }
  for (int64_t lane = 0; lane < 16; ++lane) {
    int32_t sum = 0;
    for (int64_t i = 0; i < 4; ++i) {
      const int32_t even = rounded[lane * 8 + 2 * i];
      const int32_t odd = rounded[lane * 8 + 2 * i + 1];
      values[lane * 4 + i] = static_cast<int8_t>(even);
      values[64 + lane * 4 + i] = static_cast<int8_t>(odd);
      sum += even + odd;
    }
    offsets[lane] = -12 * sum;
  }
}

void QuantiseRowImpl(const float* x, int64_t k, Int8Rows& out, int64_t row) {
  for (int64_t g = 0; g < out.groups(); ++g) {
    QuantiseGroup(x + g * kInt8Group, std::min(kInt8Group, k - g * kInt8Group),
                  out.values(row) + g * kInt8Group, out.scales(row) + g * 16, out.offsets(row) + g * 16);
  }
}

}  // namespace holdfast::model::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace holdfast::model {
HWY_EXPORT(DotRowsImpl);
HWY_EXPORT(QuantiseRowImpl);

namespace cpu {

void Int8Rows::Resize(int64_t rows, int64_t k) {
  groups_ = (k + kInt8Group - 1) / kInt8Group;
  const auto total = static_cast<size_t>(rows * groups_);
  if (values_.size() >= total * kInt8Group) return;
  values_.resize(total * kInt8Group);
  scales_.resize(total * 16);
  offsets_.resize(total * 16);
}

void QuantiseRow(const float* x, int64_t k, Int8Rows& out, int64_t row) {
  HWY_DYNAMIC_DISPATCH(QuantiseRowImpl)(x, k, out, row);
}

void DotRows(const Matrix& w, int64_t begin, int64_t end, const MatmulRows& x, float* out, int64_t out_stride,
             MatmulScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(DotRowsImpl)(w, begin, end, x, out, out_stride, scratch);
}

}  // namespace cpu
}  // namespace holdfast::model
#endif  // HWY_ONCE
