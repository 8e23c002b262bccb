// Deterministic randomness for tests: same seed, same run, on any machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/random.h"

namespace holdfast::test {

// `count`, or a quarter of it under a sanitizer, where each step costs ten times as much.
uint64_t Reduced(uint64_t count);

// Seeds 1..count, a quarter of them under a sanitizer (each step costs ten times as much there); or only the
// one in the environment variable HOLDFAST_TEST_SEED, to replay a failure. A property test runs once for each
// and names it: SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed).
std::vector<uint64_t> TestSeeds(uint64_t count);

// A sequence of numbers. One thread at a time.
class SeededRandom {
 public:
  explicit SeededRandom(uint64_t seed, uint32_t stream = 0) : point_{.seed = seed, .stream = stream} {}

  uint64_t Next() {
    const uint64_t bits = base::RandomBits(point_, 0);
    ++point_.position;
    return bits;
  }

  // In [0, bound); bound > 0. (The bias of the remainder is of no concern to a test.)
  uint64_t Below(uint64_t bound) {
    HF_CHECK(bound > 0);
    return Next() % bound;
  }

  // In [low, high].
  int64_t Between(int64_t low, int64_t high) {
    HF_CHECK(low <= high);
    return low + static_cast<int64_t>(Below(static_cast<uint64_t>(high - low) + 1));
  }

  // True in `percent` of 100 cases.
  bool Percent(uint64_t percent) { return Below(100) < percent; }

 private:
  base::RandomPoint point_;
};

// Entropy that repeats. One thread at a time.
class SimEntropy final : public base::Entropy {
 public:
  explicit SimEntropy(uint64_t seed) : random_(seed) {}
  void Fill(std::span<std::byte> out) override {
    for (std::byte& b : out) b = static_cast<std::byte>(random_.Next());
  }

 private:
  SeededRandom random_;
};

}  // namespace holdfast::test
