// Calls that wait for a session to rest, without a thread: looked at when its state changes, and once a
// second for those whose time is over or who have gone.
//
// Threads: control lane. Destroyed when no task of the executor runs any more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "sessions/session_store.h"

namespace holdfast::server {

class SessionWaiters {
 public:
  // Whether the session rests; false: the time is over. Errors are those of the store.
  using Answer = absl::AnyInvocable<void(base::StatusOr<bool> at_rest)>;

  // All outlive the waiters.
  SessionWaiters(base::Executor& executor, base::Clock& clock, sessions::SessionStore& store)
      : executor_(executor), clock_(clock), store_(store) {}

  // `gone` says whether the caller waits no more: then it is answered soon, with false. ResourceExhausted
  // when too many wait.
  void Wait(std::string session, int64_t timeout_ms, absl::AnyInvocable<bool()> gone, Answer answer);

  void OnEvent(const std::string& session, const sessions::Event& event);

  // Answers all with `status`, and those that come.
  void Close(base::Status status);

 private:
  struct Waiter {
    std::string session;
    int64_t due_ns = 0;  // monotonic
    absl::AnyInvocable<bool()> gone;
    Answer answer;
  };
  // Asks the store, which has the last word.
  void Look(uint64_t id);
  void Arm(uint64_t id);
  void End(uint64_t id, base::StatusOr<bool> at_rest);

  base::Executor& executor_;
  base::Clock& clock_;
  sessions::SessionStore& store_;
  std::map<uint64_t, Waiter> waiters_;
  uint64_t next_id_ = 1;
  base::Status closed_;
};

}  // namespace holdfast::server
