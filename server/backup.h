// A copy of what must not be lost - the record and the blobs - in another directory, made while work goes on.
// A copy is restored by putting it in the place of a data directory. What is left out comes again: computed
// KV by prefill, the live layers of workspaces from their last manifests in the blobs.
//
// First the database, in steps, then the blobs: everything that a row of the copy names was stored before the
// row. Under DIRECTORY.tmp until it is complete and durable, then it gets its name.
//
// Threads: Start from any; all work, and the callbacks, on the storage lane, a few MiB at a time between
// commits. Source: DESIGN section 6.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "base/executor.h"
#include "base/status.h"
#include "memory/sqlite_database.h"

namespace holdfast::server {

struct BackupProgress {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;  // as far as it is known; grows with what is written meanwhile
};

struct BackupParts {
  base::Executor& executor;
  memory::SqliteDatabase& database;
  std::string blobs;  // directory of the blob store
};

// `directory`: absolute, must not exist; its parent must. `progress` answers false when nobody wants the copy
// any more: Cancelled. Errors: InvalidArgument, AlreadyExists and those of the disk; what was copied is then
// removed. `done` is dropped when the executor shuts down before the end.
void StartBackup(const BackupParts& parts, std::string directory,
                 std::function<bool(const BackupProgress&)> progress,
                 absl::AnyInvocable<void(base::Status)> done);

}  // namespace holdfast::server
