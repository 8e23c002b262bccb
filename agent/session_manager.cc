#include "agent/session_manager.h"

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "agent/goal_rules.h"
#include "agent/session_wait.h"
#include "agent/window_text.h"
#include "base/hash.h"

namespace holdfast::agent {
namespace {

using sessions::EventBody;
using sessions::SessionState;
using sessions::StateChanged;

constexpr int64_t kAlarmLookNs = 10'000'000'000;  // the wall clock may be set

StateChanged Running(std::string reason) {
  return {.state = SessionState::kRunning, .reason = std::move(reason)};
}

// Ends every timer and the wait, as if nobody waited.
void EndWaits(const SessionWorker& worker, std::vector<EventBody>& bodies) {
  for (const auto& [name, timer] : worker.facts().timers())
    bodies.push_back(sessions::TimerEnded{.timer = name});
  if (worker.fold().agent().wait().has_value()) bodies.push_back(Encode(WaitEnded{.why = "cancelled"}));
}

// What makes a session work that does not: a paused goal is active again.
void SetGoing(const SessionWorker& worker, std::string reason, std::vector<EventBody>& bodies) {
  const AgentFacts& agent = worker.fold().agent();
  if (HasOpenGoal(agent) && agent.goal_state() == GoalState::kPaused) {
    bodies.push_back(Encode(GoalChanged{.state = GoalState::kActive, .reason = reason}));
  }
  if (worker.facts().state() != SessionState::kRunning) bodies.push_back(Running(std::move(reason)));
}

bool GoalIsActive(const SessionWorker& worker) {
  const AgentFacts& agent = worker.fold().agent();
  return HasOpenGoal(agent) && agent.goal_state() == GoalState::kActive;
}

}  // namespace

class SessionManager::Impl {
 public:
  Impl(const WorkerParts& parts, sessions::SessionStore& store, base::Entropy& entropy,
       const ManagerOptions& options,
       std::function<void(const std::string&, const sessions::Event&)> on_event)
      : parts_(parts), store_(store), entropy_(entropy), options_(options), on_event_(std::move(on_event)) {}
  ~Impl() {
    if (alarm_timer_.has_value()) parts_.executor.Cancel(*alarm_timer_);
  }

  void Start(Done done);
  void Stop(absl::AnyInvocable<void()> done);
  void Create(NewSession session, Got<sessions::SessionRow> done);
  void Send(std::string id, sessions::InputReceived input, Seq done);
  void Answer(std::string id, sessions::ApprovalResolved answer, Seq done);
  void SetGoal(std::string id, GoalSet goal, Seq done);
  void SetBudgets(std::string id, Budgets budgets, Seq done);
  void CancelGoal(std::string id, Seq done);
  void Pause(std::string id, Seq done);
  void Resume(std::string id, Seq done);
  void Fork(std::string id, uint64_t seq, std::string new_id, Got<sessions::SessionRow> done);
  void Rewind(std::string id, uint64_t seq, Done done);
  void Apply(std::string id, std::string request_id, Got<FilesReport> done);
  void Discard(std::string id, Seq done);
  void Archive(std::string id, Got<sessions::SessionRow> done);
  void Status(std::string id, Got<SessionStatus> done);
  size_t open_sessions() const { return open_; }

 private:
  // Gets the session, or why it cannot be opened.
  using Command = absl::AnyInvocable<void(base::StatusOr<SessionWorker*>)>;
  // Has the session halted to itself until it calls `finish`.
  using Finish = std::function<void()>;
  using Exclusive = absl::AnyInvocable<void(base::StatusOr<SessionWorker*>, Finish finish)>;

  struct Entry {
    std::unique_ptr<SessionWorker> worker;
    bool opening = false;
    bool closing = false;
    bool exclusive = false;
    bool parked = false;
    base::Status broken;  // why it was closed: the log took no more
    std::deque<Command> commands;
    std::deque<Exclusive> exclusives;
  };
  struct Alarm {
    int64_t due_utc_ms = 0;
    int64_t due_ns = 0;  // monotonic
  };

