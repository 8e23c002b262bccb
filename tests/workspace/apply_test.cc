#include "workspace/apply.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "tests/support/sim_tree.h"
#include "tests/workspace/change_testing.h"
#include "workspace/apply/apply_journal.h"

namespace holdfast::workspace {
namespace {

using testing::HasSubstr;

constexpr char kStateDirectory[] = "/state";
constexpr char kJournal[] = "/state/apply.journal";

// A machine with the user's tree and the disk of the journal; contents are on a disk that stays.
class Machine {
 public:
  // Every other machine syncs all at once.
  explicit Machine(uint64_t seed, test::SimTreeOptions options = {})
      : sync_all_from_(seed % 2 == 0 ? 1 : 1000),
        fs_(clock_, {.seed = seed}),
        tree_(clock_, WithSeed(options, seed)),
        entropy_(seed) {
    tree_.JoinPower(fs_);
    HF_CHECK(fs_.CreateDirectories(kStateDirectory).ok());
  }

  test::SimTree& tree() { return tree_; }
  test::SimFileSystem& fs() { return fs_; }
  ApplyPlace place() { return {tree_, fs_, kJournal, sync_all_from_}; }
  test::SimEntropy& entropy() { return entropy_; }

  void Restart() {
    fs_.Restart();
    tree_.Restart();
  }

  // Nothing of an apply is left behind.
  void ExpectClean() {
    EXPECT_TRUE(absl::IsNotFound(fs_.Stat(kJournal).status()));
    const World world = Read(tree_);
    for (const auto& [path, node] : world) EXPECT_FALSE(IsStagingName(path)) << path;
  }

 private:
  static test::SimTreeOptions WithSeed(test::SimTreeOptions options, uint64_t seed) {
    options.seed = seed;
    return options;
  }

  const size_t sync_all_from_;
  test::SimClock clock_;
  test::SimFileSystem fs_;
  test::SimTree tree_;
  test::SimEntropy entropy_;
};

class ApplyTest : public testing::Test {
 protected:
  void Start(const World& base, const World& ours, const World& theirs) {
    Make(machine_.tree(), theirs);
    manifest_ = ManifestOf(base, ours, blobs_);
    auto diff = DiffThreeWays(manifest_, machine_.tree());
    ASSERT_TRUE(diff.ok()) << diff.status();
    diff_ = *std::move(diff);
  }

  ApplyReport Carry(const ApplySelection& selection = {.everything = true}) {
    auto report = Apply(diff_, selection, machine_.place(), blobs_.store(), machine_.entropy());
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *std::move(report) : ApplyReport();
  }

  static std::optional<ApplyFate> FateOf(const ApplyReport& report, std::string_view path) {
    for (const ApplyItem& item : report.items) {
      if (item.path == path) return item.fate;
    }
    return std::nullopt;
  }

  World Now() { return Read(machine_.tree()); }

