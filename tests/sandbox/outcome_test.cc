#include "sandbox/outcome.h"

#include <set>

#include "gmock/gmock.h"

namespace holdfast::sandbox {
namespace {

using ::testing::ElementsAre;

TEST(OutcomeTest, EveryLayerHasItsOwnName) {
  std::set<std::string_view> names;
  for (uint32_t i = 0; i < static_cast<uint32_t>(Layer::kEnd); ++i)
    names.insert(LayerName(static_cast<Layer>(i)));
  EXPECT_EQ(names.size(), static_cast<size_t>(Layer::kEnd));
  EXPECT_THAT(LayerNames(Bit(Layer::kSeccomp) | Bit(Layer::kUserNamespace)),
              ElementsAre("user namespace", "seccomp"));
}

TEST(OutcomeTest, DescriptionsDependOnTheEndingOnly) {
  EXPECT_EQ(Describe(Outcome{.exit_code = 3, .usage = {.wall_ms = 7}}), "exit 3");
  EXPECT_EQ(Describe(Outcome{.ending = Ending::kSignalled, .signal = 9}), "killed by signal 9 (Killed)");
  EXPECT_EQ(Describe(Outcome{.ending = Ending::kLimit, .limit = LimitKind::kMemory}),
            "stopped by the limit on memory");
  EXPECT_EQ(Describe(Outcome{.ending = Ending::kNotStarted, .start_error = "x: command not found"}),
            "not started: x: command not found");
  EXPECT_EQ(Describe(Outcome{.ending = Ending::kKilled}), "killed on request");
}

TEST(OutcomeTest, OnlyExitZeroIsOk) {
  EXPECT_TRUE(Outcome{}.ok());
  EXPECT_FALSE(Outcome{.exit_code = 1}.ok());
  EXPECT_FALSE(Outcome{.ending = Ending::kLimit}.ok());
}

}  // namespace
}  // namespace holdfast::sandbox
