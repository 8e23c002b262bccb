#include "workspace/protected.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "sandbox/policy.h"
#include "tests/support/seeded_random.h"

namespace holdfast::workspace {
namespace {

using testing::HasSubstr;

Guard GuardOf(std::string_view path) { return ProtectedPaths().Check(path).guard; }

TEST(ProtectedTest, WhatGitKeepsIsNeverAppliedAtAnyDepth) {
  for (const std::string_view path : {".git", ".git/config", ".git/hooks/pre-commit", "sub/.git",
                                      "a/b/.git/HEAD", "vendor/x/.git/modules/y/config"}) {
    EXPECT_EQ(GuardOf(path), Guard::kRefusedAlways) << path;
  }
  EXPECT_EQ(ProtectedPaths(std::vector<std::string>()).Check("a/.git/config").guard, Guard::kRefusedAlways);
}

TEST(ProtectedTest, NamesThatSomeFileSystemTakesForTheSameAreRefused) {
  for (const std::string_view path :
       {".GIT/Hooks/pre-commit", ".Git", ".git.", ".git ", ".git . .", ".git::$INDEX_ALLOCATION/config",
        "GIT~1/config", "git~1", ".g\u200Cit/config", "\uFEFF.git", ".gi\u200Dt", ".g\u202Eit", ".gi\u00ADt",
        ".g\u0131t", ".G\u0130T", ".git\uFE0F"}) {
    EXPECT_EQ(GuardOf(path), Guard::kRefusedAlways) << ShowPath(path);
    EXPECT_THAT(ProtectedPaths().Check(path).reason, HasSubstr("belongs to git")) << ShowPath(path);
  }
  for (const std::string_view path : {".VSCode/tasks.json", ".v\u017Fcode/tasks.json", ".idea./workspace.xml",
                                      "GITMOD~1", "gi7eba~1", ".mcp.json::$DATA", "sub/.ENVRC"}) {
    EXPECT_EQ(GuardOf(path), Guard::kRefused) << ShowPath(path);
  }
}

TEST(ProtectedTest, LookalikesAreRefusedAndSaidToBeThat) {
  for (const std::string_view path : {".g\u0456t/hooks/x", "\u2024git", ".\uFF47\uFF49\uFF54", ".gi\u0442",
                                      ".\u0261it", ".\U0001D420it", ".gi\u0301t"}) {
    const GuardVerdict verdict = ProtectedPaths().Check(path);
    EXPECT_EQ(verdict.guard, Guard::kRefusedAlways) << ShowPath(path);
    EXPECT_THAT(verdict.reason, HasSubstr("looks like")) << ShowPath(path);
  }
  EXPECT_EQ(GuardOf(".vs\u0441ode/settings.json"), Guard::kRefused);
}

TEST(ProtectedTest, OrdinaryNamesAreFree) {
  for (const std::string_view path :
       {"src/main.cc", ".gitignore", "git", "git/config", "x.git", ".gitx", "..git", ".github.md", "config",
        "hooks/x", "caf\u00E9/\u65E5\u672C.txt", "\xff\xfe", "a\nb", "", "vscode", "digit~1", "~", ":",
        "a:b"}) {
    EXPECT_EQ(GuardOf(path), Guard::kNone) << ShowPath(path);
  }
}

TEST(ProtectedTest, InstructionsForAgentsAreFlaggedNotRefused) {
  for (const std::string_view path :
       {"AGENTS.md", "sub/agents.md", "CLAUDE.md", ".github/workflows/ci.yml"}) {
    EXPECT_EQ(GuardOf(path), Guard::kFlagged) << path;
  }
}

TEST(ProtectedTest, EveryNameOfThePolicyIsRefusedAtAnyDepth) {
  for (const std::string& name : sandbox::Policy::DefaultProtectedPaths()) {
    for (const std::string& path : {name, "a/b/" + name, name + "/x", "a/" + name + "/x/y"}) {
      EXPECT_GE(GuardOf(path), Guard::kRefused) << path;
    }
    EXPECT_LT(GuardOf("x" + name), Guard::kRefused) << name;
  }
  EXPECT_EQ(GuardOf("x.code-workspace"), Guard::kRefused);
}

TEST(ProtectedTest, APathInTheListMatchesWhereItsPartsFollowEachOther) {
  const ProtectedPaths paths({"ci/secret"});
  EXPECT_EQ(paths.Check("ci/secret").guard, Guard::kRefused);
  EXPECT_EQ(paths.Check("a/CI/Secret/x").guard, Guard::kRefused);
  EXPECT_EQ(paths.Check("ci/x/secret").guard, Guard::kNone);
  EXPECT_EQ(paths.Check("secret").guard, Guard::kNone);
}

TEST(ProtectedTest, PathsAreShownLiterally) {
  EXPECT_EQ(ShowPath("src/a b.cc"), "src/a b.cc");
  EXPECT_EQ(ShowPath(".g\u200Cit/a\nb"), ".g\\u{200c}it/a\\u{a}b");
  EXPECT_EQ(ShowPath("\xff\\\x1b"), "\\xff\\\\\\u{1b}");
  EXPECT_EQ(ShowPath("\xc0\x80"), "\\xc0\\x80");           // overlong
  EXPECT_EQ(ShowPath("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // surrogate
  EXPECT_EQ(ShowPath("\xe2\x80"), "\\xe2\\x80");           // cut
}

TEST(ProtectedTest, TwoPathsNeverReadTheSame) {
  constexpr std::string_view kAlphabet = "\\xu{}0af\xc3\xa9\xe2\x80\x8c\n";
  std::set<std::string> paths, shown;
  test::SeededRandom random(7);
  for (int i = 0; i < 20'000; ++i) {
    std::string path;
    for (uint64_t n = random.Below(6); n > 0; --n) path += kAlphabet[random.Below(kAlphabet.size())];
    if (paths.insert(path).second) {
      EXPECT_TRUE(shown.insert(ShowPath(path)).second) << ShowPath(path);
    }
  }
}

TEST(ProtectedTest, LinksThatMayLeaveAreToldFromThoseThatStay) {
  const std::pair<std::string_view, std::string_view> stays[] = {
      {"a", "b"}, {"a/b", "../c"}, {"a/b/c", "../../d/e"}, {"a/b", "./../c"}, {"a", "."}, {"a/b", ".."}};
  for (const auto& [path, target] : stays)
    EXPECT_EQ(WhyLinkLeaves(path, target), "") << path << " " << target;
  const std::pair<std::string_view, std::string_view> leaves[] = {
      {"a", "/etc/passwd"}, {"a", ".."},          {"a/b", "../../c"}, {"a/b", "./../../c"},
      {"a/b", "c/../d"},    {"a/b", "c/../../d"}, {"a", ""}};
  for (const auto& [path, target] : leaves)
    EXPECT_NE(WhyLinkLeaves(path, target), "") << path << " " << target;
}

}  // namespace
}  // namespace holdfast::workspace
