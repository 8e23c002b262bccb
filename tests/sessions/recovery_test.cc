#include "sessions/recovery.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sessions/session_facts.h"
#include "tests/support/seeded_random.h"

namespace holdfast::sessions {
namespace {

using test::SeededRandom;
using test::TestSeeds;

base::Sha256Digest Digest(uint64_t n) {
  base::Sha256Digest digest = {};
  for (size_t i = 0; i < 8; ++i) digest[i] = static_cast<std::byte>(n >> (8 * i));
  return digest;
}

// Facts with a convenient way to append.
class History {
 public:
  History() { Add(SessionCreated{}); }
  void Add(EventBody body) {
    events_.push_back({.seq = events_.size() + 1, .body = std::move(body)});
    const base::Status status = facts_.Apply(events_.back());
    ASSERT_TRUE(status.ok()) << status;
  }
  base::Status Try(EventBody body) {
    SessionFacts copy = facts_;
    return copy.Apply({.seq = events_.size() + 1, .body = std::move(body)});
  }
  void Begin(const std::string& call, CallEffect effect, bool contained,
             std::optional<base::Sha256Digest> before = {}, int64_t client_deadline = 0) {
    Add(CallIntent{.call = call,
                   .tool = "bash@2",
                   .effect = effect,
                   .contained = contained,
                   .workspace_before = before,
                   .client_deadline_utc_ms = client_deadline});
  }
  void Running() { Add(StateChanged{.state = SessionState::kRunning}); }
  const SessionFacts& facts() const { return facts_; }
  const std::vector<Event>& events() const { return events_; }
  RecoveryPlan Recover(const RecoveryOptions& options = {}) {
    RecoveryPlan plan = PlanRecovery(facts_, options);
    for (const EventBody& body : plan.append) Add(body);
    return plan;
  }

