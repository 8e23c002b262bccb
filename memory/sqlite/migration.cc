#include "memory/sqlite/migration.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "base/coding.h"
#include "base/hash.h"

namespace holdfast::memory::sqlite {
namespace {

constexpr int64_t kApplicationId = 0x48464442;  // "HFDB"
constexpr int64_t kRegistryVersion = 1;         // of the table below

constexpr std::string_view kApplicationIdSql = "PRAGMA application_id";
constexpr std::string_view kUserVersionSql = "PRAGMA user_version";
constexpr std::string_view kCountTablesSql = "SELECT count(*) FROM sqlite_schema";
constexpr std::string_view kClaimSql =
    "PRAGMA application_id = 1212564546;"
    "PRAGMA user_version = 1;"
    "CREATE TABLE schema_steps (owner TEXT NOT NULL, step INTEGER NOT NULL, sql_sha256 BLOB NOT NULL,"
    " PRIMARY KEY (owner, step)) STRICT, WITHOUT ROWID;";
static_assert(kApplicationId == 1212564546);
constexpr std::string_view kStepsSql =
    "SELECT owner, step, sql_sha256 FROM schema_steps ORDER BY owner, step";
constexpr std::string_view kAddStepSql =
    "INSERT INTO schema_steps (owner, step, sql_sha256) VALUES (?, ?, ?)";
constexpr std::string_view kLooseTablesSql =
    "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0"
    " AND name NOT LIKE 'sqlite!_%' ESCAPE '!'";
constexpr std::string_view kForeignKeysSql = "SELECT \"table\" FROM pragma_foreign_key_check";

base::StatusOr<int64_t> Number(SqliteConnection& db, std::string_view sql) {
  HF_ASSIGN_OR_RETURN(SqliteStatement statement, db.Prepare(sql));
  HF_RETURN_IF_ERROR(statement.Step().status());
  const int64_t number = statement.Int(0);
  HF_RETURN_IF_ERROR(statement.Finish());
  return number;
}

base::StatusOr<std::vector<std::string>> Names(SqliteConnection& db, std::string_view sql) {
  HF_ASSIGN_OR_RETURN(SqliteStatement statement, db.Prepare(sql));
  std::vector<std::string> names;
  for (;;) {
    HF_ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) break;
    names.emplace_back(statement.Text(0));
  }
  HF_RETURN_IF_ERROR(statement.Finish());
  return names;
}

using Steps = std::map<std::string, std::vector<std::string>, std::less<>>;  // hashes, by owner

base::StatusOr<Steps> StepsDone(SqliteConnection& db) {
  HF_ASSIGN_OR_RETURN(SqliteStatement statement, db.Prepare(kStepsSql));
  Steps steps;
  for (;;) {
    HF_ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) break;
    auto& of_owner = steps[std::string(statement.Text(0))];
    if (statement.Int(1) != static_cast<int64_t>(of_owner.size()) + 1)
      return base::DataLoss("schema_steps: a step is missing");
    of_owner.emplace_back(base::AsText(statement.Blob(2)));
  }
  HF_RETURN_IF_ERROR(statement.Finish());
  return steps;
}

std::string HashOf(std::string_view sql) {
  return std::string(base::AsText(base::Sha256Of(base::AsBytes(sql))));
}

// Everything that is in the database is known to this program, and known the same.
base::Status CheckDone(const Steps& done, std::span<const SqliteSchema> schemas, const std::string& path) {
  for (const auto& step : done) {
    const auto& [owner, hashes] = step;
    const auto schema = std::find_if(schemas.begin(), schemas.end(),
                                     [&step](const SqliteSchema& s) { return s.owner == step.first; });
    const size_t known = schema == schemas.end() ? 0 : schema->steps.size();
    if (hashes.size() > known)
      return base::FailedPrecondition(path + ": made by a newer version of Holdfast (the tables of " + owner +
                                      " are at step " + std::to_string(hashes.size()) +
                                      ", this version knows " + std::to_string(known) +
                                      "); upgrade, or use a backup beside it");
    for (size_t i = 0; i < hashes.size(); ++i)
      if (hashes[i] != HashOf(schema->steps[i]))
        return base::FailedPrecondition(path + ": step " + std::to_string(i + 1) + " of " + owner +
                                        " was made by other SQL than this version has");
  }
  return absl::OkStatus();
}

