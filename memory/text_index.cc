#include "memory/text_index.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "base/coding.h"
#include "base/hash.h"

namespace holdfast::memory {
namespace {

constexpr size_t kQueryBytesMax = 4096;
constexpr size_t kWordsMax = 32;
constexpr size_t kHitsMax = 100;
constexpr size_t kSnippetBytesMin = 16;
constexpr size_t kSnippetBytesMax = 4096;
constexpr char kFound = 1;  // put before the words found: char(1) below
constexpr char kCut = 2;    // put where a snippet ends within the text: char(2) below
constexpr size_t kPrefixCharactersMin = 3;

// The words that stand for scope and kind are indexed beside the text, so that a search in one scope costs
// what that scope holds. Hexadecimal: one word whatever the name.
constexpr std::string_view kSteps[] = {
    "CREATE TABLE text_documents (row INTEGER PRIMARY KEY, scope TEXT NOT NULL, kind TEXT NOT NULL,"
    " id TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (scope, kind, id)) STRICT;"
    "CREATE VIEW text_content AS SELECT row, 's' || hex(scope) || ' k' || hex(kind) AS place, text"
    " FROM text_documents;"
    "CREATE VIRTUAL TABLE text_search USING fts5 (place, text, content = 'text_content',"
    " content_rowid = 'row', tokenize = 'unicode61 remove_diacritics 2', prefix = '3');"
    "INSERT INTO text_search (text_search, rank) VALUES ('rank', 'bm25(0.0, 1.0)');"};

constexpr std::string_view kFindSql =
    "SELECT row, text FROM text_documents WHERE scope = ?1 AND kind = ?2 AND id = ?3";
constexpr std::string_view kFindScopeSql =
    "SELECT row, text, kind FROM text_documents WHERE scope = ?1 LIMIT 1";
constexpr std::string_view kInsertSql =
    "INSERT INTO text_documents (scope, kind, id, text) VALUES (?1, ?2, ?3, ?4)";
constexpr std::string_view kIndexSql = "INSERT INTO text_search (rowid, place, text) VALUES (?1, ?2, ?3)";
constexpr std::string_view kUnindexSql =
    "INSERT INTO text_search (text_search, rowid, place, text) VALUES ('delete', ?1, ?2, ?3)";
constexpr std::string_view kDeleteSql = "DELETE FROM text_documents WHERE row = ?1";
constexpr std::string_view kRebuildSql = "INSERT INTO text_search (text_search) VALUES ('rebuild')";
constexpr std::string_view kCheckSql =
    "INSERT INTO text_search (text_search, rank) VALUES ('integrity-check', 1)";
// The oldest of the documents that are ranked, when more match.
constexpr std::string_view kOldestRankedSql =
    "SELECT rowid FROM text_search WHERE text_search MATCH ?1 ORDER BY rowid DESC LIMIT 1 OFFSET 4999";
constexpr std::string_view kRankSql =
    "SELECT rowid FROM text_search WHERE text_search MATCH ?1 AND rowid >= ?2 ORDER BY rank, rowid LIMIT ?3";
// For one document: a snippet costs more than the rank of a hundred.
constexpr std::string_view kHitSql =
    "SELECT d.scope, d.kind, d.id, length(CAST(d.text AS BLOB)),"
    " snippet(text_search, 1, char(1), '', char(2), 64)"
    " FROM text_search JOIN text_documents AS d ON d.row = text_search.rowid"
    " WHERE text_search MATCH ?1 AND text_search.rowid = ?2";

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// What FTS5's tokenizer may take as part of a word: it knows which letters beyond ASCII are.
bool IsWordByte(char c) {
  const auto b = static_cast<unsigned char>(c);
  return b >= 0x80 || (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z');
}

// Cuts at a border of characters.
std::string_view FirstBytes(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  size_t end = bytes_max;
  while (end > 0 && IsContinuation(text[end])) --end;
  return text.substr(0, end);
}

// How long the UTF-8 character at the start of `text` is; 0 when there is none that is well-formed.
size_t CharacterBytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i)
    if (!IsContinuation(text[i])) return 0;
  const unsigned char second = byte(1);  // overlong forms, surrogates, beyond U+10FFFF
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F)) return 0;
  if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) return 0;
  return size;
}

