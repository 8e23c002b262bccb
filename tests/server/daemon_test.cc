#include "server/daemon.h"

#include <sys/stat.h>

#include <fstream>
#include <memory>
#include <sstream>
#include <string>

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

class DaemonTest : public ::testing::Test {
 protected:
  base::Status Start() {
    HF_ASSIGN_OR_RETURN(daemon_, Daemon::Start([&] {
                          DaemonOptions options = TestDaemonOptions(directory_.path());
                          options.tcp = tcp_;
                          options.log.file = directory_.path() + "/log";
                          options.metrics = metrics_;
                          return options;
                        }()));
    return {};
  }
  // As whoever reaches the door that `target` names, and shows `token`.
  grpc::Status GetServerInfo(const std::string& target, const std::string& token,
                             const std::shared_ptr<grpc::ChannelCredentials>& credentials =  // shared: gRPC's
                             grpc::InsecureChannelCredentials()) {
    grpc::ChannelArguments arguments;
    arguments.SetSslTargetNameOverride("localhost");
    const auto stub = v1::ServerService::NewStub(grpc::CreateCustomChannel(target, credentials, arguments));
    grpc::ClientContext context;
    SetDeadline(context, 30);
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
    return stub->GetServerInfo(&context, {}, &info_);
  }
  std::string Token() {
    std::string token = ReadText(directory_.path() + "/token");
    token.pop_back();
    return token;
  }

