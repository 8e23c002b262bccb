// What is to be done about a goal, by rule: budgets, going in circles, the end of a turn, a full window,
// reminders. Functions of the facts alone: no clock, no I/O; the same facts give the same answer, so a
// process that takes the session up decides as the one before it.
//
// The caller puts the answers on record (and does what they say); what is on record changes the facts so that
// nothing is asked for twice.
//
// Threads: any, one at a time for one set of facts. Cost: small; texts are bounded.
// Source: DESIGN section 6 (goal, window); the page of failures, F4 to F6; docs/goals.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/agent_event.h"
#include "agent/agent_facts.h"
#include "sessions/event.h"

namespace holdfast::agent {

// Whether the profile of the session has the tool, in any version: "goal" is there as "goal@1".
bool HasTool(const AgentFacts& facts, std::string_view name);

// A goal that has been set and has not come to an end: active, waiting or paused.
bool HasOpenGoal(const AgentFacts& facts);

// --- Budgets. They bind an open goal and nothing else.

// The first bound that is reached: "tokens", "running_ms" or "calls"; none: there is some left of each.
std::optional<std::string> ExhaustedBudget(const AgentFacts& facts);

// Of a bound, the reason of the pause: "BUDGET_TOKENS", "BUDGET_RUNNING_MS", "BUDGET_CALLS".
std::string BudgetReason(std::string_view which);

// Bounds of which 80% are used and that nobody was warned of, to be put on record.
std::vector<BudgetWarned> WarningsDue(const AgentFacts& facts);

// That may still enter the window; >= 0, INT64_MAX without a bound.
int64_t TokensLeft(const AgentFacts& facts);

// --- After calls, when their outcomes are on record. With or without a goal.

// A notice for the model that it has made the same call with the same result for the third time. None when it
// has been told so since something changed (AgentFacts::repeats).
std::optional<sessions::InputReceived> RepeatNotice(const AgentFacts& facts);

// The fifth time: the session is to be paused, kRepeating.
bool IsRepeating(const AgentFacts& facts);

// --- After a turn of the model's, when TurnFinished is on record.

enum class AfterTurn : uint8_t {
  kIdle,                // no goal is active, or the session waits
  kRunChecks,           // all checks of the goal; then ask again, with what they gave
  kSucceeded,           // they have passed
  kFinishedUnverified,  // none was given
  kFailed,              // the model says so
  kPause,               // reason
  kContinue,            // tell the model `notice`, in `delay_ms`
};

struct TurnDecision {
  AfterTurn what = AfterTurn::kIdle;
  std::string reason;    // kPause: upper-case
  std::string notice;    // kContinue; the same for the same facts and checks
  int64_t delay_ms = 0;  // kContinue: 0, then 5 s, doubling up to 5 min, while turns change nothing

  bool operator==(const TurnDecision&) const = default;
};

// `ran`: what the checks gave that kRunChecks asked for, which are on record too; none: they have not been
// run since the turn ended. It may end with the first that failed. What passes is counted although a budget
// is used up; nothing is continued then. Eight turns that changed nothing are a pause, kNoProgress.
TurnDecision DecideAfterTurn(const AgentFacts& facts, std::optional<std::span<const CheckRan>> ran);

// --- The window.

// False: the window filled with less than 5% of `window_tokens_max` since it was opened, so another would
// fill as quickly; kCompactionThrash. The first window may always be followed, and one whose pause for this
// has ended.
bool MayBeginWindow(const AgentFacts& facts, int64_t window_tokens_max);

// The reminder of goal, plan and budgets, when the active goal was told so long ago as the profile says.
std::optional<sessions::InputReceived> ReminderDue(const AgentFacts& facts);

// Asks the model for notes before its window is replaced: at 80% of `window_tokens_max`, once in an epoch,
// when it has the tool and tokens left to answer.
std::optional<sessions::InputReceived> NoteRequest(const AgentFacts& facts, int64_t window_tokens_max);

}  // namespace holdfast::agent