  Entry& EntryOf(const std::string& id) { return entries_[id]; }
  void With(const std::string& id, Command command);
  void Alone(const std::string& id, Exclusive operation);
  void RunExclusive(const std::string& id, Exclusive operation);
  void FinishExclusive(const std::string& id);
  void Open(const std::string& id);
  void OpenNow(const std::string& id);
  void Opened(const std::string& id, std::unique_ptr<SessionFold> fold,
              base::StatusOr<std::unique_ptr<sessions::StoredSession>> session);
  void RunCommands(const std::string& id);
  void OnParked(const std::string& id, const Parked& parked);
  void CloseSome();
  void Close(const std::string& id, absl::AnyInvocable<void()> done);
  void SetAlarm(const std::string& id, const SessionWorker& worker);
  void LookAtAlarms();
  void PostAt(int64_t after_ns, base::Task task) {
    auto timer = parts_.executor.PostAt({parts_.clock.MonotonicNow().ns + after_ns}, std::move(task));
    (void)timer;  // refused: the next event will do
  }
  int64_t UtcMs() { return parts_.clock.UtcNow().ns / base::kNsPerMs; }
  uint32_t NewStream() { return static_cast<uint32_t>(entropy_.Next64() >> 33) + 1; }
  sessions::SessionUid NewUid() {
    sessions::SessionUid uid;
    entropy_.Fill(uid);
    return uid;
  }

  const WorkerParts parts_;
  sessions::SessionStore& store_;
  base::Entropy& entropy_;
  const ManagerOptions options_;
  const std::function<void(const std::string&, const sessions::Event&)> on_event_;

  std::map<std::string, Entry> entries_;
  size_t open_ = 0;                      // workers, and those that are being opened
  std::deque<std::string> waiting_;      // for a place
  std::deque<std::string> parked_;       // oldest first; may name some that work again
  std::map<std::string, Alarm> alarms_;  // of sessions that are closed and wait
  std::optional<base::TimerId> alarm_timer_;
  bool stopping_ = false;
};

// --- Opening and closing

void SessionManager::Impl::With(const std::string& id, Command command) {
  if (stopping_) return command(absl::UnavailableError("the runtime is stopping"));
  Entry& entry = EntryOf(id);
  entry.parked = false;
  if (entry.worker != nullptr && !entry.closing && !entry.exclusive && entry.commands.empty()) {
    return command(entry.worker.get());
  }
  entry.commands.push_back(std::move(command));
  Open(id);
}

void SessionManager::Impl::Alone(const std::string& id, Exclusive operation) {
  With(id, [this, id, operation = std::move(operation)](base::StatusOr<SessionWorker*> worker) mutable {
    if (!worker.ok()) return operation(std::move(worker), [] {});
    Entry& entry = EntryOf(id);
    if (entry.exclusive) return entry.exclusives.push_back(std::move(operation));
    RunExclusive(id, std::move(operation));
  });
}

void SessionManager::Impl::RunExclusive(const std::string& id, Exclusive operation) {
  Entry& entry = EntryOf(id);
  entry.exclusive = true;
  entry.worker->Halt([this, id, operation = std::move(operation)]() mutable {
    operation(EntryOf(id).worker.get(), [this, id] {
      parts_.executor.PostResult(base::Lane::kControl, [this, id] { FinishExclusive(id); });
    });
  });
}

void SessionManager::Impl::FinishExclusive(const std::string& id) {
  Entry& entry = EntryOf(id);
  entry.exclusive = false;
  if (entry.worker == nullptr) return Open(id);  // it was closed on the way
  if (!entry.exclusives.empty()) {
    Exclusive next = std::move(entry.exclusives.front());
    entry.exclusives.pop_front();
    return RunExclusive(id, std::move(next));
  }
  RunCommands(id);
  if (!EntryOf(id).exclusive) EntryOf(id).worker->Consider();
}

void SessionManager::Impl::Open(const std::string& id) {
  Entry& entry = EntryOf(id);
  if (entry.worker != nullptr || entry.opening || entry.closing || stopping_) return;
  entry.opening = true;
  alarms_.erase(id);
  if (open_ >= options_.open_max) {
    waiting_.push_back(id);
    return CloseSome();
  }
  OpenNow(id);
}

void SessionManager::Impl::OpenNow(const std::string& id) {
  ++open_;
  std::function<void(const sessions::Event&)> on_event;
  if (on_event_) on_event = [this, id](const sessions::Event& event) { on_event_(id, event); };
  auto fold = std::make_unique<SessionFold>(std::move(on_event));
  SessionFold* const told = fold.get();
  store_.OpenSession(id, told, [this, id, fold = std::move(fold)](auto session) mutable {
    Opened(id, std::move(fold), std::move(session));
  });
}

void SessionManager::Impl::Opened(const std::string& id, std::unique_ptr<SessionFold> fold,
                                  base::StatusOr<std::unique_ptr<sessions::StoredSession>> session) {
  Entry& entry = EntryOf(id);
  entry.opening = false;
  if (!session.ok()) {
    --open_;
    std::deque<Command> commands = std::move(entry.commands);
    entries_.erase(id);
    for (Command& command : commands) command(session.status());
    return;
  }
  entry.worker = std::make_unique<SessionWorker>(parts_, *std::move(session), std::move(fold),
                                                 [this, id](const Parked& parked) { OnParked(id, parked); });
  if (const base::Status broken = std::exchange(entry.broken, {}); !broken.ok()) {
    // Whatever it was about to do stands in the log; a person has to make room first.
    std::vector<EventBody> bodies;
    if (GoalIsActive(*entry.worker)) {
      bodies.push_back(Encode(GoalChanged{.state = GoalState::kPaused, .reason = "STORAGE"}));
    }
    bodies.push_back(
        StateChanged{.state = SessionState::kPaused, .reason = "STORAGE: " + base::Message(broken)});
    entry.worker->Add(std::move(bodies), [](const base::StatusOr<uint64_t>&) {});
  }
  RunCommands(id);
  if (EntryOf(id).worker != nullptr && !EntryOf(id).exclusive) EntryOf(id).worker->Consider();
}

void SessionManager::Impl::RunCommands(const std::string& id) {
  for (;;) {
    Entry& entry = EntryOf(id);
    if (entry.commands.empty() || entry.exclusive || entry.worker == nullptr) return;
    Command command = std::move(entry.commands.front());
    entry.commands.pop_front();
    command(entry.worker.get());
  }
}

void SessionManager::Impl::OnParked(const std::string& id, const Parked& parked) {
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.worker == nullptr || stopping_) return;
  Entry& entry = found->second;
  if (entry.exclusive || entry.closing || !entry.worker->at_rest()) return;
  if (!parked.broken.ok()) {
    entry.broken = parked.broken;
    return Close(id, [this, id] { PostAt(options_.reopen_ms * base::kNsPerMs, [this, id] { Open(id); }); });
  }
  if (!parked.may_close) return;
  entry.parked = true;
  parked_.push_back(id);
  CloseSome();
}

