// As much of git's files as it takes to add a branch to a repository by hand: no program of anybody is run
// here, and nothing of the repository's configuration is obeyed.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "workspace/tree.h"

namespace holdfast::workspace::git {

inline constexpr size_t kRefFileBytesMax = 4096;
inline constexpr size_t kPackedRefsBytesMax = size_t{256} << 20;

// Gives the text of a file of a git directory by its path in it; none when there is no such file.
using FileReader =
    std::function<base::StatusOr<std::optional<std::string>>(std::string_view path, size_t bytes_max)>;

// The repository of a tree: the directories its `.git` stands for.
struct Repository {
  std::string directory;         // HEAD is there, absolute
  std::string common_directory;  // objects and refs are; another one for a linked worktree
  bool inside_tree = false;      // `.git` is a directory of the tree itself

  std::unique_ptr<Tree> head_tree;    // of directory
  std::unique_ptr<Tree> common_tree;  // of common_directory
};

// NotFound when the tree has no `.git`; FailedPrecondition when what it points to is no repository, belongs
// to another user than the tree, or keeps its refs in a way that is not known here (reftable).
base::StatusOr<Repository> OpenRepository(const std::string& tree_path);

// Reads a file of the repository: HEAD and what is the worktree's own from `directory`, the rest from
// `common_directory`.
FileReader ReaderOf(Repository& repository);

// 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
bool IsObjectId(std::string_view text);

// The commit that HEAD stands for; empty when its branch has none yet. DataLoss for a HEAD that makes no
// sense.
base::StatusOr<std::string> ResolveHead(const FileReader& reader);

// InvalidArgument, saying which, for what git's rules for names of branches forbid.
base::Status ValidateBranchName(std::string_view name);

// AlreadyExists when there is a branch of that name, or one that would have to be a directory of it or the
// other way round; looks at loose and packed refs.
base::Status CheckBranchIsFree(Repository& repository, std::string_view name);

// Creates refs/heads/NAME as git does: NAME.lock first, so that no git creates it meanwhile, then what
// CheckBranchIsFree looks at once more, then a rename that replaces nothing; durable on return.
base::Status CreateBranch(Repository& repository, std::string_view name, std::string_view commit);

// Adds a pack and its index, under the name that git gave them; durable on return. One that is there already
// is the same.
base::Status InstallPack(Repository& repository, Tree& from, const std::string& from_directory,
                         const std::string& name);

// Directories of objects that the repository borrows from others (objects/info/alternates), as (absolute path
// on the host, how git in a sandbox that sees the objects at `inside` calls it).
struct Alternate {
  std::string host;
  std::string inside;
};
base::StatusOr<std::vector<Alternate>> Alternates(Repository& repository, std::string_view inside);

}  // namespace holdfast::workspace::git
