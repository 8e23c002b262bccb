#include "agent/agent_event.h"
#include "agent/control/control_tool_parts.h"
#include "nlohmann/json.hpp"

namespace holdfast::agent {
namespace {

bool IsOver(GoalState state) {
  switch (state) {
    case GoalState::kActive:
    case GoalState::kWaiting:
    case GoalState::kPaused:
      return false;
    case GoalState::kSucceeded:
    case GoalState::kFinishedUnverified:
    case GoalState::kFailed:
    case GoalState::kCancelled:
      return true;
  }
  return true;
}

class GoalTool final : public ControlTool {
 public:
  using ControlTool::ControlTool;

 private:
  tools::ToolResult Answer(const tools::ToolContext&, const nlohmann::json& arguments) override {
    const AgentFacts& facts = host_.facts();
    if (!facts.goal().has_value()) return tools::Failed(data_.result("no_goal").Fill({}));
    if (IsOver(facts.goal_state())) {
      return tools::Failed(data_.result("over").Fill({{"state", GoalStateName(facts.goal_state())}}));
    }
    const std::string evidence = arguments.at("evidence").get<std::string>();
    if (std::string complaint = Complaint(evidence, "evidence_bytes_max"); !complaint.empty()) {
      return tools::Failed(std::move(complaint));
    }
    const std::string status = arguments.at("status").get<std::string>();
    host_.Change(Encode(GoalChanged{
        .state = facts.goal_state(), .reason = facts.goal_reason(), .claim = status, .evidence = evidence}));
    if (status != "done") return tools::Succeeded(data_.result(status).Fill({}));
    return tools::Succeeded(data_.result(facts.goal()->checks.empty() ? "unchecked" : "checked").Fill({}));
  }
};

}  // namespace

base::StatusOr<std::unique_ptr<tools::Tool>> MakeGoalTool(ControlHost& host) {
  return MakeControlTool<GoalTool>("goal@1", host);
}

}  // namespace holdfast::agent
