#include "agent/agent_event.h"
#include "agent/control/control_tool_parts.h"
#include "nlohmann/json.hpp"

namespace holdfast::agent {
namespace {

class NoteTool final : public ControlTool {
 public:
  using ControlTool::ControlTool;

 private:
  tools::ToolResult Answer(const tools::ToolContext&, const nlohmann::json& arguments) override {
    const std::string text = arguments.at("text").get<std::string>();
    if (std::string complaint = Complaint(text, "text_bytes_max"); !complaint.empty()) {
      return tools::Failed(std::move(complaint));
    }
    host_.Change(Encode(NoteTaken{.text = text}));
    return tools::Succeeded(data_.result("kept").Fill({{"bytes", std::to_string(text.size())}}));
  }
};

}  // namespace

base::StatusOr<std::unique_ptr<tools::Tool>> MakeNoteTool(ControlHost& host) {
  return MakeControlTool<NoteTool>("note@1", host);
}

}  // namespace holdfast::agent
