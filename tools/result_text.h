// Texts of results that are too long for the model: the middle is left out, and the whole kept as a blob.
// Used by the dispatcher, and for results that come from elsewhere.
//
// Threads: control lane, but for CutResult, which is safe from any.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/executor.h"
#include "tools/dispatcher.h"
#include "tools/tool.h"

namespace holdfast::tools {

// A text of which the first and the last part go in.
class CutResult {
 public:
  // `whole` is UTF-8, and longer than `text_bytes_max`.
  CutResult(std::string_view whole, size_t text_bytes_max);

  const std::string& head() const { return head_; }

  // With a mark that says how much is left out, and where the whole is; null: it is lost.
  std::string Text(const SpilledBlob* kept) const;

 private:
  std::string head_, tail_;
  uint64_t omitted_bytes_ = 0;
  uint64_t omitted_lines_ = 0;
};

// Makes the text of a result well-formed and short enough, as those of tools are; what had to be cut is a
// blob of the result when `spill` (which outlives the call; may be null) takes it. `done` once, at once when
// nothing is kept.
void BoundResult(ToolResult result, const DispatchLimits& limits, SpillStore* spill, base::Executor& executor,
                 ResultDone done);

}  // namespace holdfast::tools
