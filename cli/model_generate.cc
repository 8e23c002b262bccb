// holdfast model generate: a prompt to text, streaming.
#include <algorithm>
#include <climits>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/clock.h"
#include "base/file.h"
#include "cli/backend_options.h"
#include "cli/commands.h"
#include "cli/kv_session.h"
#include "cli/terminal.h"
#include "cli/token_ids.h"
#include "model/chat.h"
#include "model/engine.h"
#include "model/sampler.h"
#include "model/tokenizer.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;

struct Options {
  std::string directory;
  std::string prompt;
  std::string prompt_file;
  std::string prompt_ids;
  std::string tokenizer;
  bool raw = false;
  int64_t max_tokens = 256;
  model::SamplerOptions sampler;
  uint64_t seed = 0;
  std::string kv_store;
  BackendChoice backend;
};

volatile std::sig_atomic_t interrupted = 0;
void Interrupt(int) { interrupted = 1; }

// Counts seconds from its construction.
class Stopwatch {
 public:
  double Seconds() const {
    return static_cast<double>(base::RealClock().MonotonicNow().ns - start_.ns) / base::kNsPerSecond;
  }

 private:
  const base::MonotonicTime start_ = base::RealClock().MonotonicNow();
};

// Prints what is generated: text by whole characters, or ids when there is no tokenizer.
class Printer {
 public:
  explicit Printer(const model::Tokenizer* tokenizer) {
    if (tokenizer != nullptr) decoder_.emplace(*tokenizer);
  }
  Status Print(int32_t id) {
    if (!decoder_) {
      Write(std::to_string(id) + " ");
      return {};
    }
    HF_ASSIGN_OR_RETURN(const std::string text, decoder_->Feed(id));
    Write(text);
    return {};
  }
  void Finish() { Write((decoder_ ? decoder_->Finish() : "") + "\n"); }

 private:
  static void Write(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  std::optional<model::StreamDecoder> decoder_;
};

struct Outcome {
  size_t prompt_tokens = 0;
  int64_t attached = 0;
  double prefill_seconds = 0;
  int64_t generated = 0;
  double decode_seconds = 0;
  std::string why;
};

class Generator {
 public:
  Generator(KvSession& kv, const model::ModelConfig& config, model::Sampler& sampler,
            const model::TokenMask* mask, const Options& options)
      : kv_(kv),
        config_(config),
        sampler_(sampler),
        mask_(mask),
        options_(options),
        logits_(static_cast<size_t>(config.vocab_size)) {}

  StatusOr<Outcome> Run(std::span<const int32_t> prompt, Printer& printer) {
    outcome_.prompt_tokens = prompt.size();
    HF_RETURN_IF_ERROR(Prefill(prompt));
    const Stopwatch watch;
    Status status;
    while (status.ok() && outcome_.why.empty()) status = Step(printer);
    printer.Finish();
    outcome_.decode_seconds = watch.Seconds();
    HF_RETURN_IF_ERROR(status);
    HF_RETURN_IF_ERROR(kv_.Finish());
    return outcome_;
  }

 private:
  // Cancelled is how Ctrl-C arrives; Step says so.
  Status CatchUp(const std::function<void(int64_t)>& reached) {
    const Status status = kv_.CatchUp(logits_, [&](int64_t position) {
      reached(position);
      return interrupted == 0;
    });
    return absl::IsCancelled(status) ? Status() : status;
  }

  Status Prefill(std::span<const int32_t> prompt) {
    const Stopwatch watch;
    kv_.Start(prompt);
    outcome_.attached = kv_.attached();
    Progress progress("reading the prompt", "tokens",
                      static_cast<int64_t>(prompt.size()) - outcome_.attached);
    HF_RETURN_IF_ERROR(CatchUp([&](int64_t position) { progress.Update(position - outcome_.attached); }));
    outcome_.prefill_seconds = watch.Seconds();
    return {};
  }

