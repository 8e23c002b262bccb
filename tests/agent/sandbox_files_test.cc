// The files of a session with a real sandbox on a real disk.
#include "agent/sandbox_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/workspace/sandbox_testing.h"
#include "tests/workspace/workspace_testing.h"
#include "tools/command_tools.h"
#include "tools/dispatcher.h"
#include "tools/file_tools.h"
#include "tools/file_versions.h"

namespace holdfast::agent {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;
using tools::BackgroundInfo;
using tools::ToolStatus;
using workspace::ReadText;
using workspace::WriteText;

base::Sha256Digest HashOf(std::string_view text) { return base::Sha256Of(base::AsBytes(text)); }

class SandboxFilesTest : public testing::Test {
 protected:
  SandboxFilesTest() {
    std::filesystem::create_directory(tree());
    options_.policy.workspace.inside = "/workspace";
    options_.policy.limits.wall_ms = 60'000;
    options_.policy.limits.kill_grace_ms = 100;
    options_.policy.setup_ms_max = 20'000;  // a machine busy with other tests
    auto store = memory::BlobStore::Open(base::RealFileSystem(), {.directory = scratch_.path() + "/blobs"});
    HF_CHECK(store.ok());
    blobs_ = *std::move(store);
    HF_CHECK(tools::AddCommandTools(registry_).ok() && tools::AddFileTools(registry_).ok());
    auto selected = registry_.Select(std::vector<std::string>{"bash@2", "read@2", "edit@2"});
    HF_CHECK(selected.ok());
    toolset_ = *std::move(selected);
    auto allowed = tools::PermissionPolicy::Make({}, tools::PermissionDefault::kByReach);
    permissions_ = *std::move(allowed);
    OnControl([this] {
      dispatcher_ = std::make_unique<tools::Dispatcher>(executor_, base::RealClock(), toolset_, permissions_,
                                                        approvals_, tools::Dispatcher::Options{});
    });
  }
  ~SandboxFilesTest() override {
    Vanish();
    OnControl([this] { dispatcher_.reset(); });
    executor_.Drain();
  }

  void OnControl(absl::AnyInvocable<void()> task) {
    std::promise<void> ran;
    executor_.PostResult(base::Lane::kControl, [&] {
      task();
      ran.set_value();
    });
    ran.get_future().wait();
  }

  // Asks for an operation on the control lane and waits for its answer.
  template <typename R>
  R Await(absl::AnyInvocable<void(absl::AnyInvocable<void(R)>)> ask) {
    std::promise<R> answer;
    OnControl([&] {
      ask([this, &answer](R result) {
        EXPECT_TRUE(executor_.RunsOn(base::Lane::kControl));
        answer.set_value(std::move(result));
      });
    });
    return answer.get_future().get();
  }

  base::Status TryOpen(FilesSpec spec) {
    if (sandbox_ == nullptr) sandbox_ = workspace::StartSandbox();
    auto made = SandboxFilesOpener::Make({.executor = executor_,
                                          .clock = base::RealClock(),
                                          .fs = base::RealFileSystem(),
                                          .sandbox = *sandbox_,
                                          .blobs = *blobs_},
                                         options_);
    if (!made.ok()) return made.status();
    opener_ = *std::move(made);
    using R = base::StatusOr<std::unique_ptr<SessionFiles>>;
    R opened = Await<R>([&](auto done) { opener_->Open(std::move(spec), std::move(done)); });
    if (!opened.ok()) return opened.status();
    files_ = *std::move(opened);
    return {};
  }
  void Open(const std::string& mode = "overlay") {
    // The end of a call lets go of its context on another thread, a moment after its result has come.
    const int64_t deadline = base::RealClock().MonotonicNow().ns + 10 * base::kNsPerSecond;
    base::Status status = TryOpen({"s1", tree(), directory(), mode});
    while (absl::IsUnavailable(status) && base::RealClock().MonotonicNow().ns < deadline) {
      std::this_thread::yield();
      status = TryOpen({"s1", tree(), directory(), mode});
    }
    ASSERT_TRUE(status.ok()) << status;
  }
  // As far as the files go, the process has ended.
  void Vanish() {
    OnControl([this] { files_.reset(); });
    executor_.Drain();
  }
  void Reopen(const std::string& mode = "overlay") {
    Vanish();
    Open(mode);
  }

