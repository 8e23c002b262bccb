#include "model/weights.h"

#include <cstring>

#include "base/check.h"
#include "model/number_formats.h"

namespace holdfast::model {
namespace {

template <typename T>
T LoadAt(const std::byte* p, int64_t index) {
  T value;
  std::memcpy(&value, p + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

}  // namespace

int64_t Matrix::row_bytes() const {
  switch (format) {
    case MatrixFormat::kF32:
      return cols * 4;
    case MatrixFormat::kBf16:
      return cols * 2;
    case MatrixFormat::kFp8:
      return cols;
    case MatrixFormat::kFp4:
      return cols / 2;
  }
  return 0;
}

float Matrix::scale(int64_t r, int64_t c) const {
  const int64_t index = (r / block_rows) * scale_cols() + c / block_cols;
  switch (scale_format) {
    case ScaleFormat::kNone:
      return 1.0f;
    case ScaleFormat::kE8m0:
      return E8m0ToF32(LoadAt<uint8_t>(scales, index));
    case ScaleFormat::kF32:
      return LoadAt<float>(scales, index);
  }
  return 1.0f;
}

Matrix Matrix::Rows(int64_t first, int64_t count) const {
  HF_CHECK(first % block_rows == 0 && first >= 0 && first + count <= rows);
  Matrix part = *this;
  part.rows = count;
  part.data = row(first);
  if (scale_format != ScaleFormat::kNone) {
    const int64_t scale_bytes = scale_format == ScaleFormat::kF32 ? 4 : 1;
    part.scales = scales + (first / block_rows) * scale_cols() * scale_bytes;
  }
  return part;
}

base::Status CheckShards(const ModelWeights& weights) {
  for (const WeightShard& shard : weights.shards) {
    if (!shard.mapping->damaged()) continue;
    return base::DataLoss("weights are damaged: " + shard.path +
                          ": a page could not be read; the file was truncated or its disk fails. Restore the "
                          "file and start again");
  }
  return {};
}

float MatrixElement(const Matrix& m, int64_t r, int64_t c) {
  const std::byte* row = m.row(r);
  switch (m.format) {
    case MatrixFormat::kF32:
      return LoadAt<float>(row, c);
    case MatrixFormat::kBf16:
      return Bf16ToF32(LoadAt<uint16_t>(row, c));
    case MatrixFormat::kFp8:
      return E4m3ToF32(LoadAt<uint8_t>(row, c)) * m.scale(r, c);
    case MatrixFormat::kFp4: {
      const auto pair = LoadAt<uint8_t>(row, c / 2);
      return kE2m1Values[(c % 2 == 0) ? (pair & 15) : (pair >> 4)] * m.scale(r, c);
    }
  }
  return 0.0f;
}

}  // namespace holdfast::model
