// Attempts to get something into the user's tree that does not belong there, by real commands in a real
// overlay; numbers are those of the list of attempts in the design of the sandbox.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/workspace/agent_testing.h"
#include "workspace/apply.h"
#include "workspace/unified_diff.h"

namespace holdfast::workspace {
namespace {

using testing::HasSubstr;

class ApplyAttemptsTest : public AgentTest {
 protected:
  ApplyReport Carry(const ApplySelection& selection = {.everything = true}) {
    diff_ = Compare();
    const ApplyPlace place = {user(), base::RealFileSystem(), state() + "/apply.journal"};
    auto report = Apply(diff_, selection, place, blobs_.store());
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *std::move(report) : ApplyReport();
  }
  static ApplyFate FateOf(const ApplyReport& report, std::string_view path) {
    for (const ApplyItem& item : report.items) {
      if (item.path == path) return item.fate;
    }
    ADD_FAILURE() << path << " is not in the report";
    return ApplyFate::kFailed;
  }

  Diff diff_;
};

TEST_F(ApplyAttemptsTest, OrdinaryWorkArrives) {
  MakeRepository();
  AsAgent(
      "echo x >> README; rm src/main.c; mkdir -p a/b; echo deep > a/b/c; ln -s b/c a/l; chmod 600 run.sh; mv "
      "run.sh go.sh");
  const ApplyReport report = Carry();
  EXPECT_EQ(report.Count(ApplyFate::kApplied), report.items.size());
  EXPECT_EQ(AsUser("cat README a/l; stat -c %a go.sh; ls src run.sh 2>&1 || true"),
            "hello\nx\ndeep\n600\nls: cannot access 'run.sh': No such file or directory\nsrc:\n");
}

// 8
TEST_F(ApplyAttemptsTest, RenamedAncestorOfAProtectedPathLeavesItAlone) {
  MakeRepository("git init -q sub; echo s > sub/s\n");
  const World before = Read(user());
  AsAgent(
      "mv sub sub2; mkdir -p sub/.git/hooks; printf evil > sub/.git/hooks/pre-commit; printf evil > "
      "sub2/.git/config");
  const ApplyReport report = Carry();
  const World after = Read(user());
  for (const auto& [path, node] : before) {
    if (path.find(".git") == path.npos) continue;
    EXPECT_TRUE(after.contains(path) && after.at(path) == node) << path;
  }
  for (const auto& [path, node] : after) {
    if (path.find(".git") == path.npos) continue;
    EXPECT_TRUE(before.contains(path)) << path;
  }
  EXPECT_EQ(FateOf(report, "sub2/.git/config"), ApplyFate::kRefused);
  EXPECT_EQ(FateOf(report, "sub2/s"), ApplyFate::kApplied);
}

// 9, 11, 14
TEST_F(ApplyAttemptsTest, HooksAndConfigurationAreNotApplied) {
  MakeRepository();
  const World before = Read(user());
  AsAgent(
      "git init -q nested; mkdir -p nested/.git/hooks; printf '#!/bin/sh\\n' > nested/.git/hooks/pre-commit; "
      "echo code > nested/code; git config core.fsmonitor evil; printf evil > .git/hooks/post-checkout; "
      "echo '[submodule]' > .gitmodules; mkdir .vscode .claude; echo '{}' > .vscode/tasks.json; "
      "echo '{}' > .claude/settings.json; echo evil > .envrc; echo '{}' > .mcp.json");
  const ApplyReport report = Carry();
  World expected = before;
  expected["nested"] = Directory();
  expected["nested/code"] = File("code\n");
  EXPECT_EQ(Read(user()), expected) << Print(Read(user()));
  EXPECT_EQ(report.Count(ApplyFate::kApplied), 2u);
}

// 12
TEST_F(ApplyAttemptsTest, VariantsOfProtectedNamesAreRefusedAndShownLiterally) {
  MakeRepository();
  AsAgent(
      "mkdir -p .GIT/Hooks '.git.' $'.g\\u200cit' $'.g\\u0456t' '.git '; for d in .GIT/Hooks '.git.' "
      "$'.g\\u200cit' "
      "$'.g\\u0456t' '.git '; do echo evil > \"$d/config\"; done");
  const World before = Read(user());
  Carry();
  EXPECT_EQ(Read(user()), before);
  const std::string text = UnifiedDiff(diff_, blobs_.store(), nullptr).value();
  EXPECT_THAT(text, HasSubstr("# .g\\u{200c}it/config: not applied"));
  EXPECT_THAT(text, HasSubstr("# .g\\u{456}t/config: not applied: looks like a part of .git"));
}

// 15
TEST_F(ApplyAttemptsTest, FifosSocketsAndSpecialBitsAreNotApplied) {
  MakeRepository();
  AsAgent(
      "mkfifo pipe; mknod dev c 1 3 2>/dev/null || true; cp /bin/true suid; chmod 6755 suid; chmod u+s "
      "run.sh; mkdir sticky; "
      "chmod 1777 sticky; perl -MSocket -e 'socket(S,AF_UNIX,SOCK_STREAM,0); bind(S, sockaddr_un(\"sock\")) "
      "or die'");
  Carry();
  for (const char* name : {"pipe", "dev", "sock"}) {
    EXPECT_TRUE(absl::IsNotFound(user().Stat(name).status())) << name;
  }
  EXPECT_EQ(user().Stat("suid")->mode, 0755u);
  EXPECT_EQ(user().Stat("sticky")->mode, 0777u);
  EXPECT_EQ(user().Stat("run.sh")->mode & 07000, 0u);
}

TEST_F(ApplyAttemptsTest, LinksOutOfTheTreeAreRefusedAndLinksThereAreNotFollowed) {
  MakeRepository("mkdir dir; echo old > dir/file\n");
  WriteText(scratch_.path() + "/outside/file", "mine");
  AsAgent(
      "ln -s ../../outside out; ln -s /etc/passwd abs; ln -s README in; echo new > dir/file; echo n > "
      "dir/new");
  const Diff diff = Compare();
  // Between the session and the apply somebody makes the directory a link to the outside.
  std::filesystem::remove_all(file("dir"));
  std::filesystem::create_directory_symlink(scratch_.path() + "/outside", file("dir"));
  const ApplyPlace place = {user(), base::RealFileSystem(), state() + "/apply.journal"};
  const auto report = Apply(diff, {.everything = true}, place, blobs_.store());
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(ReadText(scratch_.path() + "/outside/file"), "mine");
  EXPECT_FALSE(std::filesystem::exists(scratch_.path() + "/outside/new"));
  EXPECT_EQ(FateOf(*report, "out"), ApplyFate::kRefused);
  EXPECT_EQ(FateOf(*report, "abs"), ApplyFate::kRefused);
  EXPECT_EQ(FateOf(*report, "in"), ApplyFate::kApplied);
  EXPECT_NE(FateOf(*report, "dir/new"), ApplyFate::kApplied);
}

// 16
TEST_F(ApplyAttemptsTest, AFileChangedOnTheHostIsAConflictAndBothStay) {
  MakeRepository();
  AsAgent("echo ours >> README; echo fine > other");
  WriteText(file("README"), "theirs\n");
  const ApplyReport report = Carry();
  EXPECT_EQ(FateOf(report, "README"), ApplyFate::kConflict);
  EXPECT_EQ(FateOf(report, "other"), ApplyFate::kApplied);
  EXPECT_EQ(ReadText(file("README")), "theirs\n");
  EXPECT_EQ(blobs_.store().Read(*manifest_.Find("README")->now.content, 100).value(), "hello\nours\n");
}

// What `git apply` makes of our text.
class GitApplyTest : public AgentTest {};

std::string RandomText(test::SeededRandom& random) {
  std::string text;
  for (uint64_t n = random.Below(30); n > 0; --n) {
    text += "line " + std::to_string(random.Below(12)) + (random.Percent(15) ? "\r\n" : "\n");
  }
  if (random.Percent(25) && !text.empty()) text.pop_back();
  return text;
}

// As git sees it: no empty directories, two modes.
World AsGitSees(const World& world) {
  World seen;
  for (const auto& [path, node] : world) {
    if (node.kind == VersionKind::kDirectory) continue;
    seen[path] = node;
    if (node.kind == VersionKind::kFile) seen[path].mode = (node.mode & 0100) != 0 ? 0755 : 0644;
  }
  return seen;
}

// Without directories that hold no file, which git cannot say anything about.
World WithoutEmptyDirectories(const World& world) {
  World kept = AsGitSees(world);
  for (const auto& [path, node] : AsGitSees(world)) {
    for (std::string_view above = Parent(path); !above.empty(); above = Parent(above)) {
      kept[std::string(above)] = world.at(std::string(above));
    }
  }
  return kept;
}

World WithTexts(World world, test::SeededRandom& random, uint64_t percent) {
  for (auto& [path, node] : world) {
    if (node.kind == VersionKind::kFile && random.Percent(percent)) node.text = RandomText(random);
  }
  return world;
}

TEST_F(GitApplyTest, TakesTheTextOfRandomChanges) {
  for (const uint64_t seed : test::TestSeeds(12)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    World base = WithoutEmptyDirectories(WithTexts(Changed({}, random, 40), random, 80));
    base["with \"strange\\ name\xc3\xa9\n"] = File("1\n2\n");
    base["with space"] = File("1\n2\n");
    World ours = WithTexts(Changed(base, random, 20), random, 40);
    ours["with \"strange\\ name\xc3\xa9\n"] = File("1\n3\n");
    ours["with space"] = File("1\n3\n");
    ASSERT_TRUE(RemoveAll(user(), "w").ok());
    ASSERT_TRUE(user().MakeDirectory("w", 0755).ok());
    auto tree = OpenTree(file("w"));
    ASSERT_TRUE(tree.ok());
    Make(**tree, base);
    const auto diff = DiffThreeWays(ManifestOf(base, ours, blobs_), **tree);
    ASSERT_TRUE(diff.ok());
    const auto text = UnifiedDiff(*diff, blobs_.store(), nullptr);
    ASSERT_TRUE(text.ok());
    WriteText(file("patch"), *text);
    AsUser("cd w; git apply --whitespace=nowarn ../patch");
    EXPECT_EQ(AsGitSees(Read(**tree)), AsGitSees(ours)) << *text;
  }
}

}  // namespace
}  // namespace holdfast::workspace
