#include "tests/tools/tool_session.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <utility>

#include "gtest/gtest.h"
#include "tools/command_tools.h"
#include "tools/nano_tools.h"
#include "tools/search_tools.h"

namespace holdfast::tools {
namespace {

template <typename T>
T Must(base::StatusOr<T> value) {
  if (!value.ok()) {
    ADD_FAILURE() << value.status();
    std::abort();
  }
  return *std::move(value);
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  const char* root = std::getenv("TMPDIR");
  path_ = std::string(root != nullptr ? root : "/tmp") + "/hf-tools-XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) std::abort();
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

ToolSession::ToolSession(ToolSessionOptions options) : options_(std::move(options)) {
  std::filesystem::create_directories(tree());
  EXPECT_TRUE(AddCommandTools(registry_).ok());
  EXPECT_TRUE(AddSearchTools(registry_).ok());
  EXPECT_TRUE(AddNanoTools(registry_).ok());
  jobs_ = std::make_unique<BackgroundJobs>(options_.background);
}

ToolSession::~ToolSession() { Close(); }

void ToolSession::Write(const std::string& path, std::string_view bytes) {
  const std::filesystem::path whole = std::filesystem::path(tree()) / path;
  std::filesystem::create_directories(whole.parent_path());
  std::ofstream file(whole, std::ios::binary);
  file << bytes;
}

void ToolSession::Open() {
  if (session_ != nullptr) return;
  sandbox::Policy policy;
  policy.workspace.host = tree();
  policy.workspace.inside = "/workspace";
  policy.workspace.mode = options_.mode;
  if (options_.mode == sandbox::WorkspaceMode::kOverlay) policy.workspace.layer = scratch_.path() + "/layer";
  policy.limits = options_.limits;
  policy.setup_ms_max = 20'000;  // a machine busy with other tests
  if (!options_.path_variable.empty()) policy.set_environment.push_back({"PATH", options_.path_variable});
  if (sandbox_ == nullptr) {
    sandbox_ = Must(sandbox::Sandbox::Start({.broker_path = HOLDFAST_SANDBOX_BROKER}));
    blobs_ = Must(memory::BlobStore::Open(base::RealFileSystem(), {.directory = scratch_.path() + "/blobs"}));
  }
  session_ = Must(sandbox_->Open(policy));
  base::Descriptor root = Must(session_->OpenWorkspace());
  files_ = Must(workspace::OpenTree(
      root.Release(),
      {.links = workspace::Links::kWithin,
       .identity = workspace::TreeIdentity{.uid = session_->host_uid(), .gid = session_->host_gid()}}));
}

void ToolSession::Close() {
  executor_.Drain();
  jobs_->LoseAll();
  files_.reset();
  session_.reset();
}

ToolContext ToolSession::Context() {
  return {.executor = &executor_,
          .clock = &base::RealClock(),
          .session = session_.get(),
          .files = files_.get(),
          .inside = "/workspace",
          .blobs = blobs_.get(),
          .jobs = jobs_.get()};
}

void ToolSession::OnControl(absl::AnyInvocable<void()> task) {
  std::promise<void> ran;
  EXPECT_TRUE(executor_
                  .Post(base::Lane::kControl,
                        [&] {
                          task();
                          ran.set_value();
                        })
                  .ok());
  ran.get_future().wait();
}

std::unique_ptr<RunningCall> ToolSession::Begin(const std::string& id, const nlohmann::json& arguments,
                                                Done done) {
  Open();
  const RegisteredTool* const tool = registry_.Find(id);
  if (tool == nullptr) {
    ADD_FAILURE() << "no tool " << id;
    std::abort();
  }
  for (const std::string& problem : tool->schema.Check(arguments)) ADD_FAILURE() << id << ": " << problem;
  std::unique_ptr<RunningCall> running;
  OnControl([&] { running = tool->tool->Start(Context(), arguments, std::move(done)); });
  return running;
}

ToolResult ToolSession::Call(const std::string& id, const nlohmann::json& arguments) {
  std::promise<ToolResult> result;
  const std::unique_ptr<RunningCall> running =
      Begin(id, arguments, [&result](ToolResult r) { result.set_value(std::move(r)); });
  return result.get_future().get();
}

}  // namespace holdfast::tools
