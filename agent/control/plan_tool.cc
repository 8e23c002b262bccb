#include <algorithm>
#include <optional>
#include <vector>

#include "agent/agent_event.h"
#include "agent/control/control_tool_parts.h"
#include "nlohmann/json.hpp"

namespace holdfast::agent {
namespace {

// An item is a line: breaks and other control characters become blanks, and there are none at either end.
std::string OneLine(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') + 1 - first);
}

class PlanTool final : public ControlTool {
 public:
  using ControlTool::ControlTool;

 private:
  tools::ToolResult Answer(const tools::ToolContext&, const nlohmann::json& arguments) override {
    PlanSet plan;
    for (const nlohmann::json& item : arguments.at("items")) {
      plan.items.push_back({.text = OneLine(item.at("text").get<std::string>()),
                            .state = item.value("state", std::string("pending"))});
    }
    if (const auto complaint = Misfit(plan)) return tools::Failed(*complaint);
    AgentFacts facts = FactsAhead(host_);
    const sessions::AgentEvent event = Encode(plan);
    facts.Apply({.body = event});
    host_.Change(event);
    return tools::Succeeded(Show(facts.plan(), plan));
  }

  std::optional<std::string> Misfit(const PlanSet& plan) const {
    if (plan.items.size() > Bound("items_max")) {
      return data_.result("many").Fill(
          {{"count", std::to_string(plan.items.size())}, {"limit", std::to_string(Bound("items_max"))}});
    }
    for (size_t i = 0; i < plan.items.size(); ++i) {
      const std::string number = std::to_string(i + 1);
      const std::string& text = plan.items[i].text;
      if (text.empty()) return data_.result("blank").Fill({{"number", number}});
      if (text.size() > Bound("text_bytes_max")) {
        return data_.result("long").Fill({{"number", number},
                                          {"bytes", std::to_string(text.size())},
                                          {"limit", std::to_string(Bound("text_bytes_max"))}});
      }
    }
    return std::nullopt;
  }

  // The plan as it stands on record: with what was done before, even where the new plan says otherwise.
  std::string Show(const std::vector<PlanItem>& items, const PlanSet& given) const {
    if (items.empty()) return data_.result("empty").Fill({});
    std::string text;
    for (const PlanItem& item : items) {
      const bool as_given = std::find(given.items.begin(), given.items.end(), item) != given.items.end();
      text += as_given ? data_.result("item").Fill({{"state", item.state}, {"text", item.text}})
                       : data_.result("kept").Fill({{"text", item.text}});
    }
    return text;
  }
};

}  // namespace

base::StatusOr<std::unique_ptr<tools::Tool>> MakePlanTool(ControlHost& host) {
  return MakeControlTool<PlanTool>("plan@1", host);
}

}  // namespace holdfast::agent
