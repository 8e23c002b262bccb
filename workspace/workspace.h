// The workspace of a session: the user's tree as its commands see it, what they changed, and the way back.
//
//   HF_ASSIGN_OR_RETURN(auto workspace, Workspace::Open(options, *sandbox, blobs));
//   workspace->session()->Run(...);                                   // commands, and
//   workspace->files()->OpenFile("src/main.cc");                      // file tools, see the same files
//   HF_ASSIGN_OR_RETURN(CheckpointResult now, workspace->Checkpoint());  // durable on return
//   workspace->Restore(now.id);
//
// By default the tree is never written: changes go to a layer, a directory on disk (docs/workspace.md). In
// direct mode they go to the tree itself; then Checkpoint keeps what they made of it, and Restore, Discard
// and Fork are FailedPrecondition.
//
// Errors: those of sandbox/sandbox.h for what needs a session; of memory/blob_store.h; of workspace/tree.h
// for the directories. ResourceExhausted names the limit that was met, and nothing is stored then.
//
// Threads: session() and files() may be used from any thread; Checkpoint, Restore, Discard, Reopen and Close
// one at a time, and Restore, Discard, Reopen and Close while nobody uses the session or the files.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "sandbox/policy.h"
#include "workspace/manifest.h"
#include "workspace/tree.h"

namespace holdfast::memory {
class BlobStore;
}
namespace holdfast::sandbox {
class Sandbox;
class Session;
}  // namespace holdfast::sandbox

namespace holdfast::workspace {

struct LayerLimits {
  uint64_t files_max = 500'000;             // entries of a layer, without derived ones
  uint64_t bytes_max = uint64_t{16} << 30;  // their contents together
  uint64_t file_bytes_max = uint64_t{1} << 30;
  uint64_t base_file_bytes_max = 256 << 20;  // larger: the base is kept without its content
  uint64_t derived_files_max = 2'000'000;
  uint64_t derived_bytes_max = uint64_t{32} << 30;
  size_t directory_entries_max = 1'000'000;
};

// What the repository ignores (.gitignore) and does not track: build outputs. Not stored.
struct DerivedSummary {
  uint64_t files = 0;
  uint64_t directories = 0;
  uint64_t bytes = 0;
  bool bytes_complete = true;      // false: some were not looked at yet; the next checkpoints go on
  std::vector<std::string> roots;  // the ignored paths themselves, "build", at most 1,000 of them
};

struct CheckpointResult {
  ManifestId id{};
  // Since the checkpoint before: what was made, changed or deleted; sorted. Empty when the id is the same.
  std::vector<std::string> changed;
  std::vector<std::string> dropped;   // FIFOs, sockets, devices: in no manifest
  std::vector<std::string> unstable;  // changed while they were read, three times over
  DerivedSummary derived;
  uint64_t entries = 0;
  uint64_t files_read = 0;    // whose content was looked at; the others had not changed
  uint64_t bytes_stored = 0;  // new content
};

struct RestoreResult {
  std::vector<std::string> changed;  // put back, sorted; at most 10,000
  uint64_t changed_count = 0;
  uint64_t derived_removed = 0;  // derived files that were made or changed since
};

// A change of the user's tree that the session did not make.
struct TreeChange {
  enum class Kind { kAdded, kChanged, kRemoved } kind = Kind::kChanged;
  std::string path;
  friend bool operator==(const TreeChange&, const TreeChange&) = default;
};

struct TreeChanges {
  std::vector<TreeChange> changes;  // sorted by path, at most `changes_max`
  uint64_t count = 0;
  std::string head_before, head_now;  // git HEAD: a commit id, or empty
};

enum class Snapshot {
  kNo,   // the user's tree underneath: others may change it, which is noticed
  kYes,  // a copy of it, taken when the workspace is first opened, is underneath: nobody changes it
};

// What to do with a layer of which nobody can say any more what it holds: its record went with the power, or
// names a manifest that cannot be read.
enum class UnknownLayer {
  kRefuse,
  kEmpty,  // begin with an empty one (OpenReport::rebuilt); for who knows the manifest, and restores it next
};

struct WorkspaceOptions {
  std::string tree;       // absolute, on the host
  std::string directory;  // the workspace's own, on a local disk; made when absent. Not within `tree`.
  sandbox::WorkspaceMode mode = sandbox::WorkspaceMode::kOverlay;
  Snapshot snapshot = Snapshot::kNo;
  sandbox::Policy policy;  // its `workspace` is filled in by Open, but for `inside`
  LayerLimits limits;

