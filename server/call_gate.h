// The door that every call of the API comes in by: refused once the server stops, run on the control lane,
// and reported when it is answered.
//
//   grpc::ServerUnaryReactor* GetSession(context, request, response) override {
//     return gate_.Unary(context, "GetSession", [=, this](Finish finish) { ...; finish(status); });
//   }
//
// Threads: any. Request and response of a call live until its Finish is called.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/status.h"
#include "grpcpp/grpcpp.h"
#include "server/runtime.h"

namespace holdfast::server {

// A call that has been answered.
struct CallRecord {
  std::string_view method;  // "GetSession"
  base::Status status;
  int64_t took_ns = 0;
};

// Answers a call, once. Destroyed without having been called (the work was dropped) it answers Unavailable.
class Finish {
 public:
  explicit Finish(absl::AnyInvocable<void(base::Status)> answer) : answer_(std::move(answer)) {}
  Finish(Finish&& other) noexcept : answer_(std::exchange(other.answer_, nullptr)) {}
  Finish& operator=(Finish&&) = delete;
  ~Finish();

  void operator()(base::Status status) { std::exchange(answer_, nullptr)(std::move(status)); }

 private:
  absl::AnyInvocable<void(base::Status)> answer_;  // null: it has been
};

// What calls are told once the server stops: Unavailable, SERVER_STOPPING.
base::Status Stopping();

class CallGate {
 public:
  // Both outlive the gate. `on_call` may be empty.
  explicit CallGate(Runtime& runtime, std::function<void(const CallRecord&)> on_call = {})
      : runtime_(runtime), on_call_(std::move(on_call)) {}

  // Runs `work` on the control lane; Unavailable when too much waits there. `method` is a literal.
  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, std::string_view method,
                                  absl::AnyInvocable<void(Finish)> work);

  // For calls that have reactors of their own: Unavailable once the server stops.
  base::Status Admit() const;
  void Report(const CallRecord& record) const {
    if (on_call_) on_call_(record);
  }

  // `end_streams` is called once, by Close on its thread: calls that would go on for long are to end soon,
  // with Stopping(). Before the server starts; what it uses outlives the gate's Close.
  void OnClose(std::function<void()> end_streams) { on_close_.push_back(std::move(end_streams)); }

  // From here on calls are refused; short ones that have begun are answered. Later calls do nothing.
  void Close();

 private:
  Runtime& runtime_;
  const std::function<void(const CallRecord&)> on_call_;
  std::vector<std::function<void()>> on_close_;
  std::atomic<bool> closed_ = false;
};

}  // namespace holdfast::server
