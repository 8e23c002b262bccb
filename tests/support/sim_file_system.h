// A disk in memory that knows what is durable, fails on demand, and crashes.
//
//   SimClock clock;
//   SimFileSystem fs(clock, {.seed = seed});
//   for (uint64_t n = 1;; ++n) {            // a crash at every change
//     fs.CrashAtMutation(n);
//     Scenario(fs);                         // from the crash on, every call fails
//     if (!fs.crashed()) break;
//     fs.Restart();                         // what survived: synced data, and of the rest what the seed
//     keeps CheckRecovered(fs);
//   }
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_disk.h"

namespace holdfast::test {

enum class SimOp {
  kOpen,  // Open, Map, ReadFile and Lock
  kRead,  // File::ReadAt and the reading of ReadFile
  // From here on they change the disk: they count as mutations.
  kCreate,  // a file, a lock file, a directory
  kWrite,
  kTruncate,
  kPreallocate,
  kSync,  // File::Sync and DataSync
  kRename,
  kRemove,
  kSyncDirectory,
};
inline constexpr size_t kSimOpCount = 10;

struct SimDiskOptions {
  uint64_t seed = 1;
  uint64_t disk_bytes_max = UINT64_MAX;  // beyond it: ENOSPC
  uint64_t file_bytes_max = 64 << 20;    // beyond it: EFBIG
  // Planted faults, for tests of tests.
  bool lying_syncs = false;            // File::Sync and DataSync do nothing
  bool lying_directory_syncs = false;  // SyncDirectory does nothing
  uint64_t lost_writes_percent = 0;    // of 100 writes: seen until a crash, and never on the disk
};

// As the FileSystem contract says, with these limits: no links, no "..", and a mapping of a part that is cut
// off later reads zeros, and is damaged as long as the file stays so, read or not. Relative paths start at
// the root. Safe to use from any thread. Outlives its files; a file from before a crash answers Unavailable
// for ever. Mappings from before a crash keep their bytes.
class SimFileSystem final : public base::FileSystem {
 public:
  explicit SimFileSystem(base::Clock& clock, SimDiskOptions options = {});
  ~SimFileSystem() override;

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

  // Lets the next `op` on a path that contains `path_part` fail with `error`, after `skip` that pass. A
  // failed write has written some of its bytes; what a failed sync should have saved is lost in a crash,
  // whatever is synced later.
  void FailNext(SimOp op, std::string path_part, int error, uint64_t skip = 0);

  // How many of the FailNext with exactly this `path_part` have not come true yet.
  size_t FaultsWaiting(std::string_view path_part) const;

  // Takes back every FailNext that has not come true.
  void ForgetFaults();

  // From now on `percent` of 100 `op` fail with `error`; 0 ends it.
  void FailRandomly(SimOp op, uint64_t percent, int error);

  // From now on `percent` of 100 reads end early, as if the file ended there.
  void CutReads(uint64_t percent);

  // What Info says from now on; a local disk at first.
  void SetNetwork(bool network);

  // Flips one bit of the synced content of a file, as a bad disk does.
  void FlipBit(const std::string& path, uint64_t bit);

  // The `n`-th mutation from now on, n >= 1, crashes the machine; 0 takes it back. The seed decides whether
  // that mutation is still made.
  void CrashAtMutation(uint64_t n);

  // The power goes now: every call fails with Unavailable until Restart.
  void Crash();
  bool crashed() const;

  // The disk as found after a crash (of now, when none has happened). Takes back CrashAtMutation; locks are
  // gone.
  void Restart();

  uint64_t mutations() const;

 private:
  friend class SimFile;
  friend class SimLock;
  friend class SimMappedFile;

  struct PlannedFault {
    SimOp op;
    std::string path_part;
    int error;
    uint64_t skip;
  };
  struct RandomFault {
    uint64_t percent = 0;
    int error = 0;
  };
  struct Place {  // where a path leads: a name in an existing directory
    SimDirectoryPtr directory;
    std::string name;   // empty for the root
    SimInodePtr inode;  // null when there is none of that name
  };

  // All of these want mu_ held.
  base::Status Check(SimOp op, const std::string& path);
  base::Status CheckAlive(const std::string& path) const;
  template <class F>
  base::Status Mutate(SimOp op, const std::string& path, F&& change);
  base::StatusOr<Place> Find(const std::string& path);
  base::StatusOr<SimInodePtr> FindExisting(const std::string& path, std::string_view operation);
  base::StatusOr<SimFilePtr> FindFile(const std::string& path);
  base::StatusOr<SimFilePtr> OpenFile(const std::string& path, base::OpenMode mode);
  base::StatusOr<SimFilePtr> CreateFile(const Place& place, const std::string& path);
  base::Status CreateDirectory(const std::string& path);
  base::Status RenameChecked(const Place& from, const Place& to, const std::string& what);
  base::Status Grow(const SimFileNode& file, uint64_t size, const std::string& path) const;
  base::Status WriteSome(SimFileNode& file, uint64_t offset, std::span<const std::byte> data,
                         const std::string& path);
  uint64_t UsedBytes() const;
  SimDirectoryPtr RestoreDirectory(const SimDirectoryNode& old);
  SimInodePtr RestoreInode(const SimInodePtr& old);
  void Touch(SimInode& inode) const { inode.changed = clock_.UtcNow(); }

  base::Clock& clock_;
  const SimDiskOptions options_;

  mutable std::mutex mu_;  // guards all that follows
  SeededRandom random_;
  SimDirectoryPtr root_;
  uint64_t next_inode_ = 1;
  uint64_t next_change_ = 1;
  std::set<uint64_t> locked_inodes_;
  std::map<uint64_t, SimInodePtr> restored_;  // old inode -> new one, while Restart runs
  std::vector<PlannedFault> planned_faults_;
  std::array<RandomFault, kSimOpCount> random_faults_;
  uint64_t cut_reads_percent_ = 0;
  bool network_ = false;
  uint64_t mutations_ = 0;
  uint64_t crash_at_ = 0;
  uint64_t boot_ = 1;  // raised by Restart: files of another boot are dead
  bool crashed_ = false;
};

}  // namespace holdfast::test
