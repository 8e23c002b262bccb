#include <algorithm>
#include <utility>

#include "nlohmann/json.hpp"
#include "tools/files/file_access.h"
#include "tools/files/file_tool_parts.h"
#include "tools/text/file_text.h"
#include "tools/text/utf8.h"

namespace holdfast::tools {
namespace {

struct ReadArguments {
  std::string path;
  uint64_t offset = 1;
  uint64_t limit = 0;
};

class ReadTool final : public Tool {
 public:
  explicit ReadTool(SharedToolData data) : data_(std::move(data)) {}

  const ToolSpec& spec() const override { return data_->spec(); }
  CallTraits Traits(const ToolContext& context, const nlohmann::json&) const override {
    return FileTraits(context, Effect::kReadOnly);
  }
  Subject SubjectOf(const ToolContext& context, const nlohmann::json& arguments) const override {
    return PathSubject(context, {arguments.at("path").get<std::string>()});
  }

  std::unique_ptr<RunningCall> Start(const ToolContext& context, const nlohmann::json& arguments,
                                     Done done) override {
    ReadArguments read{.path = arguments.at("path").get<std::string>()};
    read.offset = static_cast<uint64_t>(arguments.value("offset", int64_t{1}));
    const int64_t limit = arguments.value("limit", data_->limit("lines_default"));
    read.limit = static_cast<uint64_t>(std::min(limit, data_->limit("lines_max")));
    return StartFileCall(
        context,
        [data = data_, read = std::move(read)](const ToolContext& own, CallGate&) {
          return Read(own, *data, read);
        },
        std::move(done));
  }

 private:
  static ToolResult Read(const ToolContext& context, const ToolData& data, const ReadArguments& read) {
    const auto path = NormalisePath(context, read.path);
    if (!path.ok()) {
      return Refused(data, "bad_path", {{"path", read.path}, {"reason", base::Message(path.status())}});
    }
    const FileRead opened = ReadFileFor(context, data, *path, FileNeed::kText);
    if (!opened.file) return opened.refusal;
    ToolResult result = Succeeded(Show(data, *opened.file, read));
    result.observed.push_back({.path = *path, .hash = opened.file->hash});
    return result;
  }

  static std::string Show(const ToolData& data, const OpenedFile& file, const ReadArguments& read) {
    std::string_view text = file.bytes;
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    const std::vector<Line> lines = SplitLines(text);
    const std::string total = std::to_string(lines.size());
    if (lines.empty()) return data.result("empty").Fill({{"path", file.path}});
    if (read.offset > lines.size()) {
      return data.result("beyond").Fill(
          {{"path", file.path}, {"total", total}, {"offset", std::to_string(read.offset)}});
    }
    const size_t bytes_max = static_cast<size_t>(data.limit("result_bytes_max"));
    const uint64_t end = read.offset - 1 + std::min<uint64_t>(read.limit, lines.size() - (read.offset - 1));
    std::string shown;
    uint64_t at = read.offset - 1;
    for (; at < end; ++at) {
      const std::string line = ShowLine(data, lines[at].text, at + 1);
      if (!shown.empty() && shown.size() + line.size() > bytes_max) break;
      shown += line;
    }
    if (at < lines.size()) {
      shown += data.result("more").Fill({{"first", std::to_string(read.offset)},
                                         {"last", std::to_string(at)},
                                         {"total", total},
                                         {"next", std::to_string(at + 1)}});
    }
    return shown;
  }

  static std::string ShowLine(const ToolData& data, std::string_view text, uint64_t number) {
    const std::string_view kept = FirstCharacters(text, static_cast<size_t>(data.limit("line_bytes_max")));
    std::string shown(kept);
    if (kept.size() < text.size()) {
      shown += data.result("cut").Fill({{"count", std::to_string(text.size() - kept.size())}});
    }
    return data.result("line").Fill({{"line", std::to_string(number)}, {"text", shown}});
  }

  const SharedToolData data_;
};

}  // namespace

base::StatusOr<std::unique_ptr<Tool>> MakeReadTool() {
  HF_ASSIGN_OR_RETURN(SharedToolData data, LoadShared("read@2"));
  return std::make_unique<ReadTool>(std::move(data));
}

}  // namespace holdfast::tools
