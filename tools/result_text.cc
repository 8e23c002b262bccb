#include "tools/result_text.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "tools/text/cut_text.h"
#include "tools/text/utf8.h"
#include "tools/tool_data.h"

namespace holdfast::tools {
namespace {

// Room for the mark of a cut, of which the name of the blob is the most.
constexpr size_t kCutMarkBytes = 192;

const ToolTexts& Texts() {
  static const ToolTexts* const texts = [] {
    auto loaded = ToolTexts::Load();
    HF_CHECK(loaded.ok());
    return new ToolTexts(*std::move(loaded));
  }();
  return *texts;
}

}  // namespace

CutResult::CutResult(std::string_view whole, size_t text_bytes_max) {
  const TextCut cut = CutText(whole, text_bytes_max - std::min(text_bytes_max, kCutMarkBytes));
  head_ = cut.head;
  tail_ = cut.tail;
  omitted_bytes_ = cut.omitted_bytes;
  omitted_lines_ = cut.omitted_lines;
}

std::string CutResult::Text(const SpilledBlob* kept) const {
  const std::string bytes = std::to_string(omitted_bytes_), lines = std::to_string(omitted_lines_);
  if (kept == nullptr)
    return head_ + Texts().text("cut_lost").Fill({{"bytes", bytes}, {"lines", lines}}) + tail_;
  const std::string blob = base::ToHex(kept->id);
  return head_ + Texts().text("cut").Fill({{"bytes", bytes}, {"lines", lines}, {"blob", blob}}) + tail_;
}

void BoundResult(ToolResult result, const DispatchLimits& limits, SpillStore* spill, base::Executor& executor,
                 ResultDone done) {
  if (!IsUtf8(result.text)) result.text = RepairUtf8(result.text);
  if (result.text.size() <= limits.result_bytes_max) return done(std::move(result));
  const std::string whole = std::exchange(result.text, {});
  const CutResult cut(whole, limits.result_bytes_max);
  result.text = cut.Text(nullptr);
  if (spill == nullptr || whole.size() > limits.spill_bytes_max) return done(std::move(result));
  executor.PostResult(base::Lane::kStorage, [&executor, spill, whole, cut, result = std::move(result),
                                             done = std::move(done)]() mutable {
    if (const auto kept = spill->Put(whole); kept.ok()) {
      result.text = cut.Text(&*kept);
      result.blobs.push_back(*kept);
    }
    executor.PostResult(base::Lane::kControl, [result = std::move(result), done = std::move(done)]() mutable {
      done(std::move(result));
    });
  });
}

}  // namespace holdfast::tools
