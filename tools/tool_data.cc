#include "tools/tool_data.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "base/check.h"
#include "nlohmann/json.hpp"

namespace holdfast::tools {
namespace {

using nlohmann::json;

base::Status Bad(std::string_view what) { return base::InvalidArgument("tool data: " + std::string(what)); }

base::StatusOr<json> ParseObject(std::string_view text) {
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) return Bad("not a JSON object");
  return value;
}

base::StatusOr<std::string> Text(const json& object, const char* field) {
  const auto it = object.find(field);
  if (it == object.end() || !it->is_string()) return Bad(std::string(field) + ": no string");
  return it->get<std::string>();
}

base::StatusOr<double> Number(const json& object, const char* field) {
  const auto it = object.find(field);
  if (it == object.end() || !it->is_number()) return Bad(std::string(field) + ": no number");
  return it->get<double>();
}

base::StatusOr<bool> Flag(const json& object, const char* field) {
  const auto it = object.find(field);
  if (it == object.end() || !it->is_boolean()) return Bad(std::string(field) + ": not true or false");
  return it->get<bool>();
}

base::Status OnlyFields(const json& object, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) return Bad(key + ": unknown field");
  }
  return absl::OkStatus();
}

// "grep@1" -> "grep", 1.
base::StatusOr<std::pair<std::string, int>> SplitId(const std::string& id) {
  const size_t at = id.rfind('@');
  int version = 0;
  if (at != std::string::npos && at > 0) {
    const char* end = id.data() + id.size();
    const auto [rest, error] = std::from_chars(id.data() + at + 1, end, version);
    if (error == std::errc() && rest == end && version > 0) return std::pair(id.substr(0, at), version);
  }
  return Bad("tool: \"" + id + "\" is not NAME@VERSION");
}

std::optional<std::string_view> Embedded(std::string_view name) {
  for (const EmbeddedFile& file : EmbeddedFiles()) {
    if (file.name == name) return file.bytes;
  }
  return std::nullopt;
}

}  // namespace

std::string_view FunctionLine(std::string_view file) {
  constexpr std::string_view kField = "\n  \"function\": ";
  const size_t at = file.find(kField);
  if (at == std::string_view::npos) return {};
  std::string_view line = file.substr(at + kField.size());
  line = line.substr(0, line.find('\n'));
  if (line.ends_with(',')) line.remove_suffix(1);
  return line;
}

base::StatusOr<ToolData> ToolData::Parse(std::string_view text) {
  HF_ASSIGN_OR_RETURN(const json file, ParseObject(text));
  HF_RETURN_IF_ERROR(OnlyFields(file, {"tool", "function", "effect", "result", "limits"}));
  ToolData data;
  HF_ASSIGN_OR_RETURN(const std::string id, Text(file, "tool"));
  HF_ASSIGN_OR_RETURN(const auto name_version, SplitId(id));
  std::tie(data.spec_.name, data.spec_.version) = name_version;
  data.spec_.function = FunctionLine(text);
  const json line = json::parse(data.spec_.function, nullptr, /*allow_exceptions=*/false);
  if (line.is_discarded() || !file.contains("function") || line != file["function"])
    return Bad(id + ": function: not on one line");
  if (!line.is_object() || line.value("name", json()) != data.spec_.name) {
    return Bad(id + ": function: has another name");
  }
  HF_ASSIGN_OR_RETURN(const std::string effect, Text(file, "effect"));
  if (effect != "read_only" && effect != "workspace") return Bad(id + ": effect: \"" + effect + "\"");
  data.read_only_ = effect == "read_only";
  if (!file.contains("result") || !file["result"].is_object()) return Bad(id + ": result: no object");
  for (const auto& [name, value] : file["result"].items()) {
    if (!value.is_string()) return Bad(id + ": result: " + name + ": no string");
    HF_ASSIGN_OR_RETURN(Template made, Template::Make(value.get<std::string>()));
    data.results_.emplace(name, std::move(made));
  }
  if (!file.contains("limits") || !file["limits"].is_object()) return Bad(id + ": limits: no object");
  for (const auto& [name, value] : file["limits"].items()) {
    if (!value.is_number_integer()) return Bad(id + ": limits: " + name + ": no integer");
    data.limits_.emplace(name, value.get<int64_t>());
  }
  return data;
}

base::StatusOr<ToolData> ToolData::Load(std::string_view id) {
  const auto bytes = Embedded(std::string(id) + ".json");
  if (!bytes) return base::NotFound("tool data: no " + std::string(id));
  return Parse(*bytes);
}

const Template& ToolData::result(std::string_view name) const {
  const auto it = results_.find(name);
  HF_CHECK(it != results_.end());
  return it->second;
}

int64_t ToolData::limit(std::string_view name) const {
  const auto it = limits_.find(name);
  HF_CHECK(it != limits_.end());
  return it->second;
}

base::StatusOr<Profile> Profile::Parse(std::string_view text) {
  HF_ASSIGN_OR_RETURN(const json file, ParseObject(text));
  HF_RETURN_IF_ERROR(OnlyFields(file, {"profile", "system", "thinking_mode", "tools", "temperature", "top_p",
                                       "instructions", "reminders"}));
  Profile profile;
  HF_ASSIGN_OR_RETURN(profile.id, Text(file, "profile"));
  HF_RETURN_IF_ERROR(SplitId(profile.id).status());
  HF_ASSIGN_OR_RETURN(profile.system, Text(file, "system"));
  HF_ASSIGN_OR_RETURN(profile.thinking_mode, Text(file, "thinking_mode"));
  const auto tools = file.find("tools");
  if (tools == file.end() || !tools->is_array()) return Bad(profile.id + ": tools: no list");
  for (const json& tool : *tools) {
    if (!tool.is_string()) return Bad(profile.id + ": tools: not a string");
    HF_RETURN_IF_ERROR(SplitId(tool.get<std::string>()).status());
    profile.tools.push_back(tool.get<std::string>());
  }
  HF_ASSIGN_OR_RETURN(profile.temperature, Number(file, "temperature"));
  HF_ASSIGN_OR_RETURN(profile.top_p, Number(file, "top_p"));
  HF_ASSIGN_OR_RETURN(profile.instructions, Flag(file, "instructions"));
  HF_ASSIGN_OR_RETURN(profile.reminders, Flag(file, "reminders"));
  return profile;
}

base::StatusOr<Profile> Profile::Load(std::string_view name) {
  const auto bytes = Embedded(std::string(name) + ".json");
  if (!bytes) return base::NotFound("no profile \"" + std::string(name) + "\"");
  return Parse(*bytes);
}

base::StatusOr<ToolTexts> ToolTexts::Parse(std::string_view text) {
  HF_ASSIGN_OR_RETURN(const json file, ParseObject(text));
  ToolTexts texts;
  for (const auto& [name, value] : file.items()) {
    if (!value.is_string()) return Bad("outcomes: " + name + ": no string");
    HF_ASSIGN_OR_RETURN(Template made, Template::Make(value.get<std::string>()));
    texts.templates_.emplace(name, std::move(made));
  }
  return texts;
}

base::StatusOr<ToolTexts> ToolTexts::Load() {
  const auto bytes = Embedded("outcomes.json");
  if (!bytes) return base::NotFound("tool data: no outcomes");
  return Parse(*bytes);
}

const Template& ToolTexts::text(std::string_view name) const {
  const auto it = templates_.find(name);
  HF_CHECK(it != templates_.end());
  return it->second;
}

}  // namespace holdfast::tools
