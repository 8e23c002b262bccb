#include "tools/mcp/mcp_tool.h"

#include <memory>
#include <optional>

#include "gmock/gmock.h"
#include "tests/tools/mcp/scripted_server.h"
#include "tools/registry.h"

namespace holdfast::tools::mcp {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr int64_t kMs = base::kNsPerMs;

class McpToolTest : public testing::Test {
 protected:
  McpToolTest() {
    config_.name = "s";
    config_.argv = {"x"};
    const auto tool = [](std::string_view name, const Json& annotations) {
      Json made = PlainTool(name);
      made["annotations"] = annotations;
      return made;
    };
    world_.BeModern({tool("reads", {{"readOnlyHint", true}}), tool("repeats", {{"idempotentHint", true}}),
                     tool("says_text", {{"readOnlyHint", "true"}}), PlainTool("writes")});
  }

  const std::vector<std::unique_ptr<Tool>>& Tools() {
    if (core_ == nullptr) {
      core_ = ServerCore::Make(
          config_, ServerCore::World{world_.executor, world_.clock, world_.Factory(), nullptr}, std::nullopt);
      EXPECT_THAT(MakeTools(core_), SizeIs(0)) << "not known yet";
      core_->Open({INT64_MAX}, [](base::Status status) { EXPECT_TRUE(status.ok()) << status; });
      world_.executor.RunFor(100 * kMs);
      tools_ = MakeTools(core_);
      EXPECT_THAT(tools_, SizeIs(4));
    }
    return tools_;
  }

  ToolContext Context(int64_t deadline_ms) {
    return {.executor = &world_.executor,
            .clock = &world_.clock,
            .deadline = {world_.clock.MonotonicNow().ns + deadline_ms * kMs}};
  }

  std::vector<Effect> Effects() {
    std::vector<Effect> effects;
    for (const auto& tool : Tools()) {
      const CallTraits traits = tool->Traits(Context(1'000), Json::object());
      EXPECT_FALSE(traits.contained);
      EXPECT_FALSE(traits.confined) << "a call reaches a server";
      effects.push_back(traits.effect);
    }
    return effects;
  }

  ScriptedWorld world_;
  McpServerConfig config_;
  ServerRef core_;
  std::vector<std::unique_ptr<Tool>> tools_;
};

TEST_F(McpToolTest, HintsChangeNothingByThemselves) {
  EXPECT_THAT(Effects(),
              ElementsAre(Effect::kEffectful, Effect::kEffectful, Effect::kEffectful, Effect::kEffectful));
}

TEST_F(McpToolTest, HintsAreBelievedWhenTheOperatorSaysSo) {
  config_.trust_annotations = true;
  EXPECT_THAT(Effects(),
              ElementsAre(Effect::kReadOnly, Effect::kIdempotent, Effect::kEffectful, Effect::kEffectful));
}

TEST_F(McpToolTest, SpecsFitTheRegistry) {
  Registry registry;
  Tools();
  for (auto& tool : tools_) EXPECT_TRUE(registry.Add(std::move(tool)).ok());
  EXPECT_THAT(registry.ids(), ElementsAre("s__reads@1", "s__repeats@1", "s__says_text@1", "s__writes@1"));
}

TEST_F(McpToolTest, SubjectIsTheArgumentsInOneForm) {
  const Subject subject = Tools()[0]->SubjectOf(Context(1'000), {{"b", 1}, {"a", "x"}});
  EXPECT_EQ(subject.kind, Subject::Kind::kText);
  EXPECT_THAT(subject.texts, ElementsAre(R"({"a":"x","b":1})"));
}

TEST_F(McpToolTest, CallIsMadeUnderTheServersNameForIt) {
  std::optional<ToolResult> result;
  const auto call =
      Tools()[3]->Start(Context(1'000), {{"x", 1}}, [&](ToolResult r) { result = std::move(r); });
  world_.executor.RunUntilIdle();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->text, "called writes");
  const Json params = world_.Sent("tools/call").at(0)["params"];
  EXPECT_EQ(params["name"], "writes");
  EXPECT_EQ(params["arguments"], Json({{"x", 1}}));
}

TEST_F(McpToolTest, EarlierOfBothDeadlinesCounts) {
  config_.timeouts.call_ms = 2'000;
  world_.handlers.erase("tools/call");
  for (const int64_t deadline_ms : {1'000, 60'000}) {
    std::optional<ToolResult> result;
    const auto call =
        Tools()[3]->Start(Context(deadline_ms), Json::object(), [&](ToolResult r) { result = std::move(r); });
    world_.executor.RunFor((std::min<int64_t>(deadline_ms, 2'000) - 1) * kMs);
    EXPECT_FALSE(result.has_value());
    world_.executor.RunFor(2 * kMs);
    EXPECT_TRUE(result.has_value());
  }
}

TEST_F(McpToolTest, CallIsHarmlessWhenItWasNeverSentOrOnlyReads) {
  config_.trust_annotations = true;
  Tools();
  world_.handlers.erase("tools/call");
  std::vector<ToolResult> results;
  const auto done = [&](ToolResult result) { results.push_back(std::move(result)); };
  const auto reads = Tools()[0]->Start(Context(1'000), Json::object(), done);
  const auto writes = Tools()[3]->Start(Context(1'000), Json::object(), done);
  writes->Cancel();
  EXPECT_FALSE(writes->Harmless());
  reads->Cancel();
  reads->Cancel();
  EXPECT_TRUE(reads->Harmless());
  world_.executor.RunUntilIdle();
  ASSERT_THAT(results, SizeIs(2));
  EXPECT_EQ(results[0].status, ToolStatus::kUnknown);
  EXPECT_EQ(results[1].status, ToolStatus::kCancelled);
}

TEST_F(McpToolTest, CallThatWaitsForAStartIsHarmlessOnceCancelled) {
  Tools();
  core_ =
      ServerCore::Make(config_, ServerCore::World{world_.executor, world_.clock, world_.Factory(), nullptr},
                       core_->catalogue());
  tools_ = MakeTools(core_);
  std::optional<ToolResult> result;
  const auto call =
      tools_[3]->Start(Context(1'000), Json::object(), [&](ToolResult r) { result = std::move(r); });
  EXPECT_FALSE(call->Harmless());
  call->Cancel();
  EXPECT_TRUE(call->Harmless());
  world_.executor.RunFor(5'000 * kMs);
  EXPECT_EQ(result->status, ToolStatus::kCancelled);
  EXPECT_THAT(world_.Sent("tools/call"), SizeIs(0));
}

TEST_F(McpToolTest, DestroyedCallGivesNoResult) {
  world_.handlers["tools/call"] = [](ScriptedServer& server, const Json& request) {
    server.Answer(request, TextResult("late"), 500);
  };
  bool told = false;
  auto call = Tools()[3]->Start(Context(1'000), Json::object(), [&](ToolResult) { told = true; });
  world_.executor.RunUntilIdle();
  call.reset();
  world_.executor.RunFor(5'000 * kMs);
  EXPECT_FALSE(told);
  EXPECT_THAT(world_.Sent("notifications/cancelled"), SizeIs(1));
}

}  // namespace
}  // namespace holdfast::tools::mcp
