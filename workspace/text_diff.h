// Line by line comparison of two contents, and its unified form, which `git apply` and `patch` take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::workspace {

// Lines [old_begin, old_end) of the old content became lines [new_begin, new_end) of the new one; either may
// be empty. Counted from 0.
struct LineChange {
  uint32_t old_begin = 0, old_end = 0;
  uint32_t new_begin = 0, new_end = 0;

  bool operator==(const LineChange&) const = default;
};

struct TextDiffOptions {
  // Steps the search may take, about 5 ns each. What it has not compared by then counts as replaced, so the
  // result is right but longer than it need be.
  uint64_t steps_max = 20'000'000;
};

// The lines of a content, each with its end; the last may have none.
std::vector<std::string_view> SplitLines(std::string_view text);

// What to change in `before` to get `after`: ascending, neither touching nor overlapping. Shortest, unless
// the bound was reached. Memory: some 40 bytes a line. Method: E. Myers, "An O(ND) difference algorithm and
// its variations" (Algorithmica 1, 1986), section 4b, linear space.
std::vector<LineChange> DiffLines(const std::vector<std::string_view>& before,
                                  const std::vector<std::string_view>& after,
                                  const TextDiffOptions& options = {});

struct LineCounts {
  uint64_t added = 0;
  uint64_t removed = 0;
};
LineCounts Count(const std::vector<LineChange>& changes);

// Whether people see it as text: no NUL byte in the first 8,000, as git decides.
bool IsBinary(std::string_view content);

// The hunks ("@@ -1,4 +1,5 @@" and their lines) with `context` lines around. A last line without an end is
// marked as diff does ("\ No newline at end of file"); carriage returns are printed as they are.
std::string UnifiedHunks(const std::vector<std::string_view>& before,
                         const std::vector<std::string_view>& after, const std::vector<LineChange>& changes,
                         size_t context = 3);

}  // namespace holdfast::workspace
