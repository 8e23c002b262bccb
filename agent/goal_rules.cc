#include "agent/goal_rules.h"

#include <algorithm>
#include <array>
#include <limits>

#include "agent/bounded_text.h"
#include "agent/window_text.h"

namespace holdfast::agent {
namespace {

constexpr int kRepeatsToTell = 3;
constexpr int kRepeatsToPause = 5;

constexpr int kIdleTurnsAtOnce = 2;  // from here on with a delay
constexpr int kIdleTurnsToPause = 8;
constexpr int64_t kDelayMsFirst = 5'000;
constexpr int64_t kDelayMsMax = 5 * 60'000;

constexpr int64_t kNoteTokens = 4096;  // what notes may cost

constexpr size_t kCommandBytesMax = 2 << 10;  // of a check, in a notice
constexpr size_t kCheckBytesMax = 16 << 10;   // what it printed

constexpr int64_t kNoBound = std::numeric_limits<int64_t>::max();

struct Bound {
  std::string_view which;
  int64_t used;
  int64_t bound;
};

std::array<Bound, 3> BoundsOf(const AgentFacts& facts) {
  const Used& used = facts.used();
  const Budgets& budgets = facts.budgets();
  return {{{"tokens", used.tokens, budgets.tokens},
           {"running_ms", used.running_ms, budgets.running_ms},
           {"calls", used.calls, budgets.calls}}};
}

int64_t DelayMs(int idle_turns) {
  if (idle_turns < kIdleTurnsAtOnce) return 0;
  return std::min(kDelayMsFirst << std::min(idle_turns - kIdleTurnsAtOnce, 16), kDelayMsMax);
}

TurnDecision Pause(std::string_view reason) {
  return {.what = AfterTurn::kPause, .reason = std::string(reason)};
}

TurnDecision Continue(const AgentFacts& facts, std::string notice) {
  if (const auto which = ExhaustedBudget(facts); which.has_value()) return Pause(BudgetReason(*which));
  const int idle = facts.idle_turns();
  if (idle >= kIdleTurnsToPause) return Pause(kNoProgress);
  if (idle >= kIdleTurnsAtOnce) {
    notice += "Your last " + std::to_string(idle) +
              " turns have changed nothing: neither the workspace nor the plan nor the notes.\n";
  }
  return {.what = AfterTurn::kContinue, .notice = std::move(notice), .delay_ms = DelayMs(idle)};
}

std::string FailedCheckNotice(const AgentFacts& facts, const CheckRan& check) {
  std::string notice = "The goal is not reached: this check does not pass.\n$ " +
                       BoundedText(check.command, kCommandBytesMax) + "\n" +
                       BoundedText(check.text, kCheckBytesMax);
  if (!notice.ends_with('\n')) notice += '\n';
  notice += "Go on.";
  if (HasTool(facts, "goal")) notice += " If you cannot, say so with the goal tool.";
  return notice + "\n";
}

TurnDecision DecideByChecks(const AgentFacts& facts, std::span<const CheckRan> ran) {
  const auto failed = std::find_if(ran.begin(), ran.end(), [](const CheckRan& one) { return !one.passed; });
  if (failed != ran.end()) return Continue(facts, FailedCheckNotice(facts, *failed));
  const bool all = ran.size() >= facts.goal()->checks.size();
  return {.what = all ? AfterTurn::kSucceeded : AfterTurn::kRunChecks};
}

}  // namespace

bool HasTool(const AgentFacts& facts, std::string_view name) {
  if (!facts.profile().has_value()) return false;
  const std::vector<std::string>& tools = facts.profile()->tools;
  return std::any_of(tools.begin(), tools.end(),
                     [name](std::string_view id) { return id.substr(0, id.find('@')) == name; });
}

bool HasOpenGoal(const AgentFacts& facts) {
  if (!facts.goal().has_value()) return false;
  const GoalState state = facts.goal_state();
  return state == GoalState::kActive || state == GoalState::kWaiting || state == GoalState::kPaused;
}

std::optional<std::string> ExhaustedBudget(const AgentFacts& facts) {
  if (!HasOpenGoal(facts)) return std::nullopt;
  for (const Bound& one : BoundsOf(facts)) {
    if (one.used >= one.bound) return std::string(one.which);
  }
  return std::nullopt;
}

std::string BudgetReason(std::string_view which) {
  std::string reason = "BUDGET_";
  for (const char c : which) reason += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return reason;
}

std::vector<BudgetWarned> WarningsDue(const AgentFacts& facts) {
  std::vector<BudgetWarned> due;
  if (!HasOpenGoal(facts)) return due;
  for (const Bound& one : BoundsOf(facts)) {
    const bool near = one.bound > 0 && one.bound != kNoBound && one.used >= one.bound - one.bound / 5;
    std::string which(one.which);
    if (near && !facts.Warned(which)) {
      due.push_back({.which = std::move(which), .used = one.used, .bound = one.bound});
    }
  }
  return due;
}

int64_t TokensLeft(const AgentFacts& facts) {
  if (!HasOpenGoal(facts) || facts.budgets().tokens == kNoBound) return kNoBound;
  if (facts.used().tokens >= facts.budgets().tokens) return 0;
  return facts.budgets().tokens - facts.used().tokens;
}

std::optional<sessions::InputReceived> RepeatNotice(const AgentFacts& facts) {
  if (facts.repeats() < kRepeatsToTell || facts.told_of_repeats()) return std::nullopt;
  std::string text = "You have made the same call with the same result " + std::to_string(facts.repeats()) +
                     " times, and nothing has changed in between. Making it again will not help: try "
                     "something else";
  if (HasTool(facts, "wait")) text += ", or use wait for what takes time";
  return sessions::InputReceived{
      .kind = sessions::InputKind::kNotice,
      .request_id = std::string(kRepeatNoticeId) + std::to_string(facts.last_seq()),
      .text = text + ".\n"};
}

bool IsRepeating(const AgentFacts& facts) { return facts.repeats() >= kRepeatsToPause; }

TurnDecision DecideAfterTurn(const AgentFacts& facts, std::optional<std::span<const CheckRan>> ran) {
  if (!facts.goal().has_value() || facts.goal_state() != GoalState::kActive || facts.wait().has_value()) {
    return {};
  }
  if (facts.claim() == "blocked") return Pause(kBlocked);
  if (facts.claim() == "failed") return {.what = AfterTurn::kFailed};
  if (!facts.goal()->checks.empty()) {
    return ran.has_value() ? DecideByChecks(facts, *ran) : TurnDecision{.what = AfterTurn::kRunChecks};
  }
  if (facts.claim() == "done" || !HasTool(facts, "goal")) return {.what = AfterTurn::kFinishedUnverified};
  return Continue(facts,
                  "The goal is still open. Go on with it. When it is done, or when you cannot go on, say so "
                  "with the goal tool.\n");
}

bool MayBeginWindow(const AgentFacts& facts, int64_t window_tokens_max) {
  return facts.epoch() == 0 || facts.thrash_forgiven() || facts.tokens_in_epoch() >= window_tokens_max / 20;
}

std::optional<sessions::InputReceived> ReminderDue(const AgentFacts& facts) {
  const bool active = facts.goal().has_value() && facts.goal_state() == GoalState::kActive;
  const int64_t every = facts.profile().has_value() ? facts.profile()->reminder_tokens : 0;
  if (!active || every <= 0 || facts.tokens_since_goal_told() < every) return std::nullopt;
  return sessions::InputReceived{.kind = sessions::InputKind::kReminder, .text = ReminderText(facts)};
}

std::optional<sessions::InputReceived> NoteRequest(const AgentFacts& facts, int64_t window_tokens_max) {
  const bool full = facts.window_tokens() >= window_tokens_max / 5 * 4;
  if (!full || facts.note_requested() || !HasTool(facts, "note")) return std::nullopt;
  if (TokensLeft(facts) < kNoteTokens) return std::nullopt;
  return sessions::InputReceived{
      .kind = sessions::InputKind::kNotice,
      .request_id = std::string(kNoteRequestId) + std::to_string(facts.epoch()),
      .text =
          "The window is nearly full. Soon only the goal, the plan, your notes and the last turns will "
          "be shown. Take notes now of what you need to go on and would not find again in the files: "
          "what you have found out, what was decided and why, what is half done.\n"};
}

}  // namespace holdfast::agent
