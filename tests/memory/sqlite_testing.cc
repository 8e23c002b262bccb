#include "tests/memory/sqlite_testing.h"

#include "base/check.h"

namespace holdfast::memory {

SqliteWorld::SqliteWorld(test::SimDiskOptions disk) : fs(clock, disk) {
  options = {.path = "/data/record.db", .wal_bytes_max = 1 << 20, .checkpoint_bytes = 64 << 10};
  HF_CHECK(fs.CreateDirectories("/data").ok());
}

base::Status SqliteWorld::Open(std::initializer_list<SqliteSchema> schemas) {
  HF_ASSIGN_OR_RETURN(database, SqliteDatabase::Open(fs, options, schemas, clock));
  return absl::OkStatus();
}

base::Status SqliteWorld::CrashAndOpen() {
  fs.Crash();
  Close();
  fs.Restart();
  return Open();
}

base::Status SqliteWorld::Put(int64_t key, const std::string& value) {
  HF_ASSIGN_OR_RETURN(auto transaction, SqliteTransaction::Begin(*database));
  {
    HF_ASSIGN_OR_RETURN(SqliteStatement put, database->writer().Prepare(
                                                 "INSERT OR REPLACE INTO pairs (key, value) VALUES (?, ?)"));
    HF_RETURN_IF_ERROR(put.Bind(1, key).Bind(2, value).Run());
  }
  return transaction.Commit();
}

base::StatusOr<Pairs> SqliteWorld::All() { return All(database->writer()); }

base::StatusOr<Pairs> SqliteWorld::All(SqliteConnection& connection) {
  HF_ASSIGN_OR_RETURN(SqliteStatement all, connection.Prepare("SELECT key, value FROM pairs"));
  Pairs pairs;
  for (;;) {
    HF_ASSIGN_OR_RETURN(const bool row, all.Step());
    if (!row) break;
    pairs[all.Int(0)] = all.Text(1);
  }
  HF_RETURN_IF_ERROR(all.Finish());
  return pairs;
}

}  // namespace holdfast::memory
