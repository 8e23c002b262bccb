// The tables of the session store, and what is read from and written to them. Storage lane only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/status.h"
#include "memory/sqlite_database.h"
#include "memory/sqlite_statement.h"
#include "sessions/event.h"
#include "sessions/session_facts.h"
#include "sessions/session_log.h"
#include "sessions/session_store.h"
#include "sessions/token_log.h"

namespace holdfast::sessions::store {

// A row with what lists do not show.
struct FullRow {
  int64_t key = 0;  // of the row; names the session in other tables
  SessionRow row;
  int64_t parent_key = 0;
  base::Sha256Digest chain = {};
  std::optional<StoredKv> kv;
  int64_t archived = 0;  // 0, 1, or 2: an import that has not ended
};

// What is to be written of one session.
struct NewEvents {
  int64_t key = 0;
  uint64_t generation = 0;  // of who writes
  int64_t utc_ms = 0;
  std::vector<EventBody> bodies;
  std::optional<bool> archived;
  std::optional<std::string> summary;
  bool take_lease = false;  // the generation goes up by one
};

// What a log says.
struct History {
  SessionFacts facts;
  std::vector<Event> untold;
  base::Sha256Digest chain = {};
  uint64_t last_seq = 0;
  SessionUid uid = {};         // of its last part
  int64_t created_utc_ms = 0;  // the same
};

class Tables {
 public:
  static base::StatusOr<Tables> Prepare(memory::SqliteDatabase& database);

  // Each in a transaction of its own.
  base::StatusOr<FullRow> Insert(const std::string& id, const SessionCreated& created,
                                 const std::vector<EventBody>& bodies, int64_t utc_ms);
  base::StatusOr<FullRow> Archive(const std::string& id, bool archived, int64_t utc_ms);
  base::Status SetKv(int64_t key, uint64_t generation, const StoredKv& kv);
  base::StatusOr<int> Rebuild(const std::string& id);

  // A session from elsewhere, in as many transactions as it takes. Until EndImport it is in no list and has
  // no id; what a crash leaves of it, Prepare removes.
  base::StatusOr<int64_t> BeginImport(const std::string& id, const SessionUid& uid, int64_t utc_ms);
  base::Status AddImported(int64_t key, const std::vector<Event>& events);
  base::StatusOr<FullRow> EndImport(int64_t key, const std::string& id, int64_t utc_ms);
  base::Status DropImport(int64_t key);

  // All in one transaction; the result of each, in order. An error of the commit is that of all.
  std::vector<base::Status> Append(const std::vector<NewEvents>& appends,
                                   std::vector<std::vector<Event>>* added);

  // Reading.
  base::StatusOr<FullRow> Find(std::string_view id);
  base::StatusOr<SessionPage> List(const SessionFilter& filter, size_t page_size,
                                   std::string_view page_token);
  base::StatusOr<std::vector<std::string>> Unfinished();
  base::StatusOr<std::vector<Event>> Events(const FullRow& row, uint64_t after_seq, size_t count);
  // `fold` may be null.
  // InvalidArgument when the history cannot go back to `to_seq`: an event that does not count, or the
  // parent's.
  base::Status CheckRewind(const FullRow& row, uint64_t to_seq);
  base::StatusOr<History> Load(const FullRow& row, EventFold* fold);

 private:
  base::StatusOr<std::vector<RewindPoint>> Rewinds(const FullRow& row);

  // Told an event, and its body as it is stored.
  using Visit = absl::FunctionRef<base::Status(Event event, std::span<const std::byte> body)>;

  // Events `after_seq` + 1 to at most `count` further; ends early behind kReadBytesMax.
  base::Status VisitEvents(const FullRow& row, uint64_t after_seq, size_t count, Visit visit);

  // Part of a history: the events of one session, `first` to `last`.
  struct Segment {
    int64_t key = 0;
    SessionUid uid = {};
    uint64_t first = 0;
    uint64_t last = 0;
  };

  Tables(memory::SqliteDatabase& database, memory::SqliteStatement insert_event,
         memory::SqliteStatement select_head, memory::SqliteStatement update_head);
  base::StatusOr<FullRow> ReadRow(memory::SqliteStatement& statement);
  base::StatusOr<FullRow> FindKey(int64_t key);
  base::StatusOr<std::vector<Segment>> SegmentsOf(const FullRow& row);
  base::Status InsertEvent(int64_t key, const Event& event, std::string_view body);
  base::Status AppendOne(const NewEvents& append, std::vector<Event>* added);
  base::Status DropUnfinishedImports();
  base::Status WriteHead(int64_t key, const FullRow& head);

  memory::SqliteDatabase* database_;
  memory::SqliteStatement insert_event_;
  memory::SqliteStatement select_head_;
  memory::SqliteStatement update_head_;
};

}  // namespace holdfast::sessions::store