  tools::ToolResult Call(const std::string& tool, const json& arguments) {
    std::promise<tools::ToolResult> result;
    OnControl([&] {
      const tools::ToolContext context = files_->context();
      dispatcher_->Start(dispatcher_->Prepare(context, tool, arguments.dump()), context,
                         [&result](tools::ToolResult r) { result.set_value(std::move(r)); });
    });
    return result.get_future().get();
  }
  // What a command prints, and how it ended.
  std::string Bash(const std::string& command) { return Call("bash", {{"command", command}}).text; }
  void Background(const std::string& command) {
    EXPECT_EQ(Call("bash", {{"command", command}, {"run_in_background", true}}).status, ToolStatus::kOk);
  }
  std::vector<BackgroundInfo> Jobs() {
    std::vector<BackgroundInfo> list;
    OnControl([&] { list = files_->context().jobs->List(); });
    return list;
  }

  base::Sha256Digest Checkpoint() {
    const auto id =
        Await<base::StatusOr<base::Sha256Digest>>([this](auto done) { files_->Checkpoint(std::move(done)); });
    EXPECT_TRUE(id.ok()) << id.status();
    return id.value_or(base::Sha256Digest{});
  }
  base::Status Restore(std::optional<base::Sha256Digest> manifest) {
    return Await<base::Status>([&](auto done) { files_->Restore(manifest, std::move(done)); });
  }
  base::StatusOr<CheckRan> Check(const std::string& command, int64_t timeout_ms = 60'000) {
    return Await<base::StatusOr<CheckRan>>([&](auto done) {
      files_->RunCheck({.command = command, .timeout_ms = timeout_ms}, std::move(done));
    });
  }
  CheckRan Checked(const std::string& command, int64_t timeout_ms = 60'000) {
    auto ran = Check(command, timeout_ms);
    EXPECT_TRUE(ran.ok()) << ran.status();
    return ran.ok() ? *std::move(ran) : CheckRan();
  }
  base::StatusOr<FilesReport> Apply(ApplyRequest what = {}) {
    return Await<base::StatusOr<FilesReport>>([&](auto done) { files_->Apply(what, std::move(done)); });
  }
  base::StatusOr<FilesReport> Underneath() {
    return Await<base::StatusOr<FilesReport>>(
        [this](auto done) { files_->ChangesUnderneath(std::move(done)); });
  }
  base::StatusOr<FilesDiff> DiffOf(DiffRequest what) {
    return Await<base::StatusOr<FilesDiff>>([&](auto done) { files_->Diff(what, std::move(done)); });
  }
  base::StatusOr<std::string> Diff() {
    auto diff = DiffOf({});
    if (!diff.ok()) return diff.status();
    return std::move(diff->text);
  }
  base::StatusOr<FilesDiffStat> Stat() {
    const auto diff = DiffOf({.text_bytes_max = 0});
    if (!diff.ok()) return diff.status();
    return diff->total;
  }
  base::Status Fork(std::optional<base::Sha256Digest> manifest, const std::string& to) {
    return Await<base::Status>([&](auto done) { files_->Fork(manifest, to, std::move(done)); });
  }
  base::Status Close() {
    return Await<base::Status>([this](auto done) { files_->Close(std::move(done)); });
  }

  std::string tree() const { return scratch_.path() + "/tree"; }
  std::string file(const std::string& name) const { return tree() + "/" + name; }
  std::string directory() const { return scratch_.path() + "/files"; }
  std::string check_directory() const { return directory() + "/check"; }

