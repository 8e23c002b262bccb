#include "workspace/git_branch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/workspace/agent_testing.h"
#include "workspace/git/repository.h"

namespace holdfast::workspace {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

class GitBranchTest : public AgentTest {
 protected:
  base::StatusOr<BranchResult> Branch(const std::string& name = "agent/work",
                                      std::vector<std::string> allow = {}) {
    const Diff diff = Compare();
    before_ = Read(user());
    return MakeBranch({.tree = tree_path(),
                       .scratch = state() + "/branch",
                       .name = name,
                       .message = "Work of an agent",
                       .allow_protected = std::move(allow)},
                      manifest_, diff, blobs_.store(), *sandbox_);
  }

  // Everything of the tree and its `.git` is as it was, but for the branch and packs.
  void ExpectOnlyAdded(const std::string& ref_path) {
    const World after = Read(user());
    for (const auto& [path, node] : before_) {
      EXPECT_TRUE(after.contains(path) && after.at(path) == node) << path;
    }
    for (const auto& [path, node] : after) {
      if (before_.contains(path) || node.kind == VersionKind::kDirectory) continue;
      EXPECT_TRUE(path == ref_path || path.starts_with(".git/objects/pack/pack-")) << path << " is new";
    }
  }

  World before_;
};

TEST_F(GitBranchTest, ChangesBecomeACommitOnTheBase) {
  MakeRepository();
  AsAgent(
      "echo more >> README; rm src/main.c; mkdir new; echo n > new/f; ln -s f new/l; chmod +x README; rm "
      "run.sh");
  const auto result = Branch();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->committed_changes);
  EXPECT_EQ(result->commits_taken, 0u);
  EXPECT_THAT(result->left_out, IsEmpty());
  ExpectOnlyAdded(".git/refs/heads/agent/work");
  const std::string said =
      AsUser(std::string(kGit) +
             "git fsck --strict 2>&1; git log --format='%an %s %P' agent/work; git status --short; "
             "git diff-tree -r main agent/work; git show agent/work:README; git symbolic-ref HEAD");
  EXPECT_THAT(said, HasSubstr("Holdfast Work of an agent " + result->base));
  EXPECT_THAT(said, HasSubstr("D\trun.sh"));
  EXPECT_THAT(said, HasSubstr("D\tsrc/main.c"));
  EXPECT_THAT(said, HasSubstr(":000000 120000"));
  EXPECT_THAT(said, HasSubstr(":100644 100755"));
  EXPECT_THAT(said, HasSubstr("hello\nmore\nrefs/heads/main"));
}

TEST_F(GitBranchTest, CommitsMadeInsideAreTaken) {
  MakeRepository();
  AsAgent(std::string(kGit) +
          "echo 1 > one && git add one && git commit -qm 'first inside' && echo 2 > two && git add two && "
          "git commit -qm 'second inside' && git gc -q && echo loose > three");
  const auto result = Branch();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->commits_taken, 2u);
  EXPECT_TRUE(result->committed_changes);
  EXPECT_EQ(result->note, "");
  ExpectOnlyAdded(".git/refs/heads/agent/work");
  EXPECT_EQ(
      AsUser(std::string(kGit) +
             "git log --format=%s agent/work; git rev-parse main HEAD; git fsck --strict"),
      "Work of an agent\nsecond inside\nfirst inside\nbase\n" + result->base + "\n" + result->base + "\n");
}

TEST_F(GitBranchTest, NothingBesidesTheCommitsMadeInside) {
  MakeRepository();
  AsAgent(std::string(kGit) + "echo 1 > one && git add one && git commit -qm inside");
  const auto result = Branch();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->committed_changes);
  EXPECT_EQ(AsUser(std::string(kGit) + "git log --format=%s agent/work"), "inside\nbase\n");
}