// The sessions that have rested longest, when there are too many.
void SessionManager::Impl::CloseSome() {
  while (parked_.size() > (waiting_.empty() ? options_.parked_max : 0)) {
    const std::string id = std::move(parked_.front());
    parked_.pop_front();
    const auto found = entries_.find(id);
    if (found == entries_.end() || !found->second.parked || found->second.closing) continue;
    if (found->second.worker == nullptr || !found->second.worker->at_rest()) continue;
    Close(id, [] {});
  }
}

void SessionManager::Impl::Close(const std::string& id, absl::AnyInvocable<void()> done) {
  Entry& entry = EntryOf(id);
  entry.closing = true;
  SetAlarm(id, *entry.worker);
  entry.worker->Close([this, id, done = std::move(done)]() mutable {
    Entry& closed = EntryOf(id);
    closed.worker.reset();
    closed.closing = false;
    --open_;
    if (closed.exclusive || !closed.broken.ok()) {
      done();
    } else if (!closed.commands.empty()) {
      done();
      Open(id);
    } else {
      entries_.erase(id);
      done();
    }
    if (!waiting_.empty() && open_ < options_.open_max) {
      const std::string next = std::move(waiting_.front());
      waiting_.pop_front();
      OpenNow(next);
    }
  });
}

void SessionManager::Impl::SetAlarm(const std::string& id, const SessionWorker& worker) {
  if (worker.facts().state() != SessionState::kWaiting || worker.facts().timers().empty()) return;
  Alarm alarm{.due_utc_ms = INT64_MAX, .due_ns = INT64_MAX};
  const int64_t now_ns = parts_.clock.MonotonicNow().ns;
  for (const auto& [name, timer] : worker.facts().timers()) {
    alarm.due_utc_ms = std::min(alarm.due_utc_ms, timer.due_utc_ms);
    alarm.due_ns = std::min(alarm.due_ns, now_ns + timer.remaining_ms * base::kNsPerMs);
  }
  alarms_[id] = alarm;
  if (!alarm_timer_.has_value()) LookAtAlarms();
}