size_t CountOf(const Steps& done) {
  size_t count = 0;
  for (const auto& [owner, hashes] : done) count += hashes.size();
  return count;
}

base::Status RunSteps(SqliteConnection& db, const Steps& done, std::span<const SqliteSchema> schemas) {
  HF_ASSIGN_OR_RETURN(SqliteStatement add, db.Prepare(kAddStepSql));
  for (const SqliteSchema& schema : schemas) {
    const auto it = done.find(schema.owner);
    for (size_t i = it == done.end() ? 0 : it->second.size(); i < schema.steps.size(); ++i) {
      const std::string name = std::string(schema.owner) + ", step " + std::to_string(i + 1);
      if (const base::Status ran = db.Execute(schema.steps[i]); !ran.ok()) return base::Annotate(ran, name);
      add.Bind(1, schema.owner).Bind(2, static_cast<int64_t>(i) + 1);
      HF_RETURN_IF_ERROR(add.Bind(3, base::AsBytes(HashOf(schema.steps[i]))).Run());
    }
  }
  HF_ASSIGN_OR_RETURN(const auto loose, Names(db, kLooseTablesSql));
  if (!loose.empty()) return base::Internal("table " + loose[0] + " is not STRICT");
  HF_ASSIGN_OR_RETURN(const auto broken, Names(db, kForeignKeysSql));
  if (!broken.empty()) return base::Internal("a foreign key of table " + broken[0] + " leads nowhere");
  return absl::OkStatus();
}

base::Status InTransaction(SqliteConnection& db, const std::function<base::Status()>& work) {
  HF_RETURN_IF_ERROR(db.Execute("BEGIN IMMEDIATE"));
  base::Status status = work();
  if (status.ok()) status = db.Execute("COMMIT");
  if (!status.ok() && db.in_transaction()) db.Execute("ROLLBACK").IgnoreError();
  return status;
}

}  // namespace

base::Status CheckOwnership(SqliteConnection& writer, const std::string& path) {
  HF_ASSIGN_OR_RETURN(const int64_t id, Number(writer, kApplicationIdSql));
  HF_ASSIGN_OR_RETURN(const int64_t version, Number(writer, kUserVersionSql));
  HF_ASSIGN_OR_RETURN(const int64_t tables, Number(writer, kCountTablesSql));
  if (id == 0 && version == 0 && tables == 0)
    return InTransaction(writer, [&] { return writer.Execute(kClaimSql); });
  if (id != kApplicationId) return base::FailedPrecondition(path + ": a database of another program");
  if (version != kRegistryVersion)
    return base::FailedPrecondition(path + ": made by another version of Holdfast (registry " +
                                    std::to_string(version) + "); upgrade, or use a backup beside it");
  return absl::OkStatus();
}

base::Status Migrate(SqliteConnection& writer, const std::string& path, std::span<const SqliteSchema> schemas,
                     const std::function<base::Status(size_t)>& backup) {
  HF_ASSIGN_OR_RETURN(const Steps done, StepsDone(writer));
  HF_RETURN_IF_ERROR(CheckDone(done, schemas, path));
  size_t wanted = 0;
  for (const SqliteSchema& schema : schemas) wanted += schema.steps.size();
  const size_t have = CountOf(done);
  if (have == wanted) return absl::OkStatus();
  if (have > 0) HF_RETURN_IF_ERROR(backup(have));
  return InTransaction(writer, [&] { return RunSteps(writer, done, schemas); });
}

}  // namespace holdfast::memory::sqlite
