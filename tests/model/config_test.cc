#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/synth.h"
#include "nlohmann/json.hpp"

namespace holdfast::model {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

Json TinyJson() { return Json::parse(FormatConfig(SynthConfig(SynthShape::kTiny).value())); }

std::string ErrorOf(const Json& json) {
  const auto config = ParseConfig(json.dump(), "dir/config.json");
  if (config.ok()) return "no error";
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(base::Message(config.status()), HasSubstr("dir/config.json: "));
  return base::Message(config.status());
}

TEST(ConfigTest, FormattedConfigParsesToTheSameConfig) {
  for (const SynthShape shape :
       {SynthShape::kFlash, SynthShape::kPro, SynthShape::kNano, SynthShape::kTiny}) {
    const ModelConfig want = SynthConfig(shape).value();
    const std::string text = FormatConfig(want);
    const auto got = ParseConfig(text, "config.json");
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(FormatConfig(*got), text);
    EXPECT_EQ(got->compress_ratios, want.compress_ratios);
    EXPECT_EQ(got->index_topk, want.index_topk);
    EXPECT_EQ(got->routed_scale, want.routed_scale);
    EXPECT_EQ(got->rms_eps, want.rms_eps);
    EXPECT_EQ(got->compress_rope.factor, want.compress_rope.factor);
    EXPECT_EQ(got->draft, DraftKind::kMtp);
  }
}

TEST(ConfigTest, ConfigWithoutYarnOrDraftHeadParsesToTheSameConfig) {
  Json json = TinyJson();
  json.erase("rope_scaling");
  json.erase("num_nextn_predict_layers");
  const auto config = ParseConfig(json.dump(), "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->compress_rope.factor, 1.0f);
  EXPECT_EQ(config->draft, DraftKind::kNone);
  const auto again = ParseConfig(FormatConfig(*config), "config.json");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(FormatConfig(*again), FormatConfig(*config));
}

TEST(ConfigTest, FloatsAreWrittenAsPeopleWriteThem) {
  EXPECT_THAT(FormatConfig(SynthConfig(SynthShape::kTiny).value()), HasSubstr("\"rms_norm_eps\": 1e-06,"));
}

TEST(ConfigTest, FlashRatiosGiveItsRolesAndBlock) {
  const ModelConfig c = SynthConfig(SynthShape::kFlash).value();
  ASSERT_EQ(c.compress_ratios.size(), 44u);
  int counts[3] = {};
  for (int32_t l = 0; l < c.num_layers; ++l) ++counts[static_cast<size_t>(c.role(l))];
  EXPECT_THAT(counts, ::testing::ElementsAre(2, 21, 20));  // SWA, CSA, HCA
  EXPECT_EQ(c.block_tokens(), 128);
  EXPECT_EQ(c.rope(0).theta, 10000.0f);
  EXPECT_EQ(c.rope(2).theta, 160000.0f);
  EXPECT_EQ(c.rope(43).theta, 10000.0f);  // the MTP stage
}

TEST(ConfigTest, BlockCoversEveryRatio) {
  Json json = TinyJson();
  json["compress_ratios"] = {0, 4, 96, 4, 128, 0};
  EXPECT_EQ(ParseConfig(json.dump(), "c")->block_tokens(), 384);
}

TEST(ConfigTest, DsparkStagesAreCountedFromTheRatios) {
  Json json = TinyJson();
  json["dspark_block_size"] = 5;
  json["dspark_markov_rank"] = 256;
  json["dspark_target_layer_ids"] = {2, 3, 4};
  json["compress_ratios"] = {0, 4, 128, 4, 128, 0, 0, 0};
  const auto config = ParseConfig(json.dump(), "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->draft, DraftKind::kDspark);
  EXPECT_EQ(config->num_draft_stages, 3);
  EXPECT_EQ(config->dspark_target_layers, 3);
  EXPECT_EQ(config->dspark_markov_rank, 256);
}

TEST(ConfigTest, TextThatIsNoObjectIsRefused) {
  for (const char* text : {"", "{", "[]", "null", "{\"a\":1} x", "\xff"}) {
    const auto config = ParseConfig(text, "c.json");
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_EQ(base::Message(config.status()), "c.json: not a JSON object") << text;
  }
  EXPECT_THAT(base::Message(ParseConfig(std::string(2 << 20, ' '), "c.json").status()), HasSubstr("1 MiB"));
}

TEST(ConfigTest, EveryRequiredFieldIsMissed) {
  for (const char* field : {"vocab_size",
                            "max_position_embeddings",
                            "hidden_size",
                            "num_hidden_layers",
                            "head_dim",
                            "num_attention_heads",
                            "qk_rope_head_dim",
                            "q_lora_rank",
                            "o_lora_rank",
                            "o_groups",
                            "sliding_window",
                            "compress_ratios",
                            "n_routed_experts",
                            "num_experts_per_tok",
                            "moe_intermediate_size",
                            "hc_mult",
                            "rms_norm_eps",
                            "hc_sinkhorn_iters",
                            "routed_scaling_factor",
                            "swiglu_limit",
                            "rope_theta",
                            "index_n_heads",
                            "index_head_dim",
                            "index_topk"}) {
    Json json = TinyJson();
    json.erase(field);
    EXPECT_THAT(ErrorOf(json), HasSubstr("field \"" + std::string(field) + "\" is missing"));
  }
}

struct BadField {
  const char* path;  // JSON pointer
  const char* value;
  const char* error;
};

class BadFieldTest : public ::testing::TestWithParam<BadField> {};

TEST_P(BadFieldTest, ErrorNamesTheFieldAndWhatItMustBe) {
  Json json = TinyJson();
  json[Json::json_pointer(GetParam().path)] = Json::parse(GetParam().value);
  EXPECT_THAT(ErrorOf(json), HasSubstr(GetParam().error));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadFieldTest,
    ::testing::Values(
        BadField{"/vocab_size", "0", "\"vocab_size\" is 0; it must be an integer from 1 to 16777216"},
        BadField{"/vocab_size", "1.5", "\"vocab_size\" is 1.5; it must be an integer"},
        BadField{"/vocab_size", "\"many\"", "\"vocab_size\" is \"many\"; it must be an integer"},
        BadField{"/vocab_size", "18446744073709551615", "must be an integer"},
        BadField{"/vocab_size", "-9223372036854775808", "must be an integer"},
        BadField{"/vocab_size", "[1]", "\"vocab_size\" is a list; it must be an integer"},
        BadField{"/rms_norm_eps", "\"x\"", "\"rms_norm_eps\" is \"x\"; it must be a number"},
        BadField{"/rms_norm_eps", "-1", "must be a number from 0.0 to 1.0"},
        BadField{"/swiglu_limit", "{}", "\"swiglu_limit\" is an object; it must be a number"},
        BadField{"/model_type", "\"llama\"", "\"model_type\" is \"llama\"; only \"deepseek_v4\""},
        BadField{"/scoring_func", "\"softmax\"", "only \"sqrtsoftplus\" is supported"},
        BadField{"/n_shared_experts", "2", "\"n_shared_experts\" is 2; only 1 is supported"},
        BadField{"/tie_word_embeddings", "true", "only false is supported"},
        BadField{"/hidden_size", "264", "\"hidden_size\" must be a multiple of 32"},
        BadField{"/q_lora_rank", "100", "\"q_lora_rank\" must be a multiple of 32"},
        BadField{"/moe_intermediate_size", "100", "\"moe_intermediate_size\" must be a multiple of 32"},
        BadField{"/qk_rope_head_dim", "63", "\"qk_rope_head_dim\" must be even"},
        BadField{"/qk_rope_head_dim", "128", "\"qk_rope_head_dim\" must be even and below head_dim"},
        BadField{"/head_dim", "160", "\"head_dim\" must exceed qk_rope_head_dim by a multiple of 64"},
        BadField{"/o_groups", "3", "\"o_groups\" must divide num_attention_heads"},
        BadField{"/o_lora_rank", "1",
                 "\"o_lora_rank\" must be such that o_groups times it is a multiple of 32"},
        BadField{"/num_experts_per_tok", "9", "\"num_experts_per_tok\" must be at most n_routed_experts"},
        BadField{"/index_head_dim", "96", "\"index_head_dim\" must be a power of two"},
        BadField{"/index_head_dim", "32", "\"index_head_dim\" must be at least qk_rope_head_dim"},
        BadField{"/eos_token_id", "512", "\"eos_token_id\" must be below vocab_size"},
        BadField{"/compress_ratios", "[0,4]", "must have an entry for each layer and draft stage (6)"},
        BadField{"/compress_ratios", "[0,4,128,4,128,4]", "must be 0 for every draft stage"},
        BadField{"/compress_ratios", "[0,4,1,4,128,0]", "holds 1"},
        BadField{"/compress_ratios", "[0,4,127,4,509,0]", "least common multiple"},
        BadField{"/compress_ratios", "[0,4,-1,4,128,0]", "\"compress_ratios\" is -1"},
        BadField{"/compress_ratios", "4", "\"compress_ratios\" must be a list"},
        BadField{"/rope_scaling", "[]", "\"rope_scaling\" must be an object"},
        BadField{"/rope_scaling/type", "\"linear\"", "\"rope_scaling.type\" is \"linear\"; only \"yarn\""},
        BadField{"/rope_scaling/factor", "0", "\"rope_scaling.factor\" is 0"},
        BadField{"/quantization_config", "7", "\"quantization_config\" must be an object"},
        BadField{"/quantization_config/quant_method", "\"awq\"", "only \"fp8\" is supported"},
        BadField{"/quantization_config/weight_block_size", "[128]", "must hold two integers"},
        BadField{"/quantization_config/weight_block_size", "[128,0]", "weight_block_size\" is 0"}),
    [](const auto& instance) { return "Case" + std::to_string(instance.index); });

TEST(ConfigTest, DeeplyNestedValueIsAnErrorNotAStackOverflow) {
  const std::string nest = std::string(400'000, '[') + std::string(400'000, ']');
  for (const char* field : {"vocab_size", "model_type", "compress_ratios"}) {
    Json json = TinyJson();
    json.erase(field);
    const std::string rest = json.dump().substr(1);
    const auto config = ParseConfig("{\"" + std::string(field) + "\":" + nest + "," + rest, "c.json");
    EXPECT_THAT(base::Message(config.status()), HasSubstr(field));
  }
}

TEST(ConfigTest, PublishedBlockSizesOfOtherReleasesAreRead) {
  Json json = TinyJson();
  json["quantization_config"]["weight_block_size"] = {32, 32};
  EXPECT_EQ(ParseConfig(json.dump(), "c")->fp8_block_rows, 32);
}

}  // namespace
}  // namespace holdfast::model
