#include "sessions/session_store.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "sessions/store/tables.h"

namespace holdfast::sessions {
namespace {

class Store;

// The control lane's side of an open session.
class OpenedSession final : public StoredSession {
 public:
  OpenedSession(Store& store, store::FullRow row, store::History history, EventFold* fold);
  ~OpenedSession() override;

  void Append(std::vector<EventBody> bodies, Appended done) override;
  const SessionFacts& facts() const override { return facts_; }
  base::StatusOr<Event> ReadUntold(uint64_t seq) const override;
  const std::string& id() const override { return row_.row.id; }
  uint64_t generation() const override { return row_.row.generation; }
  const std::optional<StoredKv>& kv() const override { return row_.kv; }
  void NoteKv(StoredKv kv) override;
  const std::string& summary() const override { return row_.row.summary; }
  void NoteSummary(std::string summary) override;
  void SetArchived(bool archived, std::vector<EventBody> bodies, Appended done) override;
  void Rewind(uint64_t to_seq, uint32_t stream, std::vector<EventBody> bodies, Appended done) override;

  int64_t key() const { return row_.key; }
  EventFold* fold() const { return fold_; }
  void Added(const base::Status& status, std::vector<Event> events);
  const base::Status& failed() const { return failed_; }
  void Replace(store::History history);

 private:
  void Add(store::NewEvents events, Appended done);

  Store& store_;
  store::FullRow row_;
  SessionFacts facts_;                // of what is durable
  SessionFacts ahead_;                // and of what is being added
  std::map<uint64_t, Event> untold_;  // durable
  base::Status failed_;
  EventFold* const fold_;  // or null
};

class Store final : public SessionStore {
 public:
  Store(base::Executor& executor, base::Clock& clock, store::Tables tables,
        const SessionStoreOptions& options)
      : executor_(executor), clock_(clock), options_(options), tables_(std::move(tables)) {}

  void Create(std::string id, SessionCreated created, std::vector<EventBody> bodies,
              Got<SessionRow> done) override;
  void OpenSession(std::string id, EventFold* fold, Got<std::unique_ptr<StoredSession>> done) override;
  void Get(std::string id, Got<SessionRow> done) override {
    Ask<SessionRow>(std::move(done), [this, id = std::move(id)] { return RowOf(tables_.Find(id)); });
  }
  void List(SessionFilter filter, size_t page_size, std::string page_token, Got<SessionPage> done) override {
    const size_t size = std::min(std::max<size_t>(page_size, 1), options_.page_sessions_max);
    Ask<SessionPage>(std::move(done),
                     [this, filter = std::move(filter), size, token = std::move(page_token)] {
                       return tables_.List(filter, size, token);
                     });
  }
  void ListUnfinished(Got<std::vector<std::string>> done) override {
    Ask<std::vector<std::string>>(std::move(done), [this] { return tables_.Unfinished(); });
  }
  void ReadEvents(std::string id, uint64_t after_seq, size_t count, Got<std::vector<Event>> done) override {
    Ask<std::vector<Event>>(
        std::move(done),
        [this, id = std::move(id), after_seq, count]() -> base::StatusOr<std::vector<Event>> {
          HF_ASSIGN_OR_RETURN(const store::FullRow row, tables_.Find(id));
          return tables_.Events(row, after_seq, count);
        });
  }
  void Archive(std::string id, bool archived, Got<SessionRow> done) override {
    Ask<SessionRow>(std::move(done), [this, id = std::move(id), archived, now = NowMs()] {
      return RowOf(tables_.Archive(id, archived, now));
    });
  }
  void Import(std::string id, SessionUid uid, EventSource events, Got<SessionRow> done) override;
  void Rebuild(std::string id, Got<int> done) override {
    Ask<int>(std::move(done), [this, id = std::move(id)] { return tables_.Rebuild(id); });
  }

  // For sessions, control lane.
  void Enqueue(store::NewEvents events, Appended done);
  void NoteKv(int64_t key, uint64_t generation, StoredKv kv);
  void Rewind(OpenedSession& session, uint64_t to_seq, uint32_t stream, std::vector<EventBody> bodies,
              Appended done);
  void Closed(const OpenedSession& session);

 private:
  struct Waiting {
    store::NewEvents events;
    Appended done;
  };

  // A session that has been read, and whose lease is not taken yet.
  struct Loaded {
    store::FullRow row;
    store::History history;
  };
  void TakeLease(Loaded loaded, EventFold* fold, Got<std::unique_ptr<StoredSession>> done);

