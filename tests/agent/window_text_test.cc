#include "agent/window_text.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <vector>

#include "tests/agent/agent_history_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::agent {
namespace {

using test::SeededRandom;
using test::TestSeeds;

const std::vector<std::string> kAllTools = {"bash@2", "plan@1", "goal@1", "wait@1", "note@1", "recall@1"};

AgentHistory SessionWith(std::vector<std::string> tools, const std::string& instructions = "") {
  AgentHistory history;
  ProfileSet profile = ProfileWith(std::move(tools));
  profile.instructions = instructions;
  history.Put(profile);
  return history;
}

bool Holds(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// The line stands in the section that begins with `title`.
bool HoldsUnder(const std::string& text, const std::string& title, const std::string& line) {
  const size_t begin = text.find("\n" + title + "\n");
  if (begin == std::string::npos) return false;
  return Holds(text.substr(begin, text.find("\n\n", begin) - begin) + "\n", "\n" + line + "\n");
}

constexpr const char* kPlanTitle = "The plan:";
constexpr const char* kFinishedTitle = "Finished, not to be done again:";

TEST(OpeningTextTest, ConversationBeginsWithNothingAndGoesOnWithAWord) {
  const AgentHistory history = SessionWith({});
  EXPECT_TRUE(OpeningTexts(history.facts(), 0).empty());
  const auto later = OpeningTexts(history.facts(), 1);
  ASSERT_EQ(later.size(), 1u);
  EXPECT_EQ(
      later[0],
      "This goes on from an earlier window. What was said and done in it is no longer shown, but for the "
      "last turns where they follow.\n");
}

TEST(OpeningTextTest, NotesOfAConversationAreCarriedOver) {
  AgentHistory history = SessionWith({"note@1"});
  history.Put(NoteTaken{.text = "the port is 80"});
  EXPECT_TRUE(Holds(OpeningTexts(history.facts(), 1).at(0), "Note 1:\nthe port is 80\n"));
}

TEST(OpeningTextTest, ModelWithoutGoalToolIsGivenTheBareGoal) {
  AgentHistory history = SessionWith({"grep@1", "edit@1", "bash@1", "read@1"});
  history.Put(GoalSet{.text = "Fix the bug in a.py", .checks = {{.command = "make test"}}});
  EXPECT_EQ(OpeningTexts(history.facts(), 0), std::vector<std::string>{"Fix the bug in a.py"});
  EXPECT_EQ(OpeningTexts(history.facts(), 1).at(0), "Fix the bug in a.py");
}

TEST(OpeningTextTest, InstructionsStandFirst) {
  AgentHistory history = SessionWith({"bash@1"}, "Use tabs.");
  EXPECT_EQ(OpeningTexts(history.facts(), 0), std::vector<std::string>{"Use tabs."});
  history.Put(GoalSet{.text = "g"});
  EXPECT_EQ(OpeningTexts(history.facts(), 0), (std::vector<std::string>{"Use tabs.", "g"}));
  const auto later = OpeningTexts(history.facts(), 3);
  ASSERT_EQ(later.size(), 3u);
  EXPECT_EQ(later[0], "Use tabs.");
  EXPECT_EQ(later[1], "g");
}

TEST(OpeningTextTest, GoalIsToldWithItsChecks) {
  AgentHistory history = SessionWith(kAllTools);
  history.Put(GoalSet{.text = "g", .checks = {{.command = "make test"}, {.command = "make lint"}}});
  EXPECT_EQ(
      GoalText(history.facts()),
      "Your goal:\ng\n\nIt is reached when this passes, in the root of the workspace. It is run for you on "
      "a copy whenever you end a turn:\n$ make test\n$ make lint\n");
  history.Put(GoalSet{.text = "g\n"});
  EXPECT_EQ(GoalText(history.facts()),
            "Your goal:\ng\n\nWhen it is done, or when you cannot go on, say so with the goal tool.\n");
}

TEST(OpeningTextTest, LaterWindowCarriesPlanFinishedItemsAndNotes) {
  AgentHistory history = SessionWith(kAllTools);
  history.Put(GoalSet{.text = "g"});
  history.Put(PlanSet{.items = {{.text = "read", .state = "done"},
                                {.text = "write", .state = "active"},
                                {.text = "test", .state = "pending"},
                                {.text = "sing", .state = "dropped"}}});
  history.Put(NoteTaken{.text = "first\nin two lines"});
  history.Put(NoteTaken{.text = "second"});
  ASSERT_EQ(OpeningTexts(history.facts(), 0).size(), 1u);
  EXPECT_EQ(
      OpeningTexts(history.facts(), 1).at(1),
      "This goes on from an earlier window. What was said and done in it is no longer shown, but for the "
      "last turns where they follow.\n"
      "\nThe plan:\n- (active) write\n- test\n"
      "\nFinished, not to be done again:\n- read\n"
      "\nYour notes, the newest last:\nNote 1:\nfirst\nin two lines\nNote 2:\nsecond\n"
      "\nEverything earlier can be looked up: recall finds it by words, and shows an event whole by its "
      "number.\n");
}

TEST(OpeningTextTest, RecallIsNamedOnlyWhereThereIsSuchATool) {
  EXPECT_TRUE(Holds(OpeningTexts(SessionWith({"recall@1"}).facts(), 1).at(0), "recall"));
  EXPECT_FALSE(Holds(OpeningTexts(SessionWith({"note@1"}).facts(), 1).at(0), "recall"));
}

TEST(OpeningTextTest, GoalThatIsOverIsSaidToBe) {
  AgentHistory history = SessionWith(kAllTools);
  history.Put(GoalSet{.text = "g"});
  EXPECT_FALSE(Holds(OpeningTexts(history.facts(), 1).at(1), "its end"));
  history.Put(GoalChanged{.state = GoalState::kSucceeded});
  EXPECT_TRUE(Holds(OpeningTexts(history.facts(), 1).at(1), "The goal has come to its end: SUCCEEDED.\n"));
}

TEST(OpeningTextTest, EverythingIsBoundedAndWhatIsLeftOutIsSaid) {
  AgentHistory history = SessionWith(kAllTools, std::string(1 << 20, 'i'));
  GoalSet goal{.text = std::string(1 << 20, 'g')};
  for (int i = 0; i < 1000; ++i) goal.checks.push_back({.command = std::string(10'000, 'c')});
  history.Put(goal);
  PlanSet plan;
  for (int i = 0; i < 2000; ++i) {
    const std::string text = std::to_string(i) + std::string(10'000, 'p');
    plan.items.push_back({.text = text, .state = i % 2 == 0 ? "done" : "pending"});
  }
  history.Put(plan);
  for (int i = 0; i < 500; ++i) history.Put(NoteTaken{.text = std::to_string(i) + std::string(3'990, 'n')});
  const auto texts = OpeningTexts(history.facts(), 1);
  ASSERT_EQ(texts.size(), 3u);
  EXPECT_LE(texts[0].size(), kInstructionsBytesMax);
  EXPECT_LE(texts[1].size(), kGoalBytesMax + (17 << 10));
  EXPECT_LE(texts[2].size(), 2 * kPlanBytesMax + kNotesBytesMax + 1'024);
  EXPECT_TRUE(Holds(texts[0], "bytes left out"));
  EXPECT_TRUE(Holds(texts[1], "bytes left out"));
  EXPECT_TRUE(Holds(texts[1], " checks more)\n"));
  EXPECT_TRUE(Holds(texts[2], " open items more)\n"));
  EXPECT_TRUE(Holds(texts[2], " finished items before these)\n"));
  EXPECT_TRUE(Holds(texts[2], "(496 notes before these)\nNote 497:\n"));
  EXPECT_TRUE(Holds(texts[2], "Note 500:\n499nnn"));
}

TEST(OpeningTextTest, NewestNoteIsShownWhateverItsSize) {
  AgentHistory history = SessionWith(kAllTools);
  history.Put(NoteTaken{.text = std::string(100, 'o')});
  history.Put(NoteTaken{.text = "begin" + std::string(1 << 20, 'n') + "end"});
  const std::string text = OpeningTexts(history.facts(), 1).at(0);
  EXPECT_TRUE(Holds(text, "(1 note before these)\nNote 2:\nbegin"));
  EXPECT_TRUE(Holds(text, "end\n"));
}

TEST(OpeningTextTest, TimesAndEventNumbersChangeNoByte) {
  const auto texts = [](int64_t ms, int64_t tokens_at_once) {
    AgentHistory history = SessionWith(kAllTools);
    history.Put(GoalSet{.text = "g", .checks = {{.command = "true"}}}, ms);
    history.State(sessions::SessionState::kRunning, "", ms);
    for (int64_t i = 0; i < 120; i += tokens_at_once) history.Tokens(tokens_at_once);
    history.Put(PlanSet{.items = {{.text = "a", .state = "active"}}}, ms);
    history.Put(NoteTaken{.text = "n"}, ms);
    std::vector<std::string> all = OpeningTexts(history.facts(), 1);
    all.push_back(ReminderText(history.facts()));
    return all;
  };
  EXPECT_EQ(texts(1, 10), texts(60'000, 3));
}

TEST(ReminderTextTest, SaysGoalOpenItemsAndWhatIsLeft) {
  AgentHistory history = SessionWith(kAllTools);
  EXPECT_EQ(ReminderText(history.facts()), "");
  history.Put(GoalSet{.text = "g", .budgets = {.tokens = 10'000, .calls = 500}});
  history.Put(PlanSet{.items = {{.text = "a", .state = "done"}, {.text = "b", .state = "active"}}});
  history.Tokens(1'234);
  history.Call("x", "y");
  EXPECT_EQ(
      ReminderText(history.facts()),
      "Reminder. Your goal:\ng\n\nWhen it is done, or when you cannot go on, say so with the goal tool.\n"
      "\nOpen items of the plan:\n- (active) b\n"
      "\nWhat is left for it:\n- about 8700 tokens\n- about 490 calls\n");
}

TEST(ReminderTextTest, NamesNoBoundThatThereIsNot) {
  const int64_t no_bound = std::numeric_limits<int64_t>::max();
  AgentHistory history = SessionWith({});
  history.Put(GoalSet{.text = "g", .budgets = {.tokens = no_bound, .calls = no_bound}});
  EXPECT_EQ(ReminderText(history.facts()), "Reminder. g\n");
  history.Put(BudgetsSet{.budgets = {.tokens = 0, .calls = no_bound}});
  history.Tokens(5);
  EXPECT_EQ(ReminderText(history.facts()), "Reminder. g\n\nWhat is left for it:\n- about 0 tokens\n");
}

TEST(ReminderTextTest, IsBounded) {
  AgentHistory history = SessionWith(kAllTools);
  history.Put(GoalSet{.text = std::string(1 << 20, 'g')});
  PlanSet plan;
  for (int i = 0; i < 1000; ++i) plan.items.push_back({.text = std::to_string(i), .state = "pending"});
  history.Put(plan);
  EXPECT_LE(ReminderText(history.facts()).size(), 2 * kReminderGoalBytesMax + 256);
}

// A model that plans carelessly: leaves out what is done, opens it again, drops it, names it twice.
PlanSet CarelessPlan(SeededRandom& random) {
  PlanSet plan;
  for (int i = 0; i < 12; ++i) {
    static const std::vector<std::string> kStates = {"pending", "pending", "active", "done", "dropped"};
    const std::string state = kStates[random.Below(kStates.size())];
    plan.items.push_back({.text = "item " + std::to_string(random.Below(40)), .state = state});
  }
  return plan;
}

TEST(OpeningTextTest, FiftyEpochsKeepTheGoalToTheByteAndReopenNothing) {
  for (const uint64_t seed : TestSeeds(15)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    SeededRandom random(seed);
    AgentHistory history = SessionWith(kAllTools, "Use tabs.");
    history.Put(GoalSet{.text = "build it", .checks = {{.command = "make test"}}});
    const auto first = OpeningTexts(history.facts(), 0);
    std::set<std::string> done;
    for (uint32_t epoch = 1; epoch <= 50; ++epoch) {
      history.Tokens(random.Between(1, 500));
      if (random.Percent(70)) {
        const PlanSet plan = CarelessPlan(random);
        for (const PlanItem& item : plan.items) {
          if (item.state == "done") done.insert(item.text);
        }
        history.Put(plan);
      }
      if (random.Percent(30)) history.Put(NoteTaken{.text = std::to_string(random.Next())});
      if (random.Percent(20)) history.Put(BudgetsSet{.budgets = {.tokens = random.Between(1, 1'000'000)}});
      const auto texts = OpeningTexts(history.facts(), epoch);
      ASSERT_EQ(texts.size(), 3u);
      ASSERT_EQ(texts[0], first.at(0));
      ASSERT_EQ(texts[1], first.at(1));
      for (const std::string& text : done) {
        ASSERT_TRUE(HoldsUnder(texts[2], kFinishedTitle, "- " + text)) << text << "\n" << texts[2];
        ASSERT_FALSE(HoldsUnder(texts[2], kPlanTitle, "- " + text)) << text << "\n" << texts[2];
        ASSERT_FALSE(HoldsUnder(texts[2], kPlanTitle, "- (active) " + text)) << text << "\n" << texts[2];
      }
      history.Epoch(100);
    }
    EXPECT_GT(done.size(), 20u);
  }
}

}  // namespace
}  // namespace holdfast::agent
