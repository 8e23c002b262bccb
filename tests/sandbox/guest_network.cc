#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/sandbox/guest.h"

namespace guest {
namespace {

// Which families a socket can be made of.
int Families(const Arguments&) {
  for (int family = 0; family < 64; ++family) {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
      const int fd = socket(family, type, 0);
      if (fd < 0) continue;
      std::printf("family=%d\n", family);
      close(fd);
      break;
    }
  }
  // The kernel sees the low half only.
  Report("vsock_high", syscall(SYS_socket, 0xff00000028ul, SOCK_STREAM, 0));
  Report("huge", syscall(SYS_socket, 0x80000028ul, SOCK_STREAM, 0));
  return 0;
}

int RawSockets(const Arguments&) {
  Report("raw", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
  Report("raw_cloexec", socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP));
  Report("packet", socket(AF_PACKET, SOCK_RAW, 0));
  Report("netlink_audit", socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT));
  Report("netlink_netfilter", socket(AF_NETLINK, SOCK_DGRAM, NETLINK_NETFILTER));
  Report("netlink_route", socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE));
  return 0;
}

long ConnectInet(const std::string& address, int port, int type) {
  const int fd = socket(AF_INET, type, 0);
  if (fd < 0) return -1;
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, address.c_str(), &to.sin_addr);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) return -1;
  return type == SOCK_DGRAM ? send(fd, "x", 1, 0) : 0;
}

int ConnectTcp(const Arguments& arguments) {
  Report("tcp", ConnectInet(arguments[0], std::atoi(arguments[1].c_str()), SOCK_STREAM));
  return 0;
}

int ConnectUdp(const Arguments& arguments) {
  Report("udp", ConnectInet(arguments[0], std::atoi(arguments[1].c_str()), SOCK_DGRAM));
  return 0;
}

// An abstract socket by name, or, with a slash in front, one by path.
int ConnectUnix(const Arguments& arguments) {
  for (const std::string& name : arguments) {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un to = {};
    to.sun_family = AF_UNIX;
    socklen_t length;
    if (name[0] == '/') {
      std::strncpy(to.sun_path, name.c_str(), sizeof(to.sun_path) - 1);
      length = sizeof(to);
    } else {
      std::memcpy(to.sun_path + 1, name.c_str(), name.size());
      length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    }
    Report(name, fd < 0 ? -1 : connect(fd, reinterpret_cast<sockaddr*>(&to), length));
  }
  return 0;
}

// A server of its own on loopback must work: build tools have them.
int OwnServer(const Arguments&) {
  const int server = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at = {};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(at);
  Report("bind", bind(server, reinterpret_cast<sockaddr*>(&at), sizeof(at)));
  Report("listen", listen(server, 1));
  getsockname(server, reinterpret_cast<sockaddr*>(&at), &length);
  Report("connect", ConnectInet("127.0.0.1", ntohs(at.sin_port), SOCK_STREAM));
  return 0;
}

}  // namespace

const std::vector<Attempt> kNetworkAttempts = {
    {"families", Families},      {"raw-sockets", RawSockets},   {"connect-tcp", ConnectTcp},
    {"connect-udp", ConnectUdp}, {"connect-unix", ConnectUnix}, {"own-server", OwnServer},
};

}  // namespace guest
