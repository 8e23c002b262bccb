// Calls of the API with any bytes as the request.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"

namespace holdfast::server {

// "/holdfast.v1.SessionService/CreateSession", ..., in the order of the proto.
std::vector<std::string> SessionMethods();

// The request without what names a place of the machine that its session would work on; the bytes as they
// are when they are no such request.
std::string WithoutPlaces(std::string_view create_session_request);

// Of a call that may be a stream, which has no end of its own.
inline constexpr int64_t kStreamDeadlineMs = 50;

class RawCaller {
 public:
  explicit RawCaller(const std::string& socket);

  // Sends `request` as the one message of a call, and reads its answers, 16 at most; cancels it after
  // `deadline_ms`.
  base::Status Call(const std::string& method, std::string_view request,
                    int64_t deadline_ms = kStreamDeadlineMs);

 private:
  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
};

}  // namespace holdfast::server
