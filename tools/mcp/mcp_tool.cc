#include "tools/mcp/mcp_tool.h"

#include <algorithm>
#include <utility>

#include "nlohmann/json.hpp"
#include "tools/text/json_text.h"

namespace holdfast::tools::mcp {
namespace {

class McpCall final : public RunningCall {
 public:
  McpCall(std::weak_ptr<ServerCore> server, ServerCore::CallNumber number, Effect effect)
      : server_(std::move(server)), number_(number), effect_(effect) {}

  ~McpCall() override {
    if (const auto server = server_.lock()) server->Abandon(number_);
  }

  void Cancel() override {
    const auto server = server_.lock();
    if (server != nullptr && server->Cancel(number_)) not_sent_ = true;
  }

  bool Harmless() const override { return not_sent_ || effect_ == Effect::kReadOnly; }

 private:
  const std::weak_ptr<ServerCore> server_;
  const ServerCore::CallNumber number_;
  const Effect effect_;
  bool not_sent_ = false;
};

class McpTool final : public Tool {
 public:
  McpTool(const ServerRef& server, const CatalogueTool& tool)
      : server_(server), server_name_(server->config().name), name_(tool.name) {
    spec_.name = FunctionName(server_name_, tool.name);
    spec_.function = tool.function;
    if (server->config().trust_annotations) {
      if (tool.read_only) {
        traits_.effect = Effect::kReadOnly;
      } else if (tool.idempotent) {
        traits_.effect = Effect::kIdempotent;
      }
    }
    traits_.timeout_ms = server->config().timeouts.call_ms;
  }

  const ToolSpec& spec() const override { return spec_; }
  CallTraits Traits(const ToolContext&, const nlohmann::json&) const override { return traits_; }

  Subject SubjectOf(const ToolContext&, const nlohmann::json& arguments) const override {
    return {.kind = Subject::Kind::kText, .texts = {CanonicalJson(arguments)}};
  }

  std::unique_ptr<RunningCall> Start(const ToolContext& context, const nlohmann::json& arguments,
                                     Done done) override {
    const ServerRef server = server_.lock();
    if (server == nullptr) {
      done(Unavailable(server_name_, "is stopped"));
      return nullptr;
    }
    const base::MonotonicTime own = Later(context.clock->MonotonicNow(), traits_.timeout_ms);
    const ServerCore::CallNumber number =
        server->Call(name_, arguments.is_null() ? Json::object() : arguments,
                     traits_.effect != Effect::kEffectful, std::min(own, context.deadline), std::move(done));
    return std::make_unique<McpCall>(server_, number, traits_.effect);
  }

 private:
  const std::weak_ptr<ServerCore> server_;
  const std::string server_name_;
  const std::string name_;  // as the server knows it
  ToolSpec spec_;
  CallTraits traits_;
};

}  // namespace

std::vector<std::unique_ptr<Tool>> MakeTools(const ServerRef& server) {
  std::vector<std::unique_ptr<Tool>> tools;
  if (!server->catalogue().has_value()) return tools;
  for (const CatalogueTool& tool : server->catalogue()->tools) {
    tools.push_back(std::make_unique<McpTool>(server, tool));
  }
  return tools;
}

}  // namespace holdfast::tools::mcp
