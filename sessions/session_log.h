// The log of one session, as those who work on it see it: what is on record, and the one way to add to it.
//
// Threads: control lane.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/status.h"
#include "sessions/event.h"
#include "sessions/session_facts.h"

namespace holdfast::sessions {

enum class Urgency : uint8_t {
  kSoon,  // may wait a little to share a commit with others: tokens
  kNow,   // somebody waits for it: intents, outcomes, ends of turns
};

using Appended = absl::AnyInvocable<void(base::Status)>;

class SessionLog {
 public:
  virtual ~SessionLog() = default;

  // Adds events as one transaction, behind all that was added before. `done` is called once they are durable
  // (then facts() has them), or with why they never will be: FailedPrecondition when another owner has the
  // lease, ResourceExhausted for a full disk, and so on. After an error nothing more can be added.
  virtual void Append(std::vector<EventBody> bodies, Urgency urgency, Appended done) = 0;

  // Of the events that are durable and count.
  virtual const SessionFacts& facts() const = 0;

  // A durable event. NotFound when there is no such number.
  virtual base::StatusOr<Event> Read(uint64_t seq) const = 0;
};

}  // namespace holdfast::sessions
