// What the file tools share: from a path as the model wrote it to the bytes of a file, or to a result that
// says why not.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "tools/blocking_call.h"
#include "tools/tool.h"
#include "tools/tool_data.h"

namespace holdfast::tools {

// A path relative to the workspace, without `.`, `..` and doubled slashes: "./src//a.cc" and, where commands
// see the workspace at /repo, "/repo/src/a.cc" are "src/a.cc". InvalidArgument with a reason to show for what
// is empty, leads out, or is no path. `..` is taken by name, not by where a link may lead.
base::StatusOr<std::string> NormalisePath(const ToolContext& context, std::string_view path);

// The subject of a call about these paths.
Subject PathSubject(const ToolContext& context, const std::vector<std::string>& paths);

// Traits of a tool that only reads, or that changes files of the workspace.
CallTraits FileTraits(const ToolContext& context, Effect effect);

// The template `name` of a tool, filled, as a result that the model can act on.
ToolResult Refused(const ToolData& data, std::string_view name, std::initializer_list<TemplateValue> values);

// What to say of an error of the tree.
ToolResult RefusedByTree(const ToolData& data, const std::string& path, const base::Status& status);

struct OpenedFile {
  std::string path;  // relative to the workspace
  std::string bytes;
  uint32_t mode = 0;
  base::Sha256Digest hash = {};
};

enum class FileNeed {
  kBytes,  // any regular file
  kText,   // UTF-8
};

// Reads a file. Else `refusal` is set, from the templates no_file, similar, is_directory, not_regular,
// too_large, not_text and failed of the tool: all of them with {path}.
struct FileRead {
  std::optional<OpenedFile> file;
  ToolResult refusal;
  bool missing = false;  // there is nothing of that name
};
FileRead ReadFileFor(const ToolContext& context, const ToolData& data, const std::string& path,
                     FileNeed need);

base::Sha256Digest HashOfText(std::string_view bytes);

// Whether the model has seen this content of the file last, another one, or none.
enum class Seen { kNever, kThis, kOther };
Seen SeenOf(const ToolContext& context, const std::string& path,
            const std::optional<base::Sha256Digest>& hash);

// Starts `body(context, gate)` on the tools lane; kUnavailable without files. The body gets a context of its
// own.
using FileBody = absl::AnyInvocable<ToolResult(const ToolContext& context, CallGate& gate)>;
std::unique_ptr<RunningCall> StartFileCall(const ToolContext& context, FileBody body, Done done);

// Shared with the calls under way, which may outlive their tool.
using SharedToolData = std::shared_ptr<const ToolData>;
// Of a built-in file.
base::StatusOr<SharedToolData> LoadShared(std::string_view id);

// What a cancelled body returns; nobody sees it.
inline ToolResult NothingDone() { return {.status = ToolStatus::kCancelled}; }

}  // namespace holdfast::tools