void SessionManager::Impl::LookAtAlarms() {
  const int64_t now_ns = parts_.clock.MonotonicNow().ns;
  const int64_t now_utc_ms = UtcMs();
  int64_t next_ns = now_ns + kAlarmLookNs;
  std::vector<std::string> due;
  for (const auto& [id, alarm] : alarms_) {
    if (alarm.due_ns <= now_ns || alarm.due_utc_ms <= now_utc_ms) {
      due.push_back(id);
    } else {
      next_ns = std::min({next_ns, alarm.due_ns, now_ns + (alarm.due_utc_ms - now_utc_ms) * base::kNsPerMs});
    }
  }
  for (const std::string& id : due) Open(id);  // takes the alarm away
  alarm_timer_.reset();
  if (alarms_.empty() || stopping_) return;
  auto timer = parts_.executor.PostAt({next_ns}, [this] { LookAtAlarms(); });
  if (timer.ok()) alarm_timer_ = *timer;
}

// --- Start and stop

void SessionManager::Impl::Start(Done done) {
  store_.ListUnfinished([this, done = std::move(done)](base::StatusOr<std::vector<std::string>> ids) mutable {
    if (!ids.ok()) return done(ids.status());
    // One after the other: each is opened, and does the rest beside the others.
    struct Starting {
      std::vector<std::string> ids;
      size_t at = 0;
      Done done;
    };
    auto opening = std::make_shared<Starting>(Starting{*std::move(ids), 0, std::move(done)});  // by all steps
    auto step = std::make_shared<std::function<void()>>();                                     // names itself
    *step = [this, opening, step] {
      if (opening->at == opening->ids.size()) {
        const auto keep = std::move(*step);  // ends the cycle
        return opening->done({});
      }
      With(opening->ids[opening->at++], [this, step](const base::StatusOr<SessionWorker*>&) {
        // One that cannot be opened says so to whoever asks for it.
        parts_.executor.PostResult(base::Lane::kControl, [step] {
          if (*step) (*step)();
        });
      });
    };
    (*step)();
  });
}

void SessionManager::Impl::Stop(absl::AnyInvocable<void()> done) {
  stopping_ = true;
  if (alarm_timer_.has_value()) parts_.executor.Cancel(*std::exchange(alarm_timer_, std::nullopt));
  auto left = std::make_shared<size_t>(1);                                     // by all sessions that stop
  auto ended = std::make_shared<absl::AnyInvocable<void()>>(std::move(done));  // likewise
  const auto one_less = [left, ended] {
    if (--*left == 0) (*ended)();
  };
  std::vector<std::string> ids;
  for (const auto& [id, entry] : entries_) {
    if (entry.worker != nullptr && !entry.closing && !entry.exclusive) ids.push_back(id);
  }
  for (const std::string& id : ids) {
    ++*left;
    EntryOf(id).worker->Halt([this, id, one_less] {
      EntryOf(id).worker->Close([this, id, one_less] {
        EntryOf(id).worker.reset();
        one_less();
      });
    });
  }
  parts_.executor.PostResult(base::Lane::kControl, one_less);
}

// --- What people ask for

void SessionManager::Impl::Create(NewSession session, Got<sessions::SessionRow> done) {
  const auto dialogue = parts_.dialogue(session.profile);
  if (!dialogue.ok()) return done(dialogue.status());
  if (session.id.empty()) {
    const uint64_t word = entropy_.Next64();
    session.id = "s-" + base::ToHex(std::as_bytes(std::span(&word, 1)));
  }
  std::string lines;
  for (const std::string& line : (*dialogue)->options().tools) lines += line + "\n";
  sessions::SessionCreated created{.uid = NewUid(),
                                   .weights = parts_.model.weights,
                                   .config = parts_.model.config,
                                   .tokenizer = parts_.model.tokenizer,
                                   .chat_template = parts_.model.chat_template,
                                   .tools = std::move(lines),
                                   .seed = session.seed};
  std::string id = session.id;
  store_.Create(id, std::move(created),
                [this, id, session = std::move(session),
                 done = std::move(done)](const base::StatusOr<sessions::SessionRow>& row) mutable {
                  // One that was begun and not finished is finished now.
                  if (!row.ok() && !absl::IsAlreadyExists(row.status())) return done(row.status());
                  const base::Status exists = row.ok() ? base::Status() : row.status();
                  With(id, [this, id, exists, session = std::move(session),
                            done = std::move(done)](base::StatusOr<SessionWorker*> worker) mutable {
                    if (!worker.ok()) return done(worker.status());
                    if (!exists.ok() && (*worker)->facts().last_seq() > 1) return done(exists);
                    std::vector<EventBody> bodies = {Encode(std::move(session.profile))};
                    if (session.goal.has_value()) bodies.push_back(Encode(*std::move(session.goal)));
                    if (!session.message.empty())
                      bodies.push_back(sessions::InputReceived{.text = std::move(session.message)});
                    if (bodies.size() > 1) bodies.push_back(Running("begun"));
                    (*worker)->Add(std::move(bodies), [this, id, done = std::move(done)](
                                                          const base::StatusOr<uint64_t>& seq) mutable {
                      if (!seq.ok()) return done(seq.status());
                      store_.Get(id, std::move(done));
                    });
                  });
                });
}

