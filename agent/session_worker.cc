#include "agent/session_worker.h"

#include <algorithm>
#include <utility>

#include "agent/agent_event.h"
#include "agent/client_calls.h"
#include "agent/client_tools.h"
#include "agent/feeding.h"
#include "agent/goal_rules.h"
#include "agent/no_files.h"
#include "agent/session_summary.h"
#include "agent/session_wait.h"
#include "agent/window_text.h"
#include "base/check.h"
#include "sessions/recovery.h"

namespace holdfast::agent {
namespace {

using sessions::EventBody;
using sessions::SessionState;
using sessions::StateChanged;

sessions::InputReceived Notice(std::string text) {
  return {.kind = sessions::InputKind::kNotice, .text = std::move(text)};
}

StateChanged Running(std::string reason) {
  return {.state = SessionState::kRunning, .reason = std::move(reason)};
}

}  // namespace

class SessionWorker::Impl final : public LoopHost, public ControlHost, public tools::CallBudget {
 public:
  Impl(const WorkerParts& parts, std::unique_ptr<sessions::StoredSession> session,
       std::unique_ptr<SessionFold> fold, std::function<void(Parked)> parked, std::function<void()> recorded)
      : parts_(parts),
        fold_(std::move(fold)),
        session_(std::move(session)),
        parked_(std::move(parked)),
        recorded_(std::move(recorded)) {
    if (session_->kv().has_value()) {
      parts_.scheduler.Pin(session_->id(), session_->kv()->end, session_->kv()->tails);
    }
    found_running_ = session_facts().state() == SessionState::kRunning;
    fold_->Live();
    Summarise();
  }
  ~Impl() override {
    if (wake_.has_value()) parts_.executor.Cancel(*wake_);
    if (dispatcher_ != nullptr) dispatcher_->Shutdown();  // while the loop is there to hear of it
  }

  const sessions::SessionFacts& session_facts() const { return session_->facts(); }
  const SessionFold& fold() const { return *fold_; }
  sessions::StoredSession& session() { return *session_; }

  std::string LastSaid() const {
    if (!agent().profile().has_value()) return {};
    const auto dialogue = parts_.dialogue(profile());
    return dialogue.ok() ? (*dialogue)->Read(TurnTokens(session_facts().tokens())).text : std::string();
  }
  SessionFiles* open_files() { return recovered_ ? files_.get() : nullptr; }
  bool at_rest() const { return !busy_ && adding_ == 0; }
  void GoOn() {
    halt_ = false;
    Next();
  }
  void Add(std::vector<EventBody> bodies, Said done);
  bool is_recording() const { return recording_ || adding_ > 0; }
  void Interrupt() {
    end_calls_ = end_calls_ || session_facts().wait() == sessions::WaitFor::kClient;
    interrupted_ = busy_ || end_calls_;
    if (loop_runs_) loop_->Interrupt();
  }
  void Halt(absl::AnyInvocable<void()> done);
  void WithFiles(absl::AnyInvocable<void(base::StatusOr<SessionFiles*>)> use);
  void Close(absl::AnyInvocable<void()> done);

  // LoopHost
  bool Holds() override;
  std::vector<EventBody> WithOutcomes(std::span<const sessions::CallOutcome> outcomes) override;
  base::Status MayHandOut(size_t calls) override {
    return MayBegin(agent().used().calls + static_cast<int64_t>(calls));
  }
  void OnStart(std::span<const std::string> calls) override {
    if (!calls.empty()) call_ = calls.front();
  }
  int64_t TokensLeft() override { return agent::TokensLeft(agent()); }
  std::optional<std::vector<std::string>> OpeningTexts(uint32_t epoch) override;
  void OnStored(const sessions::OrderEnd& end) override {
    session_->NoteKv({.end = end.kv_end, .tails = end.kv_tails});
  }

  // ControlHost
  const AgentFacts& facts() const override { return agent(); }
  int64_t NowUtcMs() const override { return parts_.clock.UtcNow().ns / base::kNsPerMs; }
  std::string call() const override { return call_; }
  void Change(EventBody body) override { changes_.push_back(std::move(body)); }
  std::span<const EventBody> pending() const override { return changes_; }
  void Search(std::string query, size_t count,
              std::function<void(base::StatusOr<std::vector<RecallHit>>)> done) override;
  void Fetch(uint64_t seq, std::function<void(base::StatusOr<std::string>)> done) override;
  bool IsRunning(const std::string& process) const override;

