#include "memory/sqlite/vfs.h"

#include <sqlite3.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/random.h"

namespace holdfast::memory::sqlite {
namespace {

constexpr int64_t kUnixEpochJulianMs = 210866760000000;  // of the Julian day clock that SQLite counts in
constexpr int kPathBytesMax = 4096;
constexpr int kSectorBytes = 4096;
// Of the WAL's locks: writer, checkpointer, recovery, then readers.
constexpr int kWriteLock = 0;
constexpr int kFirstReadLock = 3;
constexpr std::chrono::seconds kReaderLooksMax{5};

using Guard = std::lock_guard<std::mutex>;

// An open file. SQLite gives the memory, and knows the first member only.
struct VfsFile {
  sqlite3_file base;
  struct State {
    Vfs* vfs;
    std::unique_ptr<base::File> file;
    std::string path;
    std::shared_ptr<SharedFile> shared;  // shared_ptr: see Vfs::Share
    bool is_wal;
    bool read_only;
    bool name_synced;  // this process has saved the name too
    uint64_t inode;
    int lock = SQLITE_LOCK_NONE;
    bool uses_shm = false;
    uint32_t shm_shared = 0;  // bits of the locks this file holds
    uint32_t shm_exclusive = 0;
  };
  State* state;  // null: not open
};

VfsFile::State& StateOf(sqlite3_file* file) { return *reinterpret_cast<VfsFile*>(file)->state; }
Vfs& VfsOf(sqlite3_vfs* vfs) { return *static_cast<Vfs*>(vfs->pAppData); }

int Fail(Vfs& vfs, const base::Status& status, int code) {
  vfs.NoteError(status);
  return absl::IsResourceExhausted(status) ? SQLITE_FULL : code;
}

// --- Files

// A file that ends early reads as zeros, and SQLite goes on; a read that ends early must not look so.
int Read(sqlite3_file* file, void* out, int amount, sqlite3_int64 offset) {
  VfsFile::State& f = StateOf(file);
  const auto want = static_cast<size_t>(amount);
  const std::span<std::byte> bytes(static_cast<std::byte*>(out), want);
  const auto at = static_cast<uint64_t>(offset);
  for (int attempt = 0; attempt < 2; ++attempt) {
    const auto n = f.file->ReadAt(at, bytes);
    if (!n.ok()) return Fail(*f.vfs, n.status(), SQLITE_IOERR_READ);
    if (*n == want) return SQLITE_OK;
    const auto size = f.file->Size();
    if (!size.ok()) return Fail(*f.vfs, size.status(), SQLITE_IOERR_FSTAT);
    if (at + *n < *size) continue;
    std::memset(bytes.data() + *n, 0, want - *n);
    return SQLITE_IOERR_SHORT_READ;
  }
  return Fail(*f.vfs, base::DataLoss(f.path + ": a read ended inside the file"), SQLITE_IOERR_READ);
}

int Write(sqlite3_file* file, const void* data, int amount, sqlite3_int64 offset) {
  VfsFile::State& f = StateOf(file);
  const auto at = static_cast<uint64_t>(offset);
  const auto size = static_cast<size_t>(amount);
  if (f.is_wal && at + size > f.vfs->wal_bytes_max())
    return Fail(*f.vfs,
                base::ResourceExhausted(f.path + ": would exceed its bound of " +
                                        std::to_string(f.vfs->wal_bytes_max()) + " bytes"),
                SQLITE_FULL);
  const base::Status status = f.file->WriteAt(at, {static_cast<const std::byte*>(data), size});
  return status.ok() ? SQLITE_OK : Fail(*f.vfs, status, SQLITE_IOERR_WRITE);
}

int Truncate(sqlite3_file* file, sqlite3_int64 size) {
  VfsFile::State& f = StateOf(file);
  const base::Status status = f.file->Truncate(static_cast<uint64_t>(size));
  return status.ok() ? SQLITE_OK : Fail(*f.vfs, status, SQLITE_IOERR_TRUNCATE);
}

base::Status SyncState(VfsFile::State& f, bool data_only) {
  if (f.is_wal) {
    HF_ASSIGN_OR_RETURN(const base::FileStat stat, f.vfs->fs().Stat(f.path));
    if (stat.inode != f.inode)
      return base::Internal(f.path + ": replaced by another program while it was open");
  }
  HF_RETURN_IF_ERROR(data_only ? f.file->DataSync() : f.file->Sync());
  // Whoever made the file may have died before its name was on the disk, so the first sync of each process
  // sees to it.
  if (f.name_synced) return absl::OkStatus();
  HF_RETURN_IF_ERROR(f.vfs->fs().SyncDirectory(base::ParentDirectory(f.path)));
  f.name_synced = true;
  return absl::OkStatus();
}

int Sync(sqlite3_file* file, int flags) {
  VfsFile::State& f = StateOf(file);
  const base::Status status = SyncState(f, (flags & SQLITE_SYNC_DATAONLY) != 0);
  return status.ok() ? SQLITE_OK : Fail(*f.vfs, status, SQLITE_IOERR_FSYNC);
}

int FileSize(sqlite3_file* file, sqlite3_int64* size) {
  VfsFile::State& f = StateOf(file);
  const auto bytes = f.file->Size();
  if (!bytes.ok()) return Fail(*f.vfs, bytes.status(), SQLITE_IOERR_FSTAT);
  *size = static_cast<sqlite3_int64>(*bytes);
  return SQLITE_OK;
}

// --- Locks of the file: SQLite's five levels

bool HeldByOther(const void* holder, const void* me) { return holder != nullptr && holder != me; }

int Lock(sqlite3_file* file, int level) {
  VfsFile::State& f = StateOf(file);
  if (f.lock >= level) return SQLITE_OK;
  SharedFile& shared = *f.shared;
  const Guard lock(shared.mu);
  if (HeldByOther(shared.pending, &f) || HeldByOther(shared.exclusive, &f)) return SQLITE_BUSY;
  if (f.lock == SQLITE_LOCK_NONE) {
    ++shared.shared_locks;
    f.lock = SQLITE_LOCK_SHARED;
    if (level == SQLITE_LOCK_SHARED) return SQLITE_OK;
  }
  if (HeldByOther(shared.reserved, &f)) return SQLITE_BUSY;
  if (level == SQLITE_LOCK_RESERVED) {
    shared.reserved = &f;
    f.lock = level;
    return SQLITE_OK;
  }
  shared.pending = &f;  // keeps new readers out while the old ones finish
  f.lock = std::max(f.lock, SQLITE_LOCK_PENDING);
  if (shared.shared_locks > 1) return SQLITE_BUSY;
  shared.exclusive = &f;
  f.lock = SQLITE_LOCK_EXCLUSIVE;
  return SQLITE_OK;
}

int Unlock(sqlite3_file* file, int level) {
  VfsFile::State& f = StateOf(file);
  if (f.lock <= level) return SQLITE_OK;
  SharedFile& shared = *f.shared;
  const Guard lock(shared.mu);
  for (const void** holder : {&shared.reserved, &shared.pending, &shared.exclusive})
    if (*holder == &f) *holder = nullptr;
  if (level == SQLITE_LOCK_NONE) --shared.shared_locks;
  f.lock = level;
  return SQLITE_OK;
}

int CheckReservedLock(sqlite3_file* file, int* result) {
  VfsFile::State& f = StateOf(file);
  const Guard lock(f.shared->mu);
  *result = f.shared->reserved != nullptr ? 1 : 0;
  return SQLITE_OK;
}

// --- Shared memory of the WAL

int ShmMap(sqlite3_file* file, int region, int bytes, int extend, void volatile** out) {
  VfsFile::State& f = StateOf(file);
  SharedFile& shared = *f.shared;
  const Guard lock(shared.mu);
  if (!f.uses_shm) ++shared.shm_users;
  f.uses_shm = true;
  *out = nullptr;
  const auto index = static_cast<size_t>(region);
  if (index >= shared.shm_regions.size() && extend == 0) return SQLITE_OK;
  while (index >= shared.shm_regions.size())
    shared.shm_regions.push_back(std::make_unique<std::byte[]>(static_cast<size_t>(bytes)));
  *out = shared.shm_regions[index].get();
  return SQLITE_OK;
}

int ShmUnlockRange(VfsFile::State& f, int first, int count) {
  for (int i = first; i < first + count; ++i) {
    const uint32_t bit = 1u << i;
    if ((f.shm_shared & bit) != 0) --f.shared->shm_shared[i];
    if ((f.shm_exclusive & bit) != 0) f.shared->shm_exclusive[i] = nullptr;
    f.shm_shared &= ~bit;
    f.shm_exclusive &= ~bit;
  }
  f.shared->changed.notify_all();
  return SQLITE_OK;
}

int ShmLock(sqlite3_file* file, int first, int count, int flags) {
  VfsFile::State& f = StateOf(file);
  SharedFile& shared = *f.shared;
  std::unique_lock<std::mutex> lock(shared.mu);
  if ((flags & SQLITE_SHM_UNLOCK) != 0) return ShmUnlockRange(f, first, count);
  if (f.read_only && first >= kFirstReadLock) shared.changed.wait(lock, [&] { return !shared.draining; });
  const bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
  // A reader that meets the index in the middle of a change takes the writer's lock for another look. There
  // is one writer: who else holds that lock is such a reader.
  if (!f.read_only && exclusive && first == kWriteLock) {
    shared.changed.wait_for(lock, kReaderLooksMax,
                            [&] { return !HeldByOther(shared.shm_exclusive[kWriteLock], &f); });
  }
  for (int i = first; i < first + count; ++i) {
    const int mine = (f.shm_shared >> i & 1u) != 0 ? 1 : 0;
    if (HeldByOther(shared.shm_exclusive[i], &f)) return SQLITE_BUSY;
    if (exclusive && shared.shm_shared[i] > mine) return SQLITE_BUSY;
  }
  for (int i = first; i < first + count; ++i) {
    const uint32_t bit = 1u << i;
    if (exclusive) {
      shared.shm_exclusive[i] = &f;
      f.shm_exclusive |= bit;
    } else if ((f.shm_shared & bit) == 0) {
      ++shared.shm_shared[i];
      f.shm_shared |= bit;
    }
  }
  return SQLITE_OK;
}

void ShmBarrier(sqlite3_file* file) {
  SharedFile& shared = *StateOf(file).shared;
  shared.barrier.fetch_add(1, std::memory_order_seq_cst);  // ThreadSanitizer knows no fences
  const Guard lock(shared.mu);
}

int ShmUnmap(sqlite3_file* file, int /*delete_it*/) {
  VfsFile::State& f = StateOf(file);
  const Guard lock(f.shared->mu);
  ShmUnlockRange(f, 0, SharedFile::kShmLocks);
  if (f.uses_shm && --f.shared->shm_users == 0) f.shared->shm_regions.clear();
  f.uses_shm = false;
  return SQLITE_OK;
}

int Close(sqlite3_file* file) {
  auto* const f = reinterpret_cast<VfsFile*>(file);
  ShmUnmap(file, 0);
  Unlock(file, SQLITE_LOCK_NONE);
  delete std::exchange(f->state, nullptr);
  return SQLITE_OK;
}

int FileControl(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int SectorSize(sqlite3_file*) { return kSectorBytes; }
// A write changes no byte outside of it, whatever happens to the power.
int DeviceCharacteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

constexpr sqlite3_io_methods kMethods = {
    .iVersion = 2,
    .xClose = Close,
    .xRead = Read,
    .xWrite = Write,
    .xTruncate = Truncate,
    .xSync = Sync,
    .xFileSize = FileSize,
    .xLock = Lock,
    .xUnlock = Unlock,
    .xCheckReservedLock = CheckReservedLock,
    .xFileControl = FileControl,
    .xSectorSize = SectorSize,
    .xDeviceCharacteristics = DeviceCharacteristics,
    .xShmMap = ShmMap,
    .xShmLock = ShmLock,
    .xShmBarrier = ShmBarrier,
    .xShmUnmap = ShmUnmap,
    .xFetch = nullptr,
    .xUnfetch = nullptr,
};

// --- The file system

base::OpenMode ModeOf(int flags) {
  if ((flags & SQLITE_OPEN_READONLY) != 0) return base::OpenMode::kRead;
  if ((flags & SQLITE_OPEN_CREATE) == 0) return base::OpenMode::kReadWrite;
  return (flags & SQLITE_OPEN_EXCLUSIVE) != 0 ? base::OpenMode::kCreateNew : base::OpenMode::kCreate;
}

base::StatusOr<VfsFile::State*> OpenState(Vfs& vfs, const std::string& path, int flags) {
  HF_ASSIGN_OR_RETURN(auto file, vfs.fs().Open(path, ModeOf(flags)));
  HF_ASSIGN_OR_RETURN(const base::FileStat stat, vfs.fs().Stat(path));
  return new VfsFile::State{.vfs = &vfs,
                            .file = std::move(file),
                            .path = path,
                            .shared = vfs.Share(path),
                            .is_wal = (flags & SQLITE_OPEN_WAL) != 0,
                            .read_only = (flags & SQLITE_OPEN_READONLY) != 0,
                            .name_synced = false,
                            .inode = stat.inode};
}

int Open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
  auto* const f = reinterpret_cast<VfsFile*>(file);
  f->base.pMethods = nullptr;
  f->state = nullptr;
  Vfs& self = VfsOf(vfs);
  if (name == nullptr)  // temp_store is MEMORY, so nobody should ask
    return Fail(self, base::Internal("sqlite: asked for a temporary file"), SQLITE_CANTOPEN);
  const auto state = OpenState(self, name, flags);
  if (!state.ok()) return Fail(self, state.status(), SQLITE_CANTOPEN);
  f->state = *state;
  f->base.pMethods = &kMethods;
  if (out_flags != nullptr) *out_flags = flags;
  return SQLITE_OK;
}

int Delete(sqlite3_vfs* vfs, const char* name, int sync_directory) {
  Vfs& self = VfsOf(vfs);
  const base::Status removed = self.fs().Remove(name);
  if (absl::IsNotFound(removed)) return SQLITE_IOERR_DELETE_NOENT;
  if (!removed.ok()) return Fail(self, removed, SQLITE_IOERR_DELETE);
  if (sync_directory == 0) return SQLITE_OK;
  const base::Status synced = self.fs().SyncDirectory(base::ParentDirectory(name));
  return synced.ok() ? SQLITE_OK : Fail(self, synced, SQLITE_IOERR_DIR_FSYNC);
}

// An empty file does not count as a journal or WAL, as in SQLite's own.
int Access(sqlite3_vfs* vfs, const char* name, int flags, int* result) {
  const auto stat = VfsOf(vfs).fs().Stat(name);
  if (!stat.ok() && !absl::IsNotFound(stat.status()))
    return Fail(VfsOf(vfs), stat.status(), SQLITE_IOERR_ACCESS);
  *result = stat.ok() && (flags != SQLITE_ACCESS_EXISTS || stat->size_bytes > 0) ? 1 : 0;
  return SQLITE_OK;
}

int FullPathname(sqlite3_vfs*, const char* name, int size, char* out) {
  const size_t length = std::strlen(name);
  if (length + 1 > static_cast<size_t>(size)) return SQLITE_CANTOPEN_FULLPATH;
  std::memcpy(out, name, length + 1);
  return SQLITE_OK;
}

int Randomness(sqlite3_vfs*, int size, char* out) {
  base::RealEntropy().Fill(std::as_writable_bytes(std::span(out, static_cast<size_t>(size))));
  return size;
}

// A reader that meets a checkpoint tries again, with longer and longer pauses, and gives up in the end:
// without real pauses it would do so at once. With one thread there is nobody to meet.
int Sleep(sqlite3_vfs*, int microseconds) {
  std::mutex mu;
  std::unique_lock<std::mutex> lock(mu);
  std::condition_variable never;
  never.wait_for(lock, std::chrono::microseconds(microseconds), [] { return false; });
  return microseconds;
}

int CurrentTimeInt64(sqlite3_vfs* vfs, sqlite3_int64* out) {
  *out = kUnixEpochJulianMs + VfsOf(vfs).clock().UtcNow().ns / base::kNsPerMs;
  return SQLITE_OK;
}

int CurrentTime(sqlite3_vfs* vfs, double* out) {
  sqlite3_int64 ms = 0;
  CurrentTimeInt64(vfs, &ms);
  *out = static_cast<double>(ms) / 86400000.0;
  return SQLITE_OK;
}

int GetLastError(sqlite3_vfs*, int, char*) { return 0; }

std::string NextName() {
  static std::atomic<uint64_t> number{0};
  return "holdfast-" + std::to_string(++number);
}

}  // namespace

bool SharedFile::Drain(int64_t wait_ms_max) {
  std::unique_lock<std::mutex> lock(mu);
  draining = true;
  return changed.wait_for(lock, std::chrono::milliseconds(wait_ms_max), [this] {
    return std::all_of(shm_shared + kFirstReadLock, shm_shared + kShmLocks, [](int n) { return n == 0; });
  });
}

void SharedFile::EndDrain() {
  {
    const Guard lock(mu);
    draining = false;
  }
  changed.notify_all();
}

Vfs::Vfs(base::FileSystem& file_system, base::Clock& clock, uint64_t wal_bytes_max)
    : fs_(file_system),
      clock_(clock),
      name_(NextName()),
      vfs_(std::make_unique<sqlite3_vfs>()),
      wal_bytes_max_(wal_bytes_max) {
  vfs_->iVersion = 2;
  vfs_->szOsFile = sizeof(VfsFile);
  vfs_->mxPathname = kPathBytesMax;
  vfs_->zName = name_.c_str();
  vfs_->pAppData = this;
  vfs_->xOpen = Open;
  vfs_->xDelete = Delete;
  vfs_->xAccess = Access;
  vfs_->xFullPathname = FullPathname;
  vfs_->xRandomness = Randomness;
  vfs_->xSleep = Sleep;
  vfs_->xCurrentTime = CurrentTime;
  vfs_->xGetLastError = GetLastError;
  vfs_->xCurrentTimeInt64 = CurrentTimeInt64;
  HF_CHECK(sqlite3_vfs_register(vfs_.get(), /*makeDflt=*/0) == SQLITE_OK);
}

Vfs::~Vfs() { sqlite3_vfs_unregister(vfs_.get()); }

uint64_t Vfs::wal_bytes_max() const {
  const Guard lock(mu_);
  return wal_bytes_max_;
}

void Vfs::set_wal_bytes_max(uint64_t bytes) {
  const Guard lock(mu_);
  wal_bytes_max_ = bytes;
}

base::Status Vfs::TakeError() {
  const Guard lock(mu_);
  return std::exchange(error_, absl::OkStatus());
}

void Vfs::NoteError(const base::Status& status) {
  const Guard lock(mu_);
  error_ = status;
}

bool Vfs::in_use() const {
  const Guard lock(mu_);
  return std::any_of(shared_.begin(), shared_.end(), [](const auto& file) { return !file.second.expired(); });
}

std::shared_ptr<SharedFile> Vfs::Share(const std::string& path) {  // shared_ptr: see the header
  const Guard lock(mu_);
  std::shared_ptr<SharedFile> shared = shared_[path].lock();  // shared_ptr: see the header
  if (shared == nullptr) shared_[path] = shared = std::make_shared<SharedFile>();
  return shared;
}

}  // namespace holdfast::memory::sqlite
