#include "tools/text/patch.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"

namespace holdfast::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Envelope(const std::string& body) { return "*** Begin Patch\n" + body + "*** End Patch\n"; }

std::vector<PatchFile> Parse(const std::string& text) {
  PatchParse parse = ParsePatch(text, 10);
  EXPECT_TRUE(parse.problems.empty()) << parse.problems[0].line << ": " << parse.problems[0].reason;
  return std::move(parse.files);
}

std::string Problem(const std::string& text) {
  const PatchParse parse = ParsePatch(text, 10);
  if (parse.problems.empty()) return "none";
  EXPECT_TRUE(parse.files.empty());
  return std::to_string(parse.problems[0].line) + ": " + parse.problems[0].reason;
}

// Applies the changes of one updated file.
std::string Apply(const std::string& file, const std::string& changes) {
  const auto files = Parse(Envelope("*** Update File: f\n" + changes));
  if (files.size() != 1) return "(no file)";
  const PatchedText patched = ApplyChanges(file, files[0].changes);
  if (patched.fits) return patched.text;
  std::string text = "(misfit at " + std::to_string(patched.misfit.line);
  for (const uint64_t place : patched.misfit.places) text += ", fits " + std::to_string(place);
  return text + ")";
}

TEST(PatchTest, EverySectionIsRead) {
  const auto files =
      Parse(Envelope("*** Add File: a b.txt\n+one\n+\n+ two\n*** Delete File: old\n"
                     "*** Update File: x\n*** Move to: y/z\n@@ def f():\n keep\n-old\n+new\n\n"
                     "@@\n-last\n*** End of File\n"));
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(files[0].path, "a b.txt");
  EXPECT_EQ(files[0].content, "one\n\n two\n");
  EXPECT_EQ(files[1].kind, PatchFile::Kind::kDelete);
  EXPECT_EQ(files[2].move_to, "y/z");
  ASSERT_EQ(files[2].changes.size(), 2u);
  EXPECT_THAT(files[2].changes[0].headers, ElementsAre("def f():"));
  EXPECT_EQ(files[2].changes[0].lines.size(), 3u);
  EXPECT_TRUE(files[2].changes[1].at_end);
  EXPECT_EQ(files[2].changes[0].line, 9u);
}

TEST(PatchTest, WhatSomePutAroundItIsTakenOff) {
  const std::string plain = Envelope("*** Delete File: a\n");
  EXPECT_EQ(Parse("\n\n" + plain + "\n").size(), 1u);
  EXPECT_EQ(Parse("apply_patch <<'EOF'\n" + plain + "EOF\n").size(), 1u);
  EXPECT_EQ(Parse("*** Begin Patch\r\n*** Add File: a\r\n+x\r\n*** End Patch\r\n")[0].content, "x\n");
  EXPECT_EQ(Parse("*** Begin Patch\n*** Delete File: a\n*** End Patch").size(), 1u);
}

TEST(PatchTest, WhatIsNoPatchSaysTheLine) {
  EXPECT_EQ(Problem(""), "1: it must begin with *** Begin Patch");
  EXPECT_EQ(Problem("*** Begin Patch"), "1: it must end with *** End Patch");
  EXPECT_EQ(Problem("*** Begin Patch\n*** Delete File: a\n"), "2: it must end with *** End Patch");
  EXPECT_EQ(Problem(Envelope("")), "2: no file in it");
  EXPECT_THAT(Problem(Envelope("--- a\n+++ b\n")), HasSubstr("2: expected"));
  EXPECT_EQ(Problem(Envelope("*** Add File:\n+x\n")), "2: no path");
  EXPECT_EQ(Problem(Envelope("*** Add File: a\nx\n")), "3: a line of a new file begins with +");
  EXPECT_EQ(Problem(Envelope("*** Add File: a\n+x\n\n+y\n")), "4: a line of a new file begins with +");
  EXPECT_EQ(Problem(Envelope("*** Update File: a\n")), "3: no change of a");
  EXPECT_EQ(Problem(Envelope("*** Update File: a\n@@\n")), "4: a change without lines");
  EXPECT_EQ(Problem(Envelope("*** Update File: a\n@@\nx\n")),
            "4: a line of a change begins with a blank, - or +");
  std::string many;
  for (int i = 0; i < 11; ++i) many += "*** Delete File: " + std::to_string(i) + "\n";
  EXPECT_EQ(Problem(Envelope(many)), "12: more than 10 files");
}

