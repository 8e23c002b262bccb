#include "workspace/unified_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/sim_tree.h"
#include "tests/workspace/change_testing.h"

namespace holdfast::workspace {
namespace {

using testing::HasSubstr;
using testing::Not;

class UnifiedDiffTest : public testing::Test {
 protected:
  Diff Compare(const World& base, const World& ours, const World& theirs) {
    Make(tree_, theirs);
    auto diff = DiffThreeWays(ManifestOf(base, ours, blobs_), tree_);
    HF_CHECK(diff.ok());
    return *std::move(diff);
  }
  std::string Text(const Diff& diff, const UnifiedOptions& options = {}) {
    auto text = UnifiedDiff(diff, blobs_.store(), &tree_, options);
    EXPECT_TRUE(text.ok()) << text.status();
    return text.value_or("");
  }

  test::SimClock clock_;
  test::SimTree tree_{clock_};
  Blobs blobs_;
};

TEST_F(UnifiedDiffTest, HeadersAreGits) {
  const World base = {{"del", File("x\n")}, {"m", File("1\n2\n")}, {"mode", File("k\n")}, {"t", File("t\n")}};
  const World ours = {{"add", File("a\n", 0755)},
                      {"empty", File("")},
                      {"m", File("1\n3\n", 0755)},
                      {"mode", File("k\n", 0755)},
                      {"t", Link("m")}};
  EXPECT_EQ(
      Text(Compare(base, ours, base)),
      "diff --git a/add b/add\nnew file mode 100755\n--- /dev/null\n+++ b/add\n@@ -0,0 +1 @@\n+a\n"
      "diff --git a/del b/del\ndeleted file mode 100644\n--- a/del\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
      "diff --git a/empty b/empty\nnew file mode 100644\n"
      "diff --git a/m b/m\nold mode 100644\nnew mode 100755\n--- a/m\n+++ b/m\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n"
      "diff --git a/mode b/mode\nold mode 100644\nnew mode 100755\n"
      "diff --git a/t b/t\ndeleted file mode 100644\n--- a/t\n+++ /dev/null\n@@ -1 +0,0 @@\n-t\n"
      "diff --git a/t b/t\nnew file mode 120000\n--- /dev/null\n+++ b/t\n@@ -0,0 +1 @@\n+m\n"
      "\\ No newline at end of file\n");
}

TEST_F(UnifiedDiffTest, BinaryFilesOnlyDiffer) {
  const std::string nul("a\0b", 3);
  EXPECT_EQ(Text(Compare({{"f", File("x")}}, {{"f", File(nul)}}, {{"f", File("x")}})),
            "diff --git a/f b/f\nBinary files a/f and b/f differ\n");
}

TEST_F(UnifiedDiffTest, LineEndsAreRemarked) {
  const World base = {{"f", File("a\nb\n")}};
  const std::string text = Text(Compare(base, {{"f", File("a\r\nb\r\n")}, {"g", File("x\r\n")}}, base));
  EXPECT_THAT(text, HasSubstr("# f: line ends LF became CR LF\n"));
  EXPECT_THAT(text, HasSubstr("+a\r\n"));
  EXPECT_THAT(text, HasSubstr("# g: line ends CR LF\n"));
}

TEST_F(UnifiedDiffTest, ConflictsAndGuardsAreRemarkedLiterally) {
  const std::string text = Text(
      Compare({{"f", File("1")}}, {{"f", File("2")}, {".g\u200Cit", File("x")}, {"AGENTS.md", File("a")}},
              {{"f", File("3")}}));
  EXPECT_THAT(text, HasSubstr("# f: conflict: changed on both sides\n"));
  EXPECT_THAT(text, HasSubstr("# .g\\u{200c}it: not applied: belongs to git"));
  EXPECT_THAT(text, HasSubstr("# AGENTS.md: look at this one"));
}

TEST_F(UnifiedDiffTest, AgainstTheTreeShowsWhatApplyWouldDo) {
  const World base = {{"f", File("1\n2\n3\n")}, {"g", File("1\n")}};
  const Diff diff = Compare(base, {{"f", File("1\n2\n4\n")}, {"g", File("9\n")}},
                            {{"f", File("1\n2\n3\n", 0755)}, {"g", File("9\n")}});
  const std::string text = Text(diff, {.against = Against::kTheirs});
  EXPECT_EQ(text, "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\n 2\n-3\n+4\n");
  EXPECT_TRUE(absl::IsInvalidArgument(
      UnifiedDiff(diff, blobs_.store(), nullptr, {.against = Against::kTheirs}).status()));
}

TEST_F(UnifiedDiffTest, TheTextIsBoundedAndSaysSo) {
  World ours;
  for (int i = 0; i < 100; ++i) ours["f" + std::to_string(i)] = File(std::string(100, 'x') + "\n");
  const std::string text = Text(Compare({}, ours, {}), {.text_bytes_max = 2000});
  EXPECT_LE(text.size(), 2100u);
  EXPECT_THAT(text, HasSubstr("more changes are not shown\n"));
}

TEST_F(UnifiedDiffTest, AFileBeyondTheBoundIsNotRead) {
  const World base = {{"f", File("1\n")}};
  EXPECT_THAT(Text(Compare(base, {{"f", File(std::string(100, 'x'))}}, base), {.file_bytes_max = 99}),
              HasSubstr("Binary files"));
}

TEST_F(UnifiedDiffTest, StatCountsLines) {
  const World base = {{"del", File("1\n2\n")}, {"m", File("1\n2\n3\n")}};
  const World ours = {{"bin", File(std::string("\0", 1))}, {"m", File("1\n9\n3\n4\n")}, {"d", Directory()}};
  const Diff diff = Compare(base, ours, base);
  const auto stats = StatDiff(diff, blobs_.store());
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(
      Describe(*stats),
      " bin | added\n d   | added\n del | deleted +0 -2\n m   | modified +2 -1\n 4 changed, +2 -3 lines\n");
}

TEST_F(UnifiedDiffTest, NamesAreQuotedAsGitDoes) {
  EXPECT_EQ(QuoteForDiff("a b/c"), "a b/c");
  EXPECT_EQ(QuoteForDiff("a\"b\\c"), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(QuoteForDiff("t\tn\n\xff"), "\"t\\011n\\012\\377\"");
}

}  // namespace
}  // namespace holdfast::workspace
