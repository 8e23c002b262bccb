// Full-text search over documents: notes, events, results of tools. For recall: "what was said about X, and
// where".
//
//   database: SqliteDatabase::Open(fs, options, {..., TextIndex::kSchema});
//   HF_RETURN_IF_ERROR(index->Put({.scope = session, .kind = "note", .id = id, .text = text}));  // in a
//   transaction HF_ASSIGN_OR_RETURN(const auto hits, TextIndex::Search(reader, {.text = "lease \"generation
//   number\""}));
//
// What is searched for is plain text: words, all of which must occur, as any word of a document ("Lease"
// finds "lease"; accents do not count); words in double quotes must follow each other; a word of three or
// more characters with * at its end finds all that begin so. All other characters are borders of words, so
// that nothing can be wrong with a query: `foo::Bar(x)` finds the words foo, bar and x in this order. When no
// document has all of it, those that have any are given.
//
// The order of hits is by relevance (BM25), then by age; it depends on what is stored only. Where more than
// 5,000 documents match, the newest 5,000 are ranked: what stands nearly everywhere tells little, and ranking
// all of it would cost seconds.
//
// Errors as in sqlite_database.h. Threads: those of the connections.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "memory/sqlite_database.h"
#include "memory/sqlite_statement.h"

namespace holdfast::memory {

struct TextDocument {
  std::string scope;  // whose: a session, say
  std::string kind;   // "note", "result"
  std::string id;     // unique within scope and kind
  std::string text;
};

struct TextQuery {
  std::string text;                // the first 4,096 bytes and 32 words count
  std::string scope;               // empty: all
  std::string kind;                // empty: all
  size_t hits_max = 10;            // 1 to 100
  size_t snippet_bytes_max = 240;  // 16 to 4,096
};

struct TextHit {
  std::string scope;
  std::string kind;
  std::string id;
  std::string snippet;      // a piece of the text around the first words found; one line, valid UTF-8
  bool cut_before = false;  // the text has more before the snippet,
  bool cut_after = false;   // or behind it
  uint64_t text_bytes = 0;  // of the whole
  bool has_all = true;      // of the words; false when only some
};

class TextIndex {
 public:
  static const SqliteSchema kSchema;

  // Of a document longer than this only the beginning is stored and found.
  static constexpr size_t kTextBytesMax = 1 << 20;

  // `database` must have kSchema, and outlives the index.
  static base::StatusOr<std::unique_ptr<TextIndex>> Make(SqliteDatabase& database);

  // Adds a document, or replaces it. In a transaction of the writer, which decides when it counts.
  base::Status Put(const TextDocument& document);

  // Removes a document; one that is not there is fine.
  base::Status Remove(std::string_view scope, std::string_view kind, std::string_view id);
  // Removes all documents of a scope.
  base::Status RemoveScope(std::string_view scope);

  // Builds the index anew from the stored texts, and compares them.
  base::Status Rebuild();
  base::Status CheckIntegrity();

  // On any connection. InvalidArgument for impossible bounds. A query without any word finds nothing.
  static base::StatusOr<std::vector<TextHit>> Search(SqliteConnection& connection, const TextQuery& query);

  // The stored text. NotFound.
  static base::StatusOr<std::string> Get(SqliteConnection& connection, std::string_view scope,
                                         std::string_view kind, std::string_view id);

 private:
  explicit TextIndex(SqliteConnection& writer) : writer_(writer) {}
  // The row of `document` is to go.
  base::Status RemoveRow(int64_t row, const TextDocument& document);

  SqliteConnection& writer_;
};

// How a query is put to FTS5: what was meant as text stands in quotes. Empty when there is no word in it.
struct TextMatch {
  std::string all;  // every word
  std::string any;  // at least one
};
TextMatch MatchOf(std::string_view query);

// At most `bytes_max` bytes of `text` around `at`, as one line of valid UTF-8.
struct CutText {
  std::string line;
  bool cut_before = false;
  bool cut_after = false;
};
CutText CutAround(std::string_view text, size_t at, size_t bytes_max);

}  // namespace holdfast::memory
