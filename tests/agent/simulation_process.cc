#include "tests/agent/simulation_process.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/coding.h"
#include "tests/agent/simulation_model.h"
#include "tests/agent/simulation_tools.h"

namespace holdfast::agent::simulation {
namespace {

constexpr int64_t kWriteBehindNs = 5 * base::kNsPerMs;  // of Plant::kEarlyManifest

using sessions::EventBody;

constexpr char kDatabase[] = "/data/holdfast.db";
constexpr char kBlobs[] = "/data/blobs";
constexpr char kKv[] = "/data/kv";
constexpr uint64_t kManifestBytesMax = 1 << 20;
constexpr int64_t kWindowTokens = 720;
constexpr int64_t kSessionTokens = 2500;  // then its turns are closed

template <class Body>
bool Has(const std::vector<EventBody>& bodies) {
  return std::any_of(bodies.begin(), bodies.end(),
                     [](const EventBody& body) { return std::holds_alternative<Body>(body); });
}

bool HasTokens(const std::vector<EventBody>& bodies, sessions::TokenOrigin origin) {
  return std::any_of(bodies.begin(), bodies.end(), [origin](const EventBody& body) {
    const auto* run = std::get_if<sessions::TokenRun>(&body);
    return run != nullptr && run->origin == origin;
  });
}

// Where an append was cut off, and whether it is on record.
std::string BoundaryOf(const PendingAppend& append, bool durable) {
  if (Has<sessions::EpochStarted>(append.bodies)) {
    return durable ? "after an epoch change" : "in an epoch change";
  }
  if (Has<sessions::CallIntent>(append.bodies)) return durable ? "after intent" : "before intent";
  if (Has<sessions::CallOutcome>(append.bodies)) return durable ? "after outcome" : "after checkpoint";
  if (HasTokens(append.bodies, sessions::TokenOrigin::kFed)) return durable ? "after feed" : "before feed";
  if (HasTokens(append.bodies, sessions::TokenOrigin::kSampled)) {
    return durable ? "after a token batch" : "in a token batch";
  }
  return "other events";
}

// Where a session was when its process ended.
std::string BoundaryOf(const Witness& witness, uint64_t last_seq) {
  if (witness.step_at_end < RecoveryStep::kGoingOn) {
    return "in recovery, after step " + std::to_string(static_cast<int>(witness.step_at_end));
  }
  const Progress& progress = witness.progress_at_end;
  std::string boundary;
  for (const auto& [first, append] : progress.appends) {
    boundary = BoundaryOf(append, last_seq >= first);
    if (boundary != "in a token batch" && boundary != "other events") return boundary;
  }
  if (!boundary.empty()) return boundary;
  if (progress.running > 0) return "after start";
  if (progress.ended) return "after end";
  if (progress.intended) return "after intent";
  return "between";
}

// The layer of a session; manifests are blobs.
class SimWorkspace final : public CallWorkspace {
 public:
  SimWorkspace(base::Executor& executor, Machine& machine, memory::BlobStore& blobs, Witness& witness,
               std::string session)
      : executor_(executor),
        machine_(machine),
        blobs_(blobs),
        witness_(witness),
        session_(std::move(session)) {}

  base::Sha256Digest current() const override { return current_; }
  tools::ToolContext context() override {
    return {.executor = &executor_, .clock = &machine_.clock, .inside = session_};
  }

  void Checkpoint(Checked done) override {
    if (machine_.plant == Plant::kEarlyManifest) {
      // It is written behind, as by one who trusts that nothing happens meanwhile.
      const base::Sha256Digest id = ManifestOf(witness_.layer);
      const base::MonotonicTime later{machine_.clock.MonotonicNow().ns + kWriteBehindNs};
      (void)executor_.PostAt(later, [this, bytes = EncodeFiles(witness_.layer)]() mutable {
        Store(std::move(bytes), [](const base::StatusOr<base::Sha256Digest>&) {});
      });
      executor_.PostResult(base::Lane::kControl,
                           [this, id, done = std::move(done)]() mutable { Stored(id, std::move(done)); });
      return;
    }
    Store([this, done = std::move(done)](base::StatusOr<base::Sha256Digest> id) mutable {
      Stored(std::move(id), std::move(done));
    });
  }

