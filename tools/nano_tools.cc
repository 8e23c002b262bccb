#include "tools/nano_tools.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/coding.h"
#include "nlohmann/json.hpp"
#include "sandbox/sandbox.h"
#include "tools/background_jobs.h"
#include "tools/blocking_call.h"
#include "tools/commands/command_call.h"
#include "tools/commands/command_output.h"
#include "tools/search/ripgrep.h"
#include "tools/text/nano_text.h"
#include "tools/text/utf8.h"
#include "tools/tool.h"
#include "tools/tool_data.h"
#include "workspace/tree.h"

namespace holdfast::tools {
namespace {

using nlohmann::json;
using sandbox::Ending;
using sandbox::LimitKind;
using workspace::Tree;

constexpr int64_t kSlackMs = 20'000;
constexpr uint64_t kSearchMs = 60'000;
constexpr size_t kPatternBytesMax = 100'000;  // of an argument of a program

class NanoTool : public Tool {
 public:
  explicit NanoTool(ToolData data) : data_(std::move(data)) {}
  const ToolSpec& spec() const override { return data_.spec(); }

 protected:
  std::string Fill(std::string_view name) const { return data_.result(name).Fill({}); }
  std::string FillCount(std::string_view name, uint64_t count) const {
    return data_.result(name).Fill({{"count", std::to_string(count)}});
  }
  size_t Limit(std::string_view name) const { return static_cast<size_t>(data_.limit(name)); }

  const ToolData data_;
};

Subject PathSubject(const json& arguments) {
  return {.kind = Subject::Kind::kPath, .texts = {arguments.at("path").get<std::string>()}};
}

// The text of a file for read and edit. An error: what the host could not do; none: to the model there is no
// such file.
base::StatusOr<std::optional<workspace::FileContent>> ReadText(Tree& files, const std::string& path,
                                                               size_t bytes_max) {
  auto content = workspace::ReadWhole(files, path, bytes_max);
  if (content.ok()) {
    if (IsBinary(content->bytes)) return std::nullopt;
    return *std::move(content);
  }
  switch (content.status().code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kResourceExhausted:
      return std::nullopt;
    default:
      return content.status();
  }
}

// ---- read@1 ----

// The whole number that an argument is, brought within what a file can have.
int64_t LineNumber(const json& value) {
  constexpr int64_t kMost = int64_t{1} << 52;
  if (value.is_number_float()) {
    return static_cast<int64_t>(std::clamp(value.get<double>(), 1.0, static_cast<double>(kMost)));
  }
  if (value.is_number_unsigned()) return static_cast<int64_t>(std::clamp<uint64_t>(value, 1, kMost));
  return std::clamp<int64_t>(value.get<int64_t>(), 1, kMost);
}

class NanoRead final : public NanoTool {
 public:
  using NanoTool::NanoTool;

  CallTraits Traits(const ToolContext&, const json&) const override {
    return {.effect = Effect::kReadOnly, .contained = true, .confined = true, .timeout_ms = kSlackMs};
  }
  Subject SubjectOf(const ToolContext&, const json& arguments) const override {
    return PathSubject(arguments);
  }
  std::unique_ptr<RunningCall> Start(const ToolContext& context, const json& arguments, Done done) override {
    return StartBlocking(
        *context.executor,
        [this, context, path = arguments.at("path").get<std::string>(),
         line = LineNumber(arguments.at("line"))](CallGate&) {
          const auto content = ReadText(*context.files, path, Limit("file_bytes_max"));
          if (!content.ok()) return SandboxFailure(content.status());
          return content->has_value() ? Succeeded(Lines((*content)->bytes, static_cast<uint64_t>(line)))
                                      : Failed(Fill("no_file"));
        },
        std::move(done));
  }

 private:
  std::string Lines(std::string_view text, uint64_t first) const {
    const uint64_t last = first + Limit("lines_max");  // past it
    std::string result;
    uint64_t number = 1;
    for (; !text.empty() && number < last; ++number) {
      const size_t end = std::min(text.find('\n'), text.size());
      if (number >= first) {
        const std::string line = NanoLine(text.substr(0, end), Limit("text_bytes_max"), Indent::kKept);
        result += data_.result("line").Fill({{"line", std::to_string(number)}, {"text", line}});
      }
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return text.empty() ? result + Fill("end") : result;
  }
};

// ---- edit@1 ----

class NanoEdit final : public NanoTool {
 public:
  using NanoTool::NanoTool;