// Words and phrases of a query, each quoted for FTS5.
class QueryReader {
 public:
  explicit QueryReader(std::string_view text) : rest_(FirstBytes(text, kQueryBytesMax)) {}

  std::vector<std::string> Read() {
    while (!rest_.empty() && terms_.size() < kWordsMax) {
      if (rest_.front() == '"') {
        rest_.remove_prefix(1);
        Phrase(TakeUntil([](char c) { return c == '"'; }), false);
        if (!rest_.empty()) rest_.remove_prefix(1);
      } else if (IsSpace(rest_.front())) {
        rest_.remove_prefix(1);
      } else {
        const std::string_view word = TakeUntil([](char c) { return IsSpace(c) || c == '"'; });
        Phrase(word, word.ends_with('*'));
      }
    }
    return terms_;
  }

 private:
  static bool IsSpace(char c) { return static_cast<unsigned char>(c) <= ' '; }

  template <class F>
  std::string_view TakeUntil(F&& end) {
    const auto it = std::find_if(rest_.begin(), rest_.end(), end);
    const std::string_view taken = rest_.substr(0, static_cast<size_t>(it - rest_.begin()));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  static size_t CountCharacters(std::string_view text) {
    return static_cast<size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return !IsContinuation(c); }));
  }

  // What the tokenizer takes as several words becomes a phrase of them.
  void Phrase(std::string_view words, bool prefix) {
    if (std::none_of(words.begin(), words.end(), IsWordByte)) return;
    std::string term = "\"";
    for (const char c : words) term += IsWordByte(c) ? c : ' ';
    const bool known = CountCharacters(words) > kPrefixCharactersMin;  // with the *
    terms_.push_back(term + (prefix && known ? "\"*" : "\""));
  }

  std::string_view rest_;
  std::vector<std::string> terms_;
};

base::Status CheckBounds(const TextQuery& query) {
  if (query.hits_max < 1 || query.hits_max > kHitsMax)
    return base::InvalidArgument("text index: hits_max is 1 to " + std::to_string(kHitsMax));
  if (query.snippet_bytes_max < kSnippetBytesMin || query.snippet_bytes_max > kSnippetBytesMax)
    return base::InvalidArgument("text index: snippet_bytes_max is " + std::to_string(kSnippetBytesMin) +
                                 " to " + std::to_string(kSnippetBytesMax));
  return absl::OkStatus();
}

// The words that stand for a scope and a kind, as the view text_content has them.
std::string ScopeWord(std::string_view scope) { return "s" + base::ToHex(base::AsBytes(scope)); }
std::string KindWord(std::string_view kind) { return "k" + base::ToHex(base::AsBytes(kind)); }
std::string PlaceOf(std::string_view scope, std::string_view kind) {
  return ScopeWord(scope) + " " + KindWord(kind);
}

// The documents of the query's scope and kind that match `terms`.
std::string MatchIn(const TextQuery& query, const std::string& terms) {
  std::string match = "{text} : (" + terms + ")";
  if (!query.scope.empty()) match = "{place} : " + ScopeWord(query.scope) + " AND " + match;
  if (!query.kind.empty()) match = "{place} : " + KindWord(query.kind) + " AND " + match;
  return match;
}

CutText SnippetOf(std::string_view marked, size_t bytes_max) {
  const bool before = marked.starts_with(kCut);
  if (before) marked.remove_prefix(1);
  const bool after = marked.ends_with(kCut);
  if (after) marked.remove_suffix(1);
  const size_t at = std::min(marked.find(kFound), marked.size());
  std::string text(marked);
  std::erase(text, kFound);
  CutText cut = CutAround(text, std::min(at, text.size()), bytes_max);
  cut.cut_before |= before;
  cut.cut_after |= after;
  return cut;
}

