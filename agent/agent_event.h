// What the agent adds to the record of a session: what the session was set up with, its goal, plan, notes,
// checks and waits. Payloads of sessions::AgentEvent: one line of JSON each, with the fields named here.
// Readers ignore fields they do not know; a kind that is not known is kept and means nothing.
//
// Format: docs/formats/agent_events.md. Source: DESIGN section 6.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "sessions/event.h"

namespace holdfast::agent {

// A tool that a client of the session runs (tools/client_tool.h).
struct ClientTool {
  std::string name;
  std::string description;           // for the model
  std::string parameters;            // JSON schema of an object; empty: no parameters
  std::string effect = "effectful";  // or "read_only", "idempotent"
  int64_t timeout_ms = 600'000;      // of a call, from its intent

  bool operator==(const ClientTool&) const = default;
};

// What a session is made with and keeps; the second event of its log.
struct ProfileSet {
  std::string profile;                   // "default@1": of tools/data
  std::string mode;                      // "chat" or "thinking"
  std::string version;                   // of the chat format, "v4-0731"
  std::string effort;                    // empty: none
  std::string system;                    // text before the tools
  std::string instructions;              // AGENTS.md of the tree when the session was made; may be empty
  std::vector<std::string> tools;        // ids, "bash@2", in the order of the prompt
  std::vector<ClientTool> client_tools;  // behind them
  double temperature = 0;
  int32_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  int64_t window_tokens_max = 0;
  int64_t turn_tokens_max = 0;
  int64_t reminder_tokens = 0;  // the goal is restated after so many; 0: never
  std::string tree;             // of the workspace on the host; empty: no workspace
  std::string workspace_mode;   // "overlay", "direct" or "snapshot"

  bool operator==(const ProfileSet&) const = default;
};

struct GoalCheck {
  std::string command;  // of bash, in the root of the workspace
  int64_t timeout_ms = 600'000;

  bool operator==(const GoalCheck&) const = default;
};

// Bounds of a goal. 0 is nothing at all; INT64_MAX no bound.
struct Budgets {
  int64_t tokens = 10'000'000;            // that entered windows: fed, sampled, forced
  int64_t running_ms = 24 * 3'600'000ll;  // while the session was RUNNING
  int64_t calls = 10'000;                 // of tools

  bool operator==(const Budgets&) const = default;
};

struct GoalSet {
  std::string text;
  std::vector<GoalCheck> checks;
  Budgets budgets;
  bool apply_on_success = false;

  bool operator==(const GoalSet&) const = default;
};

enum class GoalState : uint8_t {
  kActive = 1,
  kWaiting = 2,
  kPaused = 3,
  kSucceeded = 4,           // its checks passed
  kFinishedUnverified = 5,  // no check was given
  kFailed = 6,
  kCancelled = 7,
};

// The goal changes its state, or the model says what it thinks of it (`claim`), which alone changes nothing.
struct GoalChanged {
  GoalState state = GoalState::kActive;
  std::string reason;    // kPaused: upper-case, as BUDGET_TOKENS, NO_PROGRESS, BLOCKED
  std::string claim;     // by the model, through the goal tool: "done", "blocked", "failed"; else empty
  std::string evidence;  // the same

  bool operator==(const GoalChanged&) const = default;
};

// Other bounds from here on; the same goal goes on.
struct BudgetsSet {
  Budgets budgets;

  bool operator==(const BudgetsSet&) const = default;
};

// 80% of a bound are used. Once for each bound.
struct BudgetWarned {
  std::string which;  // "tokens", "running_ms", "calls"
  int64_t used = 0;
  int64_t bound = 0;

  bool operator==(const BudgetWarned&) const = default;
};

struct PlanItem {
  std::string text;
  std::string state;  // "pending", "active", "done", "dropped"

  bool operator==(const PlanItem&) const = default;
};

// The whole plan. What was done before stays done: items that are done and missing here are kept by the fold.
struct PlanSet {
  std::vector<PlanItem> items;

  bool operator==(const PlanSet&) const = default;
};

struct NoteTaken {
  std::string text;

  bool operator==(const NoteTaken&) const = default;
};

// A check was run by the runtime.
struct CheckRan {
  std::string command;
  std::string when;  // "start", "end"
  bool passed = false;
  std::string text;                            // how it ended and what it printed, as the model is told
  std::vector<base::Sha256Digest> blobs;       // whole outputs
  std::optional<base::Sha256Digest> manifest;  // of the workspace it ran on

  bool operator==(const CheckRan&) const = default;
};

// How an epoch's window begins, beside the system text and the tools: texts of the user's, then, in later
// epochs, tokens of the epoch before, verbatim. In one commit with the run of tokens that it makes.
struct Opening {
  std::vector<std::string> texts;
  int64_t kept_from = 0;   // position in the epoch before
  int64_t kept_count = 0;  // to its end, or to the end of its last complete turn

  bool operator==(const Opening&) const = default;
};

// The session waits until one of these is so; with the outcome of the call that asked for it.
struct WaitSet {
  std::string call;
  int64_t until_utc_ms = 0;  // 0: no bound in time. Timer "wait"
  std::string process;       // a background command's id; empty: none
  std::string file;          // in the workspace: changes, appears or goes; empty: none
  std::string file_state;    // what it was when the wait began; empty: not looked at yet
  std::string signal;        // name; empty: none

  bool operator==(const WaitSet&) const = default;
};

struct WaitEnded {
  std::string why;  // "time", "process", "file", "signal", "input", "lost", "cancelled"

  bool operator==(const WaitEnded&) const = default;
};

// The session's changes were taken over into the user's tree.
struct Applied {
  int64_t applied = 0;  // paths
  int64_t conflicts = 0;
  int64_t refused = 0;  // protected
  std::string text;     // one line a path, bounded
  std::string request_id;
  int64_t failed = 0;   // the host could not
  bool partly = false;  // not everything was to be: some paths, or to a branch
  std::string branch;   // the ref that was made; empty: none
  std::string commit;   // that it points to

  bool operator==(const Applied&) const = default;
};

// What people call the session; empty: nothing but its id.
struct DisplayNameSet {
  std::string name;

  bool operator==(const DisplayNameSet&) const = default;
};

// The order is the order of kinds, from sessions::kFirstAgentEvent: never changed, only added to.
using AgentBody = std::variant<ProfileSet, GoalSet, GoalChanged, BudgetsSet, BudgetWarned, PlanSet, NoteTaken,
                               CheckRan, Opening, WaitSet, WaitEnded, Applied, DisplayNameSet>;

sessions::AgentEvent Encode(const AgentBody& body);

// Nothing for a kind that is not known. DataLoss for a payload that Encode cannot have written; never
// crashes.
base::StatusOr<std::optional<AgentBody>> Decode(const sessions::AgentEvent& event);

// "ACTIVE", "FINISHED_UNVERIFIED", ...
std::string_view GoalStateName(GoalState state);

}  // namespace holdfast::agent
