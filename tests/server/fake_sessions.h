// A session service whose answers a test has written down, on a unix socket of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "grpcpp/grpcpp.h"
#include "holdfast/v1/session_service.grpc.pb.h"

namespace holdfast::server {

class FakeSessions final : public v1::SessionService::Service {
 public:
  explicit FakeSessions(std::string socket) : socket_(std::move(socket)) {}
  ~FakeSessions() override { Stop(); }

  void Start() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  void Stop() {
    if (server_ != nullptr) server_->Shutdown(gpr_now(GPR_CLOCK_MONOTONIC));
    server_.reset();
  }

  std::function<grpc::Status(const grpc::ServerContext&, const v1::GetSessionRequest&,
                             v1::GetSessionResponse&)>
      get;
  std::function<grpc::Status(const v1::WatchSessionRequest&, const grpc::ServerContext&,
                             const std::function<bool(const v1::WatchSessionResponse&)>&)>
      watch;

 private:
  grpc::Status GetSession(grpc::ServerContext* context, const v1::GetSessionRequest* request,
                          v1::GetSessionResponse* response) override {
    return get(*context, *request, *response);
  }
  grpc::Status WatchSession(grpc::ServerContext* context, const v1::WatchSessionRequest* request,
                            grpc::ServerWriter<v1::WatchSessionResponse>* writer) override {
    return watch(*request, *context,
                 [writer](const v1::WatchSessionResponse& r) { return writer->Write(r); });
  }
  // Answers with what came.
  grpc::Status ImportSession(grpc::ServerContext*, grpc::ServerReader<v1::ImportSessionRequest>* reader,
                             v1::ImportSessionResponse* response) override {
    v1::ImportSessionRequest request;
    std::string data;
    while (reader->Read(&request)) data += request.data();
    response->mutable_session()->set_last_text(data);
    return grpc::Status::OK;
  }

  const std::string socket_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace holdfast::server