// Rows of the best, in their order.
base::StatusOr<std::vector<int64_t>> Rank(SqliteConnection& connection, const std::string& match,
                                          size_t hits_max) {
  HF_ASSIGN_OR_RETURN(SqliteStatement oldest, connection.Prepare(kOldestRankedSql));
  HF_ASSIGN_OR_RETURN(const bool many, oldest.Bind(1, match).Step());
  const int64_t from = many ? oldest.Int(0) : 0;
  HF_RETURN_IF_ERROR(oldest.Finish());
  HF_ASSIGN_OR_RETURN(SqliteStatement rank, connection.Prepare(kRankSql));
  rank.Bind(1, match).Bind(2, from).Bind(3, static_cast<int64_t>(hits_max));
  std::vector<int64_t> rows;
  for (;;) {
    HF_ASSIGN_OR_RETURN(const bool row, rank.Step());
    if (!row) break;
    rows.push_back(rank.Int(0));
  }
  HF_RETURN_IF_ERROR(rank.Finish());
  return rows;
}

base::StatusOr<std::vector<TextHit>> Run(SqliteConnection& connection, const TextQuery& query,
                                         const std::string& terms, bool has_all) {
  const std::string match = MatchIn(query, terms);
  HF_ASSIGN_OR_RETURN(const std::vector<int64_t> rows, Rank(connection, match, query.hits_max));
  HF_ASSIGN_OR_RETURN(SqliteStatement read, connection.Prepare(kHitSql));
  std::vector<TextHit> hits;
  for (const int64_t row : rows) {
    HF_ASSIGN_OR_RETURN(const bool found, read.Bind(1, match).Bind(2, row).Step());
    if (found) {
      CutText cut = SnippetOf(read.Text(4), query.snippet_bytes_max);
      hits.push_back({.scope = std::string(read.Text(0)),
                      .kind = std::string(read.Text(1)),
                      .id = std::string(read.Text(2)),
                      .snippet = std::move(cut.line),
                      .cut_before = cut.cut_before,
                      .cut_after = cut.cut_after,
                      .text_bytes = static_cast<uint64_t>(read.Int(3)),
                      .has_all = has_all});
    }
    HF_RETURN_IF_ERROR(read.Finish());
  }
  return hits;
}

struct Row {
  int64_t row = 0;
  std::string text;
};

base::StatusOr<std::optional<Row>> OneRow(SqliteStatement& find) {
  HF_ASSIGN_OR_RETURN(const bool found, find.Step());
  std::optional<Row> row;
  if (found) row = Row{.row = find.Int(0), .text = std::string(find.Text(1))};
  HF_RETURN_IF_ERROR(find.Finish());
  return row;
}

}  // namespace

const SqliteSchema TextIndex::kSchema = {"text_index", kSteps};

TextMatch MatchOf(std::string_view query) {
  TextMatch match;
  for (const std::string& term : QueryReader(query).Read()) {
    match.all += (match.all.empty() ? "" : " ") + term;
    match.any += (match.any.empty() ? "" : " OR ") + term;
  }
  return match;
}

CutText CutAround(std::string_view text, size_t at, size_t bytes_max) {
  size_t begin = at > bytes_max / 4 ? at - bytes_max / 4 : 0;
  if (text.size() - begin < bytes_max) begin = text.size() > bytes_max ? text.size() - bytes_max : 0;
  while (begin > 0 && begin < text.size() && IsContinuation(text[begin])) ++begin;
  CutText cut{.cut_before = begin > 0};
  for (std::string_view rest = text.substr(begin); !rest.empty();) {
    const size_t size = CharacterBytes(rest);
    const bool control = size == 1 && (static_cast<unsigned char>(rest[0]) < ' ' || rest[0] == '\x7f');
    const std::string_view shown = size == 0 ? "?" : control ? " " : rest.substr(0, size);
    cut.cut_after = cut.line.size() + shown.size() > bytes_max;
    if (cut.cut_after) break;
    cut.line += shown;
    rest.remove_prefix(std::max<size_t>(size, 1));
  }
  return cut;
}

base::StatusOr<std::unique_ptr<TextIndex>> TextIndex::Make(SqliteDatabase& database) {
  HF_RETURN_IF_ERROR(database.writer().Prepare(kFindSql).status());  // says so when the schema is missing
  return std::unique_ptr<TextIndex>(new TextIndex(database.writer()));
}

