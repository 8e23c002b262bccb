// A goal of three days on a simulated machine: waits, approvals, budget stops, crashes and power cuts, and a
// window that fills again and again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/agent_event.h"
#include "agent/agent_facts.h"
#include "tests/agent/manager_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::agent {
namespace {

using sessions::SessionState;

constexpr int kItems = 60;
constexpr char kGoal[] =
    "Do the items i01 to i60, one after the other, and nothing else. Never do one twice.";

std::string Name(int item) {
  char name[8];
  std::snprintf(name, sizeof(name), "i%02d", item);
  return name;
}

// All items, those to `done` done: what a model says that remembers nothing but the last result.
std::string PlanTo(int done) {
  std::string items;
  for (int i = 1; i <= kItems; ++i) {
    items += (i == 1 ? "" : ",") + std::string(R"({"text":")") + Name(i) +
             (i <= done ? R"(","state":"done"})" : R"("})");
  }
  return R"({"items":[)" + items + "]}";
}

// The first item that the last plan shows as pending.
Reply NextItem(const std::string& told) {
  const size_t pending = told.find("pending: i");
  if (pending == std::string::npos) {
    if (told.find("done: " + Name(kItems)) == std::string::npos) return {.calls = {{"plan", PlanTo(0)}}};
    return {.text = "All is done.", .calls = {{"goal", R"({"status":"done","evidence":"the plan"})"}}};
  }
  const int item = std::stoi(told.substr(pending + 10, 2));
  Reply reply;
  if (item % 5 == 0) {
    reply.calls.emplace_back("send", R"({"path":")" + Name(item) + R"("})");
  } else if (item % 5 != 1) {
    reply.calls.emplace_back("append", R"({"path":"f","text":")" + Name(item) + R"("})");
  }
  reply.calls.emplace_back("plan", PlanTo(item));
  if (item % 5 == 1 || item % 5 == 2) reply.calls.emplace_back("wait", R"({"seconds":10800})");
  return reply;
}

Reply Model(const std::string& told) {
  if (told.find("recorded; when this turn ends") != std::string::npos) return {.text = "Done."};
  return NextItem(told);
}

int DoneItems(const AgentFacts& facts) {
  return static_cast<int>(std::count_if(facts.plan().begin(), facts.plan().end(),
                                        [](const PlanItem& item) { return item.state == "done"; }));
}

// What must hold of the record at every event of it.
struct Witness {
  AgentFacts facts;
  SessionState state = SessionState::kIdle;
  std::map<std::string, int> outcomes;
  std::set<std::string> goals;  // its text in the openings
  int64_t tokens_while_waiting = 0;
  int64_t waited_ms = 0, waits_since_utc_ms = 0;
  int epochs = 1, waits = 0, budget_stops = 0, approvals = 0, recoveries = 0, done = 0, sends = 0;

  void See(const sessions::Event& event) {
    facts.Apply(event);
    EXPECT_GE(DoneItems(facts), done) << "event " << event.seq << " opens an item again";
    done = DoneItems(facts);
    if (const auto* changed = std::get_if<sessions::StateChanged>(&event.body)) {
      if (state == SessionState::kWaiting) waited_ms += event.utc_ms - waits_since_utc_ms;
      if (changed->state == SessionState::kWaiting) waits_since_utc_ms = event.utc_ms;
      waits += changed->wait == sessions::WaitFor::kTimer ? 1 : 0;
      approvals += changed->wait == sessions::WaitFor::kApproval ? 1 : 0;
      budget_stops += changed->reason.starts_with("BUDGET_") ? 1 : 0;
      state = changed->state;
    } else if (const auto* run = std::get_if<sessions::TokenRun>(&event.body)) {
      if (state != SessionState::kRunning) tokens_while_waiting += static_cast<int64_t>(run->ids.size());
    } else if (const auto* intent = std::get_if<sessions::CallIntent>(&event.body)) {
      outcomes[intent->call] = 0;
      sends += intent->tool == "send@1" ? 1 : 0;
    } else if (const auto* outcome = std::get_if<sessions::CallOutcome>(&event.body)) {
      ++outcomes[outcome->call];
    } else if (std::holds_alternative<sessions::EpochStarted>(event.body)) {
      ++epochs;
    } else if (std::holds_alternative<sessions::Recovered>(event.body)) {
      ++recoveries;
    } else if (const auto* agent = std::get_if<sessions::AgentEvent>(&event.body)) {
      const auto body = Decode(*agent);
      ASSERT_TRUE(body.ok());
      if (const auto* opening = std::get_if<Opening>(&**body)) {
        ASSERT_FALSE(opening->texts.empty());
        goals.insert(opening->texts.front());
      }
    }
  }
};

