// Brings the schemas of all owners to their last step.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "base/status.h"
#include "memory/sqlite_database.h"

namespace holdfast::memory::sqlite {

// Claims a new database, or checks that this one is ours; FailedPrecondition when it is not.
base::Status CheckOwnership(SqliteConnection& writer, const std::string& path);

// Runs the steps that are missing, all in one transaction; `backup(steps so far)` is called before that,
// unless the database is new. FailedPrecondition when the database has steps that `schemas` has not, or has
// otherwise.
base::Status Migrate(SqliteConnection& writer, const std::string& path, std::span<const SqliteSchema> schemas,
                     const std::function<base::Status(size_t)>& backup);

}  // namespace holdfast::memory::sqlite
