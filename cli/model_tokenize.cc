// holdfast model tokenize: text to token ids.
#include <memory>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/json_lines.h"
#include "model/tokenizer.h"

namespace holdfast::cli {
namespace {

struct Options {
  std::string tokenizer;
  bool plain = false;
};

base::Status Run(const Options& options) {
  HF_ASSIGN_OR_RETURN(const auto tokenizer,
                      model::Tokenizer::Load(base::RealFileSystem(), options.tokenizer));
  const auto added = options.plain ? model::AddedTokens::kPlain : model::AddedTokens::kMatch;
  return ConvertLines([&](const model::Json& line) -> base::StatusOr<model::Json> {
    HF_ASSIGN_OR_RETURN(const std::string_view text, TextField(line, "text"));
    HF_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer->Encode(text, added));
    model::Json list = model::Json::Array();
    for (const int32_t id : ids) list.Append(model::Json::Int(id));
    return OneMember("ids", std::move(list));
  });
}

}  // namespace

void AddModelTokenize(CLI::App& model, base::Status& result) {
  CLI::App* command = model.add_subcommand(
      "tokenize",
      "Turn text into token ids.\n\n"
      "Reads lines {\"text\": ...} from standard input and prints lines {\"ids\": [...]}.\n"
      "Nothing is added: no begin or end of sentence.\n\n"
      "Example:\n"
      "  echo '{\"text\": \"Hello\"}' | holdfast model tokenize --tokenizer DIR/tokenizer.json");
  auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  command->add_option("--tokenizer", options->tokenizer, "The tokenizer.json of a checkpoint")->required();
  command->add_flag("--plain", options->plain,
                    "Encode control tokens such as <think> as plain text, as is done to text from outside");
  command->callback([options, &result] { result = Run(*options); });
}

}  // namespace holdfast::cli
