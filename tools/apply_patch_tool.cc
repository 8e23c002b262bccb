#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include "nlohmann/json.hpp"
#include "tools/files/file_access.h"
#include "tools/files/file_tool_parts.h"
#include "tools/text/patch.h"
#include "tools/text/utf8.h"
#include "workspace/tree.h"

namespace holdfast::tools {
namespace {

constexpr uint32_t kNewFileMode = 0644;

// What one file of a patch becomes. Complete before anything is changed.
struct Step {
  PatchFile::Kind kind;
  std::string path;
  std::string to;                 // where the new content goes
  std::string content;            // of an added or updated file
  std::optional<OpenedFile> old;  // what was at `path`
};

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// Turns a patch into steps, or into a refusal. Only reads.
class Planner {
 public:
  Planner(const ToolContext& context, const ToolData& data) : context_(context), data_(data) {}

  bool Plan(std::string_view patch) {
    if (patch.size() > static_cast<size_t>(data_.limit("patch_bytes_max"))) {
      return Refuse("patch_too_large", {{"count", std::to_string(data_.limit("patch_bytes_max"))}});
    }
    const PatchParse parse = ParsePatch(patch, static_cast<size_t>(data_.limit("files_max")));
    if (!parse.problems.empty()) {
      const PatchProblem& problem = parse.problems[0];
      return Refuse("bad_patch",
                    {{"line", std::to_string(problem.line)}, {"reason", RepairUtf8(problem.reason)}});
    }
    return std::all_of(parse.files.begin(), parse.files.end(),
                       [this](const PatchFile& file) { return One(file); });
  }

  std::vector<Step> steps;
  ToolResult refusal;

 private:
  bool Refuse(std::string_view name, std::initializer_list<TemplateValue> values) {
    refusal = Refused(data_, name, values);
    return false;
  }

  // A path that is in the patch once only.
  std::optional<std::string> Path(const std::string& asked) {
    auto path = NormalisePath(context_, asked);
    if (!path.ok()) {
      Refuse("bad_path", {{"path", asked}, {"reason", base::Message(path.status())}});
      return std::nullopt;
    }
    if (!named_.insert(*path).second) {
      Refuse("twice", {{"path", *path}});
      return std::nullopt;
    }
    return *std::move(path);
  }

  bool Free(const std::string& path) {
    const auto stat = context_.files->Stat(path);
    if (absl::IsNotFound(stat.status())) return true;
    if (stat.ok()) return Refuse("exists", {{"path", path}});
    refusal = RefusedByTree(data_, path, stat.status());
    return false;
  }

  bool One(const PatchFile& file) {
    const auto path = Path(file.path);
    if (!path) return false;
    Step step{.kind = file.kind, .path = *path, .to = *path};
    if (file.kind == PatchFile::Kind::kAdd) {
      step.content = file.content;
      if (!Free(*path)) return false;
    } else {
      const bool text = file.kind == PatchFile::Kind::kUpdate && !file.changes.empty();
      FileRead opened = ReadFileFor(context_, data_, *path, text ? FileNeed::kText : FileNeed::kBytes);
      if (!opened.file) {
        refusal = std::move(opened.refusal);
        return false;
      }
      if (SeenOf(context_, *path, opened.file->hash) == Seen::kOther)
        return Refuse("changed", {{"path", *path}});
      step.old = *std::move(opened.file);
    }
    if (file.kind == PatchFile::Kind::kUpdate && !Update(file, step)) return false;
    steps.push_back(std::move(step));
    return true;
  }

  bool Update(const PatchFile& file, Step& step) {
    PatchedText patched = ApplyChanges(step.old->bytes, file.changes);
    if (!patched.fits) return Misfit(step.path, patched.misfit);
    step.content = std::move(patched.text);
    const int64_t bytes_max = data_.limit("file_bytes_max");
    if (step.content.size() > static_cast<size_t>(bytes_max)) {
      return Refuse("too_large", {{"path", step.path}, {"count", std::to_string(bytes_max)}});
    }
    if (file.move_to.empty()) return true;
    const auto to = Path(file.move_to);
    if (!to || !Free(*to)) return false;
    step.to = *to;
    return true;
  }

  bool Misfit(const std::string& path, const PatchMisfit& misfit) {
    const std::string line = std::to_string(misfit.line);
    if (misfit.wanted.empty()) {
      std::string places;
      for (const uint64_t place : misfit.places)
        places += (places.empty() ? "" : ", ") + std::to_string(place);
      return Refuse("many_places", {{"path", path}, {"line", line}, {"lines", places}});
    }
    Refuse("no_place", {{"path", path}, {"line", line}});
    const size_t shown_max = static_cast<size_t>(data_.limit("lines_shown_max"));
    for (size_t i = 0; i < misfit.wanted.size() && i < shown_max; ++i) {
      const auto shown =
          FirstCharacters(misfit.wanted[i], static_cast<size_t>(data_.limit("line_bytes_max")));
      refusal.text += data_.result("shown").Fill({{"text", shown}});
    }
    return false;
  }

  const ToolContext& context_;
  const ToolData& data_;
  std::set<std::string> named_;
};

// Carries steps out, and back when one fails.
class Writer {
 public:
  Writer(workspace::Tree& files, const std::vector<Step>& steps) : files_(files), steps_(steps) {}

