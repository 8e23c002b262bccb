#include "agent/control_tools.h"

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tools/registry.h"
#include "tools/tool.h"

namespace holdfast::agent {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using tools::ToolResult;
using tools::ToolStatus;

constexpr int64_t kNowMs = 1'000'000;

// A session in which calls commit what they change, or do not yet.
class FakeHost final : public ControlHost {
 public:
  using Found = std::function<void(base::StatusOr<std::vector<RecallHit>>)>;

  const AgentFacts& facts() const override { return facts_; }
  int64_t NowUtcMs() const override { return kNowMs; }
  std::string call() const override { return "c7"; }
  void Change(sessions::EventBody body) override { pending_.push_back(std::move(body)); }
  std::span<const sessions::EventBody> pending() const override { return pending_; }
  void Search(std::string query, size_t count, Found done) override {
    queries.push_back(std::move(query));
    counts.push_back(count);
    if (answer_late) {
      late.push_back(std::move(done));
    } else {
      done(hits);
    }
  }
  void Fetch(uint64_t seq, std::function<void(base::StatusOr<std::string>)> done) override {
    const auto found = events.find(seq);
    done(found == events.end() ? base::StatusOr<std::string>(base::NotFound("event"))
                               : base::StatusOr<std::string>(found->second));
  }
  bool IsRunning(const std::string& process) const override { return process == "b1"; }

  // What is pending, decoded; it is on record from then on.
  std::vector<AgentBody> Commit() {
    std::vector<AgentBody> bodies;
    for (const sessions::EventBody& body : std::exchange(pending_, {})) {
      Record(body);
      const auto* event = std::get_if<sessions::AgentEvent>(&body);
      if (event == nullptr) continue;
      auto decoded = Decode(*event);
      EXPECT_TRUE(decoded.ok() && decoded->has_value());
      bodies.push_back(**std::move(decoded));
    }
    return bodies;
  }
  void Record(sessions::EventBody body) { facts_.Apply({.seq = ++seq_, .body = std::move(body)}); }
  void SetGoal(GoalSet goal) { Record(Encode(std::move(goal))); }

  bool answer_late = false;
  base::StatusOr<std::vector<RecallHit>> hits = std::vector<RecallHit>();
  std::map<uint64_t, std::string> events;
  std::vector<std::string> queries;
  std::vector<size_t> counts;
  std::deque<Found> late;

 private:
  AgentFacts facts_;
  uint64_t seq_ = 0;
  std::vector<sessions::EventBody> pending_;
};

class ControlToolsTest : public ::testing::Test {
 protected:
  ControlToolsTest() {
    EXPECT_TRUE(AddControlTools(registry_, host_).ok());
    context_.inside = "/repo";
  }

  // None: it has not answered yet.
  std::optional<ToolResult> Begin(const std::string& id, const json& arguments) {
    const tools::RegisteredTool* tool = registry_.Find(id);
    EXPECT_NE(tool, nullptr);
    EXPECT_THAT(tool->schema.Check(arguments), IsEmpty());
    // Shared with an answer that may come later.
    const auto result = std::make_shared<std::optional<ToolResult>>();
    call_ = tool->tool->Start(context_, arguments, [result](ToolResult got) { *result = std::move(got); });
    late_result_ = result;
    return *result;
  }
  ToolResult Call(const std::string& id, const json& arguments) {
    const auto result = Begin(id, arguments);
    EXPECT_TRUE(result.has_value());
    return result.value_or(ToolResult());
  }
  std::string Refusal(const std::string& id, const json& arguments) {
    const size_t pending = host_.pending().size();
    const ToolResult result = Call(id, arguments);
    EXPECT_EQ(result.status, ToolStatus::kFailed) << result.text;
    EXPECT_EQ(host_.pending().size(), pending) << "a refusal changes nothing";
    return result.text;
  }
  bool Fits(const std::string& id, const json& arguments) {
    return registry_.Find(id)->schema.Check(arguments).empty();
  }

