#include "workspace/layer/derived.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_tree.h"
#include "tests/workspace/workspace_testing.h"

namespace holdfast::workspace {
namespace {

class DerivedIndexTest : public testing::Test {
 protected:
  DerivedSummary Pass() {
    index_.Begin();
    const auto stat = tree_.Stat("build");
    if (stat.ok()) {
      EXPECT_TRUE(index_.AddDirectory("build", *stat).ok());
    }
    return index_.End();
  }
  void Settle() { clock_.Advance(3 * base::kNsPerSecond); }

  test::SimClock clock_;
  test::SimTree tree_{clock_};
  DerivedIndex index_{tree_, clock_, 100'000};
};

TEST_F(DerivedIndexTest, FilesAndBytesOfAllDepthsAreCounted) {
  Put(tree_, "build/a/x", "123");
  Put(tree_, "build/a/b/y", "4567");
  Put(tree_, "build/z", "8");
  const DerivedSummary summary = Pass();
  EXPECT_EQ(summary.files, 3u);
  EXPECT_EQ(summary.directories, 3u);
  EXPECT_EQ(summary.bytes, 8u);
  EXPECT_TRUE(summary.bytes_complete);
  EXPECT_THAT(summary.roots, testing::ElementsAre("build"));
}

TEST_F(DerivedIndexTest, SizesOfUnchangedDirectoriesAreSeenInTurns) {
  for (int d = 0; d < 5; ++d) {
    for (int f = 0; f < 1000; ++f) Put(tree_, "build/d" + std::to_string(d) + "/f" + std::to_string(f), "x");
  }
  Settle();
  DerivedSummary summary = Pass();
  EXPECT_EQ(summary.files, 5000u);
  EXPECT_FALSE(summary.bytes_complete);
  for (int pass = 0; pass < 3; ++pass) summary = Pass();
  EXPECT_TRUE(summary.bytes_complete);
  EXPECT_EQ(summary.bytes, 5000u);
  Put(tree_, "build/d3/f7", "a hundred times larger");  // the directory does not change
  for (int pass = 0; pass < 4; ++pass) summary = Pass();
  EXPECT_EQ(summary.bytes, 4999u + 22u);
}

TEST_F(DerivedIndexTest, ALargeDirectoryIsEstimatedWell) {
  for (int f = 0; f < 5000; ++f) Put(tree_, "build/f" + std::to_string(f), "12345678");
  Settle();
  const DerivedSummary summary = Pass();
  EXPECT_EQ(summary.files, 5000u);
  EXPECT_FALSE(summary.bytes_complete);
  EXPECT_EQ(summary.bytes, 40'000u);
  for (int f = 0; f < 5000; ++f) ASSERT_TRUE(tree_.Remove("build/f" + std::to_string(f)).ok());
  Put(tree_, "build/one", "123");
  EXPECT_EQ(Pass().bytes, 3u);
}

TEST_F(DerivedIndexTest, NamesAreExactAtEveryPass) {
  for (const uint64_t seed : test::TestSeeds(20)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    for (int step = 0; step < 30; ++step) {
      std::string path = "build";
      for (uint64_t n = 1 + random.Below(3); n > 0; --n)
        path += "/" + std::string(1, static_cast<char>('a' + random.Below(3)));
      if (random.Percent(30)) {
        ASSERT_TRUE(RemoveAll(tree_, path).ok());
      } else if (absl::IsNotFound(tree_.Stat(path).status())) {
        Put(tree_, path + ".d/f", std::string(random.Below(9), 'x'));
      }
      if (random.Percent(50)) Settle();
      uint64_t files = 0, bytes = 0;
      tree_
          .Walk("", 1000,
                [&](const std::string&, const EntryStat& stat) {
                  files += stat.kind == EntryKind::kFile ? 1 : 0;
                  bytes += stat.kind == EntryKind::kFile ? stat.size_bytes : 0;
                  return WalkStep::kContinue;
                })
          .IgnoreError();
      const DerivedSummary summary = Pass();
      EXPECT_EQ(summary.files, files);
      EXPECT_EQ(summary.bytes, bytes);
    }
  }
}

}  // namespace
}  // namespace holdfast::workspace
