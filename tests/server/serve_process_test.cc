// The process as a whole: how it starts, and every way in which it ends.
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "holdfast/v1/server_service.grpc.pb.h"
#include "tests/server/server_testing.h"

namespace holdfast::server {
namespace {

using ::testing::HasSubstr;

std::string ReadText(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// `holdfast serve` on a directory; killed at the end when it still runs.
class Process {
 public:
  Process(const std::string& data, const std::string& output) : output_(output) {
    std::vector<std::string> words = {
        HOLDFAST_PROGRAM, "serve", "--data", data, "--model", HOLDFAST_SOURCE_DIR "/model/nano/checkpoint",
        "--log-level",    "debug"};
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    EXPECT_EQ(posix_spawn(&id_, arguments[0], &actions, nullptr, arguments.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  ~Process() {
    if (id_ == 0) return;
    kill(id_, SIGKILL);
    Wait();
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  std::string output() const { return ReadText(output_); }
  void Signal(int signal) const { kill(id_, signal); }
  // False: the process has ended before.
  template <class Condition>
  bool WaitFor(Condition condition) const {
    while (!condition()) {
      siginfo_t ended = {};
      if (waitid(P_PID, static_cast<id_t>(id_), &ended, WEXITED | WNOHANG | WNOWAIT) != 0) return false;
      if (ended.si_pid != 0) return condition();
      poll(nullptr, 0, 20);
    }
    return true;
  }
  bool WaitForOutput(const std::string& text) const {
    return WaitFor([&] { return output().find(text) != std::string::npos; });
  }
  // The exit status, or the number of the signal that ended it, negative.
  int Wait() {
    int status = 0;
    while (waitpid(id_, &status, 0) < 0 && errno == EINTR) {
    }
    id_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  const std::string output_;
  pid_t id_ = 0;
};

class ServeProcessTest : public ::testing::Test {
 protected:
  std::unique_ptr<Process> Start() {
    auto process = std::make_unique<Process>(data_, directory_.path() + "/out" + std::to_string(++starts_));
    EXPECT_TRUE(process->WaitForOutput("serving at ")) << process->output();
    return process;
  }
  std::shared_ptr<grpc::Channel> Connect() const {  // shared: gRPC's
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel("unix:" + socket_, grpc::InsecureChannelCredentials(), arguments);
  }

  TempDirectory directory_;
  const std::string data_ = directory_.path() + "/data";
  const std::string socket_ = data_ + "/holdfast.sock";
  int starts_ = 0;
};

TEST_F(ServeProcessTest, SignalsEndItWithStatusZero) {
  for (const int signal : {SIGTERM, SIGINT}) {
    const auto process = Start();
    process->Signal(signal);
    EXPECT_EQ(process->Wait(), 0);
    EXPECT_THAT(process->output(), HasSubstr(" info stopped"));
    EXPECT_NE(access(socket_.c_str(), F_OK), 0) << "the socket is left";
  }
}

TEST_F(ServeProcessTest, AClientEndsItWithStatusZero) {
  const auto process = Start();
  grpc::ClientContext context;
  SetDeadline(context);
  v1::StopServerResponse response;
  ASSERT_TRUE(v1::ServerService::NewStub(Connect())->StopServer(&context, {}, &response).ok());
  EXPECT_EQ(process->Wait(), 0);
  EXPECT_THAT(process->output(), HasSubstr(" info stopped"));
}

TEST_F(ServeProcessTest, ASecondOneIsToldWhoHasTheDirectory) {
  const auto process = Start();
  Process second(data_, directory_.path() + "/second");
  EXPECT_EQ(second.Wait(), 1);
  EXPECT_THAT(second.output(), HasSubstr("in use by another process"));
  EXPECT_THAT(second.output(), HasSubstr("stop that one"));
  grpc::ClientContext context;
  SetDeadline(context);
  v1::GetServerInfoResponse response;
  EXPECT_TRUE(v1::ServerService::NewStub(Connect())->GetServerInfo(&context, {}, &response).ok());
}

TEST_F(ServeProcessTest, TheSocketOfAKilledOneIsReplaced) {
  auto process = Start();
  process->Signal(SIGKILL);
  EXPECT_EQ(process->Wait(), -SIGKILL);
  EXPECT_EQ(access(socket_.c_str(), F_OK), 0);
  process = Start();
  process->Signal(SIGTERM);
  EXPECT_EQ(process->Wait(), 0);
}

}  // namespace
}  // namespace holdfast::server
