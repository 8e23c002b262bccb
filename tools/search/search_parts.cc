#include "tools/search/search_parts.h"

#include <utility>

#include "tools/commands/command_output.h"
#include "tools/text/utf8.h"
#include "workspace/tree.h"

namespace holdfast::tools {
namespace {

// "/workspace/src" with the workspace at "/workspace": "src".
std::string_view WithinWorkspace(const ToolContext& context, std::string_view path) {
  const std::string_view inside = context.inside;
  if (inside.empty() || !path.starts_with(inside)) return path;
  if (path.size() == inside.size()) return "./";
  return path[inside.size()] == '/' ? path.substr(inside.size() + 1) : path;
}

}  // namespace

base::StatusOr<SearchPlace> PlaceOf(const ToolContext& context, std::string_view path) {
  if (path.find('\0') != std::string_view::npos) return base::InvalidArgument("path: holds a NUL byte");
  path = WithinWorkspace(context, path);
  while (path.starts_with("./")) path.remove_prefix(2);
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  SearchPlace place;
  if (path.empty() || path == ".") return place;
  place.prefix = std::string(path) + "/";
  place.argument = path.starts_with('/') ? std::string(path) : "./" + std::string(path);
  return place;
}

bool PlaceExists(const ToolContext& context, const SearchPlace& place) {
  if (context.files == nullptr || place.prefix.empty() || place.prefix[0] == '/') return true;
  const auto stat = context.files->Stat(std::string_view(place.prefix).substr(0, place.prefix.size() - 1));
  return !absl::IsNotFound(stat.status());
}

base::StatusOr<PathFilter> PathFilter::Make(const ToolContext& context, std::string_view pattern,
                                            const SearchPlace& place) {
  const bool negated = pattern.starts_with('!');
  if (negated) pattern.remove_prefix(1);
  HF_ASSIGN_OR_RETURN(GlobPattern glob, GlobPattern::Make(WithinWorkspace(context, pattern)));
  return PathFilter(std::move(glob), place.prefix, negated);
}

bool PathFilter::Matches(std::string_view path) const {
  bool matches = glob_.Matches(path.starts_with('/') ? path.substr(1) : path);
  if (!matches && !prefix_.empty() && path.starts_with(prefix_)) {
    matches = glob_.Matches(path.substr(prefix_.size()));
  }
  return matches != negated_;
}

ToolResult NotSearched(const ToolData& data, const RipgrepEnd& end, uint64_t wall_ms) {
  switch (end.kind) {
    case RipgrepEnd::Kind::kCancelled:
      return {.status = ToolStatus::kCancelled};
    case RipgrepEnd::Kind::kTimeout:
      return {.status = ToolStatus::kTimeout, .text = PartialText(data, end, wall_ms)};
    case RipgrepEnd::Kind::kMissing:
      return {.status = ToolStatus::kUnavailable, .text = data.result("missing").Fill({})};
    case RipgrepEnd::Kind::kSandbox:
      return SandboxFailure(end.status);
    case RipgrepEnd::Kind::kStopped:
    case RipgrepEnd::Kind::kDone:
      break;
  }
  return Failed(data.result("bad_pattern").Fill({{"reason", RepairUtf8(end.reason)}}));
}

std::string PartialText(const ToolData& data, const RipgrepEnd& end, uint64_t wall_ms) {
  if (end.kind == RipgrepEnd::Kind::kTimeout) {
    return data.result("timeout").Fill({{"ms", std::to_string(wall_ms)}});
  }
  const bool stopped = end.kind == RipgrepEnd::Kind::kStopped;
  if (!stopped && !end.trouble) return {};
  const uint64_t count = end.messages->count();
  const std::string& first = end.messages->first();
  return data.result("partial").Fill({{"count", std::to_string(stopped ? count + 1 : count)},
                                      {"reason", RepairUtf8(stopped ? end.reason : first)}});
}

bool BoundedText::Add(std::string_view line) {
  full_ = full_ || text_.size() + line.size() > bytes_max_;
  if (!full_) text_ += line;
  return !full_;
}

}  // namespace holdfast::tools
