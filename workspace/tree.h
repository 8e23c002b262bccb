// A directory tree, reached through one handle and nothing outside it. OpenTree gives the real one; tests use
// tests/support/sim_tree.h, which forgets, keeps or tears what was not synced when its power goes.
//
// Paths are relative, as workspace/path.h says; "" is the root. No call leads out of the root, whatever
// links,
// `..` or mounts somebody plants while it runs: the kernel refuses each such step (openat2). Where it cannot,
// OpenTree refuses.
//
// Errors: InvalidArgument for a path that ValidatePath refuses; FailedPrecondition, naming the link, for a
// path that leads through a link where links are refused, or out of the tree; otherwise those of
// base/errno.h, naming the path. A directory where a file is asked for, or a FIFO, socket or device anywhere,
// is FailedPrecondition; no call ever waits for one.
//
// All methods may be called from any thread, and while others change the tree: each call sees some state of
// each directory it passes through.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"

namespace holdfast::workspace {

enum class EntryKind : uint8_t {
  kFile,
  kDirectory,
  kSymlink,
  kWhiteout,  // a character device 0:0: in the upper directory of an overlay, "there is nothing here"
  kOther,     // FIFO, socket, device
};

std::string_view Name(EntryKind kind);  // "file", "directory", ...

struct EntryStat {
  EntryKind kind = EntryKind::kOther;
  uint32_t mode = 0;        // 07777
  uint64_t size_bytes = 0;  // of a file; of a link, of its target
  int64_t mtime_ns = 0;     // since the Unix epoch, as ctime_ns
  int64_t ctime_ns = 0;
  uint64_t inode = 0;
  uint64_t device = 0;
  uint64_t links = 0;
  uint32_t uid = 0;  // as this process sees it
  uint32_t gid = 0;

  friend bool operator==(const EntryStat&, const EntryStat&) = default;
};

struct Entry {
  std::string name;
  EntryStat stat;
};

struct NamedKind {
  std::string name;
  EntryKind kind = EntryKind::kOther;
};

// What symbolic links on the way, and at the end, of a path mean.
enum class Links {
  kRefuse,  // a path that leads through one is refused; one at the end is never followed
  kWithin,  // followed as long as they stay beneath the root; also at the end, where a file is opened,
            // listed, or its mode set. Absolute ones never do.
};

enum class Replace { kNo, kYes };

enum class WalkStep {
  kContinue,  // into a directory, past anything else
  kSkip,      // not into this directory
  kStop,      // no further
};
using WalkVisitor = std::function<WalkStep(const std::string& path, const EntryStat& stat)>;

class Tree {
 public:
  virtual ~Tree() = default;

  // Of the entry itself: a link at the end is not followed.
  virtual base::StatusOr<EntryStat> Stat(std::string_view path) = 0;

  // As Stat, but a link at the end is followed with Links::kWithin.
  virtual base::StatusOr<EntryStat> StatTarget(std::string_view path) = 0;

  // The entries of a directory without "." and "..", sorted by the bytes of their names; what vanishes
  // meanwhile is left out. More than `entries_max` is ResourceExhausted. One stat for each entry.
  virtual base::StatusOr<std::vector<Entry>> List(std::string_view path, size_t entries_max) = 0;

  // As List without the stats: some 0.4 us an entry instead of 1 to 2 us.
  virtual base::StatusOr<std::vector<NamedKind>> Names(std::string_view path, size_t entries_max) = 0;

  // Opens a regular file for reading, or for reading and writing.
  virtual base::StatusOr<std::unique_ptr<base::File>> OpenFile(std::string_view path) = 0;
  virtual base::StatusOr<std::unique_ptr<base::File>> OpenFileForWriting(std::string_view path) = 0;

  // Of the file as it is open, whatever its name has become.
  virtual base::StatusOr<EntryStat> StatOpen(base::File& file) = 0;

  // Creates a file of exactly `mode` (07777; no umask), open for reading and writing; AlreadyExists when
  // there is anything of that name.
  virtual base::StatusOr<std::unique_ptr<base::File>> CreateFile(std::string_view path, uint32_t mode) = 0;

  // Creates `to` (as CreateFile) with the content of the file `from` of another tree: shared blocks where the
  // file system can (FICLONE), a copy otherwise. Links are refused. Not synced.
  virtual base::Status CopyFile(Tree& source, std::string_view from, std::string_view to, uint32_t mode);

  virtual base::StatusOr<std::string> ReadLink(std::string_view path) = 0;

