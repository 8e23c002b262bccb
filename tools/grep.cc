// grep@2.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"
#include "tools/commands/command_call.h"
#include "tools/search/search_parts.h"
#include "tools/search_tools.h"
#include "tools/shown_path.h"
#include "tools/text/utf8.h"
#include "tools/tool.h"
#include "tools/tool_data.h"

namespace holdfast::tools {
namespace {

using nlohmann::json;

constexpr int64_t kSlackMs = 10'000;
constexpr size_t kArgumentBytesMax = 1 << 20;  // of the paths of the second run

enum class Mode { kContent, kFiles, kCount };

// One call, from its arguments to its result.
struct GrepSearch {
  std::string pattern;
  std::string path;
  std::string type;
  Mode mode = Mode::kFiles;
  bool ignore_case = false;
  bool multiline = false;
  bool numbers = true;
  int64_t before = 0;
  int64_t after = 0;
  uint64_t limit = 0;
  uint64_t offset = 0;
  SearchPlace place;
  std::optional<PathFilter> filter;
  std::string simple_glob;  // what ripgrep can be told of the filter without harm

  uint64_t wanted() const { return offset + limit; }
};

// Whether ripgrep's types, which know names only, mean the same by it as this tool does.
bool IsSimpleGlob(std::string_view glob) {
  return !glob.empty() && std::all_of(glob.begin(), glob.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-' || c == '*';
  });
}

class Grep final : public Tool {
 public:
  explicit Grep(ToolData data) : data_(std::move(data)) {}
  const ToolSpec& spec() const override { return data_.spec(); }

  CallTraits Traits(const ToolContext&, const json&) const override {
    return {.effect = Effect::kReadOnly,
            .contained = true,
            .confined = true,
            .timeout_ms = 2 * data_.limit("timeout_ms") + kSlackMs};
  }
  Subject SubjectOf(const ToolContext&, const json& arguments) const override {
    return {.kind = Subject::Kind::kText, .texts = {arguments.at("pattern").get<std::string>()}};
  }

  std::unique_ptr<RunningCall> Start(const ToolContext& context, const json& arguments, Done done) override {
    auto search = Parse(context, arguments);
    if (!search.ok()) {
      done(
          Failed(data_.result("bad_pattern").Fill({{"reason", RepairUtf8(base::Message(search.status()))}})));
      return nullptr;
    }
    return CommandCall::Start(
        context, Cancellation::kHarmless,
        // Shared by the steps of the call, of which one may outlive another.
        [this, shared = std::make_shared<const GrepSearch>(*std::move(search))](CommandCall& call) {
          if (!PlaceExists(call.context(), shared->place)) {
            return call.Finish(Failed(data_.result("no_path").Fill({{"path", ShownPath(shared->path)}})));
          }
          FindFiles(call, shared);
        },
        std::move(done));
  }

 private:
  // Shared by the steps of the call.
  using Shared = std::shared_ptr<const GrepSearch>;

  uint64_t WallMs() const { return static_cast<uint64_t>(data_.limit("timeout_ms")); }
  size_t Limit(std::string_view name) const { return static_cast<size_t>(data_.limit(name)); }

  base::StatusOr<GrepSearch> Parse(const ToolContext& context, const json& arguments) const {
    GrepSearch search;
    search.pattern = arguments.at("pattern").get<std::string>();
    if (search.pattern.size() > Limit("pattern_bytes_max")) {
      return base::InvalidArgument("the pattern is longer than " +
                                   std::to_string(Limit("pattern_bytes_max")) + " bytes");
    }
    search.path = arguments.value("path", std::string());
    search.type = arguments.value("type", std::string());
    for (const std::string* text : {&search.pattern, &search.type}) {
      if (text->find('\0') != std::string::npos) return base::InvalidArgument("a NUL byte: write \\x00");
    }
    const std::string mode = arguments.value("output_mode", std::string("files_with_matches"));
    search.mode = mode == "content" ? Mode::kContent : mode == "count" ? Mode::kCount : Mode::kFiles;
    search.ignore_case = arguments.value("-i", false);
    search.multiline = arguments.value("multiline", false);
    search.numbers = arguments.value("-n", true);
    const int64_t around = arguments.value("-C", int64_t{0});
    search.before = arguments.value("-B", around);
    search.after = arguments.value("-A", around);
    search.limit = static_cast<uint64_t>(arguments.value("head_limit", data_.limit("head_limit_default")));
    search.offset = static_cast<uint64_t>(arguments.value("offset", int64_t{0}));
    HF_ASSIGN_OR_RETURN(search.place, PlaceOf(context, search.path));
    if (const std::string glob = arguments.value("glob", std::string()); !glob.empty()) {
      HF_ASSIGN_OR_RETURN(search.filter, PathFilter::Make(context, glob, search.place));
      if (IsSimpleGlob(glob)) search.simple_glob = glob;
    }
    return search;
  }

