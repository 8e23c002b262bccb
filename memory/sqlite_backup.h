// A copy of a database, made in steps while work goes on: what is committed between two steps is in it too,
// and when the last step returns it is the database of that moment.
//
//   HF_ASSIGN_OR_RETURN(auto backup, SqliteBackup::Begin(database, fs, path));
//   for (bool complete = false; !complete;) { HF_ASSIGN_OR_RETURN(complete, backup->Step(256)); }
//
// It copies through the connection that writes, since another one would keep the WAL from being emptied.
//
// Threads: Begin, Step and the destructor on the writer's. A step of 256 pages holds commits up for the
// reading and writing of 1 MiB. Source: https://www.sqlite.org/backup.html.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/file.h"
#include "base/status.h"
#include "memory/sqlite_database.h"

struct sqlite3_backup;

namespace holdfast::memory {

class SqliteBackup {
 public:
  // `path` must not exist: AlreadyExists. The database outlives the backup.
  static base::StatusOr<std::unique_ptr<SqliteBackup>> Begin(SqliteDatabase& database, base::FileSystem& fs,
                                                             const std::string& path);
  ~SqliteBackup();  // a copy that is not complete is removed

  // Copies up to `pages` more (of 4 KiB), with no transaction open. True: the copy is complete, and its
  // content durable (its name is when the caller syncs the directory). Errors as those of the database.
  base::StatusOr<bool> Step(int pages);

  // As of the last step.
  uint64_t bytes_done() const { return bytes_done_; }
  uint64_t bytes_total() const { return bytes_total_; }

 private:
  SqliteBackup(base::FileSystem& fs, std::string path) : fs_(fs), path_(std::move(path)) {}
  base::Status End();

  base::FileSystem& fs_;
  const std::string path_;
  std::unique_ptr<SqliteConnection> copy_;
  sqlite3_backup* backup_ = nullptr;  // null: ended
  bool complete_ = false;
  uint64_t bytes_done_ = 0;
  uint64_t bytes_total_ = 0;
};

}  // namespace holdfast::memory
