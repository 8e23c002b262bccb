// One session at work: what is to be done next, from the log alone. A function of what is on record, so the
// same code begins a session, carries it on, and takes it up after a crash:
//
//   RUNNING  open the files, recover, then turns (agent/turn_loop.h); after each turn the rules of the goal
//            (agent/goal_rules.h): checks, success, another turn, a pause
//   WAITING  until the timer, process, file, signal, answer, message or client it waits for
//   IDLE, PAUSED, CLOSED  nothing
//
// Every change of state is an event, committed before it counts. Where something fails that a person has to
// look at, the session is PAUSED with the reason.
//
// Threads: control lane. Everything it is given outlives it.
// Source: DESIGN sections 3 and 6.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "agent/control_tools.h"
#include "agent/dialogue.h"
#include "agent/history_index.h"
#include "agent/session_files.h"
#include "agent/session_fold.h"
#include "agent/turn_loop.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "model/tokenizer.h"
#include "sessions/scheduler.h"
#include "sessions/session_store.h"
#include "tools/dispatcher.h"
#include "tools/permission.h"
#include "tools/registry.h"

namespace holdfast::agent {

// What this process runs sessions with: a session that was made with another model does not go on.
struct ModelIdentity {
  base::Sha256Digest weights = {};
  base::Sha256Digest config = {};
  base::Sha256Digest tokenizer = {};
  std::string chat_template;
  std::string numerics;  // id
};

// What workers share.
struct WorkerParts {
  base::Executor& executor;
  base::Clock& clock;
  sessions::Scheduler& scheduler;
  FilesOpener& files;
  const tools::PermissionPolicy& policy;
  ModelIdentity model;
  std::string directory;  // layers are below it, by session
  // Adds the built-in tools to the registry of a session.
  std::function<base::Status(tools::Registry&)> add_tools;
  // Of a profile; kept and shared by whoever gives it.
  std::function<base::StatusOr<const Dialogue*>(const ProfileSet&)> dialogue;
  tools::SpillStore* spill = nullptr;
  base::Sha256Digest sandbox_hash = {};
  HistoryIndex* history = nullptr;              // null: recall says that there is none
  const model::Tokenizer* tokenizer = nullptr;  // with it
  sessions::Priority priority = sessions::Priority::kNormal;
  uint32_t recoveries_max = 5;
  LiveSink on_live;  // may be empty
  // For tests, as TurnLoopOptions::narrow.
  decltype(TurnLoopOptions::narrow) narrow;
};

// How a worker has come to rest.
struct Parked {
  // The log takes no more (a full disk): the session has to be opened again.
  base::Status broken;
  // When to look again, though nobody says anything: timers.
  std::optional<base::MonotonicTime> wake;
  // It can be destroyed and made again without loss; false while commands run in the background.
  bool may_close = true;
};

class SessionWorker {
 public:
  // `parked` is called whenever there is nothing to do but wait for somebody; not from within a method.
  // `recorded` when what was being recorded is, and nothing else is being.
  SessionWorker(const WorkerParts& parts, std::unique_ptr<sessions::StoredSession> session,
                std::unique_ptr<SessionFold> fold, std::function<void(Parked)> parked,
                std::function<void()> recorded);
  // After Close, or when no task of the executor runs any more.
  ~SessionWorker();

  const sessions::SessionFacts& facts() const;
  const SessionFold& fold() const;
  sessions::StoredSession& session();

  // The files, when they are open and what the log says: for what may be asked for while calls run. Or null.
  SessionFiles* open_files();

  // What the model said last, calls apart; empty when it has said nothing in this window.
  std::string LastSaid() const;

  // Nothing is under way.
  bool at_rest() const;
  // Something that decides what is next is being put on record: facts() is behind it.
  bool is_recording() const;

  // Looks at the log, and goes on.
  void Consider();

  // Adds what somebody from outside says, and goes on with it. `done` with the sequence number of the last
  // event.
  using Said = absl::AnyInvocable<void(base::StatusOr<uint64_t>)>;
  void Add(std::vector<sessions::EventBody> bodies, Said done);

  // Ends what is under way, turn and calls, and has the session rest, unless it has been told more meanwhile.
  void Interrupt();

  // Comes to rest as soon as what is under way is on record, and calls `done`; goes on with Consider.
  void Halt(absl::AnyInvocable<void()> done);

  // While halted. The files as they are at rest; null when there is no workspace. Opened when they are not.
  void WithFiles(absl::AnyInvocable<void(base::StatusOr<SessionFiles*>)> use);

  // Lets go of files and memory. While halted or parked; then it may be destroyed.
  void Close(absl::AnyInvocable<void()> done);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast::agent
