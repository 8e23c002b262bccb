// The user's tree as it was when the session began: a stat of every path, and git's HEAD. What lies in a
// `.git` is left out, since git changes it all the time; HEAD stands for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "workspace/layer/stamp.h"
#include "workspace/tree.h"
#include "workspace/workspace.h"

namespace holdfast::workspace {

struct BaseEntry {
  std::string path;
  EntryKind kind = EntryKind::kOther;
  uint32_t mode = 0;
  Stamp stamp;
};

// A path whose owner a session cannot stand for.
struct ForeignPath {
  std::string path;
  uint32_t uid = 0, gid = 0;
};

class BaseState {
 public:
  struct Owner {
    uint32_t uid = 0, gid = 0;
  };

  // Walks the tree. `foreign` (may be null) gets the first 100 paths that do not belong to `owner`.
  static base::StatusOr<BaseState> Take(Tree& tree, size_t directory_entries_max, Owner owner,
                                        std::vector<ForeignPath>* foreign);

  const BaseEntry* Find(std::string_view path) const;
  const std::vector<BaseEntry>& entries() const { return entries_; }  // sorted by ComparePaths
  const std::string& head() const { return head_; }

  // What is different in `now`. A directory counts as changed only when its mode is another.
  TreeChanges ChangesTo(const BaseState& now, size_t changes_max) const;

  // Takes what the tree holds now at these paths (sorted by ComparePaths, none in a `.git`) for what it held.
  base::Status Absorb(Tree& tree, const std::vector<std::string>& paths);

  std::string Encode() const;
  // DataLoss for what Encode did not make.
  static base::StatusOr<BaseState> Decode(std::string_view bytes);

 private:
  std::vector<BaseEntry> entries_;
  std::string head_;
};

// Whether `path` is a `.git`, or lies in one.
bool IsInGit(std::string_view path);

}  // namespace holdfast::workspace
