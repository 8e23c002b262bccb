// Workspaces with a real sandbox on a real disk.
#include "workspace/workspace.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "memory/blob_store.h"
#include "sandbox/sandbox.h"
#include "tests/workspace/workspace_testing.h"
#include "workspace/layer/layer.h"
#include "workspace/layer/record.h"

namespace holdfast::workspace {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class WorkspaceTest : public testing::Test {
 protected:
  WorkspaceTest() {
    std::filesystem::create_directory(tree());
    auto started = sandbox::Sandbox::Start({.broker_path = HOLDFAST_SANDBOX_BROKER});
    HF_CHECK(started.ok());
    sandbox_ = std::move(*started);
    auto store = memory::BlobStore::Open(base::RealFileSystem(), {.directory = scratch_.path() + "/blobs"});
    HF_CHECK(store.ok());
    blobs_ = std::move(*store);
  }

  WorkspaceOptions Options(sandbox::WorkspaceMode mode = sandbox::WorkspaceMode::kOverlay) const {
    WorkspaceOptions options{.tree = tree(), .directory = directory(), .mode = mode};
    options.policy.workspace.inside = "/workspace";
    options.policy.limits.wall_ms = 60'000;
    return options;
  }

  base::Status Open(WorkspaceOptions options) {
    workspace_.reset();
    auto opened = Workspace::Open(std::move(options), *sandbox_, *blobs_);
    if (!opened.ok()) return opened.status();
    workspace_ = std::move(*opened);
    return {};
  }
  void Open() {
    const base::Status status = Open(Options());
    ASSERT_TRUE(status.ok()) << status;
  }

  // What a command prints; a failure fails the test.
  std::string Shell(std::string script) {
    const auto outcome = workspace_->session()->Run(sandbox::ShellCommand(std::move(script)));
    if (!outcome.ok()) return "<" + base::Message(outcome.status()) + ">";
    EXPECT_EQ(outcome->exit_code, 0) << outcome->output.head << outcome->output.tail;
    return outcome->output.head + outcome->output.tail;
  }

  CheckpointResult Checkpoint() {
    auto result = workspace_->Checkpoint();
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? std::move(*result) : CheckpointResult();
  }
  void Restore(const ManifestId& id) {
    const auto result = workspace_->Restore(id);
    ASSERT_TRUE(result.ok()) << result.status();
  }
  Manifest Load(const ManifestId& id) {
    auto manifest = DecodeManifest(id, NodesOf(*blobs_));
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    return manifest.ok() ? std::move(*manifest) : Manifest();
  }

  std::string tree() const { return scratch_.path() + "/tree"; }
  std::string directory() const { return scratch_.path() + "/workspace"; }
  std::string scratch() const { return scratch_.path(); }

