// holdfast model logits: what the model computes for given tokens, as a safetensors file.
#include <climits>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "cli/backend_options.h"
#include "cli/commands.h"
#include "cli/terminal.h"
#include "cli/token_ids.h"
#include "model/engine.h"
#include "model/safetensors.h"
#include "model/trace.h"
#include "model/weights.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;
using model::TensorToWrite;

struct Options {
  std::string directory;
  std::string tokens;
  int64_t prefill = -1;
  int32_t chunk = 0;
  BackendChoice backend;
  bool hidden = false;
  bool mtp = false;
  std::string out;
};

StatusOr<std::vector<int32_t>> ReadIds(const std::string& path) {
  HF_ASSIGN_OR_RETURN(const std::string text, base::RealFileSystem().ReadFile(path, 256 << 20));
  return IdsFromJson(text, path);
}

TensorToWrite FloatTensor(std::string name, std::vector<int64_t> shape, const std::vector<float>& values) {
  return {std::move(name), model::DType::kF32, std::move(shape),
          [&values](std::span<std::byte> out) { std::memcpy(out.data(), values.data(), out.size()); }};
}

Status WriteTrace(const model::ModelConfig& config, const model::Trace& trace, int64_t count,
                  const Options& options, const std::string& numerics) {
  std::vector<TensorToWrite> tensors;
  tensors.push_back(FloatTensor("logits", {count, config.vocab_size}, trace.logits));
  for (size_t layer = 0; layer < trace.hidden.size(); ++layer) {
    tensors.push_back(FloatTensor("layers." + std::to_string(layer) + ".hidden",
                                  {count, config.hc_mult, config.hidden_size}, trace.hidden[layer]));
  }
  if (options.mtp) {
    tensors.push_back(FloatTensor("mtp.logits", {count - 1, config.vocab_size}, trace.mtp_logits));
  }
  return model::WriteSafetensors(base::RealFileSystem(), options.out, tensors, {{"numerics", numerics}});
}

Status Run(const Options& options) {
  HF_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, ReadIds(options.tokens));
  HF_ASSIGN_OR_RETURN(const auto backend, MakeBackend(options.backend));
  HF_ASSIGN_OR_RETURN(const auto checkpoint,
                      model::Checkpoint::Open(base::RealFileSystem(), options.directory));
  if (options.mtp && checkpoint->weights().mtp.empty()) {
    return base::FailedPrecondition(options.directory + ": ships no MTP stage; leave --mtp out");
  }
  const auto count = static_cast<int64_t>(tokens.size());
  const model::EngineOptions defaults;
  model::Engine engine(checkpoint->config(), checkpoint->weights(), *backend,
                       {.max_rows = options.chunk > 0 ? options.chunk : defaults.max_rows});
  model::Sequence sequence = engine.NewSequence();
  StatusOr<model::Trace> trace = model::Trace{};
  {
    Progress progress("computing", "tokens", count);
    trace = model::RunTrace(engine, sequence, tokens,
                            {.prefill = options.prefill < 0 ? count : options.prefill,
                             .hidden = options.hidden,
                             .mtp = options.mtp,
                             .progress = [&](int64_t done) { progress.Update(done); }});
  }
  HF_RETURN_IF_ERROR(trace.status());
  return WriteTrace(checkpoint->config(), *trace, count, options, backend->NumericsId());
}

}  // namespace

void AddModelLogits(CLI::App& parent, Status& result) {
  CLI::App* command = parent.add_subcommand(
      "logits",
      "Compute the logits of given tokens and write them as a safetensors file.\n\n"
      "The file holds \"logits\", F32 [tokens, vocabulary]: row t is what the model predicts after token t.\n"
      "The first N tokens are read as a prompt is, in chunks, the rest one at a time as in generation;\n"
      "the result is the same bits either way.\n\n"
      "Example:\n"
      "  echo '[0, 17, 42]' > ids.json\n"
      "  holdfast model logits DIR --tokens ids.json --prefill 2 --precision native --out "
      "logits.safetensors");
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  command->add_option("DIR", options->directory, "Checkpoint directory")->required();
  command->add_option("--tokens", options->tokens, "File with a JSON list of token ids")->required();
  command->add_option("--prefill", options->prefill, "Tokens to read in chunks (default: all)")
      ->check(CLI::Range(int64_t{0}, int64_t{INT_MAX}));
  command->add_option("--chunk", options->chunk, "Tokens of one chunk (default: 512)")
      ->check(CLI::Range(1, 1 << 20));
  AddBackendOptions(*command, options->backend);
  command->add_flag("--hidden", options->hidden,
                    "Also write \"layers.L.hidden\", F32 [tokens, streams, width]: the state after layer L");
  command->add_flag("--mtp", options->mtp,
                    "Also write \"mtp.logits\", F32 [tokens - 1, vocabulary]: the draft head's predictions");
  command->add_option("--out", options->out, "File to write")->required();
  command->callback([options, &result] { result = Run(*options); });
}

}  // namespace holdfast::cli
