// holdfast.v1.ServerService: what this server is, and its end.
#pragma once

#include <functional>
#include <string>

#include "holdfast/v1/server_service.grpc.pb.h"
#include "server/call_gate.h"
#include "server/runtime.h"

namespace holdfast::server {

struct ServerFacts {
  std::string version;
  std::string data_directory;
  std::string model_directory;
  int64_t start_utc_ms = 0;
  std::function<size_t()> watchers;  // asked on the control lane
};

class ServerService final : public v1::ServerService::CallbackService {
 public:
  // All outlive the service. `stop` asks for the end of the process, with a deadline, and returns at once.
  ServerService(CallGate& gate, Runtime& runtime, ServerFacts facts,
                std::function<void(int64_t deadline_ms)> stop);

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest* request,
                                          v1::GetServerInfoResponse* response) override;
  grpc::ServerWriteReactor<v1::BackupServerResponse>* BackupServer(
      grpc::CallbackServerContext* context, const v1::BackupServerRequest* request) override;
  grpc::ServerUnaryReactor* StopServer(grpc::CallbackServerContext* context,
                                       const v1::StopServerRequest* request,
                                       v1::StopServerResponse* response) override;

 private:
  CallGate& gate_;
  Runtime& runtime_;
  const ServerFacts facts_;
  const std::function<void(int64_t)> stop_;
};

}  // namespace holdfast::server
