// Does the steps of an apply, for the first time or again after a crash. For apply.cc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "memory/blob_store.h"
#include "workspace/apply.h"
#include "workspace/apply/apply_journal.h"
#include "workspace/tree.h"

namespace holdfast::workspace {

class Committer {
 public:
  Committer(Tree& user, memory::BlobStore& blobs, std::string staging, size_t sync_all_from)
      : user_(user), blobs_(blobs), staging_(std::move(staging)), sync_all_from_(sync_all_from) {}

  // Makes the staging directory and all new contents in it; durable on return.
  base::Status StageAll(const std::vector<ApplyStep>& steps);

  // As StageAll, for what is not there as it should be.
  base::Status StageMissing(const std::vector<ApplyStep>& steps);

  // Does the steps in order; what a step says of its path is added to the items, one for each path, sorted.
  // Errors are those of syncing: then the steps must be done again.
  base::Status Run(const std::vector<ApplyStep>& steps, std::vector<ApplyItem>& items);

  // Removes the staging directory, durably.
  base::Status Clean();

 private:
  enum class State { kReady, kDone, kElse };

  std::string StagedPath(const ApplyStep& step) const;
  base::Status Stage(const ApplyStep& step);
  base::Status StageFile(const std::string& path, const Version& version);
  bool ParentIsDirectory(std::string_view path);
  State Look(const ApplyStep& step, std::string& note);
  base::Status Do(const ApplyStep& step);
  base::Status SyncMode(const ApplyStep& step);
  base::Status SyncStaging();
  base::Status SyncDirectories(const std::vector<ApplyStep>& steps);

  Tree& user_;
  memory::BlobStore& blobs_;
  const std::string staging_;
  const size_t sync_all_from_;
  bool sync_all_ = false;  // instead of one by one
};

}  // namespace holdfast::workspace
