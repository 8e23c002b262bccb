#include "workspace/diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/sim_tree.h"
#include "tests/workspace/change_testing.h"

namespace holdfast::workspace {
namespace {

using testing::HasSubstr;

class DiffTest : public testing::Test {
 protected:
  // Three worlds to a diff.
  Diff Compare(const World& base, const World& ours, const World& theirs) {
    Make(tree_, theirs);
    manifest_ = ManifestOf(base, ours, blobs_);
    auto diff = DiffThreeWays(manifest_, tree_);
    HF_CHECK(diff.ok());
    return *std::move(diff);
  }
  Conflict ConflictOf(const World& base, const World& ours, const World& theirs, std::string_view path) {
    const Diff diff = Compare(base, ours, theirs);
    const PathChange* change = diff.Find(path);
    EXPECT_NE(change, nullptr) << path;
    return change == nullptr ? Conflict::kNone : change->conflict;
  }

  test::SimClock clock_;
  test::SimTree tree_{clock_};
  Blobs blobs_;
  Manifest manifest_;
};

TEST_F(DiffTest, KindsOfChange) {
  const World base = {
      {"d", Directory()}, {"d/m", File("1")}, {"d/x", File("1")}, {"gone", File("g")}, {"k", File("k")}};
  World ours = base;
  ours["d/m"] = File("2");
  ours["d/x"].mode = 0755;
  ours["new"] = File("n");
  ours["k"] = Link("d/m");
  ours.erase("gone");
  const Diff diff = Compare(base, ours, base);
  ASSERT_EQ(diff.changes.size(), 5u);
  EXPECT_EQ(diff.Find("d"), nullptr);  // in the manifest, but as it was
  EXPECT_EQ(diff.Find("d/m")->kind, ChangeKind::kModified);
  EXPECT_EQ(diff.Find("d/x")->kind, ChangeKind::kModeOnly);
  EXPECT_EQ(diff.Find("new")->kind, ChangeKind::kAdded);
  EXPECT_EQ(diff.Find("k")->kind, ChangeKind::kTypeChanged);
  EXPECT_EQ(diff.Find("gone")->kind, ChangeKind::kDeleted);
  for (const PathChange& change : diff.changes) {
    EXPECT_TRUE(change.Clean()) << change.path << " " << change.note;
    EXPECT_FALSE(change.already);
  }
}

TEST_F(DiffTest, BothSidesDifferentIsAConflict) {
  EXPECT_EQ(ConflictOf({{"f", File("1")}}, {{"f", File("2")}}, {{"f", File("3")}}, "f"),
            Conflict::kBothChanged);
}

TEST_F(DiffTest, BothSidesTheSameIsNone) {
  const Diff diff = Compare({{"f", File("1")}}, {{"f", File("2")}}, {{"f", File("2")}});
  EXPECT_TRUE(diff.changes[0].already);
  EXPECT_EQ(diff.changes[0].conflict, Conflict::kNone);
}

TEST_F(DiffTest, AddedOnBothSides) {
  EXPECT_EQ(ConflictOf({}, {{"f", File("2")}}, {{"f", File("3")}}, "f"), Conflict::kAddedUnderneath);
}

TEST_F(DiffTest, DeletedUnderneath) {
  EXPECT_EQ(ConflictOf({{"f", File("1")}}, {{"f", File("2")}}, {}, "f"), Conflict::kDeletedUnderneath);
}

TEST_F(DiffTest, DeletionOfAChangedFile) {
  EXPECT_EQ(ConflictOf({{"f", File("1")}}, {}, {{"f", File("3")}}, "f"), Conflict::kChangedUnderneath);
}

TEST_F(DiffTest, DeletedOnBothSidesIsNone) {
  const Diff diff = Compare({{"f", File("1")}}, {}, {});
  EXPECT_TRUE(diff.changes[0].already);
}

TEST_F(DiffTest, ParentGone) {
  const World base = {{"d", Directory()}, {"d/f", File("1")}};
  World ours = base;
  ours["d/new"] = File("n");
  EXPECT_EQ(ConflictOf(base, ours, {}, "d/new"), Conflict::kParentGone);
}

TEST_F(DiffTest, ParentIsAFileThere) {
  const World base = {{"d", Directory()}};
  World ours = base;
  ours["d/new"] = File("n");
  EXPECT_EQ(ConflictOf(base, ours, {{"d", File("no directory")}}, "d/new"), Conflict::kParentNotDirectory);
}

TEST_F(DiffTest, ParentIsALinkThereAndIsNotFollowed) {
  const World base = {{"d", Directory()}, {"real", Directory()}};
  World ours = base;
  ours["d/new"] = File("n");
  const World theirs = {{"d", Link("real")}, {"real", Directory()}, {"real/new", File("mine")}};
  EXPECT_EQ(ConflictOf(base, ours, theirs, "d/new"), Conflict::kParentNotDirectory);
}

TEST_F(DiffTest, ADirectoryIsNotDeletedOverWhatTheSessionNeverSaw) {
  const World base = {{"d", Directory()}, {"d/f", File("1")}};
  World theirs = base;
  theirs["d/notes"] = File("of the user");
  const Diff diff = Compare(base, {}, theirs);
  EXPECT_EQ(diff.Find("d")->conflict, Conflict::kNotEmpty);
  EXPECT_THAT(diff.Find("d")->note, HasSubstr("notes"));
  EXPECT_EQ(diff.Find("d/f")->conflict, Conflict::kNone);
}

TEST_F(DiffTest, AConflictDeepInsideKeepsAllDirectoriesAbove) {
  const World base = {{"a", Directory()}, {"a/b", Directory()}, {"a/b/f", File("1")}, {"a/g", File("1")}};
  World theirs = base;
  theirs["a/b/f"] = File("changed");
  const Diff diff = Compare(base, {{"a", File("now a file")}}, theirs);
  EXPECT_EQ(diff.Find("a/b/f")->conflict, Conflict::kChangedUnderneath);
  EXPECT_EQ(diff.Find("a/b")->conflict, Conflict::kNotEmpty);
  EXPECT_EQ(diff.Find("a")->conflict, Conflict::kNotEmpty);
  EXPECT_TRUE(diff.Find("a/g")->Clean());
}

TEST_F(DiffTest, ModeAndContentAreMergedApart) {
  const Diff diff = Compare({{"f", File("1", 0644)}, {"g", File("1", 0644)}},
                            {{"f", File("2", 0644)}, {"g", File("1", 0755)}},
                            {{"f", File("1", 0755)}, {"g", File("3", 0644)}});
  ASSERT_TRUE(diff.Find("f")->Clean());
  EXPECT_EQ(diff.Find("f")->result.mode, 0755u);
  EXPECT_EQ(diff.Find("f")->result.content, diff.Find("f")->ours.content);
  ASSERT_TRUE(diff.Find("g")->Clean());
  EXPECT_EQ(diff.Find("g")->result.mode, 0755u);
  EXPECT_EQ(diff.Find("g")->result.content, diff.Find("g")->theirs.content);
}

TEST_F(DiffTest, SpecialBitsNeverReachAFile) {
  const Diff diff = Compare({}, {{"f", File("x", 06755)}, {"d", Directory(03777)}}, {});
  EXPECT_EQ(diff.Find("f")->result.mode, 0755u);
  EXPECT_THAT(diff.Find("f")->note, HasSubstr("set-user-id"));
  EXPECT_EQ(diff.Find("d")->result.mode, 0777u);
}

TEST_F(DiffTest, OnlySpecialBitsIsNothingToApply) {
  const Diff diff = Compare({{"f", File("x", 0755)}}, {{"f", File("x", 04755)}}, {{"f", File("x", 0755)}});
  EXPECT_TRUE(diff.Find("f")->already);
}

TEST_F(DiffTest, AnUncertainBaseIsAConflictUnlessBothAgree) {
  const World base = {{"f", File("1")}, {"g", File("1")}}, ours = {{"f", File("2")}, {"g", File("2")}};
  Make(tree_, {{"f", File("1")}, {"g", File("2")}});
  Manifest manifest = ManifestOf(base, ours, blobs_);
  for (ManifestEntry& entry : manifest.entries) entry.certainty = BaseCertainty::kUncertain;
  const auto diff = DiffThreeWays(manifest, tree_);
  ASSERT_TRUE(diff.ok());
  EXPECT_EQ(diff->Find("f")->conflict, Conflict::kUncertainBase);
  EXPECT_TRUE(diff->Find("g")->already);
}

TEST_F(DiffTest, ABaseWithoutContentIsUncertain) {
  Make(tree_, {{"f", File("1")}});
  Manifest manifest = ManifestOf({{"f", File("1")}}, {{"f", File("2")}}, blobs_);
  manifest.entries[0].base.content.reset();
  const auto diff = DiffThreeWays(manifest, tree_);
  ASSERT_TRUE(diff.ok());
  EXPECT_EQ(diff->Find("f")->conflict, Conflict::kUncertainBase);
}

TEST_F(DiffTest, AFifoInTheTreeIsLeftAlone) {
  ASSERT_TRUE(tree_.MakeOther("f").ok());
  const auto diff = DiffThreeWays(ManifestOf({}, {{"f", File("2")}}, blobs_), tree_);
  ASSERT_TRUE(diff.ok());
  EXPECT_EQ(diff->Find("f")->conflict, Conflict::kUnsupported);
}

TEST_F(DiffTest, GuardsAndLinksOutwardAreRefused) {
  World ours = {{"nested", Directory()},
                {"nested/.git", Directory()},
                {"nested/.git/hooks", Directory()},
                {"nested/.git/hooks/pre-commit", File("evil", 0755)},
                {".GIT", Directory()},
                {"AGENTS.md", File("a")},
                {"out", Link("../../etc/passwd")},
                {"abs", Link("/etc/passwd")},
                {"in", Link("nested")}};
  const Diff diff = Compare({}, ours, {});
  EXPECT_EQ(diff.Find("nested/.git/hooks/pre-commit")->guard, Guard::kRefusedAlways);
  EXPECT_EQ(diff.Find(".GIT")->guard, Guard::kRefusedAlways);
  EXPECT_EQ(diff.Find("out")->guard, Guard::kRefused);
  EXPECT_EQ(diff.Find("abs")->guard, Guard::kRefused);
  EXPECT_EQ(diff.Find("in")->guard, Guard::kNone);
  EXPECT_EQ(diff.Find("nested")->guard, Guard::kNone);
  EXPECT_EQ(diff.Find("AGENTS.md")->guard, Guard::kFlagged);
  EXPECT_TRUE(diff.Find("AGENTS.md")->Clean());
  EXPECT_FALSE(diff.Find("out")->Clean());
}

TEST_F(DiffTest, APlantedBareRepositoryIsRefusedWhicheverPartComesLast) {
  const World whole = {{"r", Directory()},           {"r/HEAD", File("ref: refs/heads/main\n")},
                       {"r/config", File("[core]")}, {"r/objects", Directory()},
                       {"r/refs", Directory()},      {"r/x", Directory()},
                       {"r/x/y", File("z")}};
  const Diff all = Compare({}, whole, {});
  for (const PathChange& change : all.changes) {
    EXPECT_EQ(change.guard == Guard::kRefused, change.path != "r") << change.path;
  }
}

TEST_F(DiffTest, ABareRepositoryOfTheUserIsNotTouched) {
  const World base = {{"r", Directory()},           {"r/HEAD", File("ref: refs/heads/main\n")},
                      {"r/config", File("[core]")}, {"r/objects", Directory()},
                      {"r/refs", Directory()},      {"s", Directory()},
                      {"s/HEAD", File("h")}};
  World ours = base;
  ours["r/config"] = File("[core]\n\tfsmonitor = /tmp/evil\n");
  ours["s/config"] = File("fine");
  const Diff diff = Compare(base, ours, base);
  EXPECT_EQ(diff.Find("r/config")->guard, Guard::kRefused);
  EXPECT_EQ(diff.Find("s/config")->guard, Guard::kNone);
}

TEST_F(DiffTest, TheBoundOnReadingIsAnError) {
  const Manifest manifest = ManifestOf({{"f", File("12345")}}, {{"f", File("2")}}, blobs_);
  Make(tree_, {{"f", File("12345")}});
  EXPECT_TRUE(
      absl::IsResourceExhausted(DiffThreeWays(manifest, tree_, {}, {.theirs_bytes_max = 4}).status()));
  EXPECT_TRUE(DiffThreeWays(manifest, tree_, {}, {.theirs_bytes_max = 5}).ok());
}

// What each path must be, from the three worlds alone.
TEST_F(DiffTest, RandomWorldsAgreeWithThePlainRule) {
  for (const uint64_t seed : test::TestSeeds(300)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    const World base = Changed({}, random, 30);
    const World ours = Changed(base, random, random.Below(15)),
                theirs = Changed(base, random, random.Below(15));
    test::SimTree tree(clock_);
    Make(tree, theirs);
    const auto diff = DiffThreeWays(ManifestOf(base, ours, blobs_), tree);
    ASSERT_TRUE(diff.ok()) << diff.status();
    const auto at = [](const World& world, const std::string& path) {
      const auto found = world.find(path);
      return found == world.end() ? std::optional<Node>() : std::optional<Node>(found->second);
    };
    World paths = base;
    paths.insert(ours.begin(), ours.end());
    for (const auto& [path, unused] : paths) {
      const PathChange* change = diff->Find(path);
      const auto b = at(base, path), o = at(ours, path), t = at(theirs, path);
      ASSERT_EQ(change != nullptr, b != o) << path;
      if (change == nullptr) continue;
      if (o == t) {
        EXPECT_TRUE(change->already) << path << "\n" << Print(theirs);
      }
      if (b == t && o != t && change->conflict != Conflict::kNone) {
        // Only the surroundings can forbid it.
        EXPECT_THAT(change->conflict,
                    testing::AnyOf(Conflict::kNotEmpty, Conflict::kParentGone, Conflict::kParentNotDirectory))
            << path;
      }
      if (b != t && o != t && change->Clean()) {
        // Both changed: only modes and contents apart, or two directories, go together.
        EXPECT_TRUE(o.has_value() && t.has_value() && o->kind == t->kind) << path;
      }
      if (theirs == base) {
        EXPECT_TRUE(change->Clean()) << path << " " << change->note;
      }
    }
  }
}

}  // namespace
}  // namespace holdfast::workspace
