// Byte-pair encoding of one piece: of all neighbouring pairs the one with the lowest merge rank is joined,
// the leftmost on a tie, until none is left.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace holdfast::model {

// Immutable after construction; safe from any thread.
class Bpe {
 public:
  struct Merge {
    int32_t left = 0;
    int32_t right = 0;
    int32_t result = 0;
  };

  // `byte_ids[b]` is the token of the single byte b; `merges` are in rank order. A repeated pair takes its
  // last rank.
  Bpe(const std::array<int32_t, 256>& byte_ids, const std::vector<Merge>& merges);

  // Appends the tokens of `piece`. O(n log n) in its length.
  void Encode(std::string_view piece, std::vector<int32_t>* ids) const;

 private:
  struct Target {
    int32_t rank = 0;
    int32_t result = 0;
  };
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  // The merge of a pair; rank kNoMerge when there is none.
  Target Find(int32_t left, int32_t right) const;
  void EncodeShort(std::string_view piece, std::vector<int32_t>* ids) const;
  void EncodeLong(std::string_view piece, std::vector<int32_t>* ids) const;

  std::array<int32_t, 256> byte_ids_;
  absl::flat_hash_map<uint64_t, Target> merges_;
};

}  // namespace holdfast::model