  CallTraits Traits(const ToolContext& context, const json&) const override {
    const bool confined = IsConfined(context);
    return {
        .effect = Effect::kEffectful, .contained = confined, .confined = confined, .timeout_ms = kSlackMs};
  }
  Subject SubjectOf(const ToolContext&, const json& arguments) const override {
    return PathSubject(arguments);
  }
  std::unique_ptr<RunningCall> Start(const ToolContext& context, const json& arguments, Done done) override {
    return StartBlocking(
        *context.executor,
        [this, context, path = arguments.at("path").get<std::string>(),
         old = arguments.at("old").get<std::string>(), replacement = arguments.at("new").get<std::string>()](
            CallGate& gate) { return Edit(*context.files, path, old, replacement, gate); },
        std::move(done));
  }

 private:
  ToolResult Edit(Tree& files, const std::string& path, const std::string& old,
                  const std::string& replacement, CallGate& gate) const {
    const auto content = ReadText(files, path, Limit("file_bytes_max"));
    if (!content.ok()) return SandboxFailure(content.status());
    if (!content->has_value()) return Failed(Fill("no_file"));
    if (old.size() > Limit("old_bytes_max") || replacement.size() > Limit("new_bytes_max")) {
      return Failed(Fill("no_match"));
    }
    const auto replaced = ReplaceWholeWords((*content)->bytes, old, replacement, Limit("file_bytes_max"));
    if (!replaced.has_value() || replaced->count == 0) return Failed(Fill("no_match"));
    if (!gate.BeginEffect()) return {.status = ToolStatus::kCancelled};
    const base::Status written =
        workspace::ReplaceFile(files, path, base::AsBytes(replaced->text), (*content)->stat.mode);
    if (!written.ok()) return SandboxFailure(written);
    return Succeeded(FillCount("done", replaced->count));
  }
};

// ---- bash@1 ----

class NanoBash final : public NanoTool {
 public:
  using NanoTool::NanoTool;

  CallTraits Traits(const ToolContext& context, const json&) const override {
    const bool confined = IsConfined(context);
    const bool alone = context.jobs == nullptr || context.jobs->running() == 0;
    return {.effect = Effect::kEffectful,
            .contained = confined && alone,
            .confined = confined,
            .timeout_ms = data_.limit("seconds_max") * 1000 + kSlackMs};
  }
  Subject SubjectOf(const ToolContext&, const json& arguments) const override {
    return {.kind = Subject::Kind::kCommand, .texts = {arguments.at("command").get<std::string>()}};
  }
  std::unique_ptr<RunningCall> Start(const ToolContext& context, const json& arguments, Done done) override {
    auto command = arguments.at("command").get<std::string>();
    if (command.find('\0') != std::string::npos) {  // no program can be given it
      sandbox::Outcome refused{.ending = Ending::kNotStarted};
      done(ResultOf(NanoOutput(0), refused));
      return nullptr;
    }
    return CommandCall::Start(
        context, Cancellation::kAfterward,
        [this, command = std::move(command)](CommandCall& call) {
          // Shared with the job, which ends by it when the call has been given up.
          auto output = std::make_shared<NanoOutput>(Limit("output_bytes_max"));
          call.Run({.command = sandbox::ShellCommand(command),
                    .limits = LimitsFor(*call.context().session, Limit("seconds_max") * 1000),
                    .output = OutputCollector::Options(),
                    .sink = output},
                   [this, output](CommandCall& c, base::StatusOr<sandbox::Outcome> outcome) {
                     if (outcome.ok()) return c.Finish(ResultOf(*output, *outcome));
                     c.Finish(c.cancelled() ? ToolResult{.status = ToolStatus::kCancelled}
                                            : SandboxFailure(outcome.status()));
                   });
        },
        std::move(done));
  }

