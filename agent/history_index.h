// Everything that was said and done in sessions, to be searched in full: what `recall` finds.
//
//   database: SqliteDatabase::Open(fs, options, {SessionSchema(), TextIndex::kSchema, HistorySchema()});
//   index->Update("fix-tests", texts, done);             // now and then: after turns, at a start
//   index->Search("fix-tests", texts, "lease number", 10, done);
//
// A projection of the logs: nothing waits for it but searches, and it can be dropped and made again. It keeps
// how far each log was read and goes on there. A search first reads what the log has more, so it finds all
// that was on record when it was asked for, and nothing that a rewind had left behind by then. A fork's
// history is its parent's up to the fork, indexed again for the fork, when it is first searched or updated.
//
// Documents and their kinds, each named by the event that completes it:
//   user, signal, notice   what came in; reminders repeat what was said and are none
//   said                   a turn of the model's, reasoning and text, without its calls; by its last tokens
//   call, result           of tools, but for those of agent/control_tools.h, which record what they change
//   note, plan, goal       also what the model claims of the goal
//   check                  command and output
// Of a text of more than 1 MiB the beginning is found. Queries are words, as memory/text_index.h says: none
// can be wrong.
//
// Errors: those of the store and the database. Threads: control lane; `done` is called there, not from within
// the method. Logs are read and documents written on the storage lane, in transactions of at most some 64 KiB
// of text (or one document), so that commits of sessions go in between. Destroyed when no task of the
// executor runs any more.
// Source: DESIGN section 6.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "agent/control_tools.h"
#include "base/executor.h"
#include "base/status.h"
#include "memory/sqlite_database.h"
#include "sessions/session_store.h"

namespace holdfast::agent {

// To be given to SqliteDatabase::Open beside memory::TextIndex::kSchema.
memory::SqliteSchema HistorySchema();

// What the tokens of a turn of the model's say. Called on both lanes, until `done`; what the functions use
// outlives that, or is kept alive by them.
struct TurnTexts {
  std::function<std::string(std::span<const int32_t>)> said;   // for people: Dialogue::Read
  std::function<std::string(std::span<const int32_t>)> bytes;  // as they stand in the window, decoded
};

struct HistoryIndexOptions {
  size_t read_events = 256;            // at a time
  size_t batch_bytes_max = 64 * 1024;  // of text in one transaction
  size_t excerpt_bytes_max = 240;
};

class HistoryIndex {
 public:
  template <class T>
  using Got = absl::AnyInvocable<void(base::StatusOr<T>)>;
  using Updated = absl::AnyInvocable<void(base::Status)>;

  // All outlive the index.
  static base::StatusOr<std::unique_ptr<HistoryIndex>> Open(base::Executor& executor,
                                                            memory::SqliteDatabase& database,
                                                            sessions::SessionStore& store,
                                                            const HistoryIndexOptions& options = {});
  virtual ~HistoryIndex() = default;

  // Reads the log to its end. NotFound when there is no such session.
  virtual void Update(std::string session, TurnTexts texts, Updated done) = 0;

  // Drops what is known of the session, and reads its log from the beginning.
  virtual void Rebuild(std::string session, TurnTexts texts, Updated done) = 0;

  // At most `count` (1 to 100) hits, the best first.
  virtual void Search(std::string session, TurnTexts texts, std::string query, size_t count,
                      Got<std::vector<RecallHit>> done) = 0;

  // The text of the document of event `seq`, whole and byte for byte: a message, the canonical arguments of a
  // call behind the name of its tool, a result, all of a turn as decoded. NotFound for any other event.
  virtual void Fetch(std::string session, TurnTexts texts, uint64_t seq, Got<std::string> done) = 0;
};

}  // namespace holdfast::agent
