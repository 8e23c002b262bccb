#include "agent/control_tools.h"

#include <algorithm>
#include <memory>

#include "agent/control/control_tool_parts.h"
#include "nlohmann/json.hpp"

namespace holdfast::agent {
namespace {

constexpr std::string_view kIds[] = {"plan@1", "goal@1", "wait@1", "note@1", "recall@1"};
constexpr int64_t kTimeoutMs = 60'000;  // recall may have to read a long log first

}  // namespace

tools::CallTraits ControlTool::Traits(const tools::ToolContext&, const nlohmann::json&) const {
  return {.effect = data_.read_only() ? tools::Effect::kReadOnly : tools::Effect::kIdempotent,
          .contained = true,
          .confined = true,
          .timeout_ms = kTimeoutMs};
}

std::unique_ptr<tools::RunningCall> ControlTool::Start(const tools::ToolContext& context,
                                                       const nlohmann::json& arguments, tools::Done done) {
  done(Answer(context, arguments));
  return nullptr;
}

std::string ControlTool::Complaint(std::string_view text, std::string_view bound) const {
  if (IsBlank(text)) return data_.result("blank").Fill({});
  if (text.size() <= Bound(bound)) return {};
  return data_.result("long").Fill(
      {{"bytes", std::to_string(text.size())}, {"limit", std::to_string(Bound(bound))}});
}

AgentFacts FactsAhead(const ControlHost& host) {
  AgentFacts facts = host.facts();
  for (const sessions::EventBody& body : host.pending()) facts.Apply({.body = body});
  return facts;
}

bool IsBlank(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; });
}

std::vector<std::string> ControlToolIds() { return {std::begin(kIds), std::end(kIds)}; }

bool IsControlTool(std::string_view id) {
  return std::find(std::begin(kIds), std::end(kIds), id) != std::end(kIds);
}

base::Status AddControlTools(tools::Registry& registry, ControlHost& host) {
  for (auto make : {MakePlanTool, MakeGoalTool, MakeWaitTool, MakeNoteTool, MakeRecallTool}) {
    HF_ASSIGN_OR_RETURN(std::unique_ptr<tools::Tool> tool, make(host));
    HF_RETURN_IF_ERROR(registry.Add(std::move(tool)));
  }
  return absl::OkStatus();
}

}  // namespace holdfast::agent
