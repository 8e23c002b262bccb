#include "tools/text/glob_pattern.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"

namespace holdfast::tools {
namespace {

bool Matches(std::string_view pattern, std::string_view path) {
  const auto glob = GlobPattern::Make(pattern);
  EXPECT_TRUE(glob.ok()) << glob.status();
  return glob.ok() && glob->Matches(path);
}

TEST(GlobPatternTest, NamesMatchAnywhere) {
  EXPECT_TRUE(Matches("*.cc", "a.cc"));
  EXPECT_TRUE(Matches("*.cc", "src/deep/a.cc"));
  EXPECT_FALSE(Matches("*.cc", "a.cc/b"));
  EXPECT_FALSE(Matches("*.cc", "a.ccx"));
  EXPECT_TRUE(Matches("*", ".hidden"));
  EXPECT_TRUE(Matches("a?c", "x/aöc"));
  EXPECT_FALSE(Matches("a?c", "a/c"));
}

TEST(GlobPatternTest, PathsAreRooted) {
  EXPECT_TRUE(Matches("src/*.h", "src/a.h"));
  EXPECT_FALSE(Matches("src/*.h", "src/sub/a.h"));
  EXPECT_FALSE(Matches("src/*.h", "x/src/a.h"));
  EXPECT_TRUE(Matches("/a.h", "a.h"));
  EXPECT_FALSE(Matches("/a.h", "x/a.h"));
  EXPECT_TRUE(Matches("./src/a.h", "src/a.h"));
}

TEST(GlobPatternTest, DoubleStarsPassOverDirectories) {
  EXPECT_TRUE(Matches("**/a.h", "a.h"));
  EXPECT_TRUE(Matches("**/a.h", "x/y/a.h"));
  EXPECT_TRUE(Matches("src/**/a.h", "src/a.h"));
  EXPECT_TRUE(Matches("src/**/a.h", "src/x/y/a.h"));
  EXPECT_TRUE(Matches("src/**", "src/x/y"));
  EXPECT_FALSE(Matches("src/**", "src"));
  EXPECT_TRUE(Matches("src/", "src/x"));
  EXPECT_FALSE(Matches("src/", "x/src/x"));
  EXPECT_TRUE(Matches("**", "anything/at/all"));
  EXPECT_TRUE(Matches("a/**/**/b", "a/b"));
  EXPECT_TRUE(Matches("a**b", "axxb"));
  EXPECT_FALSE(Matches("a**b", "a/b"));
}

TEST(GlobPatternTest, AlternativesAndClasses) {
  EXPECT_TRUE(Matches("*.{h,cc}", "a.cc"));
  EXPECT_TRUE(Matches("{src,tests}/**/*_test.{h,c{c,pp}}", "tests/x/a_test.cpp"));
  EXPECT_FALSE(Matches("*.{h,cc}", "a.c"));
  EXPECT_TRUE(Matches("a{,b}c", "ac"));
  EXPECT_TRUE(Matches("[a-c]x", "bx"));
  EXPECT_FALSE(Matches("[!a-c]x", "bx"));
  EXPECT_TRUE(Matches("[^a]x", "bx"));
  EXPECT_TRUE(Matches("[]]x", "]x"));
  EXPECT_TRUE(Matches("[a-]x", "-x"));
  EXPECT_TRUE(Matches("\\*x", "*x"));
  EXPECT_FALSE(Matches("\\*x", "ax"));
  EXPECT_TRUE(Matches("[{]", "{"));
  EXPECT_TRUE(Matches("a\\{b", "a{b"));
  EXPECT_TRUE(Matches("a}b", "a}b"));
}

TEST(GlobPatternTest, RefusesWhatMeansNothing) {
  for (const char* pattern : {"", "/", "./", "a{b", "[a", "a[", "{a,[}"}) {
    EXPECT_FALSE(GlobPattern::Make(pattern).ok()) << pattern;
  }
  std::string many;
  for (int i = 0; i < 11; ++i) many += "{a,b}";
  EXPECT_FALSE(GlobPattern::Make(many).ok());
  EXPECT_FALSE(GlobPattern::Make(std::string(70'000, 'a')).ok());
}

TEST(GlobPatternTest, HostilePatternsTakeNoLongTime) {
  std::string stars, slashes;
  for (int i = 0; i < 200; ++i) stars += "*a", slashes += "**/";
  EXPECT_FALSE(Matches(stars + "b", std::string(4000, 'a')));
  std::string path = "a";
  for (int i = 0; i < 1000; ++i) path += "/a";
  EXPECT_FALSE(Matches(slashes + "b", path));
}

// One alternative without braces or classes, written as plainly as can be.
bool Naive(std::string_view p, std::string_view s) {
  if (p.empty()) return s.empty();
  if (p.starts_with("**/")) {
    if (Naive(p.substr(3), s)) return true;
    const size_t slash = s.find('/');
    return slash != std::string_view::npos && Naive(p, s.substr(slash + 1));
  }
  if (p == "**") return !s.empty();
  if (p[0] == '*') return Naive(p.substr(1), s) || (!s.empty() && s[0] != '/' && Naive(p, s.substr(1)));
  return !s.empty() && (p[0] == s[0] || (p[0] == '?' && s[0] != '/')) && Naive(p.substr(1), s.substr(1));
}

TEST(GlobPatternTest, AgreesWithANaiveMatcher) {
  const std::vector<std::string> pieces = {"a", "b", "*", "?", "/", "**/", "/**/"};
  for (const uint64_t seed : test::TestSeeds(20'000)) {
    test::SeededRandom random(seed);
    std::string pattern, path;
    for (uint64_t n = 1 + random.Below(5); n > 0; --n) pattern += pieces[random.Below(pieces.size())];
    for (uint64_t n = 1 + random.Below(7); n > 0; --n) path += "aab/"[random.Below(4)];
    // Both say the same of well-formed input only.
    const auto odd = [](const std::string& s) {
      return s.find("//") != s.npos || s.starts_with('/') || s.ends_with('/') || s.find("***") != s.npos;
    };
    if (odd(pattern) || odd(path)) continue;
    for (size_t at = 0; (at = pattern.find("**", at)) != pattern.npos; at += 2) {
      if (at > 0 && pattern[at - 1] != '/') pattern.erase(at--, 1);  // within a name, `**` is `*`
    }
    const bool name = pattern.find('/') == std::string::npos;
    const bool want = Naive(name ? "**/" + pattern : pattern, path);
    ASSERT_EQ(Matches(pattern, path), want) << pattern << " " << path << " HOLDFAST_TEST_SEED=" << seed;
  }
}

}  // namespace
}  // namespace holdfast::tools
