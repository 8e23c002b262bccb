#include "memory/sqlite_database.h"

#include <sqlite3.h>

#include <algorithm>
#include <functional>

#include "base/check.h"
#include "base/coding.h"
#include "base/faults.h"
#include "memory/disk/local_disk.h"
#include "memory/sqlite/migration.h"
#include "memory/sqlite/vfs.h"

namespace holdfast::memory {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kFrameBytes = kPageBytes + 24;  // of a WAL
constexpr uint64_t kWalBytesMin = 1 << 20;
constexpr uint64_t kCopyBytes = 1 << 20;
constexpr int64_t kDrainMsMax = 250;
constexpr size_t kSqlShownMax = 200;

base::Status MakeStatus(int code, const base::Status& io, const std::string& message) {
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
    case SQLITE_NOMEM:
      return absl::UnavailableError(base::View(message));
    case SQLITE_FULL:
      return base::ResourceExhausted(message);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return base::DataLoss(message);
    case SQLITE_IOERR:
      if (absl::IsDataLoss(io) && code == SQLITE_IOERR_READ) return base::DataLoss(message);
      return absl::UnavailableError(base::View(message));
    case SQLITE_CANTOPEN:
      return absl::Status(io.ok() ? absl::StatusCode::kUnavailable : io.code(), base::View(message));
    case SQLITE_CONSTRAINT:
      if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY ||
          code == SQLITE_CONSTRAINT_ROWID)
        return absl::AlreadyExistsError(base::View(message));
      return base::FailedPrecondition(message);
    case SQLITE_READONLY:
    case SQLITE_MISMATCH:
      return base::FailedPrecondition(message);
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::PermissionDeniedError(base::View(message));
    case SQLITE_INTERRUPT:
      return absl::CancelledError(base::View(message));
    case SQLITE_TOOBIG:
    case SQLITE_RANGE:
      return base::InvalidArgument(message);
    default:
      return base::Internal(message);
  }
}

int NoteWal(void* bytes, sqlite3*, const char*, int pages) {
  *static_cast<uint64_t*>(bytes) = static_cast<uint64_t>(pages) * kFrameBytes;
  return SQLITE_OK;
}

base::Status CopyFile(base::FileSystem& fs, const std::string& from, const std::string& to) {
  HF_ASSIGN_OR_RETURN(const auto source, fs.Open(from, base::OpenMode::kRead));
  HF_ASSIGN_OR_RETURN(const auto target, fs.Open(to, base::OpenMode::kTruncate));
  std::vector<std::byte> window(kCopyBytes);
  HF_ASSIGN_OR_RETURN(const uint64_t size, source->Size());
  for (uint64_t at = 0; at < size;) {
    const auto part = std::span(window).first(std::min<uint64_t>(kCopyBytes, size - at));
    HF_ASSIGN_OR_RETURN(const size_t n, source->ReadAt(at, part));
    if (n != part.size()) return base::DataLoss(from + ": a read ended inside the file");
    HF_RETURN_IF_ERROR(target->WriteAt(at, part));
    at += n;
  }
  return target->Sync();
}

base::Status CheckOptions(const SqliteOptions& options) {
  if (options.path.empty()) return base::InvalidArgument("sqlite: no path was given");
  if (options.wal_bytes_max < kWalBytesMin)
    return base::InvalidArgument("sqlite: wal_bytes_max is at least 1 MiB");
  if (options.checkpoint_bytes < kFrameBytes || options.checkpoint_bytes > options.wal_bytes_max / 2)
    return base::InvalidArgument("sqlite: checkpoint_bytes is one page to half of wal_bytes_max");
  return absl::OkStatus();
}

}  // namespace

// --- Connections

base::Status SqliteConnection::ErrorOf(int code, std::string_view what) const {
  const base::Status io = vfs_.TakeError();
  std::string message = path_ + ": ";
  message += what.substr(0, kSqlShownMax);
  message += what.empty() ? "" : ": ";
  message += db_ != nullptr && sqlite3_errcode(db_) != SQLITE_OK ? sqlite3_errmsg(db_) : sqlite3_errstr(code);
  const int kind = code & 0xff;
  const bool of_files = kind == SQLITE_IOERR || kind == SQLITE_FULL || kind == SQLITE_CANTOPEN;
  if (!io.ok() && of_files) message += " (" + base::Message(io) + ")";
  return MakeStatus(code, io, message);
}

