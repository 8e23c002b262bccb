// The sessions that are open, and their opening and closing: who asks for a session gets it, opened if need
// be; what rests is closed again, but for a few; what waits for a time is opened when it has come.
//
// Threads: control lane.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "agent/session_manager.h"
#include "agent/session_worker.h"
#include "base/executor.h"
#include "base/status.h"
#include "sessions/session_store.h"

namespace holdfast::agent::manager {

class SessionTable {
 public:
  // Gets the session, or why it cannot be opened.
  using Command = absl::AnyInvocable<void(base::StatusOr<SessionWorker*>)>;
  // Has the session halted to itself until it calls `finish`, on success only.
  using Finish = std::function<void()>;
  using Exclusive = absl::AnyInvocable<void(base::StatusOr<SessionWorker*>, Finish finish)>;
  using OnEvent = std::function<void(const std::string& id, const sessions::Event&)>;

  // All outlive the table.
  SessionTable(const WorkerParts& parts, sessions::SessionStore& store, const ManagerOptions& options,
               OnEvent on_event)
      : parts_(parts), store_(store), options_(options), on_event_(std::move(on_event)) {}
  ~SessionTable();

  // Runs `command` on the session, at once when it is open and nobody has it to himself.
  void With(const std::string& id, Command command);

  // The same, halted, and with nobody else at it. `before`, which may be empty, is asked first, while the
  // session goes on: true, and nothing is left to do.
  using Before = absl::AnyInvocable<bool(SessionWorker&)>;
  void Alone(const std::string& id, Exclusive operation, Before before = {});

  // Closes a session that somebody has to himself, so that it is read again: `done`, then his finish.
  void Close(const std::string& id, absl::AnyInvocable<void()> done);

  // Halts and closes all.
  void Stop(absl::AnyInvocable<void()> done);

  size_t open_sessions() const { return open_; }  // and those that are being opened

 private:
  struct Entry {
    std::unique_ptr<SessionWorker> worker;
    bool opening = false;
    bool closing = false;
    bool exclusive = false;
    bool parked = false;
    base::Status broken;  // why it was closed: the log took no more
    std::deque<Command> commands;
    std::deque<Exclusive> exclusives;
  };
  struct Alarm {
    int64_t due_utc_ms = 0;
    int64_t due_ns = 0;  // monotonic
  };

  Entry& EntryOf(const std::string& id) { return entries_[id]; }
  void RunExclusive(const std::string& id, Exclusive operation);
  void FinishExclusive(const std::string& id);
  void Open(const std::string& id);
  void OpenNow(const std::string& id);
  void ServeWaiting();
  void Settle(const std::string& id);
  void StopNext();
  void Opened(const std::string& id, std::unique_ptr<SessionFold> fold,
              base::StatusOr<std::unique_ptr<sessions::StoredSession>> session);
  void RunCommands(const std::string& id);
  void OnParked(const std::string& id, const Parked& parked);
  void CloseSome();
  void SetAlarm(const std::string& id, const SessionWorker& worker);
  void LookAtAlarms();
  void PostAt(int64_t after_ns, base::Task task) {
    auto timer = parts_.executor.PostAt({parts_.clock.MonotonicNow().ns + after_ns}, std::move(task));
    (void)timer;  // refused: the next event will do
  }
  int64_t UtcMs() { return parts_.clock.UtcNow().ns / base::kNsPerMs; }

  const WorkerParts parts_;
  sessions::SessionStore& store_;
  const ManagerOptions options_;
  const OnEvent on_event_;

  std::map<std::string, Entry> entries_;
  size_t open_ = 0;
  std::deque<std::string> waiting_;      // for a place
  std::deque<std::string> parked_;       // oldest first; may name some that work again
  std::map<std::string, Alarm> alarms_;  // of sessions that are closed and wait
  std::optional<base::TimerId> alarm_timer_;
  bool stopping_ = false;
  absl::AnyInvocable<void()> stopped_;
};

}  // namespace holdfast::agent::manager
