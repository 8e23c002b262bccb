// One process of the simulated runtime, from its start to its end or its death: opens the stores, recovers
// every session, or makes it, and works on it until it rests. The store of sessions, SQLite, the KV and blob
// stores, the scheduler, the dispatcher and the turn loop are the real ones.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/turn_loop.h"
#include "memory/blob_store.h"
#include "memory/block_store.h"
#include "memory/sqlite_database.h"
#include "sessions/kv_flusher.h"
#include "sessions/kv_timeline.h"
#include "sessions/recovery.h"
#include "sessions/session_store.h"
#include "tests/agent/simulation_machine.h"
#include "tests/support/sim_executor.h"
#include "tools/dispatcher.h"
#include "tools/registry.h"

namespace holdfast::agent::simulation {

// What recovery finds and does: the lines of docs/durability.md.
enum class RecoveryLine : uint8_t {
  // Where an earlier recovery had stopped: sessions/recovery.h, after its step 1, 2, ...
  kStoppedWithTheLease,
  kStoppedWithThePlan,
  kStoppedWithThePlanCommitted,
  kStoppedWithTheWorkspaceRestored,
  kStoppedWithCallsStartedAgain,
  // What the workspace was found as.
  kLayerOfTheSameBoot,
  kLayerOfAnotherBoot,
  // What the session was in.
  kNothingToDo,
  kTurnUnspoken,    // something is untold
  kTurnHalfSpoken,  // sampling goes on from the last committed token
  kTurnSpoken,      // complete, with calls of which none has begun
  kOutcomesUntold,
  // What becomes of open calls.
  kContainedSameBoot,
  kContainedOtherBoot,
  kReadOnly,
  kIdempotent,
  kUnknownSameBoot,
  kUnknownOtherBoot,
  // What the stores have to do.
  kKvAttached,  // after a restart, KV was found and not computed again
  kUnacknowledgedKept,
  kUnacknowledgedLost,
};
inline constexpr size_t kRecoveryLineCount = static_cast<size_t>(RecoveryLine::kUnacknowledgedLost) + 1;
const char* NameOf(RecoveryLine line);

// What many runs add up to.
struct Counts {
  std::map<std::string, uint64_t> crash_points;  // "after start | wal fsync"
  uint64_t recovery_lines[kRecoveryLineCount] = {};
  void Hit(RecoveryLine line) { ++recovery_lines[static_cast<size_t>(line)]; }
};

struct SessionSpec {
  std::string id;
  uint64_t seed = 0;  // of its sampling: what it does when it is left alone follows from it
};

class Process {
 public:
  // `executor_seed` decides the order of tasks and how long they take. All outlive the process.
  Process(Machine& machine, ProcessFiles& files, const std::vector<SessionSpec>& specs,
          uint64_t executor_seed, Counts& counts);
  ~Process();

  // One task; false when there is none.
  bool Step() { return executor_.RunOne(); }

  // Every session rests with nothing untold.
  bool rested() const;
  // The first error that ended a session, or kept the stores from being opened.
  const base::Status& failed() const { return failed_; }
  Rest RestOf(const std::string& session) const;

  // It has ended, in this change of the disk ("wal write"), by an "error", or between two tasks ("task").
  void NoteEnd(const std::string& what);

  // By the user of a session. False before its recovery is over, or when it has rested for good.
  bool Interrupt(const std::string& session);
  bool Say(const std::string& session, const std::string& request_id, const std::string& text);

 private:
  class Session;
  friend class Session;
  base::Status Open();

  Machine& machine_;
  ProcessFiles& files_;
  Counts& counts_;
  test::SimExecutor executor_;
  std::unique_ptr<memory::SqliteDatabase> database_;
  std::unique_ptr<sessions::SessionStore> sessions_store_;
  std::unique_ptr<memory::BlobStore> blobs_;
  std::unique_ptr<memory::BlockStore> blocks_;
  std::unique_ptr<sessions::KvCache> cache_;
  std::unique_ptr<sessions::KvFlusher> flusher_;
  std::unique_ptr<sessions::Scheduler> scheduler_;
  tools::Registry registry_;
  tools::Toolset toolset_;
  tools::PermissionPolicy policy_;
  std::map<std::string, std::unique_ptr<Session>> sessions_;
  base::Status failed_;
};

// The stores of a machine that is not running.
struct OpenedRecord {
  std::vector<sessions::Event> events;
  bool manifests_durable = true;  // every manifest that an outcome names can be read
};
base::StatusOr<OpenedRecord> ReadRecord(Machine& machine, const std::string& session);

}  // namespace holdfast::agent::simulation
