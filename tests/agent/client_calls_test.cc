// Calls that a client of the session runs, on a simulated machine: what is open, how it ends, and that no
// crash loses or doubles it.
#include "agent/client_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "agent/agent_event.h"
#include "tests/agent/manager_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::agent {
namespace {

using sessions::CallIntent;
using sessions::CallOutcome;
using sessions::CallStatus;
using sessions::InputKind;
using sessions::SessionState;
using sessions::WaitFor;
using testing::HasSubstr;

constexpr int64_t kMinuteNs = 60 * base::kNsPerSecond;
constexpr char kOneText[] =
    R"({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})";

bool Has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

// A session whose client has a tool of each effect: "page", "set" and "ask".
NewSession WithClient(std::string message, std::optional<GoalSet> goal = {}) {
  NewSession session{.id = "s", .profile = ManagerWorld::Profile(), .seed = 7};
  session.profile.client_tools = {
      {.name = "page", .description = "d", .parameters = kOneText},
      {.name = "set", .description = "d", .parameters = kOneText, .effect = "idempotent"},
      {.name = "ask", .description = "d", .parameters = kOneText, .effect = "read_only"}};
  session.goal = std::move(goal);
  session.message = std::move(message);
  return session;
}

// Calls page when told to go, and ends when it has been told anything else.
Reply PagesOnce(const std::string& told) {
  if (!Has(told, "go")) return {.text = "done"};
  return {.calls = {{"page", R"({"text": "help"})"}}};
}

class ClientCallsTest : public testing::Test {
 protected:
  // Boots a world, and runs until the session has handed out calls or rests.
  void Begin(Script script, NewSession session) {
    world_ = std::make_unique<ManagerWorld>(std::move(script));
    ASSERT_TRUE(world_->Boot());
    const auto made = world_->Create(std::move(session));
    ASSERT_TRUE(made.ok()) << made.status();
    Wait();
  }
  // Until it rests or has calls out, and no longer: a deadline is simulated minutes away.
  void Wait() {
    for (;;) {
      const auto status = world_->Status("s");
      ASSERT_TRUE(status.ok()) << status.status();
      const bool answered = status->row.wait == WaitFor::kClient && status->client_calls.empty();
      if (status->row.state != SessionState::kRunning && !answered) return;
      size_t tasks = 10;
      ASSERT_TRUE(world_->RunUntil([&tasks] { return tasks-- == 0; }));
    }
  }
  std::vector<ClientCall> Calls() {
    auto calls = world_->Ask<std::vector<ClientCall>>(
        [&](auto done) { world_->manager().ClientCalls("s", std::move(done)); });
    EXPECT_TRUE(calls.ok()) << calls.status();
    return calls.ok() ? *std::move(calls) : std::vector<ClientCall>();
  }
  base::StatusOr<uint64_t> Deliver(const std::string& call, std::string text,
                                   ClientAnswer::Kind kind = ClientAnswer::Kind::kOk) {
    return world_->Ask<uint64_t>([&](auto done) {
      world_->manager().DeliverCall("s", {.call = call, .kind = kind, .text = text}, std::move(done));
    });
  }
  SessionState State() { return world_->Status("s")->row.state; }
  WaitFor WaitsFor() { return world_->Status("s")->row.wait; }

  std::vector<CallOutcome> Outcomes() {
    std::vector<CallOutcome> outcomes;
    for (const sessions::Event& event : world_->Events("s")) {
      if (const auto* outcome = std::get_if<CallOutcome>(&event.body)) outcomes.push_back(*outcome);
    }
    return outcomes;
  }

