// What grep@2 and glob@1 share.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "tools/search/ripgrep.h"
#include "tools/text/glob_pattern.h"
#include "tools/tool.h"
#include "tools/tool_data.h"

namespace holdfast::tools {

base::StatusOr<std::unique_ptr<Tool>> MakeGrep();
base::StatusOr<std::unique_ptr<Tool>> MakeGlob();

// Where to search, as ripgrep is told: "./src", or an absolute path outside of the workspace.
struct SearchPlace {
  std::string argument = "./";
  std::string prefix;  // of the paths beneath: "src/"; empty for the whole workspace
};

// The place that the model named: relative, "./src/", or absolute; one within the workspace becomes relative.
// InvalidArgument for what no path can be.
base::StatusOr<SearchPlace> PlaceOf(const ToolContext& context, std::string_view path);

// Whether a place in the workspace is there. True when that cannot be told from here.
bool PlaceExists(const ToolContext& context, const SearchPlace& place);

// A pattern over paths, as the model wrote it: relative to the workspace or to the place of the search; with
// `!` in front, what it does not match.
class PathFilter {
 public:
  static base::StatusOr<PathFilter> Make(const ToolContext& context, std::string_view pattern,
                                         const SearchPlace& place);
  bool Matches(std::string_view path) const;

 private:
  PathFilter(GlobPattern glob, std::string prefix, bool negated)
      : glob_(std::move(glob)), prefix_(std::move(prefix)), negated_(negated) {}
  GlobPattern glob_;
  std::string prefix_;
  bool negated_;
};

// The result of a run that did not come to its end, and got nothing to show.
ToolResult NotSearched(const ToolData& data, const RipgrepEnd& end, uint64_t wall_ms);
// The lines after the results of one that is partial; empty when it is not.
std::string PartialText(const ToolData& data, const RipgrepEnd& end, uint64_t wall_ms);

// Text within a bound: lines are added whole until one does not fit, then no more.
class BoundedText {
 public:
  explicit BoundedText(size_t bytes_max) : bytes_max_(bytes_max) {}
  bool Add(std::string_view line);
  std::string Take() { return std::move(text_); }

 private:
  const size_t bytes_max_;
  std::string text_;
  bool full_ = false;
};

}  // namespace holdfast::tools