TEST(LongGoalTest, ThreeDaysWithCrashesKeepGoalAndPlan) {
  test::SeededRandom random(test::TestSeeds(1).front());
  ManagerWorld world(Model);
  ASSERT_TRUE(world.Boot());
  NewSession session{.id = "s", .profile = ManagerWorld::Profile(), .seed = 3};
  session.profile.tools = {"append@1", "send@1", "plan@1", "wait@1", "goal@1"};
  session.profile.window_tokens_max = 6500;
  session.profile.turn_tokens_max = 2500;
  session.goal = GoalSet{.text = kGoal, .budgets = {.tokens = 60'000}};
  ASSERT_TRUE(world.Create(session).ok());

  const int64_t begun_ns = world.clock.UtcNow().ns;
  int crashes = 0;
  for (int round = 0; round < 100'000; ++round) {
    const auto status = world.Status("s");
    ASSERT_TRUE(status.ok()) << status.status();
    const sessions::SessionRow& row = status->row;
    if (status->goal_state == GoalState::kFinishedUnverified && row.state == SessionState::kIdle) break;
    if (row.state == SessionState::kPaused) {
      ASSERT_EQ(row.reason, "BUDGET_TOKENS");
      Budgets more = status->budgets;
      more.tokens += 60'000;
      ASSERT_TRUE(
          world.Ask<uint64_t>([&](auto done) { world.manager().SetBudgets({"s"}, more, std::move(done)); })
              .ok());
    } else if (!status->questions.empty()) {
      world.RunFor(3'600 * base::kNsPerSecond);  // people take their time
      ASSERT_TRUE(world
                      .Ask<uint64_t>([&](auto done) {
                        world.manager().Answer("s",
                                               {.call = status->questions[0].call,
                                                .action = status->questions[0].action,
                                                .allowed = true},
                                               std::move(done));
                      })
                      .ok());
    } else if (row.state == SessionState::kWaiting) {
      world.RunFor(600 * base::kNsPerSecond);
    } else {
      ASSERT_EQ(row.state, SessionState::kRunning) << row.reason;
    }
    size_t tasks = 300;
    world.RunUntil([&tasks] { return tasks-- == 0; }, base::kNsPerSecond);
    if (random.Percent(4) && crashes < 60) {
      ++crashes;
      random.Percent(40) ? world.PowerCut() : world.Kill();
      ASSERT_TRUE(world.Boot());
    }
  }
  Witness witness;
  for (const sessions::Event& event : world.Events("s")) ASSERT_NO_FATAL_FAILURE(witness.See(event));
  const int64_t hours = (world.clock.UtcNow().ns - begun_ns) / (3'600 * base::kNsPerSecond);
  std::printf(
      "%lld hours, of which %lld waited; %d epochs, %d waits, %d approvals, %d budget stops, %d crashes, %d "
      "recoveries; "
      "%lld tokens\n",
      static_cast<long long>(hours), static_cast<long long>(witness.waited_ms / 3'600'000), witness.epochs,
      witness.waits, witness.approvals, witness.budget_stops, crashes, witness.recoveries,
      static_cast<long long>(witness.facts.used().tokens));
  EXPECT_EQ(witness.facts.goal_state(), GoalState::kFinishedUnverified);
  EXPECT_EQ(witness.done, kItems);
  EXPECT_EQ(witness.goals.size(), 1u) << "the goal was told in other words";
  EXPECT_EQ(witness.tokens_while_waiting, 0);
  for (const auto& [call, outcomes] : witness.outcomes) EXPECT_EQ(outcomes, 1) << call;
  EXPECT_LE(world.disk.sends, witness.sends);
  EXPECT_GE(hours, 72);
  EXPECT_GE(witness.epochs, 50);
  EXPECT_GE(crashes, 20);
  EXPECT_GE(witness.budget_stops, 2);
}

}  // namespace
}  // namespace holdfast::agent
