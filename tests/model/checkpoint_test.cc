// Opening damaged checkpoints: each error names the file, the tensor, what was found and what was expected.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "model/safetensors.h"
#include "model/weights.h"
#include "tests/model/checkpoint_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

const std::string kShard(DamagedCheckpoint::kShard);
const std::string kIndex = "ckpt/model.safetensors.index.json";

TEST(CheckpointTest, TensorsAreViewsOfTheBytesInTheShard) {
  DamagedCheckpoint made;
  const auto checkpoint = made.Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const ModelWeights& w = (*checkpoint)->weights();
  const auto expect_bytes = [&](const std::string& name, const std::byte* bytes) {
    const auto want = made.Data(name);
    EXPECT_EQ(std::memcmp(bytes, want.data(), want.size()), 0) << name;
  };
  expect_bytes("embed.weight", w.embed.data);
  expect_bytes("layers.1.attn.wq_b.weight", w.layers[1].attn.wq_b.data);
  expect_bytes("layers.1.attn.wq_b.scale", w.layers[1].attn.wq_b.scales);
  expect_bytes("layers.2.ffn.experts.3.w2.weight", w.layers[2].ffn.experts[3].w2.data);
  expect_bytes("layers.2.ffn.experts.3.w2.scale", w.layers[2].ffn.experts[3].w2.scales);
  expect_bytes("layers.1.attn.indexer.compressor.ape",
               reinterpret_cast<const std::byte*>(w.layers[1].attn.indexer.compressor.ape.data()));
  EXPECT_EQ(w.layers[2].ffn.experts[3].w2.format, MatrixFormat::kFp4);
  EXPECT_EQ(w.layers[1].attn.wq_b.format, MatrixFormat::kFp8);
  EXPECT_EQ(w.layers[1].attn.compressor.wkv.format, MatrixFormat::kBf16);
  EXPECT_EQ(w.layers[1].hc_attn.fn.format, MatrixFormat::kF32);
  EXPECT_EQ(w.layers[0].ffn.tid2eid.size(), 64u * 2);
  EXPECT_TRUE(w.layers[0].ffn.bias.empty());
  EXPECT_EQ(w.layers[1].ffn.bias.size(), 4u);
  EXPECT_TRUE((*checkpoint)->unused_tensors().empty());
}

TEST(CheckpointTest, MissingTensorIsNamed) {
  for (const std::string name : {"embed.weight", "layers.1.attn.wkv.scale",
                                 "layers.2.ffn.experts.3.w2.weight", "mtp.0.enorm.weight"}) {
    DamagedCheckpoint made;
    made.Rename(name, "something.else");
    EXPECT_THAT(made.OpenError(), AllOf(HasSubstr("ckpt"), HasSubstr("tensor \"" + name + "\" is missing")));
  }
}

TEST(CheckpointTest, TensorThatNobodyAsksForIsListedAsUnused) {
  DamagedCheckpoint made;
  made.EditConfig("num_nextn_predict_layers", 0);
  const auto checkpoint = made.Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->unused_tensors(), ::testing::Contains("mtp.0.enorm.weight"));
  EXPECT_THAT((*checkpoint)->unused_tensors(), ::testing::Each(::testing::StartsWith("mtp.0.")));
}

TEST(CheckpointTest, WrongShapeOrDtypeNamesFoundAndExpected) {
  struct Case {
    std::string tensor;
    std::string dtype;
    std::vector<int64_t> shape;
    std::string error;
  };
  const Case cases[] = {
      {"layers.0.attn_norm.weight", "I8", {512}, "found I8 [512], expected BF16 or F32 [256]"},
      {"layers.0.attn_norm.weight", "BF16", {16, 16}, "found BF16 [16, 16], expected BF16 or F32 [256]"},
      {"layers.0.attn.attn_sink", "I32", {4}, "found I32 [4], expected F32 [4]"},
      {"layers.0.ffn.gate.tid2eid", "I64", {2, 64}, "found I64 [2, 64], expected I64 [64, 2]"},
      {"layers.0.ffn.gate.tid2eid", "I32", {64, 4}, "found I32 [64, 4], expected I64 [64, 2]"},
      {"layers.0.attn.wq_a.weight",
       "F8_E4M3",
       {256, 128},
       "found F8_E4M3 [256, 128], expected F8_E4M3 [128, 256]"},
      {"layers.0.attn.wq_a.weight", "U8", {128, 256}, "found U8 [128, 256], expected F8_E4M3 [128, 256]"},
      {"layers.0.attn.wq_a.scale", "F8_E8M0", {2, 1}, "found F8_E8M0 [2, 1], expected F8_E8M0 or F32 [1, 2]"},
      {"layers.1.ffn.experts.2.w1.weight", "I8", {64, 256}, "found I8 [64, 256], expected I8 [128, 128]"},
      {"layers.1.ffn.experts.2.w1.scale", "U8", {128, 8}, "found U8 [128, 8], expected F8_E8M0 [128, 8]"},
      {"layers.1.attn.compressor.ape", "F32", {256, 4}, "found F32 [256, 4], expected F32 [4, 256]"},
      {"layers.1.hc_ffn_fn", "F32", {1024, 24}, "found F32 [1024, 24], expected F32 [24, 1024]"},
      {"head.weight", "F16", {64, 256}, "found F16 [64, 256], expected BF16 or F32 [64, 256]"},
  };
  for (const Case& c : cases) {
    DamagedCheckpoint made;
    made.header[c.tensor]["dtype"] = c.dtype;
    made.header[c.tensor]["shape"] = c.shape;
    made.Save();
    EXPECT_THAT(made.OpenError(),
                AllOf(HasSubstr(kShard + ": tensor \"" + c.tensor + "\""), HasSubstr(c.error)));
  }
}

