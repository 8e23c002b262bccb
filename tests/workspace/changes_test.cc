// The whole way: a session's commands, checkpoint, diff, apply, and what its layer holds after that.
#include "workspace/changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "sandbox/sandbox.h"
#include "tests/workspace/workspace_testing.h"
#include "workspace/git_branch.h"
#include "workspace/unified_diff.h"

namespace holdfast::workspace {
namespace {

using testing::HasSubstr;

// The real clock, put forward: so that what was done is as long ago as a test needs, without waiting.
class ShiftedClock final : public base::Clock {
 public:
  base::UtcTime UtcNow() override { return {base::RealClock().UtcNow().ns + shift_ns_}; }
  base::MonotonicTime MonotonicNow() override { return {base::RealClock().MonotonicNow().ns + shift_ns_}; }
  void Shift(int64_t ns) { shift_ns_ += ns; }

 private:
  int64_t shift_ns_ = 0;
};

class ChangesTest : public testing::Test {
 protected:
  ChangesTest() {
    std::filesystem::create_directory(tree());
    auto started = sandbox::Sandbox::Start({.broker_path = HOLDFAST_SANDBOX_BROKER});
    HF_CHECK(started.ok());
    sandbox_ = *std::move(started);
    auto store = memory::BlobStore::Open(base::RealFileSystem(), {.directory = scratch_.path() + "/blobs"});
    HF_CHECK(store.ok());
    blobs_ = *std::move(store);
  }

