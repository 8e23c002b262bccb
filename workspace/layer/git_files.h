// What git keeps in its files, read without running git: a repository is data, and its configuration can name
// programs.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "workspace/tree.h"

namespace holdfast::workspace {

// The commit that HEAD of the repository in directory `root` names, as 40 or 64 hexadecimal digits. Empty
// when there is none: no repository, no commit yet, a repository whose `.git` is a file (a worktree), or refs
// that are kept in another way.
std::string ReadHead(Tree& tree, std::string_view root);

// The paths in a git index (versions 2, 3 and 4, SHA-1), sorted by bytes. Nothing when it cannot be told: not
// an index, split, sparse, or of another kind.
std::optional<std::vector<std::string>> ParseIndex(std::string_view bytes);

// Whether `path` is in sorted `paths`, or something beneath it.
bool HoldsPath(const std::vector<std::string>& paths, std::string_view path);
bool HoldsBeneath(const std::vector<std::string>& paths, std::string_view directory);

}  // namespace holdfast::workspace
