// Choosing the next token from logits. The same logits, options and point give the same token on any machine:
// all arithmetic is IEEE double in a fixed order, with an exponential of our own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "base/status.h"
#include "model/token_mask.h"

namespace holdfast::model {

// Applied in this order, after the mask: temperature, top-k, min-p, top-p.
struct SamplerOptions {
  float temperature = 1.0f;  // 0: greedy, the token of the highest logit; the rest is then without effect
  int32_t top_k = 0;         // keep this many tokens, the likeliest; 0: all
  float min_p = 0.0f;        // drop tokens less likely than this share of the likeliest
  float top_p = 1.0f;        // keep the likeliest tokens that together reach this share of what is left
};

// For one thread at a time. Allocates in proportion to the vocabulary on first use, then no more.
class Sampler {
 public:
  // InvalidArgument for a value out of its range.
  static base::StatusOr<Sampler> Make(const SamplerOptions& options);

  // The token for position `point.position`. Tokens that `mask` lacks (null: none is lacking), and logits
  // that are infinite or not numbers, are left out; equal logits count the lower id first. FailedPrecondition
  // when nothing is left. O(vocabulary); with top-k or top-p a selection on top.
  base::StatusOr<int32_t> Sample(std::span<const float> logits, const TokenMask* mask,
                                 const base::RandomPoint& point);

 private:
  struct Candidate {
    double weight = 0;  // exp((logit - highest) / temperature)
    float logit = 0;
    int32_t id = 0;
  };

  explicit Sampler(const SamplerOptions& options) : options_(options) {}
  void Collect(std::span<const float> logits, const TokenMask* mask);
  void KeepTopK();
  void Weigh(float highest);
  void KeepTopP();

  SamplerOptions options_;
  std::vector<Candidate> candidates_;  // scratch
};

}  // namespace holdfast::model
