// Products of weights in their stored form with rows of activations. Private to model/.
//
// Order of a sum over K (final bits): 16 virtual lanes, one tree. With F32, BF16 and FP8 weights lane j takes
// elements j, j + 16, ...; the weight is widened and scaled (exact for power-of-two scales) and multiplied
// with the float32 activation by FMA. With FP4 weights the activation is rounded to 8 bits per 32 elements;
// lane j takes the 8 elements 8j .. 8j + 7 of each 128, whose products are summed exactly in integers and
// added by one FMA with both scales.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/weights.h"

namespace holdfast::model::cpu {

// Elements of K whose FP4 products go into the 16 lanes at once.
inline constexpr int64_t kInt8Group = 128;

// Rows of activations rounded to int8, arranged for DotBytes. For each group of 128: 64 even elements, 64 odd
// ones; for each of the 16 lanes the scale (halved, since FP4 codes are doubled) and -12 times the sum of its
// 8 values.
class Int8Rows {
 public:
  void Resize(int64_t rows, int64_t k);
  int64_t groups() const { return groups_; }
  int8_t* values(int64_t row) { return &values_[static_cast<size_t>(row * groups_ * kInt8Group)]; }
  const int8_t* values(int64_t row) const {
    return &values_[static_cast<size_t>(row * groups_ * kInt8Group)];
  }
  float* scales(int64_t row) { return &scales_[static_cast<size_t>(row * groups_ * 16)]; }
  const float* scales(int64_t row) const { return &scales_[static_cast<size_t>(row * groups_ * 16)]; }
  int32_t* offsets(int64_t row) { return &offsets_[static_cast<size_t>(row * groups_ * 16)]; }
  const int32_t* offsets(int64_t row) const { return &offsets_[static_cast<size_t>(row * groups_ * 16)]; }

 private:
  int64_t groups_ = 0;
  std::vector<int8_t> values_;
  std::vector<float> scales_;
  std::vector<int32_t> offsets_;
};

// Rounds row `row` of `out` from k float32 values: per 32, scale = amax / 127, nearest even.
void QuantiseRow(const float* x, int64_t k, Int8Rows& out, int64_t row);

// The right operand: float32 rows, and their int8 form when a weight wants it. `pick` lists the rows to use.
struct MatmulRows {
  const float* f32 = nullptr;  // [*, k]
  int64_t stride = 0;
  const Int8Rows* int8 = nullptr;
  std::span<const int32_t> pick;
};

// Per-thread scratch, grown on first use.
struct MatmulScratch {
  std::vector<float> panel;
  std::vector<uint8_t> codes;
  std::vector<float> code_scales;
  std::vector<float> lanes;
};

// True when products with `m` take the int8 form.
inline bool WantsInt8(const Matrix& m) { return m.format == MatrixFormat::kFp4; }

// out[i * out_stride + (r - begin)] = W[r] . x[pick[i]] for weight rows r in [begin, end).
void DotRows(const Matrix& w, int64_t begin, int64_t end, const MatmulRows& x, float* out, int64_t out_stride,
             MatmulScratch& scratch);

}  // namespace holdfast::model::cpu
