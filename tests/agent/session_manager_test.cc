// What a session does of itself, and what people can ask of it, on a simulated machine.
#include "agent/session_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "agent/agent_event.h"
#include "agent/session_summary.h"
#include "tests/agent/manager_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::agent {
namespace {

using sessions::InputKind;
using sessions::SessionState;
using testing::HasSubstr;
using testing::Not;

constexpr int64_t kHourNs = 3600 * base::kNsPerSecond;

bool Has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

Reply Append(const std::string& path, const std::string& text) {
  return {.calls = {{"append", R"({"path": ")" + path + R"(", "text": ")" + text + R"("})"}}};
}

// Appends lines to f until there are `lines`, then says so.
Script Lines(int lines) {
  return [lines](const std::string& told) -> Reply {
    for (int i = lines; i >= 1; --i) {
      if (!Has(told, std::to_string(i) + " lines\n")) continue;
      return i == lines ? Reply{.text = "done"} : Append("f", "line " + std::to_string(i + 1));
    }
    return Append("f", "line 1");
  };
}

NewSession WithGoal(std::string text, std::vector<GoalCheck> checks = {}) {
  NewSession session{.id = "s", .profile = ManagerWorld::Profile(), .seed = 7};
  session.goal = GoalSet{.text = std::move(text), .checks = std::move(checks)};
  return session;
}

// All tokens that ever were in a window, and how they got there.
std::vector<int32_t> TokensOf(const std::vector<sessions::Event>& events) {
  std::vector<int32_t> tokens;
  for (const sessions::Event& event : events) {
    if (const auto* run = std::get_if<sessions::TokenRun>(&event.body)) {
      tokens.insert(tokens.end(), run->ids.begin(), run->ids.end());
    }
  }
  return tokens;
}

template <class Body>
std::vector<Body> AgentBodies(const std::vector<sessions::Event>& events) {
  std::vector<Body> bodies;
  for (const sessions::Event& event : events) {
    const auto* agent = std::get_if<sessions::AgentEvent>(&event.body);
    if (agent == nullptr) continue;
    const auto body = Decode(*agent);
    EXPECT_TRUE(body.ok());
    if (body.ok() && body->has_value() && std::holds_alternative<Body>(**body)) {
      bodies.push_back(std::get<Body>(**body));
    }
  }
  return bodies;
}

TEST(SessionManagerTest, AGoalIsWorkedOnCheckedAndApplied) {
  ManagerWorld world(Lines(2));
  ASSERT_TRUE(world.Boot());
  NewSession session = WithGoal("write two lines", {{.command = "has f line 2"}});
  session.goal->apply_on_success = true;
  ASSERT_TRUE(world.Create(session).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
  const auto status = world.Status("s");
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->goal_state, GoalState::kSucceeded) << status->row.reason;
  EXPECT_EQ(world.disk.user_tree["f"], "line 1\nline 2\n");
  const auto checks = AgentBodies<CheckRan>(world.Events("s"));
  ASSERT_EQ(checks.size(), 2u);
  EXPECT_EQ(checks[0].when, "start");
  EXPECT_FALSE(checks[0].passed);
  EXPECT_TRUE(checks[1].passed);
}

TEST(SessionManagerTest, WithoutAProblemAndAfterAKillAtAnyTaskTheTokensAreTheSame) {
  std::vector<int32_t> expected;
  {
    ManagerWorld world(Lines(6));
    ASSERT_TRUE(world.Boot());
    ASSERT_TRUE(world.Create(WithGoal("write six lines", {{.command = "has f line 6"}})).ok());
    ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
    expected = TokensOf(world.Events("s"));
  }
  for (const uint64_t seed : test::TestSeeds(4)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    ManagerWorld world(Lines(6), seed);
    ASSERT_TRUE(world.Boot());
    ASSERT_TRUE(world.Create(WithGoal("write six lines", {{.command = "has f line 6"}})).ok());
    for (int death = 0; death < 6; ++death) {
      size_t tasks = random.Below(400);
      world.RunUntil([&tasks] { return tasks-- == 0; });
      random.Percent(30) ? world.PowerCut() : world.Kill();
      ASSERT_TRUE(world.Boot());
    }
    ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
    const auto status = world.Status("s");
    ASSERT_TRUE(status.ok()) << status.status();
    EXPECT_EQ(status->goal_state, GoalState::kSucceeded) << status->row.reason;
    EXPECT_EQ(TokensOf(world.Events("s")), expected);
    EXPECT_EQ(world.disk.layers["/layers/s"].files["f"], "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\n");
  }
}

TEST(SessionManagerTest, AFailedCheckIsToldAndTheWorkGoesOn) {
  ManagerWorld world([](const std::string& told) -> Reply {
    if (Has(told, "exit 1")) return Append("f", "right");
    if (Has(told, "lines\n")) return {.text = "done"};
    return Append("f", "wrong");
  });
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create(WithGoal("do it", {{.command = "has f right"}})).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
  EXPECT_EQ(world.Status("s")->goal_state, GoalState::kSucceeded);
  EXPECT_EQ(world.disk.layers["/layers/s"].files["f"], "wrong\nright\n");
}

TEST(SessionManagerTest, AWaitCostsNothingAndSurvivesARestart) {
  ManagerWorld world([](const std::string& told) -> Reply {
    if (Has(told, "The wait is over"))
      return {.calls = {{"goal", R"({"status": "done", "evidence": "waited"})"}}};
    if (Has(told, "wait a day")) return {.calls = {{"wait", R"({"seconds": 86400})"}}};
    return {.text = "ok"};
  });
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create(WithGoal("wait a day")).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kWaiting}));
  const size_t before = TokensOf(world.Events("s")).size();
  world.RunFor(10 * kHourNs);
  world.Kill();
  ASSERT_TRUE(world.Boot());
  world.RunFor(13 * kHourNs);
  EXPECT_EQ(TokensOf(world.Events("s")).size(), before);
  EXPECT_EQ(world.Status("s")->row.state, SessionState::kWaiting);
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}, 2 * kHourNs));
  EXPECT_EQ(world.Status("s")->goal_state, GoalState::kFinishedUnverified) << world.Status("s")->row.reason;
}