TEST(CheckpointTest, ConfigOfAnotherModelIsNoticed) {
  DamagedCheckpoint made;
  made.EditConfig("moe_intermediate_size", 256);
  EXPECT_THAT(made.OpenError(), HasSubstr("tensor \"layers.0.ffn.experts.0.w1.weight\": found I8 [128, 128], "
                                          "expected I8 [256, 128] (from config.json)"));
}

TEST(CheckpointTest, NanScaleIsRefused) {
  for (const std::string name :
       {"layers.1.attn.indexer.wq_b.scale", "layers.2.ffn.experts.1.w3.scale", "mtp.0.e_proj.scale"}) {
    DamagedCheckpoint made;
    made.Data(name).back() = std::byte{255};
    made.Save();
    const std::string element = std::to_string(made.Data(name).size() - 1);
    EXPECT_THAT(made.OpenError(), HasSubstr(kShard + ": tensor \"" + name + "\": element " + element +
                                            " is not a finite scale"));
  }
}

TEST(CheckpointTest, VectorThatIsNotFiniteIsRefused) {
  DamagedCheckpoint made;
  made.Data("layers.1.attn.kv_norm.weight")[0] = std::byte{0xc0};  // BF16 0x7fc0: NaN
  made.Data("layers.1.attn.kv_norm.weight")[1] = std::byte{0x7f};
  made.Save();
  EXPECT_THAT(made.OpenError(), HasSubstr("\"layers.1.attn.kv_norm.weight\": element 0 is not finite"));
}

TEST(CheckpointTest, HashTableThatNamesNoExpertIsRefused) {
  for (const int64_t expert : {int64_t{-1}, int64_t{4}, int64_t{1} << 32}) {
    DamagedCheckpoint made;
    std::memcpy(&made.Data("layers.0.ffn.gate.tid2eid")[7 * 8], &expert, 8);
    made.Save();
    EXPECT_THAT(made.OpenError(), HasSubstr("tensor \"layers.0.ffn.gate.tid2eid\": element 7 is " +
                                            std::to_string(expert) + ", but there are 4 experts"));
  }
}

TEST(CheckpointTest, TruncatedShardIsRefusedWherverItEnds) {
  DamagedCheckpoint made;
  const std::string whole = made.ReadFile(kShard);
  test::SeededRandom random(1);
  for (int i = 0; i < 50; ++i) {
    made.WriteFile(kShard, whole.substr(0, random.Below(whole.size())));
    EXPECT_THAT(made.OpenError(), HasSubstr(kShard + ": "));
  }
}

TEST(CheckpointTest, MissingFilesAreNamed) {
  DamagedCheckpoint made;
  ASSERT_TRUE(made.fs.Remove(kShard).ok());
  EXPECT_THAT(made.OpenError(), HasSubstr(kShard));
  ASSERT_TRUE(made.fs.Remove(kIndex).ok());
  EXPECT_THAT(made.OpenError(), HasSubstr("ckpt/model.safetensors"));
  ASSERT_TRUE(made.fs.Remove("ckpt/config.json").ok());
  EXPECT_THAT(made.OpenError(), HasSubstr("ckpt/config.json"));
}

TEST(CheckpointTest, SingleFileWithoutIndexIsOpened) {
  DamagedCheckpoint made;
  ASSERT_TRUE(made.fs.Remove(kIndex).ok());
  ASSERT_TRUE(made.fs.Rename(kShard, "ckpt/model.safetensors").ok());
  EXPECT_EQ(made.OpenError(), "no error");
}