  // Makes what the layer holds now a durable blob.
  void Store(Checked done) { Store(EncodeFiles(witness_.layer), std::move(done)); }
  void Store(std::string bytes, Checked done) {
    executor_.PostResult(
        base::Lane::kTools, [this, bytes = std::move(bytes), done = std::move(done)]() mutable {
          auto batch = blobs_.NewBatch();
          base::StatusOr<base::Sha256Digest> id = batch->Add(base::AsBytes(bytes));
          if (id.ok()) {
            if (base::Status status = batch->Commit(); !status.ok()) id = std::move(status);
          }
          executor_.PostResult(base::Lane::kControl, [id = std::move(id), done = std::move(done)]() mutable {
            done(std::move(id));
          });
        });
  }

  // Makes the layer equal to a manifest; none: empty, which is a manifest too from then on.
  void Restore(const std::optional<base::Sha256Digest>& manifest,
               absl::AnyInvocable<void(base::Status)> done) {
    if (!manifest.has_value()) {
      Restored({});
      return Store([done = std::move(done)](const base::StatusOr<base::Sha256Digest>& id) mutable {
        done(id.status());
      });
    }
    executor_.PostResult(base::Lane::kTools, [this, id = *manifest, done = std::move(done)]() mutable {
      const base::StatusOr<std::string> bytes = blobs_.Read(id, kManifestBytesMax);
      if (bytes.ok()) Restored(DecodeFiles(*bytes));
      executor_.PostResult(base::Lane::kControl, [status = bytes.status(), done = std::move(done)]() mutable {
        done(std::move(status));
      });
    });
  }

 private:
  void Restored(Files files) {
    witness_.layer = std::move(files);
    witness_.same_boot = true;
    current_ = ManifestOf(witness_.layer);
  }
  void Stored(base::StatusOr<base::Sha256Digest> id, Checked done) {
    witness_.progress.ended = false;
    if (id.ok()) current_ = *id;
    done(std::move(id));
  }

  base::Executor& executor_;
  Machine& machine_;
  memory::BlobStore& blobs_;
  Witness& witness_;
  const std::string session_;
  base::Sha256Digest current_ = {};
};

// A session's log, which notes what it has promised.
class WitnessedLog final : public sessions::SessionLog {
 public:
  WitnessedLog(base::Executor& executor, sessions::StoredSession& session, Witness& witness, Plant plant,
               Counts& counts)
      : executor_(executor),
        session_(session),
        witness_(witness),
        plant_(plant),
        counts_(counts),
        restarted_(session.facts().tokens().position() > 0),
        next_seq_(session.facts().last_seq() + 1) {}

  const sessions::SessionFacts& facts() const override { return session_.facts(); }
  base::StatusOr<sessions::Event> ReadUntold(uint64_t seq) const override { return session_.ReadUntold(seq); }

  void Append(std::vector<EventBody> bodies, sessions::Appended done) override {
    const uint64_t first = std::exchange(next_seq_, next_seq_ + bodies.size());
    witness_.progress.appends.emplace(first, PendingAppend{first, bodies});
    if (Has<sessions::CallOutcome>(bodies)) witness_.progress.ended = false;
    const bool lies = (plant_ == Plant::kEarlyIntent && Has<sessions::CallIntent>(bodies) &&
                       !Has<sessions::CallOutcome>(bodies)) ||
                      (plant_ == Plant::kEarlyTokens && HasTokens(bodies, sessions::TokenOrigin::kSampled));
    if (lies) {
      session_.Append(std::move(bodies), [](const base::Status&) {});
      executor_.PostResult(base::Lane::kControl, [this, first, done = std::move(done)]() mutable {
        Promise(first);
        done({});
      });
      return;
    }
    session_.Append(std::move(bodies), [this, first, done = std::move(done)](base::Status status) mutable {
      if (status.ok()) Promise(first);
      done(std::move(status));
    });
  }

