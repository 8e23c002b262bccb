// Lightning indexer: scores of one query row against every visible key, and the exact top-k. Private to
// model/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/kv_layout.h"

namespace holdfast::model::cpu {

struct IndexScratch {
  std::vector<int8_t> queries;
  std::vector<int32_t> offsets;
  std::vector<float> query_scales;
  std::vector<float> weights;
  std::vector<float> scores;
  std::vector<float> order;
};

// Scores of one query row against entries [0, visible), and the `topk` highest in index order.
struct SelectRowArgs {
  const std::byte* q;  // [heads, codec.bytes()]
  int64_t heads;
  const float* weights;  // [heads]
  const IndexCodec& codec;
  PlaneView keys;
  int64_t visible;
  int64_t topk;
  int32_t* selected;  // out [topk]
};
// Returned when a score is not finite: nothing can be selected, and the row is spoilt.
inline constexpr int32_t kNotFinite = -1;

// Returns how many were selected, or kNotFinite. A score is the sum over heads (16 lanes, one tree) of weight
// * relu(dot); a dot is an exact integer for each 32 elements, scaled, the blocks summed by a binary tree.
// Ties go to the lower index.
int32_t SelectRow(const SelectRowArgs& args, IndexScratch& scratch);

}  // namespace holdfast::model::cpu
