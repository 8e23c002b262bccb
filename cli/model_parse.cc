// holdfast model parse: the text of a completion to a message.
#include <string>

#include "CLI/CLI.hpp"
#include "cli/commands.h"
#include "cli/json_lines.h"
#include "model/chat.h"

namespace holdfast::cli {
namespace {

base::StatusOr<model::Json> Parse(const model::Json& line) {
  HF_ASSIGN_OR_RETURN(const std::string_view text, TextField(line, "text"));
  HF_ASSIGN_OR_RETURN(const model::ThinkingMode mode, ThinkingModeOf(line));
  return model::ParseCompletionText(text, mode);
}

base::StatusOr<model::Json> ParseOrError(const model::Json& line) {
  const base::StatusOr<model::Json> message = Parse(line);
  if (!message.ok()) return OneMember("error", model::Json::String(base::Message(message.status())));
  return OneMember("message", *message);
}

}  // namespace

void AddModelParse(CLI::App& model, base::Status& result) {
  CLI::App* command = model.add_subcommand(
      "parse",
      "Turn the text of a finished completion into a message, exactly as the official\n"
      "parser does.\n\n"
      "Reads lines {\"text\": ..., \"thinking_mode\": \"chat\" or \"thinking\"} from standard\n"
      "input and prints lines {\"message\": ...}, or {\"error\": ...}.\n\n"
      "Example:\n"
      "  echo '{\"text\": \"Hi<｜end▁of▁sentence｜>\"}' | holdfast model parse");
  command->callback([&result] { result = ConvertLines(ParseOrError); });
}

}  // namespace holdfast::cli