 private:
  void Promise(uint64_t first) {
    const auto found = witness_.progress.appends.find(first);
    uint64_t seq = first;
    for (const EventBody& body : found->second.bodies) {
      witness_.acknowledged.emplace(seq++, BytesOf(body));
      const auto* input = std::get_if<sessions::InputReceived>(&body);
      if (input != nullptr && !input->request_id.empty()) witness_.said.insert(input->request_id);
      if (std::holds_alternative<sessions::CallIntent>(body)) witness_.progress.intended = true;
      const auto* cost = std::get_if<sessions::TokensAccounted>(&body);
      if (cost != nullptr && cost->attached > 0 && restarted_) counts_.Hit(RecoveryLine::kKvAttached);
      if (!std::holds_alternative<sessions::CallOutcome>(body)) continue;
      witness_.progress.intended = false;
      if (witness_.step == RecoveryStep::kCallsStarted) witness_.step = RecoveryStep::kGoingOn;
    }
    witness_.progress.appends.erase(found);
  }

  base::Executor& executor_;
  sessions::StoredSession& session_;
  Witness& witness_;
  const Plant plant_;
  Counts& counts_;
  const bool restarted_;  // the window was begun by an earlier process
  uint64_t next_seq_;
};

}  // namespace

const char* NameOf(RecoveryLine line) {
  static constexpr const char* kNames[kRecoveryLineCount] = {"stopped with the lease taken",
                                                             "stopped with the plan not committed",
                                                             "stopped with the plan committed",
                                                             "stopped with the workspace restored",
                                                             "stopped with calls started again",
                                                             "layer of the same boot",
                                                             "layer of another boot",
                                                             "nothing to do",
                                                             "turn unspoken",
                                                             "turn half spoken",
                                                             "turn spoken, no call begun",
                                                             "outcomes untold",
                                                             "contained call, same boot",
                                                             "contained call, another boot",
                                                             "call that only reads",
                                                             "idempotent call",
                                                             "unknown outcome, same boot",
                                                             "unknown outcome, another boot",
                                                             "stored KV attached",
                                                             "unacknowledged events on record",
                                                             "unacknowledged events gone"};
  return kNames[static_cast<size_t>(line)];
}

// One session in one process.
class Process::Session final : public LoopHost {
 public:
  Session(Process& process, const SessionSpec& spec)
      : process_(process), spec_(spec), witness_(process.machine_.witnesses[spec.id]) {}
  // What the dispatcher still has to say goes to the loop, and no further.
  ~Session() override {
    if (dispatcher_) dispatcher_->Shutdown();
  }

  void Open();
  bool rests() const { return rest_.has_value() && noting_ == 0; }
  Rest rest() const { return *rest_; }
  bool at_work() const { return loop_ != nullptr; }
  void Interrupt() {
    if (!rest_.has_value()) loop_->Interrupt();
  }
  void Say(const std::string& request_id, const std::string& text);

  // LoopHost
  bool Holds() override { return false; }
  std::vector<EventBody> WithOutcomes(std::span<const sessions::CallOutcome>) override { return {}; }
  int64_t TokensLeft() override {
    const sessions::TokenTotals& totals = stored_->facts().tokens().totals();
    return kSessionTokens - static_cast<int64_t>(totals.fed + totals.sampled + totals.forced);
  }
  std::optional<std::vector<std::string>> OpeningTexts(uint32_t epoch) override {
    if (epoch == 0) return std::vector<std::string>();
    return std::vector<std::string>{"go on"};
  }

