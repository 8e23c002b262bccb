#include "model/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>

namespace holdfast::model {
namespace {

// e^x for x <= 0, to about 1 ulp: x = k ln 2 + r with |r| <= ln 2 / 2, and a Taylor polynomial for e^r. Below
// -700, where e^x is no longer a normal double, 0.
double Exp(double x) {
  if (!(x > -700.0)) return 0.0;
  constexpr double kLog2E = 0x1.71547652b82fep+0;
  constexpr double kLn2High = 0x1.62e42fee00000p-1;  // 32 bits: its product with k is exact
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  const auto k = static_cast<int64_t>(x * kLog2E - 0.5);  // towards zero: to nearest, for x <= 0
  const auto scale = static_cast<double>(k);
  const double r = (x - scale * kLn2High) - scale * kLn2Low;
  constexpr double kInverseFactorials[] = {1.0,
                                           1.0,
                                           1.0 / 2,
                                           1.0 / 6,
                                           1.0 / 24,
                                           1.0 / 120,
                                           1.0 / 720,
                                           1.0 / 5040,
                                           1.0 / 40320,
                                           1.0 / 362880,
                                           1.0 / 3628800,
                                           1.0 / 39916800,
                                           1.0 / 479001600,
                                           1.0 / 6227020800.0};
  double sum = 0;
  for (size_t n = std::size(kInverseFactorials); n > 0; --n) sum = sum * r + kInverseFactorials[n - 1];
  constexpr int64_t kBias = 1023, kMantissaBits = 52;
  return sum * std::bit_cast<double>(static_cast<uint64_t>(k + kBias) << kMantissaBits);
}

// Likelier first, the lower id on a tie.
constexpr auto kLikelier = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

bool IsWithin(double value, double low, double high) { return value >= low && value <= high; }

}  // namespace

base::StatusOr<Sampler> Sampler::Make(const SamplerOptions& options) {
  constexpr double kHottest = 1e6;
  if (!IsWithin(options.temperature, 0, kHottest)) {
    return base::InvalidArgument("temperature must be from 0 to 1e6");
  }
  if (options.top_k < 0) return base::InvalidArgument("top-k must not be negative");
  if (!IsWithin(options.min_p, 0, 1)) return base::InvalidArgument("min-p must be from 0 to 1");
  if (!IsWithin(options.top_p, 0, 1)) return base::InvalidArgument("top-p must be from 0 to 1");
  return Sampler(options);
}

base::StatusOr<int32_t> Sampler::Sample(std::span<const float> logits, const TokenMask* mask,
                                        const base::RandomPoint& point) {
  Collect(logits, mask);
  if (candidates_.empty()) {
    return base::FailedPrecondition("no permitted token has a finite logit");
  }
  const Candidate likeliest =
      *std::max_element(candidates_.begin(), candidates_.end(),
                        [](const Candidate& a, const Candidate& b) { return a.logit < b.logit; });
  if (options_.temperature == 0) return likeliest.id;
  if (options_.top_k > 0) KeepTopK();
  Weigh(likeliest.logit);
  if (options_.top_p < 1) KeepTopP();

  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  const double target = base::RandomDouble(point, 0) * total;
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    sum += candidate.weight;
    if (sum > target) return candidate.id;
  }
  return likeliest.id;  // the target was rounded up to the total
}

// In id order.
void Sampler::Collect(std::span<const float> logits, const TokenMask* mask) {
  candidates_.clear();
  candidates_.reserve(logits.size());
  const auto add = [&](size_t id) {
    if (!std::isfinite(logits[id])) return;
    candidates_.push_back({.logit = logits[id], .id = static_cast<int32_t>(id)});
  };
  if (mask == nullptr) {
    for (size_t id = 0; id < logits.size(); ++id) add(id);
    return;
  }
  for (size_t i = 0; i < mask->words().size(); ++i) {
    for (uint64_t word = mask->words()[i]; word != 0; word &= word - 1) {
      const size_t id = i * TokenMask::kWordBits + static_cast<size_t>(std::countr_zero(word));
      if (id < logits.size()) add(id);
    }
  }
}

void Sampler::KeepTopK() {
  const auto keep = static_cast<size_t>(options_.top_k);
  if (keep >= candidates_.size()) return;
  const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(keep);
  std::nth_element(candidates_.begin(), end, candidates_.end(), kLikelier);
  candidates_.resize(keep);
  // The order after nth_element is the library's affair; sums need one that is ours.
  std::sort(candidates_.begin(), candidates_.end(), kLikelier);
}

void Sampler::Weigh(float highest) {
  const double temperature = options_.temperature;
  for (Candidate& candidate : candidates_) {
    candidate.weight =
        Exp((static_cast<double>(candidate.logit) - static_cast<double>(highest)) / temperature);
  }
  if (options_.min_p == 0) return;
  const double least = options_.min_p;
  std::erase_if(candidates_, [&](const Candidate& candidate) { return candidate.weight < least; });
}

// Sorts no more than it takes to reach the share.
void Sampler::KeepTopP() {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  const double share = options_.top_p * total;
  constexpr size_t kFirst = 64, kGrowth = 8;
  double sum = 0;
  size_t kept = 0;
  for (size_t sorted = kFirst;; sorted *= kGrowth) {
    const size_t end = std::min(sorted, candidates_.size());
    const auto from = candidates_.begin() + static_cast<std::ptrdiff_t>(kept);
    std::partial_sort(from, candidates_.begin() + static_cast<std::ptrdiff_t>(end), candidates_.end(),
                      kLikelier);
    while (kept < end && (kept == 0 || sum < share)) sum += candidates_[kept++].weight;
    if (kept < end || end == candidates_.size()) break;
  }
  candidates_.resize(kept);
}

}  // namespace holdfast::model
