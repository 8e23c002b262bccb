#include <span>
#include <utility>

#include "nlohmann/json.hpp"
#include "tools/files/file_access.h"
#include "tools/files/file_tool_parts.h"
#include "tools/text/file_text.h"
#include "workspace/tree.h"

namespace holdfast::tools {
namespace {

constexpr uint32_t kNewFileMode = 0644;

class WriteTool final : public Tool {
 public:
  explicit WriteTool(SharedToolData data) : data_(std::move(data)) {}

  const ToolSpec& spec() const override { return data_->spec(); }
  CallTraits Traits(const ToolContext& context, const nlohmann::json&) const override {
    return FileTraits(context, Effect::kIdempotent);
  }
  Subject SubjectOf(const ToolContext& context, const nlohmann::json& arguments) const override {
    return PathSubject(context, {arguments.at("path").get<std::string>()});
  }

  std::unique_ptr<RunningCall> Start(const ToolContext& context, const nlohmann::json& arguments,
                                     Done done) override {
    return StartFileCall(
        context,
        [data = data_, path = arguments.at("path").get<std::string>(),
         content = arguments.at("content").get<std::string>()](const ToolContext& own, CallGate& gate) {
          return Write(own, gate, *data, path, content);
        },
        std::move(done));
  }

 private:
  static ToolResult Write(const ToolContext& context, CallGate& gate, const ToolData& data,
                          const std::string& asked_path, const std::string& content) {
    const auto path = NormalisePath(context, asked_path);
    if (!path.ok()) {
      return Refused(data, "bad_path", {{"path", asked_path}, {"reason", base::Message(path.status())}});
    }
    const int64_t bytes_max = data.limit("content_bytes_max");
    if (content.size() > static_cast<size_t>(bytes_max)) {
      return Refused(data, "content_too_large", {{"count", std::to_string(bytes_max)}});
    }
    const FileRead old = ReadFileFor(context, data, *path, FileNeed::kBytes);
    if (!old.file && !old.missing) return old.refusal;
    const base::Sha256Digest hash = HashOfText(content);
    if (old.file && old.file->hash == hash) return Finished(data, "same", *path, content, hash);
    if (old.file) {
      const Seen seen = SeenOf(context, *path, old.file->hash);
      if (seen != Seen::kThis)
        return Refused(data, seen == Seen::kNever ? "unread" : "changed", {{"path", *path}});
    }
    if (!gate.BeginEffect()) return NothingDone();
    base::Status status = old.file ? absl::OkStatus() : workspace::MakeParents(*context.files, *path);
    if (status.ok()) {
      status = workspace::ReplaceFile(*context.files, *path, std::as_bytes(std::span(content)),
                                      old.file ? old.file->mode : kNewFileMode);
    }
    if (!status.ok()) return RefusedByTree(data, *path, status);
    return Finished(data, old.file ? "written" : "created", *path, content, hash);
  }

  static ToolResult Finished(const ToolData& data, std::string_view name, const std::string& path,
                             std::string_view content, const base::Sha256Digest& hash) {
    const std::string lines = std::to_string(SplitLines(content).size());
    ToolResult result =
        Succeeded(name == "same" ? data.result(name).Fill({{"path", path}})
                                 : data.result(name).Fill({{"path", path}, {"lines", lines}}));
    result.observed.push_back({.path = path, .hash = hash});
    return result;
  }

  const SharedToolData data_;
};

}  // namespace

base::StatusOr<std::unique_ptr<Tool>> MakeWriteTool() {
  HF_ASSIGN_OR_RETURN(SharedToolData data, LoadShared("write@1"));
  return std::make_unique<WriteTool>(std::move(data));
}

}  // namespace holdfast::tools
