// A client of the daemon: calls and streams of its API.
//
//   HF_ASSIGN_OR_RETURN(auto client, Client::Connect({.address = "unix:" + socket}));
//   v1::GetSessionRequest request;
//   request.set_name("sessions/fix-tests");
//   HF_ASSIGN_OR_RETURN(v1::GetSessionResponse got, client->Call(request));
//
// Errors are the server's, with their details (server/grpc_status.h); Unavailable: it cannot be reached, or
// has gone; Cancelled: `keep_on` said so.
//
// Threads: any; a call blocks its own. `keep_on` is asked on the calling thread, about 20 times a second.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "server/client_methods.h"

namespace google::protobuf {
class MessageLite;
}

namespace holdfast::server {

struct ClientOptions {
  // "unix:/absolute/path", or "HOST:PORT" over TCP, which wants a token.
  std::string address;
  std::string token;   // empty: none
  std::string tls_ca;  // PEM of who has signed the server's certificate; empty: no TLS
  int64_t connect_ms = 5'000;
  // False: what is under way ends with Cancelled. Empty: never.
  std::function<bool()> keep_on;
};

class Client {
 public:
  // Unavailable when nobody answers there, at once for a socket, in time for TCP; InvalidArgument for an
  // address without a scheme or port.
  static base::StatusOr<std::unique_ptr<Client>> Connect(ClientOptions options);
  ~Client();

  // One request, one answer.
  template <class Request>
  base::StatusOr<typename MethodOf<Request>::Response> Call(const Request& request) {
    typename MethodOf<Request>::Response response;
    HF_RETURN_IF_ERROR(Unary(MethodOf<Request>::kPath, request, response));
    return response;
  }

  // One request, many answers: until the server has no more, or `on_response` says false (then it is Ok too).
  // `silence_ms`: DeadlineExceeded when nothing has come for so long; 0: waits forever.
  template <class Request, class OnResponse>
  base::Status Stream(const Request& request, OnResponse on_response, int64_t silence_ms = 0) {
    typename MethodOf<Request>::Response response;
    return ServerStream(
        MethodOf<Request>::kPath, request, response, [&] { return bool(on_response(response)); }, silence_ms);
  }

  // Many requests, one answer: `next` fills a request, or says false when there are no more. An error of
  // `next` cancels the call and is answered.
  template <class Request, class Next>
  base::StatusOr<typename MethodOf<Request>::Response> Upload(Next next) {
    Request request;
    typename MethodOf<Request>::Response response;
    HF_RETURN_IF_ERROR(ClientStream(
        MethodOf<Request>::kPath, [&]() -> base::StatusOr<bool> { return next(request); }, request,
        response));
    return response;
  }

  // Waits until the server can be reached, again when the connection was lost. False: not in time.
  bool WaitForConnected(int64_t timeout_ms);

  // Lets time pass. False: keep_on said so first.
  bool Wait(int64_t ms) const;

  bool keep_on() const;
  // Another question from here on; not while a call is under way. It may make calls itself.
  void SetKeepOn(std::function<bool()> keep_on);
  const std::string& address() const;

 private:
  struct Shared;
  using Message = google::protobuf::MessageLite;

  explicit Client(std::unique_ptr<Shared> shared);
  base::Status Unary(const char* path, const Message& request, Message& response);
  base::Status ServerStream(const char* path, const Message& request, Message& response,
                            const std::function<bool()>& on_response, int64_t silence_ms);
  base::Status ClientStream(const char* path, const std::function<base::StatusOr<bool>()>& next,
                            const Message& request, Message& response);

  const std::unique_ptr<Shared> shared_;
};

}  // namespace holdfast::server