  // What the layer must be (of the last OUTCOME on record). Open makes it so: it is compared when the machine
  // is still up since, else made anew. None: an empty layer when the directory is new, otherwise what its own
  // record says.
  std::optional<ManifestId> expected;
  UnknownLayer unknown = UnknownLayer::kRefuse;  // without `expected`
};

// What Open found.
struct OpenReport {
  bool fresh = false;      // the directory was new
  bool rebuilt = false;    // made from the manifest: the machine was restarted, or a restore had not ended
  bool corrected = false;  // compared, and put right
  RestoreResult restored;  // with rebuilt or corrected
  std::string head;        // git HEAD of the tree when the workspace was first opened; empty without one
};

class Workspace {
 public:
  // Opens the layer and a session on it. InvalidArgument for options that make no sense; FailedPrecondition
  // when a part of the tree belongs to somebody whom the session cannot stand for, naming path and owner, or
  // when the directory belongs to another tree or mode; Unavailable when another process has it open.
  static base::StatusOr<std::unique_ptr<Workspace>> Open(WorkspaceOptions options, sandbox::Sandbox& sandbox,
                                                         memory::BlobStore& blobs,
                                                         base::FileSystem& fs = base::RealFileSystem(),
                                                         base::Clock& clock = base::RealClock());
  virtual ~Workspace() = default;

  virtual const WorkspaceOptions& options() const = 0;
  virtual const OpenReport& report() const = 0;

  // Null after a Restore, Discard or Reopen that failed; otherwise valid until the next of them.
  virtual sandbox::Session* session() = 0;
  // The files as commands see them, with the session's rights; links are followed within (Links::kWithin).
  virtual Tree* files() = 0;

  // Opens a new session on the same files: what was in /tmp and in the background is gone.
  virtual base::Status Reopen() = 0;

  // Stores what the layer holds: content, then manifest, one commit with one fsync of data; nothing when
  // nothing changed. Background processes may go on; a file they change meanwhile is stored as it was at some
  // moment, or noted in `unstable`. Cost: a walk of the layer (never of the tree), reads of changed files.
  virtual base::StatusOr<CheckpointResult> Checkpoint() = 0;

  // The manifest that the layer had at the last Checkpoint, Restore, Discard or Open.
  virtual ManifestId current() const = 0;

  // Makes the layer hold exactly `id`. An overlay's layer cannot change under a mount, so the session is
  // ended first, with all that runs in it, and a new one is opened. Derived paths made or changed since that
  // manifest's checkpoint are removed, the others stay. A crash in the middle is made good by the next Open.
  virtual base::StatusOr<RestoreResult> Restore(const ManifestId& id) = 0;

  // An empty layer.
  virtual base::StatusOr<RestoreResult> Discard() = 0;

  // Makes `directory` a layer of its own on the same tree, holding `id`; open it with Open. Derived paths
  // stay behind.
  virtual base::Status Fork(const ManifestId& id, const std::string& directory) = 0;

  // Says that what the user's tree holds now at these paths (sorted by ComparePaths) came from this session:
  // it is no change by others then, and a later change on top of it has a base that is certain. Durable on
  // return. Call it before the Restore that takes the paths out of the layer.
  virtual base::Status AbsorbTree(const std::vector<std::string>& paths) = 0;

  // What others changed in the user's tree since this was last asked, or since the workspace was first
  // opened; a stat of every file of it (some 2 us each).
  virtual base::StatusOr<TreeChanges> ChangesUnderneath(size_t changes_max) = 0;

  // The tree that is diffed and applied against: the user's, also with Snapshot::kYes. Links are refused.
  virtual Tree& user_tree() = 0;
};

}  // namespace holdfast::workspace
