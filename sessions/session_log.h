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

using Appended = absl::AnyInvocable<void(base::Status)>;

// Something more that is computed from a session's log. The events are those that count, in order: first what
// is on record, on the storage lane, then each as it becomes durable, on the control lane, before the answer
// to its Append. After a rewind it is Reset and given what counts then.
class EventFold {
 public:
  virtual ~EventFold() = default;
  virtual void Reset() = 0;
  virtual void Apply(const Event& event) = 0;
};

class SessionLog {
 public:
  virtual ~SessionLog() = default;

  // Adds events, all or none, behind all that was added before. What several sessions add at about the same
  // time shares a commit. `done` is called, not from within the call, once they are durable
  // (then facts() has them), or with why they never will be: FailedPrecondition when another owner has the
  // lease, ResourceExhausted for a full disk, and so on. After an error nothing more can be added.
  virtual void Append(std::vector<EventBody> bodies, Appended done) = 0;

  // Of the events that are durable and count.
  virtual const SessionFacts& facts() const = 0;

  // A durable event of facts().untold(). NotFound for any other.
  virtual base::StatusOr<Event> ReadUntold(uint64_t seq) const = 0;
};

}  // namespace holdfast::sessions