  FakeHost host_;
  tools::Registry registry_;
  tools::ToolContext context_;
  std::unique_ptr<tools::RunningCall> call_;
  std::shared_ptr<std::optional<ToolResult>> late_result_;  // shared with the call
};

TEST_F(ControlToolsTest, WithoutAnOutcomeTheyHaveChangedNothing) {
  for (const std::string& id : ControlToolIds()) {
    const auto traits = registry_.Find(id)->tool->Traits(context_, json::object());
    EXPECT_NE(traits.effect, tools::Effect::kEffectful) << id;
    EXPECT_TRUE(traits.contained) << id;
    EXPECT_TRUE(traits.confined) << id;
    EXPECT_TRUE(IsControlTool(id));
  }
  EXPECT_THAT(ControlToolIds(), SizeIs(5));
  EXPECT_FALSE(IsControlTool("bash@2"));
}

// --- plan

json Item(const std::string& text, const std::string& state) { return {{"text", text}, {"state", state}}; }

TEST_F(ControlToolsTest, PlanIsRecordedAndShownAsTheRecordHasIt) {
  const auto result = Call(
      "plan@1", {{"items", {Item("read the code", "done"), Item("fix it", "active"), {{"text", "test"}}}}});
  EXPECT_EQ(result.status, ToolStatus::kOk);
  EXPECT_EQ(result.text, "done: read the code\nactive: fix it\npending: test\n");
  const auto bodies = host_.Commit();
  ASSERT_THAT(bodies, SizeIs(1));
  EXPECT_THAT(std::get<PlanSet>(bodies[0]).items,
              ElementsAre(PlanItem{"read the code", "done"}, PlanItem{"fix it", "active"},
                          PlanItem{"test", "pending"}));
}

TEST_F(ControlToolsTest, WhatIsDoneStaysInThePlanAndIsSaid) {
  Call("plan@1", {{"items", {Item("a", "done"), Item("b", "done"), Item("c", "active")}}});
  host_.Commit();
  const std::string text = Call("plan@1", {{"items", {Item("b", "pending"), Item("c", "done")}}}).text;
  EXPECT_THAT(text, HasSubstr("done: a [stays done]\n"));
  EXPECT_THAT(text, HasSubstr("done: b [stays done]\n"));
  EXPECT_THAT(text, HasSubstr("done: c\n"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("pending")));
}

TEST_F(ControlToolsTest, AnEarlierPlanThatIsNotOnRecordYetCounts) {
  Call("plan@1", {{"items", {Item("a", "done")}}});
  EXPECT_THAT(Call("plan@1", {{"items", {Item("b", "active")}}}).text, HasSubstr("done: a [stays done]\n"));
}

TEST_F(ControlToolsTest, AnEmptyPlanIsOne) {
  EXPECT_EQ(Call("plan@1", {{"items", json::array()}}).text, "the plan is empty\n");
  EXPECT_THAT(host_.Commit(), SizeIs(1));
}

TEST_F(ControlToolsTest, APlanItemIsOneLine) {
  EXPECT_EQ(Call("plan@1", {{"items", {Item(" a\nb\tc\n", "active")}}}).text, "active: a b c\n");
}

TEST_F(ControlToolsTest, APlanHasBounds) {
  json items = json::array();
  for (int i = 0; i < 101; ++i) items.push_back(Item("i" + std::to_string(i), "pending"));
  EXPECT_THAT(Refusal("plan@1", {{"items", items}}), HasSubstr("101 items; at most 100"));
  items.erase(100);
  EXPECT_EQ(Call("plan@1", {{"items", items}}).status, ToolStatus::kOk);
  EXPECT_EQ(Call("plan@1", {{"items", {Item(std::string(500, 'x'), "pending")}}}).status, ToolStatus::kOk);
  EXPECT_THAT(Refusal("plan@1", {{"items", {Item("a", "done"), Item(std::string(501, 'x'), "pending")}}}),
              HasSubstr("item 2 has 501 bytes; at most 500"));
  EXPECT_THAT(Refusal("plan@1", {{"items", {Item(" \n", "pending")}}}), HasSubstr("item 1 has no text"));
  EXPECT_FALSE(Fits("plan@1", {{"items", {Item("a", "begun")}}}));
}

// --- goal

TEST_F(ControlToolsTest, AClaimIsRecordedAndChangesNoState) {
  host_.SetGoal({.text = "g", .checks = {{.command = "make check"}}});
  const auto result = Call("goal@1", {{"status", "done"}, {"evidence", "all tests pass"}});
  EXPECT_EQ(result.text, "recorded; when this turn ends, the checks decide\n");
  const auto bodies = host_.Commit();
  ASSERT_THAT(bodies, SizeIs(1));
  EXPECT_EQ(std::get<GoalChanged>(bodies[0]),
            (GoalChanged{.state = GoalState::kActive, .claim = "done", .evidence = "all tests pass"}));
  EXPECT_EQ(host_.facts().goal_state(), GoalState::kActive);
}

TEST_F(ControlToolsTest, AClaimIsToldWhatFollows) {
  host_.SetGoal({.text = "g"});
  const auto text = [this](const char* status) {
    return Call("goal@1", {{"status", status}, {"evidence", "e"}}).text;
  };
  EXPECT_THAT(text("done"), HasSubstr("unverified"));
  EXPECT_THAT(text("blocked"), HasSubstr("pauses"));
  EXPECT_THAT(text("failed"), HasSubstr("failed"));
}

TEST_F(ControlToolsTest, AClaimNeedsAGoalThatIsNotOver) {
  const json claim = {{"status", "done"}, {"evidence", "e"}};
  EXPECT_EQ(Refusal("goal@1", claim), "this session has no goal\n");
  host_.SetGoal({.text = "g"});
  for (const GoalState state :
       {GoalState::kSucceeded, GoalState::kFinishedUnverified, GoalState::kFailed, GoalState::kCancelled}) {
    host_.Record(Encode(GoalChanged{.state = state}));
    EXPECT_THAT(Refusal("goal@1", claim), HasSubstr(std::string(GoalStateName(state))));
  }
}

TEST_F(ControlToolsTest, EvidenceHasBounds) {
  host_.SetGoal({.text = "g"});
  const auto claim = [](std::string evidence) { return json{{"status", "done"}, {"evidence", evidence}}; };
  EXPECT_THAT(Refusal("goal@1", claim(std::string(4001, 'e'))), HasSubstr("4001 bytes; at most 4000"));
  EXPECT_THAT(Refusal("goal@1", claim("\n")), HasSubstr("no text"));
  EXPECT_EQ(Call("goal@1", claim(std::string(4000, 'e'))).status, ToolStatus::kOk);
  EXPECT_FALSE(Fits("goal@1", {{"status", "perhaps"}, {"evidence", "e"}}));
  EXPECT_FALSE(Fits("goal@1", {{"status", "done"}}));
}

// --- wait

TEST_F(ControlToolsTest, AWaitForTimeSetsATimer) {
  const auto result = Call("wait@1", {{"seconds", 90}});
  EXPECT_EQ(result.text, "the session waits until 90 s have passed\n");
  ASSERT_THAT(host_.pending(), SizeIs(2));
  EXPECT_EQ(std::get<sessions::TimerSet>(host_.pending()[0]),
            (sessions::TimerSet{.timer = "wait", .due_utc_ms = kNowMs + 90'000, .remaining_ms = 90'000}));
  EXPECT_EQ(std::get<WaitSet>(host_.Commit().at(0)),
            (WaitSet{.call = "c7", .until_utc_ms = kNowMs + 90'000}));
}

TEST_F(ControlToolsTest, AWaitMayNameSeveralConditions) {
  const auto result = Call(
      "wait@1", {{"seconds", 5}, {"process", "b1"}, {"file", "/repo/out/a.log"}, {"signal", "deployed"}});
  EXPECT_EQ(
      result.text,
      "the session waits until 5 s have passed or b1 ends or out/a.log changes or signal deployed comes\n");
  EXPECT_EQ(std::get<WaitSet>(host_.Commit().at(0)), (WaitSet{.call = "c7",
                                                              .until_utc_ms = kNowMs + 5'000,
                                                              .process = "b1",
                                                              .file = "out/a.log",
                                                              .signal = "deployed"}));
}

TEST_F(ControlToolsTest, AWaitWithoutABoundInTimeSetsNoTimer) {
  Call("wait@1", {{"signal", "go"}});
  EXPECT_THAT(host_.pending(), SizeIs(1));
  EXPECT_EQ(std::get<WaitSet>(host_.Commit().at(0)).until_utc_ms, 0);
}

TEST_F(ControlToolsTest, AWaitIsForSomethingThatCanCome) {
  EXPECT_THAT(Refusal("wait@1", json::object()), HasSubstr("wait for what"));
  EXPECT_THAT(Refusal("wait@1", {{"process", "b2"}}), HasSubstr("no such command"));
  for (const std::string& path : std::vector<std::string>{"", "/etc/passwd", "../x", "a/../../b", "a/..",
                                                          "/repo", "/repo/", "/repository/a", "/repo//etc",
                                                          std::string("a\0b", 3), std::string(4097, 'a')}) {
    EXPECT_THAT(Refusal("wait@1", {{"file", path}}), HasSubstr("not a path relative")) << path;
  }
  for (const std::string& name : {std::string(), std::string("a\nb"), std::string(101, 's')}) {
    EXPECT_THAT(Refusal("wait@1", {{"signal", name}}), HasSubstr("1 to 100 bytes"));
  }
  EXPECT_FALSE(Fits("wait@1", {{"seconds", 0}}));
  EXPECT_FALSE(Fits("wait@1", {{"seconds", 30 * 86400 + 1}}));
  EXPECT_TRUE(Fits("wait@1", {{"seconds", 30 * 86400}}));
  EXPECT_EQ(Call("wait@1", {{"file", "..a/b..c"}}).status, ToolStatus::kOk);
}

TEST_F(ControlToolsTest, ThereIsOneWaitAtATime) {
  Call("wait@1", {{"seconds", 5}});
  EXPECT_THAT(Refusal("wait@1", {{"signal", "x"}}), HasSubstr("one wait at a time"));  // pending
  host_.Commit();
  EXPECT_THAT(Refusal("wait@1", {{"signal", "x"}}), HasSubstr("one wait at a time"));  // on record
  host_.Record(Encode(WaitEnded{.why = "time"}));
  EXPECT_EQ(Call("wait@1", {{"signal", "x"}}).status, ToolStatus::kOk);
}

// --- note

TEST_F(ControlToolsTest, ANoteIsKeptAsItIs) {
  const std::string text = "line 1\n\tline 2 \xE2\x82\xAC\n";
  EXPECT_EQ(Call("note@1", {{"text", text}}).text, "noted, 19 bytes\n");
  EXPECT_EQ(std::get<NoteTaken>(host_.Commit().at(0)).text, text);
}

TEST_F(ControlToolsTest, ANoteHasBounds) {
  EXPECT_THAT(Refusal("note@1", {{"text", std::string(4001, 'n')}}), HasSubstr("4001 bytes; at most 4000"));
  EXPECT_THAT(Refusal("note@1", {{"text", " "}}), HasSubstr("no text"));
  EXPECT_EQ(Call("note@1", {{"text", std::string(4000, 'n')}}).status, ToolStatus::kOk);
}

// --- recall

TEST_F(ControlToolsTest, RecallShowsHitsWithTheirEvents) {
  host_.hits = std::vector<RecallHit>{
      {.seq = 12, .kind = "note", .excerpt = "the port is 8080"},
      {.seq = 7, .kind = "result", .excerpt = "middle", .cut_before = true, .cut_after = true}};
  EXPECT_EQ(Call("recall@1", {{"query", "port"}}).text,
            "event 12, note: the port is 8080\nevent 7, result: [...]middle[...]\n");
  EXPECT_THAT(host_.queries, ElementsAre("port"));
  EXPECT_THAT(host_.counts, ElementsAre(10));
  host_.hits = std::vector<RecallHit>();
  EXPECT_EQ(Call("recall@1", {{"query", "port"}}).text, "nothing is found\n");
}

TEST_F(ControlToolsTest, RecallOfAnEventGivesItsBytes) {
  const std::string text = std::string("a\0b\n", 4) + "\xE2\x82\xAC";
  host_.events[3] = text;
  EXPECT_EQ(Call("recall@1", {{"event", 3}}).text, text);
  EXPECT_EQ(Refusal("recall@1", {{"event", 4}}), "there is no text of event 4; search for it with a query\n");
  EXPECT_THAT(Refusal("recall@1", {{"event", 3}, {"from", 7}}), HasSubstr("has 7 bytes; from 7 is beyond"));
}

// What pages say next leads through the whole text, without a byte lost or told twice.
TEST_F(ControlToolsTest, PagesOfAnEventAddUpToIt) {
  std::string text;
  for (int i = 0; text.size() < 60'000; ++i)
    text += i % 3 == 0 ? "\xF0\x9F\x98\x80" : i % 3 == 1 ? "\xC3\xA9" : "x";
  host_.events[3] = text;
  for (const size_t limit : {size_t{24'576}, size_t{1000}, size_t{24'575}, size_t{1}}) {
    if (limit == 1) host_.events[3] = text = text.substr(0, 70);
    std::string read;
    for (size_t from = 0, pages = 0; pages < 100; ++pages) {
      const std::string shown = Call("recall@1", {{"event", 3}, {"from", from}, {"limit", limit}}).text;
      const size_t mark = shown.rfind("\n[bytes ");
      read += shown.substr(0, mark);
      if (mark == std::string::npos) break;
      EXPECT_LE(mark, std::max<size_t>(limit, 4));
      from = std::stoul(shown.substr(shown.rfind(' ')));
      EXPECT_EQ(from, read.size());
    }
    EXPECT_EQ(read, text) << limit;
  }
  EXPECT_FALSE(Fits("recall@1", {{"event", 3}, {"limit", 24'577}}));
}

TEST_F(ControlToolsTest, APageOfWhatIsNoUtf8GoesOn) {
  host_.events[3] = std::string(100, '\x80');
  const std::string shown = Call("recall@1", {{"event", 3}, {"from", 10}, {"limit", 20}}).text;
  EXPECT_THAT(shown, HasSubstr("[bytes 10 to 29 of 100; go on with from 30]"));
}

TEST_F(ControlToolsTest, RecallTakesAQueryOrAnEvent) {
  host_.events[3] = "x";
  EXPECT_THAT(Refusal("recall@1", json::object()), HasSubstr("one of them"));
  EXPECT_THAT(Refusal("recall@1", {{"query", "a"}, {"event", 3}}), HasSubstr("one of them"));
}

TEST_F(ControlToolsTest, AHistoryThatCannotBeReadIsUnavailable) {
  host_.hits = absl::UnavailableError("disk");
  const ToolResult result = Call("recall@1", {{"query", "a"}});
  EXPECT_EQ(result.status, ToolStatus::kUnavailable);
  EXPECT_THAT(result.text, HasSubstr("disk"));
}

TEST_F(ControlToolsTest, AnAnswerMayComeLate) {
  host_.answer_late = true;
  EXPECT_FALSE(Begin("recall@1", {{"query", "a"}}).has_value());
  ASSERT_NE(call_, nullptr);
  EXPECT_TRUE(call_->Harmless());
  host_.late.front()(std::vector<RecallHit>{});
  ASSERT_TRUE(late_result_->has_value());
  EXPECT_EQ((*late_result_)->text, "nothing is found\n");
}

TEST_F(ControlToolsTest, ACancelledRecallAnswersOnceAndAtOnce) {
  host_.answer_late = true;
  Begin("recall@1", {{"query", "a"}});
  call_->Cancel();
  ASSERT_TRUE(late_result_->has_value());
  EXPECT_EQ((*late_result_)->status, ToolStatus::kCancelled);
  host_.late.front()(std::vector<RecallHit>{});
  EXPECT_EQ((*late_result_)->status, ToolStatus::kCancelled);
}

TEST_F(ControlToolsTest, AnAnswerAfterTheCallIsGoneGoesNowhere) {
  host_.answer_late = true;
  Begin("recall@1", {{"query", "a"}});
  call_.reset();
  registry_ = tools::Registry();
  host_.late.front()(std::vector<RecallHit>{});
  EXPECT_FALSE(late_result_->has_value());
}

}  // namespace
}  // namespace holdfast::agent