void SessionManager::Impl::Send(std::string id, sessions::InputReceived input, Seq done) {
  With(id, [input = std::move(input), done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker& worker = **got;
    if (const auto seq = worker.facts().FindRequest(input.request_id); seq.has_value()) return done(*seq);
    if (worker.facts().state() == SessionState::kClosed) {
      return done(base::FailedPrecondition("the session is closed"));
    }
    const sessions::InputKind kind = input.kind;
    std::vector<EventBody> bodies = {std::move(input)};
    if (kind == sessions::InputKind::kInterrupt && GoalIsActive(worker)) {
      bodies.push_back(Encode(GoalChanged{.state = GoalState::kPaused, .reason = "INTERRUPTED"}));
    }
    // Who waits is woken by what he waits for.
    const bool spoken = kind == sessions::InputKind::kMessage || kind == sessions::InputKind::kSteer;
    if (spoken && worker.facts().state() != SessionState::kWaiting) SetGoing(worker, "a message", bodies);
    worker.Add(std::move(bodies), std::move(done));
    if (kind == sessions::InputKind::kInterrupt) worker.Interrupt();
  });
}

void SessionManager::Impl::Answer(std::string id, sessions::ApprovalResolved answer, Seq done) {
  With(id, [answer = std::move(answer), done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker& worker = **got;
    if (const auto seq = worker.facts().FindRequest(answer.request_id); seq.has_value()) return done(*seq);
    const auto pending = worker.facts().pending_approvals().find(answer.call);
    if (pending == worker.facts().pending_approvals().end()) {
      return done(base::FailedPrecondition("nobody asks about call " + answer.call));
    }
    if (pending->second.action != answer.action) {
      return done(base::FailedPrecondition("call " + answer.call + " is about another action"));
    }
    worker.Add({std::move(answer)}, std::move(done));
  });
}

void SessionManager::Impl::SetGoal(std::string id, GoalSet goal, Seq done) {
  With(id, [goal = std::move(goal), done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker& worker = **got;
    const EventBody set = Encode(goal);
    std::vector<EventBody> bodies = {set};
    // A window that has begun is told; one that has not begins with it.
    if (worker.facts().tokens().position() > 0) {
      AgentFacts then = worker.fold().agent();
      then.Apply({.seq = worker.facts().last_seq() + 1, .body = set});
      bodies.push_back(sessions::InputReceived{.kind = sessions::InputKind::kNotice, .text = GoalText(then)});
    }
    EndWaits(worker, bodies);
    if (worker.facts().state() != SessionState::kRunning) bodies.push_back(Running("a goal"));
    worker.Add(std::move(bodies), std::move(done));
  });
}

void SessionManager::Impl::SetBudgets(std::string id, Budgets budgets, Seq done) {
  With(id, [budgets, done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker& worker = **got;
    const AgentFacts& agent = worker.fold().agent();
    if (!HasOpenGoal(agent)) return done(base::FailedPrecondition("the session has no goal that goes on"));
    std::vector<EventBody> bodies = {Encode(BudgetsSet{.budgets = budgets})};
    if (agent.goal_state() == GoalState::kPaused && agent.goal_reason().starts_with("BUDGET_")) {
      SetGoing(worker, "other budgets", bodies);
    }
    worker.Add(std::move(bodies), std::move(done));
  });
}

