#include "workspace/text_diff.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/seeded_random.h"

namespace holdfast::workspace {
namespace {

using Lines = std::vector<std::string_view>;

// What the changes say, carried out.
std::string Patch(const Lines& before, const Lines& after, const std::vector<LineChange>& changes) {
  std::string text;
  uint32_t x = 0;
  for (const LineChange& change : changes) {
    for (; x < change.old_begin; ++x) text += before[x];
    for (uint32_t y = change.new_begin; y < change.new_end; ++y) text += after[y];
    x = change.old_end;
  }
  for (; x < before.size(); ++x) text += before[x];
  return text;
}

// Length of the longest common subsequence, by the table.
uint64_t CommonLines(const Lines& a, const Lines& b) {
  std::vector<uint64_t> row(b.size() + 1);
  for (const std::string_view line : a) {
    uint64_t diagonal = 0;
    for (size_t j = 0; j < b.size(); ++j) {
      const uint64_t above = row[j + 1];
      row[j + 1] = line == b[j] ? diagonal + 1 : std::max(above, row[j]);
      diagonal = above;
    }
  }
  return row.back();
}

std::string RandomText(test::SeededRandom& random, size_t lines_max, size_t alphabet) {
  std::string text;
  for (uint64_t n = random.Below(lines_max + 1); n > 0; --n) {
    text += std::string(1, static_cast<char>('a' + random.Below(alphabet))) + "\n";
  }
  if (random.Percent(20) && !text.empty()) text.pop_back();
  return text;
}

void ExpectWellFormed(const std::vector<LineChange>& changes) {
  for (size_t i = 0; i < changes.size(); ++i) {
    EXPECT_TRUE(changes[i].old_begin < changes[i].old_end || changes[i].new_begin < changes[i].new_end);
    if (i == 0) continue;
    EXPECT_GT(changes[i].old_begin, changes[i - 1].old_end);  // else the two were one
    EXPECT_GT(changes[i].new_begin, changes[i - 1].new_end);
  }
}

TEST(TextDiffTest, LinesKeepTheirEnds) {
  EXPECT_EQ(SplitLines(""), Lines{});
  EXPECT_EQ(SplitLines("a"), Lines{"a"});
  EXPECT_EQ(SplitLines("a\r\n\nb"), (Lines{"a\r\n", "\n", "b"}));
}

TEST(TextDiffTest, RandomPairsAreShortestAndReproduceTheNewText) {
  for (const uint64_t seed : test::TestSeeds(20)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    for (int i = 0; i < 200; ++i) {
      const size_t alphabet = 1 + random.Below(8);
      const std::string old_text = RandomText(random, 40, alphabet),
                        new_text = RandomText(random, 40, alphabet);
      const Lines before = SplitLines(old_text), after = SplitLines(new_text);
      const std::vector<LineChange> changes = DiffLines(before, after);
      ExpectWellFormed(changes);
      ASSERT_EQ(Patch(before, after, changes), new_text);
      const LineCounts counts = Count(changes);
      const uint64_t common = CommonLines(before, after);
      EXPECT_EQ(counts.removed, before.size() - common);
      EXPECT_EQ(counts.added, after.size() - common);
    }
  }
}

TEST(TextDiffTest, WithoutStepsLeftTheRestIsReplaced) {
  for (const uint64_t seed : test::TestSeeds(10)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    for (uint64_t steps = 0; steps < 120; steps += 3) {
      const std::string old_text = RandomText(random, 60, 3), new_text = RandomText(random, 60, 3);
      const Lines before = SplitLines(old_text), after = SplitLines(new_text);
      const std::vector<LineChange> changes = DiffLines(before, after, {.steps_max = steps});
      ExpectWellFormed(changes);
      ASSERT_EQ(Patch(before, after, changes), new_text);
    }
  }
}

TEST(TextDiffTest, TheBoundHoldsForHopelessInput) {
  // Nothing in common: quadratic without a bound, 10^10 steps.
  std::string old_text, new_text;
  for (int i = 0; i < 100'000; ++i) {
    old_text += "a" + std::to_string(i) + "\n";
    new_text += "b" + std::to_string(i) + "\n";
  }
  const Lines before = SplitLines(old_text), after = SplitLines(new_text);
  const std::vector<LineChange> changes = DiffLines(before, after, {.steps_max = 1'000'000});
  EXPECT_EQ(changes, (std::vector<LineChange>{{0, 100'000, 0, 100'000}}));
}

TEST(TextDiffTest, HunksStandAsDiffPrintsThem) {
  const Lines before = SplitLines("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n");
  const Lines after = SplitLines("1\n2\n3\n4\nfive\n6\n7\n8\n9\n10\n11\ntwelve");
  const std::vector<LineChange> changes = DiffLines(before, after);
  EXPECT_EQ(UnifiedHunks(before, after, changes),
            "@@ -2,11 +2,11 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n 9\n 10\n 11\n-12\n+twelve\n"
            "\\ No newline at end of file\n");
  EXPECT_EQ(UnifiedHunks(before, after, changes, 1),
            "@@ -4,3 +4,3 @@\n 4\n-5\n+five\n 6\n@@ -11,2 +11,2 @@\n 11\n-12\n+twelve\n"
            "\\ No newline at end of file\n");
}

TEST(TextDiffTest, EmptyRangesNameTheLineBefore) {
  EXPECT_EQ(UnifiedHunks({}, {"a\n"}, DiffLines({}, {"a\n"})), "@@ -0,0 +1 @@\n+a\n");
  EXPECT_EQ(UnifiedHunks({"a\n"}, {}, DiffLines({"a\n"}, {})), "@@ -1 +0,0 @@\n-a\n");
  EXPECT_EQ(UnifiedHunks({"a\n"}, {"a\n"}, {}), "");
}

TEST(TextDiffTest, ALineThatOnlyGainsItsEndIsAChange) {
  const Lines before = {"a"}, after = {"a\n"};
  EXPECT_EQ(UnifiedHunks(before, after, DiffLines(before, after)),
            "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
}

TEST(TextDiffTest, ANulByteMakesItBinary) {
  EXPECT_TRUE(IsBinary(std::string_view("a\0b", 3)));
  EXPECT_FALSE(IsBinary("\xff\xfe text"));
  EXPECT_FALSE(IsBinary(std::string(8000, 'a') + '\0'));
  EXPECT_FALSE(IsBinary(""));
}

}  // namespace
}  // namespace holdfast::workspace
