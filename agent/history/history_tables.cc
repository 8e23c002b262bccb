#include "agent/history/history_tables.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "agent/history_index.h"

namespace holdfast::agent {
namespace {

using memory::SqliteStatement;
using memory::SqliteTransaction;

constexpr std::string_view kSteps[] = {R"sql(
CREATE TABLE history_session (
  session TEXT PRIMARY KEY,
  up_to INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE history_document (
  session TEXT NOT NULL,
  seq INTEGER NOT NULL,
  first INTEGER NOT NULL,
  "end" INTEGER NOT NULL,
  kind TEXT NOT NULL,
  PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;
)sql"};

constexpr std::string_view kUpToSql = "SELECT up_to FROM history_session WHERE session = ?1";
constexpr std::string_view kSetUpToSql =
    "INSERT INTO history_session (session, up_to) VALUES (?1, ?2)"
    " ON CONFLICT (session) DO UPDATE SET up_to = ?2";
constexpr std::string_view kForgetSql = "DELETE FROM history_session WHERE session = ?1";
constexpr std::string_view kPutSql =
    "INSERT INTO history_document (session, seq, first, \"end\", kind) VALUES (?1, ?2, ?3, ?4, ?5)"
    " ON CONFLICT (session, seq) DO UPDATE SET first = ?3, \"end\" = ?4, kind = ?5";
constexpr std::string_view kRemoveSql = "DELETE FROM history_document WHERE session = ?1 AND seq = ?2";
constexpr std::string_view kListSql =
    "SELECT seq, first, \"end\", kind FROM history_document WHERE session = ?1 AND seq BETWEEN ?2 AND ?3"
    " ORDER BY seq LIMIT ?4";
constexpr std::string_view kLastTurnSql =
    "SELECT seq, first, \"end\", kind FROM history_document WHERE session = ?1 AND seq <= ?2 AND kind = "
    "'said'"
    " ORDER BY seq DESC LIMIT 1";

int64_t Signed(uint64_t value) {
  return static_cast<int64_t>(std::min<uint64_t>(value, INT64_MAX));  // larger ones are none that there are
}

base::StatusOr<std::vector<HistoryDocument>> DocumentsOf(SqliteStatement& list) {
  std::vector<HistoryDocument> documents;
  for (;;) {
    HF_ASSIGN_OR_RETURN(const bool more, list.Step());
    if (!more) break;
    documents.push_back({.seq = static_cast<uint64_t>(list.Int(0)),
                         .first = static_cast<uint64_t>(list.Int(1)),
                         .end = static_cast<uint64_t>(list.Int(2)),
                         .kind = std::string(list.Text(3))});
  }
  HF_RETURN_IF_ERROR(list.Finish());
  return documents;
}

}  // namespace

memory::SqliteSchema HistorySchema() { return {.owner = "history", .steps = kSteps}; }

base::StatusOr<HistoryTables> HistoryTables::Prepare(memory::SqliteDatabase& database) {
  HF_RETURN_IF_ERROR(database.writer().Prepare(kUpToSql).status());  // says so when the schema is missing
  HF_ASSIGN_OR_RETURN(std::unique_ptr<memory::TextIndex> texts, memory::TextIndex::Make(database));
  return HistoryTables(database, std::move(texts));
}

base::StatusOr<uint64_t> HistoryTables::ReadUpTo(const std::string& session) {
  HF_ASSIGN_OR_RETURN(SqliteStatement select, database_->writer().Prepare(kUpToSql));
  HF_ASSIGN_OR_RETURN(const bool found, select.Bind(1, session).Step());
  const uint64_t up_to = found ? static_cast<uint64_t>(select.Int(0)) : 0;
  HF_RETURN_IF_ERROR(select.Finish());
  return up_to;
}

base::Status HistoryTables::SetUpTo(const std::string& session, uint64_t up_to) {
  HF_ASSIGN_OR_RETURN(SqliteStatement set, database_->writer().Prepare(kSetUpToSql));
  return set.Bind(1, session).Bind(2, Signed(up_to)).Run();
}

base::StatusOr<std::vector<HistoryDocument>> HistoryTables::List(const std::string& session, uint64_t first,
                                                                 uint64_t last, size_t count) {
  HF_ASSIGN_OR_RETURN(SqliteStatement list, database_->writer().Prepare(kListSql));
  list.Bind(1, session).Bind(2, Signed(first)).Bind(3, Signed(last)).Bind(4, Signed(count));
  return DocumentsOf(list);
}

base::StatusOr<std::vector<HistoryDocument>> HistoryTables::LeftBehind(const std::string& session,
                                                                       uint64_t seq, uint64_t to_seq) {
  HF_ASSIGN_OR_RETURN(std::vector<HistoryDocument> documents, List(session, to_seq + 1, seq - 1, SIZE_MAX));
  HF_ASSIGN_OR_RETURN(SqliteStatement last_turn, database_->writer().Prepare(kLastTurnSql));
  last_turn.Bind(1, session).Bind(2, Signed(to_seq));
  HF_ASSIGN_OR_RETURN(std::vector<HistoryDocument> turns, DocumentsOf(last_turn));
  for (HistoryDocument& turn : turns) {
    if (to_seq < turn.end && turn.end < seq) documents.push_back(std::move(turn));
  }
  return documents;
}

base::Status HistoryTables::Remove(const std::string& session, const HistoryDocument& document) {
  HF_RETURN_IF_ERROR(texts_->Remove(session, document.kind, std::to_string(document.seq)));
  HF_ASSIGN_OR_RETURN(SqliteStatement remove, database_->writer().Prepare(kRemoveSql));
  return remove.Bind(1, session).Bind(2, Signed(document.seq)).Run();
}

base::StatusOr<uint64_t> HistoryTables::Rewind(const std::string& session, uint64_t seq, uint64_t to_seq) {
  HF_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(*database_));
  HF_ASSIGN_OR_RETURN(uint64_t up_to, ReadUpTo(session));
  HF_ASSIGN_OR_RETURN(const auto dead, LeftBehind(session, seq, to_seq));
  for (const HistoryDocument& document : dead) {
    if (document.first <= to_seq) up_to = std::min(up_to, document.first - 1);
    HF_RETURN_IF_ERROR(Remove(session, document));
  }
  HF_RETURN_IF_ERROR(SetUpTo(session, up_to));
  HF_RETURN_IF_ERROR(transaction.Commit());
  return up_to;
}

base::Status HistoryTables::Put(const std::string& session, std::span<const HistoryDocument> documents,
                                std::optional<uint64_t> up_to) {
  HF_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(*database_));
  HF_ASSIGN_OR_RETURN(SqliteStatement put, database_->writer().Prepare(kPutSql));
  for (const HistoryDocument& document : documents) {
    put.Bind(1, session).Bind(2, Signed(document.seq)).Bind(3, Signed(document.first));
    HF_RETURN_IF_ERROR(put.Bind(4, Signed(document.end)).Bind(5, document.kind).Run());
    HF_RETURN_IF_ERROR(texts_->Put({.scope = session,
                                    .kind = document.kind,
                                    .id = std::to_string(document.seq),
                                    .text = document.text}));
  }
  if (up_to.has_value()) HF_RETURN_IF_ERROR(SetUpTo(session, *up_to));
  return transaction.Commit();
}

base::StatusOr<bool> HistoryTables::Drop(const std::string& session, size_t count) {
  HF_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(*database_));
  HF_ASSIGN_OR_RETURN(const auto documents, List(session, 0, UINT64_MAX, count));
  for (const HistoryDocument& document : documents) HF_RETURN_IF_ERROR(Remove(session, document));
  const bool all = documents.size() < count;
  if (all) {
    HF_RETURN_IF_ERROR(texts_->RemoveScope(session));  // also texts that no row names: damage is repaired
    HF_ASSIGN_OR_RETURN(SqliteStatement forget, database_->writer().Prepare(kForgetSql));
    HF_RETURN_IF_ERROR(forget.Bind(1, session).Run());
  }
  HF_RETURN_IF_ERROR(transaction.Commit());
  return all;
}

