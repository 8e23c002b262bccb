// The model core against the official code's outputs: bars of the golden data's README.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "model/engine.h"
#include "model/trace.h"
#include "tests/model/golden_testing.h"

namespace holdfast::model {
namespace {

struct Tiny {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<TensorFile> golden;
  std::vector<int32_t> tokens;
  int64_t prefill = 0;
  std::vector<int64_t> hidden_positions;
};

Tiny OpenTiny(const std::string& name) {
  Tiny tiny;
  const std::string directory = GoldenDirectory() + "/" + name;
  auto checkpoint = Checkpoint::Open(base::RealFileSystem(), directory);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  tiny.checkpoint = std::move(*checkpoint);
  tiny.golden = TensorFile::Open(directory + "/golden.safetensors");
  tiny.tokens = tiny.golden->Ints("input_ids");
  tiny.prefill = tiny.golden->MetadataInts("prefill")[0];
  tiny.hidden_positions = tiny.golden->MetadataInts("hidden_positions");
  return tiny;
}

Trace TraceTiny(const Tiny& tiny, Backend& backend, TraceOptions options) {
  const ModelConfig& config = tiny.checkpoint->config();
  Engine engine(config, tiny.checkpoint->weights(), backend, {.max_rows = 512});
  Sequence sequence = engine.NewSequence();
  auto trace = RunTrace(engine, sequence, tiny.tokens, options);
  EXPECT_TRUE(trace.ok()) << trace.status();
  return std::move(*trace);
}

// Rows of `all` [T, width] at the given positions.
std::vector<float> At(const std::vector<float>& all, std::span<const int64_t> positions, size_t width) {
  std::vector<float> out;
  for (int64_t p : positions) {
    const auto begin = all.begin() + p * static_cast<int64_t>(width);
    out.insert(out.end(), begin, begin + static_cast<int64_t>(width));
  }
  return out;
}

struct Split {
  int64_t prefill;
  int32_t chunk;
};

class GoldenTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GoldenDirectory().empty()) GTEST_SKIP() << "golden data not present";
    tiny_ = OpenTiny(GetParam());
    vocab_ = static_cast<size_t>(tiny_.checkpoint->config().vocab_size);
    streams_ =
        static_cast<size_t>(tiny_.checkpoint->config().hc_mult * tiny_.checkpoint->config().hidden_size);
  }
  bool is_long() const { return GetParam() == "tiny-f"; }

  // The largest difference; of the long run, where near-tied selections flip, the mean one.
  double Difference(std::span<const float> a, std::span<const float> b) const {
    return is_long() ? MeanAbsDifference(a, b) : MaxAbsDifference(a, b);
  }

  // Logits, hidden states and MTP logits of `trace` against `X.*`, X = f32.
  void ExpectF32(const Trace& trace, const std::string& what) {
    const auto want = tiny_.golden->Floats("f32.logits");
    if (is_long()) {
      const double mean = MeanAbsDifference(trace.logits, want);
      const double kl = MeanKl(want, trace.logits, vocab_);
      std::printf("%s %s: mean %.2e KL %.2e\n", GetParam().c_str(), what.c_str(), mean, kl);
      EXPECT_LE(mean, 5e-3) << what;
      EXPECT_LE(kl, 1e-3) << what;
    } else {
      const double max = MaxAbsDifference(trace.logits, want);
      std::printf("%s %s: max %.2e\n", GetParam().c_str(), what.c_str(), max);
      EXPECT_LE(max, 5e-4) << what;
    }
    for (size_t layer = 0; layer < trace.hidden.size(); ++layer) {
      const auto hidden = tiny_.golden->Floats("f32.layers." + std::to_string(layer) + ".hidden");
      const auto got = At(trace.hidden[layer], tiny_.hidden_positions, streams_);
      EXPECT_LE(Difference(got, hidden), is_long() ? 5e-3 : 5e-4) << what << " layer " << layer;
    }
    if (!trace.mtp_logits.empty()) {
      const auto got = At(trace.mtp_logits, tiny_.hidden_positions, vocab_);
      EXPECT_LE(Difference(got, tiny_.golden->Floats("f32.mtp.logits")), is_long() ? 5e-3 : 5e-4) << what;
    }
  }

  Tiny tiny_;
  size_t vocab_ = 0;
  size_t streams_ = 0;
};

