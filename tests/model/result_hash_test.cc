// A golden of result hashes: when a bit of a result changes and the numerics id does not, this fails. A
// change that is meant raises the revision in Backend::NumericsId and writes the new lines (printed below) to
// the golden file.
#include <gtest/gtest.h>

#include <cstdio>
#include <sstream>

#include "base/file.h"
#include "base/hash.h"
#include "model/engine.h"
#include "tests/model/synth_testing.h"

namespace holdfast::model {
namespace {

std::string ResultLine(const Shape& shape, Backend& backend) {
  Engine engine(shape.config, SynthWeights(shape).weights(), backend, {.max_rows = 128});
  Sequence sequence = engine.NewSequence();
  const auto tokens = SynthTokens(shape, 0, 300);
  const auto vocab = static_cast<size_t>(shape.config.vocab_size);
  std::vector<float> logits(tokens.size() * vocab);
  for (size_t at = 0; at < tokens.size(); at += 100) {
    const Feed feed{.sequence = &sequence,
                    .tokens = std::span(tokens).subspan(at, 100),
                    .logits = LogitRows::kAll,
                    .logits_out = std::span(logits).subspan(at * vocab, 100 * vocab)};
    const auto status = engine.Forward({&feed, 1});
    EXPECT_TRUE(status.ok()) << status;
  }
  char line[200];
  std::snprintf(line, sizeof(line), "%s %s logits %016llx state %016llx", backend.NumericsId().c_str(),
                shape.name.c_str(),
                static_cast<unsigned long long>(base::Xxh3(std::as_bytes(std::span(logits)))),
                static_cast<unsigned long long>(StateHash(sequence)));
  return line;
}

TEST(ResultHashTest, BitsChangeOnlyWithTheNumericsId) {
  const auto golden =
      base::RealFileSystem().ReadFile(HOLDFAST_SOURCE_DIR "/tests/golden/result_hashes.txt", 1 << 16);
  ASSERT_TRUE(golden.ok()) << golden.status();
  auto backend = MakeCpuBackend({.threads = 2, .pin_threads = false});
  for (const Shape& shape : Shapes()) {
    const std::string line = ResultLine(shape, *backend);
    EXPECT_NE(golden->find(line + "\n"), std::string::npos) << "not in tests/golden/result_hashes.txt:\n"
                                                            << line;
  }
}

}  // namespace
}  // namespace holdfast::model