base::StatusOr<std::optional<HistoryDocument>> HistoryTables::Find(const std::string& session, uint64_t seq) {
  HF_ASSIGN_OR_RETURN(auto documents, List(session, seq, seq, 1));
  std::optional<HistoryDocument> found;
  if (!documents.empty() && documents.front().seq == seq) found = std::move(documents.front());
  return found;
}

base::StatusOr<std::vector<RecallHit>> HistoryTables::Search(const std::string& session,
                                                             const std::string& query, size_t count,
                                                             size_t excerpt_bytes_max) {
  HF_ASSIGN_OR_RETURN(
      std::vector<memory::TextHit> found,
      memory::TextIndex::Search(
          database_->writer(),
          {.text = query, .scope = session, .hits_max = count, .snippet_bytes_max = excerpt_bytes_max}));
  std::vector<RecallHit> hits;
  for (memory::TextHit& hit : found) {
    RecallHit& recalled = hits.emplace_back(RecallHit{.kind = std::move(hit.kind),
                                                      .excerpt = std::move(hit.snippet),
                                                      .cut_before = hit.cut_before,
                                                      .cut_after = hit.cut_after});
    std::from_chars(hit.id.data(), hit.id.data() + hit.id.size(), recalled.seq);
  }
  return hits;
}

}  // namespace holdfast::agent