  static std::vector<std::string> Arguments(const GrepSearch& search) {
    std::vector<std::string> arguments = RipgrepArguments();
    if (search.ignore_case) arguments.push_back("--ignore-case");
    if (search.multiline) arguments.insert(arguments.end(), {"--multiline", "--multiline-dotall"});
    if (!search.type.empty()) {
      arguments.push_back("--type=" + search.type);
    } else if (!search.simple_glob.empty()) {
      // Not --glob: that would search files that are ignored.
      arguments.insert(arguments.end(), {"--type-add=theglob:" + search.simple_glob, "--type=theglob"});
    }
    arguments.push_back("--regexp=" + search.pattern);
    return arguments;
  }

  void FindFiles(CommandCall& call, const Shared& search) {
    const bool paths = search->mode == Mode::kFiles;
    PathCollector::Filter filter;
    if (search->filter.has_value()) {
      filter = [search](std::string_view path) { return search->filter->Matches(path); };
    }
    // Shared with the job, as all that collects its output.
    auto found = std::make_shared<PathCollector>(
        paths ? PathCollector::Records::kPaths : PathCollector::Records::kCounts,
        PathCollector::Bounds{.files_max = static_cast<size_t>(search->wanted())}, std::move(filter));
    std::vector<std::string> arguments = Arguments(*search);
    arguments.insert(arguments.end(),
                     {paths ? "--files-with-matches" : "--count", "--", search->place.argument});
    RunRipgrep(call, {.arguments = std::move(arguments), .output = found, .wall_ms = WallMs()},
               [this, search, found](CommandCall& c, RipgrepEnd end) { Found(c, search, *found, end); });
  }

  void Found(CommandCall& call, const Shared& search, const PathCollector& found, const RipgrepEnd& end) {
    using Kind = RipgrepEnd::Kind;
    const bool ran = end.kind == Kind::kDone || end.kind == Kind::kTimeout || end.kind == Kind::kStopped;
    if (!ran || (found.files() == 0 && end.kind != Kind::kDone)) {
      return call.Finish(NotSearched(data_, end, WallMs()));
    }
    if (found.files() == 0 && end.trouble) return CheckPattern(call, search, end);
    if (found.files() == 0) return call.Finish(Succeeded(data_.result("none").Fill({})));
    if (search->mode == Mode::kContent) return ShowLines(call, search, found, end);
    ToolResult result = Succeeded(FileList(*search, found));
    result.text += PartialText(data_, end, WallMs());
    if (end.kind == Kind::kTimeout) result.status = ToolStatus::kTimeout;
    call.Finish(std::move(result));
  }

