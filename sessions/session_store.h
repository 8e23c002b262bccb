// The record of all sessions: their logs, and a row for each that says where it stands.
//
//   SessionStore::Open -> Create("fix-tests", created, ...) -> OpenSession("fix-tests", ...) -> StoredSession
//
// Whoever works on a session holds its lease. A lease is a number that only grows: who takes it makes every
// write of an earlier holder fail. A session that says RUNNING without a holder in this process was left so
// by a process that ended, and needs recovery (sessions/recovery.h).
//
// Appends wait in a queue; whatever is in it when the disk is free is one commit. So a busy machine pays one
// fsync for many sessions, and an idle one none for waiting.
//
// A fork's events go on with the number after the parent's event that it was forked at; below it, its history
// is the parent's.
//
// Threads: all methods and callbacks on the control lane; the database is used on the storage lane. Callbacks
// are not called from within the method. Destroyed when no task of the executor runs any more.
// Source: DESIGN section 6; docs/formats/session_log.md; ADR 0012.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "memory/block_key.h"
#include "memory/sqlite_database.h"
#include "sessions/event.h"
#include "sessions/session_log.h"

namespace holdfast::sessions {

// What the database has for sessions; to be given to SqliteDatabase::Open.
memory::SqliteSchema SessionSchema();

// A session as it stands in a list.
struct SessionRow {
  std::string id;
  SessionUid uid = {};
  SessionState state = SessionState::kIdle;
  WaitFor wait = WaitFor::kNothing;
  std::string reason;
  uint64_t last_seq = 0;
  uint64_t generation = 0;
  int64_t created_utc_ms = 0;
  int64_t updated_utc_ms = 0;
  std::string parent;  // id; empty: none
  uint64_t parent_seq = 0;
  bool archived = false;
  // What whoever works on the session last noted of it for lists (StoredSession::NoteSummary); may be behind
  // the log, empty: nothing.
  std::string summary;
};

// Which sessions a list has.
struct SessionFilter {
  std::vector<SessionState> states;  // empty: all
  bool archived = false;             // the archived ones too
};

inline constexpr size_t kSummaryBytesMax = 1024;

struct SessionPage {
  std::vector<SessionRow> sessions;  // the last updated first
  std::string next_page_token;       // empty: there are no more
};

// Where the KV of a session ended when it last rested; a hint, not part of the log.
struct StoredKv {
  memory::BlockKey end;
  std::vector<memory::BlockKey> tails;
};

// A session whose lease this process has.
class StoredSession : public SessionLog {
 public:
  virtual const std::string& id() const = 0;
  virtual uint64_t generation() const = 0;
  virtual const std::optional<StoredKv>& kv() const = 0;
  // Not waited for.
  virtual void NoteKv(StoredKv kv) = 0;

  // A hint for lists, of at most kSummaryBytesMax; opaque here. In the next commit, and not waited for.
  virtual const std::string& summary() const = 0;
  virtual void NoteSummary(std::string summary) = 0;

  // As Append, and in the same commit takes the session out of lists or puts it back. `bodies` may be empty.
  virtual void SetArchived(bool archived, std::vector<EventBody> bodies, Appended done) = 0;

  // Goes back to what was after event `to_seq`, at least 1, and rests there (IDLE); sampling goes on in
  // `stream`; `bodies` follow in the same commit. While nothing is being added. InvalidArgument for an event
  // that does not count any more. The files are the caller's to restore.
  virtual void Rewind(uint64_t to_seq, uint32_t stream, std::vector<EventBody> bodies, Appended done) = 0;
};

struct SessionStoreOptions {
  size_t page_sessions_max = 1000;
};

// The next events of a log, in order; none at the end. Called on the storage lane.
using EventSource = absl::AnyInvocable<base::StatusOr<std::vector<Event>>()>;

class SessionStore {
 public:
  template <class T>
  using Got = absl::AnyInvocable<void(base::StatusOr<T>)>;

  // All must outlive the store. The database has SessionSchema().
  static base::StatusOr<std::unique_ptr<SessionStore>> Open(base::Executor& executor, base::Clock& clock,
                                                            memory::SqliteDatabase& database,
                                                            const SessionStoreOptions& options = {});
  virtual ~SessionStore() = default;

  // Makes a session with its first event, and `bodies` behind it, in one commit. InvalidArgument for an id
  // that is not 1 to 63 of [a-z0-9-] between letters and digits; AlreadyExists. `created.parent` names a
  // session that is here, at an event that it has: NotFound otherwise. `bodies` must go together with what is
  // before them (SessionFacts::Apply): Internal, for a fork when it is opened.
  virtual void Create(std::string id, SessionCreated created, std::vector<EventBody> bodies,
                      Got<SessionRow> done) = 0;

  // Reads the log and takes the lease, in a commit with what others write at about the same time; `fold`,
  // which may be null and outlives the session, is told its events. NotFound; FailedPrecondition while this
  // process has it open; DataLoss, naming the event, when the chain does not hold or an event makes no sense.
  virtual void OpenSession(std::string id, EventFold* fold, Got<std::unique_ptr<StoredSession>> done) = 0;

  virtual void Get(std::string id, Got<SessionRow> done) = 0;

  // Pages by last update; `page_token` is empty or the next_page_token of the last page of the same filter.
  // InvalidArgument for any other.
  virtual void List(SessionFilter filter, size_t page_size, std::string page_token,
                    Got<SessionPage> done) = 0;

  // Ids of sessions that say RUNNING or WAITING: what a start has to look after.
  virtual void ListUnfinished(Got<std::vector<std::string>> done) = 0;

  // Events `after_seq` + 1 to at most `count` further, the parent's among them, also of those that a rewind
  // has left behind. Bounded to some 16 MiB.
  virtual void ReadEvents(std::string id, uint64_t after_seq, size_t count, Got<std::vector<Event>> done) = 0;

  // Out of lists, or into them again; its events stay. NotFound. For a session that nobody has open here, or
  // who has it open does not mind.
  virtual void Archive(std::string id, bool archived, Got<SessionRow> done) = 0;

  // Takes over the session `uid` from elsewhere, whole or not at all: its events with their numbers, times
  // and chains, as one history without a parent here (a fork's begins with its parents'). One that was at
  // work is PAUSED (IMPORTED) by an event of its own. AlreadyExists for an id that is taken or a session that
  // is here; DataLoss for events that are no such log; what `events` answers.
  virtual void Import(std::string id, SessionUid uid, EventSource events, Got<SessionRow> done) = 0;

  // Compares every row that was computed with the log, and puts right what differs; says how many did.
  virtual void Rebuild(std::string id, Got<int> done) = 0;
};

}  // namespace holdfast::sessions