  struct Importing {
    std::string id;
    int64_t key = 0;
    EventSource events;
    Got<SessionRow> done;
  };
  void ImportMore(std::unique_ptr<Importing> import);
  void EndImport(std::unique_ptr<Importing> import, const base::Status& status);

  int64_t NowMs() { return clock_.UtcNow().ns / base::kNsPerMs; }
  static base::StatusOr<SessionRow> RowOf(base::StatusOr<store::FullRow> full) {
    if (!full.ok()) return full.status();
    return std::move(full->row);
  }

  // Runs `work` on the storage lane, and `done` with what it gave on the control lane.
  template <class T, class Work>
  void Ask(Got<T> done, Work work);
  void WriteWaiting();
  static void Refuse(Waiting& one, const base::Status& why);
  OpenedSession* FindOpen(int64_t key) {
    const auto found = open_.find(key);
    return found == open_.end() ? nullptr : found->second;
  }

  base::Executor& executor_;
  base::Clock& clock_;
  const SessionStoreOptions options_;
  store::Tables tables_;  // storage lane

  // Control lane.
  std::deque<Waiting> waiting_;
  bool writing_ = false;
  std::map<int64_t, OpenedSession*> open_;
  std::set<std::string> opening_;
};

// --- The store

template <class T, class Work>
void Store::Ask(Got<T> done, Work work) {
  executor_.PostResult(
      base::Lane::kStorage, [this, done = std::move(done), work = std::move(work)]() mutable {
        executor_.PostResult(
            base::Lane::kControl,
            [done = std::move(done), got = base::StatusOr<T>(work())]() mutable { done(std::move(got)); });
      });
}

void Store::Create(std::string id, SessionCreated created, std::vector<EventBody> bodies,
                   Got<SessionRow> done) {
  Ask<SessionRow>(std::move(done),
                  [this, id = std::move(id), created = std::move(created), bodies = std::move(bodies),
                   now = NowMs()] { return RowOf(tables_.Insert(id, created, bodies, now)); });
}

// Once the log is read, so that the leases of sessions that are opened together share a commit.
void Store::TakeLease(Loaded loaded, EventFold* fold, Got<std::unique_ptr<StoredSession>> done) {
  store::NewEvents lease{.key = loaded.row.key, .generation = loaded.row.row.generation, .take_lease = true};
  Enqueue(std::move(lease), [this, loaded = std::move(loaded), fold,
                             done = std::move(done)](const base::Status& taken) mutable {
    opening_.erase(loaded.row.row.id);
    if (!taken.ok()) return done(taken);
    ++loaded.row.row.generation;
    auto session =
        std::make_unique<OpenedSession>(*this, std::move(loaded.row), std::move(loaded.history), fold);
    open_.emplace(session->key(), session.get());
    done(std::unique_ptr<StoredSession>(std::move(session)));
  });
}

void Store::OpenSession(std::string id, EventFold* fold, Got<std::unique_ptr<StoredSession>> done) {
  const bool is_open =
      opening_.contains(id) ||
      std::any_of(open_.begin(), open_.end(), [&id](const auto& open) { return open.second->id() == id; });
  if (!is_open) opening_.insert(id);
  Ask<Loaded>(
      [this, id, is_open, fold, done = std::move(done)](base::StatusOr<Loaded> loaded) mutable {
        if (loaded.ok()) return TakeLease(*std::move(loaded), fold, std::move(done));
        if (!is_open) opening_.erase(id);
        done(loaded.status());
      },
      [this, id, is_open, fold]() -> base::StatusOr<Loaded> {
        if (is_open) return base::FailedPrecondition("session " + id + " is open already");
        Loaded loaded;
        HF_ASSIGN_OR_RETURN(loaded.row, tables_.Find(id));
        HF_ASSIGN_OR_RETURN(loaded.history, tables_.Load(loaded.row, fold));
        if (loaded.history.chain != loaded.row.chain) {
          return base::DataLoss("session " + id + ": its row does not agree with its log; rebuild it");
        }
        return loaded;
      });
}

void Store::Import(std::string id, SessionUid uid, EventSource events, Got<SessionRow> done) {
  auto import =
      std::make_unique<Importing>(Importing{.id = id, .events = std::move(events), .done = std::move(done)});
  Ask<int64_t>(
      [this, import = std::move(import)](base::StatusOr<int64_t> key) mutable {
        if (!key.ok()) return import->done(key.status());
        import->key = *key;
        ImportMore(std::move(import));
      },
      [this, id = std::move(id), uid, now = NowMs()] { return tables_.BeginImport(id, uid, now); });
}

// Some events a task, so that others' commits come in between.
void Store::ImportMore(std::unique_ptr<Importing> import) {
  Importing* one = import.get();
  Ask<bool>(
      [this, import = std::move(import)](base::StatusOr<bool> more) mutable {
        if (more.ok() && *more) return ImportMore(std::move(import));
        EndImport(std::move(import), more.status());
      },
      [this, one]() -> base::StatusOr<bool> {
        HF_ASSIGN_OR_RETURN(const std::vector<Event> events, one->events());
        HF_RETURN_IF_ERROR(tables_.AddImported(one->key, events));
        return !events.empty();
      });
}

void Store::EndImport(std::unique_ptr<Importing> import, const base::Status& status) {
  Ask<SessionRow>(std::move(import->done),
                  [this, id = std::move(import->id), key = import->key, status,
                   now = NowMs()]() -> base::StatusOr<SessionRow> {
                    base::StatusOr<SessionRow> row = status.ok() ? RowOf(tables_.EndImport(key, id, now))
                                                                 : base::StatusOr<SessionRow>(status);
                    if (!row.ok()) tables_.DropImport(key).IgnoreError();  // else the next start does
                    return row;
                  });
}

void Store::Enqueue(store::NewEvents events, Appended done) {
  events.utc_ms = NowMs();
  waiting_.push_back({.events = std::move(events), .done = std::move(done)});
  WriteWaiting();
}

// What was added behind events that never came to be would leave a hole in the log.
void Store::Refuse(Waiting& one, const base::Status& why) {
  one.events = {.key = one.events.key, .generation = one.events.generation};
  one.done = [why, done = std::move(one.done)](const base::Status& /*nothing was added*/) mutable {
    done(why);
  };
}

// All that waits becomes one commit; what comes meanwhile, the next.
void Store::WriteWaiting() {
  if (writing_ || waiting_.empty()) return;
  writing_ = true;
  struct Batch {
    std::vector<store::NewEvents> events;
    std::vector<Appended> done;
    std::vector<base::Status> results;
    std::vector<std::vector<Event>> added;
  };
  auto batch = std::make_unique<Batch>();
  for (Waiting& one : std::exchange(waiting_, {})) {
    const OpenedSession* session = FindOpen(one.events.key);
    if (session != nullptr && !session->failed().ok()) Refuse(one, session->failed());
    batch->events.push_back(std::move(one.events));
    batch->done.push_back(std::move(one.done));
  }
  executor_.PostResult(base::Lane::kStorage, [this, batch = std::move(batch)]() mutable {
    batch->results = tables_.Append(batch->events, &batch->added);
    executor_.PostResult(base::Lane::kControl, [this, batch = std::move(batch)]() mutable {
      for (size_t i = 0; i < batch->done.size(); ++i) {
        OpenedSession* session = FindOpen(batch->events[i].key);
        const bool is_hint = batch->events[i].summary.has_value();  // nothing is built on it
        if (session != nullptr && !is_hint) {
          session->Added(batch->results[i], std::move(batch->added[i]));
        }
        batch->done[i](batch->results[i]);
      }
      writing_ = false;
      WriteWaiting();  // last: it is known now what must not follow
    });
  });
}

void Store::NoteKv(int64_t key, uint64_t generation, StoredKv kv) {
  executor_.PostResult(base::Lane::kStorage, [this, key, generation, kv = std::move(kv)] {
    tables_.SetKv(key, generation, kv).IgnoreError();  // a hint
  });
}

void Store::Rewind(OpenedSession& session, uint64_t to_seq, uint32_t stream, std::vector<EventBody> bodies,
                   Appended done) {
  const int64_t key = session.key();
  store::NewEvents events{.key = key,
                          .generation = session.generation(),
                          .utc_ms = NowMs(),
                          .bodies = {sessions::Rewound{.to_seq = to_seq, .stream = stream},
                                     StateChanged{.state = SessionState::kIdle, .reason = "rewound"}}};
  events.bodies.insert(events.bodies.end(), bodies.begin(), bodies.end());
  Ask<store::History>(
      [this, key, done = std::move(done)](base::StatusOr<store::History> history) mutable {
        OpenedSession* open = FindOpen(key);
        if (open != nullptr && history.ok()) open->Replace(*std::move(history));
        const bool refused = absl::IsInvalidArgument(history.status());
        if (open != nullptr && !history.ok() && !refused) open->Added(history.status(), {});
        done(history.status());
      },
      [this, id = session.id(), fold = session.fold(), to_seq,
       events = std::move(events)]() -> base::StatusOr<store::History> {
        HF_ASSIGN_OR_RETURN(const store::FullRow before, tables_.Find(id));
        HF_RETURN_IF_ERROR(tables_.CheckRewind(before, to_seq));
        std::vector<std::vector<Event>> added;
        HF_RETURN_IF_ERROR(tables_.Append({events}, &added).front());
        HF_ASSIGN_OR_RETURN(const store::FullRow row, tables_.Find(id));
        return tables_.Load(row, fold);
      });
}

void Store::Closed(const OpenedSession& session) { open_.erase(session.key()); }

// --- A session

OpenedSession::OpenedSession(Store& store, store::FullRow row, store::History history, EventFold* fold)
    : store_(store), row_(std::move(row)), fold_(fold) {
  Replace(std::move(history));
}

OpenedSession::~OpenedSession() { store_.Closed(*this); }

void OpenedSession::Replace(store::History history) {
  facts_ = std::move(history.facts);
  ahead_ = facts_;
  untold_.clear();
  for (Event& event : history.untold) untold_.emplace(event.seq, std::move(event));
}

void OpenedSession::Append(std::vector<EventBody> bodies, Appended done) {
  Add({.bodies = std::move(bodies)}, std::move(done));
}

void OpenedSession::SetArchived(bool archived, std::vector<EventBody> bodies, Appended done) {
  Add({.bodies = std::move(bodies), .archived = archived}, std::move(done));
}

void OpenedSession::NoteSummary(std::string summary) {
  HF_CHECK(summary.size() <= kSummaryBytesMax);
  row_.row.summary = summary;
  Add({.summary = std::move(summary)}, [](const base::Status&) {});  // a hint
}

void OpenedSession::Add(store::NewEvents events, Appended done) {
  events.key = key();
  events.generation = generation();
  // What contradicts the log must not get into it: it could not be read again.
  for (size_t i = 0; failed_.ok() && i < events.bodies.size(); ++i) {
    const EventBody& body = events.bodies[i];
    if (std::holds_alternative<sessions::Rewound>(body)) failed_ = base::Internal("a rewind is no append");
    if (!failed_.ok()) break;
    const base::Status fits = ahead_.Apply({.seq = ahead_.last_seq() + 1, .body = body});
    if (!fits.ok()) failed_ = base::Internal("an event that contradicts the log: " + base::Message(fits));
  }
  // Refused in order, behind what is being added.
  if (!failed_.ok()) events = {.key = key(), .generation = generation()};
  store_.Enqueue(std::move(events), [refusal = failed_, done = std::move(done)](base::Status status) mutable {
    done(refusal.ok() ? std::move(status) : refusal);
  });
}

void OpenedSession::Added(const base::Status& status, std::vector<Event> events) {
  if (!status.ok()) {
    if (failed_.ok()) failed_ = status;
    return;
  }
  for (Event& event : events) {
    const base::Status applied = facts_.Apply(event);
    HF_CHECK(applied.ok());  // as it was in ahead_
    if (fold_ != nullptr) fold_->Apply(event);
    if (!facts_.untold().empty() && facts_.untold().back() == event.seq)
      untold_.emplace(event.seq, std::move(event));
  }
  const auto& untold = facts_.untold();
  std::erase_if(untold_, [&untold](const auto& entry) {
    return std::find(untold.begin(), untold.end(), entry.first) == untold.end();
  });
}

base::StatusOr<Event> OpenedSession::ReadUntold(uint64_t seq) const {
  const auto found = untold_.find(seq);
  if (found == untold_.end()) return base::NotFound("event " + std::to_string(seq) + " is not untold");
  return found->second;
}

void OpenedSession::NoteKv(StoredKv kv) {
  row_.kv = kv;
  store_.NoteKv(row_.key, row_.row.generation, std::move(kv));
}

void OpenedSession::Rewind(uint64_t to_seq, uint32_t stream, std::vector<EventBody> bodies, Appended done) {
  store_.Rewind(*this, to_seq, stream, std::move(bodies), std::move(done));
}

}  // namespace

base::StatusOr<std::unique_ptr<SessionStore>> SessionStore::Open(base::Executor& executor, base::Clock& clock,
                                                                 memory::SqliteDatabase& database,
                                                                 const SessionStoreOptions& options) {
  HF_ASSIGN_OR_RETURN(store::Tables tables, store::Tables::Prepare(database));
  return std::unique_ptr<SessionStore>(std::make_unique<Store>(executor, clock, std::move(tables), options));
}

}  // namespace holdfast::sessions