  // Nothing was found and something went wrong: is it the call, or a place that cannot be read?
  void CheckPattern(CommandCall& call, const Shared& search, const RipgrepEnd& first) {
    // Shared with the job.
    auto nothing = std::make_shared<PathCollector>(PathCollector::Records::kCounts,
                                                   PathCollector::Bounds{.files_max = 1}, nullptr);
    std::vector<std::string> arguments = Arguments(*search);
    arguments.insert(arguments.end(), {"--count", "--", "-"});
    RunRipgrep(
        call, {.arguments = std::move(arguments), .output = nothing, .wall_ms = WallMs()},
        [this, first](CommandCall& c, RipgrepEnd end) {
          if (end.kind != RipgrepEnd::Kind::kDone) return c.Finish(NotSearched(data_, end, WallMs()));
          if (!end.trouble) {
            return c.Finish(Succeeded(data_.result("none").Fill({}) + PartialText(data_, first, WallMs())));
          }
          std::string reason = RepairUtf8(end.messages->text());
          while (reason.ends_with('\n')) reason.pop_back();
          c.Finish(Failed(data_.result("bad_pattern").Fill({{"reason", reason}})));
        });
  }

  std::string FileList(const GrepSearch& search, const PathCollector& found) const {
    BoundedText shown(Limit("result_bytes_max"));
    uint64_t number = 0, next = search.offset;
    for (const FileHits& file : found.kept()) {
      if (number++ < search.offset) continue;
      const std::string path = ShownPath(file.path);
      const bool added = search.mode == Mode::kFiles
                             ? shown.Add(data_.result("file").Fill({{"path", path}}))
                             : shown.Add(data_.result("count").Fill(
                                   {{"path", path}, {"count", std::to_string(file.count)}}));
      if (!added) break;
      next = number;
    }
    std::string text = shown.Take();
    if (next < found.files()) {
      text += data_.result("more_files")
                  .Fill({{"count", std::to_string(found.files() - next)}, {"offset", std::to_string(next)}});
    }
    return text.empty() ? data_.result("none").Fill({}) : text;
  }

  // The second run: the lines of the files that hold hits number `offset` to `offset + limit`.
  void ShowLines(CommandCall& call, const Shared& search, const PathCollector& found,
                 const RipgrepEnd& first) {
    std::vector<std::string> paths;
    uint64_t before = 0;  // hits in files that are passed over
    uint64_t taken = 0;
    size_t bytes = 0;
    for (const FileHits& file : found.kept()) {
      // With multiline a hit may be many lines, so only lines themselves can be counted.
      if (!search->multiline && taken == 0 && before + file.count <= search->offset) {
        before += file.count;
        continue;
      }
      bytes += file.path.size();
      if (before + taken >= search->wanted() || bytes > kArgumentBytesMax) break;
      taken += std::max<uint64_t>(file.count, 1);
      paths.push_back(file.path.starts_with('/') ? file.path : "./" + file.path);
    }
    if (paths.empty()) return call.Finish(Succeeded(data_.result("none").Fill({})));
    const uint64_t skip = search->offset - before;
    const uint64_t around = static_cast<uint64_t>(search->before + search->after);
    // Shared with the job.
    auto lines = std::make_shared<LineCollector>(
        LineCollector::Bounds{.lines_max = static_cast<size_t>((skip + search->limit) * (1 + around) + 1),
                              .text_bytes_max = Limit("text_bytes_max")});
    std::vector<std::string> arguments = Arguments(*search);
    arguments.insert(arguments.end(),
                     {"--no-heading", "--line-number", "--threads=1", "--no-context-separator",
                      "--max-count=" + std::to_string(skip + search->limit),
                      "--before-context=" + std::to_string(search->before),
                      "--after-context=" + std::to_string(search->after), "--"});
    arguments.insert(arguments.end(), paths.begin(), paths.end());
    RunRipgrep(call, {.arguments = std::move(arguments), .output = lines, .wall_ms = WallMs()},
               [this, search, lines, skip, first, hits = found.hits(), files = found.files()](
                   CommandCall& c, RipgrepEnd end) {
                 const bool ran = end.kind == RipgrepEnd::Kind::kDone || !lines->lines().empty();
                 if (!ran) return c.Finish(NotSearched(data_, end, WallMs()));
                 std::string text = LinesText(*search, *lines, skip, hits, files);
                 text += PartialText(
                     data_, first.trouble || first.kind != RipgrepEnd::Kind::kDone ? first : end, WallMs());
                 const bool timed_out =
                     first.kind == RipgrepEnd::Kind::kTimeout || end.kind == RipgrepEnd::Kind::kTimeout;
                 c.Finish({.status = timed_out ? ToolStatus::kTimeout : ToolStatus::kOk, .text = text});
               });
  }

