#include "tools/dispatcher.h"

#include <deque>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"
#include "tests/tools/fake_tool.h"
#include "tools/file_versions.h"

namespace holdfast::tools {
namespace {

using base::Lane;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr CallTraits kReads = {
    .effect = Effect::kReadOnly, .contained = true, .confined = true, .timeout_ms = 1000};
constexpr CallTraits kWrites = {
    .effect = Effect::kEffectful, .contained = true, .confined = true, .timeout_ms = 1000};
constexpr CallTraits kOutside = {.effect = Effect::kEffectful, .timeout_ms = 1000};

class FakeSpill final : public SpillStore {
 public:
  base::StatusOr<SpilledBlob> Put(std::string_view bytes) override {
    if (fails) return base::ResourceExhausted("disk full");
    kept.emplace_back(bytes);
    return SpilledBlob{.id = base::Sha256Of(std::as_bytes(std::span(bytes))), .bytes = bytes.size()};
  }
  std::vector<std::string> kept;
  bool fails = false;
};

class FakeBudget final : public CallBudget {
 public:
  base::Status Admit(std::string_view) override {
    if (left == 0) return base::ResourceExhausted("no calls left");
    --left;
    return absl::OkStatus();
  }
  void Charge(std::string_view tool_id, const ToolResult& result) override {
    charged.push_back(std::string(tool_id) + " " + std::to_string(result.text.size()));
  }
  int left = 100;
  std::vector<std::string> charged;
};

class DispatcherTest : public ::testing::Test {
 protected:
  DispatcherTest() {
    look_ = Add("look", kReads);
    change_ = Add("change", kWrites);
    post_ = Add("post", kOutside);
    auto set = registry_.Select(registry_.ids());
    EXPECT_TRUE(set.ok());
    tools_ = *std::move(set);
    options_.limits.result_bytes_max = 1000;
    context_.versions = &versions_;
    Make();
  }
  ~DispatcherTest() override { EXPECT_EQ(pending_, 0); }

  FakeTool* Add(const std::string& name, CallTraits traits) {
    auto tool = std::make_unique<FakeTool>(name, traits);
    FakeTool* raw = tool.get();
    EXPECT_TRUE(registry_.Add(std::move(tool)).ok());
    return raw;
  }
  void Make() {
    dispatcher_ = std::make_unique<Dispatcher>(executor_, clock_, tools_, policy_, approvals_, options_);
  }

  Prepared Prepare(std::string_view name, std::string_view arguments = R"({"x": "y"})") {
    return dispatcher_->Prepare(context_, name, arguments);
  }

  // Runs `body` on the control lane, then what follows from it.
  void OnControl(std::function<void()> body) {
    ASSERT_TRUE(executor_.Post(Lane::kControl, [&] { body(); }).ok());
    executor_.RunUntilIdle();
  }

  // Starts a call; its result appears in results_.
  CallId Start(Prepared call) {
    CallId id{};
    ++pending_;
    OnControl([&] {
      id = dispatcher_->Start(std::move(call), context_, [this](ToolResult result) {
        EXPECT_TRUE(executor_.RunsOn(Lane::kControl) || shutting_down_);
        --pending_;
        results_.push_back(std::move(result));
      });
      EXPECT_EQ(results_.size() + static_cast<size_t>(pending_), ++started_);  // not from within
    });
    return id;
  }

