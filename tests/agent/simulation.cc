#include "tests/agent/simulation.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "base/check.h"
#include "model/sampler.h"
#include "nlohmann/json.hpp"
#include "tests/agent/simulation_model.h"
#include "tests/support/seeded_random.h"

namespace holdfast::agent::simulation {
namespace {

using sessions::CallIntent;
using sessions::CallOutcome;
using sessions::CallStatus;
using sessions::Event;
using sessions::TokenOrigin;
using sessions::TokenRun;

constexpr size_t kTasksMax = 400'000;  // of a scenario: then something hangs
constexpr size_t kProcessesMax = 40;   // the same
// Lives of a session, by the seed of its sampling: short ones that call every kind of tool between them, some
// in a second and third window.
constexpr uint64_t kLives[] = {6, 8, 12, 14, 16, 17, 30, 37, 39, 51, 52, 53, 54};
constexpr size_t kStartTasks = 60;  // about as many as a recovery takes

std::string SessionId(size_t index) { return "s" + std::to_string(index); }

// --- A run

// Runs the processes of a scenario one after another, until every session rests.
class Runner {
 public:
  Runner(const Scenario& scenario, Machine& machine, Counts& counts, Verdict& verdict)
      : scenario_(scenario), machine_(machine), counts_(counts), verdict_(verdict) {
    for (size_t i = 0; i < scenario.sessions.size(); ++i) {
      specs_.push_back({.id = SessionId(i), .seed = scenario.sessions[i]});
    }
  }

  void Run() {
    for (size_t i = 0; !done_ && i < kProcessesMax; ++i) {
      RunProcess(i, i < scenario_.deaths.size() ? scenario_.deaths[i] : Death{});
    }
    if (!done_) verdict_.violations.push_back("the sessions do not come to rest");
  }
  const std::map<std::string, Rest>& rests() const { return rests_; }

 private:
  void RunProcess(size_t index, const Death& death);
  void Arm(const Death& death, ProcessFiles& files);
  void Disarm();
  bool Act(Process& process);
  void NoteEnd(Process& process, const ProcessFiles& files);

  const Scenario& scenario_;
  Machine& machine_;
  Counts& counts_;
  Verdict& verdict_;
  std::vector<SessionSpec> specs_;
  std::map<std::string, Rest> rests_;
  size_t tasks_ = 0;  // of all processes
  size_t acts_done_ = 0;
  bool faulty_ = false;  // the disk, for the process that runs
  bool done_ = false;
};

void Runner::Arm(const Death& death, ProcessFiles& files) {
  if (death.kill_change > 0) files.DieAtChange(death.kill_change, death.change_made);
  if (death.power_change > 0) machine_.disk.CrashAtMutation(death.power_change);
  faulty_ = death.fails_once;
  if (death.fails_once) {
    machine_.disk.FailNext(death.fault_op, death.fault_path, death.fault_error, death.fault_skip);
  }
}

void Runner::Disarm() {
  machine_.disk.CrashAtMutation(0);
  machine_.disk.ForgetFaults();
  machine_.disk.FailRandomly(test::SimOp::kWrite, 0, 0);
  machine_.disk.FailRandomly(test::SimOp::kPreallocate, 0, 0);
}

void Runner::RunProcess(size_t index, const Death& death) {
  ++verdict_.processes;
  ProcessFiles files(machine_.disk, machine_.plant);
  Arm(death, files);
  {
    Process process(machine_, files, specs_, scenario_.seed * 1000 + index, counts_);
    for (size_t tasks = 0; process.failed().ok() && !files.ended(); ++tasks) {
      const bool acted = Act(process);
      if (process.rested() && !acted) break;
      if (death.tasks > 0 && tasks >= death.tasks) files.Die();
      if (death.disk_full_tasks > 0 && tasks == death.disk_full_tasks) {
        machine_.disk.FailRandomly(test::SimOp::kWrite, 100, ENOSPC);
        machine_.disk.FailRandomly(test::SimOp::kPreallocate, 100, ENOSPC);
      }
      if (++tasks_ > kTasksMax || !process.Step()) return;
    }
    NoteEnd(process, files);
    files.Die();  // so that the destructors write nothing
  }
  Disarm();
  if (machine_.disk.crashed()) machine_.Reboot();
}

void Runner::NoteEnd(Process& process, const ProcessFiles& files) {
  if (machine_.disk.crashed()) {
    ++verdict_.power_cuts;
  } else if (files.ended()) {
    ++verdict_.kills;
  } else if (!process.failed().ok()) {
    ++verdict_.disk_errors;
  } else {
    done_ = true;
    for (const SessionSpec& spec : specs_) rests_[spec.id] = process.RestOf(spec.id);
    return;
  }
  const base::Status& failed = process.failed();
  // Of a disk with a fault: EIO is DataLoss (base/errno.h), and a pack that cannot be read is left alone, so
  // that its blobs are not found by this process.
  const bool expected = failed.ok() || absl::IsUnavailable(failed) || absl::IsResourceExhausted(failed) ||
                        (faulty_ && (absl::IsDataLoss(failed) || absl::IsNotFound(failed)));
  if (!expected) verdict_.violations.push_back("a process ended with " + failed.ToString());
  const bool by_error = !files.ended();
  process.NoteEnd(by_error ? "error" : files.ended_in().empty() ? "task" : files.ended_in());
}

// What the user does now; true when there was something.
bool Runner::Act(Process& process) {
  if (acts_done_ == scenario_.acts.size()) return false;
  const simulation::Act& act = scenario_.acts[acts_done_];
  // What was to come later comes when there is nothing else.
  if (tasks_ < act.task && !process.rested()) return false;
  const std::string id = SessionId(act.session);
  const std::string request = "r" + std::to_string(acts_done_);
  const bool taken = act.interrupts ? process.Interrupt(id) : process.Say(id, request, "and " + request);
  if (taken) ++acts_done_;
  return taken;
}

// --- The oracle

// What the record of one session says, checked event by event.
class Reading {
 public:
  Reading(const std::string& id, const Witness& witness, Verdict& verdict)
      : id_(id), witness_(witness), verdict_(verdict) {}