  std::string LineText(const GrepSearch& search, const HitLine& line) const {
    std::string text = RepairUtf8(line.text);
    if (line.left_bytes > 0) {
      text = data_.result("cut_text").Fill({{"text", text}, {"bytes", std::to_string(line.left_bytes)}});
    } else if (text.ends_with('\r')) {
      text.pop_back();
    }
    if (!search.numbers) return data_.result("hit_bare").Fill({{"text", text}});
    return data_.result(line.context ? "context" : "hit")
        .Fill({{"line", std::to_string(line.line)}, {"text", text}});
  }

  // What stands before a line: the path of its file, or a mark that lines are left out.
  std::string Separator(const HitLine* previous, const HitLine& line, bool context) const {
    if (previous == nullptr || previous->path != line.path) {
      return data_.result("heading").Fill({{"path", ShownPath(line.path)}});
    }
    return context && line.line != previous->line + 1 ? data_.result("gap").Fill({}) : std::string();
  }

  // Hits number `skip` to `skip + limit`, with their context, under the paths of their files.
  std::string LinesText(const GrepSearch& search, const LineCollector& collected, uint64_t skip,
                        uint64_t hits, uint64_t files) const {
    const std::vector<HitLine>& lines = collected.lines();
    const std::vector<uint64_t> owners = HitsOf(lines);
    const bool context = search.before + search.after > 0;
    BoundedText shown(Limit("result_bytes_max"));
    const HitLine* previous = nullptr;
    uint64_t next = skip;
    bool all = collected.complete();
    for (size_t i = 0; i < lines.size(); ++i) {
      if (owners[i] < skip) continue;
      if (owners[i] >= skip + search.limit ||
          !shown.Add(Separator(previous, lines[i], context) + LineText(search, lines[i]))) {
        all = false;
        break;
      }
      previous = &lines[i];
      if (!lines[i].context) next = owners[i] + 1;
    }
    std::string text = shown.Take();
    next += search.offset - skip;
    if (!all || (!search.multiline && next < hits)) {
      text += data_.result("more_lines")
                  .Fill({{"offset", std::to_string(next)},
                         {"lines", std::to_string(hits)},
                         {"files", std::to_string(files)}});
    }
    return text.empty() ? data_.result("none").Fill({}) : text;
  }

  // For each line the number of the hit that it is, or is context of: of the next one where no line is left
  // out between them, else of the one before.
  static std::vector<uint64_t> HitsOf(const std::vector<HitLine>& lines) {
    std::vector<uint64_t> owners(lines.size());
    uint64_t hits = 0;
    for (size_t i = 0; i < lines.size(); ++i) {
      owners[i] = lines[i].context ? std::max<uint64_t>(hits, 1) - 1 : hits;
      if (!lines[i].context) ++hits;
    }
    bool leads = false;  // to a hit without a gap
    for (size_t i = lines.size(); i-- > 0;) {
      const bool joined = i + 1 < lines.size() && lines[i + 1].path == lines[i].path &&
                          lines[i + 1].line == lines[i].line + 1;
      leads = !lines[i].context || (leads && joined);
      if (leads && lines[i].context) owners[i] = owners[i + 1];
    }
    return owners;
  }

  const ToolData data_;
};

}  // namespace

base::StatusOr<std::unique_ptr<Tool>> MakeGrep() {
  HF_ASSIGN_OR_RETURN(ToolData data, ToolData::Load("grep@2"));
  return std::make_unique<Grep>(std::move(data));
}

base::Status AddSearchTools(Registry& registry) {
  for (auto make : {MakeGrep, MakeGlob}) {
    HF_ASSIGN_OR_RETURN(std::unique_ptr<Tool> tool, make());
    HF_RETURN_IF_ERROR(registry.Add(std::move(tool)));
  }
  return absl::OkStatus();
}

}  // namespace holdfast::tools
