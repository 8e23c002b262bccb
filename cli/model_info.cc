// holdfast model info: what a checkpoint is, how large, and whether this machine holds it.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "base/process.h"
#include "cli/commands.h"
#include "cli/terminal.h"
#include "model/config.h"
#include "model/json.h"
#include "model/kv_layout.h"
#include "model/weights.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;
using model::Json;
using model::LayerRole;
using model::ModelConfig;

struct Options {
  std::string directory;
  bool json = false;
};

constexpr int64_t kContexts[] = {8 << 10, 128 << 10, 1 << 20};

struct Info {
  ModelConfig config;
  bool has_weights = false;
  size_t unused_tensors = 0;
  std::vector<model::PartCount> parts;
  model::PartCount total;
  double kv_bytes_per_token = 0;
  int64_t tail_bytes = 0;
  base::MemoryInfo memory;
};

bool HasWeights(const std::string& directory) {
  base::FileSystem& fs = base::RealFileSystem();
  return fs.Stat(directory + "/model.safetensors.index.json").ok() ||
         fs.Stat(directory + "/model.safetensors").ok();
}

// FP4 or FP8 experts, UE8M0 or F32 scales: as found in the shards.
model::CountOptions FormatsOf(const model::ModelWeights& weights) {
  const model::Matrix& expert = weights.layers[0].ffn.experts[0].w1;
  const model::Matrix& dense = weights.layers[0].attn.wq_a;
  return {.fp8_experts = expert.format == model::MatrixFormat::kFp8,
          .f32_scales = dense.scale_format == model::ScaleFormat::kF32};
}

StatusOr<Info> Gather(const std::string& directory) {
  Info info;
  model::CountOptions formats;
  info.has_weights = HasWeights(directory);
  if (info.has_weights) {
    HF_ASSIGN_OR_RETURN(const auto checkpoint, model::Checkpoint::Open(base::RealFileSystem(), directory));
    info.config = checkpoint->config();
    info.unused_tensors = checkpoint->unused_tensors().size();
    formats = FormatsOf(checkpoint->weights());
  } else {
    const std::string path = directory + "/config.json";
    auto text = base::RealFileSystem().ReadFile(path, 1 << 20);
    if (!text.ok()) {
      return base::Annotate(text.status(), "no checkpoint directory (it must hold a config.json)");
    }
    HF_ASSIGN_OR_RETURN(info.config, model::ParseConfig(*text, path));
  }
  info.parts = model::CountWeights(info.config, formats);
  for (const model::PartCount& part : info.parts) {
    info.total.tensors += part.tensors;
    info.total.parameters += part.parameters;
    info.total.bytes += part.bytes;
  }
  const model::KvLayout layout = model::MakeKvLayout(info.config, model::KvMode::kStored);
  info.kv_bytes_per_token = static_cast<double>(layout.block_bytes()) / layout.block_tokens;
  info.tail_bytes = model::TailBytes(info.config, model::KvMode::kStored);
  HF_ASSIGN_OR_RETURN(info.memory, base::GetMemoryInfo());
  return info;
}

double KvBytes(const Info& info, int64_t tokens) {
  return info.kv_bytes_per_token * static_cast<double>(tokens) + static_cast<double>(info.tail_bytes);
}

// One sentence: does it fit, and what to expect when not.
std::string Verdict(const Info& info) {
  const auto available = static_cast<double>(info.memory.available_bytes);
  const auto weights = static_cast<double>(info.total.bytes);
  const int64_t window = info.config.max_positions;
  const std::string of_memory = HumanBytes(available) + " of memory that this machine has available (" +
                                HumanBytes(static_cast<double>(info.memory.total_bytes)) + " in all)";
  if (weights + KvBytes(info, window) <= available) {
    return "Fits: weights and the KV of a full window of " + GroupDigits(window) + " tokens take " +
           HumanBytes(weights + KvBytes(info, window)) + " of the " + of_memory + ".";
  }
  if (weights + KvBytes(info, 0) <= available) {
    const double left = available - weights - KvBytes(info, 0);
    return "Fits in part: beside the weights (" + HumanBytes(weights) + ") the " + of_memory +
           " hold the KV of " + GroupDigits(static_cast<int64_t>(left / info.kv_bytes_per_token)) +
           " tokens, not of a full window of " + GroupDigits(window) + ".";
  }
  return "Does not fit: the weights take " + HumanBytes(weights) + ", more than the " + of_memory +
         ". It would run from the mapped files and read most weights from disk again for every token; use a "
         "machine with at least " +
         HumanBytes(weights + KvBytes(info, kContexts[0])) + " available.";
}

struct Roles {
  int swa = 0;
  int csa = 0;
  int hca = 0;
};
Roles CountRoles(const ModelConfig& c) {
  Roles roles;
  for (int32_t l = 0; l < c.num_layers; ++l) {
    ++(c.role(l) == LayerRole::kSwa ? roles.swa : c.role(l) == LayerRole::kCsa ? roles.csa : roles.hca);
  }
  return roles;
}

std::string DraftText(const ModelConfig& c) {
  switch (c.draft) {
    case model::DraftKind::kNone:
      return "none";
    case model::DraftKind::kMtp:
      return std::to_string(c.num_draft_stages) + " MTP stage" + (c.num_draft_stages == 1 ? "" : "s");
    case model::DraftKind::kDspark:
      return std::to_string(c.num_draft_stages) + " DSpark stages (checked, not used yet)";
  }
  return "";
}