void SessionManager::Impl::CancelGoal(std::string id, Seq done) {
  With(id, [done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker& worker = **got;
    if (!HasOpenGoal(worker.fold().agent())) {
      return done(base::FailedPrecondition("the session has no goal that goes on"));
    }
    std::vector<EventBody> bodies = {Encode(GoalChanged{.state = GoalState::kCancelled})};
    if (worker.facts().state() != SessionState::kRunning) {
      EndWaits(worker, bodies);
      bodies.push_back(StateChanged{.state = SessionState::kIdle, .reason = "the goal was cancelled"});
    }
    worker.Add(std::move(bodies), std::move(done));
    worker.Interrupt();
  });
}

void SessionManager::Impl::Pause(std::string id, Seq done) {
  Alone(id, [done = std::move(done)](base::StatusOr<SessionWorker*> got, const Finish& finish) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker& worker = **got;
    if (worker.facts().state() == SessionState::kPaused || worker.facts().state() == SessionState::kClosed) {
      done(worker.facts().last_seq());
      return finish();
    }
    std::vector<EventBody> bodies;
    if (GoalIsActive(worker)) {
      bodies.push_back(Encode(GoalChanged{.state = GoalState::kPaused, .reason = "USER"}));
    }
    bodies.push_back(StateChanged{.state = SessionState::kPaused, .reason = "USER"});
    worker.Add(std::move(bodies), [done = std::move(done), finish](base::StatusOr<uint64_t> seq) mutable {
      done(std::move(seq));
      finish();
    });
  });
}

void SessionManager::Impl::Resume(std::string id, Seq done) {
  With(id, [done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker& worker = **got;
    if (worker.facts().state() == SessionState::kRunning) return done(worker.facts().last_seq());
    if (worker.facts().state() == SessionState::kClosed) {
      return done(base::FailedPrecondition("the session is closed"));
    }
    std::vector<EventBody> bodies;
    EndWaits(worker, bodies);
    SetGoing(worker, "by the user", bodies);
    worker.Add(std::move(bodies), std::move(done));
  });
}

void SessionManager::Impl::Fork(std::string id, uint64_t seq, std::string new_id,
                                Got<sessions::SessionRow> done) {
  Alone(id, [this, id, seq, new_id, done = std::move(done)](base::StatusOr<SessionWorker*> got,
                                                            const Finish& finish) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker& parent = **got;
    sessions::SessionCreated created = parent.fold().created();
    created.parent = created.uid;
    created.uid = NewUid();
    created.parent_seq = seq == 0 ? parent.facts().last_seq() : seq;
    created.stream = NewStream();
    created.weights = parts_.model.weights;
    created.config = parts_.model.config;
    created.tokenizer = parts_.model.tokenizer;
    created.chat_template = parts_.model.chat_template;
    const auto end = [done =
                          std::make_shared<Got<sessions::SessionRow>>(std::move(done)),  // by several steps
                      finish](base::StatusOr<sessions::SessionRow> row) {
      (*done)(std::move(row));
      finish();
    };
    parent.WithFiles([this, new_id, created, end](base::StatusOr<SessionFiles*> files) {
      if (!files.ok()) return end(files.status());
      store_.Create(
          new_id, created,
          [this, new_id, files = *files, end](const base::StatusOr<sessions::SessionRow>& row) {
            if (!row.ok()) return end(row.status());
            With(new_id, [this, new_id, files, end](base::StatusOr<SessionWorker*> child) {
              if (!child.ok()) return end(child.status());
              std::vector<EventBody> bodies;
              EndWaits(**child, bodies);
              bodies.push_back(StateChanged{.state = SessionState::kIdle, .reason = "forked"});
              const auto manifest = (*child)->facts().workspace();
              const auto add = [child = *child, bodies, this, new_id, end](const base::Status& forked) {
                if (!forked.ok()) return end(forked);
                child->Add(bodies, [this, new_id, end](const base::StatusOr<uint64_t>& added) {
                  if (!added.ok()) return end(added.status());
                  store_.Get(new_id,
                             [end](base::StatusOr<sessions::SessionRow> made) { end(std::move(made)); });
                });
              };
              if (files == nullptr) return add({});
              files->Fork(manifest, parts_.directory + "/" + new_id, add);
            });
          });
    });
  });
}

