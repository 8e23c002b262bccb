#include "server/call_gate.h"

#include <utility>

#include "server/grpc_status.h"

namespace holdfast::server {

base::Status Stopping() {
  return WithReason(absl::UnavailableError("the server is stopping; try again when it has started anew"),
                    "SERVER_STOPPING");
}

Finish::~Finish() {
  if (answer_) (*this)(Stopping());
}

void CallGate::Close() {
  if (closed_.exchange(true)) return;
  for (const auto& end_streams : on_close_) end_streams();
}

base::Status CallGate::Admit() const { return closed_ ? Stopping() : base::Status(); }

grpc::ServerUnaryReactor* CallGate::Unary(grpc::CallbackServerContext* context, std::string_view method,
                                          absl::AnyInvocable<void(Finish)> work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const int64_t began_ns = base::RealClock().MonotonicNow().ns;
  Finish finish([this, reactor, method, began_ns](const base::Status& status) {
    Report({.method = method, .status = status, .took_ns = base::RealClock().MonotonicNow().ns - began_ns});
    reactor->Finish(ToGrpc(status));
  });
  if (base::Status admitted = Admit(); !admitted.ok()) {
    finish(std::move(admitted));
    return reactor;
  }
  // A lane that is full, or has shut down, drops the task, which answers.
  (void)runtime_.executor().Post(
      base::Lane::kControl,
      [work = std::move(work), finish = std::move(finish)]() mutable { work(std::move(finish)); });
  return reactor;
}

}  // namespace holdfast::server
