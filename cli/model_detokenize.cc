// holdfast model detokenize: token ids to text.
#include <charconv>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/json_lines.h"
#include "model/tokenizer.h"

namespace holdfast::cli {
namespace {

base::StatusOr<int32_t> IdOf(const model::Json& value) {
  int32_t id = -1;
  const std::string& digits = value.text();
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
  if (value.kind() != model::Json::Kind::kInt || error != std::errc() ||
      end != digits.data() + digits.size()) {
    return base::InvalidArgument("give the field \"ids\", a list of token ids; " + value.Dump() + " is none");
  }
  return id;
}

base::StatusOr<model::Json> Detokenize(const model::Tokenizer& tokenizer, const model::Json& line) {
  const model::Json* ids = line.Find("ids");
  if (ids == nullptr || !ids->is_array())
    return base::InvalidArgument("give the field \"ids\", a list of token ids");
  model::StreamDecoder decoder(tokenizer);
  std::string text;
  for (const model::Json& value : ids->items()) {
    HF_ASSIGN_OR_RETURN(const int32_t id, IdOf(value));
    HF_ASSIGN_OR_RETURN(const std::string piece, decoder.Feed(id));
    text += piece;
  }
  text += decoder.Finish();
  return OneMember("text", model::Json::String(text));
}

base::Status Run(const std::string& path) {
  HF_ASSIGN_OR_RETURN(const auto tokenizer, model::Tokenizer::Load(base::RealFileSystem(), path));
  return ConvertLines([&](const model::Json& line) { return Detokenize(*tokenizer, line); });
}

}  // namespace

void AddModelDetokenize(CLI::App& model, base::Status& result) {
  CLI::App* command = model.add_subcommand(
      "detokenize",
      "Turn token ids into text.\n\n"
      "Reads lines {\"ids\": [...]} from standard input and prints lines {\"text\": ...}.\n"
      "Bytes that are not valid UTF-8 become U+FFFD.\n\n"
      "Example:\n"
      "  echo '{\"ids\": [19923]}' | holdfast model detokenize --tokenizer DIR/tokenizer.json");
  auto path = std::make_shared<std::string>();  // shared: CLI11 copies the callback that owns it
  command->add_option("--tokenizer", *path, "The tokenizer.json of a checkpoint")->required();
  command->callback([path, &result] { result = Run(*path); });
}

}  // namespace holdfast::cli