void SessionManager::Impl::Rewind(std::string id, uint64_t seq, Done done) {
  Alone(id, [this, id, seq, done = std::move(done)](base::StatusOr<SessionWorker*> got,
                                                    const Finish& finish) mutable {
    if (!got.ok()) return done(got.status());
    (*got)->session().Rewind(
        seq, NewStream(), [this, id, finish, done = std::move(done)](base::Status status) mutable {
          if (!status.ok()) {
            done(std::move(status));
            return finish();
          }
          // The files are made so when it is opened again.
          Close(id, [this, id, finish, done = std::move(done)]() mutable {
            finish();
            Alone(id, [done = std::move(done)](base::StatusOr<SessionWorker*> again,
                                               const Finish& finish_again) mutable {
              if (!again.ok()) return done(again.status());
              std::vector<EventBody> bodies = {
                  StateChanged{.state = SessionState::kIdle, .reason = "rewound"}};
              EndWaits(**again, bodies);
              (*again)->Add(std::move(bodies), [worker = *again, finish_again, done = std::move(done)](
                                                   const base::StatusOr<uint64_t>& added) mutable {
                if (!added.ok()) return done(added.status());
                worker->WithFiles([finish_again, done = std::move(done)](
                                      const base::StatusOr<SessionFiles*>& files) mutable {
                  done(files.status());
                  finish_again();
                });
              });
            });
          });
        });
  });
}

void SessionManager::Impl::Apply(std::string id, std::string request_id, Got<FilesReport> done) {
  Alone(id, [request_id, done = std::move(done)](base::StatusOr<SessionWorker*> got,
                                                 const Finish& finish) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker* const worker = *got;
    if (worker->facts().state() == SessionState::kRunning) {
      done(base::FailedPrecondition("the session is running: pause it, or wait until it rests"));
      return finish();
    }
    worker->WithFiles([worker, request_id, finish,
                       done = std::move(done)](base::StatusOr<SessionFiles*> files) mutable {
      if (files.ok() && *files == nullptr) files = base::FailedPrecondition("the session has no workspace");
      if (!files.ok()) {
        done(files.status());
        return finish();
      }
      (*files)->ApplyAll([worker, files = *files, request_id, finish,
                          done = std::move(done)](base::StatusOr<FilesReport> report) mutable {
        if (!report.ok()) {
          done(report.status());
          return finish();
        }
        std::vector<EventBody> bodies = {
            Encode(Applied{.applied = report->applied,
                           .conflicts = report->conflicts,
                           .refused = report->refused,
                           .text = report->text,
                           .request_id = request_id}),
            sessions::WorkspaceChanged{.manifest = files->current(), .reason = "applied"}};
        worker->Add(std::move(bodies), [report = *std::move(report), finish,
                                        done = std::move(done)](const base::StatusOr<uint64_t>& seq) mutable {
          done(seq.ok() ? base::StatusOr<FilesReport>(std::move(report)) : seq.status());
          finish();
        });
      });
    });
  });
}

void SessionManager::Impl::Discard(std::string id, Seq done) {
  Alone(id, [done = std::move(done)](base::StatusOr<SessionWorker*> got, const Finish& finish) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker* const worker = *got;
    if (worker->facts().state() == SessionState::kRunning) {
      done(base::FailedPrecondition("the session is running: pause it, or wait until it rests"));
      return finish();
    }
    worker->WithFiles([worker, finish, done = std::move(done)](base::StatusOr<SessionFiles*> files) mutable {
      if (files.ok() && *files == nullptr) files = base::FailedPrecondition("the session has no workspace");
      if (!files.ok()) {
        done(files.status());
        return finish();
      }
      (*files)->Restore(std::nullopt, [worker, files = *files, finish,
                                       done = std::move(done)](base::Status status) mutable {
        if (!status.ok()) {
          done(std::move(status));
          return finish();
        }
        worker->Add({sessions::WorkspaceChanged{.manifest = files->current(), .reason = "discarded"}},
                    [finish, done = std::move(done)](base::StatusOr<uint64_t> seq) mutable {
                      done(std::move(seq));
                      finish();
                    });
      });
    });
  });
}

