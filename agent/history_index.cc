#include "agent/history_index.h"

#include <algorithm>
#include <map>
#include <utility>

#include "agent/history/history_documents.h"
#include "agent/history/history_tables.h"

namespace holdfast::agent {
namespace {

using sessions::Event;

constexpr size_t kDropDocuments = 64;  // in one transaction

// Somebody who waits for a log to be read to the end it had when they came.
struct Waiting {
  bool anew = false;  // after all that is known was dropped
  TurnTexts texts;
  HistoryIndex::Updated done;
};

// A session's log while it is being read. Control lane, or lent to one task of the storage lane.
struct Reading {
  std::string session;
  TurnTexts texts;
  std::vector<Waiting> now;
  std::vector<Waiting> later;  // came while it was being read: once more

  uint64_t up_to = 0;                      // as the tables have it
  std::vector<Event> events;               // behind it, as far as they are read
  Rewinds rewinds;                         // met since the reading began
  std::vector<HistoryDocument> documents;  // of `events`, to be written
  size_t written = 0;                      // of them
  uint64_t next_up_to = 0;                 // when they are

  uint64_t last_seq() const { return events.empty() ? up_to : events.back().seq; }
};

class Index final : public HistoryIndex {
 public:
  Index(base::Executor& executor, sessions::SessionStore& store, HistoryTables tables,
        const HistoryIndexOptions& options)
      : executor_(executor), store_(store), options_(options), tables_(std::move(tables)) {}

  void Update(std::string session, TurnTexts texts, Updated done) override {
    Enqueue(std::move(session), {.texts = std::move(texts), .done = std::move(done)});
  }
  void Rebuild(std::string session, TurnTexts texts, Updated done) override {
    Enqueue(std::move(session), {.anew = true, .texts = std::move(texts), .done = std::move(done)});
  }
  void Search(std::string session, TurnTexts texts, std::string query, size_t count,
              Got<std::vector<RecallHit>> done) override;
  void Fetch(std::string session, TurnTexts texts, uint64_t seq, Got<std::string> done) override;

 private:
  // Runs `work` on the storage lane, then `then` with what it gave on the control lane.
  template <class Work, class Then>
  void OnStorage(Work work, Then then);

  void Enqueue(std::string session, Waiting waiting);
  void Begin(Reading& reading);
  void Drop(Reading& reading);
  void BeginReading(Reading& reading);
  void ReadMore(Reading& reading);
  void TakeEvents(Reading& reading, std::vector<Event> events);
  void Gather(Reading& reading);
  void WriteSome(Reading& reading);
  void Written(Reading& reading);
  void Finish(Reading& reading, const base::Status& status);

  base::StatusOr<bool> TakeRewinds(Reading& reading);
  base::Status WriteBatch(Reading& reading);
  void FetchDocument(const std::string& session, TurnTexts texts, const HistoryDocument& document,
                     Got<std::string> done);
  void ReadTurn(std::string session, TurnTexts texts, HistoryDocument turn, std::vector<Event> events,
                Got<std::string> done);

