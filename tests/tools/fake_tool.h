// A tool that does what the test says, and remembers what it was asked.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"
#include "tools/tool.h"

namespace holdfast::tools {

class FakeTool final : public Tool {
 public:
  struct Call;
  // Shared by the test and the handle that the dispatcher holds.
  using SharedCall = std::shared_ptr<Call>;
  struct Call {
    nlohmann::json arguments;
    ToolContext context;
    Done done;
    int cancels = 0;
    bool gone = false;
    bool harmless = false;
    std::function<void(Call&)> on_cancel;
  };

  FakeTool(std::string name, CallTraits its_traits) : traits(its_traits) {
    spec_.name = name;
    spec_.version = 1;
    spec_.function =
        R"({"name": ")" + name +
        R"(", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}})";
  }

  const ToolSpec& spec() const override { return spec_; }
  CallTraits Traits(const ToolContext&, const nlohmann::json&) const override { return traits; }
  Subject SubjectOf(const ToolContext&, const nlohmann::json& arguments) const override {
    return {.kind = Subject::Kind::kText, .texts = {arguments.at("x").get<std::string>()}};
  }
  std::unique_ptr<RunningCall> Start(const ToolContext& context, const nlohmann::json& arguments,
                                     Done done) override {
    const auto call = std::make_shared<Call>();  // shared as SharedCall says
    call->arguments = arguments;
    call->context = context;
    call->done = std::move(done);
    calls.push_back(call);
    if (on_start) on_start(*call);
    return std::make_unique<Handle>(call);
  }

  CallTraits traits;
  std::vector<SharedCall> calls;
  std::function<void(Call&)> on_start;

 private:
  class Handle final : public RunningCall {
   public:
    explicit Handle(SharedCall call) : call_(std::move(call)) {}
    ~Handle() override { call_->gone = true; }
    void Cancel() override {
      ++call_->cancels;
      if (call_->on_cancel) call_->on_cancel(*call_);
    }
    bool Harmless() const override { return call_->harmless; }

   private:
    SharedCall call_;
  };
  ToolSpec spec_;
};

}  // namespace holdfast::tools