TEST(SessionManagerTest, ABudgetStopsAndAnotherOneGoesOnWithTheSameGoal) {
  ManagerWorld world(Lines(6));
  ASSERT_TRUE(world.Boot());
  NewSession session = WithGoal("write six lines", {{.command = "has f line 6"}});
  session.goal->budgets.calls = 3;
  ASSERT_TRUE(world.Create(session).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
  EXPECT_EQ(world.Status("s")->row.reason, "BUDGET_CALLS");
  EXPECT_EQ(world.Status("s")->goal_state, GoalState::kPaused);
  EXPECT_EQ(AgentBodies<BudgetWarned>(world.Events("s")).size(), 1u);
  Budgets more;
  more.calls = 100;
  ASSERT_TRUE(
      world.Ask<uint64_t>([&](auto done) { world.manager().SetBudgets({"s"}, more, std::move(done)); }).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
  EXPECT_EQ(world.Status("s")->goal_state, GoalState::kSucceeded);
  EXPECT_EQ(AgentBodies<GoalSet>(world.Events("s")).size(), 1u);
}

TEST(SessionManagerTest, TheSameCallAgainAndAgainIsStopped) {
  ManagerWorld world([](const std::string&) -> Reply {
    return {.calls = {{"look", R"({"path": "nowhere"})"}}};
  });
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create(WithGoal("look")).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
  EXPECT_EQ(world.Status("s")->row.reason, "REPEATING");
  int outcomes = 0;
  for (const sessions::Event& event : world.Events("s")) {
    outcomes += std::holds_alternative<sessions::CallOutcome>(event.body) ? 1 : 0;
  }
  EXPECT_EQ(outcomes, 5);
}

TEST(SessionManagerTest, AnApprovalIsForOneCallAlsoAfterAKill) {
  ManagerWorld world([](const std::string& told) -> Reply {
    if (Has(told, "sent ")) return {.text = "done"};
    return {.calls = {{"send", R"({"path": "x"})"}}};
  });
  ASSERT_TRUE(world.Boot());
  NewSession session{.id = "s", .profile = ManagerWorld::Profile(), .message = "send it"};
  ASSERT_TRUE(world.Create(session).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kWaiting}));
  EXPECT_EQ(world.disk.sends, 0);
  world.Kill();
  ASSERT_TRUE(world.Boot());
  auto status = world.Status("s");
  ASSERT_EQ(status->questions.size(), 1u);
  EXPECT_THAT(status->questions[0].question, testing::StartsWith(R"(send@1 {"path":"x"}: )"));
  sessions::ApprovalResolved answer{.call = status->questions[0].call,
                                    .action = status->questions[0].action,
                                    .allowed = true,
                                    .request_id = "r1"};
  sessions::ApprovalResolved other = answer;
  other.action[0] ^= std::byte{1};
  other.request_id = "r0";
  const auto say = [&](const sessions::ApprovalResolved& what) {
    return world.Ask<uint64_t>([&](auto done) { world.manager().Answer("s", what, std::move(done)); });
  };
  EXPECT_TRUE(absl::IsFailedPrecondition(say(other).status()));
  const auto seq = say(answer);
  ASSERT_TRUE(seq.ok()) << seq.status();
  EXPECT_EQ(*say(answer), *seq);  // the same request
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
  EXPECT_EQ(world.disk.sends, 1);
}

