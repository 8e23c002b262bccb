// One SQL statement, prepared once and run many times.
//
//   HF_ASSIGN_OR_RETURN(SqliteStatement find, connection.Prepare(kFindEventSql));
//   find.Bind(1, session).Bind(2, sequence);
//   HF_ASSIGN_OR_RETURN(const bool found, find.Step());
//   if (found) { const int64_t kind = find.Int(0); const std::string_view text = find.Text(1); }
//   HF_RETURN_IF_ERROR(find.Finish());
//
// The first failure sticks: of Bind, of Step, or of reading a column as a type it does not have. From then on
// columns read as 0 or empty, and Step and Finish return the failure, until Finish or Reset. So a row is read
// in one go and checked once.
//
// Threads: that of its connection, one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

struct sqlite3_stmt;

namespace holdfast::memory {

class SqliteConnection;

class SqliteStatement {
 public:
  SqliteStatement(SqliteStatement&& other) noexcept
      : connection_(other.connection_),
        statement_(std::exchange(other.statement_, nullptr)),
        status_(std::move(other.status_)) {}
  SqliteStatement& operator=(SqliteStatement&&) = delete;
  ~SqliteStatement();

  // Parameters, from 1 on; copied. All of them are NULL again after Finish or Reset.
  SqliteStatement& Bind(int parameter, int64_t value);
  SqliteStatement& Bind(int parameter, double value);
  SqliteStatement& Bind(int parameter, std::string_view text);
  SqliteStatement& Bind(int parameter, std::span<const std::byte> blob);
  SqliteStatement& BindNull(int parameter);
  // Not to be taken for a number, or a string for a boolean.
  SqliteStatement& Bind(int parameter, int value) { return Bind(parameter, int64_t{value}); }
  SqliteStatement& Bind(int parameter, const char* text) { return Bind(parameter, std::string_view(text)); }
  SqliteStatement& Bind(int parameter, const std::string& text) {
    return Bind(parameter, std::string_view(text));
  }

  // The next row: true; no more: false. Errors as in sqlite_database.h.
  base::StatusOr<bool> Step();

  // Columns of the row, from 0 on. Views are valid until the next Step, Finish or Reset. NULL is an error but
  // for IsNull.
  bool IsNull(int column);
  int64_t Int(int column);
  double Double(int column);
  std::string_view Text(int column);
  std::span<const std::byte> Blob(int column);

  // Ends the run; what went wrong in it. To be called after the last row that is wanted: a statement that
  // is not finished keeps its read transaction, and the WAL from being emptied.
  base::Status Finish();
  void Reset() { Finish().IgnoreError(); }

  // For what gives no rows: Step, then Finish.
  base::Status Run();

 private:
  friend class SqliteConnection;
  SqliteStatement(SqliteConnection& connection, sqlite3_stmt* statement)
      : connection_(&connection), statement_(statement) {}
  void Fail(base::Status status);
  void Check(int code);
  bool Has(int column, int type);

  SqliteConnection* connection_;
  sqlite3_stmt* statement_;
  base::Status status_;
};

}  // namespace holdfast::memory
