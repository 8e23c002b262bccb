// A set of token ids: what a grammar permits next and a sampler may choose from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace holdfast::model {

// A plain value of size/8 bytes. An id outside [0, size) is not in the set.
class TokenMask {
 public:
  static constexpr size_t kWordBits = 64;

  TokenMask() = default;
  explicit TokenMask(int32_t size)
      : size_(size), words_((static_cast<size_t>(size) + kWordBits - 1) / kWordBits) {}

  int32_t size() const { return size_; }
  bool Has(int32_t id) const {
    return id >= 0 && id < size_ &&
           (words_[static_cast<size_t>(id) / kWordBits] >> (static_cast<size_t>(id) % kWordBits) & 1) != 0;
  }
  void Add(int32_t id) {
    words_[static_cast<size_t>(id) / kWordBits] |= uint64_t{1} << (static_cast<size_t>(id) % kWordBits);
  }
  bool empty() const {
    for (const uint64_t word : words_) {
      if (word != 0) return false;
    }
    return true;
  }
  // Bit i % 64 of word i / 64 is id i.
  std::span<const uint64_t> words() const { return words_; }

 private:
  int32_t size_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace holdfast::model
