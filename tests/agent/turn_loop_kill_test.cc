// The turn loop killed at any task, and without power from any write on, against the same session left alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "agent/turn_loop.h"
#include "tests/agent/agent_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::agent {
namespace {

using sessions::CallOutcome;
using sessions::Event;

// What must hold of a world that died on the way, beside one that did not. Returns whether a call of unknown
// outcome is in it.
bool Compare(World& world, World& whole) {
  std::map<std::string, int> outcomes;
  std::map<std::string, int> sent;
  std::string first_unknown;
  for (const Event& event : world.Events()) {
    if (const auto* intent = std::get_if<sessions::CallIntent>(&event.body)) {
      if (intent->tool == "send@1") ++sent[intent->arguments];
      outcomes.emplace(intent->call, 0);
    }
    if (const auto* outcome = std::get_if<CallOutcome>(&event.body)) {
      ++outcomes[outcome->call];
      if (outcome->status == sessions::CallStatus::kUnknown && first_unknown.empty()) {
        first_unknown = outcome->call;
      }
    }
  }
  for (const auto& [call, count] : outcomes) EXPECT_EQ(count, 1) << call;
  // A call that is not contained starts once at most.
  for (const auto& [arguments, count] : world.disk.sent) EXPECT_LE(count, sent[arguments]) << arguments;

  std::vector<std::vector<int32_t>> expected = whole.Windows();
  std::vector<std::vector<int32_t>> windows = world.Windows();
  if (first_unknown.empty()) {
    EXPECT_EQ(world.rest, whole.rest) << world.status;
    EXPECT_EQ(world.disk.files, whole.disk.files);
    EXPECT_EQ(windows, expected);
    return false;
  }
  const size_t epoch = std::stoul(first_unknown.substr(1));  // c<epoch>.<position>.<index>
  const size_t position = std::stoul(first_unknown.substr(first_unknown.find('.') + 1));
  for (auto* both : {&windows, &expected}) {
    EXPECT_GT(both->size(), epoch);
    both->resize(epoch + 1);
    EXPECT_GE(both->back().size(), position);
    both->back().resize(position);
  }
  EXPECT_EQ(windows, expected);
  return true;
}

// Killed anywhere, again and again: each call has one outcome, what is not contained runs once at most, and
// without an unknown outcome tokens and files are those of the run that was left alone. With one they are the
// same up to the call that it is of.
TEST(TurnLoopKillTest, NothingIsLostAndNothingDoneTwice) {
  World whole;
  whole.Run(1, {});
  ASSERT_EQ(whole.rest, Rest::kDone);
  size_t unknown = 0;
  const auto seeds = test::TestSeeds(40);
  for (const uint64_t seed : seeds) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::vector<Death> deaths(1 + random.Below(8));
    for (Death& death : deaths) {
      death.tasks = 1 + random.Below(random.Percent(50) ? 60 : 600);
      if (random.Percent(50)) death.mutations = 1 + random.Below(random.Percent(50) ? 40 : 400);
    }
    World world(seed);
    ASSERT_NO_FATAL_FAILURE(world.Run(seed * 1000, deaths));
    unknown += Compare(world, whole) ? 1 : 0;
  }
  EXPECT_TRUE(unknown > 0 || seeds.size() < 40) << "no death has hit a call that is not contained";
}

// Each write of a stretch of the run, one after the other.
TEST(TurnLoopKillTest, PowerCutAtEveryWriteOfAStretch) {
  World whole;
  whole.Run(1, {});
  const uint64_t all = whole.fs.mutations();
  for (const uint64_t seed : test::TestSeeds(30)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    World world(seed);
    ASSERT_NO_FATAL_FAILURE(world.Run(1, {{.mutations = seed + all / 3}}));
    Compare(world, whole);
  }
}

}  // namespace
}  // namespace holdfast::agent
