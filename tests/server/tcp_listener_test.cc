#include "server/tcp_listener.h"

#include <string>

#include "base/coding.h"
#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/socket_testing.h"

namespace holdfast::server {
namespace {

using ::testing::HasSubstr;

base::Status Credentials(const TcpOptions& options) {
  return MakeTcpCredentials(options, std::string(64, 'a')).status();
}

TEST(TcpListenerTest, WithoutTlsOnlyTheLoopbackInterfaceIsServed) {
  for (const char* address : {"127.0.0.1:1", "127.8.9.10:0", "[::1]:65535", "localhost:80"}) {
    EXPECT_TRUE(Credentials({.address = address}).ok()) << address;
  }
  for (const char* address :
       {"0.0.0.0:1", "[::]:1", "192.168.0.1:1", "[fe80::1]:1", "[::ffff:127.0.0.1]:1"}) {
    const base::Status refused = Credentials({.address = address});
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << address;
    EXPECT_THAT(base::Message(refused), HasSubstr("--tls-cert")) << address;
  }
}

TEST(TcpListenerTest, WhatIsNoNumericAddressAndPortIsRefused) {
  for (const char* address : {"127.0.0.1", ":1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
                              "127.0.0.1:-1", "::1:1", "example.org:1", "127.0.0.1:1 ", "[]:1", "[::1:1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Credentials({.address = address}))) << address;
  }
}

TEST(TcpListenerTest, CertificateAndKeyGoTogetherAndAreReadAtTheStart) {
  const std::string file = ShortDirectory() + "/no.pem";
  const std::string text = "no certificate";
  ASSERT_TRUE(base::WriteFileAtomically(base::RealFileSystem(), file, base::AsBytes(text)).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Credentials({.address = "127.0.0.1:1", .tls_certificate = file})));
  EXPECT_TRUE(absl::IsInvalidArgument(Credentials({.address = "127.0.0.1:1", .tls_key = file})));
  EXPECT_TRUE(absl::IsInvalidArgument(Credentials({.address = "127.0.0.1:1", .tls_client_ca = file})));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Credentials({.address = "127.0.0.1:1", .tls_certificate = file, .tls_key = file})));
  EXPECT_TRUE(absl::IsNotFound(
      Credentials({.address = "127.0.0.1:1", .tls_certificate = file + "2", .tls_key = file + "2"})));
}

TEST(TcpListenerTest, PortZeroIsAnyAndAPortInUseIsRefused) {
  Door door;
  const auto listener = TcpListener::Listen({.address = "127.0.0.1:0"}, door.options(4));
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_THAT((*listener)->address(), ::testing::MatchesRegex("127.0.0.1:[1-9][0-9]*"));
  EXPECT_FALSE(TcpListener::Listen({.address = (*listener)->address()}, door.options(4)).ok());
}

}  // namespace
}  // namespace holdfast::server
