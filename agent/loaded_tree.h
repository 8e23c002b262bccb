// A directory read into one text, for the beginning of a window: many sessions and forks that begin with the
// same text share one prefill. The same files give the same bytes, wherever they lie and whenever they were
// written.
//
//   Files as they were when this conversation began. A line that begins with "@@@@" is no line of a file: ...
//   @@@@ file src/main.cc
//   int main() {}
//   @@@@ not shown: 1 of 2 files
//   binary, 5120 bytes: logo.png
//   @@@@ end
//
// Order: that of workspace::Tree::Walk, by the bytes of the names, a directory where its name stands. The
// mark is longer than any run of `@` in what is shown, so nothing in a file can be taken for one.
//
// Left out without a word: `.git` at any depth, and what the .gitignore files of the tree ignore
// (workspace/ignore.h). Named with its size and the reason, but not shown: binaries (a NUL byte, or hardly
// any UTF-8), files over a bound, links, which are never followed, and what cannot be read. When not all has
// room, the largest files are only named. The rest is shown whole. Bytes that are no UTF-8 become U+FFFD, and
// a line says so; so does one behind a file without a newline at its end.
//
// Threads: blocks; a thread of its own. Cost: a listing of each directory, and of each file that may have
// room a read and its tokens (some 10 MB/s).
// Source: DESIGN section 6 (window).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "model/tokenizer.h"
#include "workspace/tree.h"

namespace holdfast::agent {

struct LoadLimits {
  int64_t tokens_max = 0;               // of the text; > 0
  uint64_t file_bytes_max = 256 << 10;  // a larger file is only named
  uint64_t text_bytes_max = 64 << 20;   // of all that is shown
  size_t entries_max = 100'000;         // files and links that are not ignored; of one directory too
};

struct LoadProgress {
  uint64_t files = 0;  // that were read
  uint64_t bytes = 0;
  int64_t tokens = 0;
};

struct LoadedText {
  std::string text;         // valid UTF-8; ends with a newline
  int64_t tokens = 0;       // of it
  int64_t files = 0;        // shown
  int64_t left_out = 0;     // only named
  uint64_t file_bytes = 0;  // of the files that are shown
};

// Reads what is beneath `directory` of the tree ("": all of it); paths in the text are relative to the tree's
// root. `progress` is told after each file; false ends it: Cancelled. May be empty.
//
// InvalidArgument when there is nothing to load, or `directory` is ignored; ResourceExhausted beyond
// entries_max; errors of the directory itself.
base::StatusOr<LoadedText> ReadTree(workspace::Tree& tree, std::string_view directory,
                                    const model::Tokenizer& tokenizer, const LoadLimits& limits,
                                    const std::function<bool(const LoadProgress&)>& progress = {});

}  // namespace holdfast::agent
