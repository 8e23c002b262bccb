#include "tools/text/pattern.h"

#include <functional>
#include <string>

#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"

namespace holdfast::tools {
namespace {

bool Text(std::string_view pattern, std::string_view text) {
  return MustMatch(PatternKind::kText, pattern, ToOpenText(text));
}
bool Command(std::string_view pattern, std::string_view text) {
  return MustMatch(PatternKind::kCommand, pattern, ToOpenText(text));
}
bool Path(std::string_view pattern, std::string_view text) {
  return MustMatch(PatternKind::kPath, pattern, ToOpenText(text));
}

TEST(PatternTest, TextsMatchAsAWhole) {
  EXPECT_TRUE(Text("git *", "git status"));
  EXPECT_FALSE(Text("git", "git status"));
  EXPECT_FALSE(Text("status", "git status"));
  EXPECT_TRUE(Text("*", ""));
  EXPECT_TRUE(Text("a?c", "abc"));
  EXPECT_FALSE(Text("a?c", "ac"));
  EXPECT_TRUE(Text("*a*b*", "xaxbx"));
  EXPECT_FALSE(Text("[ab]", "a"));
}

TEST(PatternTest, ACommandsArgumentsMayBeMissing) {
  EXPECT_TRUE(Command("git diff *", "git diff"));
  EXPECT_TRUE(Command("git diff *", "git diff -w"));
  EXPECT_FALSE(Command("git diff *", "git difftool"));
  EXPECT_FALSE(Text("git diff *", "git diff"));
}

TEST(PatternTest, StarsOfAPathStopAtSlashes) {
  EXPECT_TRUE(Path("src/*.cc", "src/a.cc"));
  EXPECT_FALSE(Path("src/*.cc", "src/b/a.cc"));
  EXPECT_FALSE(Path("src?a", "src/a"));
  EXPECT_TRUE(Path("src/**", "src/b/a.cc"));
  EXPECT_TRUE(Path("**/a.cc", "a.cc"));
  EXPECT_TRUE(Path("**/a.cc", "x/y/a.cc"));
  EXPECT_FALSE(Path("**/a.cc", "x/ba.cc"));
  EXPECT_TRUE(Path("x/**/y", "x/y"));
  EXPECT_TRUE(Path("x/**/y", "x/a/b/y"));
  EXPECT_FALSE(Path("x/**/y", "x/ay"));
}

TEST(PatternTest, AHoleMustBeCoveredAndMayBeAnything) {
  const OpenText holed = ToOpenText("rm ") + kHole;
  EXPECT_TRUE(MustMatch(PatternKind::kText, "rm *", holed));
  EXPECT_FALSE(MustMatch(PatternKind::kText, "rm ?", holed));
  EXPECT_FALSE(MustMatch(PatternKind::kText, "rm x", holed));
  EXPECT_TRUE(MayMatch(PatternKind::kText, "rm -rf x", holed));
  EXPECT_TRUE(MayMatch(PatternKind::kText, "rm ", holed));
  EXPECT_FALSE(MayMatch(PatternKind::kText, "mv x", holed));
  EXPECT_TRUE(MayMatch(PatternKind::kPath, "a/**/b", ToOpenText("a/") + kHole));
  EXPECT_FALSE(MustMatch(PatternKind::kPath, "a/*", ToOpenText("a/") + kHole));
}

// The obvious way, exponential.
bool Naive(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '*') {
    return Naive(pattern.substr(1), text) || (!text.empty() && Naive(pattern, text.substr(1)));
  }
  return !text.empty() && (pattern[0] == '?' || pattern[0] == text[0]) &&
         Naive(pattern.substr(1), text.substr(1));
}

TEST(PatternTest, RandomPatternsAgreeWithTheObviousWay) {
  for (const uint64_t seed : test::TestSeeds(2000)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    const auto make = [&](std::string_view alphabet, uint64_t length) {
      std::string text;
      for (uint64_t i = random.Below(length); i > 0; --i) text += alphabet[random.Below(alphabet.size())];
      return text;
    };
    const std::string pattern = make("ab*?", 8), text = make("ab", 10);
    EXPECT_EQ(Text(pattern, text), Naive(pattern, text)) << pattern << " " << text;
    // What a hole stands for: may-match over all short texts in its place; must-match implies all of them.
    const std::string before = make("ab", 4), after = make("ab", 4);
    const OpenText holed = ToOpenText(before) + kHole + ToOpenText(after);
    for (const char* inner : {"", "a", "b", "ab", "ba", "aab"}) {
      const bool fits = Naive(pattern, before + inner + after);
      if (MustMatch(PatternKind::kText, pattern, holed)) {
        EXPECT_TRUE(fits) << pattern << " " << before << inner << after;
      }
      if (fits) {
        EXPECT_TRUE(MayMatch(PatternKind::kText, pattern, holed))
            << pattern << " " << before << inner << after;
      }
    }
  }
}

}  // namespace
}  // namespace holdfast::tools
