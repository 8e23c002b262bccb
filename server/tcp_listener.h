// The door for clients that do not come by the unix socket: TCP. Whoever calls shows the token; over anything
// but the loopback interface the connection is TLS.
//
// Threads: that of its Acceptor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/descriptor.h"
#include "base/status.h"
#include "grpcpp/security/server_credentials.h"
#include "server/acceptor.h"

namespace holdfast::server {

struct TcpOptions {
  std::string address;          // "127.0.0.1:7443", "[::1]:0", "localhost:7443"; empty: no such door
  std::string tls_certificate;  // PEM files, with the chain; both or none
  std::string tls_key;
  std::string tls_client_ca;  // PEM file: clients must have a certificate of it; empty: the token is enough
};

using ServerCredentials = std::shared_ptr<grpc::ServerCredentials>;  // shared: as gRPC wants them

// InvalidArgument for what is no numeric address and port of the loopback interface.
base::Status CheckLoopback(const std::string& address);

// What the connections of the door are secured with. InvalidArgument for options that do not go together, an
// address that is not numeric, and one that is not of the loopback interface without TLS; what reading a file
// answers. `token`: what calls must show (server/token.h).
base::StatusOr<ServerCredentials> MakeTcpCredentials(const TcpOptions& options, const std::string& token);

class TcpListener {
 public:
  // What MakeTcpCredentials says of the address; Unavailable, or what else bind answers.
  static base::StatusOr<std::unique_ptr<TcpListener>> Listen(const TcpOptions& options,
                                                             AcceptorOptions acceptor);

  const std::string& address() const { return address_; }  // with the port that was got

 private:
  TcpListener(std::string address, std::unique_ptr<Acceptor> acceptor);

  const std::string address_;
  const std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace holdfast::server
