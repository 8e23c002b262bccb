#include "tools/registry.h"

#include <algorithm>
#include <utility>

namespace holdfast::tools {

const Toolset::Entry* Toolset::Find(std::string_view name) const {
  const auto it = std::find_if(entries_.begin(), entries_.end(),
                               [name](const Entry& entry) { return entry.tool->spec().name == name; });
  return it == entries_.end() ? nullptr : &*it;
}

std::vector<std::string> Toolset::ids() const {
  std::vector<std::string> ids;
  for (const Entry& entry : entries_) ids.push_back(entry.tool->spec().id());
  return ids;
}

std::vector<std::string> Toolset::function_lines() const {
  std::vector<std::string> lines;
  for (const Entry& entry : entries_) lines.push_back(entry.tool->spec().function);
  return lines;
}

base::Status Registry::Add(std::unique_ptr<Tool> tool) {
  const ToolSpec& spec = tool->spec();
  auto schema = Schema::Make(spec.function);
  if (!schema.ok()) return base::Annotate(schema.status(), "tool " + spec.id());
  if (schema->name() != spec.name || spec.version < 1) {
    return base::InvalidArgument("tool " + spec.id() + ": the schema is of \"" + schema->name() + "\"");
  }
  if (spec.function.find('\n') != std::string::npos) {
    return base::InvalidArgument("tool " + spec.id() + ": the schema line has a line break");
  }
  std::string id = spec.id();
  if (tools_.contains(id)) return absl::AlreadyExistsError(base::View("tool " + id + " is there already"));
  tools_.emplace(std::move(id), RegisteredTool{.tool = std::move(tool), .schema = *std::move(schema)});
  return absl::OkStatus();
}

base::StatusOr<Toolset> Registry::Select(std::span<const std::string> ids) const {
  Toolset set;
  for (const std::string& id : ids) {
    const RegisteredTool* found = Find(id);
    if (found == nullptr) return base::NotFound("no tool " + id);
    if (set.Find(found->tool->spec().name) != nullptr) {
      return base::InvalidArgument("two tools named " + found->tool->spec().name);
    }
    set.entries_.push_back({.tool = found->tool.get(), .schema = &found->schema});
  }
  return set;
}

const RegisteredTool* Registry::Find(std::string_view id) const {
  const auto it = tools_.find(id);
  return it == tools_.end() ? nullptr : &it->second;
}

std::vector<std::string> Registry::ids() const {
  std::vector<std::string> ids;
  for (const auto& [id, tool] : tools_) ids.push_back(id);
  return ids;
}

}  // namespace holdfast::tools