  ScratchDirectory scratch_;
  std::unique_ptr<sandbox::Sandbox> sandbox_;
  std::unique_ptr<memory::BlobStore> blobs_;
  std::unique_ptr<Workspace> workspace_;
};

TEST_F(WorkspaceTest, CommandsAndFileToolsSeeTheSameFilesAndTheTreeIsUntouched) {
  WriteText(tree() + "/file", "tree");
  Open();
  EXPECT_TRUE(workspace_->report().fresh);
  EXPECT_EQ(Get(*workspace_->files(), "file"), "tree");
  Shell("echo -n command > file; mkdir -p d; echo -n made > d/new");
  EXPECT_EQ(Get(*workspace_->files(), "file"), "command");
  ASSERT_TRUE(ReplaceFile(*workspace_->files(), "d/new", base::AsBytes("tool"), 0755).ok());
  EXPECT_EQ(Shell("cat d/new; stat -c ' %a %U' d/new; echo more >> d/new"), "tool 755 agent\n");
  EXPECT_EQ(ReadText(tree() + "/file"), "tree");
  EXPECT_FALSE(std::filesystem::exists(tree() + "/d"));
  EXPECT_THAT(Checkpoint().changed, ElementsAre("d", "d/new", "file"));
}

// 17: rewind restores content, modes, symlinks, deletions.
TEST_F(WorkspaceTest, RestoreBringsBackContentModesLinksAndDeletions) {
  WriteText(tree() + "/kept", "kept");
  WriteText(tree() + "/changed", "old");
  WriteText(tree() + "/gone/a/b", "deleted");
  Open();
  Shell(
      "echo -n new > changed; chmod 750 changed; ln -s changed link; rm -r gone; mkdir -p empty x/y; echo 1 "
      "> x/y/z");
  const ManifestId first = Checkpoint().id;
  Shell(
      "rm changed link; rmdir empty; mkdir gone; echo 2 > gone/other; rm -r x; echo 3 > x; mkdir link; chmod "
      "600 kept");
  const CheckpointResult second = Checkpoint();
  EXPECT_NE(second.id, first);
  Restore(first);
  EXPECT_EQ(
      Shell("cat changed; stat -c ' %a' changed; readlink link; ls; ls -A empty; cat x/y/z; stat -c %a kept"),
      "new 750\nchanged\nchanged\nempty\nkept\nlink\nx\n1\n644\n");
  EXPECT_EQ(Checkpoint().id, first);
  Restore(second.id);
  EXPECT_EQ(Shell("ls; cat gone/other x; ls -A gone link; stat -c %a kept"),
            "gone\nkept\nlink\nx\n2\n3\ngone:\nother\n\nlink:\n600\n");
  EXPECT_EQ(Checkpoint().id, second.id);
  ASSERT_TRUE(workspace_->Discard().ok());
  EXPECT_EQ(Shell("cat changed gone/a/b kept; ls"), "olddeletedkeptchanged\ngone\nkept\n");
  EXPECT_EQ(Checkpoint().id, EmptyManifestId());
}

// 64: path names of any bytes.
TEST_F(WorkspaceTest, NamesOfAnyBytesAreKept) {
  Open();
  Shell(R"sh(n=$(printf 'n%.0s' $(seq 255)); mkdir dir
for f in "$(printf 'new\nline')" 'com,ma' 'co:lon' 'back\slash' "$(printf '\377\376bytes')" "$n"; do
  echo "$f" > "dir/$f"
done)sh");
  const CheckpointResult all = Checkpoint();
  EXPECT_EQ(all.changed.size(), 7u);
  const std::string listed = Shell("find dir -type f -exec md5sum {} +");
  ASSERT_TRUE(workspace_->Discard().ok());
  Restore(all.id);
  EXPECT_EQ(Shell("find dir -type f -exec md5sum {} +").size(), listed.size());
  EXPECT_EQ(Checkpoint().id, all.id);
}

// 19: embedded repositories, with and without commits.
TEST_F(WorkspaceTest, EmbeddedRepositoriesAreKeptWhole) {
  Open();
  Shell(
      "export HOME=/tmp; git init -q with; cd with; echo 1 > f; git add f; "
      "git -c user.name=a -c user.email=a@b commit -qm one; cd ..; git init -q without; echo 2 > without/g");
  const ManifestId id = Checkpoint().id;
  Shell("rm -rf with without");
  Checkpoint();
  Restore(id);
  EXPECT_EQ(
      Shell("export HOME=/tmp; git -C with log --format=%s; git -C with status --porcelain; cat without/g; "
            "git -C without status --porcelain"),
      "one\n2\n?? g\n");
}

// 15: what a manifest does not keep.
TEST_F(WorkspaceTest, SpecialFilesAreDropped) {
  Open();
  Shell(
      "mkfifo fifo; echo x > setuid; chmod 4755 setuid; python3 - <<'E' || true\nimport socket\ns = "
      "socket.socket(socket.AF_UNIX)\ns.bind('socket')\nE\n");
  const CheckpointResult result = Checkpoint();
  EXPECT_THAT(result.dropped, Contains("fifo"));
  const Manifest manifest = Load(result.id);
  EXPECT_EQ(manifest.Find("fifo"), nullptr);
  EXPECT_EQ(manifest.entries.size(), 1u);
}

TEST_F(WorkspaceTest, WhatOnlyItsOwnerForbadeHimselfIsKept) {
  Open();
  Shell("mkdir closed; echo hidden > closed/f; chmod 000 closed/f closed");
  const ManifestId id = Checkpoint().id;
  const Manifest manifest = Load(id);
  EXPECT_EQ(manifest.Find("closed")->now.mode, 0u);
  Shell("chmod 700 closed; rm -rf closed");
  Checkpoint();
  Restore(id);
  EXPECT_EQ(
      Shell("stat -c %a closed; chmod 700 closed; stat -c %a closed/f; chmod 600 closed/f; cat closed/f"),
      "0\n0\nhidden\n");
}

TEST_F(WorkspaceTest, IgnoredFilesStayOutButTrackedOnesDoNot) {
  WriteText(tree() + "/.gitignore", "build/\n*.o\n");
  WriteText(tree() + "/kept.o", "tracked");
  Open();
  Shell(
      "export HOME=/tmp; git init -q .; git add -f kept.o .gitignore; mkdir build; echo 1 > build/x; echo 2 "
      "> a.o; "
      "echo 3 > kept.o");
  const CheckpointResult result = Checkpoint();
  EXPECT_THAT(result.changed, Contains("kept.o"));
  EXPECT_THAT(result.changed, Not(Contains("a.o")));
  EXPECT_THAT(result.derived.roots, ElementsAre("a.o", "build"));
  EXPECT_EQ(result.derived.files, 2u);
}

TEST_F(WorkspaceTest, TheSameProcessMayEndAndTheLayerStays) {
  WriteText(tree() + "/file", "tree");
  Open();
  Shell("echo -n 1 > file; echo 2 > new");
  const ManifestId id = Checkpoint().id;
  Shell("echo -n unfinished > file");
  WorkspaceOptions options = Options();
  options.expected = id;
  ASSERT_TRUE(Open(options).ok());
  EXPECT_TRUE(workspace_->report().corrected);
  EXPECT_THAT(workspace_->report().restored.changed, ElementsAre("file"));
  EXPECT_EQ(Shell("cat file new"), "12\n");
  options.expected.reset();
  Shell("echo -n as it is > file");
  ASSERT_TRUE(Open(options).ok());
  EXPECT_FALSE(workspace_->report().corrected);
  EXPECT_EQ(Shell("cat file"), "as it is");
}

TEST_F(WorkspaceTest, WithAnotherBootIdTheLayerIsMadeAnew) {
  WriteText(tree() + "/.gitignore", "out\n");
  Open();
  Shell("echo 1 > kept; mkdir out; echo 2 > out/derived");
  const ManifestId id = Checkpoint().id;
  Shell("echo torn > kept");
  workspace_.reset();
  const std::string state = ReadText(directory() + "/state");
  ASSERT_FALSE(state.empty());
  WriteText(directory() + "/state", state.substr(0, state.size() / 2));  // as a power cut may leave it
  EXPECT_TRUE(absl::IsFailedPrecondition(Open(Options())));
  WorkspaceOptions options = Options();
  options.expected = id;
  ASSERT_TRUE(Open(options).ok());
  EXPECT_TRUE(workspace_->report().rebuilt);
  EXPECT_EQ(Shell("cat kept; ls"), "1\nkept\n");
}

TEST_F(WorkspaceTest, ALayerThatNobodyKnowsBeginsEmptyWhereThatIsWanted) {
  WorkspaceOptions options = Options();
  options.unknown = UnknownLayer::kEmpty;
  const auto lose_record = [this](const WorkspaceState& state) {
    workspace_.reset();
    ASSERT_TRUE(WriteState(base::RealFileSystem(), directory(), state).ok());
  };
  const std::string boot = BootId(base::RealFileSystem()).value();
  const ManifestId nowhere = base::Sha256Of(base::AsBytes("no manifest"));
  for (const WorkspaceState& lost : {WorkspaceState{"another boot", false, nowhere},  //
                                     WorkspaceState{boot, true, nowhere}}) {
    Open();
    Shell("echo 1 > a");
    Checkpoint();
    lose_record(lost);
    EXPECT_FALSE(Open(Options()).ok());
    lose_record(lost);
    ASSERT_TRUE(Open(options).ok());
    EXPECT_TRUE(workspace_->report().rebuilt);
    EXPECT_EQ(workspace_->current(), EmptyManifestId());
    EXPECT_EQ(Shell("ls"), "");
    workspace_.reset();
  }
  Open();
  Shell("echo 2 > a");
  lose_record({boot, false, EmptyManifestId()});
  ASSERT_TRUE(Open(options).ok());  // a layer of this boot is known
  EXPECT_FALSE(workspace_->report().rebuilt);
  EXPECT_EQ(Shell("cat a"), "2\n");
}

TEST_F(WorkspaceTest, AForkHasALayerOfItsOwn) {
  WriteText(tree() + "/file", "tree");
  Open();
  Shell("echo -n 1 > file");
  const ManifestId id = Checkpoint().id;
  Shell("echo -n 2 > file");
  Checkpoint();
  const std::string other = scratch() + "/fork";
  ASSERT_TRUE(workspace_->Fork(id, other).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(workspace_->Fork(id, other)));
  WorkspaceOptions options = Options();
  options.directory = other;
  options.expected = id;
  auto fork = Workspace::Open(options, *sandbox_, *blobs_);
  ASSERT_TRUE(fork.ok()) << fork.status();
  EXPECT_FALSE((*fork)->report().rebuilt);
  EXPECT_EQ(Get(*(*fork)->files(), "file"), "1");
  ASSERT_TRUE(ReplaceFile(*(*fork)->files(), "file", base::AsBytes("3"), 0644).ok());
  EXPECT_EQ(Shell("cat file"), "2");
}

TEST_F(WorkspaceTest, ASnapshotDoesNotMoveWithTheTree) {
  WriteText(tree() + "/file", "at the start");
  WriteText(tree() + "/dir/other", "x");
  ASSERT_EQ(symlink("file", (tree() + "/link").c_str()), 0);
  WorkspaceOptions options = Options();
  options.snapshot = Snapshot::kYes;
  const base::Status status = Open(options);
  ASSERT_TRUE(status.ok()) << status;
  WriteText(tree() + "/file", "changed by the user");
  std::filesystem::remove(tree() + "/dir/other");
  EXPECT_EQ(Shell("cat link dir/other; pwd"), "at the startx/workspace\n");
  Shell("echo -n ours > file");
  const Manifest manifest = Load(Checkpoint().id);
  EXPECT_EQ(*blobs_->Read(*manifest.Find("file")->base.content, 100), "at the start");
  EXPECT_EQ(manifest.Find("file")->certainty, BaseCertainty::kCertain);
  const auto changes = workspace_->ChangesUnderneath(10);
  ASSERT_TRUE(changes.ok());
  EXPECT_THAT(changes->changes, ElementsAre(TreeChange{TreeChange::Kind::kRemoved, "dir/other"},
                                            TreeChange{TreeChange::Kind::kChanged, "file"}));
}

// 16: changes underneath are noticed.
TEST_F(WorkspaceTest, ChangesOfTheUsersTreeAreListedOnce) {
  WriteText(tree() + "/a", "1");
  WriteText(tree() + "/b", "1");
  Open();
  EXPECT_THAT(workspace_->ChangesUnderneath(10)->changes, IsEmpty());
  WriteText(tree() + "/a", "22");
  WriteText(tree() + "/new/file", "3");
  std::filesystem::remove(tree() + "/b");
  const auto changes = workspace_->ChangesUnderneath(3);
  ASSERT_TRUE(changes.ok());
  EXPECT_EQ(changes->count, 4u);
  EXPECT_THAT(changes->changes, ElementsAre(TreeChange{TreeChange::Kind::kChanged, "a"},
                                            TreeChange{TreeChange::Kind::kRemoved, "b"},
                                            TreeChange{TreeChange::Kind::kAdded, "new"}));
  EXPECT_EQ(workspace_->ChangesUnderneath(10)->count, 0u);
}

// 20: an owner whom the session cannot stand for.
TEST_F(WorkspaceTest, WhatBelongsToOthersIsSaidClearly) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  WriteText(tree() + "/mine", "1");
  WriteText(tree() + "/theirs", "2");
  ASSERT_EQ(chown((tree() + "/theirs").c_str(), 4711, 4712), 0);
  const base::Status status = Open(Options());
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(base::Message(status), HasSubstr("theirs (4711:4712)"));
  WorkspaceOptions options = Options();
  options.snapshot = Snapshot::kYes;
  ASSERT_TRUE(Open(options).ok());
  EXPECT_EQ(Shell("echo -n 3 >> theirs; cat theirs"), "23");
}