TEST_F(GitBranchTest, CommitsThatTouchProtectedPathsAreNotTakenAsTheyAre) {
  MakeRepository();
  AsAgent(std::string(kGit) +
          "mkdir .vscode; echo '{}' > .vscode/tasks.json; echo x > fine; git add -A; git commit -qm trap");
  const auto result = Branch();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->commits_taken, 0u);
  EXPECT_THAT(result->note, HasSubstr(".vscode/tasks.json"));
  EXPECT_THAT(result->left_out, Contains(HasSubstr(".vscode/tasks.json: protected")));
  EXPECT_EQ(AsUser(std::string(kGit) + "git diff --name-only main agent/work"), "fine\n");
  const auto allowed = Branch("agent/all", {".vscode", ".vscode/tasks.json"});
  ASSERT_TRUE(allowed.ok()) << allowed.status();
  EXPECT_EQ(allowed->commits_taken, 1u);
}

// Tests 9, 11 and 14 of spec/sandbox.md: whatever is planted, nothing runs and nothing of it arrives.
TEST_F(GitBranchTest, PlantedConfigHooksAndFiltersRunNothing) {
  MakeRepository();
  const std::string canary = scratch_.path() + "/canary";
  // Both where the user would be hurt and where the agent would: the same configuration.
  const std::string plant =
      "c='sh -c \"touch " + canary +
      " /tmp/canary\"'\n"
      "git config core.fsmonitor \"$c\"; git config filter.evil.clean \"$c\"; git config filter.evil.smudge "
      "\"$c\"\n"
      "git config filter.evil.process \"$c\"; git config core.sshCommand \"$c\"; git config alias.rev-parse "
      "\"!$c\"\n"
      "git config core.pager \"$c\"; git config gpg.program \"$c\"; git config commit.gpgsign true\n"
      "git config include.path evil; git config core.hooksPath .git/hooks; git config core.editor \"$c\"\n"
      "git config uploadpack.packObjectsHook \"$c\"; git config core.alternateRefsCommand \"$c\"\n"
      "for h in pre-commit post-checkout reference-transaction post-index-change pre-auto-gc; do\n"
      "  mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch %s /tmp/canary\\n' " +
      canary +
      " > .git/hooks/$h; chmod +x .git/hooks/$h; done\n"
      "echo '* filter=evil diff=evil merge=evil' > .git/info/attributes\n";
  AsUser(std::string(kGit) + plant);
  AsAgent(std::string(kGit) + plant + "echo '* filter=evil' > .gitattributes; echo x >> README; rm -f " +
          canary);
  std::filesystem::remove(canary);
  const auto result = Branch();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(std::filesystem::exists(canary));
  EXPECT_FALSE(std::filesystem::exists("/tmp/canary"));
  ExpectOnlyAdded(".git/refs/heads/agent/work");
  EXPECT_THAT(result->left_out, Contains(HasSubstr(".gitattributes: protected")));
  // A filter that had run would have left its own output.
  EXPECT_EQ(AsUser(std::string(kGit) + "git cat-file -p agent/work:README"), "hello\nx\n");
}

// Test 13: a worktree, whose `.git` is a file that points elsewhere.
TEST_F(GitBranchTest, AWorktreeGetsTheBranchInItsRepository) {
  AsUser(std::string(kGit) +
         "git init -q -b main main && cd main && echo a > a && git add a && git commit -qm base && "
         "git worktree add -q ../linked -b side");
  // As the host calls it, not as the session did.
  const std::string pointer = "gitdir: " + tree_path() + "/main/.git/worktrees/linked\n";
  WriteText(file("linked/.git"), pointer);
  auto diff_tree = OpenTree(file("linked"));
  ASSERT_TRUE(diff_tree.ok());
  const World base = Read(**diff_tree);
  World ours = base;
  ours["new"] = File("n\n");
  const Manifest manifest = ManifestOf(base, ours, blobs_);
  const auto diff = DiffThreeWays(manifest, **diff_tree);
  ASSERT_TRUE(diff.ok());
  const auto result = MakeBranch({.tree = file("linked"), .scratch = state() + "/branch", .name = "agent"},
                                 manifest, *diff, blobs_.store(), *sandbox_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(ReadText(file("linked/.git")), pointer);
  EXPECT_EQ(AsUser(std::string(kGit) + "cd main && git diff --name-only main agent"), "new\n");
}

// Test 19: embedded repositories, with and without commits, stay what they are.
TEST_F(GitBranchTest, NestedRepositoriesAreLeftOut) {
  MakeRepository();
  AsAgent(std::string(kGit) +
          "git init -q empty; echo e > empty/e; git init -q full; cd full; echo f > f; git add f; "
          "git commit -qm nested; cd ..; echo x > plain");
  const auto result = Branch();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->left_out, Contains("full/f: in a repository of its own"));
  EXPECT_THAT(result->left_out, Contains("empty/e: in a repository of its own"));
  EXPECT_EQ(AsUser(std::string(kGit) + "git diff --name-only main agent/work"), "plain\n");
}

