#include "model/config.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "nlohmann/json.hpp"

namespace holdfast::model {
namespace {

using base::InvalidArgument;
using base::Status;
using base::StatusOr;
using Json = nlohmann::ordered_json;

// Reads fields of one JSON object; the first failure is kept and later reads become no-ops.
class Reader {
 public:
  Reader(const Json& object, std::string_view origin, std::string prefix = "")
      : object_(object), origin_(origin), prefix_(std::move(prefix)) {}

  const Status& status() const { return status_; }

  void Int(const char* key, int64_t low, int64_t high, int32_t& out) {
    const Json* value = Find(key);
    if (value == nullptr) return Fail(key, "is missing");
    IntValue(key, *value, low, high, out);
  }
  void IntOr(const char* key, int64_t low, int64_t high, int32_t fallback, int32_t& out) {
    out = fallback;
    if (const Json* value = Find(key)) IntValue(key, *value, low, high, out);
  }
  void Float(const char* key, double low, double high, float& out) {
    const Json* value = Find(key);
    if (value == nullptr) return Fail(key, "is missing");
    FloatValue(key, *value, low, high, out);
  }
  void FloatOr(const char* key, double low, double high, float fallback, float& out) {
    out = fallback;
    if (const Json* value = Find(key)) FloatValue(key, *value, low, high, out);
  }
  // The field, when present, must equal `want`: the graph computes nothing else.
  void Only(const char* key, const Json& want) {
    const Json* value = Find(key);
    if (value != nullptr && *value != want) {
      Fail(key, "is " + Shown(*value) + "; only " + want.dump() + " is supported");
    }
  }
  void IntList(const char* key, int64_t low, int64_t high, size_t max_size, std::vector<int32_t>& out) {
    const Json* value = Find(key);
    if (value == nullptr) return Fail(key, "is missing");
    if (!value->is_array() || value->size() > max_size) {
      return Fail(key, "must be a list of at most " + std::to_string(max_size) + " integers");
    }
    out.clear();
    for (const Json& item : *value) {
      int32_t v = 0;
      IntValue(key, item, low, high, v);
      out.push_back(v);
    }
  }
  const Json* Find(const char* key) const {
    auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  void Fail(const char* key, const std::string& why) {
    if (status_.ok()) {
      status_ = InvalidArgument(std::string(origin_) + ": field \"" + prefix_ + key + "\" " + why);
    }
  }

 private:
  void IntValue(const char* key, const Json& value, int64_t low, int64_t high, int32_t& out) {
    const bool fits =
        value.is_number_integer() &&
        !(value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) &&
        value.get<int64_t>() >= low && value.get<int64_t>() <= high;
    if (!fits) {
      return Fail(key, "is " + Shown(value) + "; it must be an integer from " + std::to_string(low) + " to " +
                           std::to_string(high));
    }
    out = static_cast<int32_t>(value.get<int64_t>());
  }
  void FloatValue(const char* key, const Json& value, double low, double high, float& out) {
    if (!value.is_number() || !(value.get<double>() >= low && value.get<double>() <= high)) {
      return Fail(key, "is " + Shown(value) + "; it must be a number from " + Json(low).dump() + " to " +
                           Json(high).dump());
    }
    out = static_cast<float>(value.get<double>());
  }
  static std::string Shown(const Json& value) {
    if (value.is_structured()) return value.is_array() ? "a list" : "an object";
    std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 57) + "...";
    return text;
  }

