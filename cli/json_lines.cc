#include "cli/json_lines.h"

#include <iostream>
#include <string>
#include <utility>

namespace holdfast::cli {

base::Status ConvertLines(const std::function<base::StatusOr<model::Json>(const model::Json&)>& convert) {
  std::ios::sync_with_stdio(false);
  size_t number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    ++number;
    if (line.empty()) continue;
    const std::string place = "input line " + std::to_string(number);
    const base::StatusOr<model::Json> input = model::Json::Parse(line);
    if (!input.ok()) return base::Annotate(input.status(), place);
    if (!input->is_object()) return base::InvalidArgument(place + ": give one JSON object on each line");
    const base::StatusOr<model::Json> output = convert(*input);
    if (!output.ok()) return base::Annotate(output.status(), place);
    std::cout << output->Dump() << '\n';
  }
  if (!std::cout.flush()) return base::DataLoss("could not write to standard output");
  return {};
}

model::Json OneMember(std::string_view key, model::Json value) {
  model::Json object = model::Json::Object();
  object.Set(key, std::move(value));
  return object;
}

base::StatusOr<model::ThinkingMode> ThinkingModeOf(const model::Json& line) {
  const model::Json* mode = line.Find("thinking_mode");
  if (mode == nullptr || mode->text() == "chat") return model::ThinkingMode::kChat;
  if (mode->text() == "thinking") return model::ThinkingMode::kThinking;
  return base::InvalidArgument("thinking_mode must be \"chat\" or \"thinking\"");
}

base::StatusOr<std::string_view> TextField(const model::Json& line, std::string_view key) {
  const model::Json* value = line.Find(key);
  if (value == nullptr || !value->is_string()) {
    return base::InvalidArgument("give the field \"" + std::string(key) + "\", a string");
  }
  return std::string_view(value->text());
}

}  // namespace holdfast::cli
