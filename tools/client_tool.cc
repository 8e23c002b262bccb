#include "tools/client_tool.h"

#include <algorithm>
#include <utility>

#include "nlohmann/json.hpp"
#include "tools/registry.h"
#include "tools/schema.h"
#include "tools/text/json_text.h"
#include "tools/text/utf8.h"

namespace holdfast::tools {
namespace {

constexpr std::string_view kNoParameters =
    R"({"type": "object", "properties": {}, "additionalProperties": false})";

base::Status Bad(const ClientToolSpec& spec, const std::string& what) {
  return base::InvalidArgument("client tool \"" + RepairUtf8(spec.name.substr(0, 128)) + "\": " + what);
}

class ClientTool final : public Tool {
 public:
  ClientTool(const ClientToolSpec& spec, std::string function) {
    spec_.name = spec.name;
    spec_.function = std::move(function);
    spec_.by_client = true;
    traits_ = {.effect = spec.effect, .by_client = true, .timeout_ms = spec.timeout_ms};
  }

  const ToolSpec& spec() const override { return spec_; }
  CallTraits Traits(const ToolContext&, const nlohmann::json&) const override { return traits_; }
  Subject SubjectOf(const ToolContext&, const nlohmann::json& arguments) const override {
    return {.kind = Subject::Kind::kText, .texts = {CanonicalJson(arguments)}};
  }
  std::unique_ptr<RunningCall> Start(const ToolContext&, const nlohmann::json&, Done done) override {
    done({.status = ToolStatus::kUnavailable, .text = spec_.name + ": a client runs it, not this process\n"});
    return nullptr;
  }

 private:
  ToolSpec spec_;
  CallTraits traits_;
};

// The schema keeps the order of its keys: it is what the model reads.
base::StatusOr<std::string> FunctionLineOf(const ClientToolSpec& spec) {
  const std::string_view parameters = spec.parameters.empty() ? kNoParameters : spec.parameters;
  const auto checked = ParseJson(parameters, Schema::kBytesMax, 4 * Schema::kDepthMax);
  if (!checked.ok()) return Bad(spec, "its parameters are " + base::Message(checked.status()));
  nlohmann::ordered_json function = {{"name", spec.name}, {"description", spec.description}};
  function["parameters"] = nlohmann::ordered_json::parse(parameters, nullptr, /*allow_exceptions=*/false);
  return function.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

base::Status Check(const ClientToolSpec& spec, const ClientToolBounds& bounds) {
  const auto too_long = [&spec](const char* what, size_t bytes, size_t bytes_max) {
    return Bad(spec, std::string(what) + " of " + std::to_string(bytes) + " bytes; at most " +
                         std::to_string(bytes_max));
  };
  if (spec.name.size() > bounds.name_bytes_max) {
    return too_long("a name", spec.name.size(), bounds.name_bytes_max);
  }
  if (spec.name.empty() || !std::all_of(spec.name.begin(), spec.name.end(), IsNameCharacter)) {
    return Bad(spec,
               "a name is 1 to " + std::to_string(bounds.name_bytes_max) + " letters, digits, `_` or `-`");
  }
  if (!IsUtf8(spec.description)) return Bad(spec, "its description is not UTF-8");
  if (spec.description.size() > bounds.description_bytes_max) {
    return too_long("a description", spec.description.size(), bounds.description_bytes_max);
  }
  if (spec.parameters.size() > bounds.parameters_bytes_max) {
    return too_long("parameters", spec.parameters.size(), bounds.parameters_bytes_max);
  }
  if (spec.timeout_ms <= 0 || spec.timeout_ms > bounds.timeout_ms_max) {
    return Bad(spec, "a timeout of " + std::to_string(spec.timeout_ms) + " ms; 1 to " +
                         std::to_string(bounds.timeout_ms_max));
  }
  return {};
}

bool IsTaken(std::span<const std::string> ids, const std::string& name) {
  return std::any_of(ids.begin(), ids.end(),
                     [&name](const std::string& id) { return id.substr(0, id.rfind('@')) == name; });
}

}  // namespace

base::StatusOr<std::unique_ptr<Tool>> MakeClientTool(const ClientToolSpec& spec) {
  HF_ASSIGN_OR_RETURN(std::string function, FunctionLineOf(spec));
  return std::unique_ptr<Tool>(std::make_unique<ClientTool>(spec, std::move(function)));
}

base::Status CheckClientTools(std::span<const ClientToolSpec> specs, std::span<const std::string> taken_ids,
                              const ClientToolBounds& bounds) {
  if (specs.size() > bounds.tools_max) {
    return base::InvalidArgument(std::to_string(specs.size()) + " client tools; at most " +
                                 std::to_string(bounds.tools_max));
  }
  Registry registry;
  size_t total = 0;
  for (const ClientToolSpec& spec : specs) {
    HF_RETURN_IF_ERROR(Check(spec, bounds));
    if (IsTaken(taken_ids, spec.name) || IsTaken(registry.ids(), spec.name)) {
      return Bad(spec, "another tool has this name");
    }
    HF_ASSIGN_OR_RETURN(std::unique_ptr<Tool> tool, MakeClientTool(spec));
    total += tool->spec().function.size();
    if (total > bounds.total_bytes_max) {
      return Bad(spec, "with it the schema lines of all client tools have " + std::to_string(total) +
                           " bytes; at most " + std::to_string(bounds.total_bytes_max));
    }
    HF_RETURN_IF_ERROR(registry.Add(std::move(tool)));
  }
  return {};
}

}  // namespace holdfast::tools
