#include "agent/agent_facts.h"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/coding.h"

namespace holdfast::agent {
namespace {

uint64_t HashOf(const sessions::CallIntent& intent) {
  std::string bytes;
  base::PutLengthPrefixed(bytes, intent.tool);
  base::PutLengthPrefixed(bytes, intent.arguments);
  return base::Xxh3(base::AsBytes(bytes));
}

uint64_t HashOf(uint64_t call, const sessions::CallOutcome& outcome) {
  std::string bytes;
  base::PutFixed64(bytes, call);
  base::PutFixed8(bytes, static_cast<uint8_t>(outcome.status));
  base::PutLengthPrefixed(bytes, outcome.text);
  return base::Xxh3(base::AsBytes(bytes));
}

bool IsDone(const PlanItem& item) { return item.state == "done"; }

// The time before it is not this history's: nobody worked, or on something else.
bool BeginsAnew(const sessions::EventBody& body) {
  return std::holds_alternative<sessions::Recovered>(body) ||
         std::holds_alternative<sessions::Rewound>(body) ||
         std::holds_alternative<sessions::SessionCreated>(body);
}

// The clock may have been set, either way; imported events may hold any time.
int64_t ElapsedMs(int64_t from_utc_ms, int64_t to_utc_ms) {
  if (to_utc_ms <= from_utc_ms) return 0;
  const uint64_t elapsed = static_cast<uint64_t>(to_utc_ms) - static_cast<uint64_t>(from_utc_ms);
  return static_cast<int64_t>(std::min(elapsed, static_cast<uint64_t>(INT64_MAX)));
}

// `next` in its order, behind the items of `before` that are done and that it no longer names. An item named
// twice is one, done if either is.
std::vector<PlanItem> Merge(const std::vector<PlanItem>& before, const std::vector<PlanItem>& next) {
  std::map<std::string_view, bool> done;  // by text, of what either names
  for (const PlanItem& item : before) done[item.text] |= IsDone(item);
  for (const PlanItem& item : next) done[item.text] |= IsDone(item);
  std::set<std::string_view> named;
  for (const PlanItem& item : next) named.insert(item.text);
  std::vector<PlanItem> plan;
  for (const PlanItem& item : before) {
    if (IsDone(item) && !named.contains(item.text)) plan.push_back(item);
  }
  for (const PlanItem& item : next) {
    if (named.erase(item.text) == 0) continue;
    plan.push_back({.text = item.text, .state = done[item.text] ? "done" : item.state});
  }
  return plan;
}

// Whether two plans say the same, in whatever order.
bool SayTheSame(const std::vector<PlanItem>& a, const std::vector<PlanItem>& b) {
  std::map<std::string_view, std::string_view> states_a, states_b;  // by text, which is in a plan once
  for (const PlanItem& item : a) states_a[item.text] = item.state;
  for (const PlanItem& item : b) states_b[item.text] = item.state;
  return states_a == states_b;
}

}  // namespace

void AgentFacts::Apply(const sessions::Event& event) {
  CountTime(event);
  last_seq_ = event.seq;
  last_utc_ms_ = event.utc_ms;
  std::visit(
      [this](const auto& body) {
        if constexpr (requires { Take(body); }) Take(body);
      },
      event.body);
}

void AgentFacts::CountTime(const sessions::Event& event) {
  if (state_.state != sessions::SessionState::kRunning || BeginsAnew(event.body)) return;
  used_.running_ms += std::min(ElapsedMs(last_utc_ms_, event.utc_ms), kGapMsMax);
}

// --- Tokens

void AgentFacts::Take(const sessions::TokenRun& run) {
  const auto count = static_cast<int64_t>(run.ids.size());
  used_.tokens += count;
  window_tokens_ = run.position + count;
  // What stands first is the opening, which tells the goal and is no work.
  tokens_in_epoch_ = run.position == 0 ? 0 : tokens_in_epoch_ + count;
  tokens_since_goal_told_ = run.position == 0 ? 0 : tokens_since_goal_told_ + count;
}

void AgentFacts::Take(const sessions::TokensCut& cut) { window_tokens_ = cut.position; }

void AgentFacts::Take(const sessions::EpochStarted& start) {
  epoch_ = start.epoch;
  window_tokens_ = 0;
  tokens_in_epoch_ = 0;
  thrash_forgiven_ = false;
  note_requested_ = false;
}

void AgentFacts::Take(const Opening& /*opening*/) {
  tokens_in_epoch_ = 0;
  tokens_since_goal_told_ = 0;
}

// --- States and what is said

void AgentFacts::Take(const sessions::StateChanged& change) {
  const sessions::StateChanged before = std::exchange(state_, change);
  const auto paused = sessions::SessionState::kPaused;
  if (before.state == paused && change.state != paused) EndPause(before.reason);
}

void AgentFacts::Take(const sessions::InputReceived& input) {
  switch (input.kind) {
    case sessions::InputKind::kMessage:
    case sessions::InputKind::kSteer:
      Progress();
      DropClaim();
      return;
    case sessions::InputKind::kNotice:
      if (input.request_id.starts_with(kRepeatNoticeId)) told_of_repeats_ = true;
      if (input.request_id.starts_with(kNoteRequestId)) note_requested_ = true;
      return;
    case sessions::InputKind::kReminder:
      tokens_since_goal_told_ = 0;
      return;
    case sessions::InputKind::kInterrupt:
    case sessions::InputKind::kSignal:
      return;
  }
}

void AgentFacts::Take(const sessions::TurnFinished& /*finished*/) { ++idle_turns_; }

// --- Calls and the workspace

void AgentFacts::Take(const sessions::CallIntent& intent) {
  ++used_.calls;
  open_calls_[intent.call] = HashOf(intent);
  if (intent.workspace_before.has_value()) SeeWorkspace(*intent.workspace_before);
}

void AgentFacts::Take(const sessions::CallOutcome& outcome) {
  if (outcome.workspace_after.has_value()) SeeWorkspace(*outcome.workspace_after);
  const auto call = open_calls_.find(outcome.call);
  if (call == open_calls_.end()) return;
  const uint64_t hash = HashOf(call->second, outcome);
  open_calls_.erase(call);
  if (seen_calls_.size() == kCallsToldApartMax && !seen_calls_.contains(hash)) ForgetRepeats();
  repeats_ = ++seen_calls_[hash];
}

void AgentFacts::Take(const sessions::WorkspaceChanged& change) { SeeWorkspace(change.manifest); }

void AgentFacts::SeeWorkspace(const base::Sha256Digest& manifest) {
  if (workspace_.has_value() && *workspace_ != manifest) Progress();
  workspace_ = manifest;
}

void AgentFacts::ForgetRepeats() {
  seen_calls_.clear();
  repeats_ = 0;
  told_of_repeats_ = false;
}

void AgentFacts::Progress() {
  ForgetRepeats();
  idle_turns_ = 0;
}

// --- The agent's own

void AgentFacts::Take(const sessions::AgentEvent& agent) {
  const base::StatusOr<std::optional<AgentBody>> body = Decode(agent);
  if (!body.ok()) {
    ++unreadable_;
  } else if (body->has_value()) {
    std::visit(
        [this](const auto& one) {
          if constexpr (requires { Take(one); }) Take(one);
        },
        **body);
  }
}

void AgentFacts::Take(const ProfileSet& profile) { profile_ = profile; }

void AgentFacts::Take(const GoalSet& goal) {
  if (goal_.has_value() && goal_->text != goal.text) plan_.clear();
  goal_ = goal;
  goal_state_ = {};
  DropClaim();
  checks_.clear();
  used_ = {};
  budgets_ = goal.budgets;
  warned_.clear();
  tokens_since_goal_told_ = 0;
  Progress();
}

void AgentFacts::Take(const GoalChanged& change) {
  if (!change.claim.empty()) {
    claim_ = change.claim;
    evidence_ = change.evidence;
    return;
  }
  if (!goal_.has_value()) return;
  const GoalChanged before = std::exchange(goal_state_, change);
  if (before.state == GoalState::kPaused && change.state != GoalState::kPaused) EndPause(before.reason);
  const bool waited = before.state == GoalState::kActive || before.state == GoalState::kWaiting;
  if (change.state == GoalState::kActive && !waited) DropClaim();
}

// Otherwise the session would pause again before it had done anything.
void AgentFacts::EndPause(std::string_view reason) {
  if (reason == kRepeating) ForgetRepeats();
  if (reason == kNoProgress) idle_turns_ = 0;
  if (reason == kCompactionThrash) thrash_forgiven_ = true;
  if (reason == kBlocked) DropClaim();
}

void AgentFacts::DropClaim() {
  claim_.clear();
  evidence_.clear();
}

void AgentFacts::Take(const BudgetsSet& set) {
  const Budgets before = std::exchange(budgets_, set.budgets);
  if (before.tokens != budgets_.tokens) warned_.erase("tokens");
  if (before.running_ms != budgets_.running_ms) warned_.erase("running_ms");
  if (before.calls != budgets_.calls) warned_.erase("calls");
}

void AgentFacts::Take(const BudgetWarned& warned) { warned_.insert(warned.which); }

void AgentFacts::Take(const PlanSet& set) {
  const std::vector<PlanItem> before = std::exchange(plan_, Merge(plan_, set.items));
  if (!SayTheSame(before, plan_)) Progress();
}

// The same note again is no news.
void AgentFacts::Take(const NoteTaken& taken) {
  const bool known = std::any_of(notes_.begin(), notes_.end(),
                                 [&taken](const Note& note) { return note.text == taken.text; });
  if (known) return;
  notes_.push_back({.seq = last_seq_, .text = taken.text});
  idle_turns_ = 0;
}

// Whether it passes, not what it prints: that may hold times, and is another with each run.
void AgentFacts::Take(const CheckRan& ran) {
  const auto last = std::find_if(checks_.begin(), checks_.end(), [&ran](const CheckRan& one) {
    return one.command == ran.command && one.when == ran.when;
  });
  if (last == checks_.end()) {
    checks_.push_back(ran);
    return;
  }
  if (last->passed != ran.passed) idle_turns_ = 0;
  *last = ran;
}

void AgentFacts::Take(const WaitSet& wait) {
  wait_ = wait;
  wait_since_utc_ms_ = last_utc_ms_;
}

void AgentFacts::Take(const WaitEnded& ended) {
  if (!wait_.has_value()) return;
  wait_.reset();
  if (ended.why == "process" || ended.why == "file" || ended.why == "signal") {
    Progress();
  } else if (ElapsedMs(wait_since_utc_ms_, last_utc_ms_) >= kPatientWaitMs) {
    ForgetRepeats();
  }
}

}  // namespace holdfast::agent
