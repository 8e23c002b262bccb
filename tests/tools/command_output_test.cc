#include "tools/commands/command_output.h"

#include <algorithm>
#include <string>

#include "base/coding.h"
#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"
#include "tools/text/utf8.h"

namespace holdfast::tools {
namespace {

TEST(CommandOutputTest, WhatFitsIsWhole) {
  OutputCollector collector({.head_bytes = 4, .tail_bytes = 6}, nullptr);
  ASSERT_TRUE(collector.Append(base::AsBytes("0123456789")).ok());
  const ShownOutput shown = collector.Shown();
  EXPECT_EQ(shown.head, "0123456789");
  EXPECT_EQ(shown.omitted_bytes, 0u);
}

TEST(CommandOutputTest, HeadAndTailAndTheCountBetweenAreExactInAnyPieces) {
  for (const uint64_t seed : test::TestSeeds(3000)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    const OutputBounds bounds{.head_bytes = random.Below(30), .tail_bytes = random.Below(30)};
    OutputCollector collector(bounds, nullptr);
    std::string whole;
    for (uint64_t n = random.Below(8); n > 0; --n) {
      std::string piece;
      for (uint64_t m = random.Below(25); m > 0; --m) piece += random.Percent(20) ? "\n" : "ö";
      for (uint64_t m = random.Below(5); m > 0; --m) piece += "漢";
      whole += piece;
      ASSERT_TRUE(collector.Append(base::AsBytes(piece)).ok());
    }
    const ShownOutput shown = collector.Shown();
    EXPECT_EQ(collector.total_bytes(), whole.size());
    ASSERT_TRUE(whole.starts_with(shown.head));
    ASSERT_TRUE(whole.ends_with(shown.tail));
    EXPECT_TRUE(IsUtf8(shown.head));
    EXPECT_TRUE(IsUtf8(shown.tail));
    const std::string between =
        whole.substr(shown.head.size(), whole.size() - shown.head.size() - shown.tail.size());
    EXPECT_EQ(shown.omitted_bytes, between.size());
    EXPECT_EQ(shown.omitted_lines, static_cast<uint64_t>(std::count(between.begin(), between.end(), '\n')));
    EXPECT_LE(shown.head.size() + shown.tail.size(), bounds.head_bytes + bounds.tail_bytes);
    if (!between.empty()) {
      EXPECT_GE(shown.head.size() + 3, bounds.head_bytes);
      EXPECT_GE(shown.tail.size() + 3, bounds.tail_bytes);
    }
  }
}

TEST(CommandOutputTest, BytesThatGrowWhenMadeSafeStayWithinTheBound) {
  OutputCollector collector({.head_bytes = 100, .tail_bytes = 100}, nullptr);
  const std::string bad(150, '\xFF');
  ASSERT_TRUE(collector.Append(base::AsBytes(bad)).ok());
  const ShownOutput shown = collector.Shown();
  EXPECT_LE(shown.head.size(), 100u);
  EXPECT_LE(shown.tail.size(), 100u);
  EXPECT_EQ(shown.omitted_bytes, 150 - shown.head.size() / 3 - shown.tail.size() / 3);
}

TEST(CommandOutputTest, EveryEndingHasItsWords) {
  const ToolData data = *ToolData::Load("bash@2");
  const sandbox::Limits limits;
  using sandbox::Ending, sandbox::LimitKind;
  const auto text = [&](sandbox::Outcome outcome) { return EndingText(data, outcome, limits); };
  EXPECT_EQ(text({.ending = Ending::kExited, .exit_code = 2}), "exit 2\n");
  EXPECT_EQ(text({.ending = Ending::kSignalled, .signal = 9}), "killed by signal 9 (SIGKILL)\n");
  EXPECT_EQ(text({.ending = Ending::kLimit, .limit = LimitKind::kMemory}),
            "ended: it went beyond the limit on memory, 4096 MiB\n");
  EXPECT_EQ(text({.ending = Ending::kLimit, .limit = LimitKind::kInodes}),
            "ended: it went beyond the limit on number of files, 400000\n");
  EXPECT_EQ(text({.ending = Ending::kKilled}), "killed\n");
  EXPECT_EQ(text({.ending = Ending::kSessionEnd}), "ended with its session; how far it came is not known\n");
  EXPECT_EQ(text({.ending = Ending::kNotStarted, .start_error = "x: command not found"}),
            "not started: x: command not found\n");
  EXPECT_EQ(StatusOf({.ending = Ending::kSessionEnd}), ToolStatus::kUnknown);
  EXPECT_EQ(ShellExitCode({.ending = Ending::kSignalled, .signal = 11}), 139);
  EXPECT_EQ(ShellExitCode({.ending = Ending::kNotStarted, .start_error = "bash: command not found"}), 127);
  EXPECT_EQ(ShellExitCode({.ending = Ending::kLimit, .limit = LimitKind::kMemory}), 137);
}

}  // namespace
}  // namespace holdfast::tools