 private:
  void Begin(base::StatusOr<std::unique_ptr<sessions::StoredSession>> opened);
  void CountWhatIsFound();
  void CountTheTurn(const sessions::SessionFacts& facts);
  void Plan();
  void CountThePlan(const sessions::RecoveryPlan& plan, bool same_boot);
  void Restore(const sessions::RecoveryPlan& plan);
  void Work(bool runs_again);
  void Run();
  void Note(std::vector<EventBody> bodies);
  void Fail(const base::Status& status);

  Process& process_;
  const SessionSpec spec_;
  Witness& witness_;
  std::unique_ptr<sessions::StoredSession> stored_;
  std::unique_ptr<WitnessedLog> log_;
  std::unique_ptr<SimWorkspace> workspace_;
  std::optional<base::Sha256Digest> found_;  // in the layer
  std::unique_ptr<tools::Dispatcher> dispatcher_;
  tools::ApprovalBook approvals_;
  std::unique_ptr<TurnLoop> loop_;
  std::optional<Rest> rest_;
  size_t noting_ = 0;  // of Note, not on record yet
};

// --- A session's recovery, step by step

void Process::Session::Open() {
  sessions::SessionStore& store = *process_.sessions_store_;
  store.OpenSession(spec_.id, nullptr, [this, &store](auto opened) {
    if (!absl::IsNotFound(opened.status())) return Begin(std::move(opened));
    sessions::SessionCreated created{.seed = spec_.seed};
    std::transform(spec_.id.begin(), spec_.id.end(), created.uid.begin(),
                   [](char c) { return static_cast<std::byte>(c); });
    store.Create(spec_.id, std::move(created), {},
                 [this, &store](const base::StatusOr<sessions::SessionRow>& row) {
                   if (!row.ok()) return Fail(row.status());
                   store.OpenSession(spec_.id, nullptr, [this](auto made) { Begin(std::move(made)); });
                 });
  });
}

void Process::Session::Begin(base::StatusOr<std::unique_ptr<sessions::StoredSession>> opened) {
  if (!opened.ok()) return Fail(opened.status());
  stored_ = *std::move(opened);
  CountWhatIsFound();
  witness_.progress = {};
  witness_.opened = true;
  witness_.step = RecoveryStep::kLeaseTaken;
  log_ = std::make_unique<WitnessedLog>(process_.executor_, *stored_, witness_, process_.machine_.plant,
                                        process_.counts_);
  workspace_ = std::make_unique<SimWorkspace>(process_.executor_, process_.machine_, *process_.blobs_,
                                              witness_, spec_.id);
  if (!witness_.same_boot) return Plan();
  workspace_->Store([this](const base::StatusOr<base::Sha256Digest>& id) {
    if (!id.ok()) return Fail(id.status());
    found_ = *id;
    Plan();
  });
}

void Process::Session::CountWhatIsFound() {
  Counts& counts = process_.counts_;
  const sessions::SessionFacts& facts = stored_->facts();
  if (witness_.ended_in.empty()) return;  // the first process
  ++counts.crash_points[BoundaryOf(witness_, facts.last_seq()) + " | " + witness_.ended_in];
  if (witness_.step_at_end >= RecoveryStep::kLeaseTaken && witness_.step_at_end < RecoveryStep::kGoingOn) {
    const auto first = static_cast<size_t>(RecoveryStep::kLeaseTaken);
    counts.Hit(static_cast<RecoveryLine>(static_cast<size_t>(witness_.step_at_end) - first));
  }
  for (const auto& [first, append] : witness_.progress_at_end.appends) {
    counts.Hit(facts.last_seq() >= first ? RecoveryLine::kUnacknowledgedKept
                                         : RecoveryLine::kUnacknowledgedLost);
  }
  counts.Hit(witness_.same_boot ? RecoveryLine::kLayerOfTheSameBoot : RecoveryLine::kLayerOfAnotherBoot);
  CountTheTurn(facts);
}

void Process::Session::CountTheTurn(const sessions::SessionFacts& facts) {
  size_t begin = 0;
  for (const sessions::TokenSpan& span : facts.tokens().spans()) {
    if (span.origin == sessions::TokenOrigin::kFed) begin = static_cast<size_t>(span.position + span.count);
  }
  const auto ids = facts.tokens().window().subspan(begin);
  const Turn turn = SharedModel::Get().dialogue().Read(ids);
  Counts& counts = process_.counts_;
  if (ids.empty()) return counts.Hit(RecoveryLine::kTurnUnspoken);
  if (!turn.complete) return counts.Hit(RecoveryLine::kTurnHalfSpoken);
  if (!facts.open_calls().empty()) return;
  if (!facts.untold().empty()) return counts.Hit(RecoveryLine::kOutcomesUntold);
  if (!turn.calls.empty()) counts.Hit(RecoveryLine::kTurnSpoken);
}

void Process::Session::Plan() {
  const sessions::SessionFacts& facts = stored_->facts();
  const sessions::RecoveryOptions options{
      .generation = stored_->generation(), .workspace_found = found_, .fruitless_recoveries_max = 1000};
  sessions::RecoveryPlan plan = PlanRecovery(facts, options);
  if (facts.last_seq() == 1) {
    plan.append = {sessions::InputReceived{.text = "go"}, sessions::InputReceived{.text = "on"},
                   sessions::StateChanged{.state = sessions::SessionState::kRunning}};
  } else {
    CountThePlan(plan, found_.has_value());
  }
  if (process_.machine_.plant == Plant::kRunsUnknownAgain) {
    std::erase_if(plan.append, [](const EventBody& body) {
      const auto* outcome = std::get_if<sessions::CallOutcome>(&body);
      return outcome != nullptr && outcome->status == sessions::CallStatus::kUnknown;
    });
  }
  witness_.step = RecoveryStep::kPlanMade;
  if (plan.append.empty()) return Restore(plan);
  log_->Append(plan.append,
               [this, plan](const base::Status& status) { status.ok() ? Restore(plan) : Fail(status); });
}

void Process::Session::CountThePlan(const sessions::RecoveryPlan& plan, bool same_boot) {
  Counts& counts = process_.counts_;
  if (plan.append.empty()) counts.Hit(RecoveryLine::kNothingToDo);
  for (const sessions::OpenCall& open : stored_->facts().open_calls()) {
    const bool again =
        std::find(plan.run_again.begin(), plan.run_again.end(), open.intent.call) != plan.run_again.end();
    if (open.intent.effect == sessions::CallEffect::kReadOnly) {
      counts.Hit(RecoveryLine::kReadOnly);
    } else if (open.intent.effect == sessions::CallEffect::kIdempotent) {
      counts.Hit(RecoveryLine::kIdempotent);
    } else if (again) {
      counts.Hit(same_boot ? RecoveryLine::kContainedSameBoot : RecoveryLine::kContainedOtherBoot);
    } else {
      counts.Hit(same_boot ? RecoveryLine::kUnknownSameBoot : RecoveryLine::kUnknownOtherBoot);
    }
  }
}

void Process::Session::Restore(const sessions::RecoveryPlan& plan) {
  witness_.step = RecoveryStep::kPlanCommitted;
  workspace_->Restore(plan.workspace, [this, again = !plan.run_again.empty()](const base::Status& status) {
    status.ok() ? Work(again) : Fail(base::Annotate(status, "restore"));
  });
}

void Process::Session::Work(bool runs_again) {
  witness_.step = runs_again ? RecoveryStep::kWorkspaceRestored : RecoveryStep::kGoingOn;
  dispatcher_ =
      std::make_unique<tools::Dispatcher>(process_.executor_, process_.machine_.clock, process_.toolset_,
                                          process_.policy_, approvals_, tools::Dispatcher::Options{});
  SharedModel& shared = SharedModel::Get();
  const TurnLoop::Parts parts{.executor = process_.executor_,
                              .clock = process_.machine_.clock,
                              .log = *log_,
                              .scheduler = *process_.scheduler_,
                              .dialogue = shared.dialogue(),
                              .dispatcher = *dispatcher_,
                              .approvals = approvals_,
                              .workspace = *workspace_,
                              .host = *this};
  TurnLoopOptions options{.session = spec_.id,
                          .seed = spec_.seed,
                          .window_tokens_max = kWindowTokens,
                          .turn_tokens_max = 150,
                          .commit_tokens = 8};
  options.narrow = [&shared](std::unique_ptr<sessions::TokenConstraint> grammar,
                             std::span<const int32_t> /*window*/, std::span<const int32_t> begun) {
    return shared.Narrow(std::move(grammar), begun);
  };
  loop_ = std::make_unique<TurnLoop>(parts, options);
  const sessions::SessionFacts& facts = stored_->facts();
  // What was said while IDLE was being recorded may have begun a turn behind it.
  const bool idle = facts.state() == sessions::SessionState::kIdle && facts.open_calls().empty();
  if (!idle || !facts.untold().empty()) return Run();
  rest_ = Rest::kDone;
}

void Process::Session::Run() {
  rest_.reset();
  loop_->Run([this](Rest rest, const base::Status& status) {
    rest_ = rest;
    if (rest == Rest::kFailed) return Fail(status);
    // Something was said while the end of the turn was being committed.
    if (rest == Rest::kDone && !stored_->facts().untold().empty()) return Run();
    if (rest == Rest::kDone) Note({sessions::StateChanged{.state = sessions::SessionState::kIdle}});
  });
}

// What is not the turn loop's to say: the session does not rest before it is on record.
void Process::Session::Note(std::vector<EventBody> bodies) {
  ++noting_;
  log_->Append(std::move(bodies), [this](const base::Status& status) {
    --noting_;
    if (!status.ok()) return Fail(status);
    if (rest_ == Rest::kDone && !stored_->facts().untold().empty()) Run();
  });
}

void Process::Session::Say(const std::string& request_id, const std::string& text) {
  Note(
      {sessions::StateChanged{.state = sessions::SessionState::kRunning},
       sessions::InputReceived{.kind = sessions::InputKind::kSteer, .request_id = request_id, .text = text}});
}

void Process::Session::Fail(const base::Status& status) {
  rest_ = Rest::kFailed;
  if (process_.failed_.ok()) process_.failed_ = base::Annotate(status, spec_.id);
}

// --- A process

Process::Process(Machine& machine, ProcessFiles& files, const std::vector<SessionSpec>& specs,
                 uint64_t executor_seed, Counts& counts)
    : machine_(machine), files_(files), counts_(counts), executor_(machine.clock, {.seed = executor_seed}) {
  for (const SessionSpec& spec : specs) machine_.witnesses[spec.id].opened = false;
  failed_ = Open();
  if (!failed_.ok()) return;
  for (const SessionSpec& spec : specs) {
    Session& session = *sessions_.emplace(spec.id, std::make_unique<Session>(*this, spec)).first->second;
    executor_.PostResult(base::Lane::kControl, [&session] { session.Open(); });
  }
}

Process::~Process() = default;

base::Status Process::Open() {
  HF_ASSIGN_OR_RETURN(database_, memory::SqliteDatabase::Open(files_, {.path = kDatabase},
                                                              {sessions::SessionSchema()}, machine_.clock));
  HF_ASSIGN_OR_RETURN(sessions_store_, sessions::SessionStore::Open(executor_, machine_.clock, *database_));
  HF_ASSIGN_OR_RETURN(blobs_, memory::BlobStore::Open(files_, {.directory = kBlobs}, machine_.clock));
  model::Engine& engine = SharedModel::Get().engine();
  const model::KvLayout& layout = engine.kv_layout();
  HF_ASSIGN_OR_RETURN(
      blocks_, memory::BlockStore::Open(files_, {.directory = kKv,
                                                 .planes = sessions::PlanesOf(layout),
                                                 .tail_bytes = static_cast<uint32_t>(
                                                     model::BoundaryTailBytes(engine.config(), layout.mode)),
                                                 .segment_bytes_target = 64 << 10,
                                                 .segment_slots_first = 2}));
  cache_ = std::make_unique<sessions::KvCache>(engine.config(), layout, *blocks_, memory::BlockKey{},
                                               sessions::KvCacheOptions{.tail_interval_tokens = 128});
  flusher_ = std::make_unique<sessions::KvFlusher>(executor_, machine_.clock, *blocks_);
  scheduler_ =
      std::make_unique<sessions::Scheduler>(executor_, machine_.clock, engine, *cache_, flusher_.get());
  AddTools(machine_, registry_);
  HF_ASSIGN_OR_RETURN(toolset_, registry_.Select(registry_.ids()));
  return {};
}

void Process::NoteEnd(const std::string& what) {
  for (auto& [id, witness] : machine_.witnesses) {
    if (witness.opened) {
      witness.ended_in = what;  // counted when it is known what is on record
      witness.step_at_end = witness.step;
      witness.progress_at_end = witness.progress;
    } else {
      ++counts_.crash_points["before the lease | " + what];
    }
  }
}

bool Process::rested() const {
  return std::all_of(sessions_.begin(), sessions_.end(),
                     [](const auto& entry) { return entry.second->rests(); });
}

Rest Process::RestOf(const std::string& session) const { return sessions_.at(session)->rest(); }

bool Process::Interrupt(const std::string& session) {
  Session& target = *sessions_.at(session);
  if (!target.at_work()) return false;
  machine_.witnesses.at(session).disturbed = true;
  executor_.PostResult(base::Lane::kControl, [&target] { target.Interrupt(); });
  return true;
}

bool Process::Say(const std::string& session, const std::string& request_id, const std::string& text) {
  Session& target = *sessions_.at(session);
  if (!target.at_work()) return false;
  machine_.witnesses.at(session).disturbed = true;
  target.Say(request_id, text);
  return true;
}

// --- A machine that is not running

base::StatusOr<OpenedRecord> ReadRecord(Machine& machine, const std::string& session) {
  test::SimExecutor executor(machine.clock, {});
  HF_ASSIGN_OR_RETURN(auto database,
                      memory::SqliteDatabase::Open(machine.disk, {.path = kDatabase},
                                                   {sessions::SessionSchema()}, machine.clock));
  HF_ASSIGN_OR_RETURN(auto store, sessions::SessionStore::Open(executor, machine.clock, *database));
  OpenedRecord record;
  base::Status status;
  for (bool more = true; more && status.ok();) {
    store->ReadEvents(session, record.events.size(), 1000,
                      [&](base::StatusOr<std::vector<sessions::Event>> read) {
                        status = read.status();
                        more = read.ok() && !read->empty();
                        if (more) record.events.insert(record.events.end(), read->begin(), read->end());
                      });
    executor.RunUntilIdle();
  }
  HF_RETURN_IF_ERROR(status);
  HF_ASSIGN_OR_RETURN(auto blobs,
                      memory::BlobStore::Open(machine.disk, {.directory = kBlobs}, machine.clock));
  for (const sessions::Event& event : record.events) {
    const auto* outcome = std::get_if<sessions::CallOutcome>(&event.body);
    if (outcome == nullptr || !outcome->workspace_after.has_value()) continue;
    const bool there = blobs->Read(*outcome->workspace_after, kManifestBytesMax).ok();
    record.manifests_durable = record.manifests_durable && there;
  }
  return record;
}

}  // namespace holdfast::agent::simulation
