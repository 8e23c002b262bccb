// What to do with a session whose process has ended, wherever it was. A function of its facts: every state on
// disk has an answer, and asking again after it was carried out gives nothing more to do.
//
// In this order, each step of which may be the last that happens:
//   1. the lease is taken with the next generation
//   2. the workspace is looked at as it is found (same boot: the live layer), and the plan is made
//   3. `append` is committed in one transaction
//   4. the workspace is made equal to `workspace`
//   5. the calls of `run_again` are started, under the intents they have
//   6. timers that are due fire; the session goes on
// A process that ends in between leads to the same workspace and the same calls, and never to a second
// outcome of a call.
//
// Source: DESIGN section 1 (invariant 2) and 6; ADR 0007.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "sessions/event.h"
#include "sessions/session_facts.h"

namespace holdfast::sessions {

struct RecoveryOptions {
  uint64_t generation = 0;  // of the lease that was taken
  int64_t now_utc_ms = 0;   // for calls that a client runs
  // The manifest of the workspace as it is found: what calls of unknown outcome have left. None when it
  // cannot be trusted (another boot).
  std::optional<base::Sha256Digest> workspace_found;
  uint32_t fruitless_recoveries_max = 5;  // then the session is paused
};

struct RecoveryPlan {
  std::vector<EventBody> append;
  std::vector<std::string> run_again;  // calls, in the order in which they began
  // The manifest that the workspace has to equal before anything runs; none: as the tree it began with.
  std::optional<base::Sha256Digest> workspace;
};

// The outcome of a call that was with a client, which gave no answer until its deadline.
CallOutcome ExpiredOutcome(const CallIntent& intent);

// Nothing to do for a session that is closed or paused (its open calls are resolved when it is resumed), or
// one that was idle or waiting with nothing open.
RecoveryPlan PlanRecovery(const SessionFacts& facts, const RecoveryOptions& options);

}  // namespace holdfast::sessions
