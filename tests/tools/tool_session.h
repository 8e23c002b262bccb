// A sandbox session for tests of tools: a tree, a layer over it, the files as commands see them, a blob
// store, and calls that are waited for.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/executor.h"
#include "memory/blob_store.h"
#include "nlohmann/json.hpp"
#include "sandbox/sandbox.h"
#include "tools/background_jobs.h"
#include "tools/registry.h"
#include "tools/tool.h"
#include "workspace/tree.h"

namespace holdfast::tools {

// A directory that is removed with all in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct ToolSessionOptions {
  sandbox::WorkspaceMode mode = sandbox::WorkspaceMode::kOverlay;
  sandbox::Limits limits = {.wall_ms = 60'000, .memory_bytes = 1 * sandbox::kGiB, .kill_grace_ms = 100};
  std::string path_variable;  // PATH of the commands; empty: as ever
  BackgroundBounds background;
};

class ToolSession {
 public:
  explicit ToolSession(ToolSessionOptions options = {});
  ~ToolSession();

  // Makes a file of the tree underneath, with its directories. Before Open only.
  void Write(const std::string& path, std::string_view bytes);
  // Starts the session; done by the first call otherwise.
  void Open();
  // Ends the session and all in it.
  void Close();

  // A call to its end. The arguments are checked against the tool's schema first.
  ToolResult Call(const std::string& id, const nlohmann::json& arguments);

  // A call that is not waited for: `done` on whatever thread.
  std::unique_ptr<RunningCall> Begin(const std::string& id, const nlohmann::json& arguments, Done done);
  // Runs `task` on the control lane and waits for it.
  void OnControl(absl::AnyInvocable<void()> task);

  ToolContext Context();
  Registry& registry() { return registry_; }
  BackgroundJobs& jobs() { return *jobs_; }
  memory::BlobStore& blobs() { return *blobs_; }
  workspace::Tree& files() { return *files_; }
  sandbox::Session& session() { return *session_; }
  sandbox::Sandbox& sandbox() { return *sandbox_; }
  std::string tree() const { return scratch_.path() + "/tree"; }
  std::string upper() const { return scratch_.path() + "/layer/upper"; }

 private:
  const ToolSessionOptions options_;
  TemporaryDirectory scratch_;
  Registry registry_;
  base::ThreadExecutor executor_;
  std::unique_ptr<memory::BlobStore> blobs_;
  std::unique_ptr<sandbox::Sandbox> sandbox_;
  std::unique_ptr<sandbox::Session> session_;
  std::unique_ptr<workspace::Tree> files_;
  std::unique_ptr<BackgroundJobs> jobs_;
};

}  // namespace holdfast::tools
