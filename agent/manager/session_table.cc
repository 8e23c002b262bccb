#include "agent/manager/session_table.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/agent_event.h"
#include "agent/client_calls.h"
#include "agent/goal_rules.h"

namespace holdfast::agent::manager {
namespace {

using sessions::EventBody;
using sessions::SessionState;
using sessions::StateChanged;

constexpr int64_t kAlarmLookNs = 10'000'000'000;  // the wall clock may be set

bool GoalIsActive(const SessionWorker& worker) {
  const AgentFacts& agent = worker.fold().agent();
  return HasOpenGoal(agent) && agent.goal_state() == GoalState::kActive;
}

}  // namespace

SessionTable::~SessionTable() {
  if (alarm_timer_.has_value()) parts_.executor.Cancel(*alarm_timer_);
}

void SessionTable::With(const std::string& id, Command command) {
  if (stopping_) return command(absl::UnavailableError("the runtime is stopping"));
  Entry& entry = EntryOf(id);
  entry.parked = false;
  if (entry.worker != nullptr && !entry.closing && !entry.exclusive && entry.commands.empty() &&
      !entry.worker->is_recording()) {
    command(entry.worker.get());
    return Settle(id);
  }
  entry.commands.push_back(std::move(command));
  Open(id);
}

void SessionTable::Alone(const std::string& id, Exclusive operation, Before before) {
  With(id, [this, id, operation = std::move(operation),
            before = std::move(before)](base::StatusOr<SessionWorker*> worker) mutable {
    if (!worker.ok()) return operation(std::move(worker), [] {});
    if (before && before(**worker)) return;
    Entry& entry = EntryOf(id);
    if (entry.exclusive) return entry.exclusives.push_back(std::move(operation));
    RunExclusive(id, std::move(operation));
  });
}

void SessionTable::RunExclusive(const std::string& id, Exclusive operation) {
  Entry& entry = EntryOf(id);
  entry.exclusive = true;
  entry.worker->Halt([this, id, operation = std::move(operation)]() mutable {
    operation(EntryOf(id).worker.get(), [this, id] {
      parts_.executor.PostResult(base::Lane::kControl, [this, id] { FinishExclusive(id); });
    });
  });
}

void SessionTable::FinishExclusive(const std::string& id) {
  Entry& entry = EntryOf(id);
  entry.exclusive = false;
  if (stopping_) return StopNext();
  if (entry.worker == nullptr) return Open(id);  // it was closed on the way
  if (!entry.exclusives.empty()) {
    Exclusive next = std::move(entry.exclusives.front());
    entry.exclusives.pop_front();
    return RunExclusive(id, std::move(next));
  }
  Settle(id);
}

// What waited for the session has its turn, and then the session itself.
void SessionTable::Settle(const std::string& id) {
  RunCommands(id);
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.worker == nullptr) return;
  Entry& entry = found->second;
  if (entry.exclusive || entry.closing || stopping_ || !entry.worker->at_rest()) return;
  entry.worker->Consider();
}