  test::SimClock clock_;
  test::SimExecutor executor_{clock_, {}};
  Registry registry_;
  FakeTool* look_;
  FakeTool* change_;
  FakeTool* post_;
  Toolset tools_;
  PermissionPolicy policy_;
  ApprovalBook approvals_;
  FileVersions versions_;
  FakeSpill spill_;
  FakeBudget budget_;
  Dispatcher::Options options_;
  ToolContext context_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::vector<ToolResult> results_;
  int pending_ = 0;
  size_t started_ = 0;
  bool shutting_down_ = false;
};

TEST_F(DispatcherTest, ACallOfNoToolOrWithBadArgumentsSaysWhatIsWrong) {
  EXPECT_EQ(Prepare("lok").error->text, "no tool named lok, did you mean look?\n");
  EXPECT_EQ(Prepare("zzzzz").error->text, "no tool named zzzzz\n");
  EXPECT_EQ(Prepare("\xff\xfe").error->text, "no tool named \xEF\xBF\xBD\xEF\xBF\xBD\n");
  EXPECT_EQ(Prepare("look", "{}").error->text, "look: missing parameter \"x\"\n");
  EXPECT_EQ(Prepare("look", "").error->text, "look: missing parameter \"x\"\n");
  EXPECT_EQ(Prepare("look", R"({"X": "y"})").error->text,
            "look: missing parameter \"x\"; unknown parameter \"X\", did you mean \"x\"?\n");
  EXPECT_THAT(Prepare("look", "{\"x\": ").error->text, HasSubstr("look: the arguments are not JSON"));
  EXPECT_THAT(Prepare("look", "{\"x\": \"\xff\"}").error->text, HasSubstr("not JSON"));
  EXPECT_EQ(Prepare("look", "{}").error->status, ToolStatus::kInvalid);
  const Prepared good = Prepare("look", R"( {"x":"ä"} )");
  EXPECT_FALSE(good.error);
  EXPECT_EQ(good.tool_id, "look@1");
  EXPECT_EQ(good.arguments, R"({"x":"ä"})");
}

TEST_F(DispatcherTest, TheActionHashIsOfToolArgumentsAndPolicies) {
  const ActionHash base = Prepare("look").action;
  EXPECT_EQ(base, Prepare("look", R"({ "x" : "y" })").action);
  EXPECT_NE(base, Prepare("look", R"({"x": "z"})").action);
  EXPECT_NE(base, Prepare("change").action);
  options_.sandbox_hash[0] = std::byte{1};
  Make();
  EXPECT_NE(base, Prepare("look").action);
  options_.sandbox_hash = {};
  policy_ = *PermissionPolicy::Parse(R"({"rules": [{"permission": "allow", "tool": "look"}]})");
  Make();
  EXPECT_NE(base, Prepare("look").action);
}

TEST_F(DispatcherTest, AResultComesOnceAndLeavesVersionsBehind) {
  Start(Prepare("look"));
  ASSERT_EQ(look_->calls.size(), 1u);
  EXPECT_EQ(look_->calls[0]->arguments, nlohmann::json::parse(R"({"x": "y"})"));
  EXPECT_EQ(look_->calls[0]->context.executor, &executor_);
  ToolResult result = Succeeded("seen\n");
  result.observed.push_back({.path = "a", .hash = base::Sha256Digest{}});
  look_->calls[0]->done(std::move(result));
  executor_.RunUntilIdle();
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].text, "seen\n");
  EXPECT_TRUE(versions_.Find("a"));
  EXPECT_TRUE(look_->calls[0]->gone);
  look_->calls[0]->done(Succeeded("again"));
  executor_.RunFor(10 * base::kNsPerSecond);
  EXPECT_EQ(results_.size(), 1u);
}

TEST_F(DispatcherTest, ADeadlineCancelsThenGivesUp) {
  Start(Prepare("look"));
  EXPECT_EQ(look_->calls[0]->context.deadline.ns - clock_.MonotonicNow().ns <= 1000 * base::kNsPerMs, true);
  executor_.RunFor(990 * base::kNsPerMs);
  EXPECT_EQ(look_->calls[0]->cancels, 0);
  executor_.RunFor(20 * base::kNsPerMs);
  EXPECT_EQ(look_->calls[0]->cancels, 1);
  EXPECT_THAT(results_, IsEmpty());
  executor_.RunFor(900 * base::kNsPerMs);
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].status, ToolStatus::kTimeout);  // it only reads: nothing happened
  EXPECT_EQ(results_[0].text, "look: stopped after its time was over\n");
  EXPECT_EQ(dispatcher_->abandoned(), 1u);
  look_->calls[0]->done(Succeeded("late"));
  executor_.RunUntilIdle();
  EXPECT_EQ(dispatcher_->late_results(), 1u);
  EXPECT_EQ(dispatcher_->abandoned(), 0u);
  EXPECT_EQ(results_.size(), 1u);
}

