// The data files of tools/data/, which hold every byte that the model sees of a built-in tool. They are built
// into the program; nothing is read at run time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tools/template.h"
#include "tools/tool.h"

namespace holdfast::tools {

// One NAME@VERSION.json. Immutable; safe from any thread.
class ToolData {
 public:
  // InvalidArgument, naming the field, for anything that tools/data/README.md does not describe.
  static base::StatusOr<ToolData> Parse(std::string_view json);

  // The built-in file of `id` ("grep@1"). NotFound when there is none.
  static base::StatusOr<ToolData> Load(std::string_view id);

  const ToolSpec& spec() const { return spec_; }
  bool read_only() const { return read_only_; }  // "effect"

  // A template of the result, a limit. One that is not there is a programmer's error: a CHECK.
  const Template& result(std::string_view name) const;
  int64_t limit(std::string_view name) const;

  const std::map<std::string, Template, std::less<>>& results() const { return results_; }
  const std::map<std::string, int64_t, std::less<>>& limits() const { return limits_; }

 private:
  ToolSpec spec_;
  bool read_only_ = false;
  std::map<std::string, Template, std::less<>> results_;
  std::map<std::string, int64_t, std::less<>> limits_;
};

// A built-in file as it is.
struct EmbeddedFile {
  std::string_view name;  // "grep@1.json"
  std::string_view bytes;
};
std::span<const EmbeddedFile> EmbeddedFiles();  // in order of their names

// A tool's line within the text of a data file: the bytes after `"function": `. Empty when there is none.
std::string_view FunctionLine(std::string_view file);

// A profile: what a model is given to work with.
struct Profile {
  std::string id;  // "nano@1"
  std::string system;
  std::string thinking_mode;
  std::vector<std::string> tools;  // "grep@1", in the order of the prompt
  double temperature = 0;          // 0: always the likeliest token
  double top_p = 1;
  bool instructions = false;  // the tree's AGENTS.md are told
  bool reminders = false;     // the goal is restated now and then

  static base::StatusOr<Profile> Parse(std::string_view json);
  static base::StatusOr<Profile> Load(
      std::string_view name);  // "nano", "default"; NotFound when there is none
};

// outcomes.json: what stands in the place of a result when there is none.
class ToolTexts {
 public:
  static base::StatusOr<ToolTexts> Parse(std::string_view json);
  static base::StatusOr<ToolTexts> Load();

  // One that is not there is a programmer's error: a CHECK.
  const Template& text(std::string_view name) const;
  const std::map<std::string, Template, std::less<>>& texts() const { return templates_; }

 private:
  std::map<std::string, Template, std::less<>> templates_;
};

}  // namespace holdfast::tools