 private:
  std::vector<Event> events_;
  SessionFacts facts_;
};

TEST(SessionFactsTest, FirstEventMustBeTheCreation) {
  SessionFacts facts;
  EXPECT_TRUE(absl::IsDataLoss(facts.Apply({.seq = 1, .body = TurnFinished{}})));
  EXPECT_TRUE(facts.Apply({.seq = 1, .body = SessionCreated{}}).ok());
  EXPECT_TRUE(absl::IsDataLoss(facts.Apply({.seq = 1, .body = TurnFinished{}})));
}

TEST(SessionFactsTest, ContradictionsAreRefusedAndChangeNothing) {
  History history;
  history.Begin("c1", CallEffect::kEffectful, true);
  history.Add(ApprovalRequested{.call = "c2", .action = Digest(1)});
  history.Add(TimerSet{.timer = "t1"});
  const std::vector<EventBody> bad = {
      CallIntent{.call = "c1", .effect = CallEffect::kReadOnly},
      CallIntent{.call = "c3"},
      CallOutcome{.call = "c9"},
      ApprovalRequested{.call = "c2"},
      ApprovalResolved{.call = "c2", .action = Digest(2)},
      ApprovalResolved{.call = "c1"},
      TimerSet{.timer = "t1"},
      TimerEnded{.timer = "t2"},
      TokenRun{.position = 1, .ids = {1}},
  };
  for (const EventBody& body : bad) {
    EXPECT_TRUE(absl::IsDataLoss(history.Try(body))) << KindName(KindOf(body));
  }
  history.Add(CallOutcome{.call = "c1"});
  EXPECT_TRUE(absl::IsDataLoss(history.Try(CallOutcome{.call = "c1"}))) << "a second outcome";
  EXPECT_TRUE(absl::IsDataLoss(history.Try(CallIntent{.call = "c1"}))) << "the name is used";
}

TEST(SessionFactsTest, ApprovalIsForOneActionAndOnce) {
  History history;
  history.Add(ApprovalRequested{.call = "c1", .action = Digest(1)});
  EXPECT_EQ(history.facts().AnswerTo("c1", Digest(1)), std::nullopt);
  history.Add(ApprovalResolved{.call = "c1", .action = Digest(1), .allowed = true, .request_id = "r"});
  EXPECT_EQ(history.facts().AnswerTo("c1", Digest(1)), true);
  EXPECT_EQ(history.facts().AnswerTo("c1", Digest(2)), std::nullopt);
  EXPECT_EQ(history.facts().AnswerTo("c2", Digest(1)), std::nullopt);
  history.Begin("c1", CallEffect::kEffectful, false);
  EXPECT_EQ(history.facts().AnswerTo("c1", Digest(1)), std::nullopt);
}

TEST(SessionFactsTest, InputsAndOutcomesAreUntoldUntilRendered) {
  History history;                                                        // 1
  history.Add(InputReceived{.request_id = "a", .text = "do X"});          // 2
  history.Begin("c1", CallEffect::kReadOnly, true);                       // 3
  history.Add(CallOutcome{.call = "c1"});                                 // 4
  history.Add(InputReceived{.kind = InputKind::kInterrupt, .text = ""});  // 5
  EXPECT_EQ(history.facts().untold(), (std::deque<uint64_t>{2, 4}));
  history.Add(TokenRun{.ids = {1, 2}, .rendered = {2}});
  EXPECT_EQ(history.facts().untold(), (std::deque<uint64_t>{4}));
  EXPECT_EQ(history.facts().FindRequest("a")->seq, 2u);
  EXPECT_EQ(history.facts().FindRequest("b"), std::nullopt);
}

TEST(RecoveryTest, SessionWithNothingOpenNeedsNothing) {
  History history;
  EXPECT_TRUE(PlanRecovery(history.facts(), {}).append.empty());
  history.Add(StateChanged{.state = SessionState::kWaiting, .wait = WaitFor::kTimer});
  EXPECT_TRUE(PlanRecovery(history.facts(), {}).append.empty());
  history.Add(StateChanged{.state = SessionState::kClosed});
  EXPECT_TRUE(PlanRecovery(history.facts(), {}).append.empty());
}

TEST(RecoveryTest, ContainedCallRunsAgainOnTheFilesItBeganWith) {
  History history;
  history.Running();
  history.Begin("c1", CallEffect::kEffectful, true, Digest(5));
  const RecoveryPlan plan = history.Recover({.generation = 3, .workspace_found = Digest(9)});
  EXPECT_EQ(plan.run_again, (std::vector<std::string>{"c1"}));
  EXPECT_EQ(plan.workspace, Digest(5));
  ASSERT_EQ(plan.append.size(), 1u);
  EXPECT_EQ(std::get<Recovered>(plan.append[0]).generation, 3u);
  EXPECT_EQ(history.facts().open_calls().size(), 1u);
}

TEST(RecoveryTest, HarmlessCallsRunAgain) {
  History history;
  history.Running();
  history.Begin("c1", CallEffect::kReadOnly, false);
  history.Begin("c2", CallEffect::kIdempotent, false);
  EXPECT_EQ(history.Recover().run_again, (std::vector<std::string>{"c1", "c2"}));
}

TEST(RecoveryTest, OtherCallIsUnknownOnceAndKeepsWhatItLeft) {
  History history;
  history.Running();
  history.Begin("c1", CallEffect::kEffectful, false, Digest(5));
  const RecoveryPlan plan = history.Recover({.workspace_found = Digest(9)});
  EXPECT_TRUE(plan.run_again.empty());
  ASSERT_EQ(plan.append.size(), 2u);
  EXPECT_EQ(std::get<CallOutcome>(plan.append[0]).status, CallStatus::kUnknown);
  EXPECT_EQ(plan.workspace, Digest(9));
  EXPECT_EQ(history.facts().workspace(), Digest(9));
  const RecoveryPlan again = history.Recover();
  EXPECT_TRUE(std::none_of(again.append.begin(), again.append.end(),
                           [](const EventBody& b) { return std::holds_alternative<CallOutcome>(b); }));
}

TEST(RecoveryTest, ClientKeepsItsCallUntilTheDeadline) {
  History history;
  history.Add(StateChanged{.state = SessionState::kWaiting, .wait = WaitFor::kClient});
  history.Begin("c1", CallEffect::kEffectful, false, {}, 1000);
  const RecoveryPlan before = PlanRecovery(history.facts(), {.now_utc_ms = 999});
  EXPECT_TRUE(before.append.empty());
  EXPECT_TRUE(before.run_again.empty());
  const RecoveryPlan after =
      PlanRecovery(history.facts(), {.now_utc_ms = 1000, .workspace_found = Digest(9)});
  ASSERT_FALSE(after.append.empty());
  const auto& outcome = std::get<CallOutcome>(after.append[0]);
  EXPECT_EQ(outcome.status, CallStatus::kUnknown);
  EXPECT_NE(outcome.text.find("no answer before its deadline"), std::string::npos);
  EXPECT_FALSE(outcome.workspace_after.has_value());  // a client reaches no layer
}

TEST(RecoveryTest, WaitForAProcessEndsAsLost) {
  History history;
  history.Add(StateChanged{.state = SessionState::kWaiting, .wait = WaitFor::kProcess});
  history.Recover();
  EXPECT_EQ(history.facts().state(), SessionState::kRunning);
}

TEST(RecoveryTest, SessionThatOnlyRecoversIsPausedAndStaysSo) {
  History history;
  history.Running();
  history.Begin("c1", CallEffect::kEffectful, true, Digest(1));
  const RecoveryOptions options = {.fruitless_recoveries_max = 3};
  EXPECT_EQ(history.Recover(options).run_again.size(), 1u);
  EXPECT_EQ(history.Recover(options).run_again.size(), 1u);
  EXPECT_TRUE(history.Recover(options).run_again.empty());
  EXPECT_EQ(history.facts().state(), SessionState::kPaused);
  EXPECT_EQ(history.facts().state_reason(), "RECOVERY_LOOP");
  EXPECT_TRUE(history.Recover(options).append.empty());
}

TEST(RecoveryTest, SampledTokenEndsTheCountOfRecoveries) {
  History history;
  history.Running();
  history.Recover();
  history.Recover();
  EXPECT_EQ(history.facts().fruitless_recoveries(), 2u);
  history.Add(TokenRun{.origin = TokenOrigin::kSampled, .ids = {1}, .sampling = Sampling{}});
  EXPECT_EQ(history.facts().fruitless_recoveries(), 0u);
}

// Any sequence of events that the rules permit.
class RandomSession {
 public:
  explicit RandomSession(uint64_t seed) : random_(seed) {}