  // CallBudget: the intent of the call is on record, hence counted.
  base::Status Admit(std::string_view) override { return MayBegin(agent().used().calls); }
  void Charge(std::string_view, const tools::ToolResult&) override {}

 private:
  const AgentFacts& agent() const { return fold_->agent(); }
  const ProfileSet& profile() const { return *agent().profile(); }

  // What is next. Does nothing while something is under way.
  void Next();
  void Work();
  void Park();

  // Each is under way until its events are durable; then Next.
  void Record(std::vector<EventBody> bodies);
  // Notes what lists say of the session, when that has changed.
  void Summarise();
  void Pause(std::string reason, std::vector<EventBody> before = {});
  // As Record, with something else to do when they are durable.
  void Append(std::vector<EventBody> bodies, absl::AnyInvocable<void()> then);

  // Why this process cannot run the session; empty: it can.
  std::string Misfit() const;
  void OpenFiles();
  void Recover();
  void Restore(std::optional<base::Sha256Digest> manifest);
  base::Status Prepare();
  TurnTexts Texts() const;

  // Whether the goal may have so many calls in all.
  base::Status MayBegin(int64_t calls) const;
  bool AtBorder();
  void Rested(Rest rest, const base::Status& status);
  void StartAnew(std::string reason);
  void AfterTurn(std::optional<std::vector<CheckRan>> ran);
  void RunChecks(std::string when, const GoalSet& goal, std::vector<CheckRan> ran);
  // False when the goal is another than `goal` by now, or somebody is just saying something.
  bool StillAbout(const GoalSet& goal) const {
    return adding_ == 0 && agent().goal().has_value() && *agent().goal() == goal;
  }
  void Apply();

  void BeginWait();
  void ConsiderWait();
  void EndWait(const std::string& why);
  void LookAtFile();

  const WorkerParts parts_;
  const std::unique_ptr<SessionFold> fold_;
  const std::unique_ptr<sessions::StoredSession> session_;
  const std::function<void(Parked)> parked_;
  const std::function<void()> recorded_;

  bool busy_ = false;                     // something is under way, and will call Next
  bool recording_ = false;                // it is an append
  bool loop_runs_ = false;                // it is the loop
  size_t adding_ = 0;                     // of Add
  uint64_t summarised_seq_ = UINT64_MAX;  // the agent's last event when the summary was made
  base::Status broken_;
  bool halt_ = false;
  bool interrupted_ = false;
  bool end_calls_ = false;  // calls of the turn that the interrupt has found waiting for a client
  absl::AnyInvocable<void()> halted_;

  std::unique_ptr<SessionFiles> files_;
  bool found_running_ = false;  // when it was opened
  bool moved_ = false;          // what the files held when they were opened is gone
  bool recovered_ = false;      // the files are what the log says, and calls are resolved
  tools::Registry registry_;
  tools::Toolset tools_;
  tools::ApprovalBook approvals_;
  std::unique_ptr<tools::Dispatcher> dispatcher_;
  std::unique_ptr<TurnLoop> loop_;
  std::string call_;                // that started last
  std::vector<EventBody> changes_;  // by control tools, for the next outcomes

