// The machine under the simulated sessions: a disk that notes what was being written when it stopped, the
// live layers of the sessions, and what the world outside has seen of them. All of it outlives processes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "sessions/event.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::agent::simulation {

// Bugs that the oracle has to find. Each is a lie of something that the code under test relies on.
enum class Plant : uint8_t {
  kNone,
  kSkippedDatabaseSync,  // the disk says that the database's files are synced, and they are not
  kSwappedWrites,        // the last write to the WAL before a sync reaches the disk after it
  kEarlyManifest,        // a checkpoint answers before its manifest is durable
  kEarlyIntent,          // an intent counts as committed before it is, so that its call starts first
  kEarlyTokens,          // a batch of tokens is acknowledged before it is durable
  kRunsUnknownAgain,     // recovery leaves out the unknown outcomes, and the calls run once more
};

// Every file system call of a process. It ends the process at a given change of the disk, knows of which file
// and operation the last one was, and lies for some plants.
class ProcessFiles final : public base::FileSystem {
 public:
  ProcessFiles(test::SimFileSystem& disk, Plant plant) : disk_(disk), plant_(plant) {}

  // The process dies with the `n`-th change from now on, n >= 1: what was written stays readable, and every
  // later call fails. The change itself is made when `made`.
  void DieAtChange(uint64_t n, bool made);
  // It dies now.
  void Die() { dead_ = true; }
  // Dead, or the whole machine is.
  bool ended() const { return dead_ || disk_.crashed(); }
  // "wal write", "blobs fsync", ...: the change with which it ended; empty when it ended between two.
  const std::string& ended_in() const { return ended_in_; }

  base::StatusOr<std::unique_ptr<base::MappedFile>> Map(const std::string& path) override;
  base::StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes) override;
  base::StatusOr<std::unique_ptr<base::File>> Open(const std::string& path, base::OpenMode mode) override;
  base::Status Rename(const std::string& from, const std::string& to) override;
  base::Status Remove(const std::string& path) override;
  base::Status CreateDirectories(const std::string& path) override;
  base::Status SyncDirectory(const std::string& path) override;
  base::StatusOr<std::vector<base::DirectoryEntry>> List(const std::string& path,
                                                         size_t max_entries) override;
  base::StatusOr<base::FileStat> Stat(const std::string& path) override;
  base::StatusOr<base::FileSystemInfo> Info(const std::string& path) override;
  base::StatusOr<std::unique_ptr<base::FileLock>> Lock(const std::string& path) override;

 private:
  friend class ProcessFile;
  base::Status Alive(const std::string& path) const;
  template <class Call>
  auto Change(const char* operation, const std::string& path, Call call) -> decltype(call());

  test::SimFileSystem& disk_;
  const Plant plant_;
  uint64_t die_in_ = 0;  // changes; 0: never
  bool make_last_ = false;
  bool dead_ = false;
  std::string ended_in_;
};

using Files = std::map<std::string, std::string>;

// What a manifest of these files holds; its id is the SHA-256 of that.
std::string EncodeFiles(const Files& files);
Files DecodeFiles(const std::string& bytes);
base::Sha256Digest ManifestOf(const Files& files);

// Events that were handed to the log and not answered.
struct PendingAppend {
  uint64_t first_seq = 0;
  std::vector<sessions::EventBody> bodies;
};

// What a session is in the middle of; for the count of places at which it was killed.
struct Progress {
  std::map<uint64_t, PendingAppend> appends;  // by first_seq
  size_t running = 0;                         // calls
  bool ended = false;                         // a call has ended, its checkpoint is not done
  bool checkpointed = false;                  // its outcome is not handed over
  bool intended = false;                      // an intent is durable, the call has not started
};

// The steps of recovery (sessions/recovery.h), and what is behind them.
enum class RecoveryStep : uint8_t {
  kLeaseTaken = 1,
  kPlanMade,
  kPlanCommitted,
  kWorkspaceRestored,
  kCallsStarted,
  kGoingOn,
};

// What is known of a session beside its record.
struct Witness {
  Files layer;            // live
  bool same_boot = true;  // it is as it was left
  // By number, kind and bytes of every event whose Append was answered with OK.
  std::map<uint64_t, std::string> acknowledged;
  std::map<std::string, int> sent;  // runs of `send`, by canonical arguments
  std::set<std::string> said;       // request ids of inputs that were answered with OK
  bool disturbed = false;           // by its user: it cannot be as if it had been left alone
  Progress progress;
  bool opened = false;  // by the process that runs
  // Of the last process that has opened it: how far its recovery was, and in what the process ended.
  RecoveryStep step = RecoveryStep::kLeaseTaken;
  std::string ended_in;  // empty: there was none
  // Of the same, when it ended: what its destructors do is not looked at.
  RecoveryStep step_at_end = RecoveryStep::kLeaseTaken;
  Progress progress_at_end;
};

// The bytes by which two events are compared.
std::string BytesOf(const sessions::EventBody& body);

struct Machine {
  Machine(uint64_t seed, Plant planted);

  // The power is gone and comes back: layers hold whatever the disk makes of them.
  void Reboot();

  const Plant plant;
  test::SimClock clock;
  test::SimFileSystem disk;
  std::map<std::string, Witness> witnesses;  // by session
};

}  // namespace holdfast::agent::simulation
