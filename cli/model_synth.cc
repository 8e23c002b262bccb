// holdfast model synth: writes a random checkpoint.
#include "model/synth.h"

#include <cstdio>
#include <map>
#include <memory>

#include "CLI/CLI.hpp"
#include "base/process.h"
#include "cli/commands.h"
#include "cli/terminal.h"

namespace holdfast::cli {
namespace {

using base::Status;
using model::SynthShape;

struct Options {
  std::string directory;
  SynthShape shape = SynthShape::kTiny;
  model::SynthSize size;
  uint64_t seed = 0;
  double shard_mib = 3072;
  int threads = 0;
};

Status Run(const Options& options) {
  HF_ASSIGN_OR_RETURN(const model::ModelConfig config, model::SynthConfig(options.shape, options.size));
  const int64_t bytes = model::SynthBytes(config);
  Progress progress("writing", "", bytes);
  HF_RETURN_IF_ERROR(model::WriteSynthCheckpoint(
      base::RealFileSystem(), config, options.directory,
      {.seed = options.seed,
       .max_shard_bytes = static_cast<int64_t>(options.shard_mib * (1 << 20)),
       .threads = options.threads > 0 ? options.threads : base::PhysicalCoreCount(),
       .progress = [&](int64_t done) { progress.Update(done); }}));
  std::printf("%s: %s of random weights, %d layers, %d experts, vocabulary %d\n", options.directory.c_str(),
              HumanBytes(static_cast<double>(bytes)).c_str(), config.num_layers, config.num_experts,
              config.vocab_size);
  return {};
}

}  // namespace

void AddModelSynth(CLI::App& parent, Status& result) {
  CLI::App* command = parent.add_subcommand(
      "synth",
      "Write a random checkpoint in the published layout, so that tests and benchmarks need nothing from\n"
      "outside. The same options give the same bytes on every machine.\n\n"
      "Examples:\n"
      "  holdfast model synth --shape tiny /tmp/tiny\n"
      "  holdfast model synth --shape flash --layers 4 --experts 16 --vocab 8192 /tmp/flash4");
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  const std::map<std::string, SynthShape> shapes = {{"flash", SynthShape::kFlash},
                                                    {"pro", SynthShape::kPro},
                                                    {"nano", SynthShape::kNano},
                                                    {"tiny", SynthShape::kTiny}};
  command
      ->add_option("--shape", options->shape,
                   "Dimensions: flash, pro (the published ones), nano (a laptop model), tiny (for tests)")
      ->required()
      ->transform(CLI::CheckedTransformer(shapes).description("flash|pro|nano|tiny"));
  command->add_option("--layers", options->size.layers, "Number of layers (default: the shape's)")
      ->check(CLI::Range(1, 512));
  command->add_option("--experts", options->size.experts, "Routed experts of a layer (default: the shape's)")
      ->check(CLI::Range(1, 65536));
  command->add_option("--vocab", options->size.vocab, "Size of the vocabulary (default: the shape's)")
      ->check(CLI::Range(2, 1 << 24));
  command->add_option("--seed", options->seed, "Another seed, other weights")->capture_default_str();
  command->add_option("--shard-mib", options->shard_mib, "Largest shard file, in MiB")
      ->capture_default_str()
      ->check(CLI::Range(0.001, 1e9));
  command->add_option("--threads", options->threads, "Threads (default: one for each physical core)")
      ->check(CLI::Range(0, 1024));
  command->add_option("DIR", options->directory, "Directory to create; must hold no checkpoint")->required();
  command->callback([options, &result] { result = Run(*options); });
}

}  // namespace holdfast::cli
