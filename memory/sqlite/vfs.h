// SQLite's files through base::FileSystem, so that a simulated disk drives SQLite too.
//
// Locks and the shared memory of the WAL live in this process: a database belongs to one process
// (SqliteDatabase holds a lock file), whose connections meet here. What another program does to the files
// behind our back is noticed at the next sync of the WAL when it was removed or replaced, before anything is
// acknowledged.
//
// Threads: safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/status.h"

struct sqlite3_vfs;

namespace holdfast::memory::sqlite {

// What the connections of one file share.
struct SharedFile {
  static constexpr int kShmLocks = 8;

  std::atomic<uint32_t> barrier{0};

  std::mutex mu;  // guards all that follows
  int shared_locks = 0;
  const void* reserved = nullptr;  // the open file that holds it
  const void* pending = nullptr;
  const void* exclusive = nullptr;

  std::vector<std::unique_ptr<std::byte[]>> shm_regions;
  int shm_shared[kShmLocks] = {};
  const void* shm_exclusive[kShmLocks] = {};
  int shm_users = 0;

  bool draining = false;  // read-only connections that want to begin reading wait
  std::condition_variable changed;

  // Keeps read-only connections from beginning to read, and waits until those that do have ended; true when
  // they have in time. To be followed by EndDrain.
  bool Drain(int64_t wait_ms_max);
  void EndDrain();
};

// One registered VFS. Outlives the connections that use it.
class Vfs {
 public:
  // `wal_bytes_max`: a WAL never gets larger; what would make it so fails with SQLITE_FULL.
  Vfs(base::FileSystem& fs, base::Clock& clock, uint64_t wal_bytes_max);
  ~Vfs();
  Vfs(const Vfs&) = delete;
  Vfs& operator=(const Vfs&) = delete;

  const char* name() const { return name_.c_str(); }
  base::FileSystem& fs() const { return fs_; }
  base::Clock& clock() const { return clock_; }

  uint64_t wal_bytes_max() const;
  void set_wal_bytes_max(uint64_t bytes);

  // The last error of a file, which SQLite's codes do not tell; OK when there was none since the last call.
  base::Status TakeError();
  void NoteError(const base::Status& status);

  // Whether any file is open.
  bool in_use() const;

  // The shared part of a file, kept as long as it is used.
  std::shared_ptr<SharedFile> Share(const std::string& path);  // shared_ptr: by all connections to one file

 private:
  base::FileSystem& fs_;
  base::Clock& clock_;
  const std::string name_;
  const std::unique_ptr<sqlite3_vfs> vfs_;

  mutable std::mutex mu_;  // guards all that follows
  uint64_t wal_bytes_max_;
  base::Status error_;
  std::map<std::string, std::weak_ptr<SharedFile>> shared_;
};

}  // namespace holdfast::memory::sqlite
