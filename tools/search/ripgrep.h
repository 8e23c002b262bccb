// ripgrep as a command in the session's sandbox: what it is told, and what it prints read as it comes, in
// bounded memory. Names may hold any byte but NUL, so records are told apart by NUL.
//
// A search takes two runs: the first names the files that have hits (ripgrep walks with many threads, so in
// any order; the paths that sort first are kept, all are counted), the second prints the lines of the files
// that will be shown, in their order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/status.h"
#include "sandbox/command.h"
#include "sandbox/outcome.h"
#include "sandbox/output.h"
#include "tools/commands/command_call.h"

namespace holdfast::tools {

// `rg` with what every run has in common: no configuration, .gitignore without a repository too, hidden
// files, nothing from within .git and its kin.
std::vector<std::string> RipgrepArguments();

struct FileHits {
  std::string path;    // relative to the workspace, or absolute, as it was asked for
  uint64_t count = 0;  // matching lines; with multiline, matches; 0 when only paths are listed
  friend bool operator<(const FileHits& a, const FileHits& b) { return a.path < b.path; }
};

// Reads what `--null` prints: "PATH NUL COUNT \n" of --count, or "PATH NUL" of --files and
// --files-with-matches. Keeps the paths that sort first.
class PathCollector final : public sandbox::OutputSink {
 public:
  struct Bounds {
    size_t files_max = 0;
    size_t bytes_max = 64 << 20;  // of their paths; what sorts last goes first
  };
  enum class Records { kPaths, kCounts };
  // Null: all paths.
  using Filter = absl::AnyInvocable<bool(std::string_view path)>;

  PathCollector(Records records, Bounds bounds, Filter filter);
  base::Status Append(std::span<const std::byte> bytes) override;
  base::StatusOr<std::string> Finish(const base::Sha256Digest&, uint64_t) override { return std::string(); }

  const std::set<FileHits>& kept() const { return kept_; }  // ascending
  uint64_t files() const { return files_; }                 // all that passed the filter
  uint64_t hits() const { return hits_; }                   // in all of them

 private:
  void Add(std::string path, uint64_t count);

  const Records records_;
  const Bounds bounds_;
  Filter filter_;
  std::string path_;    // of the record under way
  std::string number_;  // behind its NUL
  bool in_number_ = false;
  std::set<FileHits> kept_;
  size_t kept_bytes_ = 0;
  uint64_t files_ = 0;
  uint64_t hits_ = 0;
};

struct HitLine {
  std::string path;
  uint64_t line = 0;
  bool context = false;     // no hit itself
  std::string text;         // the first bytes of the line, without its line break
  uint64_t left_bytes = 0;  // of the line beyond `text`
  bool left_blank = true;   // all of those are blanks
};

// Reads "PATH NUL LINE : TEXT \n" (a hit) and "PATH NUL LINE - TEXT \n" (context).
class LineCollector final : public sandbox::OutputSink {
 public:
  struct Bounds {
    size_t lines_max = 0;       // kept; the rest is counted
    size_t text_bytes_max = 0;  // of each
    bool trim = false;          // leave out blanks at the start of a line
  };
  explicit LineCollector(Bounds bounds) : bounds_(bounds) {}
  base::Status Append(std::span<const std::byte> bytes) override;
  base::StatusOr<std::string> Finish(const base::Sha256Digest&, uint64_t) override { return std::string(); }

  const std::vector<HitLine>& lines() const { return lines_; }
  bool complete() const { return dropped_ == 0; }

 private:
  enum class Part { kPath, kNumber, kText };
  void Take(char c);
  void TakeText(char c);

  const Bounds bounds_;
  Part part_ = Part::kPath;
  HitLine line_;  // under way
  std::vector<HitLine> lines_;
  uint64_t dropped_ = 0;
};

// What ripgrep says on standard error, a line each: their number, and the first in the order of bytes (the
// order of writing is that of its threads).
class MessageCollector final : public sandbox::OutputSink {
 public:
  base::Status Append(std::span<const std::byte> bytes) override;
  base::StatusOr<std::string> Finish(const base::Sha256Digest&, uint64_t) override;

  uint64_t count() const { return count_; }
  const std::string& first() const { return first_; }
  // All of it, up to some kilobytes: of one run that had a single complaint.
  const std::string& text() const { return text_; }

 private:
  void EndLine();
  std::string line_;
  std::string first_;
  std::string text_;
  uint64_t count_ = 0;
};

// What became of a run.
struct RipgrepEnd {
  enum class Kind {
    kDone,       // to its end; `trouble` may say that something could not be read
    kTimeout,    // ended by its limit; what was collected is a part
    kStopped,    // ended by another limit, or by itself: `reason`
    kMissing,    // there is no ripgrep
    kCancelled,  // with the call
    kSandbox,    // the sandbox could not run it: `status`
  };
  Kind kind = Kind::kDone;
  bool trouble = false;  // exit code 2
  std::string reason;
  base::Status status;
  // Shared with the job, which may outlive the call.
  std::shared_ptr<MessageCollector> messages;
};

using RipgrepEnded = absl::AnyInvocable<void(CommandCall& call, RipgrepEnd end)>;

struct RipgrepRun {
  std::vector<std::string> arguments;  // with "rg"
  std::string directory;               // empty: the workspace
  std::shared_ptr<sandbox::OutputSink> output;
  uint64_t wall_ms = 0;
};

void RunRipgrep(CommandCall& call, RipgrepRun run, RipgrepEnded ended);

// "./src/a.cc" -> "src/a.cc".
std::string_view WithoutDot(std::string_view path);

}  // namespace holdfast::tools
