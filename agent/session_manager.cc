#include "agent/session_manager.h"

#include <utility>

#include "agent/goal_rules.h"
#include "agent/manager/session_table.h"
#include "agent/window_text.h"
#include "base/hash.h"

namespace holdfast::agent {
namespace {

using sessions::EventBody;
using sessions::SessionState;
using sessions::StateChanged;

constexpr size_t kSaidBytesMax = size_t{4} << 20;  // of one message or goal

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
  if (worker.facts().state() == SessionState::kRunning) return;
  EndWaits(worker, bodies);
  bodies.push_back(Running(std::move(reason)));
}

bool GoalIsActive(const SessionWorker& worker) {
  const AgentFacts& agent = worker.fold().agent();
  return HasOpenGoal(agent) && agent.goal_state() == GoalState::kActive;
}

// One thing asked of a session that is halted for it: answers once, and lets the session go on.
template <class T>
struct Operation {
  SessionWorker* worker = nullptr;
  std::function<void()> finish;
  SessionManager::Got<T> done;

  void End(base::StatusOr<T> result) {
    done(std::move(result));
    finish();
  }
  // `use` with the files; without any it ends here.
  void WithFiles(std::function<void(SessionFiles&)> use) {
    worker->WithFiles([this, use = std::move(use)](base::StatusOr<SessionFiles*> files) {
      if (!files.ok()) return End(files.status());
      if (*files == nullptr) return End(base::FailedPrecondition("the session has no workspace"));
      use(**files);
    });
  }
};

base::Status Fits(size_t bytes) {
  if (bytes <= kSaidBytesMax) return {};
  return base::InvalidArgument("a text of " + std::to_string(bytes) + " bytes; at most " +
                               std::to_string(kSaidBytesMax) + ", put the rest into a file");
}

base::Status RestsOrNot(const SessionWorker& worker) {
  if (worker.facts().state() != SessionState::kRunning) return {};
  return base::FailedPrecondition("the session is running: pause it, or wait until it rests");
}

}  // namespace

class SessionManager::Impl {
 public:
  Impl(const WorkerParts& parts, sessions::SessionStore& store, base::Entropy& entropy,
       const ManagerOptions& options, manager::SessionTable::OnEvent on_event)
      : parts_(parts), store_(store), entropy_(entropy), table_(parts, store, options, std::move(on_event)) {}

  void Start(Done done);
  void Stop(absl::AnyInvocable<void()> done) { table_.Stop(std::move(done)); }
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
  size_t open_sessions() const { return table_.open_sessions(); }

 private:
  template <class T>
  using Shared =
      std::shared_ptr<Operation<T>>;  // by the steps of an operation, which come one after the other

  // Halts the session and runs the first step of an operation on it.
  template <class T>
  void Alone(const std::string& id, Got<T> done, std::function<void(Shared<T>)> run) {
    table_.Alone(
        id, [done = std::move(done), run = std::move(run)](base::StatusOr<SessionWorker*> worker,
                                                           manager::SessionTable::Finish finish) mutable {
          if (!worker.ok()) return done(worker.status());
          Operation<T> operation{*worker, std::move(finish), std::move(done)};
          run(std::make_shared<Operation<T>>(std::move(operation)));  // shared by its steps
        });
  }
  sessions::SessionCreated ForkOf(const SessionWorker& parent, uint64_t seq);
  void ForkFiles(const Shared<sessions::SessionRow>& fork, SessionFiles* files, SessionWorker& child,
                 const std::string& id, const std::function<void()>& finish);
  uint32_t NewStream() { return static_cast<uint32_t>(entropy_.Next64() >> 33) + 1; }
  sessions::SessionUid NewUid() {
    sessions::SessionUid uid;
    entropy_.Fill(uid);
    return uid;
  }

  const WorkerParts parts_;
  sessions::SessionStore& store_;
  base::Entropy& entropy_;
  manager::SessionTable table_;
};

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
      table_.With(opening->ids[opening->at++], [this, step](const base::StatusOr<SessionWorker*>&) {
        // One that cannot be opened says so to whoever asks for it.
        parts_.executor.PostResult(base::Lane::kControl, [step] {
          if (*step) (*step)();
        });
      });
    };
    (*step)();
  });
}