base::StatusOr<std::unique_ptr<SqliteConnection>> SqliteConnection::Open(sqlite::Vfs& vfs,
                                                                         const std::string& path,
                                                                         bool read_only) {
  auto connection = std::unique_ptr<SqliteConnection>(new SqliteConnection(vfs, path));
  const int flags =
      (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) | SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(path.c_str(), &connection->db_, flags, vfs.name());
  if (code != SQLITE_OK) return connection->ErrorOf(code, "open");
  sqlite3* const db = connection->db_;
  sqlite3_extended_result_codes(db, 1);
  for (const auto& [option, on] : {std::pair{SQLITE_DBCONFIG_DEFENSIVE, 1},
                                   {SQLITE_DBCONFIG_DQS_DML, 0},
                                   {SQLITE_DBCONFIG_DQS_DDL, 0},
                                   {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
                                   {SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, read_only ? 1 : 0}})
    HF_CHECK(sqlite3_db_config(db, option, on, nullptr) == SQLITE_OK);
  if (read_only) sqlite3_wal_autocheckpoint(db, 0);
  HF_RETURN_IF_ERROR(
      connection->Execute("PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;"
                          "PRAGMA cell_size_check = ON; PRAGMA foreign_keys = ON;"));
  return connection;
}

SqliteConnection::~SqliteConnection() { HF_CHECK(sqlite3_close(db_) == SQLITE_OK); }

base::StatusOr<SqliteStatement> SqliteConnection::Prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const char* rest = nullptr;
  const int code = sqlite3_prepare_v3(db_, sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, &rest);
  if (code != SQLITE_OK) return ErrorOf(code, sql);
  SqliteStatement prepared(*this, statement);
  const size_t used = static_cast<size_t>(rest - sql.data());
  if (statement == nullptr || sql.find_first_not_of(" \n\t;", used) != std::string_view::npos)
    return base::Internal(path_ + ": not exactly one statement: " + std::string(sql.substr(0, kSqlShownMax)));
  return prepared;
}

base::Status SqliteConnection::Execute(std::string_view sql) {
  while (!sql.empty()) {
    sqlite3_stmt* statement = nullptr;
    const char* rest = nullptr;
    int code = sqlite3_prepare_v2(db_, sql.data(), static_cast<int>(sql.size()), &statement, &rest);
    if (code != SQLITE_OK) return ErrorOf(code, sql);
    do {
      code = statement == nullptr ? SQLITE_DONE : sqlite3_step(statement);
    } while (code == SQLITE_ROW);
    const base::Status status = code == SQLITE_DONE ? absl::OkStatus() : ErrorOf(code, sql);
    sqlite3_finalize(statement);
    HF_RETURN_IF_ERROR(status);
    sql.remove_prefix(static_cast<size_t>(rest - sql.data()));
  }
  return absl::OkStatus();
}

int64_t SqliteConnection::changes() const { return sqlite3_changes64(db_); }
int64_t SqliteConnection::last_row_id() const { return sqlite3_last_insert_rowid(db_); }
bool SqliteConnection::in_transaction() const { return sqlite3_get_autocommit(db_) == 0; }
void SqliteConnection::Interrupt() { sqlite3_interrupt(db_); }

// --- The database

SqliteDatabase::SqliteDatabase(base::FileSystem& fs, SqliteOptions options, base::Clock& clock)
    : fs_(fs),
      options_(std::move(options)),
      vfs_(std::make_unique<sqlite::Vfs>(fs, clock, options_.wal_bytes_max)) {}

SqliteDatabase::~SqliteDatabase() {
  writer_.reset();
  HF_CHECK(!vfs_->in_use());
}

