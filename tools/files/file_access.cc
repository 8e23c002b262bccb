#include "tools/files/file_access.h"

#include <span>
#include <utility>
#include <vector>

#include "tools/file_versions.h"
#include "tools/text/file_text.h"
#include "tools/text/nearest.h"
#include "tools/text/utf8.h"
#include "workspace/path.h"
#include "workspace/tree.h"

namespace holdfast::tools {
namespace {

constexpr int64_t kFileTimeoutMs = 30'000;
constexpr size_t kNamesMax = 10'000;

// The part of an absolute path beneath `inside`.
std::optional<std::string_view> Beneath(std::string_view inside, std::string_view path) {
  while (inside.ends_with('/')) inside.remove_suffix(1);
  if (inside.empty() || !path.starts_with(inside)) return std::nullopt;
  path.remove_prefix(inside.size());
  if (!path.empty() && path[0] != '/') return std::nullopt;
  return path;
}

ToolResult Missing(const ToolContext& context, const ToolData& data, const std::string& path) {
  ToolResult result = Refused(data, "no_file", {{"path", path}});
  const std::string parent(workspace::Parent(path));
  const auto entries = context.files->Names(parent, kNamesMax);
  if (!entries.ok()) return result;
  std::vector<std::string> names;
  for (const auto& entry : *entries) {
    if (IsUtf8(entry.name)) names.push_back(entry.name);
  }
  std::string list;
  const size_t count = static_cast<size_t>(data.limit("similar_max"));
  for (const std::string& name : NearestFiles(workspace::BaseName(path), names, count)) {
    list += (list.empty() ? "" : ", ") + (parent.empty() ? name : parent + "/" + name);
  }
  if (!list.empty()) result.text += data.result("similar").Fill({{"paths", list}});
  result.observed.push_back({.path = path});
  return result;
}

}  // namespace

base::StatusOr<std::string> NormalisePath(const ToolContext& context, std::string_view path) {
  if (path.empty()) return base::InvalidArgument("the path is empty");
  if (path[0] == '/') {
    const auto rest = Beneath(context.inside, path);
    if (!rest) {
      return base::InvalidArgument(context.inside.empty()
                                       ? "outside of the workspace: use a path relative to it"
                                       : "outside of the workspace, which is " + context.inside);
    }
    path = *rest;
  }
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (parts.empty()) {
      return base::InvalidArgument("leads out of the workspace");
    } else {
      parts.pop_back();
    }
  }
  std::string normal;
  for (const std::string_view part : parts) (normal += normal.empty() ? "" : "/") += part;
  HF_RETURN_IF_ERROR(workspace::ValidatePath(normal));
  return normal;
}

Subject PathSubject(const ToolContext& context, const std::vector<std::string>& paths) {
  Subject subject{.kind = Subject::Kind::kPath};
  for (const std::string& path : paths) {
    auto normal = NormalisePath(context, path);
    subject.texts.push_back(normal.ok() ? *std::move(normal) : path);
  }
  return subject;
}

CallTraits FileTraits(const ToolContext& context, Effect effect) {
  const bool confined = IsConfined(context);
  return {.effect = effect, .contained = confined, .confined = confined, .timeout_ms = kFileTimeoutMs};
}

ToolResult Refused(const ToolData& data, std::string_view name, std::initializer_list<TemplateValue> values) {
  return Failed(data.result(name).Fill(values));
}

ToolResult RefusedByTree(const ToolData& data, const std::string& path, const base::Status& status) {
  std::string reason = RepairUtf8(base::Message(status));
  if (reason.starts_with(path + ": ")) reason.erase(0, path.size() + 2);
  return Refused(data, "failed", {{"path", path}, {"reason", reason}});
}

FileRead ReadFileFor(const ToolContext& context, const ToolData& data, const std::string& path,
                     FileNeed need) {
  FileRead out;
  const auto refuse = [&](ToolResult result) {
    out.refusal = std::move(result);
    return std::move(out);
  };
  const auto stat = context.files->StatTarget(path);
  if (absl::IsNotFound(stat.status())) {
    out.missing = true;
    return refuse(Missing(context, data, path));
  }
  if (!stat.ok()) return refuse(RefusedByTree(data, path, stat.status()));
  if (stat->kind == workspace::EntryKind::kDirectory) {
    return refuse(Refused(data, "is_directory", {{"path", path.empty() ? "." : path}}));
  }
  if (stat->kind != workspace::EntryKind::kFile)
    return refuse(Refused(data, "not_regular", {{"path", path}}));
  const uint64_t bytes_max = static_cast<uint64_t>(data.limit("file_bytes_max"));
  auto content = workspace::ReadWhole(*context.files, path, bytes_max);
  if (absl::IsResourceExhausted(content.status())) {
    return refuse(Refused(data, "too_large", {{"path", path}, {"count", std::to_string(bytes_max)}}));
  }
  if (!content.ok()) return refuse(RefusedByTree(data, path, content.status()));
  if (need == FileNeed::kText) {
    const std::string reason = WhyNotText(content->bytes);
    if (!reason.empty()) return refuse(Refused(data, "not_text", {{"path", path}, {"reason", reason}}));
  }
  OpenedFile file{.path = path, .bytes = std::move(content->bytes), .mode = content->stat.mode};
  file.hash = HashOfText(file.bytes);
  out.file = std::move(file);
  return out;
}

base::StatusOr<SharedToolData> LoadShared(std::string_view id) {
  HF_ASSIGN_OR_RETURN(ToolData data, ToolData::Load(id));
  return std::make_shared<const ToolData>(std::move(data));  // shared as SharedToolData says
}

base::Sha256Digest HashOfText(std::string_view bytes) {
  return base::Sha256Of(std::as_bytes(std::span(bytes)));
}

Seen SeenOf(const ToolContext& context, const std::string& path,
            const std::optional<base::Sha256Digest>& hash) {
  const auto seen = context.versions == nullptr ? std::nullopt : context.versions->Find(path);
  if (!seen) return Seen::kNever;
  return seen->hash == hash ? Seen::kThis : Seen::kOther;
}

std::unique_ptr<RunningCall> StartFileCall(const ToolContext& context, FileBody body, Done done) {
  if (context.files == nullptr) {
    done({.status = ToolStatus::kUnavailable, .text = "there is no workspace\n"});
    return nullptr;
  }
  return StartBlocking(
      *context.executor,
      [context, body = std::move(body)](CallGate& gate) mutable { return body(context, gate); },
      std::move(done));
}

}  // namespace holdfast::tools