  TempDirectory directory_;
  TcpOptions tcp_;
  std::string metrics_;
  v1::GetServerInfoResponse info_;
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(DaemonTest, TheUnixSocketWantsNoToken) {
  ASSERT_TRUE(Start().ok());
  const grpc::Status status = GetServerInfo("unix:" + daemon_->socket(), "");
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(info_.data_directory(), directory_.path());
}

TEST_F(DaemonTest, TheLoopbackDoorWantsTheTokenForEveryMethod) {
  tcp_.address = "127.0.0.1:0";
  ASSERT_TRUE(Start().ok());
  EXPECT_TRUE(GetServerInfo(daemon_->tcp_address(), Token()).ok());
  for (const std::string& wrong : {std::string(), std::string(64, 'a'), Token().substr(1)}) {
    EXPECT_EQ(GetServerInfo(daemon_->tcp_address(), wrong).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  }
}

TEST_F(DaemonTest, TheTlsDoorWantsTheToken) {
  tcp_ = {.address = "127.0.0.1:0",
          .tls_certificate = HOLDFAST_SOURCE_DIR "/tests/server/tls/certificate.pem",
          .tls_key = HOLDFAST_SOURCE_DIR "/tests/server/tls/key.pem"};
  ASSERT_TRUE(Start().ok());
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = ReadText(tcp_.tls_certificate);
  const auto credentials = grpc::SslCredentials(tls);
  const grpc::Status shown = GetServerInfo(daemon_->tcp_address(), Token(), credentials);
  EXPECT_TRUE(shown.ok()) << shown.error_message();
  EXPECT_EQ(GetServerInfo(daemon_->tcp_address(), "", credentials).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_FALSE(GetServerInfo(daemon_->tcp_address(), Token()).ok()) << "a client without TLS was served";
}

TEST_F(DaemonTest, ACertificateWithAnotherKeyIsRefusedAtTheStart) {
  tcp_ = {.address = "127.0.0.1:0",
          .tls_certificate = HOLDFAST_SOURCE_DIR "/tests/server/tls/certificate.pem",
          .tls_key = HOLDFAST_SOURCE_DIR "/tests/server/tls/other_key.pem"};
  EXPECT_FALSE(Start().ok());
}

TEST_F(DaemonTest, ASecondDaemonOnTheSameDirectoryIsRefused) {
  ASSERT_TRUE(Start().ok());
  const auto second = Daemon::Start(TestDaemonOptions(directory_.path()));
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_THAT(base::Message(second.status()), HasSubstr("in use by another process"));
  EXPECT_TRUE(GetServerInfo("unix:" + daemon_->socket(), "").ok()) << "the first lost its socket";
}

TEST_F(DaemonTest, CallsAreRefusedWithAReasonOnceTheServerStops) {
  ASSERT_TRUE(Start().ok());
  daemon_->RequestStop(5000);
  EXPECT_EQ(daemon_->WaitForStop(), 5000);
  const base::Status refused = FromGrpc(GetServerInfo("unix:" + daemon_->socket(), ""));
  EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
  EXPECT_EQ(ReasonOf(refused), "SERVER_STOPPING");
}

TEST_F(DaemonTest, TheLogHasNoWordOfTheUser) {
  constexpr char kSecret[] = "xyzzy-plugh-4711";
  ASSERT_TRUE(Start().ok());
  const auto channel = grpc::CreateChannel("unix:" + daemon_->socket(), grpc::InsecureChannelCredentials());
  const auto stub = v1::SessionService::NewStub(channel);
  v1::CreateSessionRequest create = NewSession("talk");
  create.set_message(std::string("Say ") + kSecret);
  ASSERT_TRUE(Call(*stub, &SessionStub::CreateSession, create).ok());
  v1::GetSessionRequest absent;
  absent.set_name(std::string("sessions/") + kSecret);
  ASSERT_FALSE(Call(*stub, &SessionStub::GetSession, absent).ok());
  daemon_.reset();
  const std::string log = ReadText(directory_.path() + "/log");
  EXPECT_THAT(log, HasSubstr("state session=talk"));
  EXPECT_THAT(log, HasSubstr("method=GetSession code=NOT_FOUND"));
  EXPECT_THAT(log, HasSubstr(" stopped"));
  EXPECT_THAT(log, ::testing::Not(HasSubstr(kSecret)));
}

TEST_F(DaemonTest, ABackupIsADataDirectory) {
  ASSERT_TRUE(Start().ok());
  const auto channel = grpc::CreateChannel("unix:" + daemon_->socket(), grpc::InsecureChannelCredentials());
  const auto sessions = v1::SessionService::NewStub(channel);
  const auto stub = v1::ServerService::NewStub(channel);
  v1::CreateSessionRequest create = NewSession("kept");
  create.set_message("Write a poem.");  // so that it works while it is copied
  ASSERT_TRUE(Call(*sessions, &SessionStub::CreateSession, create).ok());
  TempDirectory elsewhere;
  v1::BackupServerRequest request;
  request.set_directory(elsewhere.path() + "/copy");
  const auto back_up = [&](v1::BackupServerResponse* last) {
    grpc::ClientContext context;
    SetDeadline(context);
    const auto stream = stub->BackupServer(&context, request);
    v1::BackupServerResponse response;
    while (stream->Read(&response)) *last = response;
    return FromGrpc(stream->Finish());
  };
  v1::BackupServerResponse last;
  const base::Status copied = back_up(&last);
  ASSERT_TRUE(copied.ok()) << copied;
  EXPECT_TRUE(last.ended());
  EXPECT_EQ(last.bytes_done(), last.bytes_total());
  EXPECT_TRUE(absl::IsAlreadyExists(back_up(&last)));
  daemon_.reset();
  auto copy = Daemon::Start(TestDaemonOptions(request.directory()));
  ASSERT_TRUE(copy.ok()) << copy.status();
  const auto again = v1::SessionService::NewStub(
      grpc::CreateChannel("unix:" + (*copy)->socket(), grpc::InsecureChannelCredentials()));
  v1::GetSessionRequest get;
  get.set_name("sessions/kept");
  const auto session = Call(*again, &SessionStub::GetSession, get);  // opened: its chain is proven
  EXPECT_TRUE(session.ok()) << session.status();
}

TEST_F(DaemonTest, MetricsAreServed) {
  metrics_ = "127.0.0.1:0";
  ASSERT_TRUE(Start().ok());
  EXPECT_GT(daemon_->metrics_port(), 0);
}

}  // namespace
}  // namespace holdfast::server
