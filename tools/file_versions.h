// What the model has last seen of each file, by content hash: an edit of a file that has changed since is
// refused. Restored after a restart by replaying ToolResult::observed of the session's outcomes, in order.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "tools/tool.h"

namespace holdfast::tools {

// All methods may be called from any thread.
class FileVersions {
 public:
  static constexpr size_t kPathsMax = 65'536;  // beyond, the path seen longest ago is forgotten

  // The last of several versions of one path counts.
  void Apply(std::span<const FileVersion> observed);

  // What was last seen at `path`; none when it never was.
  std::optional<FileVersion> Find(std::string_view path) const;

  // All that is known, ordered from what was seen longest ago; Apply of it to an empty one gives the same.
  std::vector<FileVersion> Export() const;

  size_t size() const;

 private:
  struct Seen {
    std::optional<base::Sha256Digest> hash;
    uint64_t order = 0;
  };
  mutable std::mutex mu_;  // guards all that follows
  std::map<std::string, Seen, std::less<>> paths_;
  std::map<uint64_t, std::string> by_order_;
  uint64_t next_order_ = 1;
};

}  // namespace holdfast::tools
