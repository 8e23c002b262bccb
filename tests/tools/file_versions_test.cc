#include "tools/file_versions.h"

#include "gtest/gtest.h"

namespace holdfast::tools {
namespace {

FileVersion Version(std::string path, int content) {
  return {.path = std::move(path), .hash = base::Sha256Digest{static_cast<std::byte>(content)}};
}

TEST(FileVersionsTest, TheLastOfAPathCounts) {
  FileVersions versions;
  EXPECT_FALSE(versions.Find("a"));
  const FileVersion seen[] = {Version("a", 1), Version("b", 1), Version("a", 2), {.path = "c"}};
  versions.Apply(seen);
  EXPECT_EQ(versions.Find("a"), Version("a", 2));
  EXPECT_TRUE(versions.Find("c"));
  EXPECT_FALSE(versions.Find("c")->hash);
  EXPECT_EQ(versions.size(), 3u);
}

TEST(FileVersionsTest, ExportRestores) {
  FileVersions versions, restored;
  const FileVersion seen[] = {Version("b", 1), Version("a", 1), Version("b", 2)};
  versions.Apply(seen);
  restored.Apply(versions.Export());
  EXPECT_EQ(restored.Export(), versions.Export());
  EXPECT_EQ(versions.Export()[0].path, "a");
}

TEST(FileVersionsTest, TheOldestIsForgottenBeyondTheBound) {
  FileVersions versions;
  for (size_t i = 0; i <= FileVersions::kPathsMax; ++i) {
    const FileVersion seen[] = {Version(std::to_string(i), 1)};
    versions.Apply(seen);
  }
  EXPECT_EQ(versions.size(), FileVersions::kPathsMax);
  EXPECT_FALSE(versions.Find("0"));
  EXPECT_TRUE(versions.Find("1"));
}

}  // namespace
}  // namespace holdfast::tools
