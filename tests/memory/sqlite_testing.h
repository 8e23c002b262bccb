// A small database on a simulated disk.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/file.h"
#include "memory/sqlite_database.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::memory {

inline constexpr std::string_view kPairsStep1[] = {
    "CREATE TABLE pairs (key INTEGER PRIMARY KEY, value TEXT NOT NULL) STRICT;"
    "CREATE TABLE names (name TEXT NOT NULL UNIQUE, pair INTEGER REFERENCES pairs (key)) STRICT;"};
inline constexpr std::string_view kPairsSteps[] = {
    kPairsStep1[0], "ALTER TABLE pairs ADD COLUMN note TEXT NOT NULL DEFAULT 'old';"};
inline constexpr std::string_view kOtherSteps[] = {"CREATE TABLE other (id INTEGER PRIMARY KEY) STRICT;"};

inline constexpr SqliteSchema kPairs1 = {"pairs", kPairsStep1};
inline constexpr SqliteSchema kPairs2 = {"pairs", kPairsSteps};
inline constexpr SqliteSchema kOther = {"other", kOtherSteps};

using Pairs = std::map<int64_t, std::string>;

// A database that can be closed, crashed and opened again.
class SqliteWorld {
 public:
  explicit SqliteWorld(test::SimDiskOptions disk = {});

  base::Status Open(std::initializer_list<SqliteSchema> schemas = {kPairs1});
  void Close() { database.reset(); }
  base::Status CrashAndOpen();

  // One transaction.
  base::Status Put(int64_t key, const std::string& value);
  base::StatusOr<Pairs> All();
  static base::StatusOr<Pairs> All(SqliteConnection& connection);

  test::SimClock clock;
  test::SimFileSystem fs;
  SqliteOptions options;
  std::unique_ptr<SqliteDatabase> database;
};

}  // namespace holdfast::memory
