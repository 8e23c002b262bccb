// What the tests of workspace/ share: directories of the real disk, and trees of both kinds.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/coding.h"
#include "gtest/gtest.h"
#include "workspace/tree.h"

namespace holdfast::workspace {

// A directory of its own, removed with all in it.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string pattern = testing::TempDir() + "/holdfast-workspace-XXXXXX";
    HF_CHECK(mkdtemp(pattern.data()) != nullptr);
    path_ = std::filesystem::canonical(pattern);
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    for (auto it = std::filesystem::recursive_directory_iterator(path_, ignored); it != end(it);
         it.increment(ignored)) {
      if (it->is_directory(ignored) && !it->is_symlink(ignored)) {
        std::filesystem::permissions(it->path(), std::filesystem::perms::owner_all, ignored);
      }
    }
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void WriteText(const std::string& path, std::string_view text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

inline std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The same through a tree. A failure fails the test.
inline void Put(Tree& tree, std::string_view path, std::string_view text, uint32_t mode = 0644) {
  ASSERT_TRUE(MakeParents(tree, path).ok()) << path;
  auto file = tree.CreateFile(path, mode);
  if (absl::IsAlreadyExists(file.status())) {
    file = tree.OpenFileForWriting(path);
    ASSERT_TRUE(file.ok() && (*file)->Truncate(0).ok()) << path;
  }
  ASSERT_TRUE(file.ok()) << file.status();
  const base::Status status = (*file)->WriteAt(0, base::AsBytes(text));
  ASSERT_TRUE(status.ok()) << status;
}

inline std::string Get(Tree& tree, std::string_view path) {
  const auto content = ReadWhole(tree, path, 64 << 20);
  return content.ok() ? content->bytes : "<" + base::Message(content.status()) + ">";
}

}  // namespace holdfast::workspace