TEST_F(DispatcherTest, WhatMayHaveHappenedIsUnknownUnlessItIsHarmless) {
  Start(Prepare("change"));
  executor_.RunFor(2 * base::kNsPerSecond);
  Start(Prepare("change"));
  change_->calls[1]->harmless = true;
  executor_.RunFor(2 * base::kNsPerSecond);
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[0].status, ToolStatus::kUnknown);
  EXPECT_EQ(results_[0].text, "unknown outcome: it may have run\n");
  EXPECT_EQ(results_[1].status, ToolStatus::kTimeout);
}

TEST_F(DispatcherTest, WhatAToolAnswersToItsDeadlineIsKept) {
  change_->on_start = [](FakeTool::Call& call) {
    call.on_cancel = [](FakeTool::Call& own) {
      own.done({.status = ToolStatus::kTimeout, .text = "half of it\ntimeout\n"});
    };
  };
  Start(Prepare("change"));
  executor_.RunFor(1100 * base::kNsPerMs);
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].text, "half of it\ntimeout\n");
  EXPECT_EQ(dispatcher_->abandoned(), 0u);
}

TEST_F(DispatcherTest, CancelEndsACallOnce) {
  const CallId id = Start(Prepare("look"));
  OnControl([&] {
    dispatcher_->Cancel(id);
    dispatcher_->Cancel(id);
  });
  EXPECT_EQ(look_->calls[0]->cancels, 1);
  look_->calls[0]->done({.status = ToolStatus::kCancelled});
  executor_.RunUntilIdle();
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].status, ToolStatus::kCancelled);
  EXPECT_EQ(results_[0].text, "look: cancelled\n");
  OnControl([&] { dispatcher_->Cancel(id); });
}

TEST_F(DispatcherTest, AToolThatLetsGoOfItsAnswerIsNotWaitedFor) {
  look_->on_start = [](FakeTool::Call& call) { call.done = nullptr; };
  change_->on_start = [](FakeTool::Call& call) { call.done = nullptr; };
  Start(Prepare("look"));
  Start(Prepare("change"));
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[0].status, ToolStatus::kUnavailable);
  EXPECT_EQ(results_[1].status, ToolStatus::kUnknown);
  EXPECT_EQ(dispatcher_->abandoned(), 0u);
}

TEST_F(DispatcherTest, WhatAsksNeedsAnApprovalOfExactlyThisActionUsedOnce) {
  const Prepared call = Prepare("post");
  EXPECT_EQ(call.verdict.permission, Permission::kAsk);
  Start(call);
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].text, "post: not approved\n");
  ASSERT_TRUE(approvals_.Grant(Prepare("post", R"({"x": "other"})").action).ok());
  Start(call);
  EXPECT_EQ(results_.back().status, ToolStatus::kDenied);
  ASSERT_TRUE(approvals_.Grant(call.action).ok());
  Start(call);
  ASSERT_EQ(post_->calls.size(), 1u);
  post_->calls[0]->done(Succeeded("ok"));
  executor_.RunUntilIdle();
  Start(call);
  EXPECT_EQ(results_.back().status, ToolStatus::kDenied);
  EXPECT_EQ(post_->calls.size(), 1u);
}

TEST_F(DispatcherTest, ADenyRuleIsToldWithItsReason) {
  policy_ = *PermissionPolicy::Parse(
      R"({"rules": [{"permission": "deny", "tool": "look", "text": "y*", "matches": ["y"]}]})");
  Make();
  Start(Prepare("look"));
  EXPECT_EQ(results_.at(0).text, "look: not permitted: rule 1: deny look \"y*\"\n");
  EXPECT_THAT(look_->calls, IsEmpty());
}

