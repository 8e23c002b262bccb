// Files: the only door to the disk. RealFileSystem() is the real one; tests use
// tests/support/sim_file_system.h, which injects crashes, short reads, ENOSPC, EIO and bit flips.
//
// Durability, as POSIX has it and as the simulated disk enforces it: the content of a file is durable after
// File::Sync; the name of a file (its creation, Rename, Remove) is durable after SyncDirectory of the
// directory that holds it. Nothing else is: what was not synced may be lost, kept, or torn in a crash, in any
// order. WriteFileAtomically does the whole dance.
//
// Errors are those of base/errno.h and name the path and the cause. On the writing side ResourceExhausted
// means that the disk is full and nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace holdfast::base {

// A read-only mapping of a whole file, of the size it had when mapped; safe to read from any thread, and
// valid after the file is renamed or removed. Later writes to the file show through.
//
// Reading a page that was truncated away, or that the disk cannot deliver, does not end the process: the page
// reads as zeros from then on, the mapping counts as damaged and MappingFaultCount() (base/mapping_faults.h)
// is raised. So whoever has read asks damaged() before it trusts what it read. A mapping must not be
// destroyed while a thread reads it.
class MappedFile {
 public:
  virtual ~MappedFile() = default;
  virtual std::span<const std::byte> bytes() const = 0;

  // A hint that these bytes are read soon: starts to load them and returns. What lies outside is ignored.
  virtual void WillNeed(uint64_t offset, uint64_t length) const = 0;

  // Whether a read of this mapping has met a page that file or disk could not deliver. Never goes back.
  virtual bool damaged() const = 0;
};

enum class OpenMode {
  kRead,       // must exist
  kReadWrite,  // must exist
  kCreate,     // read-write, created when absent
  kCreateNew,  // read-write, AlreadyExists when present
  kTruncate,   // read-write, created when absent, emptied when present
};

// An open regular file. Reads and writes may come from several threads at once, as long as they do not
// overlap; Append, Truncate and Preallocate want to be alone. Closed by the destructor, which syncs nothing.
class File {
 public:
  virtual ~File() = default;

  // Fills `out` from `offset`; returns the bytes read, fewer than asked for only at the end of the file.
  virtual StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) = 0;

  // Writes all of `data` at `offset`, growing the file when needed (a gap reads as zeros). After an error any
  // part of it may have been written.
  virtual Status WriteAt(uint64_t offset, std::span<const std::byte> data) = 0;

  // Content and size are durable on return (fsync). After an error nothing is known about what was written
  // since the last good Sync: calling again proves nothing, so give the file up and recover.
  virtual Status Sync() = 0;

  // As Sync, without times (fdatasync): cheaper when the size did not change.
  virtual Status DataSync() = 0;

  virtual StatusOr<uint64_t> Size() = 0;

  // Cuts or grows (with zeros) the file to `size` bytes.
  virtual Status Truncate(uint64_t size) = 0;

  // Reserves disk blocks for the first `size` bytes, so that writing there cannot run out of space; grows the
  // file with zeros when it is shorter, never cuts it.
  virtual Status Preallocate(uint64_t size) = 0;

  // WriteAt(Size(), data).
  Status Append(std::span<const std::byte> data);
};

enum class FileKind { kRegular, kDirectory, kSymlink, kOther };

struct FileStat {
  FileKind kind = FileKind::kOther;
  uint64_t size_bytes = 0;
  int64_t mtime_ns = 0;  // since the Unix epoch, as ctime_ns
  int64_t ctime_ns = 0;
  uint64_t inode = 0;
  uint64_t device = 0;
  uint64_t links = 0;            // names of the file
  uint64_t allocated_bytes = 0;  // of disk; less than the size when there are holes
};

// The file system that holds a path.
struct FileSystemInfo {
  std::string type;  // "ext4", "nfs"; "0x..." when unknown
  // Another machine, or a process of this one, stands between us and the disk: NFS, SMB, 9p, Ceph, AFS, Coda,
  // Lustre and their kin, clusters of shared disks (GFS2, OCFS2), and all of FUSE (sshfs, virtiofs, ...).
  // There a page fault waits for a server, a mapping may show other bytes than the file has, and locks and
  // fsync mean what the server wants; so neither SQLite's WAL nor mapped KV belongs there. The list is in
  // base/file_system_type.h.
  bool network = false;
  uint64_t free_bytes = 0;  // for this user
  uint64_t total_bytes = 0;
};

struct DirectoryEntry {
  std::string name;
  FileKind kind = FileKind::kOther;  // of the entry itself: a link is kSymlink
};

// An exclusive lock, held until destroyed or until the process ends, however it ends.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

// All methods may be called from any thread. Paths are used as given, links are followed; a path with a NUL
// byte is InvalidArgument. What is created is for the owner only (0600, directories 0700).
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // Maps the whole of a regular file read-only. An empty file gives an empty span. Anything but a regular
  // file is FailedPrecondition (here and in ReadFile and Open); nothing blocks on a FIFO or a device.
  virtual StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) = 0;

  // Reads a whole regular file of at most `max_bytes`; larger is ResourceExhausted, absent is NotFound.
  virtual StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes) = 0;

  virtual StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) = 0;

  // Atomically gives `from` the name `to`, replacing a file of that name. Both on one file system.
  virtual Status Rename(const std::string& from, const std::string& to) = 0;

  // Removes a file, a link, or an empty directory. Open files and mappings stay usable.
  virtual Status Remove(const std::string& path) = 0;

  // Creates `path` and its missing parents, durably. Existing directories are fine.
  virtual Status CreateDirectories(const std::string& path) = 0;

  // Creations, renames and removals in the directory `path` are durable on return.
  virtual Status SyncDirectory(const std::string& path) = 0;

  // The entries of a directory without "." and "..", sorted by name; more than `max_entries` is
  // ResourceExhausted.
  virtual StatusOr<std::vector<DirectoryEntry>> List(const std::string& path, size_t max_entries) = 0;

  virtual StatusOr<FileStat> Stat(const std::string& path) = 0;

  // About the file system of an existing file or directory.
  virtual StatusOr<FileSystemInfo> Info(const std::string& path) = 0;

  // Takes the exclusive lock that is the file `path` (created when absent, never removed) without waiting.
  // Held by anyone, this process included, is Unavailable and the message names the holder's pid when known.
  virtual StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) = 0;
};

// The disk of this machine. Lives forever.
FileSystem& RealFileSystem();

// Takes over an open descriptor of a regular file, for who opens files by other means than a path (beneath a
// directory's handle). `name` is what messages call it.
std::unique_ptr<File> AdoptFile(int descriptor, std::string name);

// Replaces or creates `path` with `bytes`: after a crash at any point, the old content or the new one, whole;
// on return the new one, durably. One writer per path at a time; goes through `path`.tmp, removed on error
// (and overwritten when a crash left one). Costs two fsyncs.
Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::span<const std::byte> bytes);

// The directory part of `path`: "a/b" -> "a", "/a" -> "/", "a" -> ".".
std::string ParentDirectory(std::string_view path);

}  // namespace holdfast::base
