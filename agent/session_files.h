// The files of a session, as the agent needs them: what calls work on, and what a session does with its
// workspace as a whole. One implementation over workspace/ and the sandbox (sandbox_files.h), others in
// tests.
//
// Threads: control lane; `done` is called there, once, not from within the method. Operations are carried out
// one after the other, in the order they were asked for, and none is to be asked for while calls run.
// Source: DESIGN section 6 (workspace, goals).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "agent/agent_event.h"
#include "base/hash.h"
#include "base/status.h"
#include "tools/tool.h"

namespace holdfast::agent {

// What the turn loop needs.
class CallWorkspace {
 public:
  using Checked = absl::AnyInvocable<void(base::StatusOr<base::Sha256Digest>)>;
  virtual ~CallWorkspace() = default;
  // The manifest as of the last checkpoint or restore.
  virtual base::Sha256Digest current() const = 0;
  // Stores what is there now; answers with its manifest, which is durable then.
  virtual void Checkpoint(Checked done) = 0;
  // For calls; valid until the workspace is restored, applied, or closed: none may be kept then. Where the
  // session could not be opened again there is none in it, nor files: such calls are refused or unavailable.
  virtual tools::ToolContext context() = 0;
};

// What an apply, or a change underneath, says in a line or two, for people and for the model.
struct FilesReport {
  int64_t applied = 0;
  int64_t conflicts = 0;
  int64_t refused = 0;  // protected
  int64_t failed = 0;   // the host could not
  std::string text;     // one line a path, bounded
  std::string branch;   // the ref that was made, with it all on it; empty: none
  std::string commit;   // that it points to
};

// Which of the session's changes are taken over, and where to.
struct ApplyRequest {
  std::vector<std::string> paths;  // these, and all beneath them; empty: everything
  std::string branch;              // a new branch of the user's repository, instead of the tree; empty: none
  std::string message;             // of its commit; empty: one that says nothing

  bool operator==(const ApplyRequest&) const = default;
};

struct FilesDiffStat {
  int64_t files = 0;    // and links and directories
  int64_t added = 0;    // lines
  int64_t removed = 0;  // lines

  bool operator==(const FilesDiffStat&) const = default;
};

struct DiffRequest {
  std::vector<std::string> paths;           // these, and all beneath them; empty: everything
  size_t text_bytes_max = size_t{1} << 20;  // 0: no text
  size_t paths_max = 10'000;
};

struct PathStat {
  std::string path;
  std::string kind;     // "added", "modified", "mode", "deleted", ...: workspace::Name
  int64_t added = 0;    // lines; both 0 for what is not text
  int64_t removed = 0;  // lines
  std::string note;     // why an apply leaves it: a conflict, or protected; empty: it does not

  bool operator==(const PathStat&) const = default;
};

struct FilesDiff {
  std::string text;       // unified; its last line says how much is left out
  bool text_cut = false;  // something is
  std::vector<PathStat> paths;
  int64_t paths_left = 0;  // beyond paths_max
  FilesDiffStat total;     // of all that was asked for
};

// What the checkpoints since the files were opened have met, for people.
struct FilesCounts {
  int64_t checkpoints = 0;
  int64_t changed = 0;   // paths, counted again at each checkpoint that finds them changed
  int64_t dropped = 0;   // FIFOs, sockets, devices, counted so too: in no manifest
  int64_t unstable = 0;  // files stored as they were at some moment, since they went on changing

  bool operator==(const FilesCounts&) const = default;
};

// Destroyed without Close it lets go of everything too, as if the process had ended; nothing that is under
// way is answered any more.
class SessionFiles : public CallWorkspace {
 public:
  using Ended = absl::AnyInvocable<void(base::Status)>;

  // What the layer held when it was opened, stored; none when that cannot be trusted (the machine was
  // restarted), or when nothing had been opened before.
  virtual const std::optional<base::Sha256Digest>& found() const = 0;

  // What the model has seen of files, in the order in which it saw it: takes the place of what was known.
  virtual void Remember(std::span<const tools::FileVersion>) {}

  // Makes the layer equal to `manifest`; none: as it began. What is there now is checkpointed first, so that
  // nothing is lost by going back. Background commands end, unless the layer is equal already: then nothing
  // is done. After an error the layer is as it was, if that can be had.
  virtual void Restore(std::optional<base::Sha256Digest> manifest, Ended done) = 0;

  // Runs a check in a throw-away layer over what the layer holds now; background commands are ended first.
  // The layer is as it was afterwards. `when` of the result is left empty. A check that cannot be run is an
  // error; one that fails or times out is a result. Cancelled by Close.
  virtual void RunCheck(const GoalCheck& check, absl::AnyInvocable<void(base::StatusOr<CheckRan>)> done) = 0;

  // A layer of its own on the same tree, holding `manifest` (none: nothing), in `directory`, to be opened
  // by another session.
  virtual void Fork(std::optional<base::Sha256Digest> manifest, std::string directory, Ended done) = 0;

  // Takes changes over into the user's tree, conflicts and protected paths apart; the layer keeps what was
  // not taken, and current() is its manifest. Background commands end when there is anything to take over.
  // InvalidArgument for a path without a change, and for paths of a branch, which has them all. To a branch:
  // the tree and the layer stay as they are, errors of workspace/git_branch.h.
  virtual void Apply(ApplyRequest request, absl::AnyInvocable<void(base::StatusOr<FilesReport>)> done) = 0;

  // What others have changed in the user's tree since this was last asked; nothing: empty text.
  virtual void ChangesUnderneath(absl::AnyInvocable<void(base::StatusOr<FilesReport>)> done) = 0;

  // What the session has changed, as of the last checkpoint. May be asked for while calls run.
  virtual void Diff(DiffRequest request, absl::AnyInvocable<void(base::StatusOr<FilesDiff>)> done) = 0;

  virtual FilesCounts counts() const { return {}; }

  // Ends the sandbox session and lets go of the directory, after what was asked for before. What is asked for
  // later is Unavailable.
  virtual void Close(Ended done) = 0;
};

// What to open for a session.
struct FilesSpec {
  std::string session;    // id
  std::string tree;       // on the host
  std::string directory;  // of the layer; made when absent
  std::string mode;       // "overlay", "direct" or "snapshot"
};

// Opens the files of sessions; outlives them.
class FilesOpener {
 public:
  using Opened = absl::AnyInvocable<void(base::StatusOr<std::unique_ptr<SessionFiles>>)>;
  virtual ~FilesOpener() = default;
  // An apply that was cut off is finished first.
  virtual void Open(FilesSpec spec, Opened done) = 0;
};

}  // namespace holdfast::agent