TEST_F(WorkspaceTest, DirectModeListsChangesAndHasNoWayBack) {
  WriteText(tree() + "/file", "old");
  WriteText(tree() + "/gone", "x");
  const base::Status status = Open(Options(sandbox::WorkspaceMode::kDirect));
  ASSERT_TRUE(status.ok()) << status;
  Shell("echo -n changed > file; rm gone; mkdir d; echo 1 > d/new; mkdir .git");
  EXPECT_EQ(ReadText(tree() + "/file"), "changed");
  const CheckpointResult result = Checkpoint();
  EXPECT_THAT(result.changed, ElementsAre(".git", "d", "d/new", "file", "gone"));
  const Manifest manifest = Load(result.id);
  EXPECT_EQ(*blobs_->Read(*manifest.Find("file")->now.content, 100), "changed");
  EXPECT_EQ(manifest.Find("file")->base.size_bytes, 3u);
  EXPECT_FALSE(manifest.Find("file")->base.content.has_value());
  EXPECT_EQ(Checkpoint().id, result.id);
  EXPECT_TRUE(absl::IsFailedPrecondition(workspace_->Restore(result.id).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(workspace_->Discard().status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(workspace_->Fork(result.id, scratch() + "/fork")));
}

TEST_F(WorkspaceTest, OptionsThatMakeNoSenseAreRefused) {
  WorkspaceOptions options = Options();
  options.directory = tree() + "/inside";
  EXPECT_TRUE(absl::IsInvalidArgument(Open(options)));
  options = Options();
  options.tree = "relative";
  EXPECT_TRUE(absl::IsInvalidArgument(Open(options)));
  options = Options();
  options.tree = scratch() + "/none";
  EXPECT_TRUE(absl::IsNotFound(Open(options)));
  Open();
  const auto second = Workspace::Open(Options(), *sandbox_, *blobs_);
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  workspace_.reset();
  std::filesystem::create_directory(scratch() + "/other");
  options = Options();
  options.tree = scratch() + "/other";
  EXPECT_TRUE(absl::IsFailedPrecondition(Open(options)));
}

TEST_F(WorkspaceTest, BackgroundWorkDoesNotDisturbACheckpoint) {
  Open();
  Shell("echo start > log");
  auto job = workspace_->session()->Start(sandbox::ShellCommand(
      "while :; do echo line >> log; echo $RANDOM > f$((RANDOM % 5)); rm -f f$((RANDOM % 5)); done"));
  ASSERT_TRUE(job.ok()) << job.status();
  for (int i = 0; i < 20; ++i) {
    const CheckpointResult result = Checkpoint();
    for (const ManifestEntry& entry : Load(result.id).entries) {
      ASSERT_TRUE(blobs_->Contains(*entry.now.content)) << entry.path;
    }
  }
  Restore(EmptyManifestId());
  EXPECT_EQ(Shell("ls"), "");
}

}  // namespace
}  // namespace holdfast::workspace