  void Step(History& history) {
    const SessionFacts& facts = history.facts();
    switch (random_.Below(8)) {
      case 0:
        return Tokens(history, TokenOrigin::kSampled);
      case 1:
        return Tokens(history, TokenOrigin::kFed);
      case 2: {
        const bool alone =
            std::none_of(facts.open_calls().begin(), facts.open_calls().end(),
                         [](const OpenCall& open) { return open.intent.effect == CallEffect::kEffectful; });
        const auto effect = static_cast<CallEffect>(1 + random_.Below(alone ? 3 : 2));
        const int64_t deadline = random_.Percent(15) ? random_.Between(1, 2000) : 0;
        return history.Begin(
            "c" + std::to_string(++calls_), effect, random_.Percent(50),
            effect == CallEffect::kEffectful ? std::optional(Digest(random_.Below(50))) : std::nullopt,
            deadline);
      }
      case 3: {
        if (facts.open_calls().empty()) return;
        const size_t which = random_.Below(facts.open_calls().size());
        return history.Add(CallOutcome{.call = facts.open_calls()[which].intent.call,
                                       .workspace_after = Digest(random_.Below(50))});
      }
      case 4: {
        const auto state = static_cast<SessionState>(1 + random_.Below(5));
        const auto wait =
            state == SessionState::kWaiting ? static_cast<WaitFor>(1 + random_.Below(6)) : WaitFor::kNothing;
        return history.Add(StateChanged{.state = state, .wait = wait});
      }
      case 5:
        return history.Add(InputReceived{.request_id = "r" + std::to_string(random_.Below(9))});
      case 6:
        return history.Add(EpochStarted{.epoch = facts.tokens().epoch() + 1});
      default: {
        const int64_t end = facts.tokens().position();
        if (end == 0) return;
        const int64_t to = random_.Between(0, end - 1);
        return history.Add(TokensCut{.position = to, .count = end - to});
      }
    }
  }

 private:
  void Tokens(History& history, TokenOrigin origin) {
    TokenRun run{.position = history.facts().tokens().position(), .origin = origin};
    for (uint64_t i = 0; i <= random_.Below(5); ++i)
      run.ids.push_back(static_cast<int32_t>(random_.Below(99)));
    if (origin == TokenOrigin::kSampled) run.sampling = Sampling{};
    const auto& untold = history.facts().untold();
    if (origin == TokenOrigin::kFed && !untold.empty()) run.rendered = {untold.front()};
    history.Add(std::move(run));
  }

  SeededRandom random_;
  uint64_t calls_ = 0;
};

// After recovery from every prefix: what is open runs again or is with its client, nothing is both ended and
// open, RUNNING is what the new lease covers, and doing it again adds no outcome and changes no file.
TEST(RecoveryTest, EveryPrefixRecovers) {
  for (const uint64_t seed : TestSeeds(60)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    RandomSession session(seed);
    History history;
    for (int step = 0; step < 80; ++step) {
      session.Step(history);
      ASSERT_FALSE(testing::Test::HasFailure());
      History crashed = history;
      const RecoveryOptions options = {.generation = 2, .now_utc_ms = 1000, .workspace_found = Digest(777)};
      const RecoveryPlan plan = crashed.Recover(options);
      ASSERT_FALSE(testing::Test::HasFailure());
      const SessionFacts& after = crashed.facts();
      if (after.state() != SessionState::kPaused && after.state() != SessionState::kClosed) {
        std::vector<std::string> expected;
        for (const OpenCall& open : after.open_calls()) {
          if (open.intent.client_deadline_utc_ms <= options.now_utc_ms) expected.push_back(open.intent.call);
        }
        ASSERT_EQ(plan.run_again, expected);
      } else {
        ASSERT_TRUE(plan.run_again.empty());
      }
      History twice = crashed;
      const RecoveryPlan again = twice.Recover(options);
      if (after.state() != SessionState::kPaused) {
        ASSERT_EQ(again.workspace, plan.workspace);
      }
      for (const EventBody& body : again.append) ASSERT_FALSE(std::holds_alternative<CallOutcome>(body));
    }
  }
}

}  // namespace
}  // namespace holdfast::sessions
