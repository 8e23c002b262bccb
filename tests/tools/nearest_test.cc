#include "tools/text/nearest.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(NearestTest, DistanceCountsSlips) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("abc", ""), 3u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
  EXPECT_EQ(EditDistance("ab", "ba"), 1u);
}

TEST(NearestTest, NamesThatWereLikelyMeant) {
  const std::vector<std::string> names = {"old_string", "new_string", "path", "replace_all"};
  EXPECT_EQ(Nearest("old", names), "old_string");
  EXPECT_EQ(Nearest("file_path", names), "path");
  EXPECT_EQ(Nearest("replaceAll", names), "replace_all");
  EXPECT_EQ(Nearest("pth", names), "path");
  EXPECT_EQ(Nearest("content", names), "");
  EXPECT_EQ(Nearest("", names), "");
}

TEST(NearestTest, FilesThatWereLikelyMeant) {
  const std::vector<std::string> names = {"main.cc", "main.h", "Makefile", "mian.cc", "README.md", "x"};
  EXPECT_THAT(NearestFiles("main.cpp", names, 3), ElementsAre("main.cc", "main.h"));
  EXPECT_THAT(NearestFiles("makefile", names, 3), ElementsAre("Makefile"));
  EXPECT_THAT(NearestFiles("readme.md", names, 1), ElementsAre("README.md"));
  EXPECT_THAT(NearestFiles("main.cc", names, 2), ElementsAre("main.cc", "main.h"));
  EXPECT_THAT(NearestFiles("other", names, 3), IsEmpty());
}

}  // namespace
}  // namespace holdfast::tools
