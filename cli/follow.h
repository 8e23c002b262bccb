// Follows a session until it rests, and says how it ended.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "server/client.h"

namespace holdfast::cli {

struct FollowOptions {
  std::string name;             // "sessions/ID"
  uint64_t after_sequence = 0;  // shows what came behind this event
  // It may rest before this event: that was before what it is followed for.
  uint64_t busy_until = 0;
  bool json = false;
  bool forever = false;     // also when it rests
  bool interrupts = false;  // the first Ctrl-C interrupts the session, unless a second one leaves at once
};

// Shows events as WatchView does. Ok: it rests. ExitWith(kLeft) when Ctrl-C left it; the work goes on.
base::Status Follow(server::Client& client, const FollowOptions& options);

// Prints how the session stands: what it said, its goal, tokens by kind and what the store saved, its changes
// and how to take them over, what it waits for. The status is that of the goal: ExitWith(kNotReached),
// ExitWith(kNeedsPerson).
base::Status Summarise(server::Client& client, const std::string& name, bool json);

// Prints only what it waits for, and how to answer.
base::Status TellOpen(server::Client& client, const std::string& name);

}  // namespace holdfast::cli
