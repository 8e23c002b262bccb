// A Tree in memory that knows what is durable, and crashes.
//
//   SimTree tree(clock, {.seed = seed});
//   tree.JoinPower(fs);                     // a SimFileSystem: when one loses its power, so does the other
//   for (uint64_t n = 1;; ++n) {            // a crash at every change
//     ... a fresh tree ...
//     tree.CrashAtMutation(n);
//     Scenario(tree);                       // from the crash on, every call fails
//     if (!tree.crashed()) break;
//     fs.Restart(); tree.Restart();         // what survived
//     CheckRecovered(tree);
//   }
//
// Durable is: the content, size and mode of a file after File::Sync of it; names after SyncDirectory of the
// directory that holds them; a directory's own mode and opaque mark after SyncDirectory of it. Of the rest a
// crash keeps, loses, tears and reorders what the seed says, as tests/support/sim_disk.h describes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_disk.h"
#include "tests/support/sim_file_system.h"
#include "workspace/tree.h"

namespace holdfast::test {

struct SimTreeOptions {
  uint64_t seed = 1;
  uint64_t file_bytes_max = 1 << 20;  // beyond it: EFBIG
  // Planted faults, for tests of tests.
  bool lying_syncs = false;            // File::Sync does nothing
  bool lying_directory_syncs = false;  // SyncDirectory does nothing
};

// As the contract of Tree with Links::kRefuse. Safe to use from any thread. Outlives its files; a file from
// before a crash answers Unavailable for ever.
class SimTree final : public workspace::Tree {
 public:
  explicit SimTree(base::Clock& clock, SimTreeOptions options = {});
  ~SimTree() override;

  base::StatusOr<workspace::EntryStat> Stat(std::string_view path) override;
  base::StatusOr<workspace::EntryStat> StatTarget(std::string_view path) override { return Stat(path); }
  base::StatusOr<std::vector<workspace::Entry>> List(std::string_view path, size_t entries_max) override;
  base::StatusOr<std::vector<workspace::NamedKind>> Names(std::string_view path, size_t entries_max) override;
  base::StatusOr<std::unique_ptr<base::File>> OpenFile(std::string_view path) override;
  base::StatusOr<std::unique_ptr<base::File>> OpenFileForWriting(std::string_view path) override;
  base::StatusOr<workspace::EntryStat> StatOpen(base::File& file) override;
  base::StatusOr<std::unique_ptr<base::File>> CreateFile(std::string_view path, uint32_t mode) override;
  base::StatusOr<std::string> ReadLink(std::string_view path) override;
  base::Status MakeLink(std::string_view path, std::string_view target) override;
  base::Status MakeDirectory(std::string_view path, uint32_t mode) override;
  base::Status MakeWhiteout(std::string_view path) override;
  base::Status SetMode(std::string_view path, uint32_t mode) override;
  base::StatusOr<bool> IsOpaque(std::string_view path) override;
  base::Status SetOpaque(std::string_view path, bool opaque) override;
  base::Status Rename(std::string_view from, std::string_view to, workspace::Replace replace) override;
  base::Status Remove(std::string_view path) override;
  base::Status SyncDirectory(std::string_view path) override;

  // A FIFO, as a guest can make one.
  base::Status MakeOther(std::string_view path);

  // The `n`-th mutation from now on, n >= 1, crashes the machine; 0 takes it back. The seed decides whether
  // that mutation is still made.
  void CrashAtMutation(uint64_t n);

  // The power goes now: every call fails with Unavailable until Restart.
  void Crash();
  bool crashed() const;
  uint64_t mutations() const;

  // One machine: a crash of either is one of both. `fs` must outlive the tree. Each has its own Restart.
  void JoinPower(SimFileSystem& fs);

  // The tree as found after a crash (of now, when none has happened).
  void Restart();

  // Lets the next mutation of a path that contains `path_part` fail with `error`, after `skip` that pass.
  void FailNext(std::string path_part, int error, uint64_t skip = 0);

  // Everything in it as text, one line an entry, for comparing: "f 644 a/b: content", "d 755 a opaque",
  // "l a -> b", "w a", "o a".
  std::string Dump() const;

 private:
  friend class SimTreeFile;

  struct Meta {
    uint32_t mode = 0;
    bool opaque = false;
    friend bool operator==(const Meta&, const Meta&) = default;
  };
  struct Attributes {
    Meta now, durable;
    int64_t mtime_ns = 0;
    int64_t ctime_ns = 0;
  };
  struct Place {
    SimDirectoryPtr directory;
    std::string name;   // empty for the root
    SimInodePtr inode;  // null when there is none of that name
  };
  struct PlannedFault {
    std::string path_part;
    int error;
    uint64_t skip;
  };

  // All of these want mu_ held.
  base::Status CheckAlive(std::string_view path) const;
  template <class F>
  base::Status Mutate(std::string_view path, F&& change);
  base::StatusOr<Place> Find(std::string_view path) const;
  base::StatusOr<Place> FindExisting(std::string_view path) const;
  base::StatusOr<SimDirectoryPtr> FindDirectory(std::string_view path) const;
  base::Status Create(std::string_view path, SimInodePtr inode, uint32_t mode);
  base::StatusOr<std::unique_ptr<base::File>> Open(std::string_view path, bool writable);
  workspace::EntryStat StatOf(const SimInode& inode) const;
  workspace::EntryKind KindOf(const SimInode& inode) const;
  void Touch(const SimInode& inode, bool content);
  SimDirectoryPtr RestoreDirectory(const SimDirectoryNode& old);
  SimInodePtr RestoreInode(const SimInodePtr& old);
  void DumpDirectory(const SimDirectoryNode& directory, const std::string& prefix, std::string& out) const;

  base::Clock& clock_;
  const SimTreeOptions options_;

  mutable std::mutex mu_;  // guards all that follows
  SeededRandom random_;
  SimDirectoryPtr root_;
  std::map<uint64_t, Attributes> attributes_;  // by inode
  uint64_t next_inode_ = 1;
  uint64_t next_change_ = 1;
  std::map<uint64_t, SimInodePtr> restored_;  // old inode -> new one, while Restart runs
  std::vector<PlannedFault> planned_faults_;
  SimFileSystem* joined_ = nullptr;
  uint64_t mutations_ = 0;
  uint64_t crash_at_ = 0;
  uint64_t boot_ = 1;
  bool crashed_ = false;
};

}  // namespace holdfast::test
