// The real tools on a tree, without a model: the dispatcher, a sandbox session over an overlay, and the way
// back to the tree as it was.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "base/hash.h"
#include "base/status.h"
#include "memory/blob_store.h"
#include "sandbox/sandbox.h"
#include "tools/background_jobs.h"
#include "tools/dispatcher.h"
#include "tools/file_versions.h"
#include "tools/permission.h"
#include "tools/registry.h"
#include "tools/tool.h"
#include "workspace/tree.h"

namespace holdfast::cli {

struct ToolBoxOptions {
  std::string tree;       // absolute
  std::string directory;  // for the layer and for outputs too long to show; made when absent
  std::string profile;    // "nano"; its tools but for those that steer a session, which needs one
  std::string broker;     // of the sandbox; empty: found beside this program
};

struct LayerChange {
  enum class Kind { kAdded, kChanged, kRemoved } kind = Kind::kChanged;
  std::string path;
};

// One thread at a time. Errors are those of sandbox/sandbox.h and workspace/tree.h; those of calls are
// results.
class ToolBox {
 public:
  static base::StatusOr<std::unique_ptr<ToolBox>> Open(ToolBoxOptions options);
  ~ToolBox();

  // `arguments` is the text of a JSON object. Waits for the result.
  base::StatusOr<tools::ToolResult> Call(std::string_view tool, std::string_view arguments);

  // The tree as it was: an empty layer, an empty /tmp, nothing in the background, nothing read. Costs a
  // session (some 10 ms) when something may have changed since the last reset, and nothing otherwise.
  base::Status Reset();

  // SHA-256 over paths and contents of all files as commands see them, in the order of the paths' bytes: for
  // each its length in 8 bytes, low first, and it itself. Links and empty directories do not count.
  base::StatusOr<base::Sha256Digest> TreeHash();

  // What the layer changes of the tree, by path. A file written over with what it held is no change.
  base::StatusOr<std::vector<LayerChange>> Changes();

  const tools::Toolset& toolset() const { return tools_; }

 private:
  explicit ToolBox(ToolBoxOptions options) : options_(std::move(options)) {}
  base::Status Prepare();
  base::Status OpenSession();
  void CloseSession();
  tools::ToolContext Context();
  void OnControl(absl::AnyInvocable<void()> task);

  const ToolBoxOptions options_;
  tools::Registry registry_;
  tools::Toolset tools_;
  tools::PermissionPolicy permissions_;
  tools::ApprovalBook approvals_;
  base::ThreadExecutor executor_;
  std::unique_ptr<memory::BlobStore> blobs_;
  std::unique_ptr<sandbox::Sandbox> sandbox_;
  std::unique_ptr<sandbox::Session> session_;
  std::unique_ptr<workspace::Tree> files_;
  std::unique_ptr<tools::FileVersions> versions_;
  std::unique_ptr<tools::BackgroundJobs> jobs_;
  std::unique_ptr<tools::Dispatcher> dispatcher_;  // control lane
  bool touched_ = false;                           // by a call that may have changed something
};

}  // namespace holdfast::cli