TEST_F(GitBranchTest, ARepositoryWithoutCommitsGetsAFirstOne) {
  AsUser(std::string(kGit) + "git init -q -b main .");
  AsAgent("echo x > x");
  const auto result = Branch();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->base, "");
  EXPECT_EQ(AsUser(std::string(kGit) + "git log --format=%s agent/work; git show agent/work:x"),
            "Work of an agent\nx\n");
}

TEST_F(GitBranchTest, ExistingBranchesAreRefusedLooseAndPacked) {
  MakeRepository(
      "git branch loose; git branch packed; git branch dir/packed; git pack-refs --all; git branch loose2\n");
  AsAgent("echo x > x");
  for (const char* name : {"loose2", "packed", "dir", "packed/below", "loose2/below", "main"}) {
    const auto result = Branch(name);
    EXPECT_TRUE(absl::IsAlreadyExists(result.status())) << name << " " << result.status();
    EXPECT_EQ(Read(user()), before_) << name;
  }
  EXPECT_TRUE(Branch("dir/other").ok());
}

TEST_F(GitBranchTest, ErrorsSayWhatIsWrong) {
  AsAgent("echo x > x");
  EXPECT_TRUE(absl::IsNotFound(Branch().status()));
  AsUser(std::string(kGit) + "git init -q -b main .");
  EXPECT_TRUE(absl::IsInvalidArgument(Branch("-x").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Branch("a..b").status()));
  AsAgent("rm x");
  const auto nothing = Branch();
  EXPECT_TRUE(absl::IsFailedPrecondition(nothing.status()));
  EXPECT_THAT(base::Message(nothing.status()), HasSubstr("nothing to put on it"));
}

TEST_F(GitBranchTest, NamesWithStrangeBytesAndContentsArriveAsTheyAre) {
  MakeRepository();
  AsAgent(
      "printf 'a\\r\\nb' > 'with space'; printf '\\0\\377' > $'tab\\tnew\\nline'; echo q > '\"quoted\"'; "
      "printf done > $'\\xff\\xfe'; head -c 3000000 /dev/urandom > big");
  const Diff diff = Compare();
  const auto result = Branch();
  ASSERT_TRUE(result.ok()) << result.status();
  AsUser(std::string(kGit) + "git worktree add -q /tmp/out agent/work; cp -r /tmp/out out");
  for (const char* name : {"with space", "tab\tnew\nline", "\"quoted\"", "\xff\xfe", "big"}) {
    const PathChange* change = diff.Find(name);
    ASSERT_NE(change, nullptr) << name;
    EXPECT_EQ(base::Sha256Of(base::AsBytes(ReadText(file("out/") + name))), *change->ours.content) << name;
  }
}

TEST(BranchNameTest, GitsRules) {
  for (const char* name : {"a", "a/b", "fix-1.2", "\xc3\xa9", "a@b", "HEADS", "x/HEAD"}) {
    EXPECT_TRUE(git::ValidateBranchName(name).ok()) << name;
  }
  for (const char* name :
       {"",   "-a",   "a..b", "a b", "a~", "a^", "a:", "a?",   "a*",   "a[",    "a\\",  "a.lock", "a.lock/b",
        ".a", "a/.b", "a//b", "/a",  "a/", "a.", "@",  "a@{b", "HEAD", "a\x7f", "a\tb", "../a"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(git::ValidateBranchName(name))) << name;
  }
}

}  // namespace
}  // namespace holdfast::workspace