 private:
  ToolResult ResultOf(const NanoOutput& output, const sandbox::Outcome& outcome) const {
    std::string shown(output.head());
    if (output.cut_bytes() > 0) shown += FillCount("cut", output.cut_bytes());
    shown += output.tail();
    if (!shown.empty() && shown.back() != '\n') shown += '\n';
    const bool timed_out = outcome.ending == Ending::kLimit && outcome.limit == LimitKind::kWallTime;
    return {
        .status = StatusOf(outcome),
        .text = data_.result("output").Fill({{"output", shown}}) +
                (timed_out ? Fill("timeout")
                           : data_.result("exit").Fill({{"code", std::to_string(ShellExitCode(outcome))}}))};
  }
};

// ---- grep@1 ----

// A file with hits of its own, not yet shown.
struct NanoSearch {
  std::string pattern;
  std::vector<FileHits> files;  // that will be shown
  uint64_t more_files = 0;
};

class NanoGrep final : public NanoTool {
 public:
  using NanoTool::NanoTool;

  CallTraits Traits(const ToolContext&, const json&) const override {
    return {.effect = Effect::kReadOnly,
            .contained = true,
            .confined = true,
            .timeout_ms = 2 * static_cast<int64_t>(kSearchMs) + kSlackMs};
  }
  Subject SubjectOf(const ToolContext&, const json& arguments) const override {
    return {.kind = Subject::Kind::kText, .texts = {arguments.at("pattern").get<std::string>()}};
  }
  std::unique_ptr<RunningCall> Start(const ToolContext& context, const json& arguments, Done done) override {
    auto pattern = arguments.at("pattern").get<std::string>();
    if (pattern.size() > kPatternBytesMax || pattern.find('\0') != std::string::npos) {
      done(Failed(Fill("bad_pattern")));
      return nullptr;
    }
    return CommandCall::Start(
        context, Cancellation::kHarmless,
        [this, pattern = std::move(pattern)](CommandCall& call) { FindFiles(call, pattern); },
        std::move(done));
  }

 private:
  std::vector<std::string> Arguments(const std::string& pattern) const {
    std::vector<std::string> arguments = RipgrepArguments();
    // What is no text is told by this tool's own rule; the repository's ignore files count, ripgrep's do not.
    for (const char* flag : {"--text", "--encoding=none", "--word-regexp", "--no-ignore-dot"}) {
      arguments.push_back(flag);
    }
    arguments.push_back("--max-filesize=" + std::to_string(Limit("file_bytes_max")));
    arguments.push_back("--regexp=" + pattern);
    return arguments;
  }

  void FindFiles(CommandCall& call, const std::string& pattern) {
    // Shared with the job, as all that collects its output.
    auto found = std::make_shared<PathCollector>(PathCollector::Records::kCounts,
                                                 PathCollector::Bounds{.files_max = 1'000'000}, nullptr);
    std::vector<std::string> arguments = Arguments(pattern);
    arguments.insert(arguments.end(), {"--count", "--", "./"});
    RunRipgrep(call, {.arguments = std::move(arguments), .output = found, .wall_ms = kSearchMs},
               [this, found, pattern](CommandCall& c, RipgrepEnd end) {
                 if (end.kind != RipgrepEnd::Kind::kDone) return c.Finish(Unsearched(end));
                 if (found->files() == 0) {
                   return end.trouble ? CheckPattern(c, pattern) : c.Finish(Succeeded(Fill("none")));
                 }
                 ShowLines(c, pattern, *found);
               });
  }

  // Nothing was found and something went wrong: is it the pattern, or a directory that cannot be read?
  void CheckPattern(CommandCall& call, const std::string& pattern) {
    // Shared with the job.
    auto nothing = std::make_shared<PathCollector>(PathCollector::Records::kCounts,
                                                   PathCollector::Bounds{.files_max = 1}, nullptr);
    std::vector<std::string> arguments = Arguments(pattern);
    arguments.insert(arguments.end(), {"--count", "--", "-"});
    RunRipgrep(call, {.arguments = std::move(arguments), .output = nothing, .wall_ms = kSearchMs},
               [this](CommandCall& c, RipgrepEnd end) {
                 if (end.kind != RipgrepEnd::Kind::kDone) return c.Finish(Unsearched(end));
                 c.Finish(end.trouble ? Failed(Fill("bad_pattern")) : Succeeded(Fill("none")));
               });
  }

