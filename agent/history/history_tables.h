// What the index keeps beside the texts: how far each log was read, and which documents there are. Storage
// lane only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/control_tools.h"
#include "agent/history/history_documents.h"
#include "base/status.h"
#include "memory/sqlite_database.h"
#include "memory/text_index.h"

namespace holdfast::agent {

class HistoryTables {
 public:
  static base::StatusOr<HistoryTables> Prepare(memory::SqliteDatabase& database);

  // The last event that need not be read again; 0: none was read.
  base::StatusOr<uint64_t> ReadUpTo(const std::string& session);

  // Removes what a rewind of event `seq` to `to_seq` has left behind. A turn that was cut by it has to be
  // read again: gives up to where the log is read then. In one transaction.
  base::StatusOr<uint64_t> Rewind(const std::string& session, uint64_t seq, uint64_t to_seq);

  // Adds documents, or replaces them; in one transaction. `up_to`: as ReadUpTo gives it from then on; none:
  // as it was.
  base::Status Put(const std::string& session, std::span<const HistoryDocument> documents,
                   std::optional<uint64_t> up_to);

  // Removes up to `count` documents; when there were fewer, the log counts as unread. False: there may be
  // more.
  base::StatusOr<bool> Drop(const std::string& session, size_t count);

  // Without its text. None: there is no such document.
  base::StatusOr<std::optional<HistoryDocument>> Find(const std::string& session, uint64_t seq);

  base::StatusOr<std::vector<RecallHit>> Search(const std::string& session, const std::string& query,
                                                size_t count, size_t excerpt_bytes_max);

 private:
  HistoryTables(memory::SqliteDatabase& database, std::unique_ptr<memory::TextIndex> texts)
      : database_(&database), texts_(std::move(texts)) {}
  base::Status SetUpTo(const std::string& session, uint64_t up_to);
  // Documents of events `first` to `last`, at most `count`.
  base::StatusOr<std::vector<HistoryDocument>> List(const std::string& session, uint64_t first, uint64_t last,
                                                    size_t count);
  // Those that a rewind of event `seq` to `to_seq` has left behind, and the turn that it opened again.
  base::StatusOr<std::vector<HistoryDocument>> LeftBehind(const std::string& session, uint64_t seq,
                                                          uint64_t to_seq);
  base::Status Remove(const std::string& session, const HistoryDocument& document);

  memory::SqliteDatabase* database_;
  std::unique_ptr<memory::TextIndex> texts_;
};

}  // namespace holdfast::agent
