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
  world.RunWithKills(1, {});
  EXPECT_TRUE(world.rest == Rest::kDone || world.rest == Rest::kWindowFull);
  size_t sampled = 0;
  std::set<std::string> tools;
  std::map<std::string, int> outcomes;
  for (const Event& event : world.disk.events) {
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
  EXPECT_FALSE(tools.empty());
  for (const auto& [call, count] : outcomes) EXPECT_EQ(count, 1) << call;
}

// When tasks run, and how long tools take, changes nothing.
TEST(TurnLoopTest, TimingChangesNoToken) {
  World first;
  first.RunWithKills(1, {});
  for (const uint64_t seed : test::TestSeeds(4)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    World other;
    other.RunWithKills(100 + seed, {});
    EXPECT_EQ(Window(other.disk), Window(first.disk));
    EXPECT_EQ(other.disk.files, first.disk.files);
  }
}

TEST(TurnLoopTest, FullDiskEndsInRestWithTheReason) {
  World world;
  SimProcess process(world.disk, world.fs, world.clock, 1);
  process.Run();
  for (int i = 0; i < 50; ++i) process.Step();
  process.log().FailFromNowOn(base::ResourceExhausted("disk full"));
  while (!process.rested()) ASSERT_TRUE(process.Step());
  EXPECT_EQ(process.rest(), Rest::kFailed);
  EXPECT_TRUE(absl::IsResourceExhausted(process.status()));
}

// At any task: the turn is closed by rule, no call is left without an outcome, and the log goes on.
TEST(TurnLoopTest, InterruptClosesTheTurnAnywhere) {
  for (const uint64_t seed : test::TestSeeds(20)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    World world;
    SimProcess process(world.disk, world.fs, world.clock, seed);
    process.Run();
    for (uint64_t i = 0; i < 17 * seed && !process.rested(); ++i) process.Step();
    if (process.rested()) break;
    process.loop().Interrupt();
    size_t tasks = 0;
    while (!process.rested() && tasks++ < 300'000) ASSERT_TRUE(process.Step());
    ASSERT_TRUE(process.rested());
    sessions::SessionFacts facts;
    for (const Event& event : world.disk.events) ASSERT_TRUE(facts.Apply(event).ok());
    EXPECT_TRUE(facts.open_calls().empty());
  }
}

}  // namespace
}  // namespace holdfast::agent
