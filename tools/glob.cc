// glob@1.
#include <memory>
#include <string>
#include <utility>

#include "nlohmann/json.hpp"
#include "tools/commands/command_call.h"
#include "tools/search/search_parts.h"
#include "tools/shown_path.h"
#include "tools/tool.h"
#include "tools/tool_data.h"

namespace holdfast::tools {
namespace {

using nlohmann::json;

constexpr int64_t kSlackMs = 10'000;

class Glob final : public Tool {
 public:
  explicit Glob(ToolData data) : data_(std::move(data)) {}
  const ToolSpec& spec() const override { return data_.spec(); }

  CallTraits Traits(const ToolContext&, const json&) const override {
    return {.effect = Effect::kReadOnly,
            .contained = true,
            .confined = true,
            .timeout_ms = data_.limit("timeout_ms") + kSlackMs};
  }
  Subject SubjectOf(const ToolContext&, const json& arguments) const override {
    return {.kind = Subject::Kind::kText, .texts = {arguments.at("pattern").get<std::string>()}};
  }

  std::unique_ptr<RunningCall> Start(const ToolContext& context, const json& arguments, Done done) override {
    const auto pattern = arguments.at("pattern").get<std::string>();
    const std::string path = arguments.value("path", std::string());
    const auto place = PlaceOf(context, path);
    const base::Status placed = place.status();
    const auto filter = placed.ok() ? PathFilter::Make(context, pattern, *place) : placed;
    if (!filter.ok()) {
      done(Failed(data_.result("bad_pattern").Fill({{"reason", base::Message(filter.status())}})));
      return nullptr;
    }
    return CommandCall::Start(
        context, Cancellation::kHarmless,
        [this, path, place = *place, filter = *filter](CommandCall& call) {
          if (!PlaceExists(call.context(), place)) {
            return call.Finish(Failed(data_.result("no_path").Fill({{"path", ShownPath(path)}})));
          }
          Search(call, place, filter);
        },
        std::move(done));
  }

 private:
  uint64_t WallMs() const { return static_cast<uint64_t>(data_.limit("timeout_ms")); }

  void Search(CommandCall& call, const SearchPlace& place, const PathFilter& filter) {
    const PathCollector::Bounds bounds{.files_max = static_cast<size_t>(data_.limit("files_max"))};
    // Shared with the job, which ends by it when the call has been given up.
    auto found = std::make_shared<PathCollector>(PathCollector::Records::kPaths, bounds,
                                                 [filter](std::string_view p) { return filter.Matches(p); });
    std::vector<std::string> arguments = RipgrepArguments();
    arguments.insert(arguments.end(), {"--files", "--", place.argument});
    RunRipgrep(call, {.arguments = std::move(arguments), .output = found, .wall_ms = WallMs()},
               [this, found](CommandCall& c, RipgrepEnd end) { c.Finish(ResultOf(*found, end)); });
  }

  ToolResult ResultOf(const PathCollector& found, const RipgrepEnd& end) const {
    const bool ran = end.kind == RipgrepEnd::Kind::kDone || end.kind == RipgrepEnd::Kind::kTimeout ||
                     end.kind == RipgrepEnd::Kind::kStopped;
    if (!ran || (found.files() == 0 && end.kind != RipgrepEnd::Kind::kDone)) {
      return NotSearched(data_, end, WallMs());
    }
    BoundedText shown(static_cast<size_t>(data_.limit("result_bytes_max")));
    uint64_t count = 0;
    for (const FileHits& file : found.kept()) {
      if (!shown.Add(data_.result("file").Fill({{"path", ShownPath(file.path)}}))) break;
      ++count;
    }
    std::string text = shown.Take();
    if (count < found.files()) {
      text += data_.result("more_files").Fill({{"count", std::to_string(found.files() - count)}});
    }
    if (found.files() == 0) text += data_.result("none").Fill({});
    text += PartialText(data_, end, WallMs());
    const bool timed_out = end.kind == RipgrepEnd::Kind::kTimeout;
    return {.status = timed_out ? ToolStatus::kTimeout : ToolStatus::kOk, .text = std::move(text)};
  }

  const ToolData data_;
};

}  // namespace

base::StatusOr<std::unique_ptr<Tool>> MakeGlob() {
  HF_ASSIGN_OR_RETURN(ToolData data, ToolData::Load("glob@1"));
  return std::make_unique<Glob>(std::move(data));
}

}  // namespace holdfast::tools
