#include "memory/sqlite_statement.h"

#include <sqlite3.h>

#include "memory/sqlite_database.h"

namespace holdfast::memory {

SqliteStatement::~SqliteStatement() { sqlite3_finalize(statement_); }

void SqliteStatement::Fail(base::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

void SqliteStatement::Check(int code) {
  if (code != SQLITE_OK) Fail(connection_->ErrorOf(code, sqlite3_sql(statement_)));
}

SqliteStatement& SqliteStatement::Bind(int parameter, int64_t value) {
  Check(sqlite3_bind_int64(statement_, parameter, value));
  return *this;
}

SqliteStatement& SqliteStatement::Bind(int parameter, double value) {
  Check(sqlite3_bind_double(statement_, parameter, value));
  return *this;
}

SqliteStatement& SqliteStatement::Bind(int parameter, std::string_view text) {
  // An empty view may have no address, and no address would be NULL.
  const char* const data = text.data() == nullptr ? "" : text.data();
  Check(sqlite3_bind_text64(statement_, parameter, data, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}

SqliteStatement& SqliteStatement::Bind(int parameter, std::span<const std::byte> blob) {
  if (blob.empty()) {
    Check(sqlite3_bind_zeroblob(statement_, parameter, 0));
  } else {
    Check(sqlite3_bind_blob64(statement_, parameter, blob.data(), blob.size(), SQLITE_TRANSIENT));
  }
  return *this;
}

SqliteStatement& SqliteStatement::BindNull(int parameter) {
  Check(sqlite3_bind_null(statement_, parameter));
  return *this;
}

base::StatusOr<bool> SqliteStatement::Step() {
  HF_RETURN_IF_ERROR(status_);
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  Check(code);
  return status_;
}

bool SqliteStatement::Has(int column, int type) {
  if (!status_.ok()) return false;
  if (column >= 0 && column < sqlite3_data_count(statement_) &&
      sqlite3_column_type(statement_, column) == type)
    return true;
  Fail(base::Internal(std::string("sqlite: ") + sqlite3_sql(statement_) + ": column " +
                      std::to_string(column) + " is absent, NULL, or of another type than asked for"));
  return false;
}

bool SqliteStatement::IsNull(int column) {
  return status_.ok() && sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

int64_t SqliteStatement::Int(int column) {
  return Has(column, SQLITE_INTEGER) ? sqlite3_column_int64(statement_, column) : 0;
}

double SqliteStatement::Double(int column) {
  return Has(column, SQLITE_FLOAT) ? sqlite3_column_double(statement_, column) : 0;
}

std::string_view SqliteStatement::Text(int column) {
  if (!Has(column, SQLITE_TEXT)) return {};
  const auto* const text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  if (text == nullptr) {
    Check(SQLITE_NOMEM);
    return {};
  }
  return {text, static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

std::span<const std::byte> SqliteStatement::Blob(int column) {
  if (!Has(column, SQLITE_BLOB)) return {};
  const auto* const bytes = static_cast<const std::byte*>(sqlite3_column_blob(statement_, column));
  if (bytes == nullptr) return {};
  return {bytes, static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

// The code of sqlite3_reset is that of the last step, which Step has told already.
base::Status SqliteStatement::Finish() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
  return std::exchange(status_, absl::OkStatus());
}

base::Status SqliteStatement::Run() {
  Step().status().IgnoreError();  // kept in status_
  return Finish();
}

}  // namespace holdfast::memory