base::Status SqliteDatabase::OpenWriter() {
  HF_ASSIGN_OR_RETURN(writer_, SqliteConnection::Open(*vfs_, options_.path, /*read_only=*/false));
  const std::string settings =
      "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
      "PRAGMA cache_size = -" +
      std::to_string(options_.cache_bytes / 1024) + ";" +
      "PRAGMA journal_size_limit = " + std::to_string(options_.checkpoint_bytes) + ";";
  HF_RETURN_IF_ERROR(writer_->Execute(settings));
  HF_ASSIGN_OR_RETURN(SqliteStatement mode, writer_->Prepare("PRAGMA journal_mode"));
  HF_RETURN_IF_ERROR(mode.Step().status());
  if (mode.Text(0) != "wal") return base::Internal(options_.path + ": cannot be put into WAL mode");
  return mode.Finish();
}

base::StatusOr<std::unique_ptr<SqliteDatabase>> SqliteDatabase::Open(
    base::FileSystem& fs, SqliteOptions options, std::initializer_list<SqliteSchema> schemas,
    base::Clock& clock) {
  HF_RETURN_IF_ERROR(CheckOptions(options));
  HF_RETURN_IF_ERROR(RequireLocalDisk(fs, base::ParentDirectory(options.path), options.path));
  auto database = std::unique_ptr<SqliteDatabase>(new SqliteDatabase(fs, std::move(options), clock));
  const std::string& path = database->options_.path;
  auto lock = fs.Lock(path + ".lock");
  if (absl::IsUnavailable(lock.status()))
    return base::Annotate(lock.status(), "the database is in use by another process");
  HF_RETURN_IF_ERROR(lock.status());
  database->lock_ = *std::move(lock);
  HF_RETURN_IF_ERROR(database->OpenWriter());
  HF_RETURN_IF_ERROR(sqlite::CheckOwnership(*database->writer_, path));
  const auto backup = [&](size_t steps) -> base::Status {
    HF_RETURN_IF_ERROR(database->Checkpoint());
    const std::string name = path + ".backup-" + std::to_string(steps);
    HF_RETURN_IF_ERROR(CopyFile(fs, path, name + ".tmp"));
    HF_RETURN_IF_ERROR(fs.Rename(name + ".tmp", name));
    HF_FAULT_POINT("memory.sqlite.backup_named");
    return fs.SyncDirectory(base::ParentDirectory(path));
  };
  database->vfs_->set_wal_bytes_max(UINT64_MAX);  // a migration is one transaction, however large
  HF_RETURN_IF_ERROR(sqlite::Migrate(*database->writer_, path, {schemas.begin(), schemas.size()}, backup));
  HF_RETURN_IF_ERROR(database->Checkpoint());
  database->vfs_->set_wal_bytes_max(database->options_.wal_bytes_max);
  sqlite3_wal_hook(database->writer_->db_, NoteWal, &database->wal_bytes_);
  database->RestoreBallast().IgnoreError();  // a full disk is no reason not to start
  return database;
}

base::StatusOr<std::unique_ptr<SqliteConnection>> SqliteDatabase::OpenReader() {
  HF_ASSIGN_OR_RETURN(auto reader, SqliteConnection::Open(*vfs_, options_.path, /*read_only=*/true));
  HF_RETURN_IF_ERROR(reader->Execute("PRAGMA query_only = ON; PRAGMA cache_size = -" +
                                     std::to_string(options_.cache_bytes / 1024)));
  return reader;
}

base::Status SqliteDatabase::Checkpoint() {
  int frames = 0;
  int copied = 0;
  const int code =
      sqlite3_wal_checkpoint_v2(writer_->db_, nullptr, SQLITE_CHECKPOINT_TRUNCATE, &frames, &copied);
  if (code == SQLITE_OK) {
    wal_bytes_ = 0;
    return absl::OkStatus();
  }
  if ((code & 0xff) == SQLITE_BUSY) return absl::OkStatus();  // a reader is in the way: as far as it lets
  return writer_->ErrorOf(code, "checkpoint");
}

