// A set of byte strings, matched one byte at a time: sorted, so that what shares a prefix is one range.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace holdfast::model {

// Immutable after construction; safe from any thread. Indices are those of the sorted order.
class LiteralSet {
 public:
  // The literals that begin with the `offset` bytes taken so far: [lo, hi). Empty when none does.
  struct Cursor {
    uint32_t lo = 0;
    uint32_t hi = 0;
    uint32_t offset = 0;
  };

  LiteralSet() = default;
  explicit LiteralSet(std::vector<std::string> literals) : literals_(std::move(literals)) {
    std::sort(literals_.begin(), literals_.end());
    literals_.erase(std::unique(literals_.begin(), literals_.end()), literals_.end());
  }

  bool empty() const { return literals_.empty(); }
  uint32_t size() const { return static_cast<uint32_t>(literals_.size()); }
  const std::string& operator[](uint32_t i) const { return literals_[i]; }

  Cursor Begin() const { return {0, size(), 0}; }

  // The cursor after one more byte. O(log size).
  Cursor Step(Cursor at, uint8_t byte) const {
    // A literal that ends here sorts first in the range.
    const auto byte_at = [&](uint32_t i) {
      return at.offset < literals_[i].size() ? static_cast<uint8_t>(literals_[i][at.offset]) : -1;
    };
    uint32_t lo = at.lo, hi = at.hi;
    while (lo < hi) {
      const uint32_t mid = lo + (hi - lo) / 2;
      if (byte_at(mid) < byte) {
        lo = mid + 1;
      } else {
        hi = mid;
      }
    }
    uint32_t end = at.hi;
    hi = lo;
    while (hi < end) {
      const uint32_t mid = hi + (end - hi) / 2;
      if (byte_at(mid) <= byte) {
        hi = mid + 1;
      } else {
        end = mid;
      }
    }
    return {lo, hi, at.offset + 1};
  }

  // Whether the bytes taken so far are a whole literal; it is literal `at.lo`.
  bool IsComplete(Cursor at) const { return at.lo < at.hi && literals_[at.lo].size() == at.offset; }

 private:
  std::vector<std::string> literals_;
};

}  // namespace holdfast::model
