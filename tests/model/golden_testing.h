// Checkpoints with the official code's outputs, when the golden data is at hand; comparison measures.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "model/safetensors.h"
#include "model/weights.h"

namespace holdfast::model {

// The folder of the golden data (HOLDFAST_GOLDEN_DIR, or beside the checkout), or empty when absent.
std::string GoldenDirectory();

// A mapped safetensors file with typed access; aborts the test on a missing name.
class TensorFile {
 public:
  static std::unique_ptr<TensorFile> Open(const std::string& path);
  std::span<const float> Floats(const std::string& name) const;
  std::vector<int32_t> Ints(const std::string& name) const;
  const TensorView& Tensor(const std::string& name) const;
  bool Has(const std::string& name) const { return file_->Find(name) != nullptr; }
  // An integer list of the metadata, "[1, 2]" or "3".
  std::vector<int64_t> MetadataInts(const std::string& key) const;

 private:
  std::unique_ptr<base::MappedFile> mapping_;
  std::optional<Safetensors> file_;
};

double MaxAbsDifference(std::span<const float> a, std::span<const float> b);
double MeanAbsDifference(std::span<const float> a, std::span<const float> b);
double Cosine(std::span<const float> a, std::span<const float> b);
// KL(softmax(p) || softmax(q)) of each row of `vocab` logits, averaged over rows.
double MeanKl(std::span<const float> p, std::span<const float> q, size_t vocab);

}  // namespace holdfast::model