  const Json& object_;
  std::string_view origin_;
  std::string prefix_;
  Status status_;
};

bool HasCsa(const ModelConfig& c) {
  return std::find(c.compress_ratios.begin(), c.compress_ratios.end(), kOverlapRatio) !=
         c.compress_ratios.end();
}

// Sizes are bounded so that no product of two of them overflows, far above any published model.
constexpr int64_t kMaxWidth = 1 << 17;
constexpr int64_t kMaxLayers = 512;

void ReadShapes(Reader& r, ModelConfig& c) {
  r.Int("vocab_size", 1, 1 << 24, c.vocab_size);
  r.Int("max_position_embeddings", 1, 1 << 27, c.max_positions);
  r.Int("hidden_size", 32, kMaxWidth, c.hidden_size);
  r.Int("num_hidden_layers", 1, kMaxLayers, c.num_layers);
  r.IntOr("bos_token_id", 0, 1 << 24, 0, c.bos_token_id);
  r.IntOr("eos_token_id", 0, 1 << 24, 1, c.eos_token_id);
  r.Int("num_attention_heads", 1, 4096, c.num_heads);
  r.Int("head_dim", 2, 2048, c.head_dim);
  r.Int("qk_rope_head_dim", 2, 2048, c.rope_dim);
  r.Int("q_lora_rank", 32, kMaxWidth, c.q_lora_rank);
  r.Int("o_lora_rank", 1, kMaxWidth, c.o_lora_rank);
  r.Int("o_groups", 1, 4096, c.o_groups);
  r.Int("sliding_window", 1, 1 << 14, c.sliding_window);
  r.IntList("compress_ratios", 0, 1 << 16, 2 * kMaxLayers, c.compress_ratios);
  r.Int("n_routed_experts", 1, 1 << 16, c.num_experts);
  r.Int("num_experts_per_tok", 1, 1024, c.experts_per_token);
  r.IntOr("num_hash_layers", 0, kMaxLayers, 0, c.num_hash_layers);
  r.Int("moe_intermediate_size", 32, kMaxWidth, c.moe_inter_size);
  r.Int("hc_mult", 1, 64, c.hc_mult);
  r.Int("hc_sinkhorn_iters", 1, 1000, c.hc_sinkhorn_iters);
}

void ReadNumbers(Reader& r, ModelConfig& c) {
  r.Float("rms_norm_eps", 0.0, 1.0, c.rms_eps);
  r.FloatOr("hc_eps", 0.0, 1.0, 1e-6f, c.hc_eps);
  r.Float("routed_scaling_factor", 0.0, 1e6, c.routed_scale);
  r.Float("swiglu_limit", 0.0, 1e30, c.swiglu_limit);
  r.Float("rope_theta", 1.0, 1e12, c.window_rope.theta);
  r.FloatOr("compress_rope_theta", 1.0, 1e12, c.window_rope.theta, c.compress_rope.theta);
  r.Only("scoring_func", "sqrtsoftplus");
  r.Only("norm_topk_prob", true);
  r.Only("tie_word_embeddings", false);
  r.Only("n_shared_experts", 1);
  r.Only("num_key_value_heads", 1);
  r.Only("hidden_act", "silu");
  r.Only("attention_bias", false);
}

Status ReadYarn(const Json& scaling, std::string_view origin, RopeConfig& rope) {
  if (!scaling.is_object()) {
    return InvalidArgument(std::string(origin) + ": field \"rope_scaling\" must be an object");
  }
  Reader r(scaling, origin, "rope_scaling.");
  r.Only("type", "yarn");
  r.Only("rope_type", "yarn");
  r.Float("factor", 1.0, 1e6, rope.factor);
  r.Int("original_max_position_embeddings", 1, 1 << 27, rope.original_max_positions);
  r.FloatOr("beta_fast", 0.001, 1e6, 32.0f, rope.beta_fast);
  r.FloatOr("beta_slow", 0.001, 1e6, 1.0f, rope.beta_slow);
  return r.status();
}

Status ReadQuantisation(const Json& quantisation, std::string_view origin, ModelConfig& c) {
  if (!quantisation.is_object()) {
    return InvalidArgument(std::string(origin) + ": field \"quantization_config\" must be an object");
  }
  Reader r(quantisation, origin, "quantization_config.");
  r.Only("quant_method", "fp8");
  r.Only("fmt", "e4m3");
  std::vector<int32_t> block = {128, 128};
  if (r.Find("weight_block_size") != nullptr) r.IntList("weight_block_size", 1, 65536, 2, block);
  if (r.status().ok() && block.size() != 2) r.Fail("weight_block_size", "must hold two integers");
  HF_RETURN_IF_ERROR(r.status());
  c.fp8_block_rows = block[0];
  c.fp8_block_cols = block[1];
  return {};
}

// Which draft head the checkpoint ships, from the fields that say so.
void ReadDraft(Reader& r, ModelConfig& c) {
  int32_t mtp_stages = 0;
  int32_t dspark_block = 0;
  std::vector<int32_t> targets;
  r.IntOr("num_nextn_predict_layers", 0, 16, 0, mtp_stages);
  r.IntOr("dspark_block_size", 0, 1024, 0, dspark_block);
  if (dspark_block > 0) {
    r.Int("dspark_markov_rank", 1, kMaxWidth, c.dspark_markov_rank);
    r.IntList("dspark_target_layer_ids", 0, kMaxLayers, 16, targets);
    c.draft = DraftKind::kDspark;
    c.dspark_target_layers = static_cast<int32_t>(targets.size());
    c.num_draft_stages = std::max(0, static_cast<int32_t>(c.compress_ratios.size()) - c.num_layers);
  } else if (mtp_stages > 0) {
    c.draft = DraftKind::kMtp;
    c.num_draft_stages = mtp_stages;
  }
}

struct Rule {
  bool holds;
  const char* field;
  std::string must;
};

// Relations between fields that the layout and the kernels rely on.
Status CheckRelations(const ModelConfig& c, std::string_view origin) {
  const bool has_csa = HasCsa(c);
  const size_t ratios_wanted = static_cast<size_t>(c.num_layers + c.num_draft_stages);
  const int32_t index_dim = c.index_head_dim;
  const Rule rules[] = {
      {c.compress_ratios.size() >= ratios_wanted && c.num_draft_stages >= 0, "compress_ratios",
       "have an entry for each layer and draft stage (" + std::to_string(ratios_wanted) + ")"},
      {c.hidden_size % 32 == 0, "hidden_size", "be a multiple of 32"},
      {c.q_lora_rank % 32 == 0, "q_lora_rank", "be a multiple of 32"},
      {c.moe_inter_size % 32 == 0, "moe_intermediate_size", "be a multiple of 32"},
      {c.rope_dim % 2 == 0 && c.rope_dim < c.head_dim, "qk_rope_head_dim", "be even and below head_dim"},
      {(c.head_dim - c.rope_dim) % 64 == 0, "head_dim", "exceed qk_rope_head_dim by a multiple of 64"},
      {c.head_dim % 16 == 0, "head_dim", "be a multiple of 16"},
      {c.num_heads % c.o_groups == 0, "o_groups", "divide num_attention_heads"},
      {(int64_t{c.o_groups} * c.o_lora_rank) % 32 == 0, "o_lora_rank",
       "be such that o_groups times it is a multiple of 32"},
      {int64_t{c.num_heads} * c.head_dim <= (1 << 20), "num_attention_heads",
       "be such that head_dim times it is at most 2^20"},
      {int64_t{c.o_groups} * c.o_lora_rank <= (1 << 18), "o_lora_rank",
       "be such that o_groups times it is at most 2^18"},
      {int64_t{c.index_heads} * c.index_head_dim <= (1 << 18), "index_n_heads",
       "be such that index_head_dim times it is at most 2^18"},
      {int64_t{c.hc_mult} * c.hidden_size <= (1 << 20), "hc_mult",
       "be such that hidden_size times it is at most 2^20"},
      {int64_t{c.num_layers + c.num_draft_stages} * c.num_experts <= (1 << 18), "n_routed_experts",
       "be such that the layers times it are at most 2^18"},
      {c.compress_rope.factor == 1.0f || c.compress_rope.theta > 1.0f, "compress_rope_theta", "be above 1"},
      {c.experts_per_token <= c.num_experts, "num_experts_per_tok", "be at most n_routed_experts"},
      {!has_csa || (index_dim >= 32 && index_dim <= 512 && (index_dim & (index_dim - 1)) == 0),
       "index_head_dim", "be a power of two from 32 to 512"},
      {!has_csa || index_dim >= c.rope_dim, "index_head_dim", "be at least qk_rope_head_dim"},
      {c.fp8_block_cols % 16 == 0, "quantization_config.weight_block_size", "hold a multiple of 16 columns"},
      {c.bos_token_id < c.vocab_size && c.eos_token_id < c.vocab_size, "eos_token_id", "be below vocab_size"},
  };
  for (const Rule& rule : rules) {
    if (!rule.holds) {
      return InvalidArgument(std::string(origin) + ": field \"" + rule.field + "\" must " + rule.must);
    }
  }
  for (int32_t ratio : c.compress_ratios) {
    if (ratio == 1)
      return InvalidArgument(std::string(origin) + ": field \"compress_ratios\" holds 1; use 0 or >= 2");
  }
  for (int32_t stage = 0; stage < c.num_draft_stages; ++stage) {
    if (c.ratio(c.num_layers + stage) != 0) {
      return InvalidArgument(std::string(origin) +
                             ": field \"compress_ratios\" must be 0 for every draft stage");
    }
  }
  if (c.block_tokens() > (1 << 16)) {
    return InvalidArgument(
        std::string(origin) +
        ": field \"compress_ratios\": their least common multiple with 128 must be at most 65536");
  }
  return {};
}

// The double that prints as the shortest decimal of `value`: 1e-06, not 9.999999974752427e-07.
double Shortest(float value) {
  char text[32];
  const char* end = std::to_chars(std::begin(text), std::end(text), value).ptr;
  double shortest = 0;
  std::from_chars(text, end, shortest);
  return shortest;
}

}  // namespace

LayerRole ModelConfig::role(int32_t layer) const {
  const int32_t r = ratio(layer);
  if (r == 0) return LayerRole::kSwa;
  return r == kOverlapRatio ? LayerRole::kCsa : LayerRole::kHca;
}

int32_t ModelConfig::block_tokens() const {
  int64_t tokens = 128;
  for (int32_t r : compress_ratios) {
    if (r > 0) tokens = std::lcm(tokens, int64_t{r});
    if (tokens > (1 << 20)) break;  // ParseConfig refuses it
  }
  return static_cast<int32_t>(tokens);
}

StatusOr<ModelConfig> ParseConfig(std::string_view json, std::string_view origin) {
  constexpr size_t kMaxBytes = 1 << 20;
  if (json.size() > kMaxBytes) {
    return InvalidArgument(std::string(origin) + ": larger than 1 MiB; this is not a model configuration");
  }
  // Deep nests are dropped: copying one, or printing it, would recurse as deep.
  const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth < 8; };
  const Json root = Json::parse(json.begin(), json.end(), shallow, /*allow_exceptions=*/false);
  if (!root.is_object()) return InvalidArgument(std::string(origin) + ": not a JSON object");
  ModelConfig c;
  Reader r(root, origin);
  r.Only("model_type", "deepseek_v4");
  ReadShapes(r, c);
  ReadNumbers(r, c);
  ReadDraft(r, c);
  if (HasCsa(c)) {
    r.Int("index_n_heads", 1, 4096, c.index_heads);
    r.Int("index_head_dim", 2, 8192, c.index_head_dim);
    r.Int("index_topk", 1, 1 << 16, c.index_topk);
  }
  HF_RETURN_IF_ERROR(r.status());
  if (const Json* scaling = r.Find("rope_scaling"))
    HF_RETURN_IF_ERROR(ReadYarn(*scaling, origin, c.compress_rope));
  if (const Json* q = r.Find("quantization_config")) HF_RETURN_IF_ERROR(ReadQuantisation(*q, origin, c));
  HF_RETURN_IF_ERROR(CheckRelations(c, origin));
  c.compress_ratios.resize(
      static_cast<size_t>(c.num_layers + c.num_draft_stages));  // what follows is not used
  return c;
}

