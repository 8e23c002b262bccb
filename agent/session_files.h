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
};

// What the session has changed, as of the last checkpoint.
struct FilesDiffStat {
  int64_t files = 0;    // and links and directories
  int64_t added = 0;    // lines
  int64_t removed = 0;  // lines

  bool operator==(const FilesDiffStat&) const = default;
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

  // Takes everything over into the user's tree, conflicts and protected paths apart; the layer keeps what was
  // not taken, and current() is its manifest. Background commands end when there is anything to take over.
  virtual void ApplyAll(absl::AnyInvocable<void(base::StatusOr<FilesReport>)> done) = 0;

  // What others have changed in the user's tree since this was last asked; nothing: empty text.
  virtual void ChangesUnderneath(absl::AnyInvocable<void(base::StatusOr<FilesReport>)> done) = 0;

  // What the session has changed, as of the last checkpoint: a unified diff, cut to a bound; and counted.
  virtual void DiffText(absl::AnyInvocable<void(base::StatusOr<std::string>)> done) {
    done(absl::UnimplementedError("these files know no diff"));
  }
  virtual void DiffStat(absl::AnyInvocable<void(base::StatusOr<FilesDiffStat>)> done) {
    done(absl::UnimplementedError("these files know no diff"));
  }

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
