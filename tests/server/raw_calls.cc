#include "tests/server/raw_calls.h"

#include "base/check.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/stubs/logging.h"
#include "grpc/support/time.h"
#include "holdfast/v1/session_service.pb.h"
#include "server/grpc_status.h"

namespace holdfast::server {
namespace {

constexpr int kAnswersMax = 16;

}  // namespace

std::vector<std::string> SessionMethods() {
  const auto* service =
      google::protobuf::DescriptorPool::generated_pool()->FindServiceByName("holdfast.v1.SessionService");
  HF_CHECK(service != nullptr);
  std::vector<std::string> methods;
  for (int i = 0; i < service->method_count(); ++i) {
    methods.push_back("/" + service->full_name() + "/" + service->method(i)->name());
  }
  return methods;
}

std::string WithoutPlaces(std::string_view create_session_request) {
  v1::CreateSessionRequest request;
  std::string bytes(create_session_request);
  if (!request.ParseFromString(bytes) || !request.has_spec()) return bytes;
  request.mutable_spec()->clear_repository();
  request.mutable_spec()->clear_load();
  return request.SerializeAsString();
}

RawCaller::RawCaller(const std::string& socket)
    : stub_(grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials())) {
  google::protobuf::SetLogHandler(nullptr);  // it prints every text that is no UTF-8
}

base::Status RawCaller::Call(const std::string& method, std::string_view request, int64_t deadline_ms) {
  grpc::ClientContext context;
  context.set_deadline(
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(deadline_ms, GPR_TIMESPAN)));
  const auto call = stub_.PrepareCall(&context, method, &queue_);
  const auto done = [this] {
    void* tag = nullptr;
    bool ok = false;
    HF_CHECK(queue_.Next(&tag, &ok));
    return ok;
  };
  const grpc::Slice slice{std::string(request)};
  const grpc::ByteBuffer bytes(&slice, 1);
  call->StartCall(nullptr);
  bool open = done();
  if (open) {
    call->Write(bytes, nullptr);
    open = done();
  }
  if (open) {
    call->WritesDone(nullptr);
    open = done();
  }
  for (int answers = 0; open && answers < kAnswersMax; ++answers) {
    grpc::ByteBuffer answer;
    call->Read(&answer, nullptr);
    open = done();
  }
  if (open) context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  HF_CHECK(done());
  return FromGrpc(status);
}

}  // namespace holdfast::server