TEST_F(DispatcherTest, BudgetsAreAskedAndToldAndRefusalsUseNoApproval) {
  options_.budget = &budget_;
  Make();
  look_->on_start = [](FakeTool::Call& call) { call.done(Succeeded("four")); };
  budget_.left = 1;
  Start(Prepare("look"));
  Start(Prepare("look"));
  EXPECT_EQ(results_.at(1).text, "look: not run: no calls left\n");
  EXPECT_EQ(results_[1].status, ToolStatus::kDenied);
  EXPECT_THAT(budget_.charged, ElementsAre("look@1 4"));
  const Prepared call = Prepare("post");
  ASSERT_TRUE(approvals_.Grant(call.action).ok());
  Start(call);
  EXPECT_TRUE(approvals_.Holds(call.action));
}

TEST_F(DispatcherTest, LongTextsAreCutWithAnExactMarkAndKept) {
  options_.spill = &spill_;
  Make();
  std::string text;
  for (int i = 0; text.size() < 5000; ++i) text += "line " + std::to_string(i) + " ä\n";
  look_->on_start = [&](FakeTool::Call& call) { call.done(Succeeded(text)); };
  Start(Prepare("look"));
  ASSERT_EQ(results_.size(), 1u);
  const ToolResult& result = results_[0];
  EXPECT_LE(result.text.size(), 1000u);
  ASSERT_EQ(result.blobs.size(), 1u);
  EXPECT_THAT(spill_.kept, ElementsAre(text));
  const size_t mark = result.text.find("\n[... ");
  ASSERT_NE(mark, std::string::npos);
  const std::string tail = result.text.substr(result.text.find("]\n", mark) + 2);
  EXPECT_TRUE(text.starts_with(result.text.substr(0, mark)));
  EXPECT_TRUE(text.ends_with(tail));
  const std::string omitted = text.substr(mark, text.size() - mark - tail.size());
  EXPECT_THAT(result.text, HasSubstr("[... " + std::to_string(omitted.size()) + " bytes, " +
                                     std::to_string(std::count(omitted.begin(), omitted.end(), '\n')) +
                                     " lines omitted; full: " + base::ToHex(result.blobs[0].id) + "]"));
  spill_.fails = true;
  Start(Prepare("look"));
  EXPECT_THAT(results_.at(1).text, HasSubstr(" lines omitted]\n"));
  EXPECT_THAT(results_[1].blobs, IsEmpty());
}

TEST_F(DispatcherTest, MalformedTextIsRepaired) {
  look_->on_start = [](FakeTool::Call& call) { call.done(Succeeded("a\xff z")); };
  Start(Prepare("look"));
  EXPECT_EQ(results_.at(0).text, "a\xEF\xBF\xBD z");
}

TEST_F(DispatcherTest, ShutdownAnswersEverythingBeforeItReturns) {
  Start(Prepare("look"));
  Start(Prepare("change"));
  shutting_down_ = true;
  dispatcher_->Shutdown();
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[0].status, ToolStatus::kCancelled);
  EXPECT_EQ(results_[1].status, ToolStatus::kUnknown);
  EXPECT_EQ(change_->calls[0]->cancels, 1);
  Start(Prepare("look"));
  EXPECT_EQ(results_.at(2).text, "look: cancelled\n");
  dispatcher_.reset();
  change_->calls[0]->done(Succeeded("late"));  // finds nobody
  executor_.RunUntilIdle();
  EXPECT_EQ(results_.size(), 3u);
}

TEST_F(DispatcherTest, TooManyCallsAtOnceAreTurnedAway) {
  options_.limits.calls_max = 2;
  Make();
  for (int i = 0; i < 3; ++i) Start(Prepare("look"));
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].status, ToolStatus::kUnavailable);
  EXPECT_EQ(dispatcher_->running(), 2u);
  shutting_down_ = true;
  dispatcher_.reset();
}

// ---- Blocks