  // These create; AlreadyExists when there is anything of that name.
  virtual base::Status MakeLink(std::string_view path, std::string_view target) = 0;
  virtual base::Status MakeDirectory(std::string_view path, uint32_t mode) = 0;  // exactly `mode`
  virtual base::Status MakeWhiteout(std::string_view path) = 0;

  // Of a file or directory; a link is FailedPrecondition with Links::kRefuse.
  virtual base::Status SetMode(std::string_view path, uint32_t mode) = 0;

  // Whether a directory of an overlay's upper hides what is beneath (user.overlay.opaque).
  virtual base::StatusOr<bool> IsOpaque(std::string_view path) = 0;
  virtual base::Status SetOpaque(std::string_view path, bool opaque) = 0;

  // Atomically. With Replace::kNo an existing `to` is AlreadyExists; with kYes it is replaced as rename(2)
  // does.
  virtual base::Status Rename(std::string_view from, std::string_view to, Replace replace) = 0;

  // Removes a file, link, whiteout, other thing or empty directory. NotFound when there is none.
  virtual base::Status Remove(std::string_view path) = 0;

  // Creations, renames and removals in the directory `path` are durable on return.
  virtual base::Status SyncDirectory(std::string_view path) = 0;

  // All that was made or changed in the tree so far is durable on return. One call to the file system
  // (syncfs), which also writes whatever others have not written yet: cheaper than many syncs, dearer than
  // few.
  virtual base::Status SyncAll();

  // Visits everything beneath `path`, each directory before what is in it, in the order of ComparePaths.
  // Directories that vanish or close meanwhile count as empty. `entries_max` is for each directory.
  base::Status Walk(std::string_view path, size_t entries_max, const WalkVisitor& visitor);
};

// Whose rights a tree is used with, where this process is root. File modes of an overlay's merged view count
// for them, and what they create belongs to them: the session's identity outside (sandbox::Session). Held
// for the calling thread during each call (setfsuid), which also puts off root's power over files.
struct TreeIdentity {
  uint32_t uid = 0;
  uint32_t gid = 0;
};

// What the owner has forbidden himself.
enum class OwnerAccess {
  kAsModesSay,
  kForced,  // a file or directory that its owner may not read is made readable for the moment of the read:
            // what a guest does with `chmod 000` must not keep a checkpoint from seeing it
};

struct TreeOptions {
  Links links = Links::kRefuse;
  std::optional<TreeIdentity> identity;  // ignored where the process is not root
  OwnerAccess owner_access = OwnerAccess::kAsModesSay;
  // Names for which this says so are not removed, renamed or renamed over: PermissionDenied
  // (sandbox::IsProtectedName, where the kernel guards them against commands only). Null: all may be.
  bool (*is_protected)(int directory, const std::string& name) = nullptr;
  std::string name;  // for messages, before each path: "workspace"; empty: paths stand alone
};

// Takes over `directory`, a descriptor of the root (O_PATH will do). FailedPrecondition where the kernel has
// no openat2; PermissionDenied when the identity cannot be taken on.
base::StatusOr<std::unique_ptr<Tree>> OpenTree(int directory, TreeOptions options = {});

// Opens the directory at a path of the host; links on the way to it are followed.
base::StatusOr<std::unique_ptr<Tree>> OpenTree(const std::string& host_path, TreeOptions options = {});

// ---- What many need ----

struct FileContent {
  std::string bytes;
  EntryStat stat;  // at the moment of the read; the file did not change meanwhile
};

// Reads a whole regular file of at most `bytes_max` (ResourceExhausted beyond). A file that changes while it
// is read is read again; Unavailable when it does so three times running.
base::StatusOr<FileContent> ReadWhole(Tree& tree, std::string_view path, uint64_t bytes_max);

// Makes `path` a file with these bytes and mode, by way of a temporary name beside it and a rename: whoever
// reads sees the old file or the new one. With Links::kWithin a link at `path` is replaced where it leads
// (at most 16 links). Parents must exist. Not durable: no sync.
base::Status ReplaceFile(Tree& tree, std::string_view path, std::span<const std::byte> bytes, uint32_t mode);

// Makes the missing parents of `path`, with mode 0755.
base::Status MakeParents(Tree& tree, std::string_view path);

// Removes `path` and all beneath it; what is not there is fine.
base::Status RemoveAll(Tree& tree, std::string_view path);

// The order of everything here: by bytes, part by part, so that a directory stands right before what is in it
// ("a", "a/b", "a.c"). Negative, 0 or positive.
int ComparePaths(std::string_view a, std::string_view b);

struct PathLess {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const { return ComparePaths(a, b) < 0; }
};

}  // namespace holdfast::workspace