  void ShowLines(CommandCall& call, const std::string& pattern, const PathCollector& found) {
    // Shared by the steps of the call.
    auto search = std::make_shared<NanoSearch>(NanoSearch{.pattern = pattern});
    for (const FileHits& file : found.kept()) {
      if (!IsSearched(*call.context().files, file.path)) continue;
      if (search->files.size() < Limit("files_max")) {
        search->files.push_back(file);
      } else {
        ++search->more_files;
      }
    }
    if (search->files.empty()) return call.Finish(Succeeded(Fill("none")));
    // Shared with the job.
    auto lines = std::make_shared<LineCollector>(
        LineCollector::Bounds{.lines_max = Limit("files_max") * Limit("hits_per_file_max"),
                              .text_bytes_max = Limit("text_bytes_max") + 4,  // for a character cut in two
                              .trim = true});
    std::vector<std::string> arguments = Arguments(pattern);
    arguments.insert(arguments.end(), {"--no-heading", "--line-number", "--threads=1",
                                       "--max-count=" + std::to_string(Limit("hits_per_file_max")), "--"});
    for (const FileHits& file : search->files) arguments.push_back("./" + file.path);
    RunRipgrep(call, {.arguments = std::move(arguments), .output = lines, .wall_ms = kSearchMs},
               [this, search, lines](CommandCall& c, RipgrepEnd end) {
                 if (end.kind != RipgrepEnd::Kind::kDone) return c.Finish(Unsearched(end));
                 c.Finish(Succeeded(Text(*search, lines->lines())));
               });
  }

  // By the rule for files that hold no text. A file that is gone meanwhile has no hits either.
  static bool IsSearched(Tree& files, const std::string& path) {
    const auto file = files.OpenFile(path);
    if (!file.ok()) return false;
    std::array<std::byte, 8192> start;
    const auto size = (*file)->ReadAt(0, start);
    return size.ok() && !IsBinary(base::AsText(std::span(start).first(*size)));
  }

  std::string Text(const NanoSearch& search, const std::vector<HitLine>& lines) const {
    std::string text;
    size_t next = 0;
    for (const FileHits& file : search.files) {
      text += data_.result("file").Fill({{"path", RepairUtf8(file.path)}});
      for (; next < lines.size() && lines[next].path == file.path; ++next) {
        text += data_.result("hit").Fill(
            {{"line", std::to_string(lines[next].line)}, {"text", Shown(lines[next])}});
      }
      if (file.count > Limit("hits_per_file_max")) {
        text += FillCount("more_hits", file.count - Limit("hits_per_file_max"));
      }
    }
    if (search.more_files > 0) text += FillCount("more_files", search.more_files);
    return text;
  }

  // As NanoLine of the whole line.
  std::string Shown(const HitLine& line) const {
    std::string text = line.text;
    if (!line.left_blank) text += 'x';  // blanks before what was not kept are not at the end of the line
    return NanoLine(text, Limit("text_bytes_max"), Indent::kTrimmed);
  }

  ToolResult Unsearched(const RipgrepEnd& end) const {
    switch (end.kind) {
      case RipgrepEnd::Kind::kCancelled:
        return {.status = ToolStatus::kCancelled};
      case RipgrepEnd::Kind::kTimeout:
        return {.status = ToolStatus::kTimeout, .text = end.reason + "\n"};
      case RipgrepEnd::Kind::kSandbox:
        return SandboxFailure(end.status);
      case RipgrepEnd::Kind::kMissing:
        return {.status = ToolStatus::kUnavailable,
                .text = "ripgrep is not installed here (Debian package: ripgrep)\n"};
      case RipgrepEnd::Kind::kStopped:
      case RipgrepEnd::Kind::kDone:
        break;
    }
    return {.status = ToolStatus::kUnavailable, .text = RepairUtf8(end.reason) + "\n"};
  }
};

template <typename T>
base::Status Add(Registry& registry, std::string_view id) {
  HF_ASSIGN_OR_RETURN(ToolData data, ToolData::Load(id));
  return registry.Add(std::make_unique<T>(std::move(data)));
}

}  // namespace

base::Status AddNanoTools(Registry& registry) {
  HF_RETURN_IF_ERROR(Add<NanoGrep>(registry, "grep@1"));
  HF_RETURN_IF_ERROR(Add<NanoRead>(registry, "read@1"));
  HF_RETURN_IF_ERROR(Add<NanoEdit>(registry, "edit@1"));
  return Add<NanoBash>(registry, "bash@1");
}

}  // namespace holdfast::tools