  base::Executor& executor_;
  sessions::SessionStore& store_;
  const HistoryIndexOptions options_;
  HistoryTables tables_;                     // storage lane
  std::map<std::string, Reading> readings_;  // control lane; a node stays where it is
};

template <class Work, class Then>
void Index::OnStorage(Work work, Then then) {
  executor_.PostResult(
      base::Lane::kStorage, [this, work = std::move(work), then = std::move(then)]() mutable {
        executor_.PostResult(base::Lane::kControl,
                             [then = std::move(then), got = work()]() mutable { then(std::move(got)); });
      });
}

// --- Reading a log to its end

void Index::Enqueue(std::string session, Waiting waiting) {
  const auto [entry, is_new] = readings_.try_emplace(session);
  Reading& reading = entry->second;
  reading.later.push_back(std::move(waiting));
  if (!is_new) return;
  reading.session = std::move(session);
  Begin(reading);
}

void Index::Begin(Reading& reading) {
  reading.now = std::exchange(reading.later, {});
  reading.texts = reading.now.front().texts;
  reading.events.clear();
  reading.rewinds.clear();
  const bool anew =
      std::any_of(reading.now.begin(), reading.now.end(), [](const Waiting& w) { return w.anew; });
  anew ? Drop(reading) : BeginReading(reading);
}

void Index::Drop(Reading& reading) {
  OnStorage([this, &reading] { return tables_.Drop(reading.session, kDropDocuments); },
            [this, &reading](const base::StatusOr<bool>& all) {
              if (!all.ok()) return Finish(reading, all.status());
              *all ? BeginReading(reading) : Drop(reading);
            });
}

void Index::BeginReading(Reading& reading) {
  OnStorage([this, &reading] { return tables_.ReadUpTo(reading.session); },
            [this, &reading](const base::StatusOr<uint64_t>& up_to) {
              if (!up_to.ok()) return Finish(reading, up_to.status());
              reading.up_to = *up_to;
              ReadMore(reading);
            });
}

void Index::ReadMore(Reading& reading) {
  store_.ReadEvents(reading.session, reading.last_seq(), options_.read_events,
                    [this, &reading](base::StatusOr<std::vector<Event>> events) {
                      if (!events.ok()) return Finish(reading, events.status());
                      if (events->empty()) return Finish(reading, absl::OkStatus());
                      TakeEvents(reading, *std::move(events));
                    });
}

// What a rewind has left behind goes first. When a turn that was written is cut by it, reading goes back to
// where the turn begins; the rewind is known then and does not do so again.
void Index::TakeEvents(Reading& reading, std::vector<Event> events) {
  std::move(events.begin(), events.end(), std::back_inserter(reading.events));
  OnStorage([this, &reading] { return TakeRewinds(reading); },
            [this, &reading](const base::StatusOr<bool>& back) {
              if (!back.ok()) return Finish(reading, back.status());
              *back ? ReadMore(reading) : Gather(reading);
            });
}

base::StatusOr<bool> Index::TakeRewinds(Reading& reading) {
  uint64_t up_to = reading.up_to;
  for (const Event& event : reading.events) {
    const auto* rewound = std::get_if<sessions::Rewound>(&event.body);
    if (rewound == nullptr || !reading.rewinds.emplace(event.seq, rewound->to_seq).second) continue;
    HF_ASSIGN_OR_RETURN(up_to, tables_.Rewind(reading.session, event.seq, rewound->to_seq));
  }
  if (up_to == reading.up_to) return false;
  reading.up_to = up_to;
  reading.events.clear();
  return true;
}

void Index::Gather(Reading& reading) {
  OnStorage(
      [&reading] {
        GatheredHistory gathered = GatherHistory(LiveOf(reading.events, reading.rewinds), reading.texts.said);
        reading.documents = std::move(gathered.documents);
        reading.written = 0;
        reading.next_up_to = gathered.open_from == 0 ? reading.last_seq() : gathered.open_from - 1;
        return true;
      },
      [this, &reading](bool) { WriteSome(reading); });
}

void Index::WriteSome(Reading& reading) {
  OnStorage([this, &reading] { return WriteBatch(reading); },
            [this, &reading](const base::Status& status) {
              if (!status.ok()) return Finish(reading, status);
              reading.written < reading.documents.size() ? WriteSome(reading) : Written(reading);
            });
}

base::Status Index::WriteBatch(Reading& reading) {
  const std::span<const HistoryDocument> rest = std::span(reading.documents).subspan(reading.written);
  size_t count = 0;
  for (size_t bytes = 0; count < rest.size() && (count == 0 || bytes < options_.batch_bytes_max); ++count)
    bytes += rest[count].text.size();
  const bool all = count == rest.size();
  HF_RETURN_IF_ERROR(tables_.Put(reading.session, rest.first(count),
                                 all ? std::optional(reading.next_up_to) : std::nullopt));
  reading.written += count;
  return absl::OkStatus();
}

void Index::Written(Reading& reading) {
  reading.documents.clear();
  reading.up_to = reading.next_up_to;
  std::erase_if(reading.events, [&reading](const Event& event) { return event.seq <= reading.up_to; });
  ReadMore(reading);
}

void Index::Finish(Reading& reading, const base::Status& status) {
  std::vector<Waiting> done = std::exchange(reading.now, {});
  if (reading.later.empty()) {
    readings_.erase(reading.session);
  } else {
    Begin(reading);
  }
  for (Waiting& waiting : done) waiting.done(status);
}

// --- Searching

void Index::Search(std::string session, TurnTexts texts, std::string query, size_t count,
                   Got<std::vector<RecallHit>> done) {
  Updated search = [this, session, query = std::move(query), count,
                    done = std::move(done)](base::Status status) mutable {
    if (!status.ok()) return done(std::move(status));
    OnStorage([this, session = std::move(session), query = std::move(query),
               count] { return tables_.Search(session, query, count, options_.excerpt_bytes_max); },
              std::move(done));
  };
  Update(std::move(session), std::move(texts), std::move(search));
}

void Index::Fetch(std::string session, TurnTexts texts, uint64_t seq, Got<std::string> done) {
  Updated fetch = [this, session, texts, seq, done = std::move(done)](base::Status status) mutable {
    if (!status.ok()) return done(std::move(status));
    OnStorage([this, session, seq] { return tables_.Find(session, seq); },
              [this, session, texts = std::move(texts), seq,
               done = std::move(done)](base::StatusOr<std::optional<HistoryDocument>> found) mutable {
                if (!found.ok()) return done(found.status());
                if (!found->has_value()) {
                  return done(base::NotFound("there is no text of event " + std::to_string(seq)));
                }
                FetchDocument(session, std::move(texts), **found, std::move(done));
              });
  };
  Update(std::move(session), std::move(texts), std::move(fetch));
}

void Index::FetchDocument(const std::string& session, TurnTexts texts, const HistoryDocument& document,
                          Got<std::string> done) {
  if (document.kind == "said") {
    return ReadTurn(session, std::move(texts), document, {}, std::move(done));
  }
  store_.ReadEvents(session, document.seq - 1, 1,
                    [done = std::move(done)](base::StatusOr<std::vector<Event>> events) mutable {
                      if (!events.ok()) return done(events.status());
                      std::optional<std::string> text;
                      if (!events->empty()) text = FetchedText(events->front().body);
                      if (!text) return done(base::DataLoss("history index: a document of no event"));
                      done(*std::move(text));
                    });
}

void Index::ReadTurn(std::string session, TurnTexts texts, HistoryDocument turn, std::vector<Event> events,
                     Got<std::string> done) {
  const uint64_t after = events.empty() ? turn.first - 1 : events.back().seq;
  if (after < turn.seq) {
    store_.ReadEvents(session, after, std::min<size_t>(turn.seq - after, options_.read_events),
                      [this, session, texts = std::move(texts), turn, events = std::move(events),
                       done = std::move(done)](base::StatusOr<std::vector<Event>> more) mutable {
                        if (!more.ok()) return done(more.status());
                        if (more->empty())
                          return done(base::DataLoss("history index: a turn without an end"));
                        std::move(more->begin(), more->end(), std::back_inserter(events));
                        ReadTurn(session, std::move(texts), turn, std::move(events), std::move(done));
                      });
    return;
  }
  // Rewinds behind the turn have left it as it is, or it would not be a document.
  Rewinds rewinds;
  for (const Event& event : events) {
    if (const auto* rewound = std::get_if<sessions::Rewound>(&event.body))
      rewinds[event.seq] = rewound->to_seq;
  }
  done(texts.bytes(TurnOf(LiveOf(events, rewinds))));
}

}  // namespace

base::StatusOr<std::unique_ptr<HistoryIndex>> HistoryIndex::Open(base::Executor& executor,
                                                                 memory::SqliteDatabase& database,
                                                                 sessions::SessionStore& store,
                                                                 const HistoryIndexOptions& options) {
  HF_ASSIGN_OR_RETURN(HistoryTables tables, HistoryTables::Prepare(database));
  return std::unique_ptr<HistoryIndex>(std::make_unique<Index>(executor, store, std::move(tables), options));
}

}  // namespace holdfast::agent
