#include "agent/agent_facts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "tests/agent/agent_history_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::agent {
namespace {

using sessions::InputKind;
using sessions::SessionState;
using test::SeededRandom;
using test::TestSeeds;

constexpr int64_t kMinute = 60'000;

PlanItem Item(const std::string& text, const std::string& state) { return {.text = text, .state = state}; }

TEST(AgentFactsTest, BeginWithNothing) {
  const AgentFacts facts;
  EXPECT_FALSE(facts.profile().has_value());
  EXPECT_FALSE(facts.goal().has_value());
  EXPECT_EQ(facts.used(), Used());
  EXPECT_EQ(facts.repeats(), 0);
  EXPECT_EQ(facts.idle_turns(), 0);
  EXPECT_EQ(facts.last_seq(), 0u);
}

TEST(AgentFactsTest, GoalIsCountedFromWhereItWasSet) {
  AgentHistory history;
  history.Tokens(100);
  history.Call("a", "x");
  history.State(SessionState::kRunning);
  history.Put(GoalSet{.text = "g", .budgets = {.tokens = 5}}, 1'000);
  EXPECT_EQ(history.facts().used(), Used());
  history.Tokens(10, sessions::TokenOrigin::kFed);
  history.Tokens(20);
  history.Tokens(3, sessions::TokenOrigin::kForced);
  history.Call("a", "x");
  history.State(SessionState::kIdle, "", 250);
  EXPECT_EQ(history.facts().used(), (Used{.tokens = 33, .running_ms = 250, .calls = 1}));
  EXPECT_EQ(history.facts().budgets().tokens, 5);
}

TEST(AgentFactsTest, OnlyTimeWhileRunningIsCounted) {
  AgentHistory history;
  history.Put(GoalSet{.text = "g"});
  history.State(SessionState::kWaiting, "", 5 * kMinute);
  history.State(SessionState::kRunning, "", 5 * kMinute);
  history.Turns(1);
  history.State(SessionState::kPaused, "", 3 * kMinute);
  history.State(SessionState::kIdle, "", 100 * kMinute);
  EXPECT_EQ(history.facts().used().running_ms, 3 * kMinute);
}

TEST(AgentFactsTest, OneGapCountsAtMostElevenMinutesAndNeverBackwards) {
  AgentHistory history;
  history.Put(GoalSet{.text = "g"});
  history.State(SessionState::kRunning);
  history.State(SessionState::kRunning, "", 500 * kMinute);
  EXPECT_EQ(history.facts().used().running_ms, kGapMsMax);
  history.State(SessionState::kRunning, "", -90 * kMinute);
  EXPECT_EQ(history.facts().used().running_ms, kGapMsMax);
}

TEST(AgentFactsTest, TimeBeforeRecoveryRewindAndForkIsNotCounted) {
  AgentHistory history;
  history.Put(GoalSet{.text = "g"});
  history.State(SessionState::kRunning);
  history.Add(sessions::Recovered{.generation = 2}, kMinute);
  history.Add(sessions::Rewound{.to_seq = 2}, kMinute);
  history.Add(sessions::SessionCreated{}, kMinute);
  EXPECT_EQ(history.facts().used().running_ms, 0);
  history.Turns(1);
  history.State(SessionState::kIdle, "", 7);
  EXPECT_EQ(history.facts().used().running_ms, 7);
}

TEST(AgentFactsTest, TimesFromAnywhereDoNotOverflow) {
  AgentFacts facts;
  facts.Apply(
      {.seq = 1, .utc_ms = INT64_MIN, .body = sessions::StateChanged{.state = SessionState::kRunning}});
  facts.Apply({.seq = 2, .utc_ms = INT64_MIN, .body = Encode(WaitSet{.signal = "s"})});
  facts.Apply({.seq = 3, .utc_ms = INT64_MAX, .body = Encode(WaitEnded{.why = "time"})});
  EXPECT_EQ(facts.used().running_ms, kGapMsMax);
}

TEST(AgentFactsTest, ForkGoesOnWithWhatTheParentHad) {
  AgentHistory history;
  history.Add(sessions::SessionCreated{});
  history.Put(GoalSet{.text = "g"});
  history.Put(PlanSet{.items = {Item("a", "done")}});
  history.Tokens(10);
  history.Turns(3);
  const AgentFacts before = history.facts();
  history.Add(sessions::SessionCreated{.parent = sessions::SessionUid{}, .parent_seq = 5});
  EXPECT_EQ(history.facts().goal(), before.goal());
  EXPECT_EQ(history.facts().plan(), before.plan());
  EXPECT_EQ(history.facts().used(), before.used());
  EXPECT_EQ(history.facts().idle_turns(), before.idle_turns());
}

TEST(AgentFactsTest, ClaimChangesNoStateAndALateOneBringsNoGoalBack) {
  AgentHistory history;
  history.Put(GoalSet{.text = "g"});
  history.Put(GoalChanged{.state = GoalState::kCancelled});
  history.Put(GoalChanged{.state = GoalState::kActive, .claim = "done", .evidence = "e"});
  EXPECT_EQ(history.facts().goal_state(), GoalState::kCancelled);
  EXPECT_EQ(history.facts().claim(), "done");
  EXPECT_EQ(history.facts().evidence(), "e");
}

TEST(AgentFactsTest, ClaimIsForgottenWhenAPersonSpeaksOrTheGoalIsTakenUpAgain) {
  const auto claimed = [] {
    AgentHistory history;
    history.Put(GoalSet{.text = "g"});
    history.Put(GoalChanged{.claim = "blocked"});
    return history;
  };
  for (const InputKind kind : {InputKind::kMessage, InputKind::kSteer}) {
    AgentHistory history = claimed();
    history.Say(kind);
    EXPECT_EQ(history.facts().claim(), "");
  }
  for (const InputKind kind : {InputKind::kNotice, InputKind::kReminder, InputKind::kInterrupt}) {
    AgentHistory history = claimed();
    history.Say(kind);
    EXPECT_EQ(history.facts().claim(), "blocked");
  }
  AgentHistory history = claimed();
  history.Put(GoalChanged{.state = GoalState::kWaiting});
  history.Put(GoalChanged{.state = GoalState::kActive});
  EXPECT_EQ(history.facts().claim(), "blocked");
  history.Put(GoalChanged{.state = GoalState::kPaused, .reason = "BLOCKED"});
  EXPECT_EQ(history.facts().goal_reason(), "BLOCKED");
  history.Put(GoalChanged{.state = GoalState::kActive});
  EXPECT_EQ(history.facts().claim(), "");
  history.Put(GoalChanged{.claim = "failed"});
  history.Put(GoalChanged{.state = GoalState::kFailed});
  history.Put(GoalChanged{.state = GoalState::kActive});
  EXPECT_EQ(history.facts().claim(), "");
}

TEST(AgentFactsTest, DoneItemStaysDoneWhenOmittedReopenedOrDropped) {
  AgentHistory history;
  history.Put(
      PlanSet{.items = {Item("a", "done"), Item("b", "done"), Item("c", "done"), Item("d", "active")}});
  history.Put(PlanSet{.items = {Item("d", "pending"), Item("b", "pending"), Item("c", "dropped")}});
  EXPECT_EQ(history.facts().plan(),
            (std::vector{Item("a", "done"), Item("d", "pending"), Item("b", "done"), Item("c", "done")}));
  history.Put(PlanSet{});
  EXPECT_EQ(history.facts().plan(), (std::vector{Item("a", "done"), Item("b", "done"), Item("c", "done")}));
}

TEST(AgentFactsTest, ItemNamedTwiceIsOne) {
  AgentHistory history;
  history.Put(PlanSet{.items = {Item("a", "pending"), Item("b", "pending"), Item("a", "done")}});
  EXPECT_EQ(history.facts().plan(), (std::vector{Item("a", "done"), Item("b", "pending")}));
}

TEST(AgentFactsTest, AnotherGoalBeginsWithoutPlanAndChecks) {
  AgentHistory history;
  history.Put(GoalSet{.text = "g"});
  history.Put(PlanSet{.items = {Item("a", "done")}});
  history.Put(CheckRan{.command = "true", .when = "end", .passed = true});
  history.Put(GoalSet{.text = "g", .checks = {{.command = "true"}}});
  EXPECT_EQ(history.facts().plan().size(), 1u);
  EXPECT_TRUE(history.facts().checks().empty());
  history.Put(GoalSet{.text = "h"});
  EXPECT_TRUE(history.facts().plan().empty());
}

TEST(AgentFactsTest, NoteIsKeptOnce) {
  AgentHistory history;
  history.Put(NoteTaken{.text = "n"});
  history.Put(NoteTaken{.text = "m"});
  history.Put(NoteTaken{.text = "n"});
  EXPECT_EQ(history.facts().notes(), (std::vector<Note>{{.seq = 1, .text = "n"}, {.seq = 2, .text = "m"}}));
}

TEST(AgentFactsTest, LastResultOfEachCheckIsKept) {
  AgentHistory history;
  history.Put(CheckRan{.command = "a", .when = "start", .passed = false});
  history.Put(CheckRan{.command = "a", .when = "end", .passed = false, .text = "1"});
  history.Put(CheckRan{.command = "a", .when = "end", .passed = false, .text = "2"});
  ASSERT_EQ(history.facts().checks().size(), 2u);
  EXPECT_EQ(history.facts().checks()[1].text, "2");
}

TEST(AgentFactsTest, OtherBoundsAreWarnedOfAnew) {
  AgentHistory history;
  history.Put(GoalSet{.text = "g"});
  history.Put(BudgetWarned{.which = "tokens"});
  history.Put(BudgetWarned{.which = "calls"});
  Budgets more;
  more.tokens *= 2;
  history.Put(BudgetsSet{.budgets = more});
  EXPECT_FALSE(history.facts().Warned("tokens"));
  EXPECT_TRUE(history.facts().Warned("calls"));
  EXPECT_EQ(history.facts().budgets(), more);
}

TEST(AgentFactsTest, SameCallWithSameResultRepeats) {
  AgentHistory history;
  history.Call("a", "x");
  EXPECT_EQ(history.facts().repeats(), 1);
  history.Call("b", "x");
  EXPECT_EQ(history.facts().repeats(), 1);
  history.Call("a", "x");
  EXPECT_EQ(history.facts().repeats(), 2);
  history.Call("a", "y");  // polling
  EXPECT_EQ(history.facts().repeats(), 1);
  history.Call("a", "x", "", sessions::CallStatus::kFailed);
  EXPECT_EQ(history.facts().repeats(), 1);
  history.Call("a", "x");
  EXPECT_EQ(history.facts().repeats(), 3);
}

TEST(AgentFactsTest, OutcomeWithoutIntentIsNoCall) {
  AgentHistory history;
  history.Add(sessions::CallOutcome{.call = "c"});
  EXPECT_EQ(history.facts().repeats(), 0);
}

TEST(AgentFactsTest, RepeatsEndWhenAnythingChanges) {
  const auto repeats_after = [](auto change) {
    AgentHistory history;
    history.Put(PlanSet{.items = {Item("p", "pending"), Item("q", "pending")}});
    history.Put(NoteTaken{.text = "n"});
    for (int i = 0; i < 3; ++i) history.Call("a", "x", "m");
    change(history);
    return history.facts().repeats();
  };
  EXPECT_EQ(repeats_after([](AgentHistory&) {}), 3);
  EXPECT_EQ(repeats_after([](AgentHistory& h) { h.Say(InputKind::kMessage); }), 0);
  EXPECT_EQ(repeats_after([](AgentHistory& h) { h.Say(InputKind::kSteer); }), 0);
  EXPECT_EQ(repeats_after([](AgentHistory& h) { h.Say(InputKind::kNotice); }), 3);
  EXPECT_EQ(repeats_after([](AgentHistory& h) { h.Call("a", "x", "m2"); }), 1);
  EXPECT_EQ(repeats_after([](AgentHistory& h) { h.Call("a", "x", "m"); }), 4);
  EXPECT_EQ(repeats_after(
                [](AgentHistory& h) { h.Add(sessions::WorkspaceChanged{.manifest = DigestOf("other")}); }),
            0);
  EXPECT_EQ(repeats_after([](AgentHistory& h) {
              h.Add(sessions::CallIntent{.call = "z", .workspace_before = DigestOf("other")});
            }),
            0);
  EXPECT_EQ(repeats_after([](AgentHistory& h) { h.Put(PlanSet{.items = {Item("p", "active")}}); }), 0);
  EXPECT_EQ(repeats_after([](AgentHistory& h) {
              h.Put(PlanSet{.items = {Item("q", "pending"), Item("p", "pending")}});
            }),
            3)
      << "another order is no other plan";
  EXPECT_EQ(repeats_after([](AgentHistory& h) { h.Put(NoteTaken{.text = "new"}); }), 3);
  EXPECT_EQ(repeats_after([](AgentHistory& h) { h.Turns(2); }), 3);
}

TEST(AgentFactsTest, RepeatsEndWithTheWaitForSomethingOrALongOne) {
  const auto repeats_after = [](const std::string& why, int64_t ms) {
    AgentHistory history;
    for (int i = 0; i < 3; ++i) history.Call("a", "x");
    history.Turns(3);
    history.Put(WaitSet{.signal = "s"});
    history.Put(WaitEnded{.why = why}, ms);
    EXPECT_FALSE(history.facts().wait().has_value());
    return std::pair(history.facts().repeats(), history.facts().idle_turns());
  };
  EXPECT_EQ(repeats_after("process", 1), std::pair(0, 0));
  EXPECT_EQ(repeats_after("file", 1), std::pair(0, 0));
  EXPECT_EQ(repeats_after("signal", 1), std::pair(0, 0));
  EXPECT_EQ(repeats_after("time", kPatientWaitMs - 1), std::pair(3, 3));
  EXPECT_EQ(repeats_after("time", kPatientWaitMs), std::pair(0, 3));
  EXPECT_EQ(repeats_after("lost", 1), std::pair(3, 3));
}

TEST(AgentFactsTest, EndOfAPauseGivesTheTriesAgainThatItWasFor) {
  for (const bool by_goal : {true, false}) {
    AgentHistory history;
    history.Put(GoalSet{.text = "g"});
    for (int i = 0; i < 5; ++i) history.Call("a", "x");
    history.Turns(8);
    const auto pause_and_resume = [&](const std::string& reason) {
      if (by_goal) {
        history.Put(GoalChanged{.state = GoalState::kPaused, .reason = reason});
        history.Put(GoalChanged{.state = GoalState::kActive});
      } else {
        history.State(SessionState::kPaused, reason);
        history.State(SessionState::kRunning);
      }
    };
    pause_and_resume("STORAGE");
    EXPECT_EQ(history.facts().repeats(), 5);
    EXPECT_EQ(history.facts().idle_turns(), 8);
    pause_and_resume("REPEATING");
    EXPECT_EQ(history.facts().repeats(), 0);
    EXPECT_EQ(history.facts().idle_turns(), 8);
    pause_and_resume("NO_PROGRESS");
    EXPECT_EQ(history.facts().idle_turns(), 0);
  }
}

TEST(AgentFactsTest, ManyDifferentCallsAreTakenInBoundedMemory) {
  AgentHistory history;
  history.Call("again", "x");
  for (size_t i = 1; i < kCallsToldApartMax; ++i) history.Call(std::to_string(i), "x");
  history.Call("again", "x");
  EXPECT_EQ(history.facts().repeats(), 2);
  history.Call("one more", "x");
  history.Call("again", "x");
  EXPECT_EQ(history.facts().repeats(), 1);
}

TEST(AgentFactsTest, TurnsAreIdleUntilSomethingChanges) {
  const auto idle_after = [](auto change) {
    AgentHistory history;
    history.Put(GoalSet{.text = "g"});
    history.Put(NoteTaken{.text = "n"});
    history.Call("a", "x", "m");
    history.Put(CheckRan{.command = "c", .when = "end", .passed = false, .text = "1 failed in 0.1 s"});
    history.Turns(4);
    change(history);
    return history.facts().idle_turns();
  };
  EXPECT_EQ(idle_after([](AgentHistory&) {}), 4);
  EXPECT_EQ(idle_after([](AgentHistory& h) { h.Call("b", "y", "m"); }), 4);
  EXPECT_EQ(idle_after([](AgentHistory& h) { h.Call("b", "y", "m2"); }), 0);
  EXPECT_EQ(idle_after([](AgentHistory& h) { h.Put(NoteTaken{.text = "new"}); }), 0);
  EXPECT_EQ(idle_after([](AgentHistory& h) { h.Put(NoteTaken{.text = "n"}); }), 4);
  EXPECT_EQ(idle_after([](AgentHistory& h) { h.Put(PlanSet{.items = {Item("p", "pending")}}); }), 0);
  EXPECT_EQ(idle_after([](AgentHistory& h) { h.Put(PlanSet{}); }), 4);
  EXPECT_EQ(idle_after([](AgentHistory& h) { h.Say(InputKind::kSteer); }), 0);
  EXPECT_EQ(idle_after([](AgentHistory& h) { h.Say(InputKind::kReminder); }), 4);
  EXPECT_EQ(idle_after([](AgentHistory& h) {
              h.Put(CheckRan{.command = "c", .when = "end", .passed = false, .text = "1 failed in 0.2 s"});
            }),
            4);
  EXPECT_EQ(
      idle_after([](AgentHistory& h) { h.Put(CheckRan{.command = "c", .when = "end", .passed = true}); }), 0);
  EXPECT_EQ(
      idle_after([](AgentHistory& h) { h.Put(CheckRan{.command = "d", .when = "end", .passed = true}); }), 4)
      << "a first result is no change";
}

TEST(AgentFactsTest, TokensOfAnEpochAreThoseAfterItsOpening) {
  AgentHistory history;
  history.Put(Opening{.texts = {"g"}});
  history.Tokens(50, sessions::TokenOrigin::kFed);
  EXPECT_EQ(history.facts().tokens_in_epoch(), 0);
  history.Tokens(5);
  history.Tokens(6, sessions::TokenOrigin::kFed);
  EXPECT_EQ(history.facts().tokens_in_epoch(), 11);
  history.Epoch(40);
  EXPECT_EQ(history.facts().epoch(), 1u);
  EXPECT_EQ(history.facts().tokens_in_epoch(), 0);
  EXPECT_EQ(history.facts().window_tokens(), 40);
  history.Tokens(3);
  EXPECT_EQ(history.facts().tokens_in_epoch(), 3);
  history.Add(sessions::TokensCut{.position = 41, .count = 2});
  EXPECT_EQ(history.facts().window_tokens(), 41);
}

TEST(AgentFactsTest, GoalIsToldByOpeningAndReminder) {
  AgentHistory history;
  history.Tokens(10, sessions::TokenOrigin::kFed);
  history.Tokens(10);
  EXPECT_EQ(history.facts().tokens_since_goal_told(), 10);
  history.Say(InputKind::kReminder);
  EXPECT_EQ(history.facts().tokens_since_goal_told(), 0);
  history.Tokens(7);
  history.Epoch(100);
  EXPECT_EQ(history.facts().tokens_since_goal_told(), 0);
  history.Tokens(4);
  history.Put(GoalSet{.text = "g"});
  EXPECT_EQ(history.facts().tokens_since_goal_told(), 0);
}

TEST(AgentFactsTest, NoticesOfRulesAreKnownByTheirRequest) {
  AgentHistory history;
  history.Call("a", "x");
  history.Add(
      sessions::InputReceived{.kind = InputKind::kNotice, .request_id = std::string(kRepeatNoticeId) + "2"});
  EXPECT_TRUE(history.facts().told_of_repeats());
  EXPECT_FALSE(history.facts().note_requested());
  history.Add(
      sessions::InputReceived{.kind = InputKind::kNotice, .request_id = std::string(kNoteRequestId) + "0"});
  EXPECT_TRUE(history.facts().note_requested());
  history.Say(InputKind::kSteer);
  EXPECT_FALSE(history.facts().told_of_repeats());
  history.Epoch(10);
  EXPECT_FALSE(history.facts().note_requested());
}

TEST(AgentFactsTest, WhatCannotBeReadIsCountedAndMeansNothing) {
  AgentHistory history;
  history.Put(GoalSet{.text = "g"});
  history.Add(sessions::AgentEvent{.kind = sessions::kFirstAgentEvent + 1, .payload = "{\"text\": \"h\"}"});
  history.Add(sessions::AgentEvent{.kind = sessions::kFirstAgentEvent + 1, .payload = "\xff{"});
  history.Add(sessions::AgentEvent{.kind = 60'000, .payload = "of a later version"});
  EXPECT_EQ(history.facts().unreadable(), 2u);
  EXPECT_EQ(history.facts().goal()->text, "g");
}

// --- Against a plain recount of the whole history

// Recounts each fact from the list of events, looking back as far as it needs to.
class Recount {
 public:
  explicit Recount(std::span<const sessions::Event> events) : events_(events) {
    for (const sessions::Event& event : events) {
      const auto* agent = std::get_if<sessions::AgentEvent>(&event.body);
      auto body = agent == nullptr ? std::optional<AgentBody>() : Decode(*agent).value();
      bodies_.push_back(std::move(body));
    }
  }

  Used used() const {
    Used used;
    for (size_t i = SinceGoal(); i < events_.size(); ++i) {
      if (const auto* run = As<sessions::TokenRun>(i)) used.tokens += static_cast<int64_t>(run->ids.size());
      if (As<sessions::CallIntent>(i) != nullptr) ++used.calls;
      if (i == 0 || As<sessions::Recovered>(i) || As<sessions::Rewound>(i) ||
          As<sessions::SessionCreated>(i)) {
        continue;
      }
      const int64_t gap = events_[i].utc_ms - events_[i - 1].utc_ms;
      if (StateBefore(i) == SessionState::kRunning) used.running_ms += std::clamp<int64_t>(gap, 0, kGapMsMax);
    }
    return used;
  }

  int repeats() const {
    size_t reset = 0;
    size_t last = events_.size();  // outcome
    for (size_t i = 0; i < events_.size(); ++i) {
      if (ResetsRepeats(i)) reset = i, last = events_.size();
      if (As<sessions::CallOutcome>(i) != nullptr) last = i;
    }
    if (last == events_.size()) return 0;
    int same = 0;
    for (size_t i = reset; i <= last; ++i) {
      if (As<sessions::CallOutcome>(i) != nullptr && WhatHappened(i) == WhatHappened(last)) ++same;
    }
    return same;
  }

  int idle_turns() const {
    int turns = 0;
    for (size_t i = 0; i < events_.size(); ++i) {
      if (IsProgress(i)) turns = 0;
      if (As<sessions::TurnFinished>(i) != nullptr) ++turns;
    }
    return turns;
  }

  // State of each item, after the first `count` events.
  std::map<std::string, std::string> Plan(size_t count) const {
    std::set<std::string> done;
    std::map<std::string, std::string> plan;
    std::string goal;
    for (size_t i = 0; i < count; ++i) {
      if (const auto set = Agent<GoalSet>(i)) {
        if (!goal.empty() && goal != set->text) done.clear(), plan.clear();
        goal = set->text;
      }
      const auto set = Agent<PlanSet>(i);
      if (!set.has_value()) continue;
      plan.clear();
      for (const PlanItem& item : set->items) {
        plan[item.text] = item.state;
        if (item.state == "done") done.insert(item.text);
      }
      for (const std::string& text : done) plan[text] = "done";
    }
    return plan;
  }

  std::vector<std::string> notes() const {
    std::vector<std::string> notes;
    for (size_t i = 0; i < events_.size(); ++i) {
      if (IsNewNote(i)) notes.push_back(Agent<NoteTaken>(i)->text);
    }
    return notes;
  }

  int64_t tokens_in_epoch() const {
    int64_t tokens = 0;
    for (size_t i = 0; i < events_.size(); ++i) {
      if (As<sessions::EpochStarted>(i) != nullptr) tokens = 0;
      const auto* run = As<sessions::TokenRun>(i);
      if (run != nullptr && run->position > 0) tokens += static_cast<int64_t>(run->ids.size());
    }
    return tokens;
  }

 private:
  template <class T>
  const T* As(size_t i) const {
    return std::get_if<T>(&events_[i].body);
  }
  template <class T>
  std::optional<T> Agent(size_t i) const {
    const bool is = bodies_[i].has_value() && std::holds_alternative<T>(*bodies_[i]);
    return is ? std::optional(std::get<T>(*bodies_[i])) : std::nullopt;
  }

  // The first event that counts for the goal.
  size_t SinceGoal() const {
    for (size_t i = events_.size(); i-- > 0;) {
      if (Agent<GoalSet>(i).has_value()) return i + 1;
    }
    return 0;
  }

  SessionState StateBefore(size_t i) const {
    while (i-- > 0) {
      if (const auto* change = As<sessions::StateChanged>(i)) return change->state;
    }
    return SessionState::kIdle;
  }

  std::optional<base::Sha256Digest> ManifestAt(size_t i) const {
    if (const auto* intent = As<sessions::CallIntent>(i)) return intent->workspace_before;
    if (const auto* outcome = As<sessions::CallOutcome>(i)) return outcome->workspace_after;
    if (const auto* change = As<sessions::WorkspaceChanged>(i)) return change->manifest;
    return std::nullopt;
  }
  bool ChangesWorkspace(size_t i) const {
    const auto now = ManifestAt(i);
    if (!now.has_value()) return false;
    while (i-- > 0) {
      if (const auto before = ManifestAt(i); before.has_value()) return *before != *now;
    }
    return false;
  }

  bool IsNewNote(size_t i) const {
    const auto note = Agent<NoteTaken>(i);
    if (!note.has_value()) return false;
    for (size_t j = 0; j < i; ++j) {
      if (Agent<NoteTaken>(j) == note) return false;
    }
    return true;
  }

  bool FlipsCheck(size_t i) const {
    const auto ran = Agent<CheckRan>(i);
    if (!ran.has_value()) return false;
    while (i-- > 0 && !Agent<GoalSet>(i).has_value()) {
      const auto before = Agent<CheckRan>(i);
      if (before.has_value() && before->command == ran->command && before->when == ran->when) {
        return before->passed != ran->passed;
      }
    }
    return false;
  }

  // A wait that ends here; whether it got what it waited for, and how long it took.
  std::optional<std::pair<bool, int64_t>> EndOfWait(size_t i) const {
    const auto ended = Agent<WaitEnded>(i);
    const int64_t end = events_[i].utc_ms;
    while (ended.has_value() && i-- > 0 && !Agent<WaitEnded>(i).has_value()) {
      if (!Agent<WaitSet>(i).has_value()) continue;
      return std::pair(ended->why != "time" && ended->why != "lost", end - events_[i].utc_ms);
    }
    return std::nullopt;
  }

  bool EndsPause(size_t i, const std::string& reason) const {
    const auto* change = As<sessions::StateChanged>(i);
    if (change == nullptr || change->state == SessionState::kPaused) return false;
    while (i-- > 0) {
      const auto* before = As<sessions::StateChanged>(i);
      if (before != nullptr) return before->state == SessionState::kPaused && before->reason == reason;
    }
    return false;
  }

  // What ends both.
  bool ChangesAnything(size_t i) const {
    const auto* input = As<sessions::InputReceived>(i);
    const auto wait = EndOfWait(i);
    return (input != nullptr && (input->kind == InputKind::kMessage || input->kind == InputKind::kSteer)) ||
           ChangesWorkspace(i) || Agent<GoalSet>(i).has_value() || ChangesPlan(i) ||
           (wait.has_value() && wait->first);
  }
  bool ChangesPlan(size_t i) const { return Agent<PlanSet>(i).has_value() && Plan(i) != Plan(i + 1); }
  bool ResetsRepeats(size_t i) const {
    const auto wait = EndOfWait(i);
    return ChangesAnything(i) || (wait.has_value() && wait->second >= kPatientWaitMs) ||
           EndsPause(i, "REPEATING");
  }
  bool IsProgress(size_t i) const {
    return ChangesAnything(i) || IsNewNote(i) || FlipsCheck(i) || EndsPause(i, "NO_PROGRESS");
  }

  // Tool, arguments, status and text of a call, by its outcome.
  std::string WhatHappened(size_t i) const {
    const auto* outcome = As<sessions::CallOutcome>(i);
    for (size_t j = i; j-- > 0;) {
      const auto* intent = As<sessions::CallIntent>(j);
      if (intent == nullptr || intent->call != outcome->call) continue;
      return intent->tool + "|" + intent->arguments + "|" +
             std::to_string(static_cast<int>(outcome->status)) + "|" + outcome->text;
    }
    return "";
  }

  const std::span<const sessions::Event> events_;
  std::vector<std::optional<AgentBody>> bodies_;  // of each event
};

// Appends one event, or a few that belong together.
class Author {
 public:
  explicit Author(uint64_t seed) : random_(seed) { history_.Add(sessions::SessionCreated{}); }

  const AgentHistory& history() const { return history_; }

  void Write() {
    switch (random_.Below(17)) {
      case 0:
        return history_.Epoch(random_.Between(1, 30));
      case 1:
        return history_.State(static_cast<SessionState>(random_.Between(1, 4)),
                              Any({"REPEATING", "NO_PROGRESS", ""}), Gap());
      case 2:
        return history_.Say(static_cast<InputKind>(random_.Between(random_.Percent(20) ? 1 : 3, 6)));
      case 3:
        return history_.Add(sessions::Recovered{}, Gap());
      case 4:
        return random_.Percent(10) ? history_.Put(GoalSet{.text = Any({"g", "h"})}, Gap())
                                   : history_.Turns(1);
      case 5:
        return WritePlan();
      case 6:
        return history_.Put(NoteTaken{.text = std::to_string(random_.Below(20))}, Gap());
      case 7:
        return history_.Put(CheckRan{.command = Any({"a", "b"}),
                                     .when = Any({"start", "end"}),
                                     .passed = random_.Percent(50),
                                     .text = std::to_string(random_.Next())});
      case 8:
        history_.Put(WaitSet{.signal = "s"}, Gap());
        return history_.Put(WaitEnded{.why = Any({"time", "process", "file", "signal", "lost"})}, Gap());
      case 9:
        return history_.Add(sessions::WorkspaceChanged{.manifest = DigestOf(Any({"m", "n"}))});
      case 10:
        return history_.Turns(static_cast<int>(random_.Between(1, 4)));
      case 11:
        return history_.Add(sessions::TurnFinished{}, Gap());
      case 12:
        return random_.Percent(50) ? history_.Add(sessions::Rewound{}, Gap())
                                   : history_.Add(sessions::SessionCreated{}, Gap());
      case 13:
        return history_.Tokens(random_.Between(1, 40),
                               static_cast<sessions::TokenOrigin>(random_.Between(1, 3)));
      default:
        return history_.Call(Any({"1", "2"}), Any({"x", "x", "y"}),
                             random_.Percent(50) ? "" : Any({"m", "m", "m", "n"}),
                             random_.Percent(90) ? sessions::CallStatus::kOk : sessions::CallStatus::kFailed);
    }
  }

 private:
  std::string Any(std::vector<std::string> of) { return of[random_.Below(of.size())]; }
  int64_t Gap() {
    return random_.Percent(10) ? random_.Between(-kMinute, 20 * kMinute) : random_.Between(0, 999);
  }
  void WritePlan() {
    PlanSet set;
    for (const char* text : {"a", "b", "c", "d"}) {
      if (random_.Percent(60)) set.items.push_back(Item(text, Any({"pending", "active", "done", "dropped"})));
    }
    history_.Put(set);
  }

  SeededRandom random_;
  AgentHistory history_;
};

TEST(AgentFactsTest, EqualAPlainRecountOfAnyHistory) {
  int repeats_max = 0;
  int idle_max = 0;
  for (const uint64_t seed : TestSeeds(200)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    Author author(seed);
    for (int step = 0; step < 60; ++step) {
      author.Write();
      if (step % 6 != 5) continue;
      const AgentFacts& facts = author.history().facts();
      const Recount recount(author.history().events());
      std::map<std::string, std::string> plan;
      for (const PlanItem& item : facts.plan()) plan[item.text] = item.state;
      std::vector<std::string> notes;
      for (const Note& note : facts.notes()) notes.push_back(note.text);
      ASSERT_EQ(facts.used(), recount.used()) << "step " << step;
      ASSERT_EQ(facts.repeats(), recount.repeats()) << "step " << step;
      ASSERT_EQ(facts.idle_turns(), recount.idle_turns()) << "step " << step;
      ASSERT_EQ(plan, recount.Plan(author.history().events().size())) << "step " << step;
      ASSERT_EQ(plan.size(), facts.plan().size());
      ASSERT_EQ(notes, recount.notes()) << "step " << step;
      ASSERT_EQ(facts.tokens_in_epoch(), recount.tokens_in_epoch()) << "step " << step;
      repeats_max = std::max(repeats_max, facts.repeats());
      idle_max = std::max(idle_max, facts.idle_turns());
    }
  }
  // The histories come to where the rules act.
  EXPECT_GE(repeats_max, 3);
  EXPECT_GE(idle_max, 8);
}

}  // namespace
}  // namespace holdfast::agent