TEST_P(GoldenTest, ReferenceF32MatchesOfficialLogitsHiddenStatesAndMtp) {
  auto backend = MakeReferenceBackend({.kv_mode = KvMode::kF32, .threads = 2});
  const auto trace = TraceTiny(tiny_, *backend, {.prefill = tiny_.prefill, .hidden = true, .mtp = true});
  ExpectF32(trace, "stored split");
}

// Splits differ around the first positions: a prefix is enough, but for one run of single tokens all the way.
TEST_P(GoldenTest, ReferenceF32MatchesUnderEverySplit) {
  auto backend = MakeReferenceBackend({.kv_mode = KvMode::kF32, .threads = 2});
  const auto want = tiny_.golden->Floats("f32.logits");
  const auto all = tiny_.tokens;
  tiny_.tokens.resize(200);
  for (int64_t prefill : {0, 1, 3, 4, 127, 128, 129}) {
    const auto trace = TraceTiny(tiny_, *backend, {.prefill = prefill});
    EXPECT_LE(MaxAbsDifference(trace.logits, want.first(trace.logits.size())), 5e-4) << "prefill " << prefill;
  }
  tiny_.tokens = all;
  ExpectF32(TraceTiny(tiny_, *backend, {.prefill = tiny_.prefill, .chunk = 37, .hidden = true, .mtp = true}),
            "chunks");
  if (GetParam() == "tiny-a") {
    ExpectF32(TraceTiny(tiny_, *backend, {.prefill = 0, .hidden = true, .mtp = true}), "all decode");
  }
}

TEST_P(GoldenTest, ReferenceQuantisedKvIsCloseToOfficialQuantisedKv) {
  auto backend = MakeReferenceBackend({.kv_mode = KvMode::kQuantised, .threads = 2});
  const auto trace = TraceTiny(tiny_, *backend, {.prefill = tiny_.prefill});
  const auto want = tiny_.golden->Floats("f32q.logits");
  const double kl = MeanKl(want, trace.logits, vocab_);
  const double mean = MeanAbsDifference(want, trace.logits);
  std::printf("%s quantised: mean %.2e KL %.2e\n", GetParam().c_str(), mean, kl);
  EXPECT_LE(kl, 0.02);
  EXPECT_LE(mean, 0.05);
}

// The official code's own BF16 run is the yardstick: native must be at least as close to the quantised
// float32 run.
TEST_P(GoldenTest, NativeIsCloserToOfficialThanOfficialBf16) {
  auto backend = MakeCpuBackend({.threads = 2, .pin_threads = false});
  const auto trace = TraceTiny(tiny_, *backend, {.prefill = tiny_.prefill, .hidden = true, .mtp = true});
  const auto f32q = tiny_.golden->Floats("f32q.logits");
  const double native = MeanKl(f32q, trace.logits, vocab_);
  const double bf16 = MeanKl(f32q, tiny_.golden->Floats("bf16.logits"), vocab_);
  std::printf("%s native: KL %.4f, official bf16: KL %.4f\n", GetParam().c_str(), native, bf16);
  EXPECT_LE(native, bf16);
  for (size_t layer = 0; layer < trace.hidden.size(); ++layer) {
    const std::string name = ".layers." + std::to_string(layer) + ".hidden";
    const auto want = tiny_.golden->Floats("f32q" + name);
    const auto got = At(trace.hidden[layer], tiny_.hidden_positions, streams_);
    const double cosine = Cosine(got, want);
    const double bf16_cosine = Cosine(tiny_.golden->Floats("bf16" + name), want);
    std::printf("  layer %zu: cosine %.6f, official bf16 %.6f\n", layer, cosine, bf16_cosine);
    EXPECT_GE(cosine, bf16_cosine) << "layer " << layer;
  }
  const auto mtp = At(trace.mtp_logits, tiny_.hidden_positions, vocab_);
  EXPECT_LE(MeanKl(tiny_.golden->Floats("f32q.mtp.logits"), mtp, vocab_),
            MeanKl(tiny_.golden->Floats("f32q.mtp.logits"), tiny_.golden->Floats("bf16.mtp.logits"), vocab_));
}

INSTANTIATE_TEST_SUITE_P(Tiny, GoldenTest, ::testing::Values("tiny-a", "tiny-b", "tiny-f"),
                         [](const auto& instance) { return "Tiny" + instance.param.substr(5); });

}  // namespace
}  // namespace holdfast::model
