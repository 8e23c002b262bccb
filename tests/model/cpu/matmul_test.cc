#include "model/cpu/matmul.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "model/number_formats.h"
#include "tests/model/cpu/kernel_testing.h"

namespace holdfast::model::cpu {
namespace {

// A random matrix in one stored form, one byte off alignment as shards may be.
struct StoredMatrix {
  StoredMatrix(test::SeededRandom& random, MatrixFormat format, ScaleFormat scale_format, int64_t rows,
               int64_t cols) {
    m.format = format;
    m.scale_format = scale_format;
    m.rows = rows;
    m.cols = cols;
    if (format == MatrixFormat::kFp8) m.block_rows = m.block_cols = 32;
    if (format == MatrixFormat::kFp4) m.block_cols = 32;
    bytes.resize(static_cast<size_t>(rows * m.row_bytes()) + 1);
    FillValues(random, format);
    m.data = bytes.data() + 1;
    const int64_t scale_count = (rows + m.block_rows - 1) / m.block_rows * m.scale_cols();
    scale_bytes.resize(static_cast<size_t>(scale_count) * 4 + 1);
    for (int64_t i = 0; i < scale_count; ++i) {
      if (scale_format == ScaleFormat::kF32) {
        const float s = 0.01f + static_cast<float>(random.Below(1000)) * 1e-3f;
        std::memcpy(&scale_bytes[static_cast<size_t>(i) * 4 + 1], &s, 4);
      } else {
        scale_bytes[static_cast<size_t>(i) + 1] = static_cast<std::byte>(110 + random.Below(20));
      }
    }
    m.scales = scale_bytes.data() + 1;
  }

  void FillValues(test::SeededRandom& random, MatrixFormat format) {
    for (std::byte& b : bytes) {
      b = static_cast<std::byte>(random.Next());
      if (format == MatrixFormat::kFp8 && (static_cast<uint8_t>(b) & 0x7f) == 0x7f)
        b = std::byte{0x35};  // no NaN
    }
    const size_t width = format == MatrixFormat::kF32 ? 4 : 2;
    if (format != MatrixFormat::kF32 && format != MatrixFormat::kBf16) return;
    for (size_t i = 1; i + width <= bytes.size(); i += width) {
      const float v = RandomFloats(random, 1)[0];
      const uint16_t half = F32ToBf16(v);
      std::memcpy(&bytes[i], width == 4 ? static_cast<const void*>(&v) : &half, width);
    }
  }

