// A diff as text, for people and for `git apply`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "memory/blob_store.h"
#include "workspace/diff.h"
#include "workspace/text_diff.h"
#include "workspace/tree.h"

namespace holdfast::workspace {

enum class Against {
  kBase,    // what the session changed
  kTheirs,  // what apply would change
};

struct UnifiedOptions {
  Against against = Against::kBase;
  size_t context = 3;
  size_t text_bytes_max = 4 << 20;   // of the result; what does not fit is counted at the end
  size_t file_bytes_max = 16 << 20;  // a larger file is treated as binary
  TextDiffOptions text;
};

// Unified diff with git's extended headers, which `git apply` takes for all text (for binary files it says
// only that they differ; empty directories are not in it). Lines that start with `#` before a header are
// remarks: conflicts, guards, line ends that changed. Reads contents from `blobs`, and from `theirs` with
// Against::kTheirs; what cannot be read is a remark.
base::StatusOr<std::string> UnifiedDiff(const Diff& diff, memory::BlobStore& blobs, Tree* theirs,
                                        const UnifiedOptions& options = {});

struct FileStat {
  std::string path;
  ChangeKind kind = ChangeKind::kModified;
  std::optional<LineCounts> lines;  // none for binary files, directories and what cannot be read
};

// Lines added and removed by each change, base against ours.
base::StatusOr<std::vector<FileStat>> StatDiff(const Diff& diff, memory::BlobStore& blobs,
                                               const UnifiedOptions& options = {});

// " src/main.cc | +12 -3", one line a path, then the sums.
std::string Describe(const std::vector<FileStat>& stats);

// A path as it stands in a diff: as it is, or quoted as git quotes when it holds anything but printable
// ASCII, or quotes or a backslash.
std::string QuoteForDiff(std::string_view path);

}  // namespace holdfast::workspace