  // `done`: the session rests because there is nothing left to do.
  void Read(const OpenedRecord& record, bool done, bool audits);

  const std::vector<std::vector<int32_t>>& windows() const { return windows_; }
  const std::string& first_unknown() const { return first_unknown_; }

 private:
  struct Call {
    CallIntent intent;
    int outcomes = 0;
  };
  void Violation(const std::string& what) { verdict_.violations.push_back(id_ + ": " + what); }
  void Take(const Event& event);
  void Take(const CallOutcome& outcome);
  void CheckChain(const std::vector<Event>& events);
  void CheckAcknowledged(const std::vector<Event>& events);
  void CheckCalls();
  void CheckTold(bool done);
  void CheckEffects();
  void CheckLayer(const CallOutcome& outcome, const CallIntent& intent);
  void EndWindow(bool audits);
  void Audit();

  const std::string id_;
  const Witness& witness_;
  Verdict& verdict_;
  std::map<std::string, Call> calls_;
  std::map<uint64_t, int> told_;  // inputs and outcomes, and how often
  std::map<std::string, int> requests_;
  std::map<std::string, int> intended_, happened_;  // of `send`, by arguments
  Files layer_;                                     // as the outcomes add up to
  std::string first_unknown_;
  std::vector<int32_t> window_;
  std::vector<TokenOrigin> origins_;  // parallel
  std::vector<std::vector<int32_t>> windows_;
  uint64_t sampling_seed_ = 0;
};

void Reading::Read(const OpenedRecord& record, bool done, bool audits) {
  CheckChain(record.events);
  CheckAcknowledged(record.events);
  for (const Event& event : record.events) {
    const auto* cut = std::get_if<sessions::TokensCut>(&event.body);
    if (cut != nullptr && audits) Audit();
    if (std::holds_alternative<sessions::EpochStarted>(event.body)) EndWindow(audits);
    Take(event);
  }
  EndWindow(audits);
  CheckCalls();
  CheckTold(done);
  CheckEffects();
  if (!record.manifests_durable) Violation("a manifest that an outcome names is not in the store");
  if (witness_.layer != layer_) Violation("the layer is not what the outcomes add up to");
}

void Reading::CheckChain(const std::vector<Event>& events) {
  base::Sha256Digest chain = sessions::ChainRoot({});
  if (!events.empty()) {
    if (const auto* created = std::get_if<sessions::SessionCreated>(&events.front().body)) {
      chain = sessions::ChainRoot(created->uid);
    }
  }
  uint64_t seq = 0;
  for (const Event& event : events) {
    if (event.seq != ++seq) return Violation("event " + std::to_string(seq) + " is missing");
    const std::string body = sessions::EncodeBody(event.body);
    chain = sessions::NextChain(chain, seq, event.utc_ms, sessions::KindOf(event.body), base::AsBytes(body));
    if (event.chain != chain) return Violation("the chain breaks at event " + std::to_string(seq));
  }
}

void Reading::CheckAcknowledged(const std::vector<Event>& events) {
  verdict_.acknowledged += witness_.acknowledged.size();
  for (const auto& [seq, bytes] : witness_.acknowledged) {
    if (seq > events.size() || BytesOf(events[seq - 1].body) != bytes) {
      return Violation("acknowledged event " + std::to_string(seq) + " is lost");
    }
  }
}

void Reading::Take(const Event& event) {
  if (const auto* run = std::get_if<TokenRun>(&event.body)) {
    window_.insert(window_.end(), run->ids.begin(), run->ids.end());
    origins_.insert(origins_.end(), run->ids.size(), run->origin);
    for (const uint64_t seq : run->rendered) ++told_[seq];
    if (run->sampling.has_value()) sampling_seed_ = run->sampling->seed;
  } else if (const auto* cut = std::get_if<sessions::TokensCut>(&event.body)) {
    window_.resize(static_cast<size_t>(cut->position));
    origins_.resize(window_.size());
  } else if (const auto* input = std::get_if<sessions::InputReceived>(&event.body)) {
    told_.emplace(event.seq, 0);
    if (!input->request_id.empty()) ++requests_[input->request_id];
  } else if (const auto* intent = std::get_if<CallIntent>(&event.body)) {
    if (!calls_.emplace(intent->call, Call{.intent = *intent}).second)
      Violation("intent twice: " + intent->call);
    if (intent->tool == "send@1") ++intended_[intent->arguments];
  } else if (const auto* outcome = std::get_if<CallOutcome>(&event.body)) {
    told_.emplace(event.seq, 0);
    Take(*outcome);
  }
}

void Reading::Take(const CallOutcome& outcome) {
  const auto found = calls_.find(outcome.call);
  if (found == calls_.end()) return Violation("an outcome without an intent: " + outcome.call);
  ++found->second.outcomes;
  const CallIntent& intent = found->second.intent;
  const bool unknown = outcome.status == CallStatus::kUnknown;
  if (unknown && first_unknown_.empty()) first_unknown_ = outcome.call;
  verdict_.unknown += unknown ? 1 : 0;
  const bool may_happen_again = intent.contained || intent.effect != sessions::CallEffect::kEffectful;
  if (unknown && may_happen_again) Violation("could have been run again: " + outcome.call);
  if (intent.tool == "send@1" && outcome.status == CallStatus::kOk) ++happened_[intent.arguments];
  CheckLayer(outcome, intent);
}

// What a call that went well has done is certain; of others the manifest chooses among what is possible.
void Reading::CheckLayer(const CallOutcome& outcome, const CallIntent& intent) {
  if (intent.tool != "append@1" && intent.tool != "send@1") return;
  const auto arguments = nlohmann::json::parse(intent.arguments, nullptr, /*allow_exceptions=*/false);
  const std::string line = arguments.is_object() ? arguments.value("line", "") : "";
  const bool ended = outcome.status == CallStatus::kOk;
  const bool untouched = outcome.status == CallStatus::kFailed || outcome.status == CallStatus::kRefused;
  std::vector<Files> possible;
  // Whole, half (of an empty line: the file is there), not at all.
  enum class Done { kWhole, kHalf, kNothing };
  for (const Done done : {Done::kWhole, Done::kHalf, Done::kNothing}) {
    Files files = layer_;
    if (done != Done::kNothing) files["file"] += done == Done::kWhole ? line + "\n" : line;
    const bool fits = ended ? done == Done::kWhole : done == Done::kNothing || !untouched;
    if (fits) possible.push_back(std::move(files));
  }
  if (!outcome.workspace_after.has_value()) {  // the layer is as before
    if (ended) Violation("no manifest after " + outcome.call);
    return;
  }
  for (Files& files : possible) {
    if (ManifestOf(files) == *outcome.workspace_after) {
      layer_ = std::move(files);
      return;
    }
  }
  Violation("the manifest after " + outcome.call + " is not what the call does");
}

void Reading::CheckCalls() {
  verdict_.calls += calls_.size();
  for (const auto& [name, call] : calls_) {
    if (call.outcomes != 1) Violation(name + " has " + std::to_string(call.outcomes) + " outcomes");
  }
  for (const std::string& request : witness_.said) {
    if (requests_[request] != 1) {
      Violation("input " + request + " is there " + std::to_string(requests_[request]) + " times");
    }
  }
}

void Reading::CheckTold(bool done) {
  for (const auto& [seq, times] : told_) {
    const bool right = times == 1 || (times == 0 && !done);
    if (!right) Violation("event " + std::to_string(seq) + " is told " + std::to_string(times) + " times");
  }
}

void Reading::CheckEffects() {
  for (const auto& [arguments, times] : witness_.sent) {
    verdict_.effects += static_cast<uint64_t>(times);
    if (times > intended_[arguments]) Violation("sent more often than intended: " + arguments);
  }
  for (const auto& [arguments, times] : happened_) {
    const auto sent = witness_.sent.find(arguments);
    if (sent == witness_.sent.end() || sent->second < times) Violation("never sent: " + arguments);
  }
}

void Reading::EndWindow(bool audits) {
  if (audits) Audit();
  windows_.push_back(std::exchange(window_, {}));
  origins_.clear();
}

// Computes the window anew, in chunks, and samples what was sampled.
void Reading::Audit() {
  if (std::find(origins_.begin(), origins_.end(), TokenOrigin::kSampled) == origins_.end()) return;
  SharedModel& shared = SharedModel::Get();
  model::Engine& engine = shared.engine();
  const auto vocab = static_cast<size_t>(engine.config().vocab_size);
  const auto chunk = static_cast<size_t>(engine.max_rows());
  model::Sequence sequence = engine.NewSequence();
  model::Sampler sampler = *model::Sampler::Make({});
  std::vector<float> logits;
  std::vector<float> last;  // of the position before the chunk
  std::unique_ptr<sessions::TokenConstraint> constraint;
  for (size_t begin = 0; begin < window_.size(); begin += chunk) {
    const size_t count = std::min(chunk, window_.size() - begin);
    logits.resize(count * vocab);
    const model::Feed feed{.sequence = &sequence,
                           .tokens = std::span(window_).subspan(begin, count),
                           .logits = model::LogitRows::kAll,
                           .logits_out = logits};
    HF_CHECK(engine.Forward({&feed, 1}).ok());
    for (size_t i = begin; i < begin + count; ++i) {
      const bool sampled = origins_[i] == TokenOrigin::kSampled;
      if (origins_[i] == TokenOrigin::kFed) constraint.reset();
      if (!sampled) continue;
      if (constraint == nullptr) constraint = shared.Narrow(shared.dialogue().Constrain({}), {});
      const std::span<const float> row = i == begin
                                             ? std::span<const float>(last)
                                             : std::span(logits).subspan((i - begin - 1) * vocab, vocab);
      const auto id = sampler.Sample(row, constraint->Mask(), {.seed = sampling_seed_, .position = i});
      ++verdict_.audited;
      if (!id.ok() || *id != window_[i] || !constraint->Accept(*id).ok()) {
        return Violation("token " + std::to_string(i) + " of window " + std::to_string(windows_.size()) +
                         " is not what follows from those before it");
      }
    }
    last.assign(logits.end() - static_cast<ptrdiff_t>(vocab), logits.end());
  }
}

// As if it had been left alone, up to the call of unknown outcome when there is one.
void CompareWindows(std::vector<std::vector<int32_t>> windows, std::vector<std::vector<int32_t>> whole,
                    const std::string& unknown, const std::string& id, Verdict& verdict) {
  const auto differ = [&] { verdict.violations.push_back(id + ": other tokens than when left alone"); };
  if (!unknown.empty()) {
    const size_t epoch = std::stoul(unknown.substr(1));  // c<epoch>.<position>.<index>
    const size_t position = std::stoul(unknown.substr(unknown.find('.') + 1));
    for (auto* both : {&windows, &whole}) {
      if (both->size() <= epoch || (*both)[epoch].size() < position) return differ();
      both->resize(epoch + 1);
      both->back().resize(position);
    }
  }
  if (windows != whole) differ();
}

// --- Scenarios

Death MakeDeath(test::SeededRandom& random) {
  Death death;
  const bool soon = random.Percent(40);
  switch (random.Below(10)) {
    case 0:
    case 1:
    case 2:
      death.tasks = 1 + random.Below(soon ? kStartTasks : 900);
      break;
    case 3:
    case 4:
      death.kill_change = 1 + random.Below(soon ? 200 : 700);
      death.change_made = random.Percent(50);
      break;
    case 5:
    case 6:
    case 7:
      death.power_change = 1 + random.Below(soon ? 200 : 700);
      break;
    case 8:
      death.disk_full_tasks = 1 + random.Below(soon ? kStartTasks : 900);
      break;
    default:
      break;
  }
  if (random.Percent(25)) {
    constexpr test::SimOp kOps[] = {test::SimOp::kWrite, test::SimOp::kWrite,  test::SimOp::kSync,
                                    test::SimOp::kSync,  test::SimOp::kCreate, test::SimOp::kSyncDirectory,
                                    test::SimOp::kRead};
    constexpr const char* kPaths[] = {".db", ".db-wal", "/blobs", "/kv"};
    death.fails_once = true;
    death.fault_op = kOps[random.Below(std::size(kOps))];
    death.fault_path = kPaths[random.Below(std::size(kPaths))];
    death.fault_error = random.Percent(50) ? ENOSPC : EIO;
    death.fault_skip = random.Below(soon ? 5 : 60);
  }
  return death;
}

}  // namespace

Scenario MakeScenario(uint64_t seed) {
  test::SeededRandom random(seed, 3);
  Scenario scenario{.seed = seed};
  const size_t sessions = 1 + (random.Percent(50) ? 0 : 1 + random.Below(2));
  for (size_t i = 0; i < sessions; ++i) scenario.sessions.push_back(kLives[random.Below(std::size(kLives))]);
  for (size_t i = 1 + random.Below(6); i > 0; --i) scenario.deaths.push_back(MakeDeath(random));
  if (random.Percent(35)) {
    for (size_t i = 1 + random.Below(3); i > 0; --i) {
      scenario.acts.push_back(
          {.task = random.Below(2500), .session = random.Below(sessions), .interrupts = random.Percent(50)});
    }
    std::sort(scenario.acts.begin(), scenario.acts.end(),
              [](const Act& a, const Act& b) { return a.task < b.task; });
  }
  return scenario;
}

void Verdict::Add(const Verdict& other) {
  violations.insert(violations.end(), other.violations.begin(), other.violations.end());
  processes += other.processes;
  kills += other.kills;
  power_cuts += other.power_cuts;
  disk_errors += other.disk_errors;
  acknowledged += other.acknowledged;
  calls += other.calls;
  unknown += other.unknown;
  effects += other.effects;
  compared += other.compared;
  audited += other.audited;
}

const Simulation::Whole& Simulation::WholeOf(uint64_t session_seed) {
  const auto known = wholes_.find(session_seed);
  if (known != wholes_.end()) return known->second;
  const Scenario scenario{.seed = session_seed, .sessions = {session_seed}};
  Machine machine(session_seed, Plant::kNone);
  Counts counts;
  Verdict verdict;
  Runner runner(scenario, machine, counts, verdict);
  runner.Run();
  const base::StatusOr<OpenedRecord> record = ReadRecord(machine, SessionId(0));
  HF_CHECK(record.ok());
  const Witness& witness = machine.witnesses.at(SessionId(0));
  Reading reading(SessionId(0), witness, verdict);
  const Rest rest = runner.rests().at(SessionId(0));
  reading.Read(*record, rest == Rest::kDone, /*audits=*/true);
  HF_CHECK(verdict.violations.empty());
  return wholes_[session_seed] = {.windows = reading.windows(), .layer = witness.layer, .rest = rest};
}

Verdict Simulation::Run(const Scenario& scenario, Plant plant) {
  Verdict verdict;
  Machine machine(scenario.seed, plant);
  Runner runner(scenario, machine, counts_, verdict);
  runner.Run();
  if (!verdict.violations.empty()) return verdict;  // no end to be judged
  for (size_t i = 0; i < scenario.sessions.size(); ++i) {
    const std::string id = SessionId(i);
    const base::StatusOr<OpenedRecord> record = ReadRecord(machine, id);
    if (!record.ok()) {
      verdict.violations.push_back(id + ": " + record.status().ToString());
      continue;
    }
    const Whole& whole = WholeOf(scenario.sessions[i]);
    const Witness& witness = machine.witnesses.at(id);
    Reading reading(id, witness, verdict);
    const size_t before = verdict.violations.size();
    // What is equal to a run that was audited needs no audit.
    reading.Read(*record, runner.rests().at(id) == Rest::kDone, /*audits=*/witness.disturbed);
    if (witness.disturbed || verdict.violations.size() > before) continue;
    ++verdict.compared;
    CompareWindows(reading.windows(), whole.windows, reading.first_unknown(), id, verdict);
    if (!reading.first_unknown().empty()) continue;
    if (witness.layer != whole.layer)
      verdict.violations.push_back(id + ": another layer than when left alone");
    if (runner.rests().at(id) != whole.rest) verdict.violations.push_back(id + ": rests otherwise");
  }
  return verdict;
}

}  // namespace holdfast::agent::simulation
