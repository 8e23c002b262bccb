#include "tests/support/seeded_random.h"

#include <cstdlib>
#include <numeric>

namespace holdfast::test {

uint64_t Reduced(uint64_t count) {
#ifdef HOLDFAST_SANITIZED
  return (count + 3) / 4;
#else
  return count;
#endif
}

std::vector<uint64_t> TestSeeds(uint64_t count) {
  if (const char* const seed = std::getenv("HOLDFAST_TEST_SEED")) return {std::strtoull(seed, nullptr, 10)};
  std::vector<uint64_t> seeds(Reduced(count));
  std::iota(seeds.begin(), seeds.end(), uint64_t{1});
  return seeds;
}

}  // namespace holdfast::test