  // Samples one token, prints it, and computes the logits after it.
  Status Step(Printer& printer) {
    if (interrupted != 0) return Stop("interrupted");
    if (outcome_.generated == options_.max_tokens) return Stop("--max-tokens reached");
    const auto position = static_cast<uint64_t>(kv_.position());
    HF_ASSIGN_OR_RETURN(const int32_t id,
                        sampler_.Sample(logits_, mask_, {.seed = options_.seed, .position = position}));
    ++outcome_.generated;
    if (id == config_.eos_token_id) return Stop("end of the turn");
    HF_RETURN_IF_ERROR(printer.Print(id));
    if (kv_.position() == config_.max_positions) return Stop("the model's window is full");
    kv_.Append(id);
    return CatchUp([](int64_t) {});
  }

  Status Stop(std::string_view why) {
    outcome_.why = why;
    return {};
  }

  KvSession& kv_;
  const model::ModelConfig& config_;
  model::Sampler& sampler_;
  const model::TokenMask* mask_;
  const Options& options_;
  std::vector<float> logits_;
  Outcome outcome_;
};

StatusOr<std::unique_ptr<model::Tokenizer>> LoadTokenizer(const Options& options) {
  const std::string path =
      options.tokenizer.empty() ? options.directory + "/tokenizer.json" : options.tokenizer;
  auto tokenizer = model::Tokenizer::Load(base::RealFileSystem(), path);
  if (!absl::IsNotFound(tokenizer.status())) return tokenizer;
  return base::NotFound(path +
                        ": there is no tokenizer; name one with --tokenizer FILE, or give the prompt as "
                        "ids: --prompt-ids 0,17,42");
}

StatusOr<std::vector<int32_t>> PromptIds(const Options& options, const model::Tokenizer* tokenizer,
                                         int32_t bos) {
  if (tokenizer == nullptr) return IdsFromJson("[" + options.prompt_ids + "]", "--prompt-ids");
  std::string text = options.prompt;
  if (!options.prompt_file.empty()) {
    HF_ASSIGN_OR_RETURN(text, base::RealFileSystem().ReadFile(options.prompt_file, 64 << 20));
  }
  if (options.raw) {
    HF_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer->Encode(text, model::AddedTokens::kPlain));
    ids.insert(ids.begin(), bos);
    return ids;
  }
  model::Json message = model::Json::Object();
  message.Set("role", model::Json::String("user"));
  message.Set("content", model::Json::String(text));
  model::Json messages = model::Json::Array();
  messages.Append(std::move(message));
  return model::RenderIds(messages, {}, *tokenizer);
}

// What may be sampled: ids that have a token, and the end of the turn.
model::TokenMask Printable(const model::Tokenizer& tokenizer, const model::ModelConfig& config) {
  model::TokenMask mask(config.vocab_size);
  for (int32_t id = 0; id < std::min(config.vocab_size, tokenizer.vocab_size()); ++id) {
    if (tokenizer.HasToken(id)) mask.Add(id);
  }
  mask.Add(config.eos_token_id);
  return mask;
}

void Report(const Outcome& outcome) {
  const auto rate = [](double count, double seconds) { return seconds > 0 ? count / seconds : 0.0; };
  const auto read = static_cast<double>(outcome.prompt_tokens) - static_cast<double>(outcome.attached);
  const auto generated = static_cast<double>(outcome.generated);
  std::string from_store;
  if (outcome.attached > 0) from_store = " (" + GroupDigits(outcome.attached) + " of them from the kv store)";
  std::fprintf(stderr,
               "[%s] prompt: %zu tokens%s in %.2f s (%.1f tokens/s); generated: %lld tokens in %.2f s (%.1f "
               "tokens/s)\n",
               outcome.why.c_str(), outcome.prompt_tokens, from_store.c_str(), outcome.prefill_seconds,
               rate(read, outcome.prefill_seconds), static_cast<long long>(outcome.generated),
               outcome.decode_seconds, rate(generated, outcome.decode_seconds));
}