class FakeHost final : public BlockHost {
 public:
  void BeforeStart(std::span<const size_t> indices, Go go) override {
    log.push_back("before " + Text(indices));
    Answer(std::move(go), before);
  }
  void AfterEnd(std::span<const size_t> indices, std::span<const ToolResult> results, Go go) override {
    EXPECT_EQ(indices.size(), results.size());
    log.push_back("after " + Text(indices));
    Answer(std::move(go), after);
  }
  static std::string Text(std::span<const size_t> indices) {
    std::string text;
    for (const size_t index : indices) text += std::to_string(index);
    return text;
  }
  void Answer(Go go, const base::Status& status) {
    if (holds) {
      held.push_back(std::move(go));
    } else {
      go(status);
    }
  }
  std::vector<std::string> log;
  base::Status before, after;
  bool holds = false;
  std::deque<Go> held;
};

class BlockTest : public DispatcherTest {
 protected:
  void Run(std::vector<Prepared> calls) {
    ++pending_;
    OnControl([&] {
      block_ =
          dispatcher_->RunBlock(std::move(calls), context_, host_, [this](std::vector<ToolResult> results) {
            --pending_;
            results_ = std::move(results);
          });
      EXPECT_THAT(host_.log, IsEmpty());  // not from within
    });
  }
  // Each tool logs its start and answers with its argument.
  void Echo() {
    for (FakeTool* tool : {look_, change_}) {
      tool->on_start = [this, tool](FakeTool::Call& call) {
        const auto x = call.arguments["x"].get<std::string>();
        host_.log.push_back(tool->spec().name + " " + x);
        call.done(Succeeded(x));
      };
    }
  }
  Prepared Of(const char* tool, const std::string& x) { return Prepare(tool, R"({"x": ")" + x + "\"}"); }

  FakeHost host_;
  BlockId block_{};
};

TEST_F(BlockTest, ReadsSideBySideRunTogetherAndTheRestInOrder) {
  Echo();
  Run({Of("look", "0"), Of("look", "1"), Of("change", "2"), Prepare("nope"), Of("look", "4"),
       Of("change", "5"), Of("change", "6")});
  EXPECT_THAT(host_.log, ElementsAre("before 01", "look 0", "look 1", "after 01", "before 2", "change 2",
                                     "after 2", "before 4", "look 4", "after 4", "before 5", "change 5",
                                     "after 5", "before 6", "change 6", "after 6"));
  std::vector<std::string> texts;
  for (const ToolResult& result : results_) texts.push_back(result.text);
  EXPECT_THAT(texts, ElementsAre("0", "1", "2", "no tool named nope\n", "4", "5", "6"));
}

TEST_F(BlockTest, ResultsAreInTheOrderOfTheCalls) {
  Run({Of("look", "0"), Of("look", "1")});
  ASSERT_EQ(look_->calls.size(), 2u);
  look_->calls[1]->done(Succeeded("b"));
  executor_.RunUntilIdle();
  EXPECT_THAT(results_, IsEmpty());
  look_->calls[0]->done(Succeeded("a"));
  executor_.RunUntilIdle();
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[0].text, "a");
  EXPECT_EQ(results_[1].text, "b");
}

TEST_F(BlockTest, NothingStartsBeforeItsIntentAndNothingGoesOnBeforeItsOutcome) {
  host_.holds = true;
  Echo();
  Run({Of("change", "0"), Of("change", "1")});
  EXPECT_THAT(host_.log, ElementsAre("before 0"));
  const auto answer = [&] {
    auto go = std::move(host_.held.front());
    host_.held.pop_front();
    go(absl::OkStatus());
    executor_.RunUntilIdle();
  };
  answer();
  EXPECT_THAT(host_.log, ElementsAre("before 0", "change 0", "after 0"));
  answer();
  EXPECT_EQ(host_.log.back(), "before 1");
  answer();
  answer();
  EXPECT_EQ(results_.size(), 2u);
}

TEST_F(BlockTest, AnIntentThatCannotBeCommittedStartsNothing) {
  host_.before = base::ResourceExhausted("disk full");
  Echo();
  Run({Of("change", "0"), Of("change", "1")});
  EXPECT_THAT(host_.log, ElementsAre("before 0", "before 1"));
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[0].text, "change: not run: disk full\n");
}

