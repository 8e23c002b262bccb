// All sessions of a data directory: makes them, lets them work side by side, takes them up after a crash, and
// carries out what people ask for. The daemon, the command line and the tests are its callers.
//
//   SessionManager manager(parts, options);
//   manager.Start(...);                                      // takes up what was running or waiting
//   manager.Create({.id = "fix-tests", .profile = ..., .goal = GoalSet{...}}, ...);
//   manager.Send("fix-tests", {.text = "also the docs"}, ...);
//   manager.Pause({"fix-tests", request_id}, ...);
//   manager.Stop(...);
//
// An answer comes when what it says is durable. What changes a session can be asked for with a request id:
// any 1 to 128 bytes, another for each request. It then acts once, also across a crash, however often it is
// asked for: a repeat waits for the first when that is under way, and is answered what the first was (the
// sequence number; a row as it is now). What failed has not acted, and is tried again. InvalidArgument for an
// id that is too long, or was used in the session for another method.
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
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "agent/agent_event.h"
#include "agent/agent_facts.h"
#include "agent/client_calls.h"
#include "agent/session_worker.h"
#include "base/random.h"
#include "base/status.h"
#include "sessions/session_store.h"

namespace holdfast::agent {

// A session, and the request of a client that is about it.
struct Target {
  std::string id;
  std::string request_id;  // empty: none, and what is asked for twice acts twice
};

inline constexpr size_t kDisplayNameBytesMax = 200;

struct NewSession {
  // As SessionStore::Create wants it. Empty: one is made up, or made of the request id when there is one, so
  // that a repeat finds the same session.
  std::string id;
  std::string request_id;
  std::string display_name;  // for people; may be empty
  ProfileSet profile;        // its client_tools are checked as agent/client_tools.h says
  uint64_t seed = 0;
  std::optional<GoalSet> goal;  // work on it begins at once
  std::string message;          // likewise, when not empty; may be without a goal
};

// How a session is, for lists and views.
struct SessionStatus {
  sessions::SessionRow row;
  std::string display_name;
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
  std::vector<ClientCall> client_calls;                // that are open
  std::vector<sessions::ApprovalRequested> questions;  // calls that wait for an answer
};

namespace manager {
class SessionTable;
struct Request;
template <class T>
class Operation;
}  // namespace manager

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
  // while its session is open, and those that a session begins with or goes back with; may be empty.
  SessionManager(const WorkerParts& parts, sessions::SessionStore& store, base::Entropy& entropy,
                 const ManagerOptions& options = {},
                 std::function<void(const std::string& id, const sessions::Event&)> on_event = {});
  ~SessionManager();

  // Takes up every session that says RUNNING or WAITING. `done` when as many have been opened as fit.
  void Start(Done done);

  // Lets everything come to rest where it is (turns stay open, and go on at the next Start), then closes all
  // sessions. Commands that run are waited for.
  void Stop(absl::AnyInvocable<void()> done);

  // AlreadyExists for an id that is taken, but by the same request.
  void Create(NewSession session, Got<sessions::SessionRow> done);

  // A message, a steer, an interrupt or a signal; its own request id counts. FailedPrecondition when the
  // session is closed.
  void Send(std::string id, sessions::InputReceived input, Seq done);

  // The same for the answer's. FailedPrecondition when nobody has asked, or about another action.
  void Answer(std::string id, sessions::ApprovalResolved answer, Seq done);

  // The calls that are with a client of the session (agent/client_calls.h), in the order in which they began.
  // `on_event` tells of each when it begins.
  void ClientCalls(std::string id, Got<std::vector<ClientCall>> done);

  // What a client says of a call that is with it: the call has ended with that, once. Texts are bounded as
  // those of other results are. The same answer again gives the same number; FailedPrecondition for another
  // one, saying how the call has ended, NotFound for a call that never was. At any time while the call is
  // open, also of a session that is paused or idle: the model is told when it goes on.
  void DeliverCall(std::string id, ClientAnswer answer, Seq done);

  // Another goal in the place of the one there is, if any; work on it begins at once.
  void SetGoal(Target target, GoalSet goal, Seq done);
  // The same goal goes on with other bounds, also one that was paused for the old ones.
  void SetBudgets(Target target, Budgets budgets, Seq done);
  void CancelGoal(Target target, Seq done);

  // What people call it: at most kDisplayNameBytesMax, may be empty.
  void SetDisplayName(Target target, std::string name, Seq done);