base::Status TextIndex::RemoveRow(int64_t row, const TextDocument& document) {
  HF_ASSIGN_OR_RETURN(SqliteStatement unindex, writer_.Prepare(kUnindexSql));
  const std::string place = PlaceOf(document.scope, document.kind);
  HF_RETURN_IF_ERROR(unindex.Bind(1, row).Bind(2, place).Bind(3, document.text).Run());
  HF_ASSIGN_OR_RETURN(SqliteStatement remove, writer_.Prepare(kDeleteSql));
  return remove.Bind(1, row).Run();
}

base::Status TextIndex::Remove(std::string_view scope, std::string_view kind, std::string_view id) {
  HF_ASSIGN_OR_RETURN(SqliteStatement find, writer_.Prepare(kFindSql));
  find.Bind(1, scope).Bind(2, kind).Bind(3, id);
  HF_ASSIGN_OR_RETURN(std::optional<Row> row, OneRow(find));
  if (!row.has_value()) return absl::OkStatus();
  return RemoveRow(row->row,
                   {.scope = std::string(scope), .kind = std::string(kind), .text = std::move(row->text)});
}

base::Status TextIndex::RemoveScope(std::string_view scope) {
  HF_ASSIGN_OR_RETURN(SqliteStatement find, writer_.Prepare(kFindScopeSql));
  for (;;) {
    HF_ASSIGN_OR_RETURN(const bool found, find.Bind(1, scope).Step());
    const int64_t row = found ? find.Int(0) : 0;
    TextDocument document{.scope = std::string(scope)};
    if (found) document.text = find.Text(1);
    if (found) document.kind = find.Text(2);
    HF_RETURN_IF_ERROR(find.Finish());
    if (!found) return absl::OkStatus();
    HF_RETURN_IF_ERROR(RemoveRow(row, document));
  }
}

base::Status TextIndex::Put(const TextDocument& document) {
  HF_CHECK(writer_.in_transaction());
  HF_RETURN_IF_ERROR(Remove(document.scope, document.kind, document.id));
  const std::string_view text = FirstBytes(document.text, kTextBytesMax);
  HF_ASSIGN_OR_RETURN(SqliteStatement insert, writer_.Prepare(kInsertSql));
  insert.Bind(1, document.scope).Bind(2, document.kind).Bind(3, document.id).Bind(4, text);
  HF_RETURN_IF_ERROR(insert.Run());
  HF_ASSIGN_OR_RETURN(SqliteStatement index, writer_.Prepare(kIndexSql));
  const std::string place = PlaceOf(document.scope, document.kind);
  return index.Bind(1, writer_.last_row_id()).Bind(2, place).Bind(3, text).Run();
}

base::Status TextIndex::Rebuild() { return writer_.Execute(kRebuildSql); }

base::Status TextIndex::CheckIntegrity() { return writer_.Execute(kCheckSql); }

base::StatusOr<std::vector<TextHit>> TextIndex::Search(SqliteConnection& connection, const TextQuery& query) {
  HF_RETURN_IF_ERROR(CheckBounds(query));
  const TextMatch match = MatchOf(query.text);
  if (match.all.empty()) return std::vector<TextHit>();
  HF_ASSIGN_OR_RETURN(auto hits, Run(connection, query, match.all, true));
  if (!hits.empty() || match.all == match.any) return hits;
  return Run(connection, query, match.any, false);
}

base::StatusOr<std::string> TextIndex::Get(SqliteConnection& connection, std::string_view scope,
                                           std::string_view kind, std::string_view id) {
  HF_ASSIGN_OR_RETURN(SqliteStatement find, connection.Prepare(kFindSql));
  find.Bind(1, scope).Bind(2, kind).Bind(3, id);
  HF_ASSIGN_OR_RETURN(std::optional<Row> row, OneRow(find));
  if (!row.has_value())
    return base::NotFound("no document " + std::string(scope) + "/" + std::string(kind) + "/" +
                          std::string(id));
  return std::move(row->text);
}

}  // namespace holdfast::memory
