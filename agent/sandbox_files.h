// The files of sessions on this machine: a workspace (workspace/workspace.h) with a sandbox session over it,
// for each.
//
//   HF_ASSIGN_OR_RETURN(auto opener, SandboxFilesOpener::Make(parts, options));
//   opener->Open({.session = id, .tree = tree, .directory = dir, .mode = "overlay"}, opened);
//
// What blocks is done on Lane::kTools, after the file tools that wait there: an operation can be as late as
// the slowest of them. Commands run in the sandbox and hold no lane.
//
// Checks run in a fork of the layer, made of blobs in `directory`/check, with a sandbox session, a /tmp and
// a time limit of their own. Ignored (derived) files stay behind in a fork: what a check needs of a build
// directory it builds again. With a snapshot underneath, that is copied too. In direct mode there is no
// layer to fork: a check runs in the tree itself, within the policy's time, and what it writes stays.
//
// Direct mode has no way back: Restore leaves the tree as it is and says nothing about it, so that a session
// goes on after others have worked in its tree, too; who wants to go back has to look at the mode. Fork and
// the diff are FailedPrecondition; Apply and ChangesUnderneath say that there is nothing, since the tree
// has all changes already, and they cannot be told from those of others.
//
// Errors: those of workspace/workspace.h. A call that was given up and still uses the workspace after
// release_ms_max makes what would replace its session Unavailable, and nothing is changed; it can be tried
// again. When the sandbox's broker has died, what needs a session is Unavailable; checkpoints, diffs and
// forks go on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "agent/session_files.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status.h"
#include "memory/blob_store.h"
#include "tools/background_jobs.h"
#include "tools/registry.h"
#include "workspace/workspace.h"

namespace holdfast::agent {

struct SandboxFilesOptions {
  sandbox::Policy policy;  // of every session; its `workspace` is filled in, but for `inside`
  workspace::LayerLimits limits;
  tools::BackgroundBounds background;
  size_t operations_max = 64;       // of one session, asked for and not carried out: then ResourceExhausted
  int64_t release_ms_max = 10'000;  // for calls that were given up to let go of a session, commands to end
  int64_t check_timeout_ms_max = 86'400'000;
  int64_t check_slack_ms = 30'000;  // for a check to start, to end by force, and to store its output
  size_t report_lines_max = 200;    // of paths
  size_t report_bytes_max = 16 * 1024;
  size_t diff_bytes_max = 1 << 20;
};

// Control lane. Everything it is given outlives it; it outlives the files it has opened and the executor's
// tasks.
class SandboxFilesOpener final : public FilesOpener {
 public:
  struct Parts {
    base::Executor& executor;
    base::Clock& clock;
    base::FileSystem& fs;  // of the workspaces' directories
    sandbox::Sandbox& sandbox;
    memory::BlobStore& blobs;
  };

  // InvalidArgument for bounds of 0. Errors of tools/command_tools.h.
  static base::StatusOr<std::unique_ptr<SandboxFilesOpener>> Make(Parts parts, SandboxFilesOptions options);

  // InvalidArgument for a mode that is none. An apply that was cut off is finished, the remains of a check
  // are removed. A layer of which nothing is known any more begins empty: found() is none then.
  void Open(FilesSpec spec, Opened done) override;

 private:
  SandboxFilesOpener(Parts parts, SandboxFilesOptions options)
      : parts_(parts), options_(std::move(options)) {}

  const Parts parts_;
  const SandboxFilesOptions options_;
  tools::Registry registry_;  // what checks are run with
};

}  // namespace holdfast::agent