TEST(CheckpointTest, BadIndexIsRefused) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "no \"weight_map\" object"},
      {"{", "no \"weight_map\" object"},
      {"[]", "no \"weight_map\" object"},
      {"{\"weight_map\": []}", "no \"weight_map\" object"},
      {"{\"weight_map\": {}}", "\"weight_map\" is empty"},
      {"{\"weight_map\": {\"a\": 1}}", "weight_map of \"a\" is not a string"},
      {"{\"weight_map\": {\"a\": \"\"}}", "is not a file name of this directory"},
      {"{\"weight_map\": {\"a\": \"../secret\"}}", "is not a file name of this directory"},
      {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "is not a file name of this directory"},
      {"{\"weight_map\": {\"a\": \"..\"}}", "is not a file name of this directory"},
      {"{\"weight_map\": {\"a\": \"b\\u0000c\"}}", "is not a file name of this directory"},
      {std::string(300'000, '['), "no \"weight_map\" object"},
  };
  for (const auto& [text, error] : cases) {
    DamagedCheckpoint made;
    made.WriteFile(kIndex, text);
    EXPECT_THAT(made.OpenError(), HasSubstr(kIndex + ": ")) << text.substr(0, 80);
    EXPECT_THAT(made.OpenError(), HasSubstr(error)) << text.substr(0, 80);
  }
}

TEST(CheckpointTest, ShardThatTheIndexDoesNotMeanIsRefused) {
  DamagedCheckpoint made;
  Json index = Json::parse(made.ReadFile(kIndex));
  index["weight_map"]["head.weight"] = "other.safetensors";
  made.WriteFile("ckpt/other.safetensors", made.ReadFile(kShard));
  made.WriteFile(kIndex, index.dump());
  EXPECT_THAT(made.OpenError(), HasSubstr("which the index places elsewhere"));
}

TEST(CheckpointTest, FlippedHeaderBitsNeverCrash) {
  DamagedCheckpoint made;
  const std::string whole = made.ReadFile(kShard);
  for (const uint64_t seed : test::TestSeeds(60)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::string bytes = whole;
    const size_t header = whole.size() - made.data.size();
    for (int flips = 0; flips < 3; ++flips) {
      bytes[random.Below(header)] ^= static_cast<char>(1 << random.Below(8));
    }
    made.WriteFile(kShard, bytes);
    (void)made.Open();  // any outcome but a crash
  }
}

// Writes the Base layout: FP8 experts, float32 scales.
class BaseWriter : public WeightVisitor {
 public:
  explicit BaseWriter(const ModelConfig& config) : c_(config) {}
  base::Status Visit(const TensorSpec& spec, TensorSlot) override {
    switch (spec.kind) {
      case TensorKind::kVector:
        Add(spec.name, DType::kBf16, {spec.rows});
        break;
      case TensorKind::kF32Vector:
        Add(spec.name, DType::kF32, {spec.rows});
        break;
      case TensorKind::kMatrix:
        Add(spec.name, DType::kBf16, {spec.rows, spec.cols});
        break;
      case TensorKind::kHashTable:
        Add(spec.name, DType::kI64, {spec.rows, spec.cols});
        break;
      case TensorKind::kF32Table:
      case TensorKind::kF32Matrix:
        Add(spec.name, DType::kF32, {spec.rows, spec.cols});
        break;
      case TensorKind::kQuantised:
      case TensorKind::kExpertMatrix:
        Add(spec.name, DType::kF8E4m3, {spec.rows, spec.cols});
        Add(spec.name.substr(0, spec.name.size() - 6) + "scale", DType::kF32,
            {(spec.rows + c_.fp8_block_rows - 1) / c_.fp8_block_rows,
             (spec.cols + c_.fp8_block_cols - 1) / c_.fp8_block_cols});
        break;
    }
    return {};
  }
  std::vector<TensorToWrite> tensors;

 private:
  void Add(const std::string& name, DType dtype, std::vector<int64_t> shape) {
    tensors.push_back({name, dtype, std::move(shape), [](std::span<std::byte>) {}});
  }
  const ModelConfig& c_;
};

TEST(CheckpointTest, BaseLayoutWithFp8ExpertsAndFloatScalesIsOpened) {
  DamagedCheckpoint made;
  const auto config = SynthConfig(SynthShape::kTiny, {.layers = 3, .experts = 4, .vocab = 64});
  ModelWeights weights;
  BaseWriter writer(*config);
  ASSERT_TRUE(WalkWeights(*config, weights, writer).ok());
  ASSERT_TRUE(made.fs.Remove(kIndex).ok());
  ASSERT_TRUE(WriteSafetensors(made.fs, "ckpt/model.safetensors", writer.tensors).ok());
  const auto checkpoint = made.Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const Matrix& expert = (*checkpoint)->weights().layers[1].ffn.experts[0].w1;
  EXPECT_EQ(expert.format, MatrixFormat::kFp8);
  EXPECT_EQ(expert.scale_format, ScaleFormat::kF32);
  EXPECT_EQ(expert.block_rows, 128);
}

}  // namespace
}  // namespace holdfast::model
