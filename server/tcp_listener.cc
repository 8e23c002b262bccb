#include "server/tcp_listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/errno.h"
#include "base/file.h"
#include "grpcpp/server_builder.h"
#include "server/token.h"

namespace holdfast::server {
namespace {

constexpr int kBacklog = 128;
constexpr uint64_t kPemBytesMax = 1 << 20;

struct Address {
  sockaddr_storage bytes = {};
  socklen_t length = 0;
  std::string host;  // as in the option, with brackets
  bool loopback = false;
};

base::StatusOr<Address> Parse(const std::string& text) {
  const size_t colon = text.rfind(':');
  const std::string host = text.substr(0, colon);
  uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const char* const digits = colon == std::string::npos ? end : text.data() + colon + 1;
  const auto [at, error] = std::from_chars(digits, end, port);
  if (digits == end || error != std::errc() || at != end) {
    return base::InvalidArgument(text + ": want ADDRESS:PORT, as 127.0.0.1:7443");
  }
  Address address{.host = host};
  auto& v4 = reinterpret_cast<sockaddr_in&>(address.bytes);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(address.bytes);
  if (inet_pton(AF_INET, host == "localhost" ? "127.0.0.1" : host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    address.length = sizeof(v4);
    address.loopback = ntohl(v4.sin_addr.s_addr) >> 24 == 127;
    return address;
  }
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed && inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    address.length = sizeof(v6);
    address.loopback = IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) != 0;
    return address;
  }
  return base::InvalidArgument(text + ": the address is to be numeric, as 127.0.0.1:7443 or [::1]:7443");
}

uint16_t PortOf(int fd) {
  sockaddr_storage bytes = {};
  socklen_t length = sizeof(bytes);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&bytes), &length) != 0) return 0;
  return ntohs(bytes.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(bytes).sin_port
                                          : reinterpret_cast<sockaddr_in6&>(bytes).sin6_port);
}

base::StatusOr<std::string> ReadPem(const std::string& path) {
  HF_ASSIGN_OR_RETURN(std::string text, base::RealFileSystem().ReadFile(path, kPemBytesMax));
  if (text.find("-----BEGIN ") == std::string::npos) return base::InvalidArgument(path + ": no PEM file");
  return text;
}

base::StatusOr<ServerCredentials> TlsCredentials(const TcpOptions& options) {
  grpc::SslServerCredentialsOptions tls(options.tls_client_ca.empty()
                                            ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                            : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair;
  HF_ASSIGN_OR_RETURN(pair.private_key, ReadPem(options.tls_key));
  HF_ASSIGN_OR_RETURN(pair.cert_chain, ReadPem(options.tls_certificate));
  tls.pem_key_cert_pairs.push_back(std::move(pair));
  if (!options.tls_client_ca.empty()) {
    HF_ASSIGN_OR_RETURN(tls.pem_root_certs, ReadPem(options.tls_client_ca));
  }
  ServerCredentials credentials = grpc::SslServerCredentials(tls);
  // Of connections that are handed to it gRPC says only in the log that it cannot secure them; of a port of
  // its own it says so here.
  int port = 0;
  grpc::ServerBuilder probe;
  probe.AddListeningPort("127.0.0.1:0", credentials, &port);
  const std::unique_ptr<grpc::Server> server = probe.BuildAndStart();
  if (server == nullptr || port == 0) {
    return base::InvalidArgument(options.tls_certificate + " and " + options.tls_key +
                                 ": no certificate and key that belong together");
  }
  return credentials;
}

}  // namespace

base::Status CheckLoopback(const std::string& address) {
  HF_ASSIGN_OR_RETURN(const Address parsed, Parse(address));
  if (parsed.loopback) return {};
  return base::InvalidArgument(address + " is not of the loopback interface; listen at 127.0.0.1");
}

base::StatusOr<ServerCredentials> MakeTcpCredentials(const TcpOptions& options, const std::string& token) {
  HF_ASSIGN_OR_RETURN(const Address address, Parse(options.address));
  const bool tls = !options.tls_certificate.empty();
  if (tls != !options.tls_key.empty() || (!tls && !options.tls_client_ca.empty())) {
    return base::InvalidArgument("TLS wants both --tls-cert and --tls-key");
  }
  if (!tls && !address.loopback) {
    return base::InvalidArgument(options.address +
                                 " is not of the loopback interface: others could read and change what is "
                                 "said there. Give --tls-cert and --tls-key, or listen at 127.0.0.1");
  }
  ServerCredentials credentials = grpc::experimental::LocalServerCredentials(LOCAL_TCP);
  if (tls) {
    HF_ASSIGN_OR_RETURN(credentials, TlsCredentials(options));
  }
  credentials->SetAuthMetadataProcessor(RequireToken(token));
  return credentials;
}

base::StatusOr<std::unique_ptr<TcpListener>> TcpListener::Listen(const TcpOptions& options,
                                                                 AcceptorOptions acceptor) {
  HF_ASSIGN_OR_RETURN(const Address address, Parse(options.address));
  base::Descriptor socket(
      ::socket(address.bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!socket.valid()) return base::ErrnoStatus(errno, "socket");
  const int on = 1;
  setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // connections inherit it
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&address.bytes), address.length) != 0 ||
      listen(socket.get(), kBacklog) != 0) {
    return base::ErrnoStatus(errno, options.address);
  }
  std::string name = address.host + ":" + std::to_string(PortOf(socket.get()));
  HF_ASSIGN_OR_RETURN(auto started, Acceptor::Start(std::move(socket), std::move(acceptor)));
  return std::unique_ptr<TcpListener>(new TcpListener(std::move(name), std::move(started)));
}

TcpListener::TcpListener(std::string address, std::unique_ptr<Acceptor> acceptor)
    : address_(std::move(address)), acceptor_(std::move(acceptor)) {}

}  // namespace holdfast::server
