#include "tests/support/seeded_random.h"

#include <cstdlib>
#include <numeric>

namespace holdfast::test {

std::vector<uint64_t> TestSeeds(uint64_t count) {
  if (const char* const seed = std::getenv("HOLDFAST_TEST_SEED")) return {std::strtoull(seed, nullptr, 10)};
#ifdef HOLDFAST_SANITIZED
  count = (count + 3) / 4;
#endif
  std::vector<uint64_t> seeds(count);
  std::iota(seeds.begin(), seeds.end(), uint64_t{1});
  return seeds;
}

}  // namespace holdfast::test
