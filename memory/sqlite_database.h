// SQLite, as the record of everything uses it: one process, one connection that writes and checkpoints, any
// number that read.
//
//   HF_ASSIGN_OR_RETURN(auto database, SqliteDatabase::Open(fs, {.path = path}, {sessions::kSchema, ...}));
//   HF_ASSIGN_OR_RETURN(auto transaction, SqliteTransaction::Begin(*database));
//   ... statements of database->writer() ...
//   HF_RETURN_IF_ERROR(transaction.Commit());            // durable: WAL, synchronous=FULL
//
// A transaction whose Commit returned OK survives a crash at any later moment; any other is there as a whole
// or not at all.
//
// Errors, always with path and cause: Unavailable, something is locked, or a read, write or sync failed;
// ResourceExhausted, the disk is full (and nothing else, but for a transaction larger than the WAL may be);
// DataLoss, the file is damaged; AlreadyExists, a UNIQUE or PRIMARY KEY constraint; FailedPrecondition,
// another constraint, or a file that is not ours or of a newer program; Cancelled, interrupted; Internal, SQL
// that is wrong.
//
// Why one connection writes: two that both write or checkpoint can corrupt a database in the version of
// SQLite that the distribution has. Readers are opened read-only and never checkpoint, at their end neither.
//
// Threads: a connection and its statements are used by one thread at a time; OpenReader and Interrupt from
// any. Source: DESIGN section 6; ADR 0013.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "memory/sqlite_statement.h"

struct sqlite3;

namespace holdfast::memory {

namespace sqlite {
class Vfs;
}

// What one owner keeps in the database: how its tables come to be, step after step. A step is never changed
// once it was released, only followed by another. Tables are STRICT.
struct SqliteSchema {
  std::string_view owner;                   // "sessions"
  std::span<const std::string_view> steps;  // SQL; several statements each
};

struct SqliteOptions {
  std::string path;
  uint64_t wal_bytes_max = uint64_t{64} << 20;    // of the WAL file, at least 1 MiB
  uint64_t checkpoint_bytes = uint64_t{4} << 20;  // of WAL, after which the next transaction empties it
  uint64_t cache_bytes = uint64_t{16} << 20;      // of pages, for each connection
  uint64_t ballast_bytes = 0;                     // 0: no ballast
};

// A connection. Statements must be gone before it is.
class SqliteConnection {
 public:
  ~SqliteConnection();
  SqliteConnection(const SqliteConnection&) = delete;
  SqliteConnection& operator=(const SqliteConnection&) = delete;

  // One statement, to be kept: preparing costs more than running most. Internal when the SQL is wrong.
  base::StatusOr<SqliteStatement> Prepare(std::string_view sql);

  // Runs any number of statements, rows dropped.
  base::Status Execute(std::string_view sql);

  // Rows changed by the last INSERT, UPDATE or DELETE; the key of the last row inserted.
  int64_t changes() const;
  int64_t last_row_id() const;

  // Whether a transaction is open.
  bool in_transaction() const;

  // What is running ends soon, with Cancelled. From any thread.
  void Interrupt();

 private:
  friend class SqliteBackup;
  friend class SqliteDatabase;
  friend class SqliteStatement;
  friend class SqliteTransaction;
  SqliteConnection(sqlite::Vfs& vfs, std::string path) : vfs_(vfs), path_(std::move(path)) {}
  static base::StatusOr<std::unique_ptr<SqliteConnection>> Open(sqlite::Vfs& vfs, const std::string& path,
                                                                bool read_only);
  base::Status ErrorOf(int code, std::string_view what) const;

  sqlite::Vfs& vfs_;
  const std::string path_;
  sqlite3* db_ = nullptr;
};

class SqliteDatabase {
 public:
  // Opens or makes the database, recovers what a crash has left, and brings every schema to its last step, in
  // one transaction, after a copy of the file was made beside it (PATH.backup-N, N: steps so far).
  // Unavailable when another process has it; FailedPrecondition on a network file system, for a file that is
  // no database of ours, or one that has steps this program does not know or knows otherwise; DataLoss when
  // it is damaged. The directory must exist.
  static base::StatusOr<std::unique_ptr<SqliteDatabase>> Open(base::FileSystem& fs, SqliteOptions options,
                                                              std::initializer_list<SqliteSchema> schemas,
                                                              base::Clock& clock = base::RealClock());
  // Readers must be gone.
  ~SqliteDatabase();

  // The one connection that writes.
  SqliteConnection& writer() { return *writer_; }

  // Another connection, that reads. It sees what was committed when its transaction (or lone statement)
  // began.
  base::StatusOr<std::unique_ptr<SqliteConnection>> OpenReader();

  // Copies the WAL into the database, as far as readers let, and empties it when they let all. On the
  // writer's thread, with no transaction open.
  base::Status Checkpoint();

  // Reads the whole database. DataLoss with the first findings; OK when there are none. On the writer's
  // thread.
  base::Status CheckIntegrity();

  // Gives back the room that was kept for the day on which the disk is full, so that it can be recorded why
  // everything stops. False when there is none. Then, when there is room again:
  base::StatusOr<bool> ReleaseBallast();
  base::Status RestoreBallast();

  uint64_t wal_bytes() const { return wal_bytes_; }
  const std::string& path() const { return options_.path; }

 private:
  friend class SqliteBackup;
  friend class SqliteTransaction;
  SqliteDatabase(base::FileSystem& fs, SqliteOptions options, base::Clock& clock);
  base::Status OpenWriter();
  base::Status MakeRoomInWal();
  std::string ballast_path() const { return options_.path + ".ballast"; }

  base::FileSystem& fs_;
  const SqliteOptions options_;
  std::unique_ptr<base::FileLock> lock_;
  std::unique_ptr<sqlite::Vfs> vfs_;
  std::unique_ptr<SqliteConnection> writer_;
  uint64_t wal_bytes_ = 0;  // as far as it is in use; told by SQLite after each commit
};

// A transaction that writes. Rolled back when destroyed without Commit. One at a time.
class SqliteTransaction {
 public:
  // When the WAL is half full because readers keep it from being emptied, new ones wait, and those there have
  // 250 ms to end; then Unavailable, to be tried again.
  static base::StatusOr<SqliteTransaction> Begin(SqliteDatabase& database);

  SqliteTransaction(SqliteTransaction&& other) noexcept
      : connection_(std::exchange(other.connection_, nullptr)) {}
  SqliteTransaction& operator=(SqliteTransaction&&) = delete;
  ~SqliteTransaction();

  // Durable on return. After an error it is rolled back.
  base::Status Commit();

 private:
  explicit SqliteTransaction(SqliteConnection& connection) : connection_(&connection) {}
  SqliteConnection* connection_;  // null when moved from or ended
};

// A part of a transaction that can fail alone. Rolled back when destroyed without Keep. They nest.
class SqliteSavepoint {
 public:
  static base::StatusOr<SqliteSavepoint> Begin(SqliteConnection& connection);

  SqliteSavepoint(SqliteSavepoint&& other) noexcept
      : connection_(std::exchange(other.connection_, nullptr)) {}
  SqliteSavepoint& operator=(SqliteSavepoint&&) = delete;
  ~SqliteSavepoint();

  base::Status Keep();

 private:
  explicit SqliteSavepoint(SqliteConnection& connection) : connection_(&connection) {}
  SqliteConnection* connection_;  // null when moved from or ended
};

}  // namespace holdfast::memory