void SessionTable::Open(const std::string& id) {
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

void SessionTable::OpenNow(const std::string& id) {
  ++open_;
  std::function<void(const sessions::Event&)> on_event;
  if (on_event_) on_event = [this, id](const sessions::Event& event) { on_event_(id, event); };
  auto fold = std::make_unique<SessionFold>(std::move(on_event));
  SessionFold* const told = fold.get();
  store_.OpenSession(id, told, [this, id, fold = std::move(fold)](auto session) mutable {
    Opened(id, std::move(fold), std::move(session));
  });
}

void SessionTable::Opened(const std::string& id, std::unique_ptr<SessionFold> fold,
                          base::StatusOr<std::unique_ptr<sessions::StoredSession>> session) {
  Entry& entry = EntryOf(id);
  entry.opening = false;
  if (stopping_) {
    session = absl::UnavailableError("the runtime is stopping");
    --open_;
    entries_.erase(id);
    return StopNext();
  }
  if (!session.ok()) {
    --open_;
    ServeWaiting();
    std::deque<Command> commands = std::move(entry.commands);
    if (entry.broken.ok()) {
      entries_.erase(id);
    } else {
      PostAt(options_.reopen_ms * base::kNsPerMs, [this, id] { Open(id); });
    }
    for (Command& command : commands) command(session.status());
    return;
  }
  entry.worker = std::make_unique<SessionWorker>(
      parts_, *std::move(session), std::move(fold),
      [this, id](const Parked& parked) { OnParked(id, parked); },
      [this, id] { parts_.executor.PostResult(base::Lane::kControl, [this, id] { Settle(id); }); });
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
  Settle(id);
}

void SessionTable::RunCommands(const std::string& id) {
  for (;;) {
    const auto found = entries_.find(id);
    if (found == entries_.end()) return;
    Entry& entry = found->second;
    if (entry.commands.empty() || entry.exclusive || entry.closing || entry.worker == nullptr) return;
    if (entry.worker->is_recording()) return;  // Settle comes after it
    Command command = std::move(entry.commands.front());
    entry.commands.pop_front();
    command(entry.worker.get());
  }
}

void SessionTable::OnParked(const std::string& id, const Parked& parked) {
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
  std::erase(parked_, id);
  parked_.push_back(id);
  CloseSome();
}

// The sessions that have rested longest, when there are too many.
void SessionTable::CloseSome() {
  while (parked_.size() > (waiting_.empty() ? options_.parked_max : 0)) {
    const std::string id = std::move(parked_.front());
    parked_.pop_front();
    const auto found = entries_.find(id);
    if (found == entries_.end() || !found->second.parked || found->second.closing) continue;
    if (found->second.worker == nullptr || !found->second.worker->at_rest()) continue;
    Close(id, [] {});
  }
}

void SessionTable::Close(const std::string& id, absl::AnyInvocable<void()> done) {
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
    ServeWaiting();
    if (stopping_) StopNext();
  });
}

void SessionTable::ServeWaiting() {
  if (stopping_ || waiting_.empty() || open_ >= options_.open_max) return;
  const std::string next = std::move(waiting_.front());
  waiting_.pop_front();
  OpenNow(next);
}

void SessionTable::SetAlarm(const std::string& id, const SessionWorker& worker) {
  const std::optional<int64_t> deadline = FirstClientDeadline(worker.facts());
  if (worker.facts().state() != SessionState::kWaiting) return;
  if (worker.facts().timers().empty() && !deadline.has_value()) return;
  Alarm alarm{.due_utc_ms = deadline.value_or(INT64_MAX), .due_ns = INT64_MAX};
  const int64_t now_ns = parts_.clock.MonotonicNow().ns;
  for (const auto& [name, timer] : worker.facts().timers()) {
    alarm.due_utc_ms = std::min(alarm.due_utc_ms, timer.due_utc_ms);
    alarm.due_ns = std::min(alarm.due_ns, now_ns + timer.remaining_ms * base::kNsPerMs);
  }
  alarms_[id] = alarm;
  if (!alarm_timer_.has_value()) LookAtAlarms();
}

void SessionTable::LookAtAlarms() {
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

void SessionTable::Stop(absl::AnyInvocable<void()> done) {
  stopping_ = true;
  stopped_ = std::move(done);
  if (alarm_timer_.has_value()) parts_.executor.Cancel(*std::exchange(alarm_timer_, std::nullopt));
  const base::Status refusal = absl::UnavailableError("the runtime is stopping");
  for (auto& [id, entry] : entries_) {
    for (Command& command : std::exchange(entry.commands, {})) command(refusal);
    for (Exclusive& operation : std::exchange(entry.exclusives, {})) operation(refusal, [] {});
  }
  for (const std::string& id : std::exchange(waiting_, {})) entries_.erase(id);
  parts_.executor.PostResult(base::Lane::kControl, [this] { StopNext(); });
}

// Closes what can be closed; comes again when something else has ended.
void SessionTable::StopNext() {
  bool all = true;
  std::vector<std::string> ids;
  for (const auto& [id, entry] : entries_) {
    all = all && entry.worker == nullptr && !entry.opening;
    if (entry.worker != nullptr && !entry.closing && !entry.exclusive) ids.push_back(id);
  }
  for (const std::string& id : ids) {
    EntryOf(id).exclusive = true;  // nobody else's any more
    EntryOf(id).worker->Halt([this, id] { Close(id, [] {}); });
  }
  if (all && stopped_) std::exchange(stopped_, {})();
}

}  // namespace holdfast::agent::manager