TEST_F(BlockTest, AnOutcomeThatCannotBeCommittedEndsTheBlock) {
  host_.after = base::ResourceExhausted("disk full");
  Echo();
  Run({Of("change", "0"), Of("change", "1")});
  EXPECT_THAT(host_.log, ElementsAre("before 0", "change 0", "after 0"));
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[0].text, "0");
  EXPECT_EQ(results_[1].status, ToolStatus::kCancelled);
}

TEST_F(BlockTest, CancelEndsWhatRunsAndStartsNothingMore) {
  Run({Of("change", "0"), Of("change", "1")});
  OnControl([&] { dispatcher_->CancelBlock(block_); });
  EXPECT_EQ(change_->calls.at(0)->cancels, 1);
  change_->calls[0]->done({.status = ToolStatus::kCancelled});
  executor_.RunUntilIdle();
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[1].text, "change: cancelled\n");
  EXPECT_THAT(host_.log, ElementsAre("before 0", "after 0"));
  EXPECT_EQ(change_->calls.size(), 1u);
}

TEST_F(BlockTest, CancelledBetweenIntentAndStartTheHostHearsOfTheEnd) {
  host_.holds = true;
  Run({Of("change", "0")});
  OnControl([&] { dispatcher_->CancelBlock(block_); });
  host_.held[0](absl::OkStatus());
  executor_.RunUntilIdle();
  EXPECT_THAT(host_.log, ElementsAre("before 0", "after 0"));
  EXPECT_THAT(change_->calls, IsEmpty());
  host_.held[1](absl::OkStatus());
  executor_.RunUntilIdle();
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].status, ToolStatus::kCancelled);
}

TEST_F(BlockTest, ShutdownAnswersTheBlock) {
  Run({Of("look", "0"), Of("change", "1")});
  shutting_down_ = true;
  dispatcher_.reset();
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[0].status, ToolStatus::kCancelled);
  EXPECT_EQ(results_[1].text, "change: cancelled\n");
}

// Tools that answer, do not, answer twice, or drop their answers, under cancellations: every call of every
// block has one result, hosts hear of each group's end, and time is bounded.
TEST_F(BlockTest, UnderChaosEveryCallHasOneResult) {
  for (const uint64_t seed : test::TestSeeds(200)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    look_->calls.clear();
    change_->calls.clear();
    host_.log.clear();
    Make();
    for (FakeTool* tool : {look_, change_}) {
      tool->on_start = [&](FakeTool::Call& call) {
        const uint64_t way = random.Below(5);
        if (way == 0) call.done(Succeeded("at once"));
        if (way == 1) call.done = nullptr;
        if (way == 2)
          call.on_cancel = [](FakeTool::Call& own) { own.done({.status = ToolStatus::kCancelled}); };
        if (way == 3) {
          call.done(Succeeded("once"));
          call.done(Succeeded("twice"));
        }
      };
    }
    const size_t count = 1 + random.Below(8);
    std::vector<Prepared> calls;
    for (size_t i = 0; i < count; ++i)
      calls.push_back(random.Percent(10) ? Prepare("nope") : Prepare(random.Percent(50) ? "look" : "change"));
    results_.clear();
    Run(std::move(calls));
    executor_.RunFor(static_cast<int64_t>(random.Below(3000)) * base::kNsPerMs);
    const uint64_t end = random.Below(3);
    if (end == 0) OnControl([&] { dispatcher_->CancelBlock(block_); });
    if (end == 1) {
      shutting_down_ = true;
      dispatcher_->Shutdown();
      EXPECT_EQ(results_.size(), count);
      EXPECT_EQ(pending_, 0);
    }
    executor_.RunFor(static_cast<int64_t>(count) * 2 * base::kNsPerSecond);
    ASSERT_EQ(results_.size(), count);
    ASSERT_EQ(pending_, 0);
    for (const ToolResult& result : results_) EXPECT_FALSE(result.text.empty());
    EXPECT_EQ(dispatcher_->running(), 0u);
  }
}

}  // namespace
}  // namespace holdfast::tools