  // PAUSED with reason USER; what is under way comes on record first.
  void Pause(Target target, Seq done);
  // From PAUSED, from IDLE with a goal that is not at its end, or from a wait: RUNNING.
  void Resume(Target target, Seq done);

  // A session with the history of `parent` up to event `seq` (0: all of it) and its files as they were then;
  // at rest. The parent goes on untouched. `new_id` and the request as in NewSession.
  void Fork(Target parent, uint64_t seq, std::string new_id, Got<sessions::SessionRow> done);

  // Back to after event `seq`, the files too; at rest. InvalidArgument for an event that does not count.
  void Rewind(Target target, uint64_t seq, Seq done);
  // The same, to before what a person said last (message or steer). FailedPrecondition when nobody has.
  void Undo(Target target, Seq done);

  // Takes the session's changes over, into the user's tree or to a branch (SessionFiles::Apply).
  // FailedPrecondition while it runs.
  void Apply(Target target, ApplyRequest what, Got<FilesReport> done);
  // Lets go of all of the session's changes; what they were stays in the record. FailedPrecondition while it
  // runs.
  void Discard(Target target, Seq done);

  // Out of lists, and into them again. FailedPrecondition while it runs.
  void Archive(Target target, Got<sessions::SessionRow> done);
  void Unarchive(Target target, Got<sessions::SessionRow> done);

  void Status(std::string id, Got<SessionStatus> done);

  // What the session has changed, as of its last checkpoint (the end of its last call that changed anything);
  // a session at work is not halted for it.
  void Diff(std::string id, DiffRequest what, Got<FilesDiff> done);

  size_t open_sessions() const;

 private:
  using Row = sessions::SessionRow;
  template <class T>
  using Shared = std::shared_ptr<manager::Operation<T>>;  // by its steps, which come one after the other
  template <class T>
  using Again = std::function<void(const std::string& id, uint64_t seq, Got<T> done)>;
  using Position = std::function<base::StatusOr<uint64_t>(const SessionWorker&)>;

  // Puts on record what `make` makes of the session as it is, at once.
  struct Changes;
  using Make = absl::AnyInvocable<base::Status(const SessionWorker&, Changes&)>;
  void Change(std::string id, manager::Request request, Make make, Seq done);

  // Halts the session and runs the first step of an operation on it; `again` answers a repeat.
  template <class T>
  void Alone(const std::string& id, const manager::Request& request, Got<T> done, Again<T> again,
             std::function<void(Shared<T>)> run);
  void AnswerRow(const std::string& id, Got<Row> done) { store_.Get(id, std::move(done)); }

  // Why a session cannot be made with the tools of its profile.
  base::Status CheckTools(const ProfileSet& profile) const;
  // `ended`: what the answer has become, bounded.
  void EndCall(const std::string& id, const ClientAnswer& answer, const tools::ToolResult& ended, Seq done);
  // Of a call that is not with a client: it has ended so before, or why not.
  void AnswerAgain(const std::string& id, const SessionWorker& worker, const ClientAnswer& answer, Seq done);

  // The id of a session that is made, when none was asked for.
  std::string NewId(const manager::Request& request);
  // A session of this id is here already: `exists`, unless the same request has made it.
  void AnswerExisting(const std::string& id, const manager::Request& request, base::Status exists,
                      Got<Row> done);
  // Tells of events that became durable while the session was not open.
  void Tell(const std::string& id, uint64_t after_seq, absl::AnyInvocable<void()> then);
  sessions::SessionCreated ForkOf(const SessionWorker& parent, uint64_t seq);
  void ForkFiles(const Shared<Row>& fork, SessionFiles* files, const std::string& id);
  void GoBack(Target target, std::string_view what, Position to, Seq done);
  void ReportOf(const std::string& id, uint64_t seq, Got<FilesReport> done);
  void SetArchived(Target target, std::string_view what, bool archived, Got<Row> done);
  uint32_t NewStream() { return static_cast<uint32_t>(entropy_.Next64() >> 33) + 1; }
  sessions::SessionUid NewUid();

  const WorkerParts parts_;
  sessions::SessionStore& store_;
  base::Entropy& entropy_;
  const size_t open_max_;
  const std::function<void(const std::string&, const sessions::Event&)> on_event_;
  const std::unique_ptr<manager::SessionTable> table_;
};

}  // namespace holdfast::agent
