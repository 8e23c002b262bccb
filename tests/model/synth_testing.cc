#include "tests/model/synth_testing.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>

#include "base/hash.h"
#include "base/random.h"
#include "model/synth.h"

namespace holdfast::model {

std::vector<Shape> Shapes() {
  ModelConfig tiny = SynthConfig(SynthShape::kTiny, {.layers = 4, .experts = 8, .vocab = 300}).value();
  ModelConfig narrow = tiny;  // HCA first, a window below the chunk, odd heads, wide top-k, 2 streams
  narrow.compress_ratios = {128, 4, 0, 4, 0};
  narrow.num_heads = 6;
  narrow.o_groups = 3;
  narrow.sliding_window = 48;
  narrow.index_topk = 24;
  narrow.num_hash_layers = 0;
  narrow.hc_mult = 2;
  ModelConfig selecting = tiny;  // long enough that top-k selects among many
  selecting.compress_ratios = {0, 4, 128, 4, 0};
  selecting.index_topk = 64;
  return {{"tiny", tiny, 620}, {"narrow", narrow, 620}, {"selecting", selecting, 2600}};
}

const Checkpoint& SynthWeights(const Shape& shape) {
  static std::map<std::string, std::unique_ptr<Checkpoint>> cache;
  auto& slot = cache[shape.name];
  if (slot == nullptr) {
    const std::string directory = ::testing::TempDir() + "/invariance_" + shape.name + "_" +
                                  std::to_string(static_cast<unsigned>(::getpid()));
    std::filesystem::remove_all(directory);
    const auto status = WriteSynthCheckpoint(base::RealFileSystem(), shape.config, directory, {.seed = 11});
    EXPECT_TRUE(status.ok()) << status;
    auto opened = Checkpoint::Open(base::RealFileSystem(), directory);
    EXPECT_TRUE(opened.ok()) << opened.status();
    slot = std::move(*opened);
    std::filesystem::remove_all(directory);  // the mapping lives on
  }
  return *slot;
}

std::vector<int32_t> SynthTokens(const Shape& shape, uint32_t stream, int64_t count) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const uint64_t bits = base::RandomBits({.seed = 5, .stream = stream, .position = i}, 0);
    tokens[i] = static_cast<int32_t>(bits % static_cast<uint64_t>(shape.config.vocab_size));
  }
  return tokens;
}

uint64_t StateHash(const Sequence& sequence) {
  std::vector<std::byte> all;
  sequence.VisitMemory(
      [&](std::span<const std::byte> part) { all.insert(all.end(), part.begin(), part.end()); });
  return base::Xxh3(all);
}

}  // namespace holdfast::model