  // What could not be done, and where.
  base::Status Run() {
    for (const bool removals : {false, true}) {
      for (const Step& step : steps_) {
        const base::Status status = removals ? Remove(step) : Write(step);
        if (status.ok()) continue;
        failed_path = removals ? step.path : step.to;
        return status;
      }
    }
    return absl::OkStatus();
  }

  // Puts back what was changed, the last change first. What could not be: path and reason.
  std::vector<std::pair<std::string, std::string>> Undo() {
    std::vector<std::pair<std::string, std::string>> left;
    for (; !done_.empty(); done_.pop_back()) {
      const auto& [path, old] = done_.back();
      const base::Status status = old == nullptr
                                      ? files_.Remove(path)
                                      : workspace::ReplaceFile(files_, path, Bytes(old->bytes), old->mode);
      if (!status.ok() && !(old == nullptr && absl::IsNotFound(status))) {
        left.emplace_back(path, RepairUtf8(base::Message(status)));
      }
    }
    return left;
  }

  std::string failed_path;

 private:
  base::Status Write(const Step& step) {
    if (step.kind == PatchFile::Kind::kDelete) return absl::OkStatus();
    const bool fresh = step.kind == PatchFile::Kind::kAdd || step.to != step.path;
    if (fresh) HF_RETURN_IF_ERROR(workspace::MakeParents(files_, step.to));
    done_.emplace_back(step.to, fresh ? nullptr : &*step.old);
    return workspace::ReplaceFile(files_, step.to, Bytes(step.content),
                                  step.old ? step.old->mode : kNewFileMode);
  }

  base::Status Remove(const Step& step) {
    const bool goes = step.kind == PatchFile::Kind::kDelete || step.to != step.path;
    if (!goes) return absl::OkStatus();
    HF_RETURN_IF_ERROR(files_.Remove(step.path));
    done_.emplace_back(step.path, &*step.old);
    return absl::OkStatus();
  }

  workspace::Tree& files_;
  const std::vector<Step>& steps_;
  std::vector<std::pair<std::string, const OpenedFile*>> done_;  // a path, and what was there
};

class ApplyPatchTool final : public Tool {
 public:
  explicit ApplyPatchTool(SharedToolData data) : data_(std::move(data)) {}

  const ToolSpec& spec() const override { return data_->spec(); }
  CallTraits Traits(const ToolContext& context, const nlohmann::json&) const override {
    return FileTraits(context, Effect::kEffectful);
  }

  // All paths that it names; none of a patch that cannot be read, which does nothing.
  Subject SubjectOf(const ToolContext& context, const nlohmann::json& arguments) const override {
    std::vector<std::string> paths;
    const auto patch = arguments.at("patch").get<std::string>();
    for (const PatchFile& file : ParsePatch(patch, static_cast<size_t>(data_->limit("files_max"))).files) {
      paths.push_back(file.path);
      if (!file.move_to.empty()) paths.push_back(file.move_to);
    }
    return PathSubject(context, paths);
  }

  std::unique_ptr<RunningCall> Start(const ToolContext& context, const nlohmann::json& arguments,
                                     Done done) override {
    return StartFileCall(
        context,
        [data = data_, patch = arguments.at("patch").get<std::string>()](
            const ToolContext& own, CallGate& gate) { return Apply(own, gate, *data, patch); },
        std::move(done));
  }

 private:
  static ToolResult Apply(const ToolContext& context, CallGate& gate, const ToolData& data,
                          const std::string& patch) {
    Planner planner(context, data);
    if (!planner.Plan(patch)) {
      planner.refusal.text += data.result("nothing").Fill({});
      return std::move(planner.refusal);
    }
    if (!gate.BeginEffect()) return NothingDone();
    Writer writer(*context.files, planner.steps);
    const base::Status status = writer.Run();
    if (!status.ok()) return Undone(data, writer, status);
    ToolResult result = Succeeded("");
    for (const Step& step : planner.steps) Tell(data, step, result);
    return result;
  }

  static ToolResult Undone(const ToolData& data, Writer& writer, const base::Status& status) {
    ToolResult result = RefusedByTree(data, writer.failed_path, status);
    const auto left = writer.Undo();
    for (const auto& [path, reason] : left) {
      result.text += data.result("not_undone").Fill({{"path", path}, {"reason", reason}});
    }
    if (left.empty()) result.text += data.result("undone").Fill({});
    return result;
  }

  static void Tell(const ToolData& data, const Step& step, ToolResult& result) {
    switch (step.kind) {
      case PatchFile::Kind::kAdd:
        result.text += data.result("added").Fill({{"path", step.path}});
        break;
      case PatchFile::Kind::kDelete:
        result.text += data.result("deleted").Fill({{"path", step.path}});
        break;
      case PatchFile::Kind::kUpdate:
        result.text += step.to == step.path
                           ? data.result("updated").Fill({{"path", step.path}})
                           : data.result("moved").Fill({{"path", step.path}, {"to", step.to}});
        break;
    }
    const bool goes = step.kind == PatchFile::Kind::kDelete || step.to != step.path;
    if (goes) result.observed.push_back({.path = step.path});
    if (step.kind != PatchFile::Kind::kDelete)
      result.observed.push_back({.path = step.to, .hash = HashOfText(step.content)});
  }

  const SharedToolData data_;
};

}  // namespace

base::StatusOr<std::unique_ptr<Tool>> MakeApplyPatchTool() {
  HF_ASSIGN_OR_RETURN(SharedToolData data, LoadShared("apply_patch@1"));
  return std::make_unique<ApplyPatchTool>(std::move(data));
}

}  // namespace holdfast::tools
