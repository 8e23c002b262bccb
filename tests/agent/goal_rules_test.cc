#include "agent/goal_rules.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/agent/agent_history_testing.h"

namespace holdfast::agent {
namespace {

using sessions::InputKind;

constexpr int64_t kNoBound = std::numeric_limits<int64_t>::max();

// A session with the goal tool and this goal.
AgentHistory WithGoal(GoalSet goal, std::vector<std::string> tools = {"bash@2", "goal@1", "note@1"}) {
  AgentHistory history;
  history.Put(ProfileWith(std::move(tools)));
  if (goal.text.empty()) goal.text = "g";
  history.Put(goal);
  return history;
}

CheckRan Ran(bool passed, const std::string& text = "") {
  return {.command = "make test", .when = "end", .passed = passed, .text = text};
}

TurnDecision Decide(const AgentHistory& history) { return DecideAfterTurn(history.facts(), std::nullopt); }

TurnDecision Decide(const AgentHistory& history, const std::vector<CheckRan>& ran) {
  return DecideAfterTurn(history.facts(), ran);
}

TEST(GoalRulesTest, ToolIsFoundByNameInAnyVersion) {
  AgentHistory history;
  EXPECT_FALSE(HasTool(history.facts(), "goal"));
  history.Put(ProfileWith({"goals@1", "goal@12"}));
  EXPECT_TRUE(HasTool(history.facts(), "goal"));
  EXPECT_FALSE(HasTool(history.facts(), "goa"));
}

TEST(BudgetTest, BindsAnOpenGoalOnly) {
  AgentHistory history;
  history.Tokens(100);
  EXPECT_EQ(TokensLeft(history.facts()), kNoBound);
  EXPECT_EQ(ExhaustedBudget(history.facts()), std::nullopt);
  history.Put(GoalSet{.text = "g", .budgets = {.tokens = 50}});
  history.Tokens(60);
  for (const GoalState state : {GoalState::kActive, GoalState::kWaiting, GoalState::kPaused}) {
    history.Put(GoalChanged{.state = state});
    EXPECT_EQ(ExhaustedBudget(history.facts()), "tokens");
    EXPECT_EQ(TokensLeft(history.facts()), 0);
    EXPECT_EQ(WarningsDue(history.facts()).size(), 1u);
  }
  for (const GoalState state :
       {GoalState::kSucceeded, GoalState::kFinishedUnverified, GoalState::kFailed, GoalState::kCancelled}) {
    history.Put(GoalChanged{.state = state});
    EXPECT_EQ(ExhaustedBudget(history.facts()), std::nullopt);
    EXPECT_EQ(TokensLeft(history.facts()), kNoBound);
    EXPECT_TRUE(WarningsDue(history.facts()).empty());
  }
}

TEST(BudgetTest, IsExhaustedWhenTheBoundIsReached) {
  AgentHistory tokens = WithGoal({.budgets = {.tokens = 10}});
  tokens.Tokens(9);
  EXPECT_EQ(ExhaustedBudget(tokens.facts()), std::nullopt);
  EXPECT_EQ(TokensLeft(tokens.facts()), 1);
  tokens.Tokens(1);
  EXPECT_EQ(ExhaustedBudget(tokens.facts()), "tokens");

  AgentHistory time = WithGoal({.budgets = {.running_ms = 1'000}});
  time.State(sessions::SessionState::kRunning);
  time.State(sessions::SessionState::kRunning, "", 999);
  EXPECT_EQ(ExhaustedBudget(time.facts()), std::nullopt);
  time.State(sessions::SessionState::kIdle, "", 1);
  EXPECT_EQ(ExhaustedBudget(time.facts()), "running_ms");

  AgentHistory calls = WithGoal({.budgets = {.calls = 2}});
  calls.Call("a", "x");
  EXPECT_EQ(ExhaustedBudget(calls.facts()), std::nullopt);
  calls.Call("b", "x");
  EXPECT_EQ(ExhaustedBudget(calls.facts()), "calls");
}

TEST(BudgetTest, OfNothingIsExhaustedAtOnceAndNoBoundNever) {
  EXPECT_EQ(ExhaustedBudget(WithGoal({.budgets = {.tokens = 0}}).facts()), "tokens");
  EXPECT_TRUE(WarningsDue(WithGoal({.budgets = {.tokens = 0}}).facts()).empty());
  AgentHistory history =
      WithGoal({.budgets = {.tokens = kNoBound, .running_ms = kNoBound, .calls = kNoBound}});
  history.Tokens(1000);
  EXPECT_EQ(ExhaustedBudget(history.facts()), std::nullopt);
  EXPECT_EQ(TokensLeft(history.facts()), kNoBound);
  EXPECT_TRUE(WarningsDue(history.facts()).empty());
}

TEST(BudgetTest, ReasonNamesTheBound) {
  EXPECT_EQ(BudgetReason("tokens"), "BUDGET_TOKENS");
  EXPECT_EQ(BudgetReason("running_ms"), "BUDGET_RUNNING_MS");
  EXPECT_EQ(BudgetReason("calls"), "BUDGET_CALLS");
}

TEST(BudgetTest, WarnsOnceAtEightyPercentAndAgainOfAnotherBound) {
  AgentHistory history = WithGoal({.budgets = {.tokens = 100, .calls = 5}});
  history.Tokens(79);
  EXPECT_TRUE(WarningsDue(history.facts()).empty());
  history.Tokens(1);
  ASSERT_EQ(WarningsDue(history.facts()).size(), 1u);
  const BudgetWarned warning = WarningsDue(history.facts())[0];
  EXPECT_EQ(warning, (BudgetWarned{.which = "tokens", .used = 80, .bound = 100}));
  history.Put(warning);
  EXPECT_TRUE(WarningsDue(history.facts()).empty());
  for (int i = 0; i < 4; ++i) history.Call(std::to_string(i), "x");
  ASSERT_EQ(WarningsDue(history.facts()).size(), 1u);
  EXPECT_EQ(WarningsDue(history.facts())[0].which, "calls");
  history.Put(BudgetsSet{.budgets = {.tokens = 90}});
  ASSERT_EQ(WarningsDue(history.facts()).size(), 1u);
  EXPECT_EQ(WarningsDue(history.facts())[0].bound, 90);
}

TEST(BudgetTest, RaisedGoesOnWithTheSameGoal) {
  AgentHistory history = WithGoal({.budgets = {.tokens = 100}});
  history.Tokens(100);
  history.Put(GoalChanged{.state = GoalState::kPaused, .reason = "BUDGET_TOKENS"});
  history.Put(BudgetsSet{.budgets = {.tokens = 150}});
  history.Put(GoalChanged{.state = GoalState::kActive});
  EXPECT_EQ(ExhaustedBudget(history.facts()), std::nullopt);
  EXPECT_EQ(TokensLeft(history.facts()), 50);
}

TEST(RepeatRuleTest, TellsTheModelAtThreeAndPausesAtFive) {
  AgentHistory history;
  history.Put(ProfileWith({}));
  for (int i = 1; i <= 5; ++i) {
    history.Call("npm install", "fails");
    const auto notice = RepeatNotice(history.facts());
    EXPECT_EQ(notice.has_value(), i == 3) << i;
    if (notice.has_value()) {
      EXPECT_EQ(notice->kind, InputKind::kNotice);
      EXPECT_NE(notice->text.find("3 times"), std::string::npos) << notice->text;
      history.Add(*notice);
    }
    EXPECT_EQ(IsRepeating(history.facts()), i == 5) << i;
  }
}

TEST(RepeatRuleTest, ThirdCallInOneBlockWithTheFourthIsToldOf) {
  AgentHistory history;
  for (int i = 0; i < 4; ++i) history.Call("a", "x");
  EXPECT_TRUE(RepeatNotice(history.facts()).has_value());
}

TEST(RepeatRuleTest, PollingWithChangingResultsIsLegal) {
  AgentHistory history;
  for (int i = 0; i < 100; ++i) {
    history.Call("status", std::to_string(i));
    EXPECT_FALSE(RepeatNotice(history.facts()).has_value());
    EXPECT_FALSE(IsRepeating(history.facts()));
  }
}

TEST(RepeatRuleTest, IsToldAgainAfterSomethingChanged) {
  AgentHistory history;
  for (int i = 0; i < 3; ++i) history.Call("a", "x");
  history.Add(*RepeatNotice(history.facts()));
  history.Say(InputKind::kSteer);
  for (int i = 0; i < 3; ++i) history.Call("a", "x");
  EXPECT_TRUE(RepeatNotice(history.facts()).has_value());
}

TEST(RepeatRuleTest, NamesTheWaitToolOnlyWhereThereIsOne) {
  for (const bool has_wait : {false, true}) {
    AgentHistory history;
    history.Put(ProfileWith(has_wait ? std::vector<std::string>{"wait@1"} : std::vector<std::string>{}));
    for (int i = 0; i < 3; ++i) history.Call("a", "x");
    EXPECT_EQ(RepeatNotice(history.facts())->text.find("wait") != std::string::npos, has_wait);
  }
}

TEST(AfterTurnTest, WithoutActiveGoalOrWithAWaitIsIdle) {
  AgentHistory none;
  none.Put(ProfileWith({"goal@1"}));
  EXPECT_EQ(Decide(none), TurnDecision());
  for (int i = 2; i <= 7; ++i) {
    AgentHistory history = WithGoal({});
    history.Put(GoalChanged{.state = static_cast<GoalState>(i)});
    EXPECT_EQ(Decide(history).what, AfterTurn::kIdle) << i;
  }
  AgentHistory waits = WithGoal({});
  waits.Put(WaitSet{.signal = "s"});
  EXPECT_EQ(Decide(waits).what, AfterTurn::kIdle);
  waits.Put(WaitEnded{.why = "signal"});
  EXPECT_EQ(Decide(waits).what, AfterTurn::kContinue);
}

TEST(AfterTurnTest, ClaimBlockedPausesAndClaimFailedFailsWhateverTheChecks) {
  for (const std::vector<GoalCheck>& checks : {std::vector<GoalCheck>{}, {{.command = "make test"}}}) {
    AgentHistory blocked = WithGoal({.checks = checks});
    blocked.Put(GoalChanged{.claim = "blocked"});
    EXPECT_EQ(Decide(blocked), (TurnDecision{.what = AfterTurn::kPause, .reason = "BLOCKED"}));
    AgentHistory failed = WithGoal({.checks = checks});
    failed.Put(GoalChanged{.claim = "failed"});
    EXPECT_EQ(Decide(failed), (TurnDecision{.what = AfterTurn::kFailed}));
  }
}

TEST(AfterTurnTest, ChecksAreRunAndDecide) {
  AgentHistory history = WithGoal({.checks = {{.command = "make test"}, {.command = "make lint"}}});
  EXPECT_EQ(Decide(history).what, AfterTurn::kRunChecks);
  EXPECT_EQ(Decide(history, {Ran(true)}).what, AfterTurn::kRunChecks) << "one is missing";
  EXPECT_EQ(Decide(history, {Ran(true), Ran(true)}).what, AfterTurn::kSucceeded);
  const TurnDecision failed = Decide(history, {Ran(true), Ran(false, "exit 1\nassertion\n")});
  EXPECT_EQ(failed.what, AfterTurn::kContinue);
  EXPECT_EQ(
      failed.notice,
      "The goal is not reached: this check does not pass.\n$ make test\nexit 1\nassertion\nGo on. If you "
      "cannot, say so with the goal tool.\n");
}

TEST(AfterTurnTest, ClaimDoneDoesNotReplaceChecks) {
  AgentHistory history = WithGoal({.checks = {{.command = "make test"}}});
  history.Put(GoalChanged{.claim = "done"});
  EXPECT_EQ(Decide(history).what, AfterTurn::kRunChecks);
  EXPECT_EQ(Decide(history, {Ran(false)}).what, AfterTurn::kContinue);
}

TEST(AfterTurnTest, WithoutChecksTheClaimDoneIsUnverified) {
  AgentHistory history = WithGoal({});
  EXPECT_EQ(Decide(history).what, AfterTurn::kContinue);
  history.Put(GoalChanged{.claim = "done"});
  EXPECT_EQ(Decide(history).what, AfterTurn::kFinishedUnverified);
}

TEST(AfterTurnTest, WithoutChecksAndGoalToolTheEndOfTheTurnIsTheEnd) {
  AgentHistory history = WithGoal({}, {"bash@1"});
  EXPECT_EQ(Decide(history).what, AfterTurn::kFinishedUnverified);
  AgentHistory checked = WithGoal({.checks = {{.command = "make test"}}}, {"bash@1"});
  const TurnDecision decision = Decide(checked, {Ran(false)});
  EXPECT_EQ(decision.what, AfterTurn::kContinue);
  EXPECT_EQ(decision.notice.find("goal tool"), std::string::npos);
}

TEST(AfterTurnTest, IdleTurnsBackOffFromFiveSecondsAndEndInAPause) {
  AgentHistory history = WithGoal({});
  const std::vector<int64_t> delays = {0, 5'000, 10'000, 20'000, 40'000, 80'000, 160'000};
  for (const int64_t delay_ms : delays) {
    history.Turns(1);
    const TurnDecision decision = Decide(history);
    EXPECT_EQ(decision.what, AfterTurn::kContinue);
    EXPECT_EQ(decision.delay_ms, delay_ms);
  }
  history.Turns(1);
  EXPECT_EQ(Decide(history), (TurnDecision{.what = AfterTurn::kPause, .reason = "NO_PROGRESS"}));
  history.Put(NoteTaken{.text = "n"});
  EXPECT_EQ(Decide(history).delay_ms, 0);
}

TEST(AfterTurnTest, ModelIsToldThatItChangesNothing) {
  AgentHistory history = WithGoal({});
  history.Turns(1);
  EXPECT_EQ(Decide(history).notice.find("changed nothing"), std::string::npos);
  history.Turns(1);
  EXPECT_NE(Decide(history).notice.find("Your last 2 turns have changed nothing"), std::string::npos);
}

TEST(AfterTurnTest, FailingCheckThatPrintsSomethingElseIsNoProgress) {
  AgentHistory history = WithGoal({.checks = {{.command = "make test"}}});
  for (int i = 0; i < 8; ++i) {
    history.Turns(1);
    history.Put(Ran(false, std::to_string(i)));
  }
  EXPECT_EQ(Decide(history, {Ran(false, "7")}).reason, "NO_PROGRESS");
}

TEST(AfterTurnTest, ExhaustedBudgetPausesUnlessTheChecksPass) {
  AgentHistory history = WithGoal({.checks = {{.command = "make test"}}, .budgets = {.tokens = 10}});
  history.Tokens(10);
  EXPECT_EQ(Decide(history).what, AfterTurn::kRunChecks);
  EXPECT_EQ(Decide(history, {Ran(true)}).what, AfterTurn::kSucceeded);
  EXPECT_EQ(Decide(history, {Ran(false)}),
            (TurnDecision{.what = AfterTurn::kPause, .reason = "BUDGET_TOKENS"}));
}

TEST(AfterTurnTest, NoticeOfACheckIsBounded) {
  AgentHistory history = WithGoal({.checks = {{.command = "make test"}}});
  CheckRan huge = Ran(false, std::string(10 << 20, 'x'));
  huge.command = std::string(1 << 20, 'y');
  EXPECT_LT(Decide(history, {huge}).notice.size(), size_t{20} << 10);
}

TEST(WindowRuleTest, WindowMayNotFollowOneThatHeldNoWork) {
  AgentHistory history;
  history.Tokens(9'000, sessions::TokenOrigin::kFed);
  EXPECT_TRUE(MayBeginWindow(history.facts(), 10'000)) << "the first";
  history.Epoch(9'000);
  history.Tokens(499);
  EXPECT_FALSE(MayBeginWindow(history.facts(), 10'000));
  history.Tokens(1);
  EXPECT_TRUE(MayBeginWindow(history.facts(), 10'000));
}

TEST(WindowRuleTest, EndOfThePauseAllowsOneMoreWindow) {
  AgentHistory history;
  history.Epoch(9'000);
  history.State(sessions::SessionState::kPaused, "COMPACTION_THRASH");
  EXPECT_FALSE(MayBeginWindow(history.facts(), 10'000));
  history.State(sessions::SessionState::kRunning);
  EXPECT_TRUE(MayBeginWindow(history.facts(), 10'000));
  history.Epoch(9'000);
  EXPECT_FALSE(MayBeginWindow(history.facts(), 10'000));
}

TEST(WindowRuleTest, ReminderIsDueAfterSoManyTokensOfAnActiveGoal) {
  AgentHistory history = WithGoal({});
  history.Tokens(10, sessions::TokenOrigin::kFed);
  history.Tokens(999);
  EXPECT_FALSE(ReminderDue(history.facts()).has_value());
  history.Tokens(1);
  const auto reminder = ReminderDue(history.facts());
  ASSERT_TRUE(reminder.has_value());
  EXPECT_EQ(reminder->kind, InputKind::kReminder);
  EXPECT_FALSE(reminder->text.empty());
  history.Add(*reminder);
  EXPECT_FALSE(ReminderDue(history.facts()).has_value());
  history.Tokens(1'000);
  EXPECT_TRUE(ReminderDue(history.facts()).has_value());
  history.Put(GoalChanged{.state = GoalState::kSucceeded});
  EXPECT_FALSE(ReminderDue(history.facts()).has_value());
}

TEST(WindowRuleTest, ProfileWithoutRemindersHasNone) {
  AgentHistory history;
  ProfileSet profile = ProfileWith({"goal@1"});
  profile.reminder_tokens = 0;
  history.Put(profile);
  history.Put(GoalSet{.text = "g"});
  history.Tokens(1);
  history.Tokens(100'000);
  EXPECT_FALSE(ReminderDue(history.facts()).has_value());
}

TEST(WindowRuleTest, NotesAreAskedForOnceInAnEpochAtEightyPercent) {
  AgentHistory history = WithGoal({});
  history.Tokens(7'999);
  EXPECT_FALSE(NoteRequest(history.facts(), 10'000).has_value());
  history.Tokens(1);
  const auto request = NoteRequest(history.facts(), 10'000);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->kind, InputKind::kNotice);
  history.Add(*request);
  EXPECT_FALSE(NoteRequest(history.facts(), 10'000).has_value());
  history.Epoch(8'000);
  EXPECT_TRUE(NoteRequest(history.facts(), 10'000).has_value());
}

TEST(WindowRuleTest, NotesAreNotAskedForWithoutTheToolOrTheTokens) {
  AgentHistory no_tool = WithGoal({}, {"goal@1"});
  no_tool.Tokens(9'000);
  EXPECT_FALSE(NoteRequest(no_tool.facts(), 10'000).has_value());
  AgentHistory poor = WithGoal({.budgets = {.tokens = 10'000}});
  poor.Tokens(9'000);
  EXPECT_FALSE(NoteRequest(poor.facts(), 10'000).has_value());
}

}  // namespace
}  // namespace holdfast::agent