TEST(SessionManagerTest, AnInterruptRestsAndAMessageGoesOn) {
  ManagerWorld world([](const std::string& told) -> Reply {
    if (Has(told, "go on now")) return Append("f", "x");
    if (Has(told, "lines\n")) return {.text = "done"};
    return {.text = std::string(500, 'a')};
  });
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create(WithGoal("talk", {{.command = "has f x"}})).ok());
  const auto spoken = [&] { return TokensOf(world.Events("s")).size(); };
  for (size_t begun = spoken(); spoken() < begun + 64;) {
    size_t tasks = 20;
    world.RunUntil([&tasks] { return tasks-- == 0; });
  }
  ASSERT_TRUE(world.Send("s", {.kind = InputKind::kInterrupt}).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
  EXPECT_EQ(world.Status("s")->goal_reason, "INTERRUPTED");
  ASSERT_TRUE(world.Send("s", {.request_id = "m", .text = "go on now"}).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
  EXPECT_EQ(world.Status("s")->goal_state, GoalState::kSucceeded) << world.Status("s")->row.reason;
}

TEST(SessionManagerTest, ForksAndRewindsTakeTheFilesAlong) {
  ManagerWorld world([](const std::string& told) -> Reply {
    if (Has(told, "add ")) return Append("f", told.substr(told.find("add ") + 4, 1));
    return {.text = "done"};
  });
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create({.id = "s", .profile = ManagerWorld::Profile(), .message = "add a"}).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
  const uint64_t after_a = world.Events("s").back().seq;
  ASSERT_TRUE(world.Send("s", {.text = "add b"}).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
  EXPECT_EQ(world.disk.layers["/layers/s"].files["f"], "a\nb\n");

  const auto fork = world.Ask<sessions::SessionRow>(
      [&](auto done) { world.manager().Fork({"s"}, after_a, "t", std::move(done)); });
  ASSERT_TRUE(fork.ok()) << fork.status();
  ASSERT_TRUE(world.Send("t", {.text = "add c"}).ok());
  ASSERT_TRUE(world.RunUntilState("t", {SessionState::kIdle}));
  EXPECT_EQ(world.disk.layers["/layers/t"].files["f"], "a\nc\n");
  EXPECT_EQ(world.disk.layers["/layers/s"].files["f"], "a\nb\n");

  const auto rewound =
      world.Ask<uint64_t>([&](auto done) { world.manager().Rewind({"s"}, after_a, std::move(done)); });
  ASSERT_TRUE(rewound.ok()) << rewound.status();
  EXPECT_EQ(world.disk.layers["/layers/s"].files["f"], "a\n");
  ASSERT_TRUE(world.Send("s", {.text = "add d"}).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
  EXPECT_EQ(world.disk.layers["/layers/s"].files["f"], "a\nd\n");
}

TEST(SessionManagerTest, UndoGoesBackBehindWhatWasSaidLastTheFilesToo) {
  ManagerWorld world([](const std::string& told) -> Reply {
    if (Has(told, "add ")) return Append("f", told.substr(told.find("add ") + 4, 1));
    return {.text = "done"};
  });
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create({.id = "s", .profile = ManagerWorld::Profile()}).ok());
  const auto undo = [&] {
    return world.Ask<uint64_t>([&](auto done) { world.manager().Undo({"s"}, std::move(done)); });
  };
  EXPECT_TRUE(absl::IsFailedPrecondition(undo().status()));
  for (const char* text : {"add a", "add b", "add c"}) {
    ASSERT_TRUE(world.Send("s", {.text = text}).ok());
    ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
  }
  EXPECT_EQ(world.disk.layers["/layers/s"].files["f"], "a\nb\nc\n");
  ASSERT_TRUE(undo().ok());
  EXPECT_EQ(world.disk.layers["/layers/s"].files["f"], "a\nb\n");
  ASSERT_TRUE(undo().ok());
  EXPECT_EQ(world.disk.layers["/layers/s"].files["f"], "a\n");
  EXPECT_EQ(world.Status("s")->row.state, SessionState::kIdle);
  ASSERT_TRUE(world.Send("s", {.text = "add d"}).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
  EXPECT_EQ(world.disk.layers["/layers/s"].files["f"], "a\nd\n");
}

TEST(SessionManagerTest, ListsSayNamesAndGoalsOfSessionsThatAreClosed) {
  ManagerWorld world(Lines(1));
  ASSERT_TRUE(world.Boot());
  NewSession session = WithGoal("write\none line", {{.command = "has f line 1"}});
  session.display_name = "First";
  ASSERT_TRUE(world.Create(session).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
  const auto summary = [&] { return DecodeSummary(world.Status("s")->row.summary); };
  EXPECT_EQ(summary(),
            (SessionSummary{.display_name = "First", .goal = "write one line", .goal_state = "SUCCEEDED"}));
  ASSERT_TRUE(
      world
          .Ask<uint64_t>([&](auto done) { world.manager().SetDisplayName({"s"}, "Second", std::move(done)); })
          .ok());
  EXPECT_EQ(world.Status("s")->display_name, "Second");
  EXPECT_EQ(summary().display_name, "Second");
  world.Kill();
  ASSERT_TRUE(world.Boot());
  EXPECT_EQ(summary().display_name, "Second");
  EXPECT_TRUE(absl::IsInvalidArgument(world
                                          .Ask<uint64_t>([&](auto done) {
                                            world.manager().SetDisplayName({"s"}, std::string(201, 'x'),
                                                                           std::move(done));
                                          })
                                          .status()));
}

TEST(SessionManagerTest, ChangesAreShownAtWorkAndTakenOverByPath) {
  ManagerWorld world([](const std::string& told) -> Reply {
    if (Has(told, "lines\n")) return {.text = "done"};
    return {
        .calls = {{"append", R"({"path": "f", "text": "x"})"}, {"append", R"({"path": "g", "text": "y"})"}}};
  });
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create({.id = "s", .profile = ManagerWorld::Profile(), .message = "go"}).ok());
  const auto diff = [&] {
    return world.Ask<FilesDiff>([&](auto done) { world.manager().Diff("s", {}, std::move(done)); });
  };
  ASSERT_TRUE(world.RunUntil([&] { return world.disk.layers["/layers/s"].files.contains("f"); }));
  ASSERT_TRUE(diff().ok()) << diff().status();
  EXPECT_EQ(world.Status("s")->row.state, SessionState::kRunning);
  ASSERT_TRUE(world.RunUntil([&] { return world.disk.layers["/layers/s"].files.contains("g"); }));
  ASSERT_TRUE(world.Ask<uint64_t>([&](auto done) { world.manager().Pause({"s"}, std::move(done)); }).ok());
  EXPECT_EQ(diff()->text, "f: x\ng: y\n");
  const auto apply = [&](const ApplyRequest& what) {
    return world.Ask<FilesReport>([&](auto done) { world.manager().Apply({"s"}, what, std::move(done)); });
  };
  EXPECT_EQ(apply({.branch = "b"})->branch, "b");
  EXPECT_TRUE(world.disk.user_tree.empty());
  EXPECT_EQ(apply({.paths = {"g"}})->text, "M g\n");
  EXPECT_EQ(diff()->text, "f: x\n");
  EXPECT_EQ(apply({})->text, "M f\n");
  const auto applied = AgentBodies<Applied>(world.Events("s"));
  ASSERT_EQ(applied.size(), 3u);
  EXPECT_EQ(applied[0].branch, "b");
  EXPECT_TRUE(applied[0].partly && applied[1].partly);
  EXPECT_FALSE(applied[2].partly);
}

// Whoever watches needs no look at the store: numbers without a gap, whatever is done.
TEST(SessionManagerTest, EveryEventIsToldOnceInOrder) {
  ManagerWorld world(Lines(2));
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create(WithGoal("write", {{.command = "has f line 2"}})).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
  ASSERT_TRUE(
      world.Ask<uint64_t>([&](auto done) { world.manager().Rewind({"s"}, 3, std::move(done)); }).ok());
  ASSERT_TRUE(
      world
          .Ask<sessions::SessionRow>([&](auto done) { world.manager().Fork({"s"}, 0, "t", std::move(done)); })
          .ok());
  ASSERT_TRUE(world.Send("s", {.text = "more"}).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
  for (const char* id : {"s", "t"}) {
    const auto events = world.Events(id);
    const std::vector<uint64_t>& told = world.told[id];
    ASSERT_FALSE(told.empty());
    EXPECT_EQ(told.back(), events.back().seq);
    for (size_t i = 1; i < told.size(); ++i) EXPECT_EQ(told[i], told[i - 1] + 1) << id;
    const auto first = std::find_if(events.rbegin(), events.rend(), [](const sessions::Event& event) {
      return std::holds_alternative<sessions::SessionCreated>(event.body);
    });
    EXPECT_EQ(told.front(), first->seq);
  }
}

TEST(SessionManagerTest, WhatHasLeftTheWindowIsRecalled) {
  ManagerWorld world([](const std::string& told) -> Reply {
    if (Has(told, "tell me") && !Has(told, "swordfish"))
      return {.calls = {{"recall", R"({"query": "password"})"}}};
    return {.text = "the answer: " + told};
  });
  ASSERT_TRUE(world.Boot());
  NewSession session{.id = "s", .profile = ManagerWorld::Profile(), .message = "the password is swordfish"};
  session.profile.tools = {"recall@1"};
  session.profile.window_tokens_max = 4000;
  session.profile.turn_tokens_max = 300;
  ASSERT_TRUE(world.Create(session).ok());
  for (int i = 0; world.Status("s")->epoch < 2; ++i) {
    ASSERT_LT(i, 100);
    ASSERT_TRUE(world.Send("s", {.text = "talk of something else: " + std::string(200, 'x')}).ok());
    ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
    ASSERT_EQ(world.Status("s")->row.state, SessionState::kIdle) << world.Status("s")->row.reason;
  }
  ASSERT_TRUE(world.Send("s", {.text = "tell me"}).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
  std::string found;
  for (const sessions::Event& event : world.Events("s")) {
    if (const auto* outcome = std::get_if<sessions::CallOutcome>(&event.body)) found = outcome->text;
  }
  EXPECT_THAT(found, HasSubstr("swordfish"));
}

TEST(SessionManagerTest, ARewindToNowhereIsRefusedAndTheSessionGoesOn) {
  ManagerWorld world(Lines(1));
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create({.id = "s", .profile = ManagerWorld::Profile(), .message = "go"}).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
  const auto rewind = [&](uint64_t seq) {
    return world.Ask<uint64_t>([&](auto done) { world.manager().Rewind({"s"}, seq, std::move(done)); });
  };
  EXPECT_TRUE(absl::IsInvalidArgument(rewind(0).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(rewind(999'999).status()));
  world.Kill();
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Send("s", {.text = "more"}).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
  EXPECT_EQ(world.Status("s")->row.state, SessionState::kIdle) << world.Status("s")->row.reason;
}

TEST(SessionManagerTest, WithNothingToDoItRests) {
  ManagerWorld world(Lines(1));
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create({.id = "s", .profile = ManagerWorld::Profile()}).ok());
  ASSERT_TRUE(world.Ask<uint64_t>([&](auto done) { world.manager().Resume({"s"}, std::move(done)); }).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle}));
}

// Asked at any moment, also while the checks of the old goal run: what they gave is not the new goal's.
TEST(SessionManagerTest, AnotherGoalIsJudgedByItsOwnChecks) {
  for (size_t after = 20; after < 400; after += 80) {
    SCOPED_TRACE(after);
    ManagerWorld world(Lines(3));
    ASSERT_TRUE(world.Boot());
    ASSERT_TRUE(
        world.Create(WithGoal("write", {{.command = "has f line 1"}, {.command = "has f line 2"}})).ok());
    size_t tasks = after;
    world.RunUntil([&tasks] { return tasks-- == 0; });
    const GoalSet other{.text = "another", .checks = {{.command = "has g nothing"}}, .budgets = {.calls = 6}};
    ASSERT_TRUE(
        world.Ask<uint64_t>([&](auto done) { world.manager().SetGoal({"s"}, other, std::move(done)); }).ok());
    ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
    EXPECT_EQ(world.Status("s")->goal_state, GoalState::kPaused) << world.Status("s")->row.reason;
  }
}

// Two at a time, asked in one breath: each acts once, and nothing contradicts the log.
TEST(SessionManagerTest, WhatIsAskedAtOnceIsDoneInTurn) {
  ManagerWorld world(Lines(2));
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create({.id = "s", .profile = ManagerWorld::Profile(), .message = "go"}).ok());
  std::vector<base::StatusOr<uint64_t>> answers;
  const auto keep = [&answers](base::StatusOr<uint64_t> seq) { answers.push_back(std::move(seq)); };
  world.manager().Send("s", {.request_id = "r", .text = "more"}, keep);
  world.manager().Send("s", {.request_id = "r", .text = "more"}, keep);
  world.manager().Pause({"s"}, keep);
  world.manager().Resume({"s"}, keep);
  world.manager().Resume({"s"}, keep);
  world.RunUntil([&answers] { return answers.size() == 5; });
  ASSERT_EQ(answers.size(), 5u);
  for (const auto& answer : answers) EXPECT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(*answers[0], *answers[1]);
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
  EXPECT_EQ(world.Status("s")->row.state, SessionState::kIdle) << world.Status("s")->row.reason;
}

// Stopped at any moment, it answers, and goes on at the next start.
TEST(SessionManagerTest, AStopAlwaysEnds) {
  for (size_t after = 0; after < 300; after += 75) {
    SCOPED_TRACE(after);
    ManagerWorld world(Lines(4));
    ASSERT_TRUE(world.Boot());
    ASSERT_TRUE(world.Create(WithGoal("write", {{.command = "has f line 4"}})).ok());
    size_t tasks = after;
    world.RunUntil([&tasks] { return tasks-- == 0; });
    world.manager().Pause({"s"}, [](const base::StatusOr<uint64_t>&) {});
    world.manager().Resume({"s"}, [](const base::StatusOr<uint64_t>&) {});
    bool stopped = false;
    world.manager().Stop([&stopped] { stopped = true; });
    ASSERT_TRUE(world.RunUntil([&stopped] { return stopped; }));
    ASSERT_TRUE(world.Boot());
    if (world.Status("s")->row.state == SessionState::kPaused) {
      ASSERT_TRUE(
          world.Ask<uint64_t>([&](auto done) { world.manager().Resume({"s"}, std::move(done)); }).ok());
    }
    ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
    EXPECT_EQ(world.Status("s")->goal_state, GoalState::kSucceeded) << world.Status("s")->row.reason;
  }
}

// Who has the session to himself, and who waits for it.
TEST(SessionManagerTest, WhoWaitsForASessionAtAStopIsAnswered) {
  ManagerWorld world(Lines(4));
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create(WithGoal("write", {{.command = "has f line 4"}})).ok());
  std::vector<base::StatusOr<uint64_t>> answers;
  const auto keep = [&answers](base::StatusOr<uint64_t> seq) { answers.push_back(std::move(seq)); };
  for (int i = 0; i < 3; ++i) world.manager().Pause({"s"}, keep);
  bool stopped = false;
  world.manager().Stop([&stopped] { stopped = true; });
  ASSERT_TRUE(world.RunUntil([&stopped] { return stopped; }));
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_TRUE(answers.back().ok() || absl::IsUnavailable(answers.back().status()));
  int refused = 0;
  for (const auto& answer : answers) refused += absl::IsUnavailable(answer.status()) ? 1 : 0;
  EXPECT_GE(refused, 2);
}

// Said while the file that is waited for is looked at, and has changed: the wait ends once.
TEST(SessionManagerTest, AWaitIsEndedOnceThoughTheFileChangesMeanwhile) {
  for (size_t after = 0; after < 6; ++after) {
    SCOPED_TRACE(after);
    ManagerWorld world([](const std::string& told) -> Reply {
      if (Has(told, "wait for it")) return {.calls = {{"wait", R"({"file": "f", "seconds": 3600})"}}};
      return {.text = "ok"};
    });
    ASSERT_TRUE(world.Boot());
    ASSERT_TRUE(world.Create({.id = "s", .profile = ManagerWorld::Profile(), .message = "wait for it"}).ok());
    ASSERT_TRUE(world.RunUntilState("s", {SessionState::kWaiting}));
    world.RunFor(3 * base::kNsPerSecond);
    ASSERT_TRUE(world.watched.CreateFile("f", 0644).ok());
    // The next look, and some tasks of it.
    world.clock.Advance(base::kNsPerSecond);
    size_t tasks = after;
    world.RunUntil([&tasks] { return tasks-- == 0; });
    const auto said = world.Ask<uint64_t>([&](auto done) {
      world.manager().SetGoal({"s"}, {.text = "x", .budgets = {.tokens = 0}}, std::move(done));
    });
    ASSERT_TRUE(said.ok()) << said.status();
    ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
    int ended = 0;
    for (const sessions::Event& event : world.Events("s")) {
      const auto* timer = std::get_if<sessions::TimerEnded>(&event.body);
      ended += timer != nullptr && timer->timer == "wait" ? 1 : 0;
    }
    EXPECT_EQ(ended, 1);
    EXPECT_EQ(AgentBodies<WaitEnded>(world.Events("s")).size(), 1u);
    EXPECT_THAT(world.Status("s")->row.reason, Not(HasSubstr("STORAGE")));
  }
}

TEST(SessionManagerTest, RequestsActOnce) {
  ManagerWorld world(Lines(1));
  ASSERT_TRUE(world.Boot());
  const NewSession session{.id = "s", .profile = ManagerWorld::Profile(), .message = "go"};
  ASSERT_TRUE(world.Create(session).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(world.Create(session).status()));
  const auto first = world.Send("s", {.request_id = "r", .text = "more"});
  const auto again = world.Send("s", {.request_id = "r", .text = "more"});
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_EQ(*first, *again);
  EXPECT_TRUE(absl::IsNotFound(world.Send("nobody", {.text = "x"}).status()));
}

TEST(SessionManagerTest, AFullDiskPausesAndRoomLetsItGoOn) {
  ManagerWorld world(Lines(6));
  ASSERT_TRUE(world.Boot());
  ASSERT_TRUE(world.Create(WithGoal("write six lines", {{.command = "has f line 6"}})).ok());
  size_t tasks = 150;
  world.RunUntil([&tasks] { return tasks-- == 0; });
  for (int i = 0; i < 3; ++i) world.fs.FailNext(test::SimOp::kWrite, "holdfast.db", ENOSPC);
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kPaused, SessionState::kIdle}));
  EXPECT_THAT(world.Status("s")->row.reason, HasSubstr("STORAGE"));
  ASSERT_TRUE(world.Ask<uint64_t>([&](auto done) { world.manager().Resume({"s"}, std::move(done)); }).ok());
  ASSERT_TRUE(world.RunUntilState("s", {SessionState::kIdle, SessionState::kPaused}));
  EXPECT_EQ(world.Status("s")->goal_state, GoalState::kSucceeded) << world.Status("s")->row.reason;
}

}  // namespace
}  // namespace holdfast::agent
