// Which tools there are, and which of them a session has.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tools/schema.h"
#include "tools/tool.h"

namespace holdfast::tools {

// A tool with its schema compiled.
struct RegisteredTool {
  std::unique_ptr<Tool> tool;
  Schema schema;
};

// The tools of one session, in the order of its prompt. The registry outlives it.
class Toolset {
 public:
  struct Entry {
    Tool* tool = nullptr;
    const Schema* schema = nullptr;
  };

  // By the name that the model uses. Null: no such tool here.
  const Entry* Find(std::string_view name) const;

  std::span<const Entry> entries() const { return entries_; }
  std::vector<std::string> ids() const;             // "bash@2", for the record
  std::vector<std::string> function_lines() const;  // of the prompt

 private:
  friend class Registry;
  std::vector<Entry> entries_;
};

// All versions of all tools. Filled first, then only read: from any thread.
class Registry {
 public:
  // InvalidArgument for a name or a schema that cannot be used (schemas of other people's servers are hostile
  // input), AlreadyExists for an id that is there already.
  base::Status Add(std::unique_ptr<Tool> tool);

  // The tools of these ids, in this order. NotFound names the missing version; InvalidArgument for two tools
  // of one name.
  base::StatusOr<Toolset> Select(std::span<const std::string> ids) const;

  // Null when there is none.
  const RegisteredTool* Find(std::string_view id) const;

  std::vector<std::string> ids() const;  // ascending

 private:
  std::map<std::string, RegisteredTool, std::less<>> tools_;
};

}  // namespace holdfast::tools