  WaitWatch watch_;
  std::optional<base::TimerId> wake_;
};

// --- What is next

void SessionWorker::Impl::Next() {
  if (busy_ || adding_ > 0) return;
  if (wake_.has_value()) parts_.executor.Cancel(*std::exchange(wake_, std::nullopt));
  if (halt_) {
    if (auto halted = std::exchange(halted_, {}))
      parts_.executor.PostResult(base::Lane::kControl, std::move(halted));
    return;
  }
  if (!broken_.ok()) return Park();
  switch (session_facts().state()) {
    case SessionState::kRunning:
      return Work();
    case SessionState::kWaiting:
      return ConsiderWait();
    case SessionState::kIdle:
    case SessionState::kPaused:
    case SessionState::kClosed:
      return Park();
  }
}

void SessionWorker::Impl::Work() {
  watch_ = {};
  if (!end_calls_ && std::exchange(interrupted_, false) && !IsSpokenTo(*session_)) {
    return Record({StateChanged{.state = SessionState::kIdle, .reason = "interrupted"}});
  }
  if (std::string misfit = Misfit(); !misfit.empty()) return Pause(std::move(misfit));
  if (files_ == nullptr) return OpenFiles();
  if (!recovered_) return Recover();
  if (agent().wait().has_value()) return BeginWait();
  if (const base::Status prepared = Prepare(); !prepared.ok()) {
    return Pause("TOOLS: " + base::Message(prepared));
  }
  const bool goal_active = agent().goal().has_value() && agent().goal_state() == GoalState::kActive;
  if (goal_active && !agent().goal()->checks.empty() && !fold_->start_checked())
    return RunChecks("start", *agent().goal(), {});
  if (AtBorder()) return;
  if (fold_->turn_finished() && session_facts().untold().empty()) return AfterTurn(std::nullopt);
  if (std::exchange(end_calls_, false)) loop_->Interrupt();
  busy_ = loop_runs_ = true;
  loop_->Run([this](Rest rest, const base::Status& status) { Rested(rest, status); });
}

void SessionWorker::Impl::Park() {
  parts_.scheduler.Release(session_->id());
  if (parts_.history != nullptr && agent().profile().has_value()) {
    // A search catches up by itself; this only spares it the work.
    parts_.history->Update(session_->id(), Texts(), [](const base::Status&) {});
  }
  Parked parked{.broken = broken_, .may_close = true};
  if (session_facts().state() == SessionState::kWaiting) {
    parked.wake = watch_.NextLook(session_facts(), parts_.clock);
    parked.may_close = session_facts().wait() != sessions::WaitFor::kProcess &&
                       session_facts().wait() != sessions::WaitFor::kFile;
  }
  if (files_ != nullptr && HasRunning(*files_)) parked.may_close = false;
  if (parked.wake.has_value()) {
    auto timer = parts_.executor.PostAt(*parked.wake, [this] {
      wake_.reset();
      Next();
    });
    if (timer.ok()) wake_ = *timer;  // else: when somebody looks
  }
  parts_.executor.PostResult(base::Lane::kControl, [parked_to = parked_, parked] { parked_to(parked); });
}

void SessionWorker::Impl::Append(std::vector<EventBody> bodies, absl::AnyInvocable<void()> then) {
  HF_CHECK(!busy_);
  busy_ = recording_ = true;
  session_->Append(std::move(bodies), [this, then = std::move(then)](base::Status status) mutable {
    busy_ = recording_ = false;
    if (!status.ok()) broken_ = std::move(status);
    Summarise();
    broken_.ok() && then ? then() : Next();
    if (!is_recording()) recorded_();
  });
}

void SessionWorker::Impl::Summarise() {
  if (!broken_.ok() || std::exchange(summarised_seq_, fold_->last_agent_seq()) == fold_->last_agent_seq())
    return;
  std::string summary = EncodeSummary(SummaryOf(*fold_));
  if (summary != session_->summary()) session_->NoteSummary(std::move(summary));
}

void SessionWorker::Impl::Record(std::vector<EventBody> bodies) { Append(std::move(bodies), {}); }

void SessionWorker::Impl::Pause(std::string reason, std::vector<EventBody> before) {
  if (HasOpenGoal(agent()) && agent().goal_state() != GoalState::kPaused) {
    before.push_back(Encode(GoalChanged{.state = GoalState::kPaused, .reason = reason}));
  }
  before.push_back(StateChanged{.state = SessionState::kPaused, .reason = std::move(reason)});
  Record(std::move(before));
}

void SessionWorker::Impl::Add(std::vector<EventBody> bodies, Said done) {
  ++adding_;
  session_->Append(std::move(bodies), [this, done = std::move(done)](base::Status status) mutable {
    --adding_;
    if (!status.ok()) broken_ = status;
    Summarise();
    done(status.ok() ? base::StatusOr<uint64_t>(session_facts().last_seq()) : status);
    Next();
    if (!is_recording()) recorded_();
  });
}

void SessionWorker::Impl::Halt(absl::AnyInvocable<void()> done) {
  HF_CHECK(!halted_);
  halt_ = true;
  halted_ = std::move(done);
  if (loop_runs_) loop_->Stop();
  Next();
}

// --- Getting ready

std::string SessionWorker::Impl::Misfit() const {
  if (!agent().profile().has_value()) return "NO_PROFILE";
  const sessions::SessionCreated& created = fold_->created();
  const ModelIdentity& model = parts_.model;
  if (created.weights != model.weights || created.config != model.config) {
    return "MODEL_CHANGED: the session was made with other weights; fork it to go on with these";
  }
  if (created.tokenizer != model.tokenizer || created.chat_template != model.chat_template) {
    return "MODEL_CHANGED: the session was made with another tokenizer or chat format; fork it to go on";
  }
  return {};
}

void SessionWorker::Impl::OpenFiles() {
  if (profile().tree.empty()) {
    files_ = std::make_unique<NoFiles>(parts_.executor, parts_.clock);
    return Next();
  }
  busy_ = true;
  parts_.files.Open({.session = session_->id(),
                     .tree = profile().tree,
                     .directory = parts_.directory + "/" + session_->id(),
                     .mode = profile().workspace_mode},
                    [this](base::StatusOr<std::unique_ptr<SessionFiles>> files) {
                      busy_ = false;
                      if (!files.ok()) return Pause("WORKSPACE: " + base::Message(files.status()));
                      files_ = *std::move(files);
                      Next();
                    });
}

void SessionWorker::Impl::Recover() {
  // What this process has begun itself has nothing to recover from.
  const std::vector<sessions::OpenCall>& open = session_facts().open_calls();
  const bool ran = std::any_of(open.begin(), open.end(), [](const sessions::OpenCall& call) {
    return call.intent.client_deadline_utc_ms == 0;
  });
  if (!found_running_ && !ran) return Restore(session_facts().workspace());
  sessions::RecoveryPlan plan =
      PlanRecovery(session_facts(), {.generation = session_->generation(),
                                     .now_utc_ms = NowUtcMs(),
                                     .workspace_found = moved_ ? std::nullopt : files_->found(),
                                     .fruitless_recoveries_max = parts_.recoveries_max});
  if (!fold_->numerics().empty() && fold_->numerics() != parts_.model.numerics) {
    // What was sampled stands; the window is computed again, by the rules of now.
    for (EventBody& body : plan.append) {
      if (auto* recovered = std::get_if<sessions::Recovered>(&body)) {
        recovered->report +=
            "numerics were " + fold_->numerics() + " and are " + parts_.model.numerics + "\n";
      }
    }
  }
  if (plan.append.empty()) return Restore(plan.workspace);
  Append(std::move(plan.append), [this, workspace = plan.workspace] {
    if (session_facts().state() != SessionState::kRunning) return Next();
    Restore(workspace);
  });
}

void SessionWorker::Impl::Restore(std::optional<base::Sha256Digest> manifest) {
  busy_ = true;
  files_->Restore(manifest, [this](base::Status status) {
    busy_ = false;
    if (!status.ok()) return Pause("WORKSPACE: " + base::Message(status));
    files_->Remember(fold_->versions().Export());
    recovered_ = true;
    Next();
  });
}

base::Status SessionWorker::Impl::Prepare() {
  if (loop_ != nullptr) return {};
  registry_ = {};
  HF_RETURN_IF_ERROR(parts_.add_tools(registry_));
  HF_RETURN_IF_ERROR(AddControlTools(registry_, *this));
  HF_RETURN_IF_ERROR(AddClientTools(profile(), registry_));
  HF_ASSIGN_OR_RETURN(tools_, registry_.Select(ToolIds(profile())));
  HF_ASSIGN_OR_RETURN(const Dialogue* dialogue, parts_.dialogue(profile()));
  dispatcher_ = std::make_unique<tools::Dispatcher>(
      parts_.executor, parts_.clock, tools_, parts_.policy, approvals_,
      tools::Dispatcher::Options{.budget = this, .spill = parts_.spill, .sandbox_hash = parts_.sandbox_hash});
  TurnLoopOptions options{.session = session_->id(),
                          .priority = parts_.priority,
                          .sampler = {.temperature = static_cast<float>(profile().temperature),
                                      .top_k = profile().top_k,
                                      .min_p = static_cast<float>(profile().min_p),
                                      .top_p = static_cast<float>(profile().top_p)},
                          .seed = fold_->created().seed,
                          .numerics = parts_.model.numerics,
                          .window_tokens_max = profile().window_tokens_max,
                          .turn_tokens_max = profile().turn_tokens_max,
                          .on_live = parts_.on_live,
                          .narrow = parts_.narrow};
  loop_ = std::make_unique<TurnLoop>(TurnLoop::Parts{.executor = parts_.executor,
                                                     .clock = parts_.clock,
                                                     .log = *session_,
                                                     .scheduler = parts_.scheduler,
                                                     .dialogue = *dialogue,
                                                     .dispatcher = *dispatcher_,
                                                     .approvals = approvals_,
                                                     .workspace = *files_,
                                                     .host = *this},
                                     std::move(options));
  return {};
}

// --- The loop's host

bool SessionWorker::Impl::Holds() {
  if (halt_ || interrupted_ || agent().wait().has_value()) return true;
  if (ExhaustedBudget(agent()).has_value() || IsRepeating(agent()) || !WarningsDue(agent()).empty())
    return true;
  if (session_facts().untold().empty()) return false;
  return RepeatNotice(agent()).has_value() || ReminderDue(agent()).has_value() ||
         NoteRequest(agent(), profile().window_tokens_max).has_value();
}

// Puts on record what the rules ask for at a border; false when that is nothing. What Holds says is so.
bool SessionWorker::Impl::AtBorder() {
  std::vector<EventBody> bodies;
  for (const BudgetWarned& warned : WarningsDue(agent())) bodies.push_back(Encode(warned));
  if (const auto which = ExhaustedBudget(agent()); which.has_value()) {
    Pause(BudgetReason(*which), std::move(bodies));
    return true;
  }
  if (IsRepeating(agent())) {
    Pause(std::string(kRepeating), std::move(bodies));
    return true;
  }
  // Only beside something that is to be told anyway: nobody is woken up by a reminder.
  if (!session_facts().untold().empty()) {
    for (auto& input :
         {RepeatNotice(agent()), ReminderDue(agent()), NoteRequest(agent(), profile().window_tokens_max)}) {
      if (input.has_value()) bodies.push_back(*input);
    }
  }
  if (bodies.empty()) return false;
  Record(std::move(bodies));
  return true;
}

std::vector<EventBody> SessionWorker::Impl::WithOutcomes(std::span<const sessions::CallOutcome>) {
  return std::exchange(changes_, {});
}

std::optional<std::vector<std::string>> SessionWorker::Impl::OpeningTexts(uint32_t epoch) {
  if (!MayBeginWindow(agent(), profile().window_tokens_max)) return std::nullopt;
  return agent::OpeningTexts(agent(), epoch);
}

TurnTexts SessionWorker::Impl::Texts() const {
  const model::Tokenizer* tokenizer = parts_.tokenizer;
  const auto dialogue = parts_.dialogue(profile());
  const auto bytes = [tokenizer](std::span<const int32_t> ids) {
    std::string text;
    for (const int32_t id : ids) text += tokenizer->Bytes(id);
    return text;
  };
  if (!dialogue.ok()) return {.said = bytes, .bytes = bytes};
  return {.said =
              [dialogue = *dialogue](std::span<const int32_t> ids) {
                const Turn turn = dialogue->Read(ids);
                return turn.reasoning + (turn.reasoning.empty() ? "" : "\n") + turn.text;
              },
          .bytes = bytes};
}

void SessionWorker::Impl::Search(std::string query, size_t count,
                                 std::function<void(base::StatusOr<std::vector<RecallHit>>)> done) {
  if (parts_.history == nullptr) return done(absl::UnavailableError("there is no index of the history"));
  parts_.history->Search(session_->id(), Texts(), std::move(query), count, std::move(done));
}

void SessionWorker::Impl::Fetch(uint64_t seq, std::function<void(base::StatusOr<std::string>)> done) {
  if (parts_.history == nullptr) return done(absl::UnavailableError("there is no index of the history"));
  parts_.history->Fetch(session_->id(), Texts(), seq, std::move(done));
}

bool SessionWorker::Impl::IsRunning(const std::string& process) const {
  return files_ != nullptr && IsRunningIn(*files_, process);
}

base::Status SessionWorker::Impl::MayBegin(int64_t calls) const {
  if (!HasOpenGoal(agent()) || calls <= agent().budgets().calls) return {};
  return base::ResourceExhausted("the goal's budget of " + std::to_string(agent().budgets().calls) +
                                 " calls is used up");
}

void SessionWorker::Impl::Rested(Rest rest, const base::Status& status) {
  busy_ = loop_runs_ = false;
  changes_.clear();  // of calls whose outcomes were not committed
  switch (rest) {
    case Rest::kDone:
      if (!fold_->turn_finished() && session_facts().untold().empty() && adding_ == 0) {
        return Record({StateChanged{.state = SessionState::kIdle, .reason = "there is nothing to do"}});
      }
      return Next();
    case Rest::kHeld:
    case Rest::kStopped:
      return Next();
    case Rest::kApproval:
      return Record({StateChanged{.state = SessionState::kWaiting, .wait = sessions::WaitFor::kApproval}});
    case Rest::kClient:
      return Record({StateChanged{.state = SessionState::kWaiting, .wait = sessions::WaitFor::kClient}});
    case Rest::kWindowFull:
      return Pause(MayBeginWindow(agent(), profile().window_tokens_max) ? "WINDOW_FULL"
                                                                        : std::string(kCompactionThrash));
    case Rest::kFailed:
      return StartAnew("FAILED: " + base::Message(status));
  }
}

// The loop keeps its error, and calls may stand open: what goes on later recovers first.
void SessionWorker::Impl::StartAnew(std::string reason) {
  busy_ = true;
  const auto end = [this, reason = std::move(reason)] {
    parts_.executor.PostResult(base::Lane::kControl, [this, reason] {
      files_.reset();
      recovered_ = moved_ = false;
      found_running_ = true;
      busy_ = false;
      Pause(reason);
    });
  };
  parts_.executor.PostResult(base::Lane::kControl, [this, end] {
    if (dispatcher_ != nullptr) dispatcher_->Shutdown();
    loop_.reset();
    dispatcher_.reset();
    files_->Close([end](const base::Status&) { end(); });
  });
}

// --- The goal

void SessionWorker::Impl::AfterTurn(std::optional<std::vector<CheckRan>> ran) {
  const GoalSet* goal = agent().goal().has_value() ? &*agent().goal() : nullptr;
  const bool to_apply = goal != nullptr && goal->apply_on_success && !fold_->applied() &&
                        agent().goal_state() == GoalState::kSucceeded;
  if (to_apply) return Apply();
  const StateChanged idle{.state = SessionState::kIdle};
  const TurnDecision decision = ran.has_value() ? DecideAfterTurn(agent(), std::span<const CheckRan>(*ran))
                                                : DecideAfterTurn(agent(), std::nullopt);
  const auto end_goal = [&](GoalState state) {
    std::vector<EventBody> bodies = {Encode(GoalChanged{.state = state})};
    // To be applied first.
    if (state != GoalState::kSucceeded || !goal->apply_on_success) bodies.push_back(idle);
    Record(std::move(bodies));
  };
  switch (decision.what) {
    case agent::AfterTurn::kIdle:
      return Record({idle});
    case agent::AfterTurn::kRunChecks:
      return RunChecks("end", *goal, {});
    case agent::AfterTurn::kSucceeded:
      return end_goal(GoalState::kSucceeded);
    case agent::AfterTurn::kFinishedUnverified:
      return end_goal(GoalState::kFinishedUnverified);
    case agent::AfterTurn::kFailed:
      return end_goal(GoalState::kFailed);
    case agent::AfterTurn::kPause:
      return Pause(decision.reason);
    case agent::AfterTurn::kContinue:
      break;
  }
  std::vector<EventBody> bodies = {Notice(decision.notice)};
  if (decision.delay_ms > 0) {
    bodies.push_back(sessions::TimerSet{.timer = std::string(kContinueTimer),
                                        .due_utc_ms = NowUtcMs() + decision.delay_ms,
                                        .remaining_ms = decision.delay_ms});
    bodies.push_back(StateChanged{.state = SessionState::kWaiting,
                                  .wait = sessions::WaitFor::kTimer,
                                  .reason = "nothing has changed for some turns"});
  }
  Record(std::move(bodies));
}

// One after the other; at the end the first that fails is the last.
void SessionWorker::Impl::RunChecks(std::string when, const GoalSet& goal, std::vector<CheckRan> ran) {
  if (!StillAbout(goal)) return Next();
  const std::vector<GoalCheck>& checks = goal.checks;
  const bool over = ran.size() == checks.size() || (when == "end" && !ran.empty() && !ran.back().passed);
  if (over) {
    std::vector<EventBody> bodies;
    for (const CheckRan& one : ran) bodies.push_back(Encode(one));
    return Append(std::move(bodies), [this, when, goal, ran = std::move(ran)]() mutable {
      when == "end" && StillAbout(goal) ? AfterTurn(std::move(ran)) : Next();
    });
  }
  busy_ = true;
  files_->RunCheck(checks[ran.size()],
                   [this, when, goal, ran = std::move(ran)](base::StatusOr<CheckRan> one) mutable {
                     busy_ = false;
                     if (!one.ok()) return Pause("CHECK: " + base::Message(one.status()));
                     one->when = when;
                     ran.push_back(*std::move(one));
                     RunChecks(std::move(when), goal, std::move(ran));
                   });
}

void SessionWorker::Impl::Apply() {
  busy_ = true;
  files_->Apply({}, [this](base::StatusOr<FilesReport> report) {
    busy_ = false;
    if (!report.ok()) return Pause("APPLY: " + base::Message(report.status()));
    Record({Encode(Applied{.applied = report->applied,
                           .conflicts = report->conflicts,
                           .refused = report->refused,
                           .text = report->text,
                           .failed = report->failed}),
            sessions::WorkspaceChanged{.manifest = files_->current(), .reason = "applied"},
            StateChanged{.state = SessionState::kIdle}});
  });
}

// --- Waiting

void SessionWorker::Impl::BeginWait() {
  const WaitSet& wait = *agent().wait();
  if (!wait.process.empty() && !IsRunning(wait.process)) return EndWait("lost");
  if (!wait.file.empty() && wait.file_state.empty()) {
    busy_ = true;
    return StateOfFile(*files_, parts_.executor, wait.file, [this](std::string state) {
      busy_ = false;
      if (adding_ > 0 || !agent().wait().has_value()) return Next();  // it may be over
      WaitSet looked = *agent().wait();
      looked.file_state = std::move(state);
      Record({Encode(looked)});
    });
  }
  Record({StateChanged{.state = SessionState::kWaiting, .wait = KindOf(wait), .reason = DescribeWait(wait)}});
}

void SessionWorker::Impl::ConsiderWait() {
  const sessions::SessionFacts& now = session_facts();
  if (now.wait() == sessions::WaitFor::kApproval) {
    if (now.pending_approvals().empty()) return Record({Running("answered")});
    return Park();
  }
  if (now.wait() == sessions::WaitFor::kClient) {
    if (auto ended = ExpiredClientCalls(now, NowUtcMs()); !ended.empty()) return Record(std::move(ended));
    if (OpenClientCalls(now).empty()) return Record({Running("the client's calls have ended")});
    return Park();
  }
  if (now.wait() == sessions::WaitFor::kProcess && files_ == nullptr) {
    // The process is lost with the one that had started it.
    return Record(PlanRecovery(now, {.generation = session_->generation(), .now_utc_ms = NowUtcMs()}).append);
  }
  const std::string why = watch_.Over(*session_, *fold_, parts_.clock);
  if (!why.empty()) return EndWait(why);
  if (agent().wait().has_value()) {
    const WaitSet& wait = *agent().wait();
    if (!wait.process.empty() && !IsRunning(wait.process)) return EndWait("process");
    if (!wait.file.empty() && watch_.TimeToLook(parts_.clock)) return LookAtFile();
  }
  Park();
}

void SessionWorker::Impl::LookAtFile() {
  if (files_ == nullptr) return OpenFiles();
  busy_ = true;
  StateOfFile(*files_, parts_.executor, agent().wait()->file, [this](const std::string& state) {
    busy_ = false;
    watch_.Looked(parts_.clock);
    if (adding_ > 0) return;  // what is being said may end the wait; Next comes after it
    if (agent().wait().has_value() && state != agent().wait()->file_state) return EndWait("file");
    Next();
  });
}

void SessionWorker::Impl::EndWait(const std::string& why) {
  std::vector<EventBody> bodies;
  for (const auto& [name, timer] : session_facts().timers()) {
    bodies.push_back(sessions::TimerEnded{.timer = name, .fired = why == "time"});
  }
  if (agent().wait().has_value()) {
    bodies.push_back(Encode(WaitEnded{.why = why}));
    bodies.push_back(Notice(WaitOverText(why)));
  }
  if (session_facts().state() != SessionState::kRunning) bodies.push_back(Running("the wait is over"));
  watch_ = {};
  Record(std::move(bodies));
}

// --- Files from outside, and the end

void SessionWorker::Impl::WithFiles(absl::AnyInvocable<void(base::StatusOr<SessionFiles*>)> use) {
  HF_CHECK(halt_ && !busy_);
  const auto restore = [this](absl::AnyInvocable<void(base::StatusOr<SessionFiles*>)> then) {
    busy_ = true;
    files_->Restore(session_facts().workspace(), [this, then = std::move(then)](base::Status status) mutable {
      busy_ = false;
      moved_ = true;
      if (!status.ok()) return then(std::move(status));
      then(files_.get());
    });
  };
  if (!agent().profile().has_value() || profile().tree.empty()) return use(nullptr);
  if (files_ != nullptr && recovered_) return use(files_.get());
  if (files_ != nullptr) return restore(std::move(use));
  busy_ = true;
  parts_.files.Open(
      {.session = session_->id(),
       .tree = profile().tree,
       .directory = parts_.directory + "/" + session_->id(),
       .mode = profile().workspace_mode},
      [this, restore, use = std::move(use)](base::StatusOr<std::unique_ptr<SessionFiles>> files) mutable {
        busy_ = false;
        if (!files.ok()) return use(files.status());
        files_ = *std::move(files);
        restore(std::move(use));
      });
}

void SessionWorker::Impl::Close(absl::AnyInvocable<void()> done) {
  HF_CHECK(!busy_ && adding_ == 0);
  if (wake_.has_value()) parts_.executor.Cancel(*std::exchange(wake_, std::nullopt));
  busy_ = true;  // nothing is begun any more
  parts_.scheduler.Release(session_->id());
  if (dispatcher_ != nullptr) dispatcher_->Shutdown();
  loop_.reset();
  if (files_ == nullptr) {
    parts_.executor.PostResult(base::Lane::kControl, std::move(done));
    return;
  }
  // What a close has to say changes nothing: the log says what the files are.
  files_->Close([done = std::move(done)](const base::Status&) mutable { done(); });
}

SessionWorker::SessionWorker(const WorkerParts& parts, std::unique_ptr<sessions::StoredSession> session,
                             std::unique_ptr<SessionFold> fold, std::function<void(Parked)> parked,
                             std::function<void()> recorded)
    : impl_(std::make_unique<Impl>(parts, std::move(session), std::move(fold), std::move(parked),
                                   std::move(recorded))) {}
bool SessionWorker::is_recording() const { return impl_->is_recording(); }
SessionWorker::~SessionWorker() = default;
SessionFiles* SessionWorker::open_files() { return impl_->open_files(); }
const sessions::SessionFacts& SessionWorker::facts() const { return impl_->session_facts(); }
const SessionFold& SessionWorker::fold() const { return impl_->fold(); }
sessions::StoredSession& SessionWorker::session() { return impl_->session(); }
std::string SessionWorker::LastSaid() const { return impl_->LastSaid(); }
bool SessionWorker::at_rest() const { return impl_->at_rest(); }
void SessionWorker::Consider() { impl_->GoOn(); }
void SessionWorker::Add(std::vector<EventBody> bodies, Said done) {
  impl_->Add(std::move(bodies), std::move(done));
}
void SessionWorker::Interrupt() { impl_->Interrupt(); }
void SessionWorker::Halt(absl::AnyInvocable<void()> done) { impl_->Halt(std::move(done)); }
void SessionWorker::WithFiles(absl::AnyInvocable<void(base::StatusOr<SessionFiles*>)> use) {
  impl_->WithFiles(std::move(use));
}
void SessionWorker::Close(absl::AnyInvocable<void()> done) { impl_->Close(std::move(done)); }

}  // namespace holdfast::agent
