// Between the files of the control tools.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "agent/agent_facts.h"
#include "agent/control_tools.h"
#include "base/status.h"
#include "nlohmann/json_fwd.hpp"
#include "tools/tool.h"
#include "tools/tool_data.h"

namespace holdfast::agent {

// A tool that answers within Start. It touches nothing but the record, through the host.
class ControlTool : public tools::Tool {
 public:
  ControlTool(tools::ToolData data, ControlHost& host) : data_(std::move(data)), host_(host) {}

  const tools::ToolSpec& spec() const override { return data_.spec(); }
  tools::CallTraits Traits(const tools::ToolContext& context, const nlohmann::json& arguments) const override;
  tools::Subject SubjectOf(const tools::ToolContext&, const nlohmann::json&) const override { return {}; }
  std::unique_ptr<tools::RunningCall> Start(const tools::ToolContext& context,
                                            const nlohmann::json& arguments, tools::Done done) override;

 protected:
  virtual tools::ToolResult Answer(const tools::ToolContext& context, const nlohmann::json& arguments) = 0;

  size_t Bound(std::string_view name) const { return static_cast<size_t>(data_.limit(name)); }
  // The template `long` filled, or `blank`, for a text that is not to be taken; empty for one that is.
  std::string Complaint(std::string_view text, std::string_view bound) const;

  const tools::ToolData data_;
  ControlHost& host_;
};

// The facts as they will be when what is pending is on record.
AgentFacts FactsAhead(const ControlHost& host);

// Whether it holds blanks and control characters only.
bool IsBlank(std::string_view text);

base::StatusOr<std::unique_ptr<tools::Tool>> MakePlanTool(ControlHost& host);
base::StatusOr<std::unique_ptr<tools::Tool>> MakeGoalTool(ControlHost& host);
base::StatusOr<std::unique_ptr<tools::Tool>> MakeWaitTool(ControlHost& host);
base::StatusOr<std::unique_ptr<tools::Tool>> MakeNoteTool(ControlHost& host);
base::StatusOr<std::unique_ptr<tools::Tool>> MakeRecallTool(ControlHost& host);

// Of a built-in data file.
template <typename T>
base::StatusOr<std::unique_ptr<tools::Tool>> MakeControlTool(std::string_view id, ControlHost& host) {
  HF_ASSIGN_OR_RETURN(tools::ToolData data, tools::ToolData::Load(id));
  return std::make_unique<T>(std::move(data), host);
}

}  // namespace holdfast::agent
