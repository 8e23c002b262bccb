#include "server/server_service.h"

#include <unistd.h>

#include <utility>

#include "server/grpc_status.h"

namespace holdfast::server {
namespace {

constexpr int64_t kStopDeadlineMs = 30'000;
constexpr int64_t kStopDeadlineSecondsMax = 24 * 3600;

}  // namespace

ServerService::ServerService(CallGate& gate, Runtime& runtime, ServerFacts facts,
                             std::function<void(int64_t)> stop)
    : gate_(gate), runtime_(runtime), facts_(std::move(facts)), stop_(std::move(stop)) {}

grpc::ServerUnaryReactor* ServerService::GetServerInfo(grpc::CallbackServerContext* context,
                                                       const v1::GetServerInfoRequest*,
                                                       v1::GetServerInfoResponse* response) {
  return gate_.Unary(context, "GetServerInfo", [this, response](Finish finish) {
    response->set_version(facts_.version);
    response->mutable_start_time()->set_seconds(facts_.start_utc_ms / 1000);
    response->set_data_directory(facts_.data_directory);
    response->set_model_directory(facts_.model_directory);
    response->set_process_id(getpid());
    response->set_sessions_open(static_cast<int32_t>(runtime_.manager().open_sessions()));
    finish({});
  });
}

grpc::ServerUnaryReactor* ServerService::StopServer(grpc::CallbackServerContext* context,
                                                    const v1::StopServerRequest* request,
                                                    v1::StopServerResponse*) {
  return gate_.Unary(context, "StopServer", [this, request](Finish finish) {
    int64_t deadline_ms = kStopDeadlineMs;
    if (request->has_deadline()) {
      const int64_t seconds = request->deadline().seconds();
      if (seconds < 0 || seconds > kStopDeadlineSecondsMax) {
        return finish(WithField(base::InvalidArgument("deadline: 0 to 24 hours"), "deadline"));
      }
      deadline_ms = seconds * 1000 + request->deadline().nanos() / 1'000'000;
    }
    finish({});
    stop_(deadline_ms);
  });
}

}  // namespace holdfast::server
