// holdfast tools: the tools of the model in a person's hands, and in a trainer's.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "agent/control_tools.h"
#include "base/file.h"
#include "base/hash.h"
#include "cli/commands.h"
#include "cli/json_lines.h"
#include "cli/tool_box.h"
#include "model/json.h"
#include "tools/built_in_tools.h"
#include "tools/tool_data.h"
#include "workspace/tree.h"

namespace holdfast::cli {
namespace {

using model::Json;

struct ListOptions {
  std::string profile;
  bool schema = false;
};

// One line of `list` for a tool.
std::string ListLine(const tools::ToolSpec& spec, bool schema) {
  if (schema) return spec.function;
  const auto function = Json::Parse(spec.function);
  const Json* const description = function.ok() ? function->Find("description") : nullptr;
  std::string text = description != nullptr ? description->text() : std::string();
  if (const size_t end = text.find(". "); end != std::string::npos) text.resize(end + 1);
  char line[32];
  std::snprintf(line, sizeof(line), "%-14s ", spec.id().c_str());
  return line + text;
}

base::StatusOr<std::vector<std::string>> IdsToList(const std::string& profile_name) {
  if (!profile_name.empty()) {
    HF_ASSIGN_OR_RETURN(tools::Profile profile, tools::Profile::Load(profile_name));
    return std::move(profile.tools);
  }
  tools::Registry registry;
  HF_RETURN_IF_ERROR(tools::AddBuiltInTools(registry));
  std::vector<std::string> ids = registry.ids();
  for (std::string& id : agent::ControlToolIds()) ids.push_back(std::move(id));
  std::sort(ids.begin(), ids.end());
  return ids;
}

base::Status List(const ListOptions& options) {
  HF_ASSIGN_OR_RETURN(const std::vector<std::string> ids, IdsToList(options.profile));
  for (const std::string& id : ids) {
    HF_ASSIGN_OR_RETURN(const tools::ToolData data, tools::ToolData::Load(id));
    std::cout << ListLine(data.spec(), options.schema) << "\n";
  }
  return absl::OkStatus();
}

Json ResultJson(const tools::ToolResult& result) {
  Json line = Json::Object();
  line.Set("status", Json::String(tools::ToolStatusName(result.status)));
  line.Set("text", Json::String(result.text));
  if (!result.blobs.empty()) {
    Json blobs = Json::Array();
    for (const tools::SpilledBlob& blob : result.blobs) blobs.Append(Json::String(base::ToHex(blob.id)));
    line.Set("blobs", std::move(blobs));
  }
  return line;
}

base::StatusOr<Json> DiffJson(ToolBox& box) {
  HF_ASSIGN_OR_RETURN(const std::vector<LayerChange> changes, box.Changes());
  Json list = Json::Array();
  for (const LayerChange& change : changes) {
    const char* const kind = change.kind == LayerChange::Kind::kAdded     ? "added"
                             : change.kind == LayerChange::Kind::kChanged ? "changed"
                                                                          : "removed";
    Json entry = Json::Object();
    entry.Set("path", Json::String(change.path));
    entry.Set("kind", Json::String(kind));
    list.Append(std::move(entry));
  }
  return OneMember("changes", std::move(list));
}

base::StatusOr<Json> Operate(ToolBox& box, std::string_view operation) {
  if (operation == "reset") {
    HF_RETURN_IF_ERROR(box.Reset());
    return OneMember("ok", Json::Bool(true));
  }
  if (operation == "hash") {
    HF_ASSIGN_OR_RETURN(const base::Sha256Digest hash, box.TreeHash());
    return OneMember("hash", Json::String(base::ToHex(hash)));
  }
  if (operation == "diff") return DiffJson(box);
  return base::InvalidArgument("op: neither reset, hash nor diff: " + std::string(operation));
}

base::StatusOr<Json> Answer(ToolBox& box, const Json& line) {
  if (line.Find("op") != nullptr) {
    HF_ASSIGN_OR_RETURN(const std::string_view operation, TextField(line, "op"));
    return Operate(box, operation);
  }
  HF_ASSIGN_OR_RETURN(const std::string_view tool, TextField(line, "tool"));
  const Json* const arguments = line.Find("arguments");
  HF_ASSIGN_OR_RETURN(const tools::ToolResult result,
                      box.Call(tool, arguments != nullptr ? arguments->Dump() : "{}"));
  return ResultJson(result);
}

// A directory of our own under TMPDIR, removed with all in it.
class Scratch {
 public:
  static base::StatusOr<std::unique_ptr<Scratch>> Make() {
    const char* const root = std::getenv("TMPDIR");
    std::string path = std::string(root != nullptr && *root != '\0' ? root : "/tmp") + "/holdfast-tools-" +
                       std::to_string(getpid());
    HF_RETURN_IF_ERROR(base::RealFileSystem().CreateDirectories(path));
    return std::make_unique<Scratch>(std::move(path));
  }
  explicit Scratch(std::string path) : path_(std::move(path)) {}
  ~Scratch() {
    const auto parent =
        workspace::OpenTree(base::ParentDirectory(path_), {.owner_access = workspace::OwnerAccess::kForced});
    // What cannot be removed stays in the temporary directory.
    if (parent.ok()) {
      const base::Status ignored = workspace::RemoveAll(**parent, path_.substr(path_.rfind('/') + 1));
    }
  }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

struct RunOptions {
  std::string tree;
  std::string layer;
  std::string profile = "default";
};

base::StatusOr<std::string> AbsolutePath(const std::string& path) {
  char* const real = realpath(path.c_str(), nullptr);
  if (real == nullptr) return base::NotFound(path + ": no such directory");
  std::string absolute(real);
  std::free(real);
  return absolute;
}

base::Status Run(const RunOptions& options) {
  HF_ASSIGN_OR_RETURN(std::string tree, AbsolutePath(options.tree));
  std::unique_ptr<Scratch> scratch;
  std::string directory;
  if (options.layer.empty()) {
    HF_ASSIGN_OR_RETURN(scratch, Scratch::Make());
    directory = scratch->path();
  } else {
    HF_RETURN_IF_ERROR(base::RealFileSystem().CreateDirectories(options.layer));
    HF_ASSIGN_OR_RETURN(directory, AbsolutePath(options.layer));
  }
  std::cout.setf(std::ios::unitbuf);  // whoever asks may wait for each answer
  HF_ASSIGN_OR_RETURN(
      const std::unique_ptr<ToolBox> box,
      ToolBox::Open({.tree = std::move(tree), .directory = directory, .profile = options.profile}));
  return ConvertLines([&box](const Json& line) -> base::StatusOr<Json> {
    const base::StatusOr<Json> answer = Answer(*box, line);
    if (!answer.ok()) return OneMember("error", Json::String(base::Message(answer.status())));
    return answer;
  });
}

void AddList(CLI::App& tools, base::Status& result) {
  // Shared with the callback.
  auto options = std::make_shared<ListOptions>();
  CLI::App* command =
      tools.add_subcommand("list",
                           "List the built-in tools, or those of a profile in the order of its prompt.\n\n"
                           "A tool keeps its versions: a session goes on with those it was made with.\n\n"
                           "Examples:\n"
                           "  holdfast tools list\n"
                           "  holdfast tools list --profile nano --schema    the lines of the prompt");
  command->add_option("--profile", options->profile, "What a model is given: default, nano");
  command->add_flag("--schema", options->schema, "Print the schema lines, byte for byte");
  command->callback([options, &result] { result = List(*options); });
}

void AddRun(CLI::App& tools, base::Status& result) {
  // Shared with the callback.
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = tools.add_subcommand(
      "run",
      "Run calls of tools on a tree, as a model would make them: through the dispatcher and\n"
      "in the sandbox. The tree itself is never changed: changes go to a layer over it.\n\n"
      "Reads one JSON object a line and prints one for each, in order:\n"
      "  {\"tool\": NAME, \"arguments\": {...}}    {\"status\": ..., \"text\": what the model reads}\n"
      "  {\"op\": \"reset\"}                      the tree as it was, nothing running: {\"ok\": true}\n"
      "  {\"op\": \"hash\"}                       {\"hash\": SHA-256 over all paths and contents}\n"
      "  {\"op\": \"diff\"}                       {\"changes\": [{\"path\", \"kind\"}]}\n"
      "A line that cannot be done gives {\"error\": ...}; the next is read all the same.\n\n"
      "Examples:\n"
      "  echo '{\"tool\": \"bash\", \"arguments\": {\"command\": \"ls\"}}' | holdfast tools run --tree .\n"
      "  holdfast tools run --tree repo --profile nano < episodes.jsonl > results.jsonl");
  command->add_option("--tree", options->tree, "The directory that the tools work on")->required();
  command->add_option("--profile", options->profile, "Which tools there are: default, nano")
      ->capture_default_str();
  command->add_option("--overlay-layer", options->layer,
                      "Directory that keeps the layer afterwards; when left out it is temporary");
  command->callback([options, &result] { result = Run(*options); });
}

}  // namespace

void AddTools(CLI::App& tools, base::Status& result) {
  AddList(tools, result);
  AddRun(tools, result);
}

}  // namespace holdfast::cli
