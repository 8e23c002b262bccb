#include "agent/turn_loop.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/agent/agent_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::agent {
namespace {

using sessions::CallOutcome;
using sessions::Event;
using sessions::TokenRun;

TEST(TurnLoopTest, SpeaksCallsAndEnds) {
  World world;
  world.Run(1, {});
  EXPECT_EQ(world.rest, Rest::kDone) << world.status;
  size_t sampled = 0;
  std::set<std::string> tools;
  std::map<std::string, int> outcomes;
  for (const Event& event : world.Events()) {
    if (const auto* run = std::get_if<TokenRun>(&event.body)) {
      if (run->origin == sessions::TokenOrigin::kSampled) {
        sampled += run->ids.size();
        EXPECT_LE(run->ids.size(), 40u);
      }
    }
    if (const auto* intent = std::get_if<sessions::CallIntent>(&event.body)) tools.insert(intent->tool);
    if (const auto* outcome = std::get_if<CallOutcome>(&event.body)) ++outcomes[outcome->call];
  }
  EXPECT_GT(sampled, 100u);
  EXPECT_TRUE(tools.contains("append@1") && tools.contains("send@1"));
  for (const auto& [call, count] : outcomes) EXPECT_EQ(count, 1) << call;
}

// Attached, prefilled, decoded, forced and discarded tokens balance with what the window holds.
TEST(TurnLoopTest, AccountsBalance) {
  World world;
  world.Run(1, {});
  sessions::SessionFacts facts;
  for (const Event& event : world.Events()) ASSERT_TRUE(facts.Apply(event).ok());
  const sessions::TokenTotals& totals = facts.tokens().totals();
  const sessions::TokensAccounted& accounted = facts.accounted();
  EXPECT_EQ(accounted.decoded, totals.sampled);
  EXPECT_EQ(accounted.forced, totals.forced);
  EXPECT_EQ(accounted.discarded, totals.cut);
  EXPECT_EQ(totals.fed + totals.sampled + totals.forced - totals.cut,
            static_cast<uint64_t>(facts.tokens().position()));
}

// When tasks run, and how long tools take, changes nothing.
TEST(TurnLoopTest, TimingChangesNoToken) {
  World first;
  first.Run(1, {});
  for (const uint64_t seed : test::TestSeeds(4)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    World other;
    other.Run(100 + seed, {});
    EXPECT_EQ(other.Windows(), first.Windows());
    EXPECT_EQ(other.disk.files, first.disk.files);
  }
}

TEST(TurnLoopTest, FullDiskEndsInRestWithTheReason) {
  World world;
  SimProcess process(world.disk, world.fs, world.clock, 1);
  for (int i = 0; i < 80; ++i) process.Step();
  ASSERT_FALSE(process.rested());
  world.fs.FailRandomly(test::SimOp::kWrite, 100, ENOSPC);
  while (!process.rested()) ASSERT_TRUE(process.Step());
  EXPECT_EQ(process.rest(), Rest::kFailed);
  EXPECT_TRUE(absl::IsResourceExhausted(process.status())) << process.status();
}

// At any task: the turn is closed by rule, no call is left without an outcome, and the log goes on.
TEST(TurnLoopTest, InterruptClosesTheTurnAnywhere) {
  for (const uint64_t seed : test::TestSeeds(20)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    World world;
    {
      SimProcess process(world.disk, world.fs, world.clock, seed);
      for (uint64_t i = 0; i < 23 * seed && !process.rested(); ++i) process.Step();
      if (process.rested()) break;
      process.Interrupt();
      size_t tasks = 0;
      while (!process.rested() && tasks++ < 300'000) ASSERT_TRUE(process.Step());
      ASSERT_TRUE(process.rested());
    }
    sessions::SessionFacts facts;
    for (const Event& event : world.Events()) ASSERT_TRUE(facts.Apply(event).ok());
    EXPECT_TRUE(facts.open_calls().empty());
  }
}

}  // namespace
}  // namespace holdfast::agent
