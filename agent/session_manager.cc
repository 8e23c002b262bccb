#include "agent/session_manager.h"

#include <utility>

#include "agent/call_record.h"
#include "agent/client_tools.h"
#include "agent/control_tools.h"
#include "agent/goal_rules.h"
#include "agent/manager/operation.h"
#include "agent/manager/requests.h"
#include "agent/manager/session_table.h"
#include "agent/window_text.h"
#include "base/hash.h"
#include "tools/registry.h"
#include "tools/result_text.h"

namespace holdfast::agent {
namespace {

using manager::Request;
using sessions::EventBody;
using sessions::SessionState;
using sessions::StateChanged;

constexpr size_t kSaidBytesMax = size_t{4} << 20;  // of one message or goal
constexpr size_t kToldEventsMax = 64;              // more than one commit of ours has

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

// Of a session that waits for its client: it goes on without, to close the calls of the turn.
void GiveUpClientCalls(const SessionWorker& worker, const std::string& why, std::vector<EventBody>& bodies) {
  if (worker.facts().wait() != sessions::WaitFor::kClient) return;
  for (EventBody& outcome : AbandonedClientCalls(worker.facts(), why)) bodies.push_back(std::move(outcome));
  bodies.push_back(Running(why));
}

bool GoalIsActive(const SessionWorker& worker) {
  const AgentFacts& agent = worker.fold().agent();
  return HasOpenGoal(agent) && agent.goal_state() == GoalState::kActive;
}

base::Status Fits(size_t bytes) {
  if (bytes <= kSaidBytesMax) return {};
  return base::InvalidArgument("a text of " + std::to_string(bytes) + " bytes; at most " +
                               std::to_string(kSaidBytesMax) + ", put the rest into a file");
}

base::Status FitsAsName(const std::string& name) {
  if (name.size() <= kDisplayNameBytesMax) return {};
  return base::InvalidArgument("a display name of " + std::to_string(name.size()) + " bytes; at most " +
                               std::to_string(kDisplayNameBytesMax));
}

base::Status RestsOrNot(const SessionWorker& worker) {
  if (worker.facts().state() != SessionState::kRunning) return {};
  return base::FailedPrecondition("the session is running: pause it, or wait until it rests");
}

Applied AppliedOf(const FilesReport& report, bool partly, const std::string& request_id) {
  return {.applied = report.applied,
          .conflicts = report.conflicts,
          .refused = report.refused,
          .text = report.text,
          .request_id = request_id,
          .failed = report.failed,
          .partly = partly,
          .branch = report.branch,
          .commit = report.commit};
}

FilesReport FilesReportOf(const Applied& applied) {
  return {.applied = applied.applied,
          .conflicts = applied.conflicts,
          .refused = applied.refused,
          .failed = applied.failed,
          .text = applied.text,
          .branch = applied.branch,
          .commit = applied.commit};
}

}  // namespace

struct SessionManager::Changes {
  std::vector<EventBody> bodies;
  bool interrupt = false;  // what is under way, behind them
};

SessionManager::SessionManager(const WorkerParts& parts, sessions::SessionStore& store,
                               base::Entropy& entropy, const ManagerOptions& options,
                               std::function<void(const std::string&, const sessions::Event&)> on_event)
    : parts_(parts),
      store_(store),
      entropy_(entropy),
      open_max_(options.open_max),
      on_event_(std::move(on_event)),
      table_(std::make_unique<manager::SessionTable>(parts, store, options, on_event_)) {}

SessionManager::~SessionManager() = default;

size_t SessionManager::open_sessions() const { return table_->open_sessions(); }

// All at once: what they write as they are opened shares commits.
void SessionManager::Start(Done done) {
  store_.ListUnfinished([this, done = std::move(done)](base::StatusOr<std::vector<std::string>> ids) mutable {
    if (!ids.ok()) return done(ids.status());
    struct Starting {
      size_t left = 0;
      Done done;
    };
    // By the opening of each.
    auto starting = std::make_shared<Starting>(Starting{std::min(ids->size(), open_max_), std::move(done)});
    if (starting->left == 0) return starting->done({});
    for (const std::string& id : *ids) {
      // One that cannot be opened says so to whoever asks for it.
      table_->With(id, [starting](const base::StatusOr<SessionWorker*>&) {
        if (starting->left > 0 && --starting->left == 0) starting->done({});
      });
    }
  });
}

void SessionManager::Stop(absl::AnyInvocable<void()> done) { table_->Stop(std::move(done)); }

// --- Requests

void SessionManager::Change(std::string id, Request request, Make make, Seq done) {
  if (base::Status good = CheckRequest(request); !good.ok()) return done(std::move(good));
  table_->With(id, [request = std::move(request), make = std::move(make),
                    done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
    if (!got.ok()) return done(got.status());
    SessionWorker& worker = **got;
    if (auto answer = AnswerTo(request, worker.facts()); answer.has_value()) return done(*std::move(answer));
    Changes changes;
    if (base::Status made = make(worker, changes); !made.ok()) return done(std::move(made));
    Conclude(request, changes.bodies);
    if (changes.bodies.empty()) return done(worker.facts().last_seq());
    worker.Add(std::move(changes.bodies), std::move(done));
    if (changes.interrupt) worker.Interrupt();
  });
}

template <class T>
void SessionManager::Alone(const std::string& id, const Request& request, Got<T> done, Again<T> again,
                           std::function<void(Shared<T>)> run) {
  if (base::Status good = CheckRequest(request); !good.ok()) return done(std::move(good));
  const auto to = std::make_shared<Got<T>>(std::move(done));  // by the look before it and the operation
  const auto is_answered = [id, request, to, again = std::move(again)](const SessionWorker& worker) {
    const auto answer = AnswerTo(request, worker.facts());
    if (!answer.has_value()) return false;
    answer->ok() ? again(id, **answer, std::move(*to)) : (*to)(answer->status());
    return true;
  };
  table_->Alone(
      id,
      [request, is_answered, to, run = std::move(run)](base::StatusOr<SessionWorker*> worker,
                                                       manager::SessionTable::Finish finish) {
        if (!worker.ok()) return (*to)(worker.status());
        if (is_answered(**worker)) return finish();  // the first was under way
        run(std::make_shared<manager::Operation<T>>(**worker, request, std::move(finish), std::move(*to)));
      },
      is_answered);
}

std::string SessionManager::NewId(const Request& request) {
  if (!request.id.empty()) return SessionIdOf(request);
  const uint64_t word = entropy_.Next64();
  return "s-" + base::ToHex(std::as_bytes(std::span(&word, 1)));
}

void SessionManager::AnswerExisting(const std::string& id, const Request& request, base::Status exists,
                                    Got<Row> done) {
  if (request.id.empty()) return done(std::move(exists));
  table_->With(id, [this, id, request, exists = std::move(exists),
                    done = std::move(done)](base::StatusOr<SessionWorker*> worker) mutable {
    if (!worker.ok()) return done(worker.status());
    const auto answer = AnswerTo(request, (*worker)->facts());
    if (!answer.has_value()) return done(std::move(exists));
    answer->ok() ? AnswerRow(id, std::move(done)) : done(answer->status());
  });
}

void SessionManager::Tell(const std::string& id, uint64_t after_seq, absl::AnyInvocable<void()> then) {
  if (!on_event_) return then();
  store_.ReadEvents(
      id, after_seq, kToldEventsMax,
      [this, id, then = std::move(then)](const base::StatusOr<std::vector<sessions::Event>>& events) mutable {
        // What cannot be read now is read by whoever asks the store.
        if (events.ok()) {
          for (const sessions::Event& event : *events) on_event_(id, event);
        }
        then();
      });
}

sessions::SessionUid SessionManager::NewUid() {
  sessions::SessionUid uid;
  entropy_.Fill(uid);
  return uid;
}

// --- What makes sessions

base::Status SessionManager::CheckTools(const ProfileSet& profile) const {
  if (profile.client_tools.empty()) return {};
  tools::Registry registry;
  HF_RETURN_IF_ERROR(parts_.add_tools(registry));
  std::vector<std::string> taken = registry.ids();
  for (const std::string& id : ControlToolIds()) taken.push_back(id);
  return CheckClientTools(profile, taken);
}

void SessionManager::Create(NewSession session, Got<Row> done) {
  const Request request{session.request_id, "create"};
  const size_t bytes = session.message.size() + (session.goal.has_value() ? session.goal->text.size() : 0);
  for (base::Status good : {CheckRequest(request), Fits(bytes), FitsAsName(session.display_name)}) {
    if (!good.ok()) return done(std::move(good));
  }
  if (base::Status tools = CheckTools(session.profile); !tools.ok()) return done(std::move(tools));
  const auto dialogue = parts_.dialogue(session.profile);
  if (!dialogue.ok()) return done(dialogue.status());
  if (session.id.empty()) session.id = NewId(request);
  std::string lines;
  for (const std::string& line : (*dialogue)->options().tools) lines += line + "\n";
  sessions::SessionCreated created{.uid = NewUid(),
                                   .weights = parts_.model.weights,
                                   .config = parts_.model.config,
                                   .tokenizer = parts_.model.tokenizer,
                                   .chat_template = parts_.model.chat_template,
                                   .tools = std::move(lines),
                                   .seed = session.seed};
  const bool works = session.goal.has_value() || !session.message.empty();
  std::vector<EventBody> bodies = {Encode(std::move(session.profile))};
  if (!session.display_name.empty()) bodies.push_back(Encode(DisplayNameSet{session.display_name}));
  if (session.goal.has_value()) bodies.push_back(Encode(*std::move(session.goal)));
  if (!session.message.empty()) bodies.push_back(sessions::InputReceived{.text = std::move(session.message)});
  if (works) bodies.push_back(Running("begun"));
  Conclude(request, bodies);
  store_.Create(session.id, std::move(created), std::move(bodies),
                [this, id = session.id, request, done = std::move(done)](base::StatusOr<Row> row) mutable {
                  if (absl::IsAlreadyExists(row.status())) {
                    return AnswerExisting(id, request, row.status(), std::move(done));
                  }
                  if (!row.ok()) return done(row.status());
                  Tell(id, 0, [this, id, row = *std::move(row), done = std::move(done)]() mutable {
                    done(std::move(row));
                    table_->With(id, [](const base::StatusOr<SessionWorker*>&) {});  // to its work
                  });
                });
}

sessions::SessionCreated SessionManager::ForkOf(const SessionWorker& parent, uint64_t seq) {
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

// It rests from its first commit on; waits that it has from its parent end when it is set going.
void SessionManager::Fork(Target parent, uint64_t seq, std::string new_id, Got<Row> done) {
  const Request request{parent.request_id, "fork"};
  if (base::Status good = CheckRequest(request); !good.ok()) return done(std::move(good));
  if (new_id.empty()) new_id = NewId(request);
  // The request is the new session's: to its parent it is none.
  Alone<Row>(parent.id, {{}, request.what}, std::move(done), {}, [=, this](const Shared<Row>& fork) {
    fork->worker().WithFiles([=, this](base::StatusOr<SessionFiles*> files) {
      if (!files.ok()) return fork->End(files.status());
      sessions::SessionCreated created = ForkOf(fork->worker(), seq);
      const uint64_t parent_seq = created.parent_seq;
      std::vector<EventBody> bodies = {StateChanged{.state = SessionState::kIdle, .reason = "forked"}};
      Conclude(request, bodies);
      store_.Create(new_id, std::move(created), std::move(bodies),
                    [=, this, files = *files](const base::StatusOr<Row>& row) {
                      if (absl::IsAlreadyExists(row.status())) {
                        return AnswerExisting(new_id, request, row.status(), fork->LetGo());
                      }
                      if (!row.ok()) return fork->End(row.status());
                      Tell(new_id, parent_seq, [=, this] { ForkFiles(fork, files, new_id); });
                    });
    });
  });
}

// Were this the end, its layer would be made when it is opened.
void SessionManager::ForkFiles(const Shared<Row>& fork, SessionFiles* files, const std::string& id) {
  table_->Alone(id, [this, fork, files, id](base::StatusOr<SessionWorker*> child,
                                            const manager::SessionTable::Finish& finish) {
    if (!child.ok()) return fork->End(child.status());
    const auto end = [this, fork, id, finish](const base::Status& made) {
      finish();
      if (!made.ok()) return fork->End(made);
      store_.Get(id, [fork](base::StatusOr<Row> row) { fork->End(std::move(row)); });
    };
    const auto copy = [this, files, id, end, worker = *child] {
      if (files == nullptr) return end({});
      files->Fork(worker->facts().workspace(), parts_.directory + "/" + id, end);
    };
    std::vector<EventBody> open =
        AbandonedClientCalls((*child)->facts(), "it is a call of the session that this one was forked from");
    if (open.empty()) return copy();
    (*child)->Add(std::move(open), [copy, end](const base::StatusOr<uint64_t>& added) {
      added.ok() ? copy() : end(added.status());
    });
  });
}

// --- What is said to a session

void SessionManager::Send(std::string id, sessions::InputReceived input, Seq done) {
  if (base::Status fits = Fits(input.text.size()); !fits.ok()) return done(std::move(fits));
  Request request{input.request_id, "send"};
  Change(
      std::move(id), std::move(request),
      [input = std::move(input)](const SessionWorker& worker, Changes& changes) mutable -> base::Status {
        if (worker.facts().state() == SessionState::kClosed) {
          return base::FailedPrecondition("the session is closed");
        }
        const sessions::InputKind kind = input.kind;
        changes.bodies.emplace_back(std::move(input));
        changes.interrupt = kind == sessions::InputKind::kInterrupt;
        if (changes.interrupt && GoalIsActive(worker)) {
          changes.bodies.push_back(Encode(GoalChanged{.state = GoalState::kPaused, .reason = "INTERRUPTED"}));
        }
        if (changes.interrupt) GiveUpClientCalls(worker, "the user interrupted it", changes.bodies);
        // Who waits is woken by what he waits for.
        const bool spoken = kind == sessions::InputKind::kMessage || kind == sessions::InputKind::kSteer;
        if (spoken && worker.facts().state() != SessionState::kWaiting) {
          SetGoing(worker, "a message", changes.bodies);
        }
        return {};
      },
      std::move(done));
}

void SessionManager::Answer(std::string id, sessions::ApprovalResolved answer, Seq done) {
  Request request{answer.request_id, "answer"};
  Change(
      std::move(id), std::move(request),
      [answer = std::move(answer)](const SessionWorker& worker, Changes& changes) -> base::Status {
        const auto pending = worker.facts().pending_approvals().find(answer.call);
        if (pending == worker.facts().pending_approvals().end()) {
          return base::FailedPrecondition("nobody asks about call " + answer.call);
        }
        if (pending->second.action != answer.action) {
          return base::FailedPrecondition("call " + answer.call + " is about another action");
        }
        changes.bodies.emplace_back(answer);
        return {};
      },
      std::move(done));
}

void SessionManager::ClientCalls(std::string id, Got<std::vector<ClientCall>> done) {
  table_->With(id, [done = std::move(done)](base::StatusOr<SessionWorker*> worker) mutable {
    if (!worker.ok()) return done(worker.status());
    done(OpenClientCalls((*worker)->facts()));
  });
}

void SessionManager::DeliverCall(std::string id, ClientAnswer answer, Seq done) {
  if (base::Status fits = Fits(answer.text.size()); !fits.ok()) return done(std::move(fits));
  table_->With(id, [this, id, answer = std::move(answer),
                    done = std::move(done)](base::StatusOr<SessionWorker*> worker) mutable {
    if (!worker.ok()) return done(worker.status());
    if (FindClientCall((*worker)->facts(), answer.call) == nullptr) {
      return AnswerAgain(id, **worker, answer, std::move(done));
    }
    tools::ToolResult result = ResultOf(answer);
    tools::BoundResult(
        std::move(result), {}, parts_.spill, parts_.executor,
        [this, id, answer = std::move(answer), done = std::move(done)](
            const tools::ToolResult& ended) mutable { EndCall(id, answer, ended, std::move(done)); });
  });
}

// Halted, so that nothing else is just ending it.
void SessionManager::EndCall(const std::string& id, const ClientAnswer& answer,
                             const tools::ToolResult& ended, Seq done) {
  sessions::CallOutcome outcome = OutcomeOf(answer.call, ended);
  outcome.record = AnswerRecord(answer);
  Alone<uint64_t>(id, {{}, "deliver_call"}, std::move(done), {},
                  [this, id, answer, outcome = std::move(outcome)](const Shared<uint64_t>& end) {
                    if (FindClientCall(end->worker().facts(), answer.call) == nullptr) {
                      return AnswerAgain(id, end->worker(), answer,
                                         [end](base::StatusOr<uint64_t> seq) { end->End(std::move(seq)); });
                    }
                    end->Record({outcome}, [end](uint64_t seq) { end->End(seq); });
                  });
}

void SessionManager::AnswerAgain(const std::string& id, const SessionWorker& worker,
                                 const ClientAnswer& answer, Seq done) {
  if (worker.facts().IsOpen(answer.call)) {
    return done(base::FailedPrecondition("call " + answer.call + " is not with a client"));
  }
  const std::optional<uint64_t> seq = worker.facts().OutcomeOf(answer.call);
  if (!seq.has_value()) return done(base::NotFound("the session has no call " + answer.call));
  store_.ReadEvents(id, *seq - 1, 1,
                    [seq = *seq, answer, done = std::move(done)](
                        const base::StatusOr<std::vector<sessions::Event>>& events) mutable {
                      if (!events.ok()) return done(events.status());
                      const auto* outcome = events->empty()
                                                ? nullptr
                                                : std::get_if<sessions::CallOutcome>(&events->front().body);
                      if (outcome == nullptr) return done(base::Internal("an outcome that is not on record"));
                      const base::Status same = IsAnsweredBy(*outcome, answer);
                      same.ok() ? done(seq) : done(same);
                    });
}

void SessionManager::SetGoal(Target target, GoalSet goal, Seq done) {
  if (base::Status fits = Fits(goal.text.size()); !fits.ok()) return done(std::move(fits));
  Change(
      std::move(target.id), {std::move(target.request_id), "set_goal"},
      [goal = std::move(goal)](const SessionWorker& worker, Changes& changes) -> base::Status {
        const EventBody set = Encode(goal);
        changes.bodies.push_back(set);
        // A window that has begun is told; one that has not begins with it.
        if (worker.facts().tokens().position() > 0) {
          AgentFacts then = worker.fold().agent();
          then.Apply({.seq = worker.facts().last_seq() + 1, .body = set});
          changes.bodies.push_back(
              sessions::InputReceived{.kind = sessions::InputKind::kNotice, .text = GoalText(then)});
        }
        EndWaits(worker, changes.bodies);
        if (worker.facts().state() != SessionState::kRunning) changes.bodies.push_back(Running("a goal"));
        return {};
      },
      std::move(done));
}

void SessionManager::SetBudgets(Target target, Budgets budgets, Seq done) {
  Change(
      std::move(target.id), {std::move(target.request_id), "set_budgets"},
      [budgets](const SessionWorker& worker, Changes& changes) -> base::Status {
        const AgentFacts& agent = worker.fold().agent();
        if (!HasOpenGoal(agent)) return base::FailedPrecondition("the session has no goal that goes on");
        changes.bodies.push_back(Encode(BudgetsSet{.budgets = budgets}));
        if (agent.goal_state() == GoalState::kPaused && agent.goal_reason().starts_with("BUDGET_")) {
          SetGoing(worker, "other budgets", changes.bodies);
        }
        return {};
      },
      std::move(done));
}

void SessionManager::CancelGoal(Target target, Seq done) {
  Change(
      std::move(target.id), {std::move(target.request_id), "cancel_goal"},
      [](const SessionWorker& worker, Changes& changes) -> base::Status {
        if (!HasOpenGoal(worker.fold().agent())) {
          return base::FailedPrecondition("the session has no goal that goes on");
        }
        changes.bodies.push_back(Encode(GoalChanged{.state = GoalState::kCancelled}));
        changes.interrupt = true;
        if (worker.facts().state() == SessionState::kRunning) return {};
        EndWaits(worker, changes.bodies);
        if (worker.facts().wait() == sessions::WaitFor::kClient) {
          GiveUpClientCalls(worker, "the user cancelled the goal", changes.bodies);
          return {};
        }
        changes.bodies.push_back(
            StateChanged{.state = SessionState::kIdle, .reason = "the goal was cancelled"});
        return {};
      },
      std::move(done));
}

void SessionManager::SetDisplayName(Target target, std::string name, Seq done) {
  if (base::Status fits = FitsAsName(name); !fits.ok()) return done(std::move(fits));
  Change(
      std::move(target.id), {std::move(target.request_id), "set_display_name"},
      [name = std::move(name)](const SessionWorker& worker, Changes& changes) -> base::Status {
        if (worker.fold().display_name() != name) changes.bodies.push_back(Encode(DisplayNameSet{name}));
        return {};
      },
      std::move(done));
}

void SessionManager::Resume(Target target, Seq done) {
  Change(
      std::move(target.id), {std::move(target.request_id), "resume"},
      [](const SessionWorker& worker, Changes& changes) -> base::Status {
        if (worker.facts().state() == SessionState::kRunning) return {};
        if (worker.facts().state() == SessionState::kClosed) {
          return base::FailedPrecondition("the session is closed");
        }
        SetGoing(worker, "by the user", changes.bodies);
        return {};
      },
      std::move(done));
}

// --- What a session is halted for

namespace {

// A repeat of what answers with a sequence number.
void AgainSeq(const std::string& /*id*/, uint64_t seq, SessionManager::Seq done) { done(seq); }

}  // namespace

void SessionManager::Pause(Target target, Seq done) {
  Alone<uint64_t>(target.id, {target.request_id, "pause"}, std::move(done), AgainSeq,
                  [](const Shared<uint64_t>& pause) {
                    const SessionWorker& worker = pause->worker();
                    const SessionState state = worker.facts().state();
                    const bool works = state != SessionState::kPaused && state != SessionState::kClosed;
                    std::vector<EventBody> bodies;
                    if (works && GoalIsActive(worker)) {
                      bodies.push_back(Encode(GoalChanged{.state = GoalState::kPaused, .reason = "USER"}));
                    }
                    if (works)
                      bodies.push_back(StateChanged{.state = SessionState::kPaused, .reason = "USER"});
                    pause->Record(std::move(bodies), [pause](uint64_t seq) { pause->End(seq); });
                  });
}

void SessionManager::Rewind(Target target, uint64_t seq, Seq done) {
  GoBack(
      std::move(target), "rewind", [seq](const SessionWorker&) { return seq; }, std::move(done));
}

void SessionManager::Undo(Target target, Seq done) {
  GoBack(
      std::move(target), "undo",
      [](const SessionWorker& worker) -> base::StatusOr<uint64_t> {
        const uint64_t said = worker.fold().last_said_seq();
        if (said == 0) return base::FailedPrecondition("nobody has said anything that could be undone");
        return said - 1;
      },
      std::move(done));
}

// The session is read again, and its files follow: were this the end, they would when it is opened.
void SessionManager::GoBack(Target target, std::string_view what, Position to, Seq done) {
  const std::string id = target.id;
  Alone<uint64_t>(
      id, {target.request_id, what}, std::move(done), AgainSeq,
      [this, id, to = std::move(to)](const Shared<uint64_t>& back) {
        const auto to_seq = to(back->worker());
        if (!to_seq.ok()) return back->End(to_seq.status());
        const uint64_t before = back->worker().facts().last_seq();
        std::vector<EventBody> bodies;
        Conclude(back->request(), bodies);
        const auto files_follow = [this, id, back](uint64_t answer) {
          table_->Alone(
              id, [answer, done = std::make_shared<Seq>(back->LetGo())](  // by both its ends
                      base::StatusOr<SessionWorker*> worker, const manager::SessionTable::Finish& finish) {
                if (!worker.ok()) return (*done)(worker.status());
                (*worker)->WithFiles([answer, done, finish](const base::StatusOr<SessionFiles*>& files) {
                  files.ok() ? (*done)(answer) : (*done)(files.status());
                  finish();
                });
              });
        };
        back->worker().session().Rewind(*to_seq, NewStream(), std::move(bodies),
                                        [this, id, back, before, files_follow](const base::Status& status) {
                                          if (!status.ok()) return back->End(status);
                                          const uint64_t answer = back->worker().facts().last_seq();
                                          Tell(id, before, [this, id, answer, files_follow] {
                                            table_->Close(id,
                                                          [answer, files_follow] { files_follow(answer); });
                                          });
                                        });
      });
}

void SessionManager::Apply(Target target, ApplyRequest what, Got<FilesReport> done) {
  const Again<FilesReport> again = [this](const std::string& id, uint64_t seq, Got<FilesReport> to) {
    ReportOf(id, seq, std::move(to));
  };
  Alone<FilesReport>(target.id, {target.request_id, "apply"}, std::move(done), again,
                     [what = std::move(what)](const Shared<FilesReport>& apply) {
                       if (const base::Status rests = RestsOrNot(apply->worker()); !rests.ok())
                         return apply->End(rests);
                       apply->WithFiles([apply, what](SessionFiles& files) {
                         files.Apply(what, [apply, what, &files](base::StatusOr<FilesReport> report) {
                           if (!report.ok()) return apply->End(report.status());
                           const bool partly = what != ApplyRequest{};
                           apply->Record(
                               {Encode(AppliedOf(*report, partly, apply->request().id)),
                                sessions::WorkspaceChanged{.manifest = files.current(), .reason = "applied"}},
                               [apply, report](uint64_t) { apply->End(report); });
                         });
                       });
                     });
}

// What an apply answered whose request ended with event `seq`.
void SessionManager::ReportOf(const std::string& id, uint64_t seq, Got<FilesReport> done) {
  constexpr uint64_t kEventsOfApply = 3;
  store_.ReadEvents(
      id, seq - kEventsOfApply, kEventsOfApply,
      [done = std::move(done)](const base::StatusOr<std::vector<sessions::Event>>& events) mutable {
        if (!events.ok()) return done(events.status());
        for (const sessions::Event& event : *events) {
          const auto* agent = std::get_if<sessions::AgentEvent>(&event.body);
          const auto body = agent == nullptr ? std::nullopt : Decode(*agent).value_or(std::nullopt);
          if (!body.has_value() || !std::holds_alternative<Applied>(*body)) continue;
          return done(FilesReportOf(std::get<Applied>(*body)));
        }
        done(base::DataLoss("the apply of this request is not on record"));
      });
}

void SessionManager::Discard(Target target, Seq done) {
  Alone<uint64_t>(target.id, {target.request_id, "discard"}, std::move(done), AgainSeq,
                  [](const Shared<uint64_t>& discard) {
                    const base::Status rests = RestsOrNot(discard->worker());
                    if (!rests.ok()) return discard->End(rests);
                    discard->WithFiles([discard](SessionFiles& files) {
                      files.Restore(std::nullopt, [discard, &files](const base::Status& status) {
                        if (!status.ok()) return discard->End(status);
                        discard->Record(
                            {sessions::WorkspaceChanged{.manifest = files.current(), .reason = "discarded"}},
                            [discard](uint64_t seq) { discard->End(seq); });
                      });
                    });
                  });
}

void SessionManager::Archive(Target target, Got<Row> done) {
  SetArchived(std::move(target), "archive", true, std::move(done));
}

void SessionManager::Unarchive(Target target, Got<Row> done) {
  SetArchived(std::move(target), "unarchive", false, std::move(done));
}

void SessionManager::SetArchived(Target target, std::string_view what, bool archived, Got<Row> done) {
  const std::string id = target.id;
  const Again<Row> again = [this](const std::string& of, uint64_t, Got<Row> to) {
    store_.Get(of, std::move(to));
  };
  Alone<Row>(id, {target.request_id, what}, std::move(done), again,
             [this, id, archived](const Shared<Row>& change) {
               const base::Status rests = RestsOrNot(change->worker());
               if (!rests.ok()) return change->End(rests);
               std::vector<EventBody> bodies;
               Conclude(change->request(), bodies);
               change->worker().session().SetArchived(
                   archived, std::move(bodies), [this, id, change](const base::Status& status) {
                     if (!status.ok()) return change->End(status);
                     store_.Get(id, [change](base::StatusOr<Row> row) { change->End(std::move(row)); });
                   });
             });
}

// --- How it is

void SessionManager::Status(std::string id, Got<SessionStatus> done) {
  table_->With(id, [this, id, done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
    if (!got.ok()) return done(got.status());
    const sessions::SessionFacts& facts = (*got)->facts();
    const AgentFacts& agent = (*got)->fold().agent();
    SessionStatus status{.display_name = (*got)->fold().display_name(),
                         .profile = agent.profile(),
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
                         .said = (*got)->LastSaid(),
                         .client_calls = OpenClientCalls(facts)};
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

void SessionManager::Diff(std::string id, DiffRequest what, Got<FilesDiff> done) {
  table_->With(id, [this, id, what = std::move(what),
                    done = std::move(done)](base::StatusOr<SessionWorker*> got) mutable {
    if (!got.ok()) return done(got.status());
    if (SessionFiles* files = (*got)->open_files()) return files->Diff(std::move(what), std::move(done));
    // They are opened for it.
    Alone<FilesDiff>(id, {{}, "diff"}, std::move(done), {}, [what](const Shared<FilesDiff>& diff) {
      diff->WithFiles([diff, what](SessionFiles& files) {
        files.Diff(what, [diff](base::StatusOr<FilesDiff> shown) { diff->End(std::move(shown)); });
      });
    });
  });
}

}  // namespace holdfast::agent
