#include "model/synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "base/coding.h"
#include "base/hash.h"
#include "model/engine.h"
#include "model/number_formats.h"
#include "model/safetensors.h"
#include "model/trace.h"
#include "nlohmann/json.hpp"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::model {
namespace {

using ::testing::HasSubstr;

constexpr SynthSize kSmall = {.layers = 5, .experts = 8, .vocab = 256};

class SynthTest : public ::testing::Test {
 protected:
  std::string Bytes(const std::string& path) { return fs_.ReadFile(path, 1 << 30).value(); }
  void Write(const std::string& directory, const SynthOptions& options, const SynthSize& size = kSmall) {
    const auto status =
        WriteSynthCheckpoint(fs_, SynthConfig(SynthShape::kTiny, size).value(), directory, options);
    ASSERT_TRUE(status.ok()) << status;
  }

  test::SimClock clock_;
  test::SimFileSystem fs_{clock_};
};

TEST_F(SynthTest, SameSeedGivesSameBytesWithAnyNumberOfThreads) {
  Write("a", {.seed = 7, .threads = 1});
  Write("b", {.seed = 7, .threads = 3});
  Write("c", {.seed = 8, .threads = 1});
  const std::string shard = "/model-00001-of-00001.safetensors";
  EXPECT_EQ(Bytes("a" + shard), Bytes("b" + shard));
  EXPECT_NE(Bytes("a" + shard), Bytes("c" + shard));
  EXPECT_EQ(Bytes("a/model.safetensors.index.json"), Bytes("b/model.safetensors.index.json"));
  EXPECT_EQ(Bytes("a/config.json"), Bytes("c/config.json"));
  // Another value here means other weights: every figure that was measured on synthetic weights changes.
  const std::string bytes = Bytes("a" + shard);
  const auto header = base::LoadLittle<uint64_t>(base::AsBytes(bytes).data());
  EXPECT_EQ(base::Xxh3(base::AsBytes(bytes).subspan(8 + header)), 12696391582292689599u);
}

TEST_F(SynthTest, ShardsStayWithinTheBoundAndTheIndexNamesThemAll) {
  constexpr int64_t kBound = 1 << 20;
  Write("a", {.max_shard_bytes = kBound});
  const auto index = nlohmann::json::parse(Bytes("a/model.safetensors.index.json"));
  std::map<std::string, int64_t> bytes;
  for (const auto& [tensor, shard] : index["weight_map"].items()) bytes[shard.get<std::string>()] = 0;
  EXPECT_GE(bytes.size(), 7u);
  int64_t total = 0;
  for (auto& [shard, size] : bytes) {
    const auto mapping = fs_.Map("a/" + shard).value();
    const auto file = Safetensors::Parse(mapping->bytes(), shard);
    ASSERT_TRUE(file.ok()) << file.status();
    for (const auto& [name, view] : file->tensors()) size += static_cast<int64_t>(view.data.size());
    EXPECT_LE(size, kBound) << shard;
    total += size;
  }
  EXPECT_EQ(index["metadata"]["total_size"], total);
  EXPECT_EQ(total, SynthBytes(SynthConfig(SynthShape::kTiny, kSmall).value()));
  const auto checkpoint = Checkpoint::Open(fs_, "a");
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
}

TEST_F(SynthTest, DirectoryThatHoldsACheckpointIsLeftAlone) {
  Write("a", {});
  const std::string before = Bytes("a/model-00001-of-00001.safetensors");
  const auto status = WriteSynthCheckpoint(fs_, SynthConfig(SynthShape::kTiny).value(), "a", {.seed = 5});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(base::Message(status), HasSubstr("holds a checkpoint already"));
  EXPECT_EQ(Bytes("a/model-00001-of-00001.safetensors"), before);
}

TEST_F(SynthTest, ProgressEndsAtTheSumOfAllTensors) {
  int64_t last = 0;
  Write("a", {.progress = [&](int64_t done) {
          EXPECT_GT(done, last);
          last = done;
        }});
  EXPECT_EQ(last, SynthBytes(SynthConfig(SynthShape::kTiny, kSmall).value()));
}

TEST_F(SynthTest, SizesThatDoNotFitAreRefused) {
  EXPECT_THAT(base::Message(SynthConfig(SynthShape::kFlash, {.experts = 4}).status()),
              HasSubstr("\"num_experts_per_tok\" must be at most n_routed_experts"));
  EXPECT_FALSE(SynthConfig(SynthShape::kFlash, {.layers = -1}).ok());
  const auto cut = SynthConfig(SynthShape::kFlash, {.layers = 2, .experts = 8, .vocab = 1000});
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_THAT(cut->compress_ratios, ::testing::ElementsAre(0, 0, 0));
  EXPECT_EQ(cut->num_hash_layers, 2);
  EXPECT_EQ(cut->hidden_size, 4096);
}

TEST_F(SynthTest, EveryShapeLoadsAndEveryCodeIsANumber) {
  for (const SynthShape shape : {SynthShape::kNano, SynthShape::kTiny}) {
    const std::string directory = "shape" + std::to_string(static_cast<int>(shape));
    ASSERT_TRUE(WriteSynthCheckpoint(fs_, SynthConfig(shape, {.vocab = 128}).value(), directory).ok());
    const auto checkpoint = Checkpoint::Open(fs_, directory);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto mapping = fs_.Map(directory + "/model-00001-of-00001.safetensors").value();
    const auto file = Safetensors::Parse(mapping->bytes(), directory).value();
    for (const auto& [name, view] : file.tensors()) {
      for (size_t i = 0; view.dtype == DType::kF8E4m3 && i < view.data.size(); ++i) {
        ASSERT_FALSE(std::isnan(E4m3ToF32(static_cast<uint8_t>(view.data[i])))) << name;
      }
    }
  }
}

// Each matrix, times a vector of unit elements, has the deviation that its kind is given, whatever its
// format.
TEST_F(SynthTest, MatricesAreScaledToTheirWidth) {
  Write("a", {});
  const auto checkpoint = Checkpoint::Open(fs_, "a").value();
  const auto gain = [](const Matrix& m) {
    double sum = 0;
    for (int64_t r = 0; r < m.rows; ++r) {
      for (int64_t c = 0; c < m.cols; ++c) sum += std::pow(MatrixElement(m, r, c), 2.0);
    }
    return std::sqrt(sum / static_cast<double>(m.rows));
  };
  const ModelWeights& w = checkpoint->weights();
  EXPECT_NEAR(gain(w.layers[1].ffn.experts[2].w1), 1.2, 0.1);  // FP4
  EXPECT_NEAR(gain(w.layers[1].ffn.experts[2].w2), 1.2, 0.1);
  EXPECT_NEAR(gain(w.head), 1.5, 0.05);                        // BF16
  EXPECT_NEAR(gain(w.layers[1].hc_attn.fn), 1.5, 0.05);        // F32
  EXPECT_NEAR(gain(w.layers[1].attn.indexer.wq_b), 1.0, 0.4);  // FP8: few tiles, each with its scale
}

TEST_F(SynthTest, ScalesVaryAndHashTablesNameDistinctExperts) {
  Write("a", {});
  const auto checkpoint = Checkpoint::Open(fs_, "a").value();
  const ModelWeights& w = checkpoint->weights();
  std::set<int> fp4;
  std::set<int> fp8;
  for (const LayerWeights& layer : w.layers) {
    for (int i = 0; i < 128; ++i) fp4.insert(static_cast<int>(layer.ffn.experts[0].w1.scales[i]));
    for (const Matrix* m : {&layer.attn.wq_a, &layer.attn.wo_a}) {
      fp8.insert(static_cast<int>(m->scales[0]));
      fp8.insert(static_cast<int>(m->scales[1]));
    }
  }
  EXPECT_EQ(fp4.size(), 3u);
  EXPECT_GE(fp8.size(), 3u);
  const auto& table = w.layers[0].ffn.tid2eid;
  std::set<int32_t> used;
  for (size_t i = 0; i < table.size(); i += 2) {
    EXPECT_NE(table[i], table[i + 1]);
    used.insert(table[i]);
  }
  EXPECT_EQ(used.size(), 8u);
}

// Passes everything on, and looks at routing and selection.
class Spy : public Backend {
 public:
  explicit Spy(Backend& real) : b_(real) {}
  std::string NumericsId() const override { return b_.NumericsId(); }
  KvMode kv_mode() const override { return b_.kv_mode(); }
  Buffer Allocate(size_t bytes) override { return b_.Allocate(bytes); }
  void Embed(const EmbedArgs& a) override { b_.Embed(a); }
  void HcPre(const HcPreArgs& a) override { b_.HcPre(a); }
  void HcPost(const HcPostArgs& a) override { b_.HcPost(a); }
  void HcHead(const HcHeadArgs& a) override { b_.HcHead(a); }
  void RmsNorm(const RmsNormArgs& a) override { b_.RmsNorm(a); }
  void Linear(const LinearArgs& a) override { b_.Linear(a); }
  void GroupedLinear(const GroupedLinearArgs& a) override { b_.GroupedLinear(a); }
  void Query(const QueryArgs& a) override { b_.Query(a); }
  void WindowRow(const WindowRowArgs& a) override { b_.WindowRow(a); }
  void Compress(const CompressArgs& a) override { b_.Compress(a); }
  void IndexQuery(const IndexQueryArgs& a) override { b_.IndexQuery(a); }
  void Attention(const AttentionArgs& a) override { b_.Attention(a); }
  void KeepWindow(const KeepWindowArgs& a) override { b_.KeepWindow(a); }
  void Experts(const ExpertsArgs& a) override { b_.Experts(a); }
  void AddToStreams(const AddToStreamsArgs& a) override { b_.AddToStreams(a); }