void SessionManager::Impl::Archive(std::string id, Got<sessions::SessionRow> done) {
  Alone(id, [this, id, done = std::move(done)](base::StatusOr<SessionWorker*> got,
                                               const Finish& finish) mutable {
    if (!got.ok()) return done(got.status());
    if ((*got)->facts().state() == SessionState::kRunning) {
      done(base::FailedPrecondition("the session is running: pause it, or wait until it rests"));
      return finish();
    }
    store_.Archive(id, [finish, done = std::move(done)](base::StatusOr<sessions::SessionRow> row) mutable {
      done(std::move(row));
      finish();
    });
  });
}

void SessionManager::Impl::Status(std::string id, Got<SessionStatus> done) {
  With(id, [this, id, done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
    if (!got.ok()) return done(got.status());
    const sessions::SessionFacts& facts = (*got)->facts();
    const AgentFacts& agent = (*got)->fold().agent();
    SessionStatus status{.profile = agent.profile(),
                         .goal = agent.goal(),
                         .goal_state = agent.goal_state(),
                         .goal_reason = agent.goal_reason(),
                         .budgets = agent.budgets(),
                         .used = agent.used(),
                         .plan = agent.plan(),
                         .tokens = facts.tokens().totals(),
                         .accounted = facts.accounted(),
                         .window_tokens = facts.tokens().position(),
                         .epoch = facts.tokens().epoch()};
    for (const auto& [call, pending] : facts.pending_approvals()) {
      status.questions.push_back({.call = call, .action = pending.action});
    }
    store_.Get(id, [status = std::move(status),
                    done = std::move(done)](base::StatusOr<sessions::SessionRow> row) mutable {
      if (!row.ok()) return done(row.status());
      status.row = *std::move(row);
      done(std::move(status));
    });
  });
}

SessionManager::SessionManager(const WorkerParts& parts, sessions::SessionStore& store,
                               base::Entropy& entropy, const ManagerOptions& options,
                               std::function<void(const std::string&, const sessions::Event&)> on_event)
    : impl_(std::make_unique<Impl>(parts, store, entropy, options, std::move(on_event))) {}
SessionManager::~SessionManager() = default;
void SessionManager::Start(Done done) { impl_->Start(std::move(done)); }
void SessionManager::Stop(absl::AnyInvocable<void()> done) { impl_->Stop(std::move(done)); }
void SessionManager::Create(NewSession session, Got<sessions::SessionRow> done) {
  impl_->Create(std::move(session), std::move(done));
}
void SessionManager::Send(std::string id, sessions::InputReceived input, Seq done) {
  impl_->Send(std::move(id), std::move(input), std::move(done));
}
void SessionManager::Answer(std::string id, sessions::ApprovalResolved answer, Seq done) {
  impl_->Answer(std::move(id), std::move(answer), std::move(done));
}
void SessionManager::SetGoal(std::string id, GoalSet goal, Seq done) {
  impl_->SetGoal(std::move(id), std::move(goal), std::move(done));
}
void SessionManager::SetBudgets(std::string id, Budgets budgets, Seq done) {
  impl_->SetBudgets(std::move(id), budgets, std::move(done));
}
void SessionManager::CancelGoal(std::string id, Seq done) {
  impl_->CancelGoal(std::move(id), std::move(done));
}
void SessionManager::Pause(std::string id, Seq done) { impl_->Pause(std::move(id), std::move(done)); }
void SessionManager::Resume(std::string id, Seq done) { impl_->Resume(std::move(id), std::move(done)); }
void SessionManager::Fork(std::string id, uint64_t seq, std::string new_id, Got<sessions::SessionRow> done) {
  impl_->Fork(std::move(id), seq, std::move(new_id), std::move(done));
}
void SessionManager::Rewind(std::string id, uint64_t seq, Done done) {
  impl_->Rewind(std::move(id), seq, std::move(done));
}
void SessionManager::Apply(std::string id, std::string request_id, Got<FilesReport> done) {
  impl_->Apply(std::move(id), std::move(request_id), std::move(done));
}
void SessionManager::Discard(std::string id, Seq done) { impl_->Discard(std::move(id), std::move(done)); }
void SessionManager::Archive(std::string id, Got<sessions::SessionRow> done) {
  impl_->Archive(std::move(id), std::move(done));
}
void SessionManager::Status(std::string id, Got<SessionStatus> done) {
  impl_->Status(std::move(id), std::move(done));
}
size_t SessionManager::open_sessions() const { return impl_->open_sessions(); }

}  // namespace holdfast::agent
