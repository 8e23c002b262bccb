#include "tests/server/server_testing.h"

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/check.h"
#include "grpc/support/time.h"
#include "model/engine.h"

namespace holdfast::server {

TempDirectory::TempDirectory()
    : path_((std::filesystem::temp_directory_path() / "holdfast-server-XXXXXX").string()) {
  HF_CHECK(mkdtemp(path_.data()) != nullptr);
}

TempDirectory::~TempDirectory() { std::filesystem::remove_all(path_); }

DaemonOptions TestDaemonOptions(const std::string& directory) {
  sandbox::Policy policy;
  policy.workspace.inside = "/workspace";
  return {.runtime = {.directory = directory,
                      .model = HOLDFAST_SOURCE_DIR "/model/nano/checkpoint",
                      .backend = model::MakeCpuBackend({}),
                      .broker = HOLDFAST_SANDBOX_BROKER,
                      .policy = std::move(policy)},
          .version = "test"};
}

void SetDeadline(grpc::ClientContext& context, int seconds) {
  context.set_deadline(
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(seconds, GPR_TIMESPAN)));
}

TestServer::TestServer() { Start(); }

void TestServer::Start() {
  auto daemon = Daemon::Start(TestDaemonOptions(directory_.path()));
  HF_CHECK(daemon.ok());
  daemon_ = *std::move(daemon);
  stub_ = NewStub();
}

std::unique_ptr<SessionStub> TestServer::NewStub() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  return v1::SessionService::NewStub(
      grpc::CreateCustomChannel("unix:" + daemon_->socket(), grpc::InsecureChannelCredentials(), arguments));
}

v1::CreateSessionRequest NewSession(const std::string& id) {
  v1::CreateSessionRequest request;
  request.set_session_id(id);
  return request;
}

v1::SendMessageRequest Signal(const std::string& id, const std::string& text, const std::string& request_id) {
  v1::SendMessageRequest request;
  request.set_name("sessions/" + id);
  request.set_kind(v1::SendMessageRequest::KIND_SIGNAL);
  request.set_text(text);
  request.set_request_id(request_id);
  return request;
}

}  // namespace holdfast::server