base::Status SqliteDatabase::MakeRoomInWal() {
  if (wal_bytes_ < options_.checkpoint_bytes) return absl::OkStatus();
  HF_RETURN_IF_ERROR(Checkpoint());
  if (wal_bytes_ < options_.wal_bytes_max / 2) return absl::OkStatus();
  // Readers that take turns would keep it for ever: the next ones wait until those there have ended.
  const auto shared = vfs_->Share(options_.path);
  shared->Drain(kDrainMsMax);
  const base::Status checkpoint = Checkpoint();
  shared->EndDrain();
  HF_RETURN_IF_ERROR(checkpoint);
  if (wal_bytes_ < options_.wal_bytes_max / 2) return absl::OkStatus();
  return absl::UnavailableError(base::View(options_.path + ": a reader keeps the WAL from being emptied (" +
                                           std::to_string(wal_bytes_) + " bytes)"));
}

base::Status SqliteDatabase::CheckIntegrity() {
  HF_ASSIGN_OR_RETURN(SqliteStatement check, writer_->Prepare("PRAGMA integrity_check(10)"));
  std::string findings;
  for (;;) {
    HF_ASSIGN_OR_RETURN(const bool row, check.Step());
    if (!row) break;
    if (check.Text(0) != "ok") findings += (findings.empty() ? "" : "; ") + std::string(check.Text(0));
  }
  HF_RETURN_IF_ERROR(check.Finish());
  return findings.empty() ? absl::OkStatus() : base::DataLoss(options_.path + ": " + findings);
}

base::StatusOr<bool> SqliteDatabase::ReleaseBallast() {
  const base::Status removed = fs_.Remove(ballast_path());
  if (absl::IsNotFound(removed)) return false;
  HF_RETURN_IF_ERROR(removed);
  HF_RETURN_IF_ERROR(fs_.SyncDirectory(base::ParentDirectory(options_.path)));  // room is given back with it
  return true;
}

base::Status SqliteDatabase::RestoreBallast() {
  if (options_.ballast_bytes == 0) return absl::OkStatus();
  HF_ASSIGN_OR_RETURN(const auto file, fs_.Open(ballast_path(), base::OpenMode::kCreate));
  HF_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  if (size >= options_.ballast_bytes) return absl::OkStatus();
  const base::Status reserved = file->Preallocate(options_.ballast_bytes);
  if (!reserved.ok()) fs_.Remove(ballast_path()).IgnoreError();
  return reserved;
}

// --- Transactions

base::StatusOr<SqliteTransaction> SqliteTransaction::Begin(SqliteDatabase& database) {
  HF_CHECK(!database.writer().in_transaction());
  HF_RETURN_IF_ERROR(database.MakeRoomInWal());
  HF_RETURN_IF_ERROR(database.writer().Execute("BEGIN IMMEDIATE"));
  return SqliteTransaction(database.writer());
}

SqliteTransaction::~SqliteTransaction() {
  if (connection_ != nullptr && connection_->in_transaction()) connection_->Execute("ROLLBACK").IgnoreError();
}

base::Status SqliteTransaction::Commit() {
  HF_CHECK(connection_ != nullptr);
  SqliteConnection& db = *std::exchange(connection_, nullptr);
  // Some errors end the transaction; what was done after them would be committed by itself.
  if (!db.in_transaction())
    return absl::AbortedError(base::View(db.path_ + ": the transaction was rolled back"));
  HF_FAULT_POINT("memory.sqlite.before_commit");
  const base::Status committed = db.Execute("COMMIT");
  HF_FAULT_POINT("memory.sqlite.after_commit");
  if (!committed.ok() && db.in_transaction()) db.Execute("ROLLBACK").IgnoreError();
  return committed;
}

base::StatusOr<SqliteSavepoint> SqliteSavepoint::Begin(SqliteConnection& connection) {
  HF_CHECK(connection.in_transaction());
  HF_RETURN_IF_ERROR(connection.Execute("SAVEPOINT part"));
  return SqliteSavepoint(connection);
}

SqliteSavepoint::~SqliteSavepoint() {
  if (connection_ == nullptr || !connection_->in_transaction()) return;
  connection_->Execute("ROLLBACK TO part; RELEASE part").IgnoreError();
}

base::Status SqliteSavepoint::Keep() {
  HF_CHECK(connection_ != nullptr);
  return std::exchange(connection_, nullptr)->Execute("RELEASE part");
}

}  // namespace holdfast::memory