  Matrix m;
  std::vector<std::byte> bytes;
  std::vector<std::byte> scale_bytes;
};

// One product by the definition in matmul.h.
float NaiveDot(const Matrix& m, int64_t row, const std::vector<float>& x) {
  if (m.format != MatrixFormat::kFp4) {
    std::vector<float> w(static_cast<size_t>(m.cols));
    for (int64_t c = 0; c < m.cols; ++c) w[static_cast<size_t>(c)] = MatrixElement(m, row, c);
    return LaneDot(x.data(), w.data(), w.size());
  }
  float lanes[16] = {};
  for (int64_t first = 0; first < m.cols; first += 8) {  // one lane's 8 elements of a group of 128
    const int64_t block = first / 32 * 32;
    float amax = 0;
    for (int64_t i = block; i < block + 32; ++i) amax = std::max(amax, std::fabs(x[static_cast<size_t>(i)]));
    const float inverse = amax > 1e-30f ? 127.0f / amax : 0.0f;
    const float x_scale = amax > 1e-30f ? amax / 127.0f * 0.5f : 0.0f;
    int32_t sum = 0;
    for (int64_t i = first; i < first + 8; ++i) {
      const auto q = static_cast<int32_t>(
          std::nearbyint(std::clamp(x[static_cast<size_t>(i)] * inverse, -127.0f, 127.0f)));
      const auto packed = static_cast<uint8_t>(m.row(row)[i / 2]);
      sum += q * static_cast<int32_t>(2 * kE2m1Values[i % 2 == 0 ? packed & 15 : packed >> 4]);
    }
    float& lane = lanes[first % 128 / 8];
    lane = std::fma(static_cast<float>(sum), m.scale(row, first) * x_scale, lane);
  }
  return TreeSum(lanes);
}

class MatmulTest : public KernelTest {
 protected:
  void Check(MatrixFormat format, ScaleFormat scales, int64_t k, const std::vector<int32_t>& pick) {
    SCOPED_TRACE(::testing::Message()
                 << "format " << static_cast<int>(format) << " k " << k << " rows " << pick.size());
    test::SeededRandom random(static_cast<uint64_t>(k) * 31 + pick.size());
    const int64_t rows = 37;  // no multiple of a block or panel
    const StoredMatrix w(random, format, scales, rows, k);
    const int32_t n = *std::max_element(pick.begin(), pick.end()) + 1;
    std::vector<float> x = RandomFloats(random, static_cast<size_t>(n * k), 0.7f);
    std::fill_n(x.begin(), 32, 0.0f);  // a block that is all zero
    Int8Rows int8;
    int8.Resize(n, k);
    for (int32_t i = 0; i < n; ++i) QuantiseRow(&x[static_cast<size_t>(i * k)], k, int8, i);
    MatmulScratch scratch;
    const int64_t begin = 5;
    std::vector<float> out(pick.size() * static_cast<size_t>(rows), -7.0f);
    DotRows(w.m, begin, rows, {x.data(), k, &int8, pick}, out.data(), rows, scratch);
    for (size_t i = 0; i < pick.size(); ++i) {
      const auto first = x.begin() + static_cast<int64_t>(pick[i]) * k;
      const std::vector<float> row(first, first + k);
      for (int64_t r = begin; r < rows; ++r) {
        const float got = out[i * static_cast<size_t>(rows) + static_cast<size_t>(r - begin)];
        const float want = NaiveDot(w.m, r, row);
        ASSERT_EQ(std::memcmp(&got, &want, 4), 0) << "row " << r << " got " << got << " want " << want;
      }
      for (int64_t r = rows - begin; r < rows; ++r) {
        EXPECT_EQ(out[i * static_cast<size_t>(rows) + static_cast<size_t>(r)], -7.0f)
            << "wrote past the tile";
      }
    }
  }
  // 1 to 8 rows take the path for few, more the one for many; a gap in the picks takes the gathered path.
  void CheckAll(MatrixFormat format, ScaleFormat scales) {
    for (const int64_t k : {32, 64, 96, 128, 160, 512, 1056, 2208}) {
      for (const size_t count : {1, 2, 3, 4, 5, 8, 9, 13}) {
        std::vector<int32_t> pick(count);
        std::iota(pick.begin(), pick.end(), 0);
        Check(format, scales, k, pick);
        if (count > 2) pick[2] += 4;
        Check(format, scales, k, pick);
      }
    }
  }
};

TEST_P(MatmulTest, Float32EqualsTheDefinition) { CheckAll(MatrixFormat::kF32, ScaleFormat::kNone); }
TEST_P(MatmulTest, Bf16EqualsTheDefinition) { CheckAll(MatrixFormat::kBf16, ScaleFormat::kNone); }
TEST_P(MatmulTest, Fp8WithPowerOfTwoScalesEqualsTheDefinition) {
  CheckAll(MatrixFormat::kFp8, ScaleFormat::kE8m0);
}
TEST_P(MatmulTest, Fp4EqualsTheDefinition) { CheckAll(MatrixFormat::kFp4, ScaleFormat::kE8m0); }

// Base checkpoints: a float32 scale is rounded once into the weight, as the official dequantisation does.
TEST_P(MatmulTest, Fp8WithFloatScalesEqualsTheDefinition) { CheckAll(MatrixFormat::kFp8, ScaleFormat::kF32); }

INSTANTIATE_TEST_SUITE_P(Targets, MatmulTest, ::testing::ValuesIn(AvailableTargets()), TargetTestName);

}  // namespace
}  // namespace holdfast::model::cpu
