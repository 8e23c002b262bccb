#include "agent/client_tools.h"

#include <memory>
#include <utility>

#include "tools/client_tool.h"

namespace holdfast::agent {
namespace {

base::StatusOr<tools::ClientToolSpec> SpecOf(const ClientTool& tool) {
  for (const tools::Effect effect :
       {tools::Effect::kReadOnly, tools::Effect::kIdempotent, tools::Effect::kEffectful}) {
    if (tool.effect != tools::EffectName(effect)) continue;
    return tools::ClientToolSpec{.name = tool.name,
                                 .description = tool.description,
                                 .parameters = tool.parameters,
                                 .effect = effect,
                                 .timeout_ms = tool.timeout_ms};
  }
  return base::InvalidArgument("client tool \"" + tool.name + "\": an effect of \"" + tool.effect +
                               "\"; read_only, idempotent or effectful");
}

base::StatusOr<std::vector<std::unique_ptr<tools::Tool>>> Make(const ProfileSet& profile) {
  std::vector<std::unique_ptr<tools::Tool>> made;
  for (const ClientTool& tool : profile.client_tools) {
    HF_ASSIGN_OR_RETURN(const tools::ClientToolSpec spec, SpecOf(tool));
    HF_ASSIGN_OR_RETURN(made.emplace_back(), tools::MakeClientTool(spec));
  }
  return made;
}

}  // namespace

base::Status CheckClientTools(const ProfileSet& profile, std::span<const std::string> taken_ids) {
  std::vector<tools::ClientToolSpec> specs;
  for (const ClientTool& tool : profile.client_tools) {
    HF_ASSIGN_OR_RETURN(specs.emplace_back(), SpecOf(tool));
  }
  return tools::CheckClientTools(specs, taken_ids);
}

base::StatusOr<std::vector<std::string>> ClientToolLines(const ProfileSet& profile) {
  HF_ASSIGN_OR_RETURN(const auto made, Make(profile));
  std::vector<std::string> lines;
  for (const auto& tool : made) lines.push_back(tool->spec().function);
  return lines;
}

base::Status AddClientTools(const ProfileSet& profile, tools::Registry& registry) {
  HF_ASSIGN_OR_RETURN(auto made, Make(profile));
  for (auto& tool : made) HF_RETURN_IF_ERROR(registry.Add(std::move(tool)));
  return {};
}

std::vector<std::string> ToolIds(const ProfileSet& profile) {
  std::vector<std::string> ids = profile.tools;
  for (const ClientTool& tool : profile.client_tools) ids.push_back(tool.name + "@client");
  return ids;
}

}  // namespace holdfast::agent
