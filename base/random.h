// Randomness: the only door to it. Two kinds:
//   - RandomBits and its kin are pure functions of a point (seed, stream, position) and a draw number: what
//   is
//     sampled can be sampled again, in any order, on any machine. Generator: Philox4x32-10 (Salmon, Moraes,
//     Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Their bits are part of what a
//     stored session means: they never change.
//   - Entropy is the kernel's, for seeds, ids and secrets.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace holdfast::base {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

// The block function: 128 bits for each (counter, key). 10 rounds, about 10 ns.
constexpr PhiloxCounter Philox4x32(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// Where in a session's life a number is drawn.
struct RandomPoint {
  uint64_t seed = 0;
  uint32_t stream = 0;  // raised by a rewind or fork
  uint64_t position = 0;
};

// 64 bits for draw number `draw` at a point: words 0 (low half) and 1 (high half) of the Philox block with
// key = (seed low, seed high) and counter = (draw, stream, position low, position high).
constexpr uint64_t RandomBits(const RandomPoint& point, uint32_t draw) {
  const PhiloxCounter block =
      Philox4x32({draw, point.stream, static_cast<uint32_t>(point.position),
                  static_cast<uint32_t>(point.position >> 32)},
                 {static_cast<uint32_t>(point.seed), static_cast<uint32_t>(point.seed >> 32)});
  return uint64_t{block[1]} << 32 | block[0];
}

// In [0, 1): the top 24 bits of RandomBits, times 2^-24. Exact, so the same everywhere.
constexpr float RandomFloat(const RandomPoint& point, uint32_t draw) {
  return static_cast<float>(RandomBits(point, draw) >> 40) * 0x1p-24f;
}

// In [0, 1): the top 53 bits of RandomBits, times 2^-53. Exact.
constexpr double RandomDouble(const RandomPoint& point, uint32_t draw) {
  return static_cast<double>(RandomBits(point, draw) >> 11) * 0x1p-53;
}

// All methods may be called from any thread.
class Entropy {
 public:
  virtual ~Entropy() = default;
  virtual void Fill(std::span<std::byte> out) = 0;

  uint64_t Next64();
};

// The kernel's generator (getrandom), fit for secrets. Waits for it to be seeded, early in a boot. Lives
// forever.
Entropy& RealEntropy();

}  // namespace holdfast::base
