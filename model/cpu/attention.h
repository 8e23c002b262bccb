// Attention of one query row. Private to model/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/kv_layout.h"

namespace holdfast::model::cpu {

struct AttentionScratch {
  std::vector<float> tile;          // decoded entries
  std::vector<float> scores;        // [heads, keys]
  std::vector<float> inverse_sums;  // [heads]
  std::vector<const std::byte*> keys;
};

// Heads [0, heads) of one row over `scratch.keys` (visible entries in order, each in stored form).
struct AttendRowArgs {
  const float* q;  // [heads, d]
  int64_t heads;
  const EntryCodec& codec;
  const float* sink;  // [heads]
  float* o;           // out [heads, d]
};
// Scores are dots over 16 lanes times d^-0.5; the softmax subtracts the exact maximum; its denominator sums
// over 16 lanes of the key's index plus the sink; values are accumulated key by key in order.
void AttendRow(const AttendRowArgs& args, AttentionScratch& scratch);

}  // namespace holdfast::model::cpu