Status Run(const Options& options) {
  HF_ASSIGN_OR_RETURN(model::Sampler sampler, model::Sampler::Make(options.sampler));
  HF_ASSIGN_OR_RETURN(const auto backend, MakeBackend(options.backend));
  HF_ASSIGN_OR_RETURN(const auto checkpoint,
                      model::Checkpoint::Open(base::RealFileSystem(), options.directory));
  const model::ModelConfig& config = checkpoint->config();
  std::unique_ptr<model::Tokenizer> tokenizer;
  model::TokenMask mask;
  if (options.prompt_ids.empty()) {
    HF_ASSIGN_OR_RETURN(tokenizer, LoadTokenizer(options));
    mask = Printable(*tokenizer, config);
  }
  HF_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt,
                      PromptIds(options, tokenizer.get(), config.bos_token_id));
  model::Engine engine(config, checkpoint->weights(), *backend, {});
  HF_ASSIGN_OR_RETURN(const auto kv, KvSession::Open(options.kv_store, *checkpoint, *backend, engine));
  Generator generator(*kv, config, sampler, tokenizer ? &mask : nullptr, options);
  Printer printer(tokenizer.get());
  std::signal(SIGINT, Interrupt);
  HF_ASSIGN_OR_RETURN(const Outcome outcome, generator.Run(prompt, printer));
  Report(outcome);
  return {};
}

void AddPromptOptions(CLI::App& command, Options& options) {
  CLI::App* group = command.add_option_group("Prompt", "One of");
  group->add_option("--prompt", options.prompt, "The text of the user's message");
  group->add_option("--prompt-file", options.prompt_file, "A file that holds it");
  group->add_option("--prompt-ids", options.prompt_ids,
                    "Token ids, such as 0,17,42, taken as they are; prints ids. Needs no tokenizer");
  group->require_option(1);
  command.add_option("--tokenizer", options.tokenizer, "Default: tokenizer.json of the checkpoint");
  command.add_flag("--raw", options.raw,
                   "Continue the text itself: no chat format, only the begin-of-sentence token before it");
}

void AddSamplingOptions(CLI::App& command, Options& options) {
  command.add_option("--max-tokens", options.max_tokens, "Stop after this many tokens")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{INT_MAX}));
  command.add_option("--temperature", options.sampler.temperature, "0: always the likeliest token")
      ->capture_default_str();
  command.add_option("--top-p", options.sampler.top_p, "Sample among the likeliest tokens of this share")
      ->capture_default_str();
  command.add_option("--top-k", options.sampler.top_k, "Sample among this many tokens; 0: all")
      ->capture_default_str();
  command
      .add_option("--min-p", options.sampler.min_p,
                  "Leave out tokens less likely than this share of the likeliest one")
      ->capture_default_str();
  command.add_option("--seed", options.seed, "The same seed gives the same text")->capture_default_str();
}

}  // namespace

void AddModelGenerate(CLI::App& parent, Status& result) {
  CLI::App* command = parent.add_subcommand(
      "generate",
      "Answer a prompt, streaming the text to standard output.\n\n"
      "The prompt becomes one user message in the model's chat format. Ctrl-C stops at the next token.\n"
      "How fast it went is printed to standard error at the end.\n\n"
      "Examples:\n"
      "  holdfast model generate DIR --prompt 'What is a lease?' --max-tokens 100\n"
      "  holdfast model generate DIR --raw --prompt 'Once upon a time' --temperature 0\n"
      "  holdfast model generate DIR --prompt-ids 0,17,42     # a checkpoint without tokenizer");
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  command->add_option("DIR", options->directory, "Checkpoint directory")->required();
  AddPromptOptions(*command, *options);
  AddSamplingOptions(*command, *options);
  command->add_option(
      "--kv-store", options->kv_store,
      "Keep the KV in this directory: what an earlier run has read, even one that was killed, "
      "is not read again. The text is the same as without");
  AddBackendOptions(*command, options->backend);
  command->callback([options, &result] { result = Run(*options); });
}

}  // namespace holdfast::cli
