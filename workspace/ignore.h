// Which paths of a tree its .gitignore files tell to leave alone, as git has it (gitignore(5)): nested files,
// the last match of the nearest file decides, `!` takes back unless a directory above is ignored, patterns
// with a `/` are anchored, a `/` at the end means directories, `**`, `?`, `[...]`, escapes, trailing blanks;
// and .git/info/exclude. Left out are the settings of the user (core.excludesFile) and core.ignoreCase. A
// nested repository (a directory with a `.git`) starts anew, with its own files only.
//
// Patterns are a guest's to write, so there are bounds, and no pattern is matched in more than linear time in
// its length times the path's. Beyond a bound nothing is ignored, which errs on the side of keeping files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace holdfast::workspace {

class Tree;

struct IgnoreLimits {
  size_t file_bytes_max = 1 << 20;    // a larger file counts as empty
  size_t patterns_max = 20'000;       // of one file; further lines are left out
  size_t pattern_bytes_max = 1024;    // longer lines are left out
  uint64_t work_max = 1'000'000'000;  // steps of some ns, of one matcher
};

// The patterns of one file. Constant after construction.
class IgnorePatterns {
 public:
  enum class Verdict : uint8_t { kNone, kIgnored, kIncluded };

  explicit IgnorePatterns(std::string_view text, const IgnoreLimits& limits = {});

  // `path` is relative to the directory that holds the file. Adds to `work` what it cost.
  Verdict Match(std::string_view path, bool directory, uint64_t& work) const;
  Verdict Match(std::string_view path, bool directory) const {
    uint64_t work = 0;
    return Match(path, directory, work);
  }

  size_t size() const { return patterns_.size(); }

 private:
  // One step of a pattern. Matching runs all ways through the steps at once.
  struct Step {
    enum class Kind : uint8_t {
      kByte,       // this byte
      kAny,        // any byte but `/`
      kSet,        // a byte of sets_[index]
      kStar,       // any bytes but `/`
      kStarStar,   // any bytes
      kMaybeDirs,  // this step and the two after it (`**` and `/`) may be left out
    } kind;
    uint8_t byte = 0;
    uint16_t index = 0;
  };
  struct ByteSet {
    uint64_t bits[4] = {};
    bool has(uint8_t byte) const { return (bits[byte >> 6] >> (byte & 63) & 1) != 0; }
    void add(uint8_t byte) { bits[byte >> 6] |= uint64_t{1} << (byte & 63); }
  };
  struct Pattern {
    std::string prefix;  // bytes the path starts with
    std::string suffix;  // with kSuffix: bytes the name ends with
    enum class Kind : uint8_t { kExact, kSuffix, kSteps } kind = Kind::kExact;
    bool negative = false;
    bool directory_only = false;
    bool name_only = false;  // matched against the last part of the path
    uint32_t first_step = 0, step_count = 0;
  };
  class Compiler;

  void Add(std::string_view line);
  bool Matches(const Pattern& pattern, std::string_view path, uint64_t& work) const;
  bool Takes(const Step& step, uint8_t byte) const;
  bool RunSteps(const Pattern& pattern, std::string_view text, uint64_t& work) const;

  std::vector<Pattern> patterns_;
  std::vector<Step> steps_;
  std::vector<ByteSet> sets_;
};

// Where the files are read.
class IgnoreSource {
 public:
  virtual ~IgnoreSource() = default;
  // The content of the regular file at `path` of the tree; nothing when there is none, or it cannot be read,
  // or is larger than `bytes_max`.
  virtual std::optional<std::string> Read(const std::string& path, size_t bytes_max) = 0;
  // Whether there is anything called `.git` in this directory.
  virtual bool IsRepository(const std::string& directory) = 0;
};

// The files as they lie in a tree, which outlives it.
class TreeIgnoreSource final : public IgnoreSource {
 public:
  explicit TreeIgnoreSource(Tree& tree) : tree_(tree) {}
  std::optional<std::string> Read(const std::string& path, size_t bytes_max) override;
  bool IsRepository(const std::string& directory) override;

 private:
  Tree& tree_;
};

// Answers for any path; cheapest in the order of a walk, since the files on the way to the last path are
// kept. One thread at a time.
class IgnoreMatcher {
 public:
  explicit IgnoreMatcher(IgnoreSource& source, IgnoreLimits limits = {});

  // Whether `path`, or a directory above it, is ignored.
  bool Ignored(std::string_view path, bool directory);

  // The root of the repository that holds the last path that was asked for.
  const std::string& repository() const { return levels_[levels_.back().repository].directory; }

  // Whether work_max was reached: from then on nothing is ignored.
  bool exhausted() const { return work_ >= limits_.work_max; }

 private:
  // A directory on the way to the last path that was asked for.
  struct Level {
    std::string directory;
    size_t repository = 0;  // index of the level of the repository's root
    bool ignored = false;
    std::optional<IgnorePatterns> file, exclude;  // exclude: at a repository's root only
  };

  void EnterParentOf(std::string_view path);
  Level Load(std::string directory, bool ignored);
  bool IgnoredBy(std::string_view path, bool directory);

  IgnoreSource& source_;
  const IgnoreLimits limits_;
  std::vector<Level> levels_;
  uint64_t work_ = 0;
};

}  // namespace holdfast::workspace
