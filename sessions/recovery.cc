#include "sessions/recovery.h"

#include <utility>

namespace holdfast::sessions {
namespace {

constexpr char kUnknownText[] =
    "Outcome unknown: the runtime ended while this call was running. It may have run, in part or whole. It "
    "will not be run again by itself: look at what is there before you decide.\n";

constexpr char kExpiredText[] =
    "Outcome unknown: the client that was to run this call gave no answer before its deadline. It may have "
    "run, in part or whole.\n";

enum class Resolution { kRunAgain, kUnknown, kWithTheClient };

Resolution Resolve(const CallIntent& intent, int64_t now_utc_ms) {
  if (intent.client_deadline_utc_ms != 0) {
    return now_utc_ms < intent.client_deadline_utc_ms ? Resolution::kWithTheClient : Resolution::kUnknown;
  }
  // What can be undone, or changes nothing more when it is done twice.
  return intent.contained || intent.effect != CallEffect::kEffectful ? Resolution::kRunAgain
                                                                     : Resolution::kUnknown;
}

// Only one call at a time can have changed files (SessionFacts::Apply), and none of a client's.
bool LeftChanges(const CallIntent& intent, const RecoveryOptions& options) {
  return intent.effect == CallEffect::kEffectful && intent.client_deadline_utc_ms == 0 &&
         options.workspace_found.has_value();
}

CallOutcome UnknownOutcome(const CallIntent& intent, const RecoveryOptions& options) {
  if (intent.client_deadline_utc_ms != 0) return ExpiredOutcome(intent);
  CallOutcome outcome{.call = intent.call, .status = CallStatus::kUnknown, .text = kUnknownText};
  if (LeftChanges(intent, options)) outcome.workspace_after = options.workspace_found;
  return outcome;
}

// Calls, and the workspace they are to find.
void ResolveCalls(const SessionFacts& facts, const RecoveryOptions& options, RecoveryPlan& plan,
                  std::string& report) {
  for (const OpenCall& open : facts.open_calls()) {
    const CallIntent& intent = open.intent;
    switch (Resolve(intent, options.now_utc_ms)) {
      case Resolution::kRunAgain:
        plan.run_again.push_back(intent.call);
        if (intent.workspace_before.has_value()) plan.workspace = intent.workspace_before;
        report += intent.call + " (" + intent.tool + ") is run again\n";
        break;
      case Resolution::kUnknown:
        plan.append.push_back(UnknownOutcome(intent, options));
        if (LeftChanges(intent, options)) plan.workspace = options.workspace_found;
        report += intent.call + " (" + intent.tool + ") has an unknown outcome\n";
        break;
      case Resolution::kWithTheClient:
        report += intent.call + " (" + intent.tool + ") is still with its client\n";
        break;
    }
  }
}

}  // namespace

CallOutcome ExpiredOutcome(const CallIntent& intent) {
  return {.call = intent.call, .status = CallStatus::kUnknown, .text = kExpiredText};
}

RecoveryPlan PlanRecovery(const SessionFacts& facts, const RecoveryOptions& options) {
  RecoveryPlan plan;
  plan.workspace = facts.workspace();
  if (facts.state() == SessionState::kPaused || facts.state() == SessionState::kClosed) return plan;
  std::string report;
  ResolveCalls(facts, options, plan, report);
  const bool lost_process = facts.state() == SessionState::kWaiting && facts.wait() == WaitFor::kProcess;
  if (lost_process) report += "the process it waited for is lost\n";
  const bool was_running = facts.state() == SessionState::kRunning;
  if (!was_running && !lost_process && plan.append.empty() && plan.run_again.empty()) return plan;

  plan.append.push_back(Recovered{.generation = options.generation, .report = std::move(report)});
  if (facts.fruitless_recoveries() + 1 >= options.fruitless_recoveries_max) {
    plan.run_again.clear();
    plan.append.push_back(StateChanged{.state = SessionState::kPaused, .reason = "RECOVERY_LOOP"});
  } else if (lost_process) {
    plan.append.push_back(StateChanged{.state = SessionState::kRunning, .reason = "the process is lost"});
  }
  return plan;
}

}  // namespace holdfast::sessions