void SessionManager::Impl::Create(NewSession session, Got<sessions::SessionRow> done) {
  const size_t bytes = session.message.size() + (session.goal.has_value() ? session.goal->text.size() : 0);
  if (base::Status fits = Fits(bytes); !fits.ok()) return done(std::move(fits));
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
                  table_.With(id, [this, id, exists, session = std::move(session),
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
  if (base::Status fits = Fits(input.text.size()); !fits.ok()) return done(std::move(fits));
  table_.With(
      id, [input = std::move(input), done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
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
  table_.With(
      id, [answer = std::move(answer), done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
        if (!got.ok()) return done(got.status());
        SessionWorker& worker = **got;
        if (const auto seq = worker.facts().FindRequest(answer.request_id); seq.has_value())
          return done(*seq);
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
  if (base::Status fits = Fits(goal.text.size()); !fits.ok()) return done(std::move(fits));
  table_.With(id, [goal = std::move(goal),
                   done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
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
  table_.With(id, [budgets, done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
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
  table_.With(id, [done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
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
  Alone<uint64_t>(id, std::move(done), [](const Shared<uint64_t>& pause) {
    const SessionWorker& worker = *pause->worker;
    const SessionState state = worker.facts().state();
    if (state == SessionState::kPaused || state == SessionState::kClosed) {
      return pause->End(worker.facts().last_seq());
    }
    std::vector<EventBody> bodies;
    if (GoalIsActive(worker)) {
      bodies.push_back(Encode(GoalChanged{.state = GoalState::kPaused, .reason = "USER"}));
    }
    bodies.push_back(StateChanged{.state = SessionState::kPaused, .reason = "USER"});
    pause->worker->Add(std::move(bodies),
                       [pause](base::StatusOr<uint64_t> seq) { pause->End(std::move(seq)); });
  });
}

void SessionManager::Impl::Resume(std::string id, Seq done) {
  table_.With(id, [done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker& worker = **got;
    if (worker.facts().state() == SessionState::kRunning) return done(worker.facts().last_seq());
    if (worker.facts().state() == SessionState::kClosed) {
      return done(base::FailedPrecondition("the session is closed"));
    }
    std::vector<EventBody> bodies;
    SetGoing(worker, "by the user", bodies);
    worker.Add(std::move(bodies), std::move(done));
  });
}

sessions::SessionCreated SessionManager::Impl::ForkOf(const SessionWorker& parent, uint64_t seq) {
  sessions::SessionCreated created = parent.fold().created();
  created.parent = created.uid;
  created.uid = NewUid();
  created.parent_seq = seq == 0 ? parent.facts().last_seq() : seq;
  created.stream = NewStream();
  created.weights = parts_.model.weights;
  created.config = parts_.model.config;
  created.tokenizer = parts_.model.tokenizer;
  created.chat_template = parts_.model.chat_template;
  return created;
}

void SessionManager::Impl::Fork(std::string id, uint64_t seq, std::string new_id,
                                Got<sessions::SessionRow> done) {
  using Row = sessions::SessionRow;
  Alone<Row>(id, std::move(done), [this, seq, new_id](const Shared<Row>& fork) {
    fork->worker->WithFiles([this, seq, new_id, fork](base::StatusOr<SessionFiles*> files) {
      if (!files.ok()) return fork->End(files.status());
      store_.Create(new_id, ForkOf(*fork->worker, seq),
                    [this, new_id, fork, files = *files](const base::StatusOr<Row>& row) {
                      if (!row.ok()) return fork->End(row.status());
                      table_.Alone(new_id,
                                   [this, new_id, fork, files](base::StatusOr<SessionWorker*> child,
                                                               const manager::SessionTable::Finish& finish) {
                                     if (!child.ok()) return fork->End(child.status());
                                     ForkFiles(fork, files, **child, new_id, finish);
                                   });
                    });
    });
  });
}

// It rests before its layer is made; one that ends in between has its layer made when it is opened.
void SessionManager::Impl::ForkFiles(const Shared<sessions::SessionRow>& fork, SessionFiles* files,
                                     SessionWorker& child, const std::string& id,
                                     const std::function<void()>& finish) {
  const auto end = [this, fork, id, finish](const base::Status& made) {
    finish();
    if (!made.ok()) return fork->End(made);
    store_.Get(id, [fork](base::StatusOr<sessions::SessionRow> row) { fork->End(std::move(row)); });
  };
  std::vector<EventBody> bodies;
  EndWaits(child, bodies);
  bodies.push_back(StateChanged{.state = SessionState::kIdle, .reason = "forked"});
  child.Add(std::move(bodies), [this, files, id, end, &child](const base::StatusOr<uint64_t>& added) {
    if (!added.ok() || files == nullptr) return end(added.status());
    files->Fork(child.facts().workspace(), parts_.directory + "/" + id, end);
  });
}

void SessionManager::Impl::Rewind(std::string id, uint64_t seq, Done done) {
  Got<uint64_t> answer = [done = std::move(done)](const base::StatusOr<uint64_t>& rewound) mutable {
    done(rewound.status());
  };
  Alone<uint64_t>(id, std::move(answer), [this, id, seq](const Shared<uint64_t>& rewind) {
    const auto read_again = [this, id, rewind](const base::Status& status) {
      if (!status.ok()) return rewind->End(status);
      table_.Close(id, [this, id, rewind] {
        rewind->finish();
        Alone<uint64_t>(id, std::move(rewind->done), [](const Shared<uint64_t>& rest) {
          std::vector<EventBody> bodies = {StateChanged{.state = SessionState::kIdle, .reason = "rewound"}};
          EndWaits(*rest->worker, bodies);
          rest->worker->Add(std::move(bodies), [rest](const base::StatusOr<uint64_t>& added) {
            if (!added.ok()) return rest->End(added.status());
            // The files follow: were this the end, they would when it is opened again.
            rest->worker->WithFiles([rest, seq = *added](const base::StatusOr<SessionFiles*>& files) {
              files.ok() ? rest->End(seq) : rest->End(files.status());
            });
          });
        });
      });
    };
    rewind->worker->session().Rewind(seq, NewStream(), read_again);
  });
}

void SessionManager::Impl::Apply(std::string id, std::string request_id, Got<FilesReport> done) {
  Alone<FilesReport>(id, std::move(done), [request_id](const Shared<FilesReport>& apply) {
    if (const base::Status rests = RestsOrNot(*apply->worker); !rests.ok()) return apply->End(rests);
    apply->WithFiles([apply, request_id](SessionFiles& files) {
      files.ApplyAll([apply, request_id, &files](base::StatusOr<FilesReport> report) {
        if (!report.ok()) return apply->End(report.status());
        std::vector<EventBody> bodies = {
            Encode(Applied{.applied = report->applied,
                           .conflicts = report->conflicts,
                           .refused = report->refused,
                           .text = report->text,
                           .request_id = request_id}),
            sessions::WorkspaceChanged{.manifest = files.current(), .reason = "applied"}};
        apply->worker->Add(std::move(bodies), [apply, report](const base::StatusOr<uint64_t>& seq) {
          seq.ok() ? apply->End(report) : apply->End(seq.status());
        });
      });
    });
  });
}

void SessionManager::Impl::Discard(std::string id, Seq done) {
  Alone<uint64_t>(id, std::move(done), [](const Shared<uint64_t>& discard) {
    if (const base::Status rests = RestsOrNot(*discard->worker); !rests.ok()) return discard->End(rests);
    discard->WithFiles([discard](SessionFiles& files) {
      files.Restore(std::nullopt, [discard, &files](const base::Status& status) {
        if (!status.ok()) return discard->End(status);
        discard->worker->Add({sessions::WorkspaceChanged{.manifest = files.current(), .reason = "discarded"}},
                             [discard](base::StatusOr<uint64_t> seq) { discard->End(std::move(seq)); });
      });
    });
  });
}

void SessionManager::Impl::Archive(std::string id, Got<sessions::SessionRow> done) {
  using Row = sessions::SessionRow;
  Alone<Row>(id, std::move(done), [this, id](const Shared<Row>& archive) {
    if (const base::Status rests = RestsOrNot(*archive->worker); !rests.ok()) return archive->End(rests);
    store_.Archive(id, [archive](base::StatusOr<Row> row) { archive->End(std::move(row)); });
  });
}

void SessionManager::Impl::Status(std::string id, Got<SessionStatus> done) {
  table_.With(id, [this, id, done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
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
                         .epoch = facts.tokens().epoch(),
                         .said = (*got)->LastSaid()};
    for (const auto& [call, pending] : facts.pending_approvals()) {
      status.questions.push_back({.call = call, .action = pending.action, .question = pending.question});
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