  void Route(const RouteArgs& a) override {
    b_.Route(a);
    std::map<int32_t, int> uses;
    std::set<std::vector<int32_t>> choices;
    const auto k = static_cast<size_t>(a.experts_per_token);
    for (size_t i = 0; i < a.tokens.size(); ++i) {
      choices.insert({a.experts + i * k, a.experts + (i + 1) * k});
      for (size_t j = 0; j < k; ++j) ++uses[a.experts[i * k + j]];
    }
    expert_uses.push_back(uses);
    expert_choices.push_back(choices.size());
  }

  void IndexSelect(const IndexSelectArgs& a) override {
    b_.IndexSelect(a);
    const Segment& s = a.segments[0].segment;
    const int32_t last = s.rows - 1;
    ASSERT_EQ(a.selected_count[last], a.topk);
    std::set<std::vector<int32_t>> sets;
    for (int32_t row = last - 40; row <= last; ++row) {
      sets.insert({a.selected + row * a.topk, a.selected + (row + 1) * a.topk});
    }
    selections.push_back(sets.size());
    // The scores of the last row, as the model defines them.
    const auto d = static_cast<size_t>(a.codec.dim());
    std::vector<float> q(d);
    std::vector<float> key(d);
    std::set<float> scores;
    const int64_t visible = (s.first_position + s.rows) / a.ratio;
    for (int64_t e = 0; e < visible; ++e) {
      a.codec.Decode(a.segments[0].keys.entry(e), key.data());
      double score = 0;
      for (int64_t h = 0; h < a.heads; ++h) {
        a.codec.Decode(a.q + (last * a.heads + h) * a.codec.bytes(), q.data());
        double dot = 0;
        for (size_t c = 0; c < d; ++c) dot += static_cast<double>(q[c]) * key[c];
        score += a.weights[last * a.heads + h] * std::max(dot, 0.0);
      }
      if (score != 0) scores.insert(static_cast<float>(score));
    }
    distinct_scores.push_back(static_cast<int64_t>(scores.size()) - visible);  // 0: all distinct, none zero
  }

