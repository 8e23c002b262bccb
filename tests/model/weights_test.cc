// The schema against the published checkpoints: tensor counts, bytes and parameters come out exactly.
#include "model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "model/number_formats.h"
#include "model/synth.h"
#include "nlohmann/json.hpp"

namespace holdfast::model {
namespace {

using Json = nlohmann::json;

PartCount Total(const std::vector<PartCount>& parts) {
  PartCount total;
  for (const PartCount& part : parts) {
    total.tensors += part.tensors;
    total.parameters += part.parameters;
    total.bytes += part.bytes;
  }
  return total;
}

// Turns a preview config into one of the releases with a DSpark head of three stages.
ModelConfig WithDspark(SynthShape shape, int markov_rank) {
  Json json = Json::parse(FormatConfig(SynthConfig(shape).value()));
  json["num_nextn_predict_layers"] = 1;
  json["dspark_block_size"] = 5;
  json["dspark_markov_rank"] = markov_rank;
  json["dspark_target_layer_ids"] = {40, 41, 42};
  json["compress_ratios"].push_back(0);
  json["compress_ratios"].push_back(0);
  return ParseConfig(json.dump(), "config.json").value();
}

// Spec "Releases". The totals are those of the index files: tensor bytes without the shards' headers.
TEST(WeightsTest, FlashPreviewHasThePublishedTensorsBytesAndParameters) {
  const PartCount total = Total(CountWeights(SynthConfig(SynthShape::kFlash).value()));
  EXPECT_EQ(total.tensors, 69'187);
  EXPECT_EQ(total.bytes, 159'609'485'896);
  EXPECT_EQ(total.parameters, 290'944'616'402);
}

TEST(WeightsTest, ProPreviewHasThePublishedTensorsBytesAndParameters) {
  const PartCount total = Total(CountWeights(SynthConfig(SynthShape::kPro).value()));
  EXPECT_EQ(total.tensors, 145'116);
  EXPECT_EQ(total.bytes, 864'704'792'696);
  EXPECT_EQ(total.parameters, 1'598'839'674'782);
}

TEST(WeightsTest, FlashDsparkHasThePublishedTensorsBytesAndParameters) {
  const PartCount total = Total(CountWeights(WithDspark(SynthShape::kFlash, 256)));
  EXPECT_EQ(total.tensors, 72'317);
  EXPECT_EQ(total.bytes, 166'878'536'440);
  EXPECT_EQ(total.parameters, 304'180'418'494);
}

TEST(WeightsTest, ProDsparkHasThePublishedTensorsBytesAndParameters) {
  const PartCount total = Total(CountWeights(WithDspark(SynthShape::kPro, 512)));
  EXPECT_EQ(total.tensors, 149'782);
  EXPECT_EQ(total.bytes, 892'727'580'904);
  EXPECT_EQ(total.parameters, 1'650'497'936'906);
}

TEST(WeightsTest, BaseCheckpointsHaveThePublishedTensorsAndBytes) {
  const CountOptions base{.fp8_experts = true, .f32_scales = true};
  const PartCount flash = Total(CountWeights(SynthConfig(SynthShape::kFlash).value(), base));
  EXPECT_EQ(flash.tensors, 69'187);
  EXPECT_EQ(flash.bytes, 292'555'345'480);
  const PartCount pro = Total(CountWeights(SynthConfig(SynthShape::kPro).value(), base));
  EXPECT_EQ(pro.tensors, 145'116);
  EXPECT_EQ(pro.bytes, 1'602'325'824'632);
}

// Spec 2.1: the MTP stage of the previews.
TEST(WeightsTest, DraftPartIsTheMtpStage) {
  const auto draft_of = [](SynthShape shape) {
    return CountWeights(SynthConfig(shape).value())[static_cast<size_t>(Part::kDraft)];
  };
  EXPECT_EQ(draft_of(SynthShape::kFlash).tensors, 1'575);
  EXPECT_EQ(draft_of(SynthShape::kFlash).bytes, 3'593'787'756);
  EXPECT_EQ(draft_of(SynthShape::kPro).tensors, 2'343);
  EXPECT_EQ(draft_of(SynthShape::kPro).bytes, 13'956'587'692);
}

class Recorder : public WeightVisitor {
 public:
  explicit Recorder(std::string fail_at = "") : fail_at_(std::move(fail_at)) {}
  base::Status Visit(const TensorSpec& spec, TensorSlot slot) override {
    if (spec.name == fail_at_) return base::NotFound(spec.name);
    names.push_back(spec.name);
    slots_set += int{slot.matrix != nullptr} + int{slot.vector != nullptr} + int{slot.table != nullptr};
    return {};
  }
  std::vector<std::string> names;
  size_t slots_set = 0;

 private:
  const std::string fail_at_;
};

TEST(WeightsTest, WalkNamesEachTensorOnceAndBindsOneSlot) {
  ModelWeights weights;
  Recorder recorder;
  const ModelConfig config = SynthConfig(SynthShape::kTiny).value();
  ASSERT_TRUE(WalkWeights(config, weights, recorder).ok());
  EXPECT_EQ(std::set<std::string>(recorder.names.begin(), recorder.names.end()).size(),
            recorder.names.size());
  EXPECT_EQ(recorder.slots_set, recorder.names.size());
  EXPECT_EQ(weights.layers.size(), 5u);
  EXPECT_EQ(weights.layers[4].ffn.experts.size(), 8u);
  EXPECT_EQ(weights.mtp.size(), 1u);
  EXPECT_THAT(recorder.names,
              ::testing::IsSupersetOf({"layers.0.ffn.gate.tid2eid", "layers.1.ffn.gate.bias",
                                       "layers.1.attn.indexer.compressor.ape", "layers.2.attn.compressor.ape",
                                       "mtp.0.ffn.gate.bias", "mtp.0.hc_head_fn", "hc_head_scale"}));
  EXPECT_THAT(recorder.names, ::testing::Not(::testing::Contains("layers.0.attn.compressor.ape")));
  EXPECT_THAT(recorder.names, ::testing::Not(::testing::Contains("layers.2.attn.indexer.compressor.ape")));
}

TEST(WeightsTest, WalkStopsAtTheFirstError) {
  ModelWeights weights;
  Recorder recorder("layers.1.attn.wkv.weight");
  const auto status = WalkWeights(SynthConfig(SynthShape::kTiny).value(), weights, recorder);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(recorder.names.back(), "layers.1.attn.wq_b.weight");
}

TEST(WeightsTest, MatrixElementsAreCodesTimesTheirScale) {
  // FP4: 2 rows of 64, one scale a row and 32 columns; the even column in the low nibble.
  std::vector<std::byte> codes(64);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::byte>(i * 37);
  const std::byte scales[] = {std::byte{127}, std::byte{128}, std::byte{126}, std::byte{120}};
  const Matrix fp4{.format = MatrixFormat::kFp4,
                   .scale_format = ScaleFormat::kE8m0,
                   .rows = 2,
                   .cols = 64,
                   .data = codes.data(),
                   .scales = scales,
                   .block_cols = 32};
  for (int64_t r = 0; r < 2; ++r) {
    for (int64_t c = 0; c < 64; ++c) {
      const auto byte = static_cast<uint8_t>(codes[static_cast<size_t>(r * 32 + c / 2)]);
      const float code = kE2m1Values[c % 2 == 0 ? byte & 15 : byte >> 4];
      const float scale = E8m0ToF32(static_cast<uint8_t>(scales[r * 2 + c / 32]));
      EXPECT_EQ(MatrixElement(fp4, r, c), code * scale) << r << " " << c;
    }
  }
  EXPECT_EQ(MatrixElement(fp4.Rows(1, 1), 0, 40), MatrixElement(fp4, 1, 40));

  // FP8 with tiles of 2 x 16 that do not divide the shape: the last ones are cut.
  const float tile_scales[] = {1.0f, 2.0f, 0.5f, 4.0f};
  const Matrix fp8{.format = MatrixFormat::kFp8,
                   .scale_format = ScaleFormat::kF32,
                   .rows = 3,
                   .cols = 20,
                   .data = codes.data(),
                   .scales = reinterpret_cast<const std::byte*>(tile_scales),
                   .block_rows = 2,
                   .block_cols = 16};
  EXPECT_EQ(fp8.scale_cols(), 2);
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t c = 0; c < 20; ++c) {
      const float code = E4m3ToF32(static_cast<uint8_t>(codes[static_cast<size_t>(r * 20 + c)]));
      const float want = code * tile_scales[(r / 2) * 2 + c / 16];
      if (std::isnan(code)) continue;
      EXPECT_EQ(MatrixElement(fp8, r, c), want) << r << " " << c;
    }
  }
  EXPECT_EQ(MatrixElement(fp8.Rows(2, 1), 0, 17), MatrixElement(fp8, 2, 17));
}

}  // namespace
}  // namespace holdfast::model
