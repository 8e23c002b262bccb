#include "workspace/ignore.h"

#include <gtest/gtest.h>

#include <map>

namespace holdfast::workspace {
namespace {

using Verdict = IgnorePatterns::Verdict;

bool Ignores(std::string_view text, std::string_view path, bool directory = false) {
  return IgnorePatterns(text).Match(path, directory) == Verdict::kIgnored;
}

TEST(IgnorePatternsTest, PlainNamesMatchAtAnyDepthAndPathsAreAnchored) {
  EXPECT_TRUE(Ignores("build", "build"));
  EXPECT_TRUE(Ignores("build", "a/build"));
  EXPECT_FALSE(Ignores("build", "builds"));
  EXPECT_TRUE(Ignores("/build", "build"));
  EXPECT_FALSE(Ignores("/build", "a/build"));
  EXPECT_TRUE(Ignores("a/build", "a/build"));
  EXPECT_FALSE(Ignores("a/build", "b/a/build"));
}

TEST(IgnorePatternsTest, ASlashAtTheEndMeansDirectories) {
  EXPECT_TRUE(Ignores("out/", "x/out", true));
  EXPECT_FALSE(Ignores("out/", "x/out", false));
}

TEST(IgnorePatternsTest, TheLastMatchDecides) {
  const IgnorePatterns patterns("*.o\n!keep.o\nkeep.o/\n");
  EXPECT_EQ(patterns.Match("x.o", false), Verdict::kIgnored);
  EXPECT_EQ(patterns.Match("d/keep.o", false), Verdict::kIncluded);
  EXPECT_EQ(patterns.Match("keep.o", true), Verdict::kIgnored);
  EXPECT_EQ(patterns.Match("x.c", false), Verdict::kNone);
}

TEST(IgnorePatternsTest, StarsStopAtSlashesAndDoubleStarsDoNot) {
  EXPECT_TRUE(Ignores("a/*/c", "a/b/c"));
  EXPECT_FALSE(Ignores("a/*/c", "a/b/b/c"));
  EXPECT_TRUE(Ignores("a/**/c", "a/b/b/c"));
  EXPECT_TRUE(Ignores("a/**/c", "a/c"));
  EXPECT_FALSE(Ignores("a/**/c", "ac"));
  EXPECT_TRUE(Ignores("**/c", "c"));
  EXPECT_TRUE(Ignores("**/c/d", "a/b/c/d"));
  EXPECT_FALSE(Ignores("**/c/d", "xc/d"));
  EXPECT_TRUE(Ignores("a/**", "a/b/c"));
  EXPECT_FALSE(Ignores("a/**", "a"));
  EXPECT_TRUE(Ignores("**/**/c", "x/y/c"));
  EXPECT_TRUE(Ignores("**/*/c", "x/c"));
  EXPECT_FALSE(Ignores("**/*/c", "c"));
}

TEST(IgnorePatternsTest, SetsRangesClassesAndEscapes) {
  EXPECT_TRUE(Ignores("[a-c]x", "bx"));
  EXPECT_FALSE(Ignores("[!a-c]x", "bx"));
  EXPECT_TRUE(Ignores("[^a-c]x", "dx"));
  EXPECT_TRUE(Ignores("[]]x", "]x"));
  EXPECT_TRUE(Ignores("[]-a]x", "_x"));
  EXPECT_TRUE(Ignores("[a-]x", "-x"));
  EXPECT_TRUE(Ignores("[[:digit:]x]y", "7y"));
  EXPECT_FALSE(Ignores("[[:nosuch:]]y", "7y"));
  EXPECT_TRUE(Ignores("[[:]y", ":y"));
  EXPECT_FALSE(Ignores("a[/]b", "a/b"));
  EXPECT_FALSE(Ignores("a[!x]b/c", "a/b/c"));
  EXPECT_FALSE(Ignores("[ab", "a"));
  EXPECT_TRUE(Ignores("\\*", "*"));
  EXPECT_FALSE(Ignores("\\*", "x"));
  EXPECT_FALSE(Ignores("x\\", "x\\"));
  EXPECT_TRUE(Ignores("\\!x", "!x"));
  EXPECT_TRUE(Ignores("\\#x", "#x"));
}

TEST(IgnorePatternsTest, LinesAreTakenAsGitTakesThem) {
  EXPECT_TRUE(Ignores("x   ", "x"));
  EXPECT_TRUE(Ignores("x\\  ", "x "));
  EXPECT_TRUE(Ignores("x\r\n", "x"));
  EXPECT_TRUE(Ignores("\xef\xbb\xbfx\n", "x"));
  EXPECT_FALSE(Ignores("#x\n", "#x"));
  EXPECT_TRUE(Ignores("a b", "a b"));
  EXPECT_EQ(IgnorePatterns("\n\n#c\n!\n/\n   \n").size(), 0u);
}

TEST(IgnorePatternsTest, PatternsMadeToBeSlowAreNot) {
  std::string pattern, path(255, 'a');
  for (int i = 0; i < 100; ++i) pattern += "*a";
  uint64_t work = 0;
  EXPECT_EQ(IgnorePatterns(pattern + "b").Match(path, false, work), Verdict::kNone);
  EXPECT_LE(work, 255u * 210u);
  std::string deep = "a", stars = "a";
  while (deep.size() < 4000) deep += "/a";
  while (stars.size() < 1000) stars += "/**/a";
  work = 0;
  EXPECT_EQ(IgnorePatterns(stars + "/b").Match(deep, false, work), Verdict::kNone);
  EXPECT_LE(work, 4096u * 1024u);
}

TEST(IgnorePatternsTest, BoundsLeaveLinesOut) {
  const IgnoreLimits limits{.file_bytes_max = 20, .patterns_max = 2, .pattern_bytes_max = 3};
  const IgnorePatterns patterns("aaaa\nb\nc\nd\n", limits);
  EXPECT_EQ(patterns.size(), 2u);
  EXPECT_EQ(patterns.Match("aaaa", false), Verdict::kNone);
  EXPECT_EQ(patterns.Match("c", false), Verdict::kIgnored);
  EXPECT_EQ(patterns.Match("d", false), Verdict::kNone);
  EXPECT_EQ(IgnorePatterns("b\n0123456789012345678\n", limits).size(), 0u);
}

class FakeSource final : public IgnoreSource {
 public:
  std::optional<std::string> Read(const std::string& path, size_t bytes_max) override {
    const auto it = files.find(path);
    if (it == files.end() || it->second.size() > bytes_max) return std::nullopt;
    ++reads;
    return it->second;
  }
  bool IsRepository(const std::string& directory) override {
    return files.contains(directory.empty() ? ".git" : directory + "/.git");
  }
  std::map<std::string, std::string> files;
  int reads = 0;
};

TEST(IgnoreMatcherTest, NearerFilesDecideAndIgnoredDirectoriesAreFinal) {
  FakeSource source;
  source.files = {
      {".gitignore", "*.log\nout/\n"}, {"a/.gitignore", "!keep.log\n"}, {"out/.gitignore", "!*\n"}};
  IgnoreMatcher matcher(source);
  EXPECT_TRUE(matcher.Ignored("x.log", false));
  EXPECT_FALSE(matcher.Ignored("a/keep.log", false));
  EXPECT_TRUE(matcher.Ignored("a/other.log", false));
  EXPECT_FALSE(matcher.Ignored("a/b/keep.log", false));
  EXPECT_TRUE(matcher.Ignored("out", true));
  EXPECT_TRUE(matcher.Ignored("out/deep/file", false));
  EXPECT_TRUE(matcher.Ignored("out/keep", false));
  EXPECT_FALSE(matcher.Ignored("out", false));
  EXPECT_FALSE(matcher.Ignored("", true));
}

TEST(IgnoreMatcherTest, InfoExcludeYieldsToGitignoreAndNestedRepositoriesStartAnew) {
  FakeSource source;
  source.files = {{".git/info/exclude", "secret\n*.tmp\n"},
                  {".gitignore", "!kept.tmp\n*.log\n"},
                  {"sub/.git", ""},
                  {"sub/.git/info/exclude", "inner\n"}};
  IgnoreMatcher matcher(source);
  EXPECT_TRUE(matcher.Ignored("secret", false));
  EXPECT_TRUE(matcher.Ignored("d/x.tmp", false));
  EXPECT_FALSE(matcher.Ignored("d/kept.tmp", false));
  EXPECT_FALSE(matcher.Ignored("sub/x.log", false));
  EXPECT_FALSE(matcher.Ignored("sub/d/secret", false));
  EXPECT_TRUE(matcher.Ignored("sub/d/inner", false));
  EXPECT_TRUE(matcher.Ignored("x.log", false));
}

TEST(IgnoreMatcherTest, AWalkReadsEachFileOnce) {
  FakeSource source;
  source.files = {{".gitignore", "x\n"}, {"a/.gitignore", "y\n"}, {"a/b/.gitignore", "z\n"}};
  IgnoreMatcher matcher(source);
  for (const std::string_view path : {"a/b/1", "a/b/2", "a/b/c/3", "a/d", "b"}) matcher.Ignored(path, false);
  EXPECT_EQ(source.reads, 3);
}

TEST(IgnoreMatcherTest, BeyondItsWorkNothingIsIgnored) {
  FakeSource source;
  source.files = {{".gitignore", "x*y*z\n"}};
  IgnoreMatcher matcher(source, {.work_max = 50});
  EXPECT_TRUE(matcher.Ignored("xyz", false));
  for (int i = 0; i < 50; ++i) matcher.Ignored("xxyyzz", false);
  EXPECT_TRUE(matcher.exhausted());
  EXPECT_FALSE(matcher.Ignored("xyz", false));
}

}  // namespace
}  // namespace holdfast::workspace
