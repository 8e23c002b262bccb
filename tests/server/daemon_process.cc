#include "tests/server/daemon_process.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/check.h"

namespace holdfast::server {

void DaemonProcess::Start() {
  HF_CHECK(!running());
  std::string program = HOLDFAST_TEST_DAEMON;
  std::string directory = directory_;
  char* const arguments[] = {program.data(), directory.data(), nullptr};
  HF_CHECK(posix_spawn(&pid_, program.c_str(), nullptr, nullptr, arguments, environ) == 0);
}

void DaemonProcess::Kill() {
  if (!running()) return;
  kill(pid_, SIGKILL);
  HF_CHECK(waitpid(pid_, nullptr, 0) == pid_);
  pid_ = -1;
}

std::unique_ptr<SessionStub> DaemonProcess::NewStub() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  return v1::SessionService::NewStub(grpc::CreateCustomChannel(
      "unix:" + directory_ + "/holdfast.sock", grpc::InsecureChannelCredentials(), arguments));
}

}  // namespace holdfast::server
