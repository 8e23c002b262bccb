#include <algorithm>
#include <optional>

#include "agent/control/control_tool_parts.h"
#include "nlohmann/json.hpp"

namespace holdfast::agent {
namespace {

using tools::ToolData;
using tools::ToolResult;

// A call until its answer.
class Recall {
 public:
  explicit Recall(tools::Done done) : done_(std::move(done)) {}

  void Deliver(ToolResult result) {
    if (!done_.has_value()) return;
    tools::Done done = *std::exchange(done_, std::nullopt);
    done(std::move(result));
  }
  void GiveUp() { done_.reset(); }
  bool is_over() const { return !done_.has_value(); }

 private:
  std::optional<tools::Done> done_;  // none: called, or given up
};

// Shared by the handle and the answer of the host, either of which may go first.
using SharedRecall = std::shared_ptr<Recall>;

class RecallHandle final : public tools::RunningCall {
 public:
  explicit RecallHandle(SharedRecall recall) : recall_(std::move(recall)) {}
  ~RecallHandle() override { recall_->GiveUp(); }
  void Cancel() override { recall_->Deliver({.status = tools::ToolStatus::kCancelled}); }
  bool Harmless() const override { return true; }

 private:
  const SharedRecall recall_;
};

// Whether a character begins at `at`, or the text ends there.
bool IsBorder(std::string_view text, size_t at) {
  return at >= text.size() || (static_cast<unsigned char>(text[at]) & 0xC0) != 0x80;
}

// The last border of characters at or before `at`; `at` itself in what is no UTF-8.
size_t BorderBefore(std::string_view text, size_t at) {
  for (size_t back = 0; back < 4 && back <= at; ++back)
    if (IsBorder(text, at - back)) return at - back;
  return at;
}

// Where a piece that begins at `first` ends: at a border, after at least one character and, when that is not
// longer, at most `bytes_max`.
size_t PieceEnd(std::string_view text, size_t first, size_t bytes_max) {
  const size_t end = std::min(text.size(), first + bytes_max);
  const size_t border = BorderBefore(text, end);
  if (border > first || first == text.size()) return std::max(border, first);
  size_t next = end;
  while (next < first + 4 && !IsBorder(text, next)) ++next;
  return next;
}

std::string ShowHits(const ToolData& data, const std::vector<RecallHit>& hits) {
  if (hits.empty()) return data.result("none").Fill({});
  const std::string cut = data.result("cut").Fill({});
  std::string text;
  for (const RecallHit& hit : hits) {
    const std::string excerpt = (hit.cut_before ? cut : "") + hit.excerpt + (hit.cut_after ? cut : "");
    text +=
        data.result("hit").Fill({{"event", std::to_string(hit.seq)}, {"kind", hit.kind}, {"text", excerpt}});
  }
  return text;
}

// Bytes `from` on of an event's text, at most `limit` of them.
struct Page {
  uint64_t event = 0;
  size_t from = 0;
  size_t limit = 0;
};

ToolResult ShowPage(const ToolData& data, const Page& page, std::string_view text) {
  if (page.from > 0 && page.from >= text.size()) {
    return tools::Failed(data.result("beyond").Fill({{"event", std::to_string(page.event)},
                                                     {"total", std::to_string(text.size())},
                                                     {"offset", std::to_string(page.from)}}));
  }
  const size_t first = BorderBefore(text, page.from);
  const size_t end = PieceEnd(text, first, page.limit);
  std::string shown = data.result("text").Fill({{"text", text.substr(first, end - first)}});
  if (end < text.size()) {
    shown += data.result("more").Fill({{"first", std::to_string(first)},
                                       {"last", std::to_string(end - 1)},
                                       {"total", std::to_string(text.size())},
                                       {"next", std::to_string(end)}});
  }
  return tools::Succeeded(std::move(shown));
}

ToolResult Unreadable(const ToolData& data, const base::Status& status) {
  return {.status = tools::ToolStatus::kUnavailable,
          .text = data.result("failed").Fill({{"reason", base::Message(status)}})};
}

class RecallTool final : public ControlTool {
 public:
  using ControlTool::ControlTool;

  std::unique_ptr<tools::RunningCall> Start(const tools::ToolContext& context,
                                            const nlohmann::json& arguments, tools::Done done) override {
    const bool by_query = arguments.contains("query");
    if (by_query == arguments.contains("event")) {
      return ControlTool::Start(context, arguments, std::move(done));
    }
    const auto recall = std::make_shared<Recall>(std::move(done));  // shared with the answer of the host
    if (by_query) {
      Search(arguments.at("query").get<std::string>(), recall);
    } else {
      Fetch({.event = arguments.at("event").get<uint64_t>(),
             .from = arguments.value("from", size_t{0}),
             .limit = std::min(arguments.value("limit", Bound("text_bytes_max")), Bound("text_bytes_max"))},
            recall);
    }
    if (recall->is_over()) return nullptr;
    return std::make_unique<RecallHandle>(recall);
  }

 private:
  ToolResult Answer(const tools::ToolContext&, const nlohmann::json&) override {
    return tools::Failed(data_.result("which").Fill({}));
  }

  void Search(std::string query, const SharedRecall& recall) {
    host_.Search(std::move(query), Bound("hits_max"),
                 [this, recall](base::StatusOr<std::vector<RecallHit>> hits) {
                   if (recall->is_over()) return;  // and the tool may be gone
                   recall->Deliver(hits.ok() ? tools::Succeeded(ShowHits(data_, *hits))
                                             : Unreadable(data_, hits.status()));
                 });
  }

  void Fetch(const Page& page, const SharedRecall& recall) {
    host_.Fetch(page.event, [this, page, recall](base::StatusOr<std::string> text) {
      if (recall->is_over()) return;  // and the tool may be gone
      if (text.ok()) return recall->Deliver(ShowPage(data_, page, *text));
      if (!absl::IsNotFound(text.status())) return recall->Deliver(Unreadable(data_, text.status()));
      recall->Deliver(tools::Failed(data_.result("no_event").Fill({{"event", std::to_string(page.event)}})));
    });
  }
};

}  // namespace

base::StatusOr<std::unique_ptr<tools::Tool>> MakeRecallTool(ControlHost& host) {
  return MakeControlTool<RecallTool>("recall@1", host);
}

}  // namespace holdfast::agent
