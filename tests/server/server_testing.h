// A daemon over the model that ships with Holdfast, in a directory of its own, and calls to it over its
// socket.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "grpcpp/grpcpp.h"
#include "holdfast/v1/session_service.grpc.pb.h"
#include "server/daemon.h"
#include "server/grpc_status.h"

namespace holdfast::server {

class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The options of a daemon that keeps its data in `directory`.
DaemonOptions TestDaemonOptions(const std::string& directory);

// A call ends after so long, whatever happens.
void SetDeadline(grpc::ClientContext& context, int seconds = 120);

using SessionStub = v1::SessionService::Stub;

// A unary call, and its answer or error.
template <class Request, class Response>
base::StatusOr<Response> Call(SessionStub& stub,
                              grpc::Status (SessionStub::*method)(grpc::ClientContext*, const Request&,
                                                                  Response*),
                              const Request& request) {
  grpc::ClientContext context;
  SetDeadline(context);
  Response response;
  const grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) return FromGrpc(status);
  return response;
}

// Runs in this process.
class TestServer {
 public:
  TestServer();

  void Stop() { daemon_.reset(); }
  void Start();
  std::unique_ptr<SessionStub> NewStub() const;
  SessionStub& stub() { return *stub_; }
  const std::string& directory() const { return directory_.path(); }

 private:
  TempDirectory directory_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<SessionStub> stub_;
};

// A session without work.
v1::CreateSessionRequest NewSession(const std::string& id);
v1::SendMessageRequest Signal(const std::string& id, const std::string& text,
                              const std::string& request_id = {});

}  // namespace holdfast::server
