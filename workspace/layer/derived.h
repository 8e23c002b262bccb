// How much lies in directories that the repository ignores, at little cost: a directory whose stamp is the
// same has the same names, so only what changed is listed again. Sizes are looked at in turns, a bounded
// number at a time, since a file can grow and its directory not change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "workspace/layer/stamp.h"
#include "workspace/tree.h"
#include "workspace/workspace.h"

namespace holdfast::workspace {

// One thread at a time.
class DerivedIndex {
 public:
  DerivedIndex(Tree& tree, base::Clock& clock, size_t directory_entries_max)
      : tree_(tree), clock_(clock), directory_entries_max_(directory_entries_max) {}

  // Begins a pass over all derived paths.
  void Begin();
  // A derived file, link, whiteout or other thing outside of derived directories.
  void AddFile(const std::string& path, const EntryStat& stat);
  // A derived directory with all beneath it.
  base::Status AddDirectory(const std::string& path, const EntryStat& stat);
  // Ends the pass: forgets what was not seen.
  DerivedSummary End();

  // Sizes looked at in one pass, and the most in one directory: the bytes of a larger one are estimated.
  static constexpr size_t kStatsMax = 2000;

 private:
  struct Directory {
    Stamp stamp;
    bool racy = true;
    bool measured = false;       // bytes were looked at since its names changed
    uint64_t pass = 0;           // when it was last seen
    uint64_t measured_pass = 0;  // when bytes were last looked at; 0: not since the names changed much
    uint64_t files = 0;
    uint64_t bytes = 0;
    std::vector<std::string> directories;  // names
  };

  base::Status Refresh(const std::string& path, const EntryStat& stat, Directory& directory);
  base::Status Measure(const std::string& path, Directory& directory);
  base::Status Estimate(const std::string& path, Directory& directory);
  void NoteRoot(const std::string& path);

  Tree& tree_;
  base::Clock& clock_;
  const size_t directory_entries_max_;
  std::map<std::string, Directory, PathLess> directories_;
  DerivedSummary summary_;
  uint64_t pass_ = 0;
  size_t stats_left_ = 0;
};

}  // namespace holdfast::workspace
