#include <algorithm>
#include <span>
#include <utility>

#include "nlohmann/json.hpp"
#include "tools/files/file_access.h"
#include "tools/files/file_tool_parts.h"
#include "tools/text/file_text.h"
#include "tools/text/utf8.h"
#include "workspace/tree.h"

namespace holdfast::tools {
namespace {

struct EditArguments {
  std::string path, old_text, new_text;
  Occurrence occurrence = Occurrence::kOne;
};

std::string Joined(const std::vector<uint64_t>& lines, uint64_t count) {
  std::string text;
  for (const uint64_t line : lines) text += (text.empty() ? "" : ", ") + std::to_string(line);
  return count > lines.size() ? text + ", ..." : text;
}

class EditTool final : public Tool {
 public:
  explicit EditTool(SharedToolData data) : data_(std::move(data)) {}

  const ToolSpec& spec() const override { return data_->spec(); }
  CallTraits Traits(const ToolContext& context, const nlohmann::json&) const override {
    return FileTraits(context, Effect::kEffectful);
  }
  Subject SubjectOf(const ToolContext& context, const nlohmann::json& arguments) const override {
    return PathSubject(context, {arguments.at("path").get<std::string>()});
  }

  std::unique_ptr<RunningCall> Start(const ToolContext& context, const nlohmann::json& arguments,
                                     Done done) override {
    EditArguments edit{.path = arguments.at("path").get<std::string>(),
                       .old_text = arguments.at("old_string").get<std::string>(),
                       .new_text = arguments.at("new_string").get<std::string>()};
    if (arguments.value("replace_all", false)) edit.occurrence = Occurrence::kAll;
    return StartFileCall(
        context,
        [data = data_, edit = std::move(edit)](const ToolContext& own, CallGate& gate) {
          return Edit(own, gate, *data, edit);
        },
        std::move(done));
  }

 private:
  static ToolResult Edit(const ToolContext& context, CallGate& gate, const ToolData& data,
                         const EditArguments& edit) {
    const auto path = NormalisePath(context, edit.path);
    if (!path.ok()) {
      return Refused(data, "bad_path", {{"path", edit.path}, {"reason", base::Message(path.status())}});
    }
    if (edit.old_text.empty()) return Refused(data, "empty_old", {});
    if (edit.old_text == edit.new_text) return Refused(data, "same", {});
    if (edit.old_text.size() > static_cast<size_t>(data.limit("old_bytes_max")) ||
        edit.new_text.size() > static_cast<size_t>(data.limit("new_bytes_max"))) {
      return Refused(data, "text_too_large", {});
    }
    const FileRead opened = ReadFileFor(context, data, *path, FileNeed::kText);
    if (!opened.file) return opened.refusal;
    if (SeenOf(context, *path, opened.file->hash) == Seen::kOther)
      return Refused(data, "changed", {{"path", *path}});
    const Replacement made = ReplaceText(opened.file->bytes, edit.old_text, edit.new_text, edit.occurrence,
                                         static_cast<size_t>(data.limit("places_max")));
    if (!made.text) return NotMade(data, *opened.file, edit, made);
    const int64_t bytes_max = data.limit("file_bytes_max");
    if (made.text->size() > static_cast<size_t>(bytes_max)) {
      return Refused(data, "too_large", {{"path", *path}, {"count", std::to_string(bytes_max)}});
    }
    if (!gate.BeginEffect()) return NothingDone();
    const base::Status status = workspace::ReplaceFile(
        *context.files, *path, std::as_bytes(std::span(*made.text)), opened.file->mode);
    if (!status.ok()) return RefusedByTree(data, *path, status);
    ToolResult result = Succeeded(Told(data, *path, made));
    result.observed.push_back({.path = *path, .hash = HashOfText(*made.text)});
    return result;
  }

  static std::string Told(const ToolData& data, const std::string& path, const Replacement& made) {
    const std::string lines = Joined(made.lines, made.count);
    if (made.count == 1) return data.result("done").Fill({{"path", path}, {"line", lines}});
    return data.result("done_all")
        .Fill({{"path", path}, {"count", std::to_string(made.count)}, {"lines", lines}});
  }

  static ToolResult NotMade(const ToolData& data, const OpenedFile& file, const EditArguments& edit,
                            const Replacement& made) {
    if (made.count > 0) {
      return Refused(data, "many",
                     {{"path", file.path},
                      {"count", std::to_string(made.count)},
                      {"lines", Joined(made.lines, made.count)}});
    }
    ToolResult result = Refused(data, "no_match", {{"path", file.path}});
    std::string_view text = file.bytes;
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    const std::vector<Line> lines = SplitLines(text);
    const uint64_t nearest = NearestLine(lines, edit.old_text);
    if (nearest == 0) return result;
    result.text += data.result("nearest").Fill({{"line", std::to_string(nearest)}});
    const uint64_t shown_max = static_cast<uint64_t>(data.limit("lines_shown_max"));
    const uint64_t wanted = std::min<uint64_t>(SplitLines(edit.old_text).size(), shown_max);
    for (uint64_t i = nearest; i <= lines.size() && i < nearest + wanted; ++i) {
      const auto shown =
          FirstCharacters(lines[i - 1].text, static_cast<size_t>(data.limit("line_bytes_max")));
      result.text += data.result("shown").Fill({{"line", std::to_string(i)}, {"text", shown}});
    }
    return result;
  }

  const SharedToolData data_;
};

}  // namespace

base::StatusOr<std::unique_ptr<Tool>> MakeEditTool() {
  HF_ASSIGN_OR_RETURN(SharedToolData data, LoadShared("edit@2"));
  return std::make_unique<EditTool>(std::move(data));
}

}  // namespace holdfast::tools
