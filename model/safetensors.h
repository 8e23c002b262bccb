// The safetensors file format: an 8-byte little-endian header length, a JSON header, raw tensor bytes.
// The reader treats its input as hostile. Source: the safetensors format description; spec "Tensors".
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"

namespace holdfast::model {

enum class DType : uint8_t { kF32, kF16, kBf16, kF8E4m3, kF8E8m0, kI8, kU8, kI32, kI64 };

// "F8_E4M3" and so on, as the header spells it.
std::string_view DTypeName(DType dtype);
int64_t DTypeBytes(DType dtype);

// A tensor inside a mapped file; `data` lives as long as the mapping. Little-endian, row-major.
struct TensorView {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

// A name from a file, made printable and short, for messages.
std::string PrintableName(std::string_view name);

std::string ShapeText(std::span<const int64_t> shape);  // "[2, 3]"

// One parsed file. Immutable; safe to read from any thread.
class Safetensors {
 public:
  // Parses `bytes`, which must outlive the result. `origin` names the file in errors. Errors (InvalidArgument
  // or DataLoss): short file, header longer than the file or than 100 MB, bad JSON, unknown dtype, a shape
  // that overflows, offsets that are out of range, overlap, leave a hole, or disagree with dtype and shape.
  static base::StatusOr<Safetensors> Parse(std::span<const std::byte> bytes, std::string_view origin);

  // Null when absent.
  const TensorView* Find(std::string_view name) const;
  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }

 private:
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

// One tensor to be written. `fill` is called once, when its turn comes, with a zeroed buffer of the tensor's
// size, so that a checkpoint larger than memory can be written.
struct TensorToWrite {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::function<void(std::span<std::byte>)> fill;

  int64_t bytes() const;
};

// Writes `tensors` in order to a new file, atomically (a temporary file, fsync, rename).
base::Status WriteSafetensors(base::FileSystem& fs, const std::string& path,
                              std::span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string>& metadata = {});

}  // namespace holdfast::model
