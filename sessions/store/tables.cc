#include "sessions/store/tables.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/coding.h"

namespace holdfast::sessions {
namespace {

constexpr std::string_view kSteps[] = {R"sql(
CREATE TABLE session (
  key INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  uid BLOB NOT NULL UNIQUE,
  state INTEGER NOT NULL,
  wait INTEGER NOT NULL,
  reason TEXT NOT NULL,
  last_seq INTEGER NOT NULL,
  chain BLOB NOT NULL,
  generation INTEGER NOT NULL,
  created_utc_ms INTEGER NOT NULL,
  updated_utc_ms INTEGER NOT NULL,
  parent_key INTEGER REFERENCES session (key),
  parent_seq INTEGER NOT NULL,
  archived INTEGER NOT NULL,
  kv BLOB
) STRICT;
CREATE INDEX session_by_update ON session (archived, updated_utc_ms, key);
CREATE INDEX session_by_state ON session (state);
CREATE TABLE event (
  session INTEGER NOT NULL REFERENCES session (key),
  seq INTEGER NOT NULL,
  utc_ms INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  body BLOB NOT NULL,
  chain BLOB NOT NULL,
  PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;
)sql",
                                       R"sql(
ALTER TABLE session ADD COLUMN summary TEXT NOT NULL DEFAULT '';
)sql"};

}  // namespace

memory::SqliteSchema SessionSchema() { return {.owner = "sessions", .steps = kSteps}; }

namespace store {
namespace {

using memory::SqliteStatement;

constexpr char kInsertEventSql[] =
    "INSERT INTO event (session, seq, utc_ms, kind, body, chain) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
constexpr char kUpdateHeadSql[] =
    "UPDATE session SET state = ?2, wait = ?3, reason = ?4, last_seq = ?5, chain = ?6, updated_utc_ms = ?7, "
    "generation = ?8, archived = ?9, summary = ?10 WHERE key = ?1";
constexpr char kColumns[] =
    "SELECT s.key, s.id, s.uid, s.state, s.wait, s.reason, s.last_seq, s.chain, s.generation, "
    "s.created_utc_ms, s.updated_utc_ms, s.parent_key, s.parent_seq, s.kv, p.id, s.archived, "
    "s.summary "
    "FROM session AS s LEFT JOIN session AS p ON p.key = s.parent_key ";
constexpr char kInsertSessionSql[] =
    "INSERT INTO session (id, uid, state, wait, reason, last_seq, chain, generation, created_utc_ms, "
    "updated_utc_ms, parent_key, parent_seq, archived) VALUES (?1, ?2, 1, 0, '', ?3, ?4, 0, ?5, ?5, ?6, ?7, "
    "0)";
constexpr char kSelectEventsSql[] =
    "SELECT seq, utc_ms, kind, body, chain FROM event WHERE session = ?1 AND seq BETWEEN ?2 AND ?3 "
    "ORDER BY seq LIMIT ?4";

// Archived 2: an import that has not ended.
constexpr char kInsertImportSql[] =
    "INSERT INTO session (id, uid, state, wait, reason, last_seq, chain, generation, created_utc_ms, "
    "updated_utc_ms, parent_key, parent_seq, archived) VALUES (?1, ?2, 1, 0, '', 0, ?3, 0, ?4, ?4, NULL, 0, "
    "2)";
constexpr char kNameImportSql[] =
    "UPDATE session SET id = ?2, created_utc_ms = ?3, archived = 0 WHERE key = ?1";
constexpr char kDropEventsSql[] =
    "DELETE FROM event WHERE session = ?1 AND seq IN (SELECT seq FROM event WHERE session = ?1 LIMIT 4096)";

constexpr size_t kReadBytesMax = size_t{16} << 20;
constexpr size_t kAncestorsMax = 10'000;

int64_t Signed(uint64_t value) { return static_cast<int64_t>(value); }
uint64_t Unsigned(int64_t value) { return static_cast<uint64_t>(value); }

template <size_t kBytes>
bool Copy(std::span<const std::byte> from, std::array<std::byte, kBytes>& to) {
  if (from.size() != kBytes) return false;
  std::copy(from.begin(), from.end(), to.begin());
  return true;
}

std::string EncodeKv(const StoredKv& kv) {
  std::string out(base::AsText(kv.end.digest));
  for (const memory::BlockKey& tail : kv.tails) out += base::AsText(tail.digest);
  return out;
}

// A hint: what is no such thing is none.
std::optional<StoredKv> DecodeKv(std::span<const std::byte> bytes) {
  constexpr size_t kKey = sizeof(memory::BlockKey::digest);
  if (bytes.empty() || bytes.size() % kKey != 0) return std::nullopt;
  StoredKv kv;
  Copy(bytes.first(kKey), kv.end.digest);
  for (size_t at = kKey; at < bytes.size(); at += kKey)
    Copy(bytes.subspan(at, kKey), kv.tails.emplace_back().digest);
  return kv;
}

base::Status CheckId(std::string_view id) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  const bool good = !id.empty() && id.size() <= 63 && plain(id.front()) && plain(id.back()) &&
                    std::all_of(id.begin(), id.end(), [&](char c) { return plain(c) || c == '-'; });
  if (good) return {};
  return base::InvalidArgument(
      "a session's id is 1 to 63 characters of a-z, 0-9 and -, and begins and ends "
      "with a letter or digit");
}

base::Status NoSession(std::string_view id) {
  return base::NotFound("there is no session " + std::string(id));
}

base::Status AlreadyHere(const std::string& id) {
  return absl::AlreadyExistsError(base::View("there is a session " + id + " already"));
}

base::Status CheckBeginning(const SessionCreated& created, const std::vector<EventBody>& bodies) {
  SessionFacts facts;
  base::Status fits = facts.Apply({.seq = 1, .body = created});
  for (const EventBody& body : bodies) {
    if (fits.ok()) fits = facts.Apply({.seq = facts.last_seq() + 1, .body = body});
  }
  return fits.ok() ? fits : base::Internal("a session that begins in contradiction: " + base::Message(fits));
}

// What an event changes of the row.
void Project(const EventBody& body, SessionRow& row) {
  if (const auto* changed = std::get_if<StateChanged>(&body)) {
    row.state = changed->state;
    row.wait = changed->wait;
    row.reason = changed->reason;
  }
}

base::StatusOr<std::pair<int64_t, int64_t>> ParseToken(std::string_view token) {
  int64_t utc_ms = 0;
  int64_t key = 0;
  const char* end = token.data() + token.size();
  const auto first = std::from_chars(token.data(), end, utc_ms);
  if (first.ec == std::errc() && first.ptr != end && *first.ptr == '.') {
    const auto second = std::from_chars(first.ptr + 1, end, key);
    if (second.ec == std::errc() && second.ptr == end) return std::pair(utc_ms, key);
  }
  return base::InvalidArgument("a page token that no list has given");
}

}  // namespace

Tables::Tables(memory::SqliteDatabase& database, SqliteStatement insert_event, SqliteStatement select_head,
               SqliteStatement update_head)
    : database_(&database),
      insert_event_(std::move(insert_event)),
      select_head_(std::move(select_head)),
      update_head_(std::move(update_head)) {}

base::StatusOr<Tables> Tables::Prepare(memory::SqliteDatabase& database) {
  memory::SqliteConnection& writer = database.writer();
  HF_ASSIGN_OR_RETURN(SqliteStatement insert_event, writer.Prepare(kInsertEventSql));
  HF_ASSIGN_OR_RETURN(SqliteStatement select_head,
                      writer.Prepare(std::string(kColumns) + "WHERE s.key = ?1"));
  HF_ASSIGN_OR_RETURN(SqliteStatement update_head, writer.Prepare(kUpdateHeadSql));
  Tables tables(database, std::move(insert_event), std::move(select_head), std::move(update_head));
  HF_RETURN_IF_ERROR(tables.DropUnfinishedImports());
  return tables;
}

// --- Rows

base::StatusOr<FullRow> Tables::ReadRow(SqliteStatement& statement) {
  FullRow full;
  SessionRow& row = full.row;
  full.key = statement.Int(0);
  row.id = statement.Text(1);
  const bool whole = Copy(statement.Blob(2), row.uid) && Copy(statement.Blob(7), full.chain);
  row.state = static_cast<SessionState>(statement.Int(3));
  row.wait = static_cast<WaitFor>(statement.Int(4));
  row.reason = statement.Text(5);
  row.last_seq = Unsigned(statement.Int(6));
  row.generation = Unsigned(statement.Int(8));
  row.created_utc_ms = statement.Int(9);
  row.updated_utc_ms = statement.Int(10);
  row.parent_seq = Unsigned(statement.Int(12));
  if (!statement.IsNull(11)) full.parent_key = statement.Int(11);
  if (!statement.IsNull(13)) full.kv = DecodeKv(statement.Blob(13));
  if (!statement.IsNull(14)) row.parent = statement.Text(14);
  full.archived = statement.Int(15);
  row.archived = full.archived == 1;
  row.summary = statement.Text(16);
  if (!whole) return base::DataLoss("session " + row.id + ": a row with hashes of a wrong size");
  return full;
}

base::StatusOr<FullRow> Tables::FindKey(int64_t key) {
  select_head_.Bind(1, key);
  HF_ASSIGN_OR_RETURN(const bool found, select_head_.Step());
  if (!found) {
    select_head_.Reset();
    return base::NotFound("there is no session of key " + std::to_string(key));
  }
  base::StatusOr<FullRow> row = ReadRow(select_head_);
  HF_RETURN_IF_ERROR(select_head_.Finish());
  return row;
}

base::StatusOr<FullRow> Tables::Find(std::string_view id) {
  HF_ASSIGN_OR_RETURN(SqliteStatement find,
                      database_->writer().Prepare(std::string(kColumns) + "WHERE s.id = ?1"));
  find.Bind(1, id);
  HF_ASSIGN_OR_RETURN(const bool found, find.Step());
  if (!found) return NoSession(id);
  base::StatusOr<FullRow> row = ReadRow(find);
  HF_RETURN_IF_ERROR(find.Finish());
  return row;
}

base::Status Tables::WriteHead(int64_t key, const FullRow& head) {
  const SessionRow& row = head.row;
  update_head_.Bind(1, key)
      .Bind(2, static_cast<int>(row.state))
      .Bind(3, static_cast<int>(row.wait))
      .Bind(4, row.reason)
      .Bind(5, Signed(row.last_seq))
      .Bind(6, std::span<const std::byte>(head.chain))
      .Bind(7, row.updated_utc_ms)
      .Bind(8, Signed(row.generation))
      .Bind(9, head.archived)
      .Bind(10, row.summary);
  return update_head_.Run();
}

base::StatusOr<FullRow> Tables::Insert(const std::string& id, const SessionCreated& created,
                                       const std::vector<EventBody>& bodies, int64_t utc_ms) {
  HF_RETURN_IF_ERROR(CheckId(id));
  if (!created.parent.has_value()) HF_RETURN_IF_ERROR(CheckBeginning(created, bodies));
  HF_ASSIGN_OR_RETURN(memory::SqliteTransaction transaction, memory::SqliteTransaction::Begin(*database_));
  memory::SqliteConnection& writer = database_->writer();
  int64_t parent_key = 0;
  if (created.parent.has_value()) {
    HF_ASSIGN_OR_RETURN(SqliteStatement find,
                        writer.Prepare("SELECT key FROM session WHERE uid = ?1 AND last_seq >= ?2"));
    find.Bind(1, std::span<const std::byte>(*created.parent)).Bind(2, Signed(created.parent_seq));
    HF_ASSIGN_OR_RETURN(const bool found, find.Step());
    if (!found || created.parent_seq == 0)
      return base::NotFound("the parent has no such event, or is not here");
    parent_key = find.Int(0);
    HF_RETURN_IF_ERROR(find.Finish());
  }
  const uint64_t before = created.parent.has_value() ? created.parent_seq : 0;
  HF_ASSIGN_OR_RETURN(SqliteStatement insert, writer.Prepare(kInsertSessionSql));
  const base::Sha256Digest root = ChainRoot(created.uid);
  insert.Bind(1, id)
      .Bind(2, std::span<const std::byte>(created.uid))
      .Bind(3, Signed(before))
      .Bind(4, std::span<const std::byte>(root))
      .Bind(5, utc_ms)
      .Bind(7, Signed(before));
  parent_key == 0 ? insert.BindNull(6) : insert.Bind(6, parent_key);
  if (base::Status inserted = insert.Run(); !inserted.ok()) {
    if (absl::IsAlreadyExists(inserted)) {
      return AlreadyHere(id);
    }
    return inserted;
  }
  const int64_t key = writer.last_row_id();
  NewEvents first{.key = key, .utc_ms = utc_ms, .bodies = {created}};
  first.bodies.insert(first.bodies.end(), bodies.begin(), bodies.end());
  std::vector<Event> added;
  HF_RETURN_IF_ERROR(AppendOne(first, &added));
  HF_ASSIGN_OR_RETURN(FullRow row, FindKey(key));
  HF_RETURN_IF_ERROR(transaction.Commit());
  return row;
}

base::StatusOr<FullRow> Tables::Archive(const std::string& id, bool archived, int64_t utc_ms) {
  HF_ASSIGN_OR_RETURN(memory::SqliteTransaction transaction, memory::SqliteTransaction::Begin(*database_));
  HF_ASSIGN_OR_RETURN(
      SqliteStatement archive,
      database_->writer().Prepare(
          "UPDATE session SET archived = ?3, updated_utc_ms = ?2 WHERE id = ?1 AND archived <> 2"));
  archive.Bind(1, id).Bind(2, utc_ms).Bind(3, int64_t{archived});
  HF_RETURN_IF_ERROR(archive.Run());
  HF_ASSIGN_OR_RETURN(FullRow row, Find(id));
  HF_RETURN_IF_ERROR(transaction.Commit());
  return row;
}

base::Status Tables::SetKv(int64_t key, uint64_t generation, const StoredKv& kv) {
  HF_ASSIGN_OR_RETURN(memory::SqliteTransaction transaction, memory::SqliteTransaction::Begin(*database_));
  HF_ASSIGN_OR_RETURN(
      SqliteStatement set,
      database_->writer().Prepare("UPDATE session SET kv = ?3 WHERE key = ?1 AND generation = ?2"));
  const std::string bytes = EncodeKv(kv);
  set.Bind(1, key).Bind(2, Signed(generation)).Bind(3, base::AsBytes(bytes));
  HF_RETURN_IF_ERROR(set.Run());
  return transaction.Commit();
}

// --- Appending

base::Status Tables::InsertEvent(int64_t key, const Event& event, std::string_view body) {
  insert_event_.Bind(1, key)
      .Bind(2, Signed(event.seq))
      .Bind(3, event.utc_ms)
      .Bind(4, int64_t{KindOf(event.body)})
      .Bind(5, base::AsBytes(body))
      .Bind(6, std::span<const std::byte>(event.chain));
  return insert_event_.Run();
}

base::Status Tables::AppendOne(const NewEvents& append, std::vector<Event>* added) {
  HF_ASSIGN_OR_RETURN(FullRow head, FindKey(append.key));
  if (head.row.generation != append.generation) {
    return base::FailedPrecondition("session " + head.row.id + " has another owner now (generation " +
                                    std::to_string(head.row.generation) + ", ours was " +
                                    std::to_string(append.generation) + ")");
  }
  for (const EventBody& body : append.bodies) {
    const std::string bytes = EncodeBody(body);
    if (bytes.size() > kEventBytesMax) return base::InvalidArgument("an event of more than 8 MiB");
    const uint16_t kind = KindOf(body);
    const uint64_t seq = ++head.row.last_seq;
    head.chain = NextChain(head.chain, seq, append.utc_ms, kind, base::AsBytes(bytes));
    Event event{.seq = seq, .utc_ms = append.utc_ms, .body = body, .chain = head.chain};
    HF_RETURN_IF_ERROR(InsertEvent(append.key, event, bytes));
    Project(body, head.row);
    added->push_back(std::move(event));
  }
  if (!append.bodies.empty() || append.archived.has_value()) head.row.updated_utc_ms = append.utc_ms;
  if (append.archived.has_value()) head.archived = *append.archived ? 1 : 0;
  if (append.summary.has_value()) head.row.summary = *append.summary;
  if (append.take_lease) ++head.row.generation;
  return WriteHead(append.key, head);
}

std::vector<base::Status> Tables::Append(const std::vector<NewEvents>& appends,
                                         std::vector<std::vector<Event>>* added) {
  std::vector<base::Status> results(appends.size());
  added->assign(appends.size(), {});
  const auto all = [&](const base::Status& status) {
    std::fill(results.begin(), results.end(), status);
    return results;
  };
  auto transaction = memory::SqliteTransaction::Begin(*database_);
  if (!transaction.ok()) return all(transaction.status());
  for (size_t i = 0; i < appends.size(); ++i) {
    auto savepoint = memory::SqliteSavepoint::Begin(database_->writer());
    results[i] = savepoint.ok() ? AppendOne(appends[i], &(*added)[i]) : savepoint.status();
    if (results[i].ok()) results[i] = savepoint->Keep();
    // A full or failing disk ends the whole transaction, and what follows would not be part of one.
    if (!database_->writer().in_transaction()) return all(results[i]);
  }
  const base::Status committed = transaction->Commit();
  return committed.ok() ? results : all(committed);
}

// --- Importing

base::StatusOr<int64_t> Tables::BeginImport(const std::string& id, const SessionUid& uid, int64_t utc_ms) {
  HF_RETURN_IF_ERROR(CheckId(id));
  if (Find(id).ok()) return AlreadyHere(id);
  HF_ASSIGN_OR_RETURN(memory::SqliteTransaction transaction, memory::SqliteTransaction::Begin(*database_));
  memory::SqliteConnection& writer = database_->writer();
  HF_ASSIGN_OR_RETURN(SqliteStatement find, writer.Prepare("SELECT id FROM session WHERE uid = ?1"));
  find.Bind(1, std::span<const std::byte>(uid));
  HF_ASSIGN_OR_RETURN(const bool found, find.Step());
  if (found) {
    return absl::AlreadyExistsError(
        base::View("this session is here already, as " + std::string(find.Text(0))));
  }
  HF_RETURN_IF_ERROR(find.Finish());
  HF_ASSIGN_OR_RETURN(SqliteStatement insert, writer.Prepare(kInsertImportSql));
  insert.Bind(1, "importing " + base::ToHex(uid)).Bind(2, std::span<const std::byte>(uid));
  insert.Bind(3, std::span<const std::byte>(ChainRoot(uid))).Bind(4, utc_ms);
  HF_RETURN_IF_ERROR(insert.Run());
  const int64_t key = writer.last_row_id();
  HF_RETURN_IF_ERROR(transaction.Commit());
  return key;
}

base::Status Tables::AddImported(int64_t key, const std::vector<Event>& events) {
  if (events.empty()) return {};
  HF_ASSIGN_OR_RETURN(memory::SqliteTransaction transaction, memory::SqliteTransaction::Begin(*database_));
  HF_ASSIGN_OR_RETURN(FullRow head, FindKey(key));
  for (const Event& event : events) {
    if (event.seq != head.row.last_seq + 1) {
      return base::DataLoss("event " + std::to_string(event.seq) + " after event " +
                            std::to_string(head.row.last_seq));
    }
    HF_RETURN_IF_ERROR(InsertEvent(key, event, EncodeBody(event.body)));
    head.row.last_seq = event.seq;
    head.chain = event.chain;
  }
  HF_RETURN_IF_ERROR(WriteHead(key, head));
  return transaction.Commit();
}

base::StatusOr<FullRow> Tables::EndImport(int64_t key, const std::string& id, int64_t utc_ms) {
  HF_ASSIGN_OR_RETURN(memory::SqliteTransaction transaction, memory::SqliteTransaction::Begin(*database_));
  HF_ASSIGN_OR_RETURN(FullRow row, FindKey(key));
  HF_ASSIGN_OR_RETURN(const History history, Load(row, nullptr));
  if (history.last_seq == 0 || history.uid != row.row.uid) {
    return base::DataLoss("the events are not those of this session");
  }
  HF_ASSIGN_OR_RETURN(SqliteStatement name, database_->writer().Prepare(kNameImportSql));
  name.Bind(1, key).Bind(2, id).Bind(3, history.created_utc_ms);
  if (base::Status named = name.Run(); !named.ok()) {
    return absl::IsAlreadyExists(named) ? AlreadyHere(id) : named;
  }
  row.archived = 0;
  row.row.state = history.facts.state();
  row.row.wait = history.facts.wait();
  row.row.reason = history.facts.state_reason();
  row.row.updated_utc_ms = utc_ms;
  HF_RETURN_IF_ERROR(WriteHead(key, row));
  // Nothing of it is here: it goes on when somebody says so.
  std::vector<Event> added;
  if (row.row.state == SessionState::kRunning || row.row.state == SessionState::kWaiting) {
    HF_RETURN_IF_ERROR(
        AppendOne({.key = key,
                   .generation = row.row.generation,
                   .utc_ms = utc_ms,
                   .bodies = {StateChanged{.state = SessionState::kPaused, .reason = "IMPORTED"}}},
                  &added));
  }
  HF_ASSIGN_OR_RETURN(row, FindKey(key));
  HF_RETURN_IF_ERROR(transaction.Commit());
  return row;
}

// In parts, each smaller than the WAL may be.
base::Status Tables::DropImport(int64_t key) {
  for (int64_t deleted = 1; deleted > 0;) {
    HF_ASSIGN_OR_RETURN(memory::SqliteTransaction transaction, memory::SqliteTransaction::Begin(*database_));
    HF_ASSIGN_OR_RETURN(SqliteStatement events, database_->writer().Prepare(kDropEventsSql));
    events.Bind(1, key);
    HF_RETURN_IF_ERROR(events.Run());
    deleted = database_->writer().changes();
    if (deleted == 0) {
      HF_ASSIGN_OR_RETURN(SqliteStatement row,
                          database_->writer().Prepare("DELETE FROM session WHERE key = ?1 AND archived = 2"));
      row.Bind(1, key);
      HF_RETURN_IF_ERROR(row.Run());
    }
    HF_RETURN_IF_ERROR(transaction.Commit());
  }
  return {};
}

base::Status Tables::DropUnfinishedImports() {
  std::vector<int64_t> keys;
  {
    HF_ASSIGN_OR_RETURN(SqliteStatement list,
                        database_->writer().Prepare("SELECT key FROM session WHERE archived = 2"));
    for (;;) {
      HF_ASSIGN_OR_RETURN(const bool more, list.Step());
      if (!more) break;
      keys.push_back(list.Int(0));
    }
    HF_RETURN_IF_ERROR(list.Finish());
  }
  for (const int64_t key : keys) HF_RETURN_IF_ERROR(DropImport(key));
  return {};
}

// --- Reading

base::StatusOr<SessionPage> Tables::List(const SessionFilter& filter, size_t page_size,
                                         std::string_view page_token) {
  std::pair<int64_t, int64_t> from = {INT64_MAX, INT64_MAX};
  if (!page_token.empty()) {
    HF_ASSIGN_OR_RETURN(from, ParseToken(page_token));
  }
  int64_t states = filter.states.empty() ? -1 : 0;  // a bit each
  for (const SessionState state : filter.states) states |= int64_t{1} << static_cast<int>(state);
  HF_ASSIGN_OR_RETURN(
      SqliteStatement list,
      database_->writer().Prepare(std::string(kColumns) +
                                  (filter.archived ? "WHERE s.archived < 2 " : "WHERE s.archived = 0 ") +
                                  "AND (s.updated_utc_ms, s.key) < (?1, ?2) AND (?4 >> s.state) & 1 "
                                  "ORDER BY s.updated_utc_ms DESC, s.key DESC LIMIT ?3"));
  list.Bind(1, from.first).Bind(2, from.second).Bind(3, static_cast<int64_t>(page_size)).Bind(4, states);
  SessionPage page;
  int64_t last_key = 0;
  for (;;) {
    HF_ASSIGN_OR_RETURN(const bool more, list.Step());
    if (!more) break;
    HF_ASSIGN_OR_RETURN(FullRow row, ReadRow(list));
    last_key = row.key;
    page.sessions.push_back(std::move(row.row));
  }
  HF_RETURN_IF_ERROR(list.Finish());
  if (page.sessions.size() == page_size && page_size > 0) {
    page.next_page_token =
        std::to_string(page.sessions.back().updated_utc_ms) + "." + std::to_string(last_key);
  }
  return page;
}

base::StatusOr<std::vector<std::string>> Tables::Unfinished() {
  HF_ASSIGN_OR_RETURN(SqliteStatement list,
                      database_->writer().Prepare(
                          "SELECT id FROM session WHERE state IN (2, 3) AND archived = 0 ORDER BY key"));
  std::vector<std::string> ids;
  for (;;) {
    HF_ASSIGN_OR_RETURN(const bool more, list.Step());
    if (!more) break;
    ids.emplace_back(list.Text(0));
  }
  HF_RETURN_IF_ERROR(list.Finish());
  return ids;
}

base::StatusOr<std::vector<Tables::Segment>> Tables::SegmentsOf(const FullRow& row) {
  std::vector<Segment> segments;
  FullRow at = row;
  uint64_t last = row.row.last_seq;
  for (;;) {
    const uint64_t first = at.parent_key == 0 ? 1 : at.row.parent_seq + 1;
    if (first <= last) segments.push_back({.key = at.key, .uid = at.row.uid, .first = first, .last = last});
    if (at.parent_key == 0) break;
    if (segments.size() > kAncestorsMax)
      return base::DataLoss("session " + row.row.id + ": too many ancestors");
    last = std::min(last, at.row.parent_seq);
    HF_ASSIGN_OR_RETURN(at, FindKey(at.parent_key));
  }
  std::reverse(segments.begin(), segments.end());
  return segments;
}

base::StatusOr<std::vector<Event>> Tables::Events(const FullRow& row, uint64_t after_seq, size_t count) {
  std::vector<Event> events;
  HF_RETURN_IF_ERROR(
      VisitEvents(row, after_seq, count, [&events](Event event, std::span<const std::byte>) -> base::Status {
        events.push_back(std::move(event));
        return {};
      }));
  return events;
}

base::Status Tables::VisitEvents(const FullRow& row, uint64_t after_seq, size_t count, Visit visit) {
  HF_ASSIGN_OR_RETURN(const std::vector<Segment> segments, SegmentsOf(row));
  HF_ASSIGN_OR_RETURN(SqliteStatement select, database_->writer().Prepare(kSelectEventsSql));
  size_t visited = 0;
  size_t bytes = 0;
  for (const Segment& segment : segments) {
    if (segment.last <= after_seq || visited >= count) continue;
    select.Bind(1, segment.key)
        .Bind(2, Signed(std::max(segment.first, after_seq + 1)))
        .Bind(3, Signed(segment.last))
        .Bind(4, static_cast<int64_t>(count - visited));
    for (;;) {
      HF_ASSIGN_OR_RETURN(const bool more, select.Step());
      if (!more || (bytes > kReadBytesMax && visited > 0)) break;
      Event event{.seq = Unsigned(select.Int(0)), .utc_ms = select.Int(1)};
      const int64_t kind = select.Int(2);
      const std::span<const std::byte> body = select.Blob(3);
      bytes += body.size();
      auto decoded = DecodeBody(static_cast<uint16_t>(kind), body);
      if (!decoded.ok()) return base::Annotate(decoded.status(), "event " + std::to_string(event.seq));
      event.body = *std::move(decoded);
      if (!Copy(select.Blob(4), event.chain)) {
        return base::DataLoss("event " + std::to_string(event.seq) + ": a chain of a wrong size");
      }
      ++visited;
      HF_RETURN_IF_ERROR(visit(std::move(event), body));
    }
    HF_RETURN_IF_ERROR(select.Finish());
    if (bytes > kReadBytesMax) break;
  }
  return {};
}

base::StatusOr<std::vector<RewindPoint>> Tables::Rewinds(const FullRow& row) {
  HF_ASSIGN_OR_RETURN(const std::vector<Segment> segments, SegmentsOf(row));
  std::vector<RewindPoint> rewinds;
  HF_ASSIGN_OR_RETURN(SqliteStatement select,
                      database_->writer().Prepare("SELECT seq, body FROM event WHERE session = ?1 AND seq "
                                                  "BETWEEN ?2 AND ?3 AND kind = ?4 ORDER BY seq"));
  const uint16_t rewound = KindOf(Rewound{});
  for (const Segment& segment : segments) {
    select.Bind(1, segment.key)
        .Bind(2, Signed(segment.first))
        .Bind(3, Signed(segment.last))
        .Bind(4, int64_t{rewound});
    for (;;) {
      HF_ASSIGN_OR_RETURN(const bool more, select.Step());
      if (!more) break;
      const uint64_t seq = Unsigned(select.Int(0));
      HF_ASSIGN_OR_RETURN(const EventBody body, DecodeBody(rewound, select.Blob(1)));
      const uint64_t to_seq = std::get<Rewound>(body).to_seq;
      if (to_seq >= seq)
        return base::DataLoss("event " + std::to_string(seq) + ": a rewind that goes forward");
      rewinds.push_back({.seq = seq, .to_seq = to_seq});
    }
    HF_RETURN_IF_ERROR(select.Finish());
  }
  return rewinds;
}

base::Status Tables::CheckRewind(const FullRow& row, uint64_t to_seq) {
  HF_ASSIGN_OR_RETURN(const std::vector<RewindPoint> rewinds, Rewinds(row));
  const std::vector<EventRange> live = LiveHistory(rewinds, row.row.last_seq);
  const bool counts = std::any_of(live.begin(), live.end(), [to_seq](const EventRange& range) {
    return range.first <= to_seq && to_seq <= range.last;
  });
  if (counts) return {};
  return base::InvalidArgument("session " + row.row.id + " cannot go back to event " +
                               std::to_string(to_seq) + ": there is none that counts");
}

base::StatusOr<History> Tables::Load(const FullRow& row, EventFold* fold) {
  HF_ASSIGN_OR_RETURN(const std::vector<Segment> segments, SegmentsOf(row));
  // Which events count is known only when the rewinds are.
  HF_ASSIGN_OR_RETURN(const std::vector<RewindPoint> rewinds, Rewinds(row));
  const std::vector<EventRange> live = LiveHistory(rewinds, row.row.last_seq);

  History history;
  if (fold != nullptr) fold->Reset();
  size_t range = 0;
  const auto missing = [&row](uint64_t seq) {
    return base::DataLoss("session " + row.row.id + ": event " + std::to_string(seq) + " is missing");
  };
  for (const Segment& segment : segments) {
    history.chain = ChainRoot(segment.uid);
    for (uint64_t after = segment.first - 1; after < segment.last;) {
      const uint64_t before = after;
      const auto take = [&](Event event, std::span<const std::byte> stored) -> base::Status {
        if (event.seq > segment.last) return {};
        if (event.seq != ++after) return missing(after);
        if (const auto* created = std::get_if<SessionCreated>(&event.body)) {
          // An imported fork has the parts of its history in one segment, each with its own chain.
          history.uid = created->uid;
          history.created_utc_ms = event.utc_ms;
          history.chain = ChainRoot(created->uid);
        }
        // One body has one encoding, so what is stored is what was hashed.
        history.chain = NextChain(history.chain, event.seq, event.utc_ms, KindOf(event.body), stored);
        if (history.chain != event.chain) {
          return base::DataLoss("session " + row.row.id + ": event " + std::to_string(event.seq) +
                                " is not what was written (its chain does not hold)");
        }
        while (range < live.size() && live[range].last < event.seq) ++range;
        if (range == live.size() || event.seq < live[range].first) {
          history.facts.NoteRequest(event);
          return {};
        }
        HF_RETURN_IF_ERROR(history.facts.Apply(event));
        if (fold != nullptr) fold->Apply(event);
        if (!history.facts.untold().empty() && history.facts.untold().back() == event.seq) {
          history.untold.push_back(std::move(event));
        }
        return {};
      };
      HF_RETURN_IF_ERROR(VisitEvents(row, after, 1024, take));
      if (after == before) return missing(after + 1);
    }
  }
  history.last_seq = row.row.last_seq;
  const auto& untold = history.facts.untold();
  std::erase_if(history.untold, [&untold](const Event& event) {
    return std::find(untold.begin(), untold.end(), event.seq) == untold.end();
  });
  return history;
}

base::StatusOr<int> Tables::Rebuild(const std::string& id) {
  HF_ASSIGN_OR_RETURN(const FullRow stored, Find(id));
  FullRow computed = stored;
  HF_ASSIGN_OR_RETURN(const History history, Load(stored, nullptr));
  computed.chain = history.chain;
  computed.row.state = history.facts.state();
  computed.row.wait = history.facts.wait();
  computed.row.reason = history.facts.state_reason();
  const int wrong =
      (computed.chain != stored.chain ? 1 : 0) + (computed.row.state != stored.row.state ? 1 : 0) +
      (computed.row.wait != stored.row.wait ? 1 : 0) + (computed.row.reason != stored.row.reason ? 1 : 0);
  if (wrong == 0) return 0;
  HF_ASSIGN_OR_RETURN(memory::SqliteTransaction transaction, memory::SqliteTransaction::Begin(*database_));
  HF_RETURN_IF_ERROR(WriteHead(stored.key, computed));
  HF_RETURN_IF_ERROR(transaction.Commit());
  return wrong;
}

}  // namespace store
}  // namespace holdfast::sessions
