#include "memory/sqlite_backup.h"

#include <sqlite3.h>

#include <utility>

#include "memory/sqlite/vfs.h"

namespace holdfast::memory {
namespace {

constexpr uint64_t kPageBytes = 4096;

}  // namespace

base::StatusOr<std::unique_ptr<SqliteBackup>> SqliteBackup::Begin(SqliteDatabase& database,
                                                                  base::FileSystem& fs,
                                                                  const std::string& path) {
  if (fs.Stat(path).ok()) return absl::AlreadyExistsError(base::View(path + " is there already"));
  std::unique_ptr<SqliteBackup> backup(new SqliteBackup(fs, path));
  HF_ASSIGN_OR_RETURN(backup->copy_, SqliteConnection::Open(*database.vfs_, path, /*read_only=*/false));
  // Half a copy is thrown away, so it needs no journal; synced it is at its end.
  HF_RETURN_IF_ERROR(backup->copy_->Execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"));
  backup->backup_ = sqlite3_backup_init(backup->copy_->db_, "main", database.writer().db_, "main");
  if (backup->backup_ == nullptr) {
    return backup->copy_->ErrorOf(sqlite3_errcode(backup->copy_->db_), "backup");
  }
  return backup;
}

SqliteBackup::~SqliteBackup() {
  (void)End();
  copy_.reset();
  if (!complete_) (void)fs_.Remove(path_);
}

base::Status SqliteBackup::End() {
  if (backup_ == nullptr) return {};
  const int code = sqlite3_backup_finish(std::exchange(backup_, nullptr));
  return code == SQLITE_OK ? base::Status() : copy_->ErrorOf(code, "backup");
}

base::StatusOr<bool> SqliteBackup::Step(int pages) {
  if (complete_) return true;
  if (backup_ == nullptr) return base::FailedPrecondition(path_ + ": the backup has failed");
  const int code = sqlite3_backup_step(backup_, pages);
  bytes_total_ = static_cast<uint64_t>(sqlite3_backup_pagecount(backup_)) * kPageBytes;
  bytes_done_ = bytes_total_ - static_cast<uint64_t>(sqlite3_backup_remaining(backup_)) * kPageBytes;
  if (code == SQLITE_OK) return false;
  const base::Status ended = End();
  if (code != SQLITE_DONE) return ended.ok() ? copy_->ErrorOf(code, "backup") : ended;
  HF_RETURN_IF_ERROR(ended);
  copy_.reset();
  HF_ASSIGN_OR_RETURN(const auto file, fs_.Open(path_, base::OpenMode::kReadWrite));
  HF_RETURN_IF_ERROR(file->Sync());
  complete_ = true;
  return true;
}

}  // namespace holdfast::memory