TEST(PatchTest, ChangesGoWhereTheirLinesStand) {
  EXPECT_EQ(Apply("a\nb\nc\n", "@@\n a\n-b\n+x\n+y\n c\n"), "a\nx\ny\nc\n");
  EXPECT_EQ(Apply("a\nb\nc\n", " a\n-b\n"), "a\nc\n");
  EXPECT_EQ(Apply("a\nb\nc\nd\n", "@@\n-a\n+A\n@@\n-d\n+D\n"), "A\nb\nc\nD\n");
  EXPECT_EQ(Apply("a\nb\n", "@@\n+z\n"), "a\nb\nz\n");
  EXPECT_EQ(Apply("", "@@\n+z\n"), "z\n");
  EXPECT_EQ(Apply("a\n", "@@\n-a\n"), "");
  EXPECT_EQ(Apply("a\nb\nc\n", "@@\n-d\n+x\n"), "(misfit at 3)");
  EXPECT_EQ(Apply("a\nb\n", "@@\n-b\n@@\n-a\n"), "(misfit at 5)");  // in the order of the file
}

TEST(PatchTest, AChangeThatFitsTwiceNeedsMore) {
  const std::string file = "f\nx\ng\nx\n";
  EXPECT_EQ(Apply(file, "@@\n-x\n+y\n"), "(misfit at 3, fits 2, fits 4)");
  EXPECT_EQ(Apply(file, "@@\n g\n-x\n+y\n"), "f\nx\ng\ny\n");
  EXPECT_EQ(Apply(file, "@@ g\n-x\n+y\n"), "f\nx\ng\ny\n");
  EXPECT_EQ(Apply(file, "@@ f\n-x\n+y\n"), "f\ny\ng\nx\n");
  EXPECT_EQ(Apply(file, "@@\n-x\n+y\n*** End of File\n"), "f\nx\ng\ny\n");
  EXPECT_EQ(Apply(file, "@@ g\n+y\n"), "f\nx\ng\ny\nx\n");
  EXPECT_EQ(Apply(file, "@@ nowhere\n-x\n"), "(misfit at 3)");
  EXPECT_EQ(Apply("class A\n f\n  x\nclass B\n f\n  x\n", "@@ class B\n@@  f\n-  x\n+  y\n"),
            "class A\n f\n  x\nclass B\n f\n  y\n");
  EXPECT_EQ(Apply("a\nb\n", "@@ -1,2 +1,2 @@ context\n-b\n+c\n"), "a\nc\n");
}

TEST(PatchTest, BlanksAreForgivenAndTheFileKeepsItsOwn) {
  EXPECT_EQ(Apply("a  \n\tb\n", "@@\n a\n-b\n+c\n"), "a  \nc\n");
  EXPECT_EQ(Apply("  x\nx\n", "@@\n-x\n+y\n"), "  x\ny\n");  // exact goes first
}

TEST(PatchTest, LineEndsMarkAndMissingLastEndStay) {
  EXPECT_EQ(Apply("a\r\nb\r\n", "@@\n a\n-b\n+x\n+y\n"), "a\r\nx\r\ny\r\n");
  EXPECT_EQ(Apply("\xEF\xBB\xBF"
                  "a\n",
                  "@@\n-a\n+b\n"),
            "\xEF\xBB\xBF"
            "b\n");
  EXPECT_EQ(Apply("a\nb", "@@\n-b\n+c\n"), "a\nc");
  EXPECT_EQ(Apply("a\nb", "@@\n b\n+c\n"), "a\nb\nc");
  EXPECT_EQ(Apply("a\r\nb", "@@\n b\n+c\n"), "a\r\nb\r\nc");
  EXPECT_EQ(Apply("a", "@@\n+b\n+\n"), "a\nb\n\n");  // an empty line without an end would be none
  EXPECT_EQ(Apply("a\n\nb", "@@\n-b\n"), "a\n\n");
}

// A random change of a random file, written as a patch with all lines as context, gives what was wanted.
TEST(PatchTest, RandomChangesAgreeWithWhatTheySay) {
  for (const uint64_t seed : test::TestSeeds(1500)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::string before, after, patch;
    const uint64_t count = 1 + random.Below(12);
    bool lines = false;
    for (uint64_t i = 0; i < count; ++i) {
      const std::string line = std::string(random.Below(2), ' ') + "l" + std::to_string(random.Below(4));
      const uint64_t way = random.Below(4);
      if (way != 0) before += line + "\n";
      if (way != 1) after += line + "\n";
      patch += (way == 0 ? "+" : way == 1 ? "-" : " ") + line + "\n";
      lines = lines || way != 0;
      // A part of the file that the patch does not speak about, unlike all else.
      if (i + 1 < count && random.Percent(20)) {
        const std::string gap = "gap" + std::to_string(i) + "\n";
        before += gap;
        after += gap;
        patch += " " + gap + "@@\n";
        // The next change begins with a line that only it has.
        const std::string anchor = "anchor" + std::to_string(i) + "\n";
        before += anchor;
        after += anchor;
        patch += " " + anchor;
      }
    }
    if (!lines) continue;
    EXPECT_EQ(Apply(before, "@@\n" + patch), after) << patch;
  }
}

}  // namespace
}  // namespace holdfast::tools
