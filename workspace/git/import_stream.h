// The changes of a session as input of `git fast-import`.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "workspace/diff.h"
#include "workspace/tree.h"

namespace holdfast::workspace::git {

struct CommitText {
  std::string parent;  // a commit id; empty: none
  std::string name, email, message;
  int64_t seconds = 0;  // since the Unix epoch, UTC
};

// A name or an address without what would end it in a commit.
std::string CleanIdentity(std::string_view text);

// Opens each file's content by pieces: called with the version and what takes the bytes.
using ContentReader = std::function<base::Status(
    const Version&, const std::function<base::Status(std::span<const std::byte>)>&)>;

// Writes the stream that makes `refs/heads/result` to a file: deletions first, then files and links;
// directories are not git's.
base::Status WriteImportStream(base::File& file, const CommitText& commit,
                               const std::vector<const PathChange*>& changes, const ContentReader& content);

}  // namespace holdfast::workspace::git
