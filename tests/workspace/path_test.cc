#include "workspace/path.h"

#include <gtest/gtest.h>

#include <string>

namespace holdfast::workspace {
namespace {

TEST(PathTest, OrdinaryPathsAndTheRootAreValid) {
  for (const std::string_view path : {"", "a", "a/b/c", ".git/config", "..a", "a\nb", "\xff\xfe"}) {
    EXPECT_TRUE(ValidatePath(path).ok()) << path;
  }
  EXPECT_TRUE(ValidatePath(std::string(kNameBytesMax, 'x')).ok());
}

TEST(PathTest, PathsThatCouldLeadOutAreRefused) {
  for (const std::string_view path : {"/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ValidatePath(path))) << path;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(ValidatePath(std::string_view("a\0b", 3))));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidatePath(std::string(kNameBytesMax + 1, 'x'))));
  std::string deep = "a";
  while (deep.size() <= kPathBytesMax) deep += "/a";
  EXPECT_TRUE(absl::IsInvalidArgument(ValidatePath(deep)));
}

TEST(PathTest, ParentAndBaseNameSplitAtTheLastSlash) {
  EXPECT_EQ(Parent("a/b/c"), "a/b");
  EXPECT_EQ(BaseName("a/b/c"), "c");
  EXPECT_EQ(Parent("a"), "");
  EXPECT_EQ(BaseName("a"), "a");
}

}  // namespace
}  // namespace holdfast::workspace