  std::vector<std::map<int32_t, int>> expert_uses;
  std::vector<size_t> expert_choices;
  std::vector<size_t> selections;
  std::vector<int64_t> distinct_scores;

 private:
  Backend& b_;
};

TEST_F(SynthTest, RoutingSelectionAndLogitsAreSpread) {
  Write("a", {.seed = 3});
  const auto checkpoint = Checkpoint::Open(fs_, "a").value();
  const auto real = MakeReferenceBackend({.kv_mode = KvMode::kStored});
  Spy spy(*real);
  Engine engine(checkpoint->config(), checkpoint->weights(), spy, {.max_rows = 512});
  Sequence sequence = engine.NewSequence();
  test::SeededRandom random(1);
  std::vector<int32_t> tokens(300);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.Below(256));
  const auto trace = RunTrace(engine, sequence, tokens, {.prefill = 300, .mtp = true});
  ASSERT_TRUE(trace.ok()) << trace.status();  // finite, that is

  ASSERT_EQ(spy.expert_uses.size(), 6u);  // five layers and the MTP stage
  for (size_t layer = 0; layer < spy.expert_uses.size(); ++layer) {
    EXPECT_EQ(spy.expert_uses[layer].size(), 8u) << "layer " << layer;
    for (const auto& [expert, uses] : spy.expert_uses[layer]) {
      EXPECT_GE(uses, 8) << "layer " << layer << " expert " << expert;  // a tenth of the fair share
    }
    EXPECT_GE(spy.expert_choices[layer], 14u) << "layer " << layer;  // half of all pairs
  }
  ASSERT_EQ(spy.selections.size(), 2u);
  for (size_t layer = 0; layer < 2; ++layer) {
    EXPECT_GE(spy.selections[layer], 35u);  // nearly each of 41 tokens selects a set of its own
    EXPECT_EQ(spy.distinct_scores[layer], 0);
  }
  const auto deviation = [](const std::vector<float>& x) {
    double sum = 0;
    for (const float v : x) sum += static_cast<double>(v) * v;
    return std::sqrt(sum / static_cast<double>(x.size()));
  };
  EXPECT_NEAR(deviation(trace->logits), 1.5, 0.3);
  EXPECT_NEAR(deviation(trace->mtp_logits), 1.5, 0.3);
}

TEST_F(SynthTest, DeepNetworkStaysFinite) {
  Write("deep", {.max_shard_bytes = 32 << 20}, {.layers = 61, .experts = 2, .vocab = 64});
  const auto checkpoint = Checkpoint::Open(fs_, "deep").value();
  const auto backend = MakeCpuBackend({.threads = 1, .pin_threads = false});
  Engine engine(checkpoint->config(), checkpoint->weights(), *backend, {});
  Sequence sequence = engine.NewSequence();
  std::vector<int32_t> tokens(140);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 29 % 64);
  const auto trace = RunTrace(engine, sequence, tokens, {.prefill = 140});
  EXPECT_TRUE(trace.ok()) << trace.status();
}

}  // namespace
}  // namespace holdfast::model