  std::unique_ptr<ManagerWorld> world_;
};

TEST_F(ClientCallsTest, ACallIsHandedOutAnsweredAndTold) {
  std::string last;
  Begin(
      [&last](const std::string& told) {
        last = told;
        return PagesOnce(told);
      },
      WithClient("go"));
  EXPECT_EQ(WaitsFor(), WaitFor::kClient);
  const int64_t now_ms = world_->clock.UtcNow().ns / base::kNsPerMs;
  const std::vector<ClientCall> calls = Calls();
  ASSERT_EQ(calls.size(), 1u);
  EXPECT_EQ(calls[0].tool, "page");
  EXPECT_EQ(calls[0].arguments, R"({"text":"help"})");
  EXPECT_EQ(calls[0].effect, sessions::CallEffect::kEffectful);
  EXPECT_LE(calls[0].deadline_utc_ms, now_ms + 600'000);
  EXPECT_GT(calls[0].deadline_utc_ms, now_ms + 590'000);
  const auto seq = Deliver(calls[0].call, "they come at once");
  ASSERT_TRUE(seq.ok()) << seq.status();
  Wait();
  EXPECT_EQ(State(), SessionState::kIdle);
  EXPECT_THAT(last, HasSubstr("they come at once"));
  EXPECT_EQ(Outcomes().at(0).status, CallStatus::kOk);
  EXPECT_TRUE(Calls().empty());
}

TEST_F(ClientCallsTest, ItsSchemaLimitsWhatTheModelMayWrite) {
  Begin(
      [](const std::string& told) -> Reply {
        if (!Has(told, "go")) return {.text = "done"};
        return {.calls = {{"page", R"({"txt": "help"})"}}};
      },
      WithClient("go"));
  EXPECT_EQ(State(), SessionState::kIdle);
  ASSERT_EQ(Outcomes().size(), 1u);
  EXPECT_EQ(Outcomes()[0].status, CallStatus::kRefused);
  EXPECT_THAT(Outcomes()[0].text, HasSubstr("did you mean \"text\""));
}

TEST_F(ClientCallsTest, AnAnswerCountsOnce) {
  Begin(PagesOnce, WithClient("go"));
  const std::string call = Calls().at(0).call;
  const auto first = Deliver(call, "yes");
  ASSERT_TRUE(first.ok());
  Wait();
  const auto again = Deliver(call, "yes");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, *first);
  for (const auto& other : {Deliver(call, "no"), Deliver(call, "yes", ClientAnswer::Kind::kFailed),
                            Deliver(call, "yes", ClientAnswer::Kind::kDisowned)}) {
    EXPECT_EQ(other.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(base::Message(other.status()), HasSubstr("has ended: ok"));
  }
  EXPECT_EQ(Deliver("c9.9.9", "yes").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Outcomes().size(), 1u);
}

TEST_F(ClientCallsTest, OfTwoAnswersAtOnceOneCounts) {
  Begin(PagesOnce, WithClient("go"));
  const std::string call = Calls().at(0).call;
  std::vector<base::StatusOr<uint64_t>> got;
  for (const char* text : {"first", "second", "first"}) {
    world_->manager().DeliverCall("s", {.call = call, .text = text},
                                  [&got](base::StatusOr<uint64_t> seq) { got.push_back(std::move(seq)); });
  }
  world_->RunUntil([&got] { return got.size() == 3; });
  ASSERT_EQ(got.size(), 3u);
  ASSERT_TRUE(got[0].ok()) << got[0].status();
  EXPECT_EQ(got[1].status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(got[2].ok()) << got[2].status();
  EXPECT_EQ(*got[0], *got[2]);
  EXPECT_EQ(Outcomes().at(0).text, "first");
}

TEST_F(ClientCallsTest, ALongAnswerIsCut) {
  Begin(PagesOnce, WithClient("go"));
  ASSERT_TRUE(Deliver(Calls().at(0).call, std::string(40'000, 'x')).ok());
  EXPECT_LE(Outcomes().at(0).text.size(), 32u * 1024);
  EXPECT_THAT(Outcomes().at(0).text, HasSubstr("bytes, 0 lines omitted"));
  EXPECT_EQ(Deliver("c", std::string((4 << 20) + 1, 'x')).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ClientCallsTest, ADisownedCallIsUnknownAtOnce) {
  Begin(PagesOnce, WithClient("go"));
  ASSERT_TRUE(Deliver(Calls().at(0).call, "the editor was closed", ClientAnswer::Kind::kDisowned).ok());
  Wait();
  EXPECT_EQ(State(), SessionState::kIdle);
  EXPECT_EQ(Outcomes().at(0).status, CallStatus::kUnknown);
  EXPECT_THAT(Outcomes().at(0).text, HasSubstr("gives it up: the editor was closed"));
}

TEST_F(ClientCallsTest, TheDeadlineMakesItUnknownAndTheAnswerComesTooLate) {
  Begin(PagesOnce, WithClient("go"));
  const std::string call = Calls().at(0).call;
  world_->RunFor(9 * kMinuteNs);
  EXPECT_EQ(State(), SessionState::kWaiting);
  world_->RunFor(2 * kMinuteNs);
  Wait();
  EXPECT_EQ(State(), SessionState::kIdle);
  ASSERT_EQ(Outcomes().size(), 1u);
  EXPECT_EQ(Outcomes()[0].status, CallStatus::kUnknown);
  EXPECT_THAT(Outcomes()[0].text, HasSubstr("no answer before its deadline"));
  EXPECT_EQ(Deliver(call, "yes").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ClientCallsTest, ARestartKeepsTheCallItsNameAndItsDeadline) {
  Begin(PagesOnce, WithClient("go"));
  const ClientCall before = Calls().at(0);
  world_->RunFor(5 * kMinuteNs);
  world_->Kill();
  world_->clock.Advance(2 * kMinuteNs);
  ASSERT_TRUE(world_->Boot());
  ASSERT_EQ(Calls(), std::vector<ClientCall>{before});
  EXPECT_EQ(WaitsFor(), WaitFor::kClient);
  ASSERT_TRUE(Deliver(before.call, "yes").ok());
  Wait();
  EXPECT_EQ(State(), SessionState::kIdle);
  EXPECT_EQ(Outcomes().size(), 1u);
}

TEST_F(ClientCallsTest, ADeadlineThatPassesWhileNothingRunsCounts) {
  Begin(PagesOnce, WithClient("go"));
  world_->PowerCut();
  world_->clock.Advance(11 * kMinuteNs);
  ASSERT_TRUE(world_->Boot());
  Wait();
  EXPECT_EQ(State(), SessionState::kIdle);
  EXPECT_EQ(Outcomes().at(0).status, CallStatus::kUnknown);
  EXPECT_EQ(Outcomes().size(), 1u);
}

TEST_F(ClientCallsTest, CallsOfABlockGoInOrder) {
  Begin(
      [](const std::string& told) -> Reply {
        if (!Has(told, "go")) return {.text = "done"};
        return {.calls = {{"append", R"({"path": "f", "text": "before"})"},
                          {"page", R"({"text": "1"})"},
                          {"append", R"({"path": "f", "text": "after"})"},
                          {"page", R"({"text": "2"})"}}};
      },
      WithClient("go"));
  EXPECT_EQ(world_->disk.layers["/layers/s"].files["f"], "before\n");
  ASSERT_EQ(Calls().size(), 1u);
  EXPECT_EQ(Calls()[0].arguments, R"({"text":"1"})");
  ASSERT_TRUE(Deliver(Calls()[0].call, "one").ok());
  Wait();
  EXPECT_EQ(world_->disk.layers["/layers/s"].files["f"], "before\nafter\n");
  ASSERT_EQ(Calls().size(), 1u);
  EXPECT_EQ(Calls()[0].arguments, R"({"text":"2"})");
  ASSERT_TRUE(Deliver(Calls()[0].call, "two", ClientAnswer::Kind::kFailed).ok());
  Wait();
  EXPECT_EQ(State(), SessionState::kIdle);
  ASSERT_EQ(Outcomes().size(), 4u);
  EXPECT_EQ(Outcomes()[3].status, CallStatus::kFailed);
}

TEST_F(ClientCallsTest, ThoseThatOnlyReadAreOutTogether) {
  Begin(
      [](const std::string& told) -> Reply {
        if (!Has(told, "go")) return {.text = "done"};
        return {
            .calls = {{"ask", R"({"text": "1"})"}, {"ask", R"({"text": "2"})"}, {"set", R"({"text": "3"})"}}};
      },
      WithClient("go"));
  const std::vector<ClientCall> both = Calls();
  ASSERT_EQ(both.size(), 2u);
  ASSERT_TRUE(Deliver(both[1].call, "two").ok());
  world_->RunFor(kMinuteNs);
  EXPECT_EQ(WaitsFor(), WaitFor::kClient);
  ASSERT_TRUE(Deliver(both[0].call, "one").ok());
  Wait();
  ASSERT_EQ(Calls().size(), 1u);
  EXPECT_EQ(Calls()[0].tool, "set");
  EXPECT_EQ(Calls()[0].effect, sessions::CallEffect::kIdempotent);
}

TEST_F(ClientCallsTest, AMessageWaitsForTheCall) {
  std::string last;
  Begin(
      [&last](const std::string& told) {
        last = told;
        return PagesOnce(told);
      },
      WithClient("go"));
  ASSERT_TRUE(world_->Send("s", {.text = "and hurry"}).ok());
  world_->RunFor(kMinuteNs);
  EXPECT_EQ(WaitsFor(), WaitFor::kClient);
  ASSERT_TRUE(Deliver(Calls().at(0).call, "here").ok());
  Wait();
  EXPECT_THAT(last, HasSubstr("here"));
  EXPECT_THAT(last, HasSubstr("and hurry"));
}

TEST_F(ClientCallsTest, AnInterruptGivesUpWhatIsOutAndRunsNoOther) {
  Begin(
      [](const std::string& told) -> Reply {
        if (!Has(told, "go")) return {.text = "done"};
        return {.calls = {{"page", R"({"text": "1"})"}, {"append", R"({"path": "f", "text": "x"})"}}};
      },
      WithClient("go"));
  const std::string call = Calls().at(0).call;
  ASSERT_TRUE(world_->Send("s", {.kind = InputKind::kInterrupt}).ok());
  Wait();
  EXPECT_EQ(State(), SessionState::kIdle);
  ASSERT_EQ(Outcomes().size(), 2u);
  EXPECT_EQ(Outcomes()[0].status, CallStatus::kUnknown);
  EXPECT_THAT(Outcomes()[0].text, HasSubstr("the user interrupted it"));
  EXPECT_EQ(Outcomes()[1].status, CallStatus::kRefused);
  EXPECT_FALSE(world_->disk.layers["/layers/s"].files.contains("f"));
  EXPECT_EQ(Deliver(call, "too late").status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(world_->Send("s", {.text = "on"}).ok());
  Wait();
  EXPECT_EQ(State(), SessionState::kIdle);
  EXPECT_EQ(Outcomes().size(), 2u);
}

TEST_F(ClientCallsTest, AnInterruptAfterARestartIsTheSame) {
  Begin(
      [](const std::string& told) -> Reply {
        if (!Has(told, "go")) return {.text = "done"};
        return {.calls = {{"ask", R"({"text": "1"})"}, {"append", R"({"path": "f", "text": "x"})"}}};
      },
      WithClient("go"));
  world_->Kill();
  ASSERT_TRUE(world_->Boot());
  ASSERT_TRUE(world_->Send("s", {.kind = InputKind::kInterrupt}).ok());
  Wait();
  EXPECT_EQ(State(), SessionState::kIdle);
  ASSERT_EQ(Outcomes().size(), 2u);
  EXPECT_EQ(Outcomes()[0].status, CallStatus::kCancelled);
  EXPECT_FALSE(world_->disk.layers["/layers/s"].files.contains("f"));
}

TEST_F(ClientCallsTest, APausedSessionTakesTheAnswerAndTellsItLater) {
  Begin(PagesOnce, WithClient("go"));
  const std::string call = Calls().at(0).call;
  ASSERT_TRUE(
      world_->Ask<uint64_t>([&](auto done) { world_->manager().Pause({.id = "s"}, std::move(done)); }).ok());
  ASSERT_EQ(Calls().size(), 1u);
  ASSERT_TRUE(Deliver(call, "yes").ok());
  EXPECT_EQ(State(), SessionState::kPaused);
  ASSERT_TRUE(
      world_->Ask<uint64_t>([&](auto done) { world_->manager().Resume({.id = "s"}, std::move(done)); }).ok());
  Wait();
  EXPECT_EQ(State(), SessionState::kIdle);
  EXPECT_EQ(Outcomes().size(), 1u);
}

TEST_F(ClientCallsTest, ResumedWithItsCallOpenItWaitsAgain) {
  Begin(PagesOnce, WithClient("go"));
  const std::vector<ClientCall> open = Calls();
  for (int i = 0; i < 8; ++i) {  // more often than recoveries may be fruitless
    ASSERT_TRUE(
        world_->Ask<uint64_t>([&](auto done) { world_->manager().Pause({.id = "s"}, std::move(done)); })
            .ok());
    world_->Kill();
    ASSERT_TRUE(world_->Boot());
    ASSERT_TRUE(
        world_->Ask<uint64_t>([&](auto done) { world_->manager().Resume({.id = "s"}, std::move(done)); })
            .ok());
    Wait();
    ASSERT_EQ(WaitsFor(), WaitFor::kClient);
  }
  EXPECT_EQ(Calls(), open);
}

TEST_F(ClientCallsTest, ACancelledGoalWaitsForNobody) {
  Begin(
      [](const std::string& told) -> Reply {
        if (!Has(told, "go")) return {.text = "done"};
        return {.calls = {{"page", R"({"text": "1"})"}, {"append", R"({"path": "f", "text": "x"})"}}};
      },
      WithClient("", GoalSet{.text = "go"}));
  ASSERT_EQ(WaitsFor(), WaitFor::kClient);
  ASSERT_TRUE(
      world_->Ask<uint64_t>([&](auto done) { world_->manager().CancelGoal({.id = "s"}, std::move(done)); })
          .ok());
  Wait();
  EXPECT_EQ(State(), SessionState::kIdle);
  ASSERT_EQ(Outcomes().size(), 2u);
  EXPECT_THAT(Outcomes()[0].text, HasSubstr("the user cancelled the goal"));
  EXPECT_FALSE(world_->disk.layers["/layers/s"].files.contains("f"));
}

TEST_F(ClientCallsTest, TheBudgetOfCallsBindsThemToo) {
  GoalSet goal{.text = "go"};
  goal.budgets.calls = 1;
  Begin(
      [](const std::string&) -> Reply {
        return {.calls = {{"ask", R"({"text": "1"})"}, {"ask", R"({"text": "2"})"}}};
      },
      WithClient("", goal));
  ASSERT_EQ(Calls().size(), 1u);
  EXPECT_EQ(Outcomes().at(0).status, CallStatus::kRefused);
  EXPECT_THAT(Outcomes().at(0).text, HasSubstr("budget of 1 calls"));
  ASSERT_TRUE(Deliver(Calls()[0].call, "one").ok());
  Wait();
  EXPECT_EQ(world_->Status("s")->row.reason, "BUDGET_CALLS");
}

TEST_F(ClientCallsTest, AForkHasNoneOfItsParentsCalls) {
  Begin(PagesOnce, WithClient("go"));
  const std::string call = Calls().at(0).call;
  ASSERT_TRUE(world_
                  ->Ask<sessions::SessionRow>(
                      [&](auto done) { world_->manager().Fork({.id = "s"}, 0, "child", std::move(done)); })
                  .ok());
  const auto of_child = world_->Ask<std::vector<ClientCall>>(
      [&](auto done) { world_->manager().ClientCalls("child", std::move(done)); });
  ASSERT_TRUE(of_child.ok());
  EXPECT_TRUE(of_child->empty());
  EXPECT_EQ(Calls().size(), 1u);
  EXPECT_TRUE(Deliver(call, "yes").ok());
}

TEST_F(ClientCallsTest, AfterARewindTheNextCallHasAnotherName) {
  Begin(PagesOnce, WithClient("go"));
  const std::string before = Calls().at(0).call;
  uint64_t spoken = 0;  // the turn's last tokens
  for (const sessions::Event& event : world_->Events("s")) {
    const auto* run = std::get_if<sessions::TokenRun>(&event.body);
    if (run != nullptr && run->origin == sessions::TokenOrigin::kFed) spoken = event.seq;
  }
  const auto rewound = world_->Ask<uint64_t>(
      [&](auto done) { world_->manager().Rewind({.id = "s"}, spoken, std::move(done)); });
  ASSERT_TRUE(rewound.ok()) << rewound.status();
  EXPECT_TRUE(Calls().empty());
  EXPECT_EQ(Deliver(before, "yes").status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(
      world_->Ask<uint64_t>([&](auto done) { world_->manager().Resume({.id = "s"}, std::move(done)); }).ok());
  Wait();
  ASSERT_EQ(Calls().size(), 1u);
  EXPECT_NE(Calls()[0].call, before);
  EXPECT_EQ(Calls()[0].arguments, R"({"text":"help"})");
}

TEST_F(ClientCallsTest, ToolsThatCannotBeUsedMakeNoSession) {
  world_ = std::make_unique<ManagerWorld>(PagesOnce);
  ASSERT_TRUE(world_->Boot());
  const auto why = [this](auto change) {
    NewSession session = WithClient("go");
    change(session.profile.client_tools);
    const auto made = world_->Create(std::move(session));
    EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument);
    return base::Message(made.status());
  };
  using Tools = std::vector<ClientTool>;
  EXPECT_THAT(why([](Tools& tools) { tools[0].name = "append"; }), HasSubstr("another tool has this name"));
  EXPECT_THAT(why([](Tools& tools) { tools[0].name = "wait"; }), HasSubstr("another tool has this name"));
  EXPECT_THAT(why([](Tools& tools) { tools[1].name = "page"; }), HasSubstr("another tool has this name"));
  EXPECT_THAT(why([](Tools& tools) { tools[0].effect = "some"; }), HasSubstr("an effect of \"some\""));
  EXPECT_THAT(why([](Tools& tools) { tools[0].parameters = "[]"; }), HasSubstr("page"));
  EXPECT_FALSE(world_->Status("s").ok());
}

// A client that does what it is asked, remembers by name what it has done, and may be anywhere when the
// machine dies: it never does a thing twice, and the session comes to its end.
TEST_F(ClientCallsTest, KilledAtAnyTaskNothingIsDoneTwiceAndNothingIsLost) {
  const Script script = [](const std::string& told) -> Reply {
    if (Has(told, "paged 4")) return {.text = "done"};
    for (int i = 3; i >= 1; --i) {
      if (!Has(told, "paged " + std::to_string(i))) continue;
      return {.calls = {{"append", R"({"path": "f", "text": "x"})"},
                        {"page", R"({"text": ")" + std::to_string(i + 1) + R"("})"}}};
    }
    return {.calls = {{"page", R"({"text": "1"})"}}};
  };
  for (const uint64_t seed : test::TestSeeds(3)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    world_ = std::make_unique<ManagerWorld>(script, seed);
    ASSERT_TRUE(world_->Boot());
    ASSERT_TRUE(world_->Create(WithClient("go")).ok());
    std::map<std::string, std::string> done;  // by call: the client's own record
    const auto serve = [&] {
      const auto calls = world_->Ask<std::vector<ClientCall>>(
          [&](auto to) { world_->manager().ClientCalls("s", std::move(to)); });
      ASSERT_TRUE(calls.ok()) << calls.status();
      for (const ClientCall& call : *calls) {
        if (!done.contains(call.call)) done[call.call] = "paged " + std::to_string(done.size() + 1);
        world_->manager().DeliverCall("s", {.call = call.call, .text = done[call.call]},
                                      [](const base::StatusOr<uint64_t>&) {});
      }
    };
    for (int death = 0; death < 8; ++death) {
      if (random.Percent(60)) serve();
      size_t tasks = random.Below(150);
      world_->RunUntil([&tasks] { return tasks-- == 0; });
      random.Percent(30) ? world_->PowerCut() : world_->Kill();
      ASSERT_TRUE(world_->Boot());
    }
    for (int i = 0; i < 10 && State() != SessionState::kIdle; ++i) {
      Wait();
      serve();
    }
    EXPECT_EQ(State(), SessionState::kIdle) << world_->Status("s")->row.reason;
    EXPECT_EQ(done.size(), 4u);
    std::map<std::string, int> ended;
    for (const CallOutcome& outcome : Outcomes()) ++ended[outcome.call];
    for (const auto& [call, times] : ended) EXPECT_EQ(times, 1) << call;
    EXPECT_EQ(world_->disk.layers["/layers/s"].files["f"], "x\nx\nx\n");
  }
}

}  // namespace
}  // namespace holdfast::agent