void PrintConfig(const ModelConfig& c) {
  const Roles roles = CountRoles(c);
  std::printf("layers        %d: %d sliding window only, %d CSA (ratio 4), %d HCA\n", c.num_layers, roles.swa,
              roles.csa, roles.hca);
  std::printf("width         %d, %d streams, vocabulary %d, window %s tokens\n", c.hidden_size, c.hc_mult,
              c.vocab_size, GroupDigits(c.max_positions).c_str());
  std::printf("attention     %d heads of %d (%d rotated), sliding window %d", c.num_heads, c.head_dim,
              c.rope_dim, c.sliding_window);
  if (roles.csa > 0) {
    std::printf(", indexer %d heads of %d, top %d", c.index_heads, c.index_head_dim, c.index_topk);
  }
  std::printf("\nexperts       %d of width %d, %d a token and one shared; %d layers route by token id\n",
              c.num_experts, c.moe_inter_size, c.experts_per_token, c.num_hash_layers);
  std::printf("draft head    %s\n", DraftText(c).c_str());
}

void PrintParts(const Info& info) {
  std::printf("\n%-18s %10s %20s %20s\n", "part", "tensors", "parameters", "bytes");
  const auto row = [](std::string_view name, const model::PartCount& part) {
    std::printf("%-18.*s %10s %20s %20s\n", static_cast<int>(name.size()), name.data(),
                GroupDigits(part.tensors).c_str(), GroupDigits(part.parameters).c_str(),
                GroupDigits(part.bytes).c_str());
  };
  for (const model::PartCount& part : info.parts) {
    if (part.tensors > 0) row(model::PartName(part.part), part);
  }
  row("total", info.total);
}

void Print(const std::string& directory, const Info& info) {
  std::printf("%s\n", directory.c_str());
  PrintConfig(info.config);
  PrintParts(info);
  if (!info.has_weights) {
    std::printf(
        "The weights are absent: no model.safetensors.index.json. Counts are those of the published "
        "layout.\n");
  }
  if (info.unused_tensors > 0) {
    std::printf("%zu tensors of the shards are not used.\n", info.unused_tensors);
  }
  std::printf("\nKV cache      %.2f bytes a token, and %s a sequence for its tail\n", info.kv_bytes_per_token,
              HumanBytes(static_cast<double>(info.tail_bytes)).c_str());
  for (int64_t tokens : kContexts) {
    std::printf("%14s%9s tokens: %s\n", "", GroupDigits(tokens).c_str(),
                HumanBytes(KvBytes(info, tokens)).c_str());
  }
  std::printf("\n%s\n", Verdict(info).c_str());
}

Json CountsJson(const model::PartCount& count) {
  Json json = Json::Object();
  json.Set("tensors", Json::Int(count.tensors));
  json.Set("parameters", Json::Int(count.parameters));
  json.Set("bytes", Json::Int(count.bytes));
  return json;
}

StatusOr<Json> ToJson(const Info& info) {
  Json json = Json::Object();
  HF_ASSIGN_OR_RETURN(Json config, Json::Parse(model::FormatConfig(info.config)));
  json.Set("config", std::move(config));
  json.Set("weights_present", Json::Bool(info.has_weights));
  Json parts = Json::Object();
  for (const model::PartCount& part : info.parts) {
    parts.Set(model::PartName(part.part), CountsJson(part));
  }
  json.Set("parts", std::move(parts));
  json.Set("total", CountsJson(info.total));
  json.Set("kv_bytes_per_token", Json::Float(info.kv_bytes_per_token));
  json.Set("tail_bytes", Json::Int(info.tail_bytes));
  Json contexts = Json::Object();
  for (int64_t tokens : kContexts) {
    contexts.Set(std::to_string(tokens), Json::Int(static_cast<int64_t>(KvBytes(info, tokens))));
  }
  json.Set("kv_bytes", std::move(contexts));
  json.Set("memory_total_bytes", Json::Int(static_cast<int64_t>(info.memory.total_bytes)));
  json.Set("memory_available_bytes", Json::Int(static_cast<int64_t>(info.memory.available_bytes)));
  json.Set("verdict", Json::String(Verdict(info)));
  return json;
}

Status Run(const Options& options) {
  HF_ASSIGN_OR_RETURN(const Info info, Gather(options.directory));
  if (!options.json) {
    Print(options.directory, info);
    return {};
  }
  HF_ASSIGN_OR_RETURN(const Json json, ToJson(info));
  std::printf("%s\n", json.Dump().c_str());
  return {};
}

}  // namespace

void AddModelInfo(CLI::App& parent, Status& result) {
  CLI::App* command = parent.add_subcommand(
      "info",
      "Say what a checkpoint is: configuration, sizes by part, KV bytes, and whether it fits this "
      "machine.\n\n"
      "Every tensor is checked against config.json on the way. A directory with only a config.json will do:\n"
      "the sizes are then those of the published layout.\n\n"
      "Example:\n"
      "  holdfast model info DIR");
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  command->add_option("DIR", options->directory, "Checkpoint directory")->required();
  command->add_flag("--json", options->json, "Print one JSON object instead");
  command->callback([options, &result] { result = Run(*options); });
}

}  // namespace holdfast::cli
