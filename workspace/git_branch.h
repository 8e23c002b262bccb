// The work of a session as a new branch of the user's repository. Index, HEAD, the working tree and every
// existing ref stay as they are; nothing of the repository is run and its configuration is not read.
//
// How: git runs in a sandbox of its own, which sees the repository's objects under an overlay, and nothing
// else of the repository: no config, hooks, attributes or index; its own configuration is empty and filters
// are out of play, since contents go in as they are (fast-import). What it makes, one pack, is checked there
// (index-pack --strict), then copied in by us, and a new ref is written beside the others (git's lock
// protocol, loose and packed refs looked at).
//
// What is on the branch: on top of the base, first the commits that were made inside the session, when they
// touch nothing protected; then, when the files of the session are not what the last commit has, a commit of
// all its changes. Protected paths (workspace/protected.h), what a nested repository holds, and ignored files
// are left out, and named in the result.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "memory/blob_store.h"
#include "sandbox/sandbox.h"
#include "workspace/diff.h"
#include "workspace/manifest.h"

namespace holdfast::workspace {

struct BranchRequest {
  std::string tree;     // the user's, absolute
  std::string scratch;  // a directory of the session's own on a local disk, for this alone: it is emptied
  std::string name;     // "holdfast/fix-tests"
  std::string base;     // the commit the session began on; empty: what HEAD is now
  std::string message = "Changes of a session";
  std::string author_name = "Holdfast";
  std::string author_email = "holdfast@localhost";
  std::vector<std::string> allow_protected;  // as in ApplySelection
  uint64_t job_ms_max = 600'000;
};

struct BranchResult {
  std::string ref;                    // "refs/heads/holdfast/fix-tests"
  std::string commit;                 // what it points to
  std::string base;                   // what it grew from; empty for a repository without commits
  uint64_t commits_taken = 0;         // made inside the session
  bool committed_changes = false;     // whether a commit of the session's files was added
  std::vector<std::string> left_out;  // paths, as ShowPath shows them, and why: ".envrc: protected: .envrc"
  std::string note;                   // why commits made inside were not taken; empty
};

// `manifest` and `diff` are of the same state. InvalidArgument for a name that git does not allow; NotFound
// when the tree is no repository; AlreadyExists when the branch is; FailedPrecondition for a repository that
// is not supported, when there is nothing to put on a branch, when there is no git in the sandbox, or when
// git fails, with what it said; errors of the sandbox and of `blobs`. Nothing was added to the repository
// then, but for unreachable objects.
base::StatusOr<BranchResult> MakeBranch(const BranchRequest& request, const Manifest& manifest,
                                        const Diff& diff, memory::BlobStore& blobs, sandbox::Sandbox& sandbox,
                                        base::FileSystem& fs = base::RealFileSystem(),
                                        base::Clock& clock = base::RealClock());

}  // namespace holdfast::workspace
