// The turn loop killed at any task, against the same session left alone.
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

// Killed anywhere, again and again: each call has one outcome, what is not contained runs once at most, and
// without an unknown outcome tokens and files are those of the run that was not killed. With one they are the
// same up to the call that it is of.
TEST(TurnLoopTest, KillsLoseNothingAndDoNothingTwice) {
  World whole;
  whole.RunWithKills(1, {});
  const std::vector<int32_t> expected = Window(whole.disk);
  size_t unknown_worlds = 0;
  for (const uint64_t seed : test::TestSeeds(40)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::vector<size_t> kills(1 + random.Below(8));
    for (size_t& kill : kills) kill = 1 + random.Below(random.Percent(50) ? 60 : 600);
    World world;
    ASSERT_NO_FATAL_FAILURE(world.RunWithKills(seed * 1000, kills));
    EXPECT_EQ(world.rest, whole.rest);

    std::map<std::string, int> outcomes;
    std::map<std::string, int> sent;
    std::string first_unknown;
    for (const Event& event : world.disk.events) {
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
    for (const auto& [arguments, count] : world.disk.sent) EXPECT_LE(count, sent[arguments]) << arguments;

    const std::vector<int32_t> window = Window(world.disk);
    size_t same = expected.size();
    if (first_unknown.empty()) {
      EXPECT_EQ(world.disk.files, whole.disk.files);
      ASSERT_EQ(window.size(), expected.size());
    } else {
      ++unknown_worlds;
      same = std::stoul(first_unknown.substr(first_unknown.find('.') + 1));  // c<epoch>.<position>.<index>
    }
    ASSERT_GE(window.size(), same);
    EXPECT_TRUE(
        std::equal(expected.begin(), expected.begin() + static_cast<ptrdiff_t>(same), window.begin()));
  }
  if (test::TestSeeds(40).size() == 40) {
    EXPECT_GT(unknown_worlds, 0u) << "no kill has hit a call that is not contained";
  }
}

}  // namespace
}  // namespace holdfast::agent