  void Open(Snapshot snapshot = Snapshot::kNo,
            sandbox::WorkspaceMode mode = sandbox::WorkspaceMode::kOverlay) {
    WorkspaceOptions options{
        .tree = tree(), .directory = scratch_.path() + "/state", .mode = mode, .snapshot = snapshot};
    options.policy.workspace.inside = "/workspace";
    auto opened = Workspace::Open(std::move(options), *sandbox_, *blobs_, base::RealFileSystem(), clock_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    workspace_ = *std::move(opened);
  }

  std::string Shell(const std::string& script) {
    const auto outcome = workspace_->session()->Run(sandbox::ShellCommand("set -e\n" + script));
    EXPECT_TRUE(outcome.ok() && outcome->ok()) << script;
    return outcome.ok() ? Render(outcome->output) : "";
  }

  WorkspaceChanges Compare() {
    EXPECT_TRUE(workspace_->Checkpoint().ok());
    auto changes = CompareWorkspace(*workspace_, *blobs_);
    EXPECT_TRUE(changes.ok()) << changes.status();
    return changes.ok() ? *std::move(changes) : WorkspaceChanges();
  }

  ApplyReport Carry(const ApplySelection& selection = {.everything = true}) {
    EXPECT_TRUE(workspace_->Checkpoint().ok());
    auto report = ApplyWorkspace(*workspace_, *blobs_, selection);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *std::move(report) : ApplyReport();
  }

  std::string tree() const { return scratch_.path() + "/tree"; }
  std::string file(const std::string& name) const { return tree() + "/" + name; }

  ShiftedClock clock_;
  ScratchDirectory scratch_;
  std::unique_ptr<sandbox::Sandbox> sandbox_;
  std::unique_ptr<memory::BlobStore> blobs_;
  std::unique_ptr<Workspace> workspace_;
};

TEST_F(ChangesTest, WhatIsAppliedLeavesTheLayer) {
  WriteText(file("a"), "1\n");
  WriteText(file("d/x"), "x\n");
  WriteText(file("d/y"), "y\n");
  Open();
  Shell("echo 2 > a; rm -r d; mkdir n; echo n > n/f; mkdir .vscode; echo t > .vscode/t");
  const ApplyReport report = Carry();
  EXPECT_EQ(report.Count(ApplyFate::kRefused), 2u);
  EXPECT_EQ(report.Count(ApplyFate::kApplied), report.items.size() - 2);
  EXPECT_EQ(ReadText(file("a")), "2\n");
  EXPECT_FALSE(std::filesystem::exists(file("d")));
  EXPECT_EQ(ReadText(file("n/f")), "n\n");
  EXPECT_FALSE(std::filesystem::exists(file(".vscode")));
  // The session sees the same as before, and only what was refused is a change still.
  EXPECT_EQ(Shell("cat a n/f .vscode/t; ls"), "2\nn\nt\na\nn\n");
  const WorkspaceChanges left = Compare();
  ASSERT_EQ(left.diff.changes.size(), 2u);
  EXPECT_EQ(left.diff.changes[0].path, ".vscode");
  EXPECT_FALSE(std::filesystem::exists(scratch_.path() + "/state/layer/upper/a"));
}

TEST_F(ChangesTest, TheNextRoundStartsFromWhatWasApplied) {
  WriteText(file("a"), "1\n");
  Open();
  for (const char* text : {"2\n", "3\n", "4\n"}) {
    Shell(std::string("printf '") + text + "' > a; mkdir -p d; printf '" + text + "' > d/f");
    const ApplyReport report = Carry();
    for (const ApplyItem& item : report.items)
      EXPECT_EQ(item.fate, ApplyFate::kApplied) << item.path << item.note;
    EXPECT_EQ(ReadText(file("a")), text);
    EXPECT_EQ(ReadText(file("d/f")), text);
  }
}

TEST_F(ChangesTest, WhatIsAppliedIsNoChangeByOthers) {
  WriteText(file("a"), "1\n");
  WriteText(file("gone/x"), "1\n");
  Open();
  Shell("echo 2 > a; echo n > n; rm -r gone");
  Carry();
  auto changes = workspace_->ChangesUnderneath(100);
  ASSERT_TRUE(changes.ok());
  EXPECT_EQ(changes->count, 0u);
  WriteText(file("n"), "by the user\n");
  changes = workspace_->ChangesUnderneath(100);
  ASSERT_TRUE(changes.ok());
  EXPECT_EQ(changes->changes, (std::vector<TreeChange>{{TreeChange::Kind::kChanged, "n"}}));
}

TEST_F(ChangesTest, WhatTheUserChangesAfterwardsIsSeenInside) {
  WriteText(file("a"), "1\n");
  Open();
  Shell("echo 2 > a");
  Carry();
  WriteText(file("a"), "3\n");
  ASSERT_TRUE(workspace_->Reopen().ok());
  EXPECT_EQ(Shell("cat a"), "3\n");
  clock_.Shift(base::kNsPerSecond);
  ASSERT_TRUE(workspace_->Checkpoint().ok());  // from here on that is known to be what the session saw
  Shell("echo 4 > a");
  const ApplyReport report = Carry();
  ASSERT_EQ(report.items.size(), 1u);
  EXPECT_EQ(report.items[0].fate, ApplyFate::kApplied) << report.items[0].note;
  EXPECT_EQ(ReadText(file("a")), "4\n");
}

TEST_F(ChangesTest, AConflictStaysInTheLayer) {
  WriteText(file("a"), "1\n");
  WriteText(file("b"), "1\n");
  Open();
  Shell("echo ours > a; echo ours > b");
  ASSERT_TRUE(workspace_->Checkpoint().ok());
  WriteText(file("a"), "theirs\n");
  EXPECT_EQ(Carry().Count(ApplyFate::kConflict), 1u);
  EXPECT_EQ(ReadText(file("a")), "theirs\n");
  EXPECT_EQ(ReadText(file("b")), "ours\n");
  EXPECT_EQ(Shell("cat a b"), "ours\nours\n");
  EXPECT_EQ(Carry({.everything = true, .take_ours = {"a"}}).Count(ApplyFate::kApplied), 1u);
  EXPECT_EQ(ReadText(file("a")), "ours\n");
  EXPECT_EQ(workspace_->current(), EmptyManifestId());
}

TEST_F(ChangesTest, ByFile) {
  Open();
  Shell("echo 1 > a; mkdir -p d/e; echo 2 > d/e/b; echo 3 > c");
  Carry({.paths = {"d/e/b"}});
  EXPECT_EQ(ReadText(file("d/e/b")), "2\n");
  EXPECT_FALSE(std::filesystem::exists(file("a")));
  EXPECT_EQ(Compare().diff.changes.size(), 2u);
}

TEST_F(ChangesTest, ASnapshotKeepsItsLayer) {
  WriteText(file("a"), "1\n");
  Open(Snapshot::kYes);
  Shell("echo 2 > a");
  EXPECT_EQ(Carry().Count(ApplyFate::kApplied), 1u);
  EXPECT_EQ(ReadText(file("a")), "2\n");
  EXPECT_EQ(Shell("cat a"), "2\n");
  EXPECT_EQ(Carry().Count(ApplyFate::kAlready), 1u);
}

TEST_F(ChangesTest, DirectModeHasNothingToApply) {
  Open(Snapshot::kNo, sandbox::WorkspaceMode::kDirect);
  EXPECT_TRUE(absl::IsFailedPrecondition(CompareWorkspace(*workspace_, *blobs_).status()));
  EXPECT_TRUE(
      absl::IsFailedPrecondition(ApplyWorkspace(*workspace_, *blobs_, {.everything = true}).status()));
}

TEST_F(ChangesTest, ABranchOfASession) {
  Open();
  Shell(
      "export HOME=/tmp GIT_AUTHOR_NAME=u GIT_AUTHOR_EMAIL=u@x GIT_COMMITTER_NAME=u GIT_COMMITTER_EMAIL=u@x; "
      "git init -q -b main .; echo 1 > a; git add a; git commit -qm base");
  // A repository made inside is none of the user's.
  WorkspaceChanges changes = Compare();
  const auto request = BranchRequest{.tree = tree(), .scratch = scratch_.path() + "/branch", .name = "agent"};
  EXPECT_TRUE(
      absl::IsNotFound(MakeBranch(request, changes.manifest, changes.diff, *blobs_, *sandbox_).status()));
  const auto text = UnifiedDiff(changes.diff, *blobs_, nullptr);
  ASSERT_TRUE(text.ok());
  EXPECT_THAT(*text, HasSubstr("diff --git a/a b/a\nnew file mode 100644\n"));
}

}  // namespace
}  // namespace holdfast::workspace
