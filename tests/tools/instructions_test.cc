#include "tools/instructions.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_tree.h"
#include "workspace/tree.h"

namespace holdfast::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class InstructionsTest : public ::testing::Test {
 protected:
  void Put(const std::string& path, std::string_view bytes) {
    ASSERT_TRUE(workspace::MakeParents(tree_, path).ok());
    ASSERT_TRUE(workspace::ReplaceFile(tree_, path, std::as_bytes(std::span(bytes)), 0644).ok());
  }
  Instructions Read(const InstructionLimits& limits = {}) {
    auto read = ReadInstructions(tree_, limits);
    EXPECT_TRUE(read.ok()) << read.status();
    return *std::move(read);
  }
  static std::vector<std::string> Paths(const Instructions& read) {
    std::vector<std::string> paths;
    for (const auto& file : read.files) paths.push_back(file.path);
    return paths;
  }

  test::SimClock clock_;
  test::SimTree tree_{clock_};
};

TEST_F(InstructionsTest, TheRootsComeFirstAndTheNearestLast) {
  Put("AGENTS.md", "\xEF\xBB\xBF# Root\r\nrule");
  Put("src/AGENTS.md", "src\n");
  Put("src/deep/AGENTS.md", "deep\n");
  Put("lib/AGENTS.md", "lib\n");
  Put("lib/agents.md", "another name\n");
  const Instructions read = Read();
  EXPECT_THAT(Paths(read), ElementsAre("AGENTS.md", "lib/AGENTS.md", "src/AGENTS.md", "src/deep/AGENTS.md"));
  EXPECT_EQ(read.files[0].text, "# Root\nrule\n");
  EXPECT_TRUE(read.complete);
  std::vector<std::string> near;
  for (const InstructionFile* file : InstructionsFor(read, "src/deep/x.cc")) near.push_back(file->path);
  EXPECT_THAT(near, ElementsAre("AGENTS.md", "src/AGENTS.md", "src/deep/AGENTS.md"));
  EXPECT_EQ(InstructionsFor(read, "src2/x").size(), 1u);
}

TEST_F(InstructionsTest, LinksHiddenDirectoriesAndOddBytesAreLeftOut) {
  Put("real/AGENTS.md", "real\n");
  ASSERT_TRUE(tree_.MakeLink("AGENTS.md", "../outside").ok());
  ASSERT_TRUE(tree_.MakeLink("linked", "real").ok());
  Put(".git/AGENTS.md", "hidden\n");
  Put("node_modules/x/AGENTS.md", "not ours\n");
  Put("odd/AGENTS.md", "caf\xE9\n");
  ASSERT_TRUE(tree_.MakeDirectory("d", 0755).ok());
  ASSERT_TRUE(tree_.MakeDirectory("d/AGENTS.md", 0755).ok());
  Put("e/AGENTS.md", "");
  const Instructions read = Read();
  EXPECT_THAT(Paths(read), ElementsAre("real/AGENTS.md"));
  EXPECT_THAT(read.left_out, ElementsAre("AGENTS.md: no regular file", "d/AGENTS.md: no regular file",
                                         "odd/AGENTS.md: not UTF-8"));
}

TEST_F(InstructionsTest, EverythingIsBounded) {
  Put("AGENTS.md", "one\ntwo\nthree\n");
  Put("a/AGENTS.md", "aaaa\n");
  Put("b/c/AGENTS.md", "bbbb\n");
  Instructions read = Read({.file_bytes_max = 9});
  EXPECT_EQ(read.files[0].text, "one\ntwo\n");
  EXPECT_TRUE(read.files[0].cut);
  read = Read({.total_bytes_max = 16});
  EXPECT_THAT(Paths(read), ElementsAre("AGENTS.md"));
  EXPECT_THAT(read.left_out,
              ElementsAre("a/AGENTS.md: too much text in all", "b/c/AGENTS.md: too much text in all"));
  read = Read({.files_max = 2});
  EXPECT_THAT(Paths(read), ElementsAre("AGENTS.md", "a/AGENTS.md"));
  EXPECT_FALSE(read.complete);
  EXPECT_THAT(Paths(Read({.depth_max = 1})), ElementsAre("AGENTS.md", "a/AGENTS.md"));
  read = Read({.directories_max = 2});
  EXPECT_FALSE(read.complete);
  EXPECT_THAT(Paths(read), ElementsAre("AGENTS.md", "a/AGENTS.md"));
}

TEST_F(InstructionsTest, TheHashPinsWhatWasRead) {
  const auto empty = Read().hash;
  EXPECT_EQ(Read().hash, empty);
  Put("a/AGENTS.md", "x\n");
  const auto one = Read().hash;
  EXPECT_NE(one, empty);
  Put("a/AGENTS.md", "x\r\n");  // the same text
  EXPECT_EQ(Read().hash, one);
  Put("a/AGENTS.md", "y\n");
  EXPECT_NE(Read().hash, one);
  EXPECT_NE(Read({.depth_max = 0}).hash, one);
}

TEST_F(InstructionsTest, ARootThatCannotBeReadIsAnError) {
  tree_.Crash();
  EXPECT_FALSE(ReadInstructions(tree_).ok());
}

}  // namespace
}  // namespace holdfast::tools