std::string FormatConfig(const ModelConfig& c) {
  Json j;
  j["architectures"] = {"DeepseekV4ForCausalLM"};
  j["model_type"] = "deepseek_v4";
  j["torch_dtype"] = "bfloat16";
  j["bos_token_id"] = c.bos_token_id;
  j["eos_token_id"] = c.eos_token_id;
  j["vocab_size"] = c.vocab_size;
  j["max_position_embeddings"] = c.max_positions;
  j["hidden_size"] = c.hidden_size;
  j["num_hidden_layers"] = c.num_layers;
  j["num_attention_heads"] = c.num_heads;
  j["num_key_value_heads"] = 1;
  j["head_dim"] = c.head_dim;
  j["qk_rope_head_dim"] = c.rope_dim;
  j["q_lora_rank"] = c.q_lora_rank;
  j["o_lora_rank"] = c.o_lora_rank;
  j["o_groups"] = c.o_groups;
  j["sliding_window"] = c.sliding_window;
  j["compress_ratios"] = c.compress_ratios;
  j["index_n_heads"] = c.index_heads;
  j["index_head_dim"] = c.index_head_dim;
  j["index_topk"] = c.index_topk;
  j["rope_theta"] = Shortest(c.window_rope.theta);
  j["compress_rope_theta"] = Shortest(c.compress_rope.theta);
  if (c.compress_rope.original_max_positions > 0) {
    j["rope_scaling"] = {{"type", "yarn"},
                         {"factor", Shortest(c.compress_rope.factor)},
                         {"original_max_position_embeddings", c.compress_rope.original_max_positions},
                         {"beta_fast", Shortest(c.compress_rope.beta_fast)},
                         {"beta_slow", Shortest(c.compress_rope.beta_slow)}};
  }
  j["n_routed_experts"] = c.num_experts;
  j["n_shared_experts"] = 1;
  j["num_experts_per_tok"] = c.experts_per_token;
  j["num_hash_layers"] = c.num_hash_layers;
  j["moe_intermediate_size"] = c.moe_inter_size;
  j["routed_scaling_factor"] = Shortest(c.routed_scale);
  j["swiglu_limit"] = Shortest(c.swiglu_limit);
  j["scoring_func"] = "sqrtsoftplus";
  j["topk_method"] = "noaux_tc";
  j["norm_topk_prob"] = true;
  j["hidden_act"] = "silu";
  j["hc_mult"] = c.hc_mult;
  j["hc_sinkhorn_iters"] = c.hc_sinkhorn_iters;
  j["hc_eps"] = Shortest(c.hc_eps);
  j["rms_norm_eps"] = Shortest(c.rms_eps);
  j["num_nextn_predict_layers"] = c.draft == DraftKind::kMtp ? c.num_draft_stages : 0;
  j["tie_word_embeddings"] = false;
  j["expert_dtype"] = "fp4";
  j["quantization_config"] = {{"quant_method", "fp8"},
                              {"fmt", "e4m3"},
                              {"activation_scheme", "dynamic"},
                              {"scale_fmt", "ue8m0"},
                              {"weight_block_size", {c.fp8_block_rows, c.fp8_block_cols}}};
  return j.dump(2) + "\n";
}

}  // namespace holdfast::model
