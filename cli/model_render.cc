// holdfast model render: messages to a prompt.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/json_lines.h"
#include "model/chat.h"
#include "model/tokenizer.h"

namespace holdfast::cli {
namespace {

struct Options {
  std::string tokenizer;
  std::string version = "preview";
  bool ids = false;
};

base::StatusOr<bool> FlagField(const model::Json& line, std::string_view key, bool otherwise) {
  const model::Json* value = line.Find(key);
  if (value == nullptr) return otherwise;
  if (value->kind() == model::Json::Kind::kBool) return value->boolean();
  return base::InvalidArgument(std::string(key) + " must be true or false");
}

base::StatusOr<model::RenderOptions> RenderOptionsOf(const model::Json& line, const Options& options) {
  model::RenderOptions render;
  HF_ASSIGN_OR_RETURN(render.mode, ThinkingModeOf(line));
  HF_ASSIGN_OR_RETURN(render.drop_thinking, FlagField(line, "drop_thinking", true));
  HF_ASSIGN_OR_RETURN(render.add_bos, FlagField(line, "add_default_bos_token", true));
  render.version = options.version == "0731" ? model::ChatVersion::kV4_0731 : model::ChatVersion::kV4Preview;
  if (const model::Json* effort = line.Find("reasoning_effort"); effort != nullptr && !effort->is_null()) {
    if (!effort->is_string() || effort->text().empty()) {
      return base::InvalidArgument("reasoning_effort must be null or a name");
    }
    render.effort = effort->text();
  }
  return render;
}

base::StatusOr<model::Json> Render(const model::Json& line, const Options& options,
                                   const model::Tokenizer* tokenizer) {
  const model::Json* messages = line.Find("messages");
  if (messages == nullptr) return base::InvalidArgument("give the field \"messages\", a list");
  HF_ASSIGN_OR_RETURN(const model::RenderOptions render, RenderOptionsOf(line, options));
  if (tokenizer == nullptr) {
    HF_ASSIGN_OR_RETURN(const std::string prompt, model::RenderText(*messages, render));
    return OneMember("prompt", model::Json::String(prompt));
  }
  HF_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, model::RenderIds(*messages, render, *tokenizer));
  model::Json list = model::Json::Array();
  for (const int32_t id : ids) list.Append(model::Json::Int(id));
  return OneMember("ids", std::move(list));
}

base::Status Run(const Options& options) {
  std::unique_ptr<model::Tokenizer> tokenizer;
  if (options.ids) {
    if (options.tokenizer.empty())
      return base::InvalidArgument("--ids needs a tokenizer: add --tokenizer FILE");
    HF_ASSIGN_OR_RETURN(tokenizer, model::Tokenizer::Load(base::RealFileSystem(), options.tokenizer));
  }
  return ConvertLines([&](const model::Json& line) -> base::StatusOr<model::Json> {
    base::StatusOr<model::Json> output = Render(line, options, tokenizer.get());
    if (!output.ok()) return OneMember("error", model::Json::String(base::Message(output.status())));
    return output;
  });
}

}  // namespace

void AddModelRender(CLI::App& model, base::Status& result) {
  CLI::App* command = model.add_subcommand(
      "render",
      "Turn chat messages into the prompt that the model was trained on.\n\n"
      "Reads lines {\"messages\": [...]} from standard input, with the optional fields\n"
      "thinking_mode (\"chat\" or \"thinking\"), drop_thinking, reasoning_effort and\n"
      "add_default_bos_token, and prints lines {\"prompt\": ...}, or {\"error\": ...} for\n"
      "messages that cannot be rendered. With --ids prints {\"ids\": [...]} instead: there,\n"
      "control tokens written inside a message stay plain text.\n\n"
      "Example:\n"
      "  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}' | holdfast model render");
  auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  command->add_flag("--ids", options->ids, "Print token ids; needs --tokenizer");
  command->add_option("--tokenizer", options->tokenizer, "The tokenizer.json of a checkpoint");
  command->add_option("--version", options->version, "Which published effort texts to use")
      ->check(CLI::IsMember({"preview", "0731"}))
      ->capture_default_str();
  command->callback([options, &result] { result = Run(*options); });
}

}  // namespace holdfast::cli
