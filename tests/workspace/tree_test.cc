#include "workspace/tree.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_tree.h"
#include "tests/workspace/workspace_testing.h"

namespace holdfast::workspace {
namespace {

using test::SeededRandom;

enum class Kind { kReal, kSimulated };

// What the contract promises of every tree.
class TreeTest : public testing::TestWithParam<Kind> {
 protected:
  TreeTest() {
    if (GetParam() == Kind::kSimulated) {
      tree_ = std::make_unique<test::SimTree>(clock_);
    } else {
      auto tree = OpenTree(scratch_.path());
      HF_CHECK(tree.ok());
      tree_ = std::move(*tree);
    }
  }
  Tree& tree() { return *tree_; }

 private:
  ScratchDirectory scratch_;
  test::SimClock clock_;
  std::unique_ptr<Tree> tree_;
};
INSTANTIATE_TEST_SUITE_P(, TreeTest, testing::Values(Kind::kReal, Kind::kSimulated),
                         [](const auto& p) { return p.param == Kind::kReal ? "Real" : "Simulated"; });

TEST_P(TreeTest, WhatIsMadeIsFoundWithItsMode) {
  Put(tree(), "a/b/file", "text", 0640);
  ASSERT_TRUE(tree().MakeLink("a/link", "b/file").ok());
  ASSERT_TRUE(tree().MakeWhiteout("a/gone").ok());
  ASSERT_TRUE(tree().MakeDirectory("a/dir", 01775).ok());
  EXPECT_EQ(Get(tree(), "a/b/file"), "text");
  EXPECT_EQ(tree().Stat("a/b/file")->mode, 0640u);
  EXPECT_EQ(tree().Stat("a/b/file")->size_bytes, 4u);
  EXPECT_EQ(tree().Stat("a/link")->kind, EntryKind::kSymlink);
  EXPECT_EQ(*tree().ReadLink("a/link"), "b/file");
  EXPECT_EQ(tree().Stat("a/gone")->kind, EntryKind::kWhiteout);
  EXPECT_EQ(tree().Stat("a/dir")->mode, 01775u);
  EXPECT_EQ(tree().Stat("")->kind, EntryKind::kDirectory);
  EXPECT_TRUE(absl::IsNotFound(tree().Stat("a/none").status()));
}

TEST_P(TreeTest, ListsAreSortedByBytesAndBounded) {
  for (const std::string_view name : {"b", "a", "B", "a.b", "\xff", "a b"}) Put(tree(), name, "");
  const auto entries = tree().List("", 6);
  ASSERT_TRUE(entries.ok());
  std::vector<std::string> names;
  for (const Entry& entry : *entries) names.push_back(entry.name);
  EXPECT_EQ(names, (std::vector<std::string>{"B", "a", "a b", "a.b", "b", "\xff"}));
  const auto kinds = tree().Names("", 6);
  ASSERT_TRUE(kinds.ok());
  ASSERT_EQ(kinds->size(), 6u);
  EXPECT_EQ((*kinds)[5].name, "\xff");
  EXPECT_TRUE(absl::IsResourceExhausted(tree().List("", 5).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(tree().Names("", 5).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(tree().List("a", 5).status()));
}

TEST_P(TreeTest, NothingIsMadeOverSomethingElse) {
  Put(tree(), "file", "old");
  EXPECT_TRUE(absl::IsAlreadyExists(tree().CreateFile("file", 0644).status()));
  EXPECT_TRUE(absl::IsAlreadyExists(tree().MakeDirectory("file", 0755)));
  EXPECT_TRUE(absl::IsAlreadyExists(tree().MakeLink("file", "x")));
  EXPECT_TRUE(absl::IsAlreadyExists(tree().MakeWhiteout("file")));
  Put(tree(), "other", "new");
  EXPECT_TRUE(absl::IsAlreadyExists(tree().Rename("other", "file", Replace::kNo)));
  EXPECT_EQ(Get(tree(), "file"), "old");
  EXPECT_TRUE(tree().Rename("other", "file", Replace::kYes).ok());
  EXPECT_EQ(Get(tree(), "file"), "new");
  EXPECT_TRUE(absl::IsNotFound(tree().Stat("other").status()));
}

TEST_P(TreeTest, LinksOnTheWayAreRefused) {
  Put(tree(), "dir/file", "text");
  ASSERT_TRUE(tree().MakeLink("link", "dir").ok());
  ASSERT_TRUE(tree().MakeLink("to_file", "dir/file").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(tree().Stat("link/file").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(tree().OpenFile("link/file").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(tree().OpenFile("to_file").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(tree().List("link", 10).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(tree().CreateFile("link/new", 0644).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(tree().SetMode("to_file", 0600)));
  EXPECT_TRUE(absl::IsFailedPrecondition(tree().Remove("link/file")));
  EXPECT_TRUE(absl::IsFailedPrecondition(tree().Rename("dir/file", "link/new", Replace::kYes)));
}

TEST_P(TreeTest, BadPathsAreRefusedByEveryCall) {
  for (const std::string_view path : {"/etc", "../x", "a/../b", "a//b", "."}) {
    EXPECT_TRUE(absl::IsInvalidArgument(tree().Stat(path).status())) << path;
    EXPECT_TRUE(absl::IsInvalidArgument(tree().OpenFile(path).status())) << path;
    EXPECT_TRUE(absl::IsInvalidArgument(tree().CreateFile(path, 0644).status())) << path;
    EXPECT_TRUE(absl::IsInvalidArgument(tree().MakeDirectory(path, 0755))) << path;
    EXPECT_TRUE(absl::IsInvalidArgument(tree().Remove(path))) << path;
    EXPECT_TRUE(absl::IsInvalidArgument(tree().Rename("a", path, Replace::kYes)) ||
                absl::IsNotFound(tree().Rename("a", path, Replace::kYes)))
        << path;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(tree().Remove("")));
  EXPECT_TRUE(absl::IsInvalidArgument(tree().MakeLink("l", "")));
  EXPECT_TRUE(absl::IsInvalidArgument(tree().MakeLink("l", std::string_view("a\0b", 3))));
}

TEST_P(TreeTest, NamesOfAnyBytesAreKept) {
  const std::string longest(255, 'n');
  for (const std::string& name : {std::string("new\nline"), std::string("com,ma"), std::string("co:lon"),
                                  std::string("back\\slash"), std::string("\xff\xfe not UTF-8"), longest}) {
    Put(tree(), "d/" + name, name);
    EXPECT_EQ(Get(tree(), "d/" + name), name);
  }
  EXPECT_EQ(tree().List("d", 10)->size(), 6u);
}

TEST_P(TreeTest, DirectoriesAreRemovedWhenEmptyAndWholeByRemoveAll) {
  Put(tree(), "a/b/c", "1");
  ASSERT_TRUE(tree().MakeLink("a/b/l", "/etc").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(tree().Remove("a")));
  EXPECT_TRUE(RemoveAll(tree(), "a").ok());
  EXPECT_TRUE(absl::IsNotFound(tree().Stat("a").status()));
  EXPECT_TRUE(RemoveAll(tree(), "a").ok());
  EXPECT_TRUE(absl::IsNotFound(tree().Remove("a")));
}

TEST_P(TreeTest, TheOpaqueMarkComesAndGoes) {
  ASSERT_TRUE(tree().MakeDirectory("d", 0755).ok());
  const auto at_first = tree().IsOpaque("d");
  ASSERT_TRUE(at_first.ok()) << at_first.status();
  EXPECT_FALSE(*at_first);
  ASSERT_TRUE(tree().SetOpaque("d", true).ok());
  EXPECT_TRUE(*tree().IsOpaque("d"));
  ASSERT_TRUE(tree().SetOpaque("d", false).ok());
  ASSERT_TRUE(tree().SetOpaque("d", false).ok());
  EXPECT_FALSE(*tree().IsOpaque("d"));
  Put(tree(), "f", "");
  EXPECT_FALSE(tree().IsOpaque("f").ok());
}

TEST_P(TreeTest, WalkVisitsParentsFirstInOrderAndSkips) {
  for (const std::string_view path : {"a/x", "a.c", "a/y/z", "b/skipped/q", "c"}) Put(tree(), path, "");
  std::vector<std::string> seen;
  const auto visit = [&](const std::string& path, const EntryStat&) {
    seen.push_back(path);
    if (path == "b/skipped") return WalkStep::kSkip;
    return path == "c" ? WalkStep::kStop : WalkStep::kContinue;
  };
  ASSERT_TRUE(tree().Walk("", 100, visit).ok());
  EXPECT_EQ(seen, (std::vector<std::string>{"a", "a/x", "a/y", "a/y/z", "a.c", "b", "b/skipped", "c"}));
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end(), PathLess()));
  EXPECT_TRUE(absl::IsNotFound(tree().Walk("none", 100, visit)));
}

TEST_P(TreeTest, ReplaceFileGivesTheNewContentAndLeavesNothingBehind) {
  Put(tree(), "d/file", "old", 0600);
  ASSERT_TRUE(ReplaceFile(tree(), "d/file", base::AsBytes("new"), 0755).ok());
  EXPECT_EQ(Get(tree(), "d/file"), "new");
  EXPECT_EQ(tree().Stat("d/file")->mode, 0755u);
  const std::string longest(255, 'n');
  ASSERT_TRUE(ReplaceFile(tree(), longest, base::AsBytes("fresh"), 0644).ok());
  EXPECT_EQ(Get(tree(), longest), "fresh");
  EXPECT_EQ(tree().List("d", 10)->size(), 1u);
  EXPECT_FALSE(ReplaceFile(tree(), "none/file", base::AsBytes("x"), 0644).ok());
  EXPECT_FALSE(ReplaceFile(tree(), "d", base::AsBytes("x"), 0644).ok());
  EXPECT_EQ(tree().List("", 10)->size(), 2u);
}

TEST_P(TreeTest, ReadWholeKeepsItsBound) {
  Put(tree(), "file", "12345");
  EXPECT_EQ(ReadWhole(tree(), "file", 5)->bytes, "12345");
  EXPECT_TRUE(absl::IsResourceExhausted(ReadWhole(tree(), "file", 4).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(ReadWhole(tree(), "", 4).status()));
}

TEST_P(TreeTest, AnOpenFileKeepsItsStatWhateverItsNameBecomes) {
  Put(tree(), "file", "12345");
  const auto file = tree().OpenFile("file");
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(tree().Remove("file").ok());
  EXPECT_EQ(tree().StatOpen(**file)->size_bytes, 5u);
}

TEST(ComparePathsTest, IsTheOrderOfAWalkForAllPairs) {
  for (const uint64_t seed : test::TestSeeds(20)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    SeededRandom random(seed);
    const auto parts_of = [](const std::string& path) {
      std::vector<std::string> parts(1);
      for (const char c : path) {
        if (c == '/') {
          parts.emplace_back();
        } else {
          parts.back() += c;
        }
      }
      return parts;
    };
    const auto any = [&] {
      std::string path;
      for (uint64_t n = 1 + random.Below(3); n > 0; --n) {
        for (uint64_t k = 1 + random.Below(2); k > 0; --k) path += "a.\xff-"[random.Below(4)];
        if (n > 1) path += '/';
      }
      return path;
    };
    for (int i = 0; i < 500; ++i) {
      const std::string a = any(), b = any();
      std::vector<std::string> pa = parts_of(a), pb = parts_of(b);
      EXPECT_EQ(ComparePaths(a, b) < 0, pa < pb) << a << " " << b;
      EXPECT_EQ(ComparePaths(a, b) == 0, pa == pb) << a << " " << b;
    }
  }
}

// What only the real one can show.
class PosixTreeTest : public testing::Test {
 protected:
  std::unique_ptr<Tree> Open(TreeOptions options = {}) {
    auto tree = OpenTree(root(), std::move(options));
    HF_CHECK(tree.ok());
    return std::move(*tree);
  }
  PosixTreeTest() {
    std::filesystem::create_directory(root());
    WriteText(outside() + "/secret", "secret");
  }
  std::string root() const { return scratch_.path() + "/root"; }
  std::string outside() const { return scratch_.path() + "/outside"; }

 private:
  ScratchDirectory scratch_;
};

TEST_F(PosixTreeTest, LinksOutOfTheTreeLeadNowhere) {
  ASSERT_EQ(symlink("../outside/secret", (root() + "/up").c_str()), 0);
  ASSERT_EQ(symlink((outside() + "/secret").c_str(), (root() + "/absolute").c_str()), 0);
  ASSERT_EQ(symlink("../outside", (root() + "/dir").c_str()), 0);
  ASSERT_EQ(symlink("/proc/self/root", (root() + "/magic").c_str()), 0);
  const auto tree = Open({.links = Links::kWithin, .name = "workspace"});
  for (const std::string_view path : {"up", "absolute", "dir/secret", "magic/etc/passwd"}) {
    const auto file = tree->OpenFile(path);
    EXPECT_TRUE(absl::IsFailedPrecondition(file.status())) << path << " " << file.status();
    EXPECT_FALSE(ReplaceFile(*tree, path, base::AsBytes("evil"), 0644).ok()) << path;
  }
  EXPECT_EQ(ReadText(outside() + "/secret"), "secret");
  EXPECT_THAT(base::Message(tree->OpenFile("up").status()), testing::HasSubstr("workspace/up"));
}

TEST_F(PosixTreeTest, LinksWithinAreFollowedAndReplacedWhereTheyLead) {
  const auto tree = Open({.links = Links::kWithin});
  Put(*tree, "x/y/file", "old");
  ASSERT_TRUE(tree->MakeLink("x/y/link", "../y/file").ok());
  ASSERT_TRUE(tree->MakeLink("way", "x/y").ok());
  ASSERT_TRUE(tree->MakeLink("loop", "loop").ok());
  ASSERT_TRUE(tree->MakeLink("dangling", "x/new").ok());
  EXPECT_EQ(Get(*tree, "way/link"), "old");
  EXPECT_EQ(tree->Stat("way/link")->kind, EntryKind::kSymlink);
  EXPECT_EQ(tree->StatTarget("way/link")->kind, EntryKind::kFile);
  ASSERT_TRUE(ReplaceFile(*tree, "way/link", base::AsBytes("new"), 0644).ok());
  EXPECT_EQ(tree->Stat("x/y/link")->kind, EntryKind::kSymlink);
  EXPECT_EQ(Get(*tree, "x/y/file"), "new");
  ASSERT_TRUE(ReplaceFile(*tree, "dangling", base::AsBytes("made"), 0644).ok());
  EXPECT_EQ(Get(*tree, "x/new"), "made");
  EXPECT_TRUE(absl::IsFailedPrecondition(tree->OpenFile("loop").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(ReplaceFile(*tree, "loop", base::AsBytes("x"), 0644)));
}

TEST_F(PosixTreeTest, SpecialFilesNeverBlock) {
  ASSERT_EQ(mkfifo((root() + "/fifo").c_str(), 0644), 0);
  const auto tree = Open();
  EXPECT_EQ(tree->Stat("fifo")->kind, EntryKind::kOther);
  EXPECT_TRUE(absl::IsFailedPrecondition(tree->OpenFile("fifo").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(tree->OpenFileForWriting("fifo").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(tree->OpenFile("").status()));
  EXPECT_TRUE(tree->Remove("fifo").ok());
}

// A link swapped in and out of the way while files are opened and made: never a step outside.
TEST_F(PosixTreeTest, ARaceWithALinkNeverLeadsOut) {
  WriteText(root() + "/dir/secret", "inside");
  WriteText(outside() + "/secret", "outside");
  ASSERT_EQ(symlink("../outside", (root() + "/trap").c_str()), 0);
  const auto tree = Open({.links = Links::kWithin});
  std::atomic<bool> stop = false;
  std::thread swapper([&] {
    const int fd = open(root().c_str(), O_PATH | O_DIRECTORY);
    while (!stop) EXPECT_EQ(renameat2(fd, "dir", fd, "trap", RENAME_EXCHANGE), 0);
    close(fd);
  });
  size_t inside = 0, refused = 0;
  for (int i = 0; i < 10'000; ++i) {
    const auto content = ReadWhole(*tree, "dir/secret", 100);
    if (!content.ok()) {
      ++refused;
    } else {
      ASSERT_EQ(content->bytes, "inside");
      ++inside;
    }
    const auto made = tree->CreateFile("dir/made", 0644);
    if (made.ok()) tree->Remove("dir/made").IgnoreError();
  }
  stop = true;
  swapper.join();
  EXPECT_FALSE(std::filesystem::exists(outside() + "/made"));
  EXPECT_GT(inside + refused, 0u);
}

TEST_F(PosixTreeTest, ForcedAccessReadsWhatItsOwnerMayNotAndPutsTheModesBack) {
  WriteText(root() + "/closed/dir/file", "hidden");
  ASSERT_EQ(chmod((root() + "/closed/dir/file").c_str(), 0), 0);
  ASSERT_EQ(chmod((root() + "/closed").c_str(), 0), 0);
  const auto tree = Open({.owner_access = OwnerAccess::kForced});
  EXPECT_EQ(Get(*tree, "closed/dir/file"), "hidden");
  EXPECT_EQ(tree->List("closed", 10)->size(), 1u);
  EXPECT_EQ(tree->Stat("closed")->mode, 0u);
  EXPECT_EQ(tree->Stat("closed/dir/file")->mode, 0u);
  if (geteuid() != 0) {
    EXPECT_TRUE(absl::IsPermissionDenied(Open()->OpenFile("closed/dir/file").status()));
  }
  EXPECT_TRUE(RemoveAll(*tree, "closed").ok());
}

TEST_F(PosixTreeTest, RootActsWithTheIdentityAndItsRights) {
  if (geteuid() != 0) GTEST_SKIP() << "not root";
  constexpr TreeIdentity kSomebody = {.uid = 61'235, .gid = 61'236};
  WriteText(root() + "/roots_own", "x");
  ASSERT_EQ(chmod((root() + "/roots_own").c_str(), 0600), 0);
  ASSERT_EQ(chown(root().c_str(), kSomebody.uid, kSomebody.gid), 0);
  const auto tree = Open({.identity = kSomebody});
  EXPECT_TRUE(absl::IsPermissionDenied(tree->OpenFile("roots_own").status()));
  Put(*tree, "made/file", "theirs");
  EXPECT_EQ(tree->Stat("made/file")->uid, kSomebody.uid);
  EXPECT_EQ(tree->Stat("made/file")->gid, kSomebody.gid);
  ASSERT_TRUE(ReplaceFile(*tree, "made/file", base::AsBytes("again"), 0640).ok());
  EXPECT_EQ(tree->Stat("made/file")->uid, kSomebody.uid);
  EXPECT_EQ(geteuid(), 0u);
  WriteText(outside() + "/still_root", "x");
  struct stat s;
  ASSERT_EQ(stat((outside() + "/still_root").c_str(), &s), 0);
  EXPECT_EQ(s.st_uid, 0u);
}

TEST_F(PosixTreeTest, TreesDeeperThanAPathCanSayAreRemoved) {
  const auto tree = Open();
  const std::string name(200, 'd');
  int directory = open(root().c_str(), O_RDONLY | O_DIRECTORY);
  for (int i = 0; i < 60; ++i) {  // 12,000 bytes
    ASSERT_EQ(mkdirat(directory, name.c_str(), 0755), 0);
    const int next = openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY);
    close(directory);
    directory = next;
  }
  close(directory);
  const base::Status status = RemoveAll(*tree, name);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(tree->List("", 10)->empty());
}

TEST_F(PosixTreeTest, ACopyHasContentAndMode) {
  const auto tree = Open();
  const std::string big(600'000, 'b');
  Put(*tree, "from", big);
  ASSERT_TRUE(tree->CopyFile(*tree, "from", "to", 0751).ok());
  EXPECT_EQ(Get(*tree, "to"), big);
  EXPECT_EQ(tree->Stat("to")->mode, 0751u);
}

TEST_F(PosixTreeTest, AFileIsNoTree) {
  WriteText(root() + "/file", "");
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenTree(root() + "/file").status()));
  EXPECT_TRUE(absl::IsNotFound(OpenTree(root() + "/none").status()));
}

}  // namespace
}  // namespace holdfast::workspace