  Machine machine_{1};
  Blobs blobs_;
  Manifest manifest_;
  Diff diff_;
};

TEST_F(ApplyTest, EverythingComesOver) {
  const World base = {{"d", Directory()},    {"d/m", File("1")},      {"gone", Directory()},
                      {"gone/a", File("a")}, {"gone/b", Directory()}, {"l", Link("d/m")},
                      {"mode", File("m")},   {"swap", Directory()},   {"swap/in", File("i")},
                      {"yes", File("y")}};
  World ours = {{"d", Directory(0700)},   {"d/m", File("2", 0600)},  {"d/new", File("n", 0444)},
                {"l", Link("d")},         {"mode", File("m", 0755)}, {"swap", File("now a file")},
                {"yes", Directory(0555)}, {"yes/deep", Directory()}, {"yes/deep/f", File("f")}};
  Start(base, ours, base);
  const ApplyReport report = Carry();
  EXPECT_EQ(report.Count(ApplyFate::kApplied), report.items.size());
  EXPECT_EQ(Now(), ours) << Print(Now());
  machine_.ExpectClean();
}

TEST_F(ApplyTest, ByFileWithWhatIsBeneathAndTheDirectoriesAbove) {
  const World base = {{"a", File("1")}, {"b", File("1")}, {"d", Directory()}};
  World ours = {{"a", File("2")},   {"b", File("2")},     {"d", Directory()},
                {"n", Directory()}, {"n/m", Directory()}, {"n/m/f", File("f")},
                {"n/g", File("g")}, {"d/x", File("x")},   {"d/y", File("y")}};
  Start(base, ours, base);
  const ApplyReport report = Carry({.paths = {"n/m/f", "d"}});
  World expected = base;
  for (const char* path : {"n", "n/m", "n/m/f", "d/x", "d/y"}) expected[path] = ours[path];
  EXPECT_EQ(Now(), expected) << Print(Now());
  EXPECT_EQ(FateOf(report, "a"), ApplyFate::kNotSelected);
  EXPECT_EQ(FateOf(report, "n"), ApplyFate::kApplied);
}

TEST_F(ApplyTest, APathWithoutChangesIsAMistake) {
  Start({}, {{"a", File("2")}}, {});
  for (const ApplySelection& selection :
       {ApplySelection{.paths = {"b"}}, ApplySelection{.paths = {"a/b"}},
        ApplySelection{.everything = true, .take_ours = {"b"}}, ApplySelection{.paths = {"../a"}}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        Apply(diff_, selection, machine_.place(), blobs_.store(), machine_.entropy()).status()));
  }
  EXPECT_EQ(Now(), World());
}

TEST_F(ApplyTest, AConflictKeepsBothVersions) {
  Start({{"f", File("1")}}, {{"f", File("2")}}, {{"f", File("3")}});
  const ApplyReport report = Carry();
  EXPECT_EQ(FateOf(report, "f"), ApplyFate::kConflict);
  EXPECT_EQ(Now(), (World{{"f", File("3")}}));
  const Manifest settled = Settled(manifest_, diff_);
  const ManifestEntry* left = settled.Find("f");
  ASSERT_NE(left, nullptr);
  EXPECT_EQ(blobs_.store().Read(*left->now.content, 10).value(), "2");
}

TEST_F(ApplyTest, TheOperatorMayTakeOurs) {
  Start({{"f", File("1")}, {"g", File("1")}}, {{"f", File("2", 04755)}},
        {{"f", File("3")}, {"g", File("3")}});
  const ApplyReport report = Carry({.everything = true, .take_ours = {"f"}});
  EXPECT_EQ(FateOf(report, "f"), ApplyFate::kApplied);
  EXPECT_EQ(FateOf(report, "g"), ApplyFate::kConflict);
  EXPECT_EQ(Now(), (World{{"f", File("2", 0755)}, {"g", File("3")}}));
}

TEST_F(ApplyTest, ProtectedPathsNeedTheOperatorAndGitNeverCounts) {
  const World ours = {{".vscode", Directory()},
                      {".vscode/tasks.json", File("t")},
                      {".git", Directory()},
                      {".git/config", File("c")},
                      {"ok", File("o")}};
  Start({}, ours, {});
  EXPECT_EQ(Carry().Count(ApplyFate::kRefused), 4u);
  EXPECT_EQ(Now(), (World{{"ok", File("o")}}));
  auto again = DiffThreeWays(manifest_, machine_.tree());
  diff_ = *std::move(again);
  const ApplyReport report = Carry(
      {.everything = true, .allow_protected = {".vscode", ".vscode/tasks.json", ".git", ".git/config"}});
  EXPECT_EQ(report.Count(ApplyFate::kRefused), 2u);
  EXPECT_EQ(report.Count(ApplyFate::kAlready), 1u);
  EXPECT_EQ(Now(), (World{{".vscode", Directory()}, {".vscode/tasks.json", File("t")}, {"ok", File("o")}}));
}

TEST_F(ApplyTest, AFileThatChangedSinceTheDiffIsLeft) {
  Start({{"f", File("1")}, {"g", File("1")}, {"k", File("k")}},
        {{"f", File("2")}, {"n", File("n")}, {"k", File("k", 0755)}},
        {{"f", File("1")}, {"g", File("1")}, {"k", File("k")}});
  for (const char* path : {"f", "g", "k"}) {
    auto file = machine_.tree().OpenFileForWriting(path);
    ASSERT_TRUE((*file)->WriteAt(0, base::AsBytes("!")).ok());
  }
  ASSERT_TRUE(machine_.tree().CreateFile("n", 0600).ok());
  const ApplyReport report = Carry();
  EXPECT_EQ(report.Count(ApplyFate::kConflict), 4u);
  EXPECT_EQ(Now(), (World{{"f", File("!")}, {"g", File("!")}, {"k", File("!")}, {"n", File("", 0600)}}));
  machine_.ExpectClean();
}

TEST_F(ApplyTest, AFileThatWasOnlyTouchedIsNoConflict) {
  Start({{"f", File("1")}}, {{"f", File("2")}}, {{"f", File("1")}});
  ASSERT_TRUE(machine_.tree().SetMode("f", 0600).ok());
  ASSERT_TRUE(machine_.tree().SetMode("f", 0644).ok());
  EXPECT_EQ(FateOf(Carry(), "f"), ApplyFate::kApplied);
}

TEST_F(ApplyTest, AFullDiskBeforeTheFirstStepChangesNothing) {
  const World base = {{"f", File("1")}};
  Start(base, {{"f", File("2")}, {"g", File("3")}}, base);
  machine_.tree().FailNext(".holdfast-apply-", ENOSPC, 2);
  const auto report =
      Apply(diff_, {.everything = true}, machine_.place(), blobs_.store(), machine_.entropy());
  EXPECT_TRUE(absl::IsResourceExhausted(report.status())) << report.status();
  EXPECT_EQ(Now(), base);
  machine_.ExpectClean();
}

TEST_F(ApplyTest, AFailedStepIsReportedAndTheOthersAreDone) {
  Start({}, {{"a", File("1")}, {"b", File("2")}, {"c", File("3")}}, {});
  machine_.tree().FailNext("to b", EIO);
  const ApplyReport report = Carry();
  EXPECT_EQ(FateOf(report, "b"), ApplyFate::kFailed);
  EXPECT_EQ(Now(), (World{{"a", File("1")}, {"c", File("3")}}));
  machine_.ExpectClean();
}

TEST_F(ApplyTest, AnInterruptedApplyMustBeRecoveredFirst) {
  Start({}, {{"a", File("1")}}, {});
  HF_CHECK(base::WriteFileAtomically(machine_.fs(), kJournal, base::AsBytes("junk")).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(
      Apply(diff_, {.everything = true}, machine_.place(), blobs_.store(), machine_.entropy()).status()));
  EXPECT_TRUE(absl::IsDataLoss(RecoverApply(machine_.place(), blobs_.store()).status()));
}

TEST_F(ApplyTest, NothingToRecoverIsNone) {
  const auto recovered = RecoverApply(machine_.place(), blobs_.store());
  ASSERT_TRUE(recovered.ok());
  EXPECT_FALSE(recovered->has_value());
}

TEST_F(ApplyTest, NothingToApplyWritesNothing) {
  Start({{"f", File("1")}}, {{"f", File("2")}}, {{"f", File("2")}});
  const uint64_t before = machine_.tree().mutations();
  EXPECT_EQ(Carry().Count(ApplyFate::kAlready), 1u);
  EXPECT_EQ(machine_.tree().mutations(), before);
}

TEST_F(ApplyTest, SettledKeepsWhatIsLeftAndItsDirectories) {
  const World base = {
      {"d", Directory()}, {"d/c", File("1")}, {"d/f", File("1")}, {"e", Directory()}, {"e/x", File("1")}};
  const World ours = {{"d", Directory()}, {"d/c", File("2")},      {"d/f", File("2")},
                      {"n", Directory()}, {"n/.envrc", File("v")}, {"n/ok", File("o")}};
  World theirs = base;
  theirs["d/c"] = File("3");
  Start(base, ours, theirs);
  Carry();
  const auto after = DiffThreeWays(manifest_, machine_.tree());
  ASSERT_TRUE(after.ok());
  const Manifest left = Settled(manifest_, *after);
  std::vector<std::string> paths;
  for (const ManifestEntry& entry : left.entries) paths.push_back(entry.path);
  EXPECT_EQ(paths, (std::vector<std::string>{"d", "d/c", "n", "n/.envrc"}));
  EXPECT_FALSE(left.Find("n")->Changed());  // it is in the tree now
}

// ---- Random worlds ----

struct Scene {
  World base, ours, theirs;
};

Scene RandomScene(uint64_t seed, bool theirs_change) {
  test::SeededRandom random(seed);
  Scene scene;
  scene.base = Changed({}, random, 25);
  scene.ours = Changed(scene.base, random, 2 + random.Below(12));
  scene.theirs = theirs_change ? Changed(scene.base, random, random.Below(6)) : scene.base;
  return scene;
}

TEST(ApplyPropertyTest, UnchangedTreesBecomeOurs) {
  for (const uint64_t seed : test::TestSeeds(300)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    const Scene scene = RandomScene(seed, false);
    Machine machine(seed);
    Blobs blobs;
    Make(machine.tree(), scene.theirs);
    const Manifest manifest = ManifestOf(scene.base, scene.ours, blobs);
    const auto diff = DiffThreeWays(manifest, machine.tree());
    ASSERT_TRUE(diff.ok());
    const auto report = Apply(*diff, {.everything = true}, machine.place(), blobs.store(), machine.entropy());
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(Read(machine.tree()), scene.ours) << "now\n"
                                                << Print(Read(machine.tree())) << "ours\n"
                                                << Print(scene.ours) << "base\n"
                                                << Print(scene.base);
    machine.ExpectClean();
    const auto after = DiffThreeWays(manifest, machine.tree());
    ASSERT_TRUE(after.ok());
    const Manifest left = Settled(manifest, *after);
    EXPECT_TRUE(left.entries.empty()) << left.entries[0].path << "\n"
                                      << Print(scene.ours) << "base\n"
                                      << Print(scene.base);
  }
}

TEST(ApplyPropertyTest, WhatTheSessionDidNotChangeIsNeverTouched) {
  for (const uint64_t seed : test::TestSeeds(300)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    const Scene scene = RandomScene(seed, true);
    Machine machine(seed);
    Blobs blobs;
    Make(machine.tree(), scene.theirs);
    const auto diff = DiffThreeWays(ManifestOf(scene.base, scene.ours, blobs), machine.tree());
    ASSERT_TRUE(diff.ok());
    const auto report = Apply(*diff, {.everything = true}, machine.place(), blobs.store(), machine.entropy());
    ASSERT_TRUE(report.ok()) << report.status();
    const World now = Read(machine.tree());
    for (const auto& [path, node] : scene.theirs) {
      if (const PathChange* change = diff->Find(path); change != nullptr && change->Clean()) continue;
      EXPECT_TRUE(now.contains(path) && now.at(path) == node) << path;
    }
    for (const PathChange& change : diff->changes) {
      if (!change.Clean()) continue;
      const bool stands = now.contains(change.path);
      EXPECT_EQ(stands, change.result.kind != VersionKind::kAbsent) << change.path << "\n" << Print(now);
    }
    EXPECT_EQ(report->Count(ApplyFate::kFailed), 0u);
  }
}

// Why `now` is not made of old and new, path by path; empty when it is. On the way from a directory to
// something else a path may be absent.
std::string WhyNotOldOrNew(const World& now, const World& before, const World& after) {
  World paths = before;
  paths.insert(after.begin(), after.end());
  for (const auto& [path, unused] : paths) {
    const auto b = before.find(path), a = after.find(path), n = now.find(path);
    if (n == now.end()) {
      const bool swap =
          b != before.end() && a != after.end() && IsDirectoryIn(before, path) != IsDirectoryIn(after, path);
      if (b != before.end() && a != after.end() && !swap) return path + " is gone";
      continue;
    }
    const bool old_one = b != before.end() && b->second == n->second;
    const bool new_one = a != after.end() && a->second == n->second;
    // A directory takes part of its mode at the end.
    const bool directory = n->second.kind == VersionKind::kDirectory &&
                           (IsDirectoryIn(before, path) || IsDirectoryIn(after, path));
    if (!old_one && !new_one && !directory) return path + " is neither old nor new: " + n->second.text;
  }
  for (const auto& [path, node] : now) {
    const std::string top = path.substr(0, path.find('/'));
    if (!paths.contains(path) && !IsStagingName(top)) return path + " came from nowhere";
  }
  return {};
}

struct CrashResult {
  bool crashed = false;  // false: the apply ended before the crash
  std::string problem;   // empty: all as promised
};

// Applies with a crash wherever `arm` puts it, looks at what is left, recovers (with another crash at
// mutation `recovery_crash`, 0: none), and looks again.
CrashResult CrashOnce(const Scene& scene, uint64_t seed, const std::function<void(Machine&)>& arm,
                      uint64_t recovery_crash, test::SimTreeOptions options = {}) {
  Machine machine(seed, options);
  Blobs blobs;
  Make(machine.tree(), scene.theirs);
  const Manifest manifest = ManifestOf(scene.base, scene.ours, blobs);
  const auto diff = DiffThreeWays(manifest, machine.tree());
  HF_CHECK(diff.ok());
  arm(machine);
  const auto report = Apply(*diff, {.everything = true}, machine.place(), blobs.store(), machine.entropy());
  CrashResult result = {.crashed = machine.tree().crashed() || machine.fs().crashed()};
  const auto fail = [&](std::string problem) {
    result.problem = std::move(problem) + "\nnow\n" + Print(Read(machine.tree())) + "ours\n" +
                     Print(scene.ours) + "theirs\n" + Print(scene.theirs);
    return result;
  };
  if (!result.crashed) machine.tree().Crash();  // what was promised must be durable
  machine.Restart();
  if (auto why = WhyNotOldOrNew(Read(machine.tree()), scene.theirs, scene.ours); !why.empty())
    return fail(why);
  if (report.ok() && Read(machine.tree()) != scene.ours) return fail("reported as done, and is not");
  if (recovery_crash > 0) {
    machine.tree().CrashAtMutation(recovery_crash);
    (void)RecoverApply(machine.place(), blobs.store());
    if (!machine.tree().crashed()) machine.tree().Crash();
    machine.Restart();
    auto why = WhyNotOldOrNew(Read(machine.tree()), scene.theirs, scene.ours);
    if (!why.empty()) return fail("in recovery: " + why);
  }
  const auto recovered = RecoverApply(machine.place(), blobs.store());
  if (!recovered.ok()) return fail("recovery: " + base::Message(recovered.status()));
  if (const auto again = RecoverApply(machine.place(), blobs.store()); !again.ok() || again->has_value()) {
    return fail("recovery did not end");
  }
  const World now = Read(machine.tree());
  if (now != scene.theirs && now != scene.ours) return fail("recovered to neither the old nor the new tree");
  if (recovered->has_value() && !(*recovered)->forgotten &&
      ((*recovered)->Count(ApplyFate::kApplied) != (*recovered)->items.size() || now != scene.ours)) {
    return fail("recovery did not finish");
  }
  machine.ExpectClean();
  return result;
}

// A crash at each mutation in turn, of the tree or of the journal's disk; the first problem.
enum class Where { kTree, kDisk };
std::string CrashEverywhere(uint64_t seed, Where where, test::SimTreeOptions options = {}) {
  const Scene scene = RandomScene(seed, false);
  for (uint64_t n = 1;; ++n) {
    const uint64_t again = n % 3 == 0 ? 1 + n % 17 : 0;
    const auto arm = [&](Machine& machine) {
      where == Where::kTree ? machine.tree().CrashAtMutation(n) : machine.fs().CrashAtMutation(n);
    };
    const CrashResult result = CrashOnce(scene, seed * 1000 + n, arm, again, options);
    if (!result.problem.empty()) return "crash at mutation " + std::to_string(n) + ": " + result.problem;
    if (!result.crashed) return {};
  }
}

TEST(ApplyCrashTest, AtEveryMutationOfTheTree) {
  for (const uint64_t seed : test::TestSeeds(100)) {
    ASSERT_EQ(CrashEverywhere(seed, Where::kTree), "") << "HOLDFAST_TEST_SEED=" << seed;
  }
}

TEST(ApplyCrashTest, AtEveryMutationOfTheJournal) {
  for (const uint64_t seed : test::TestSeeds(100)) {
    ASSERT_EQ(CrashEverywhere(seed, Where::kDisk), "") << "HOLDFAST_TEST_SEED=" << seed;
  }
}

// The harness finds what it is there to find.
TEST(ApplyCrashTest, APlantedFaultIsFound) {
  for (const test::SimTreeOptions& options :
       {test::SimTreeOptions{.lying_syncs = true}, test::SimTreeOptions{.lying_directory_syncs = true}}) {
    bool found = false;
    for (uint64_t seed = 1; seed <= 40 && !found; ++seed) {
      found = !CrashEverywhere(seed, Where::kTree, options).empty();
    }
    EXPECT_TRUE(found) << "lying syncs " << options.lying_syncs << ", of directories "
                       << options.lying_directory_syncs;
  }
}

}  // namespace
}  // namespace holdfast::workspace
