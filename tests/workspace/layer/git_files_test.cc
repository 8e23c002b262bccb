#include "workspace/layer/git_files.h"

#include <gtest/gtest.h>

#include "tests/support/sim_clock.h"
#include "tests/support/sim_tree.h"
#include "tests/workspace/workspace_testing.h"

namespace holdfast::workspace {
namespace {

const std::string kCommit(40, 'a');
const std::string kOther(40, 'b');

class ReadHeadTest : public testing::Test {
 protected:
  test::SimClock clock_;
  test::SimTree tree_{clock_};
};

TEST_F(ReadHeadTest, LooseAndPackedRefsAndDetachedHeads) {
  EXPECT_EQ(ReadHead(tree_, ""), "");
  Put(tree_, ".git/HEAD", "ref: refs/heads/main\n");
  EXPECT_EQ(ReadHead(tree_, ""), "");
  Put(tree_, ".git/packed-refs",
      "# pack-refs with: peeled\n" + kOther + " refs/heads/other\n" + kCommit + " refs/heads/main\n^" +
          kOther + "\n");
  EXPECT_EQ(ReadHead(tree_, ""), kCommit);
  Put(tree_, ".git/refs/heads/main", kOther + "\n");
  EXPECT_EQ(ReadHead(tree_, ""), kOther);
  Put(tree_, ".git/HEAD", kCommit + "\n");
  EXPECT_EQ(ReadHead(tree_, ""), kCommit);
  Put(tree_, "sub/.git/HEAD", std::string(64, 'c') + "\n");
  EXPECT_EQ(ReadHead(tree_, "sub"), std::string(64, 'c'));
}

TEST_F(ReadHeadTest, WhatAGuestMayWriteLeadsNowhere) {
  Put(tree_, "secret", kCommit);
  for (const std::string& head : {std::string("ref: ../secret\n"), std::string("ref: refs/../../secret\n"),
                                  std::string("ref: /etc/passwd\n"), std::string("not a head"),
                                  std::string(39, 'a'), std::string(5000, 'a'), std::string()}) {
    Put(tree_, ".git/HEAD", head);
    EXPECT_EQ(ReadHead(tree_, ""), "") << head;
  }
  ASSERT_TRUE(RemoveAll(tree_, ".git").ok());
  Put(tree_, ".git", "gitdir: /elsewhere\n");
  EXPECT_EQ(ReadHead(tree_, ""), "");
}

void PutBig32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
}

std::string Index(uint32_t version, const std::vector<std::string>& names, std::string_view extension = "",
                  uint32_t mode = 0100644) {
  std::string out = "DIRC";
  PutBig32(out, version);
  PutBig32(out, static_cast<uint32_t>(names.size()));
  std::string before;
  for (const std::string& name : names) {
    const size_t begin = out.size();
    for (int word = 0; word < 10; ++word) PutBig32(out, word == 6 ? mode : 1);
    out += std::string(20, '\x11') + std::string("\0\x05", 2);
    if (version == 4) {
      size_t same = 0;
      while (same < std::min(before.size(), name.size()) && before[same] == name[same]) ++same;
      out += static_cast<char>(before.size() - same);
      out += name.substr(same) + '\0';
    } else {
      out += name + '\0';
      while ((out.size() - begin) % 8 != 0) out += '\0';
    }
    before = name;
  }
  out += extension;
  return out + std::string(20, '\x22');
}

TEST(ParseIndexTest, VersionsTwoAndFourAreRead) {
  const std::vector<std::string> names = {"a", "dir/file", "dir/file2", "z"};
  for (const uint32_t version : {2u, 3u, 4u}) EXPECT_EQ(ParseIndex(Index(version, names)), names) << version;
  const std::string tree(
      "TREE\0\0\0\x04"
      "abcd",
      12);
  EXPECT_EQ(ParseIndex(Index(2, names, tree)), names);
  EXPECT_EQ(ParseIndex(Index(2, {})), std::vector<std::string>());
  EXPECT_EQ(ParseIndex(Index(2, {"conflict", "conflict", "conflict"})), std::vector<std::string>{"conflict"});
}

TEST(ParseIndexTest, WhatCannotBeToldIsNotGuessed) {
  const std::string link(
      "link\0\0\0\x04"
      "abcd",
      12);  // a split index
  EXPECT_FALSE(ParseIndex(Index(2, {"a"}, link)).has_value());
  EXPECT_FALSE(ParseIndex(Index(2, {"dir"}, "", 0040000)).has_value());  // a sparse one
  EXPECT_FALSE(ParseIndex(Index(5, {"a"})).has_value());
  EXPECT_FALSE(ParseIndex(Index(2, {"b", "a"})).has_value());
  EXPECT_FALSE(ParseIndex(Index(2, {"../out"})).has_value());
  EXPECT_FALSE(ParseIndex("").has_value());
  for (const uint32_t version : {2u, 4u}) {
    const std::string whole = Index(version, {"a", "dir/file", "dir/file2"});
    for (size_t cut = 0; cut < whole.size(); ++cut) {
      EXPECT_FALSE(ParseIndex(whole.substr(0, cut)).has_value()) << version << " " << cut;
    }
    for (size_t at = 0; at < whole.size(); ++at) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 0xff);
      ParseIndex(damaged);  // must not crash; a changed hash or time is no concern of ours
    }
  }
}

TEST(HoldsTest, PathsAndWhatLiesBeneath) {
  const std::vector<std::string> paths = {"a", "b-c", "b/c", "b0"};
  EXPECT_TRUE(HoldsPath(paths, "b/c"));
  EXPECT_FALSE(HoldsPath(paths, "b"));
  EXPECT_TRUE(HoldsBeneath(paths, "b"));
  EXPECT_FALSE(HoldsBeneath(paths, "a"));
  EXPECT_FALSE(HoldsBeneath(paths, "c"));
}

}  // namespace
}  // namespace holdfast::workspace
