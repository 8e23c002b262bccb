// .gitignore against git itself, on random patterns and paths. git runs in a sandbox: tests start no
// processes.
#include <gtest/gtest.h>

#include <set>

#include "sandbox/sandbox.h"
#include "tests/support/seeded_random.h"
#include "tests/workspace/workspace_testing.h"
#include "workspace/ignore.h"

namespace holdfast::workspace {
namespace {

using test::SeededRandom;

class DiskSource final : public IgnoreSource {
 public:
  explicit DiskSource(std::string root) : root_(std::move(root)) {}
  std::optional<std::string> Read(const std::string& path, size_t) override {
    if (!std::filesystem::is_regular_file(root_ + "/" + path)) return std::nullopt;
    return ReadText(root_ + "/" + path);
  }
  bool IsRepository(const std::string& directory) override {
    return std::filesystem::exists(root_ + "/" + directory + "/.git");
  }

 private:
  const std::string root_;
};

std::string RandomPattern(SeededRandom& random) {
  static constexpr const char* kPieces[] = {
      "a",    "b",     "ab",  "*",           "**", "?",   "/",   "/",    "/**/",  "[ab]",
      "[!a]", "[a-c]", "\\a", "\\*",         ".",  "c.o", "*.o", "**/",  "[]a]",  "[^b-c]",
      " ",    "\\ ",   "-",   "[[:alpha:]]", "[a", "#",   "!",   "[b/]", "[\\a]", "[a-]"};
  std::string pattern;
  if (random.Percent(20)) pattern += "!";
  if (random.Percent(20)) pattern += "/";
  for (uint64_t n = 1 + random.Below(4); n > 0; --n) pattern += kPieces[random.Below(std::size(kPieces))];
  if (random.Percent(20)) pattern += "/";
  if (random.Percent(10)) pattern += "  ";
  if (random.Percent(5)) pattern += "\r";
  return pattern;
}

std::string RandomName(SeededRandom& random) {
  static constexpr const char* kNames[] = {"a",  "b",   "ab", "c.o", "a.o", "*", "-",
                                           "bb", "a b", "#a", "!a",  "abc", "]", " "};
  return kNames[random.Below(std::size(kNames))];
}

TEST(IgnoreGitTest, GitSaysTheSameOfRandomPatternsAndPaths) {
  ScratchDirectory scratch;
  const std::string root = scratch.path() + "/tree";
  std::filesystem::create_directory(root);
  auto sandbox = sandbox::Sandbox::Start({.broker_path = HOLDFAST_SANDBOX_BROKER});
  ASSERT_TRUE(sandbox.ok()) << sandbox.status();
  sandbox::Policy policy;
  policy.workspace = {.host = root, .inside = "/workspace", .mode = sandbox::WorkspaceMode::kDirect};
  auto session = (*sandbox)->Open(policy);
  ASSERT_TRUE(session.ok()) << session.status();
  size_t compared = 0, ignored_count = 0;
  for (const uint64_t seed : test::TestSeeds(60)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    SeededRandom random(seed);
    for (const auto& entry : std::filesystem::directory_iterator(root)) std::filesystem::remove_all(entry);
    const auto cleared = (*session)->Run(sandbox::ShellCommand("git init -q ."));
    ASSERT_TRUE(cleared.ok() && cleared->exit_code == 0) << cleared->output.head;
    std::set<std::string> files, directories;
    for (int i = 0; i < 40; ++i) {
      std::string path;
      for (uint64_t n = 1 + random.Below(4); n > 0; --n)
        path += (path.empty() ? "" : "/") + RandomName(random);
      std::error_code error;
      std::filesystem::create_directories(root + "/" + std::string(std::filesystem::path(path).parent_path()),
                                          error);
      if (error || std::filesystem::exists(root + "/" + path)) continue;
      WriteText(root + "/" + path, "");
      files.insert(path);
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
      const std::string path = entry.path().string().substr(root.size() + 1);
      if (entry.is_directory() && path != ".git" && !path.starts_with(".git/")) directories.insert(path);
    }
    const auto write_patterns = [&](const std::string& file) {
      std::string text;
      for (uint64_t n = 1 + random.Below(5); n > 0; --n) text += RandomPattern(random) + "\n";
      WriteText(root + "/" + file, text);
    };
    write_patterns(".gitignore");
    write_patterns(".git/info/exclude");
    for (const std::string& directory : directories) {
      if (random.Percent(30)) write_patterns(directory + "/.gitignore");
    }
    std::string input;
    std::set<std::string> asked = files;
    asked.insert(directories.begin(), directories.end());
    for (const std::string& path : asked) input += path + '\0';
    WriteText(root + "/.git/asked", input);
    const auto outcome = (*session)->Run(sandbox::ShellCommand(
        "git check-ignore --no-index -z --stdin < .git/asked > .git/answer || [ $? = 1 ]"));
    ASSERT_TRUE(outcome.ok() && outcome->exit_code == 0) << outcome->output.head;
    std::set<std::string> expected;
    const std::string answer = ReadText(root + "/.git/answer");
    for (size_t at = 0; at < answer.size(); at = answer.find('\0', at) + 1) {
      expected.insert(answer.substr(at, answer.find('\0', at) - at));
    }
    DiskSource source(root);
    IgnoreMatcher matcher(source);
    for (const std::string& path : asked) {
      const bool ignored = matcher.Ignored(path, directories.contains(path));
      EXPECT_EQ(ignored, expected.contains(path)) << path;
      ++compared;
      ignored_count += ignored ? 1 : 0;
    }
    if (testing::Test::HasFailure()) {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
        if (entry.path().filename() == ".gitignore") {
          ADD_FAILURE() << entry.path() << ":\n" << ReadText(entry.path());
        }
      }
      ADD_FAILURE() << "exclude:\n" << ReadText(root + "/.git/info/exclude");
      return;
    }
  }
  EXPECT_GT(ignored_count * 10, compared);      // the patterns match something
  EXPECT_LT(ignored_count * 10, compared * 9);  // and not everything
}

}  // namespace
}  // namespace holdfast::workspace
