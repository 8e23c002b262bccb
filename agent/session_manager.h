// All sessions of a data directory: makes them, lets them work side by side, takes them up after a crash, and
// carries out what people ask for. The daemon, the command line and the tests are its callers.
//
//   SessionManager manager(parts, options);
//   manager.Start(...);                                      // takes up what was running or waiting
//   manager.Create({.id = "fix-tests", .profile = ..., .goal = GoalSet{...}}, ...);
//   manager.Send("fix-tests", {.text = "also the docs"}, ...);
//   manager.Stop(...);
//
// What is asked for twice with one request id acts once. An answer comes when what it says is durable.
//
// A session is opened (its log read, its lease taken) when it has work or somebody speaks to it, and closed
// again when it rests, but for a few; sessions that wait for a time are closed too and opened when it has
// come.
//
// Threads: control lane; answers come there, not from within the method. Destroyed when no task of the
// executor runs any more.
// Source: DESIGN sections 3 and 6.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "agent/agent_event.h"
#include "agent/agent_facts.h"
#include "agent/session_worker.h"
#include "base/random.h"
#include "base/status.h"
#include "sessions/session_store.h"

namespace holdfast::agent {

struct NewSession {
  std::string id;  // as SessionStore::Create wants it; empty: one is made up
  ProfileSet profile;
  uint64_t seed = 0;
  std::optional<GoalSet> goal;  // work on it begins at once
  std::string message;          // likewise, when not empty; may be without a goal
};

// How a session is, for lists and views.
struct SessionStatus {
  sessions::SessionRow row;
  std::optional<ProfileSet> profile;
  std::optional<GoalSet> goal;
  GoalState goal_state = GoalState::kActive;  // with a goal
  std::string goal_reason;
  Budgets budgets;
  Used used;
  std::vector<PlanItem> plan;
  sessions::TokenTotals tokens;
  sessions::TokensAccounted accounted;
  int64_t window_tokens = 0;
  uint32_t epoch = 0;
  std::string said;                                    // by the model, last
  std::vector<sessions::ApprovalRequested> questions;  // calls that wait for an answer
};

struct ManagerOptions {
  size_t parked_max = 16;     // sessions at rest that are kept open
  size_t open_max = 256;      // sessions open at once; more wait their turn
  int64_t reopen_ms = 5'000;  // after the log took no more: before it is tried again
};

class SessionManager {
 public:
  template <class T>
  using Got = sessions::SessionStore::Got<T>;
  using Done = absl::AnyInvocable<void(base::Status)>;
  using Seq = absl::AnyInvocable<void(base::StatusOr<uint64_t>)>;  // of the last event it made

  // All of `parts` and the store outlive the manager. `on_event` is told every event that becomes durable
  // while its session is open; may be empty.
  SessionManager(const WorkerParts& parts, sessions::SessionStore& store, base::Entropy& entropy,
                 const ManagerOptions& options = {},
                 std::function<void(const std::string& id, const sessions::Event&)> on_event = {});
  ~SessionManager();

  // Takes up every session that says RUNNING or WAITING. `done` when each has been opened.
  void Start(Done done);

  // Lets everything come to rest where it is (turns stay open, and go on at the next Start), then closes all
  // sessions. Commands that run are waited for.
  void Stop(absl::AnyInvocable<void()> done);

  void Create(NewSession session, Got<sessions::SessionRow> done);

  // A message, a steer, an interrupt or a signal. FailedPrecondition when the session is closed.
  void Send(std::string id, sessions::InputReceived input, Seq done);

  // FailedPrecondition when nobody has asked, or about another action.
  void Answer(std::string id, sessions::ApprovalResolved answer, Seq done);

  // Another goal in the place of the one there is, if any; work on it begins at once.
  void SetGoal(std::string id, GoalSet goal, Seq done);
  // The same goal goes on with other bounds, also one that was paused for the old ones.
  void SetBudgets(std::string id, Budgets budgets, Seq done);
  void CancelGoal(std::string id, Seq done);

  // PAUSED with reason USER; what is under way comes on record first.
  void Pause(std::string id, Seq done);
  // From PAUSED, from IDLE with a goal that is not at its end, or from a wait: RUNNING.
  void Resume(std::string id, Seq done);

  // A session with the history of `id` up to event `seq` (0: all of it) and its files as they were then; at
  // rest. The parent goes on untouched.
  void Fork(std::string id, uint64_t seq, std::string new_id, Got<sessions::SessionRow> done);

  // Back to after event `seq`, the files too; at rest.
  void Rewind(std::string id, uint64_t seq, Done done);

  // Takes the session's changes over into the user's tree. FailedPrecondition while it runs.
  void Apply(std::string id, std::string request_id, Got<FilesReport> done);
  // Lets go of all of the session's changes; what they were stays in the record.
  void Discard(std::string id, Seq done);

  // Out of lists. FailedPrecondition while it runs.
  void Archive(std::string id, Got<sessions::SessionRow> done);

  void Status(std::string id, Got<SessionStatus> done);

  size_t open_sessions() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast::agent
