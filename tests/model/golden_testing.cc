#include "tests/model/golden_testing.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace holdfast::model {

std::string GoldenDirectory() {
  const char* env = std::getenv("HOLDFAST_GOLDEN_DIR");
  const std::string directory = env != nullptr ? env : std::string(HOLDFAST_SOURCE_DIR) + "/../shared/golden";
  return base::RealFileSystem().Stat(directory + "/README.md").ok() ? directory : "";
}

std::unique_ptr<TensorFile> TensorFile::Open(const std::string& path) {
  auto mapping = base::RealFileSystem().Map(path);
  HF_CHECK(mapping.ok());
  auto file = Safetensors::Parse((*mapping)->bytes(), path);
  HF_CHECK(file.ok());
  auto self = std::make_unique<TensorFile>();
  self->mapping_ = std::move(*mapping);
  self->file_ = std::move(*file);
  return self;
}

const TensorView& TensorFile::Tensor(const std::string& name) const {
  const TensorView* view = file_->Find(name);
  HF_CHECK(view != nullptr);
  return *view;
}

std::span<const float> TensorFile::Floats(const std::string& name) const {
  const TensorView& view = Tensor(name);
  HF_CHECK(view.dtype == DType::kF32);
  return {reinterpret_cast<const float*>(view.data.data()), view.data.size() / 4};
}

std::vector<int32_t> TensorFile::Ints(const std::string& name) const {
  const TensorView& view = Tensor(name);
  std::vector<int32_t> out;
  for (size_t i = 0; i < view.data.size(); i += static_cast<size_t>(DTypeBytes(view.dtype))) {
    if (view.dtype == DType::kI64) {
      int64_t value = 0;
      std::memcpy(&value, view.data.data() + i, 8);
      out.push_back(static_cast<int32_t>(value));
    } else {
      HF_CHECK(view.dtype == DType::kI32);
      int32_t value = 0;
      std::memcpy(&value, view.data.data() + i, 4);
      out.push_back(value);
    }
  }
  return out;
}

std::vector<int64_t> TensorFile::MetadataInts(const std::string& key) const {
  const auto it = file_->metadata().find(key);
  HF_CHECK(it != file_->metadata().end());
  std::vector<int64_t> out;
  const char* p = it->second.c_str();
  while (*p != '\0') {
    char* end = nullptr;
    const long value = std::strtol(p, &end, 10);
    if (end == p) {
      ++p;
    } else {
      out.push_back(value);
      p = end;
    }
  }
  return out;
}

double MaxAbsDifference(std::span<const float> a, std::span<const float> b) {
  HF_CHECK(a.size() == b.size());
  double max = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= max)) max = difference;  // keeps NaN
  }
  return max;
}

double MeanAbsDifference(std::span<const float> a, std::span<const float> b) {
  HF_CHECK(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::fabs(static_cast<double>(a[i]) - b[i]);
  return sum / static_cast<double>(a.size());
}

double Cosine(std::span<const float> a, std::span<const float> b) {
  HF_CHECK(a.size() == b.size());
  double ab = 0;
  double aa = 0;
  double bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

double MeanKl(std::span<const float> p, std::span<const float> q, size_t vocab) {
  HF_CHECK(p.size() == q.size() && p.size() % vocab == 0);
  const auto log_sum = [vocab](const float* x) {
    double max = x[0];
    for (size_t v = 0; v < vocab; ++v) max = std::max<double>(max, x[v]);
    double sum = 0;
    for (size_t v = 0; v < vocab; ++v) sum += std::exp(x[v] - max);
    return max + std::log(sum);
  };
  double total = 0;
  for (size_t at = 0; at < p.size(); at += vocab) {
    const double lp = log_sum(&p[at]);
    const double lq = log_sum(&q[at]);
    for (size_t v = 0; v < vocab; ++v) {
      total += std::exp(p[at + v] - lp) * ((p[at + v] - lp) - (q[at + v] - lq));
    }
  }
  return total / static_cast<double>(p.size() / vocab);
}

}  // namespace holdfast::model