  SandboxFilesOptions options_;
  workspace::ScratchDirectory scratch_;
  tools::Registry registry_;
  tools::Toolset toolset_;
  tools::PermissionPolicy permissions_;
  tools::ApprovalBook approvals_;
  std::unique_ptr<memory::BlobStore> blobs_;
  std::unique_ptr<sandbox::Sandbox> sandbox_;
  base::ThreadExecutor executor_;  // shuts down before what its tasks use goes
  std::unique_ptr<tools::Dispatcher> dispatcher_;
  std::unique_ptr<SandboxFilesOpener> opener_;
  std::unique_ptr<SessionFiles> files_;
};

// --- Calls and checkpoints

TEST_F(SandboxFilesTest, CallsWorkInTheLayerAndACheckpointStoresIt) {
  WriteText(file("a"), "tree\n");
  Open();
  EXPECT_EQ(files_->found(), std::nullopt);
  const base::Sha256Digest empty = files_->current();
  EXPECT_EQ(Bash("pwd; cat a; echo new > a; echo b > b"), "/workspace\ntree\nexit 0\n");
  const base::Sha256Digest id = Checkpoint();
  EXPECT_NE(id, empty);
  EXPECT_EQ(files_->current(), id);
  EXPECT_TRUE(blobs_->Contains(HashOf("new\n")));
  EXPECT_EQ(ReadText(file("a")), "tree\n");
  EXPECT_EQ(Checkpoint(), id);
  EXPECT_EQ(files_->counts(), (FilesCounts{.checkpoints = 3, .changed = 2}));
}

TEST_F(SandboxFilesTest, WhatCannotBeStoredIsCounted) {
  Open();
  EXPECT_EQ(Bash("mkfifo pipe"), "exit 0\n");
  Checkpoint();
  EXPECT_EQ(files_->counts().dropped, 1);
}

TEST_F(SandboxFilesTest, FilesThatWereReadAreRememberedByTheContext) {
  WriteText(file("a"), "one\n");
  Open();
  const json edit = {{"path", "a"}, {"old_string", "one"}, {"new_string", "two"}};
  const auto remember = [this](std::vector<tools::FileVersion> observed) {
    OnControl([&] { files_->Remember(observed); });
  };
  remember({{"a", HashOf("one\n")}, {"a", HashOf("else\n")}});
  EXPECT_EQ(Call("edit", edit).status, ToolStatus::kFailed);  // another content was seen last
  remember({{"a", HashOf("else\n")}, {"a", HashOf("one\n")}});
  EXPECT_EQ(Call("edit", edit).status, ToolStatus::kOk);
  EXPECT_EQ(Bash("cat a"), "two\nexit 0\n");
  remember({});
  OnControl([this] { EXPECT_EQ(files_->context().versions->size(), 0u); });
}

// --- Found, restore

TEST_F(SandboxFilesTest, AKilledProcessFindsTheLayerAsItLeftIt) {
  Open();
  Bash("echo 1 > a");
  const base::Sha256Digest stored = Checkpoint();
  Bash("echo 2 > a");  // and no checkpoint of it
  Reopen();
  ASSERT_TRUE(files_->found().has_value());
  EXPECT_NE(*files_->found(), stored);
  EXPECT_EQ(files_->found(), files_->current());
  EXPECT_EQ(Bash("cat a"), "2\nexit 0\n");
  EXPECT_EQ(Checkpoint(), *files_->found());
  EXPECT_TRUE(Restore(stored).ok());
  EXPECT_EQ(Bash("cat a"), "1\nexit 0\n");
}

TEST_F(SandboxFilesTest, ALayerOfUnknownContentIsNotTrustedAndMadeAnew) {
  WriteText(file("a"), "tree\n");
  Open();
  Bash("echo 1 > a");
  const base::Sha256Digest stored = Checkpoint();
  Vanish();
  ASSERT_TRUE(std::filesystem::remove(directory() + "/state"));  // it was never synced
  Open();
  EXPECT_EQ(files_->found(), std::nullopt);
  EXPECT_EQ(Bash("cat a"), "tree\nexit 0\n");
  EXPECT_TRUE(Restore(stored).ok());
  EXPECT_EQ(files_->current(), stored);
  EXPECT_EQ(Bash("cat a"), "1\nexit 0\n");
}

TEST_F(SandboxFilesTest, RestoreGoesBackAndLosesNothing) {
  WriteText(file("a"), "tree\n");
  Open();
  Bash("echo 1 > a");
  const base::Sha256Digest first = Checkpoint();
  Bash("echo not checkpointed > a; echo more > b");
  EXPECT_TRUE(Restore(first).ok());
  EXPECT_EQ(files_->current(), first);
  EXPECT_EQ(Bash("cat a; ls"), "1\na\nexit 0\n");
  EXPECT_TRUE(blobs_->Contains(HashOf("not checkpointed\n")));
  EXPECT_TRUE(Restore(std::nullopt).ok());
  EXPECT_EQ(Bash("cat a"), "tree\nexit 0\n");
}

TEST_F(SandboxFilesTest, RestoreEndsWhatRunsInTheBackgroundUnlessNothingChanges) {
  Open();
  Bash("echo 1 > a; touch /tmp/kept");
  const base::Sha256Digest id = Checkpoint();
  Background("sleep 1000");
  EXPECT_TRUE(Restore(id).ok());
  EXPECT_EQ(Bash("ls /tmp"), "kept\nexit 0\n");
  ASSERT_THAT(Jobs(), SizeIs(1));
  EXPECT_EQ(Jobs()[0].state, BackgroundInfo::State::kRunning);
  EXPECT_TRUE(Restore(std::nullopt).ok());
  EXPECT_EQ(Bash("ls /tmp"), "exit 0\n");
  ASSERT_THAT(Jobs(), SizeIs(1));
  EXPECT_EQ(Jobs()[0].state, BackgroundInfo::State::kLost);
}

TEST_F(SandboxFilesTest, AManifestThatIsNowhereLeavesTheLayerAsItIs) {
  Open();
  Bash("echo 1 > a");
  const base::Sha256Digest id = Checkpoint();
  EXPECT_FALSE(Restore(HashOf("no manifest")).ok());
  EXPECT_EQ(files_->current(), id);
  EXPECT_EQ(Bash("cat a"), "1\nexit 0\n");
  EXPECT_EQ(Checkpoint(), id);
  Reopen();
  EXPECT_EQ(files_->found(), id);
}

TEST_F(SandboxFilesTest, ACallThatWasGivenUpKeepsItsSession) {
  options_.release_ms_max = 300;
  Open();
  Bash("echo 1 > a");
  tools::ToolContext held;
  OnControl([&] { held = files_->context(); });
  EXPECT_TRUE(absl::IsUnavailable(Restore(std::nullopt)));
  EXPECT_TRUE(held.files->Stat("a").ok());
  EXPECT_EQ(Bash("cat a"), "1\nexit 0\n");
  held = {};
  EXPECT_TRUE(Restore(std::nullopt).ok());
  EXPECT_EQ(Bash("ls"), "exit 0\n");
}

// --- Checks

TEST_F(SandboxFilesTest, AChecksResultIsItsEnding) {
  WriteText(file("a"), "1\n");
  Open();
  Bash("echo 2 > a");  // seen without a checkpoint
  const CheckRan passed = Checked("pwd; cat a");
  EXPECT_TRUE(passed.passed);
  EXPECT_EQ(passed.command, "pwd; cat a");
  EXPECT_EQ(passed.text, "/workspace\n2\nexit 0\n");
  EXPECT_EQ(passed.when, "");
  EXPECT_EQ(passed.manifest, files_->current());
  EXPECT_EQ(passed.manifest, Checkpoint());
  const CheckRan failed = Checked("echo why; exit 3");
  EXPECT_FALSE(failed.passed);
  EXPECT_EQ(failed.text, "why\nexit 3\n");
  const CheckRan late = Checked("echo begun; sleep 1000", 300);
  EXPECT_FALSE(late.passed);
  EXPECT_THAT(late.text, AllOf(StartsWith("begun\n"), HasSubstr("timed out after 300 ms")));
  EXPECT_TRUE(absl::IsInvalidArgument(Check("true", 0).status()));
}

TEST_F(SandboxFilesTest, ACheckMayTakeLongerThanCommandsMay) {
  options_.policy.limits.wall_ms = 200;
  Open();
  EXPECT_THAT(Bash("sleep 0.5"), HasSubstr("timed out"));
  EXPECT_EQ(Checked("sleep 0.5").text, "exit 0\n");
}

TEST_F(SandboxFilesTest, ALongOutputIsKeptWhole) {
  Open();
  const CheckRan ran = Checked("seq 100000");
  EXPECT_TRUE(ran.passed);
  EXPECT_LE(ran.text.size(), 32u * 1024);
  ASSERT_THAT(ran.blobs, SizeIs(1));
  EXPECT_THAT(ran.text, HasSubstr(base::ToHex(ran.blobs[0])));
  EXPECT_EQ(blobs_->Size(ran.blobs[0]).value(), 588'895u);  // of `seq 100000`
  EXPECT_EQ(Checked("seq 100000"), ran);
}

TEST_F(SandboxFilesTest, ACheckLeavesNoTrace) {
  WriteText(file("a"), "1\n");
  Open();
  Bash("touch /tmp/mine; echo 2 > b");
  const base::Sha256Digest before = Checkpoint();
  const CheckRan ran = Checked(
      "ls /tmp; echo x > a; rm b; mkdir -p deep/er; echo y > deep/er/f; touch /tmp/its; chmod 000 deep");
  EXPECT_EQ(ran.text, "exit 0\n");
  EXPECT_EQ(Checkpoint(), before);
  EXPECT_EQ(Bash("cat a b; ls . /tmp"), "1\n2\n.:\na\nb\n\n/tmp:\nmine\nexit 0\n");
  EXPECT_EQ(ReadText(file("a")), "1\n");
  EXPECT_FALSE(std::filesystem::exists(check_directory()));
}

TEST_F(SandboxFilesTest, BuildOutputsStayBehindInACheck) {
  WriteText(file(".gitignore"), "build\n");
  WriteText(file(".git/HEAD"), "ref: refs/heads/main\n");
  Open();
  Bash("mkdir build; touch build/out; touch source");
  EXPECT_EQ(Checked("ls").text, "source\nexit 0\n");
  EXPECT_EQ(Bash("ls"), "build\nsource\nexit 0\n");
}

TEST_F(SandboxFilesTest, ACheckEndsWhatRunsInTheBackgroundFirst) {
  Open();
  Background("while true; do echo x >> busy; done");
  Bash("until test -s busy; do :; done; touch /tmp/kept");
  const CheckRan ran = Checked("test -s busy");
  EXPECT_TRUE(ran.passed);
  ASSERT_THAT(Jobs(), SizeIs(1));
  EXPECT_EQ(Jobs()[0].state, BackgroundInfo::State::kEnded);
  EXPECT_EQ(Checkpoint(), ran.manifest);  // nobody writes any more
  EXPECT_EQ(Bash("ls /tmp"), "kept\nexit 0\n");
}

TEST_F(SandboxFilesTest, TheContextIsGoodAfterACheck) {
  Open();
  tools::ToolContext held;
  OnControl([&] { held = files_->context(); });
  EXPECT_TRUE(Checked("true").passed);
  OnControl([&] {
    const tools::ToolContext now = files_->context();
    EXPECT_EQ(now.session, held.session);
    EXPECT_EQ(now.files, held.files);
  });
  EXPECT_EQ(Bash("echo still"), "still\nexit 0\n");
}

TEST_F(SandboxFilesTest, WhatACrashLeftOfACheckIsRemovedByTheNextOpen) {
  Open();
  Vanish();
  WriteText(check_directory() + "/layer/upper/closed/file", "left\n");
  std::filesystem::permissions(check_directory() + "/layer/upper/closed", std::filesystem::perms::none);
  Open();
  EXPECT_FALSE(std::filesystem::exists(check_directory()));
  EXPECT_TRUE(Checked("true").passed);
}

TEST_F(SandboxFilesTest, CloseCancelsACheck) {
  Open();
  std::promise<base::StatusOr<CheckRan>> checked;
  std::promise<base::Status> closed;
  OnControl([&] {
    files_->RunCheck({.command = "sleep 1000"},
                     [&](base::StatusOr<CheckRan> ran) { checked.set_value(std::move(ran)); });
    files_->Close([&](base::Status status) { closed.set_value(status); });
  });
  EXPECT_TRUE(absl::IsCancelled(checked.get_future().get().status()));
  EXPECT_TRUE(closed.get_future().get().ok());
  EXPECT_FALSE(std::filesystem::exists(check_directory()));
  Reopen();
  EXPECT_EQ(Bash("ls"), "exit 0\n");
}

TEST_F(SandboxFilesTest, CloseCancelsACheckThatRuns) {
  WriteText(file("a"), "1\n");
  Open();
  std::promise<base::StatusOr<CheckRan>> checked;
  OnControl([&] {
    files_->RunCheck({.command = "touch begun; sleep 1000"},
                     [&](base::StatusOr<CheckRan> ran) { checked.set_value(std::move(ran)); });
  });
  while (!std::filesystem::exists(check_directory() + "/layer/upper/begun")) executor_.Drain();
  EXPECT_TRUE(Close().ok());
  EXPECT_TRUE(absl::IsCancelled(checked.get_future().get().status()));
  EXPECT_FALSE(std::filesystem::exists(check_directory()));
}

TEST_F(SandboxFilesTest, FilesThatVanishInTheMiddleOfACheckCleanUp) {
  Open();
  Bash("echo 1 > a");
  const base::Sha256Digest id = Checkpoint();
  OnControl([&] {
    files_->RunCheck({.command = "touch begun; sleep 1000"},
                     [](base::StatusOr<CheckRan>) { ADD_FAILURE() << "answered after its end"; });
  });
  while (!std::filesystem::exists(check_directory() + "/layer/upper/begun")) executor_.Drain();
  Vanish();
  while (std::filesystem::exists(check_directory())) executor_.Drain();
  executor_.Drain();
  Open();
  EXPECT_EQ(files_->found(), id);
}

// --- Forks

TEST_F(SandboxFilesTest, AForkGoesItsOwnWay) {
  WriteText(file("a"), "tree\n");
  Open();
  Bash("echo 1 > a");
  const base::Sha256Digest first = Checkpoint();
  Bash("echo 2 > a");
  Checkpoint();
  const std::string of_first = scratch_.path() + "/of_first", of_nothing = scratch_.path() + "/of_nothing";
  EXPECT_TRUE(Fork(first, of_first).ok());
  EXPECT_TRUE(Fork(std::nullopt, of_nothing).ok());
  EXPECT_FALSE(Fork(first, of_first).ok());
  EXPECT_EQ(Bash("cat a"), "2\nexit 0\n");
  Vanish();
  ASSERT_TRUE(TryOpen({"s2", tree(), of_first, "overlay"}).ok());
  EXPECT_EQ(files_->found(), first);
  EXPECT_EQ(Bash("cat a; echo 3 > a"), "1\nexit 0\n");
  Vanish();
  ASSERT_TRUE(TryOpen({"s3", tree(), of_nothing, "overlay"}).ok());
  EXPECT_EQ(Bash("cat a"), "tree\nexit 0\n");
  Reopen();
  EXPECT_EQ(Bash("cat a"), "2\nexit 0\n");
}

// --- The user's tree

TEST_F(SandboxFilesTest, ApplyTakesOverWhatItMayAndSaysWhatItDid) {
  WriteText(file("changed"), "1\n");
  WriteText(file("gone"), "1\n");
  WriteText(file("both"), "1\n");
  Open();
  Background("sleep 1000");
  Bash("echo 2 > changed; rm gone; echo n > new; echo ours > both; mkdir .vscode; echo s > .vscode/settings");
  WriteText(file("both"), "theirs\n");
  const auto report = Apply();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->applied, 3);
  EXPECT_EQ(report->conflicts, 1);
  EXPECT_EQ(report->refused, 2);
  EXPECT_EQ(report->failed, 0);
  EXPECT_THAT(report->text, AllOf(StartsWith("conflict: both: "), HasSubstr("\nprotected: .vscode"),
                                  HasSubstr("\nM changed\nD gone\nA new\n")));
  EXPECT_EQ(ReadText(file("changed")), "2\n");
  EXPECT_FALSE(std::filesystem::exists(file("gone")));
  EXPECT_EQ(ReadText(file("both")), "theirs\n");
  ASSERT_THAT(Jobs(), SizeIs(1));
  EXPECT_EQ(Jobs()[0].state, BackgroundInfo::State::kLost);
  // The layer keeps what was not taken, and current() says so.
  EXPECT_EQ(Bash("cat both changed new"), "ours\n2\nn\nexit 0\n");
  const base::Sha256Digest left = files_->current();
  EXPECT_EQ(Checkpoint(), left);
  EXPECT_EQ(Stat().value().files, 2);
}

TEST_F(SandboxFilesTest, ApplyOfPathsLeavesTheOthersInTheLayer) {
  Open();
  Bash("mkdir d; echo 1 > d/one; echo 2 > two; echo 3 > three");
  EXPECT_TRUE(absl::IsInvalidArgument(Apply({.paths = {"two", "none"}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Apply({.paths = {"two"}, .branch = "b"}).status()));
  EXPECT_FALSE(std::filesystem::exists(file("two")));
  const auto report = Apply({.paths = {"d", "two"}});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(ReadText(file("d/one")), "1\n");
  EXPECT_EQ(ReadText(file("two")), "2\n");
  EXPECT_FALSE(std::filesystem::exists(file("three")));
  EXPECT_EQ(Stat().value().files, 1);
  EXPECT_EQ(Bash("cat three"), "3\nexit 0\n");
}

TEST_F(SandboxFilesTest, ABranchNeedsARepository) {
  Open();
  Bash("echo 1 > one");
  EXPECT_TRUE(absl::IsNotFound(Apply({.branch = "holdfast/x"}).status()));
  EXPECT_EQ(Stat().value().files, 1);
}

TEST_F(SandboxFilesTest, ADiffIsCountedByPathAndSaysWhatAnApplyLeaves) {
  WriteText(file("a"), "1\n");
  Open();
  Bash("echo 2 > a; mkdir d; echo 1 > d/one; echo 2 > d/two; mkdir .vscode; echo x > .vscode/s");
  Checkpoint();
  WriteText(file("a"), "theirs\n");
  const auto diff = DiffOf({.paths = {"a", ".vscode/s"}, .text_bytes_max = 0});
  ASSERT_TRUE(diff.ok()) << diff.status();
  EXPECT_EQ(diff->text, "");
  ASSERT_THAT(diff->paths, SizeIs(2));
  EXPECT_THAT(diff->paths[0].path + ": " + diff->paths[0].note, StartsWith(".vscode/s: protected"));
  EXPECT_EQ(diff->paths[1].path, "a");
  EXPECT_EQ(diff->paths[1].added, 1);
  EXPECT_EQ(diff->paths[1].removed, 1);
  EXPECT_NE(diff->paths[1].note, "");
  const auto bounded = DiffOf({.paths = {"d"}, .text_bytes_max = 150, .paths_max = 2});
  ASSERT_TRUE(bounded.ok()) << bounded.status();
  EXPECT_TRUE(bounded->text_cut) << bounded->text;
  EXPECT_THAT(bounded->paths, SizeIs(2));
  EXPECT_EQ(bounded->paths_left, 1);
  EXPECT_EQ(bounded->total, (FilesDiffStat{.files = 2, .added = 2}));
  EXPECT_FALSE(DiffOf({.paths = {"d"}})->text_cut);
}

TEST_F(SandboxFilesTest, ApplyOfNothingLeavesTheSession) {
  Open();
  Background("sleep 1000");
  const auto report = Apply();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->text, "");
  EXPECT_EQ(Jobs()[0].state, BackgroundInfo::State::kRunning);
}

TEST_F(SandboxFilesTest, AReportIsBounded) {
  options_.report_lines_max = 3;
  Open();
  Bash("for i in 1 2 3 4 5; do echo $i > f$i; done");
  EXPECT_EQ(Apply().value().text, "A f1\nA f2\nA f3\nand 2 more\n");
  for (const char* name : {"g1", "g2", "g3", "g4", "g5"}) WriteText(file(name), "x\n");
  EXPECT_EQ(Underneath().value().text, "A g1\nA g2\nA g3\nand 2 more\n");
}

TEST_F(SandboxFilesTest, ChangesByOthersAreToldOnce) {
  WriteText(file("a"), "1\n");
  WriteText(file("b"), "1\n");
  Open();
  Bash("echo session > mine");
  EXPECT_EQ(Underneath().value().text, "");
  WriteText(file("a"), "changed\n");
  WriteText(file("odd\nname"), "n\n");
  std::filesystem::remove(file("b"));
  EXPECT_EQ(Underneath().value().text, "M a\nD b\nA \"odd\\012name\"\n");
  EXPECT_EQ(Underneath().value().text, "");
}

TEST_F(SandboxFilesTest, TheDiffIsOfTheLastCheckpointAndBounded) {
  WriteText(file("a"), "1\n2\n3\n");
  options_.diff_bytes_max = 4096;
  Open();
  Bash("printf '1\\ntwo\\nand\\n3\\n' > a; mkdir d; echo n > d/new");
  EXPECT_EQ(Diff().value(), "");
  Checkpoint();
  EXPECT_THAT(Diff().value(),
              AllOf(HasSubstr("--- a/a\n+++ b/a\n"), HasSubstr("-2\n+two\n+and\n"), HasSubstr("b/d/new")));
  EXPECT_EQ(Stat().value(), (FilesDiffStat{.files = 2, .added = 3, .removed = 1}));
  Bash("seq 100000 > large");
  Checkpoint();
  EXPECT_LE(Diff().value().size(), 4096u + 1024);
  EXPECT_EQ(Stat().value().added, 100'003);
}

// --- Other modes

TEST_F(SandboxFilesTest, DirectModeWorksInTheTree) {
  permissions_ =
      tools::PermissionPolicy::Make({{.permission = tools::Permission::kAllow, .tool = "bash"}}).value();
  WriteText(file("a"), "1\n");
  Open("direct");
  Bash("echo 2 > a");
  EXPECT_EQ(ReadText(file("a")), "2\n");
  const base::Sha256Digest id = Checkpoint();
  EXPECT_TRUE(Restore(std::nullopt).ok());  // there is no way back, and none is claimed
  EXPECT_EQ(files_->current(), id);
  EXPECT_EQ(ReadText(file("a")), "2\n");
  EXPECT_TRUE(absl::IsFailedPrecondition(Fork(id, scratch_.path() + "/fork")));
  EXPECT_EQ(Apply().value().text, "");
  EXPECT_EQ(Underneath().value().text, "");
  EXPECT_EQ(Checked("cat a; echo 3 > b").text, "2\nexit 0\n");
  EXPECT_EQ(ReadText(file("b")), "3\n");
  EXPECT_EQ(Bash("cat b"), "3\nexit 0\n");
  const base::Sha256Digest with_b = Checkpoint();
  Reopen("direct");
  EXPECT_EQ(files_->found(), with_b);
}

TEST_F(SandboxFilesTest, ASnapshotHidesWhatOthersDo) {
  WriteText(file("a"), "1\n");
  Open("snapshot");
  WriteText(file("a"), "by others\n");
  EXPECT_EQ(Bash("cat a"), "1\nexit 0\n");
  EXPECT_EQ(Checked("cat a").text, "1\nexit 0\n");
  EXPECT_EQ(Underneath().value().text, "M a\n");
}

TEST_F(SandboxFilesTest, AModeThatIsNoneIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(TryOpen({"s1", tree(), directory(), "copy"})));
  options_.diff_bytes_max = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(TryOpen({"s1", tree(), directory(), "overlay"})));
}

// --- Ends

TEST_F(SandboxFilesTest, WithoutABrokerEverythingAnswersAndNothingIsLost) {
  Open();
  Bash("echo 1 > a");
  const base::Sha256Digest first = Checkpoint();
  Bash("echo 2 > a");
  Background("sleep 1000");
  workspace::KillBroker(*sandbox_);
  EXPECT_EQ(Call("bash", {{"command", "true"}}).status, ToolStatus::kUnavailable);
  EXPECT_TRUE(absl::IsUnavailable(Check("true").status()));
  EXPECT_TRUE(absl::IsUnavailable(Restore(first)));
  const base::Sha256Digest second = Checkpoint();
  EXPECT_NE(second, first);
  EXPECT_THAT(Diff().value(), HasSubstr("+2\n"));
  EXPECT_TRUE(Fork(first, scratch_.path() + "/fork").ok());
  EXPECT_TRUE(Close().ok());
  Vanish();
  sandbox_ = nullptr;  // a new one
  Open();
  EXPECT_EQ(files_->found(), second);
  EXPECT_EQ(Bash("cat a"), "2\nexit 0\n");
}

TEST_F(SandboxFilesTest, ClosedFilesAnswerThatTheyAre) {
  Open();
  Background("sleep 1000");
  EXPECT_TRUE(Close().ok());
  EXPECT_TRUE(absl::IsUnavailable(Check("true").status()));
  EXPECT_TRUE(absl::IsUnavailable(Restore(std::nullopt)));
  EXPECT_TRUE(absl::IsUnavailable(Apply().status()));
  EXPECT_TRUE(absl::IsUnavailable(Underneath().status()));
  EXPECT_TRUE(absl::IsUnavailable(Diff().status()));
  EXPECT_TRUE(absl::IsUnavailable(Stat().status()));
  EXPECT_TRUE(absl::IsUnavailable(Fork(std::nullopt, scratch_.path() + "/fork")));
  EXPECT_TRUE(absl::IsUnavailable(Close()));
  EXPECT_EQ(Call("bash", {{"command", "true"}}).status, ToolStatus::kDenied);  // not confined to anything
  EXPECT_EQ(Call("read", {{"path", "a"}}).status, ToolStatus::kUnavailable);
}

TEST_F(SandboxFilesTest, OperationsAreCarriedOutInTheirOrderAndBounded) {
  options_.operations_max = 2;
  Open();
  Bash("echo 1 > a");
  std::vector<int> order;
  std::vector<base::Status> statuses(5);
  std::promise<void> all;
  OnControl([&] {
    for (int i = 0; i < 5; ++i) {
      files_->Checkpoint([&, i](base::StatusOr<base::Sha256Digest> id) {
        order.push_back(i);
        statuses[static_cast<size_t>(i)] = id.status();
        if (order.size() == 5) all.set_value();
      });
    }
  });
  all.get_future().wait();
  EXPECT_THAT(order, testing::ElementsAre(3, 4, 0, 1, 2));  // one runs, two wait, the others are refused
  for (const size_t i : {0, 1, 2}) EXPECT_TRUE(statuses[i].ok()) << statuses[i];
  for (const size_t i : {3, 4}) EXPECT_TRUE(absl::IsResourceExhausted(statuses[i]));
}

}  // namespace
}  // namespace holdfast::agent
