#include "server/unix_listener.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/errno.h"
#include "base/file.h"

namespace holdfast::server {
namespace {

constexpr int kBacklog = 128;
constexpr int kRetryMs = 100;  // when the process has too many descriptors

base::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return base::InvalidArgument(path + ": " + std::to_string(path.size()) + " bytes, a socket may have " +
                                 std::to_string(sizeof(address.sun_path) - 1) +
                                 "; name a shorter one with --socket");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// The user who connected: ourselves or root.
base::Status CheckPeer(int fd) {
  ucred peer = {};
  socklen_t length = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return base::ErrnoStatus(errno, "SO_PEERCRED");
  }
  if (peer.uid == geteuid() || peer.uid == 0) return {};
  return absl::PermissionDeniedError(
      base::View("a connection of user " + std::to_string(peer.uid) + " was refused"));
}

}  // namespace

base::StatusOr<std::unique_ptr<UnixListener>> UnixListener::Listen(
    const std::string& path, std::function<void(base::Descriptor)> on_accept,
    std::function<void(const std::string&)> on_refused) {
  HF_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  base::Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return base::ErrnoStatus(errno, "socket");
  int wake[2];
  if (pipe2(wake, O_CLOEXEC) != 0) return base::ErrnoStatus(errno, "pipe2");
  base::Descriptor wake_read(wake[0]), wake_write(wake[1]);
  (void)base::RealFileSystem().Remove(path);  // left by a process that was killed
  // The mode is of the file from its first moment on: nobody can connect before it is changed.
  if (fchmod(socket.get(), 0600) != 0) return base::ErrnoStatus(errno, path);
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return base::ErrnoStatus(errno, path);
  }
  if (chmod(path.c_str(), 0600) != 0 || listen(socket.get(), kBacklog) != 0) {
    return base::ErrnoStatus(errno, path);
  }
  std::unique_ptr<UnixListener> listener(
      new UnixListener(path, std::move(socket), std::move(wake_read), std::move(wake_write)));
  listener->thread_ =
      std::thread([raw = listener.get(), on_accept = std::move(on_accept),
                   on_refused = std::move(on_refused)] { raw->Accept(on_accept, on_refused); });
  return listener;
}

UnixListener::UnixListener(std::string path, base::Descriptor socket, base::Descriptor wake_read,
                           base::Descriptor wake_write)
    : path_(std::move(path)),
      socket_(std::move(socket)),
      wake_read_(std::move(wake_read)),
      wake_write_(std::move(wake_write)) {}

UnixListener::~UnixListener() {
  wake_write_.Reset();
  if (thread_.joinable()) thread_.join();
  (void)base::RealFileSystem().Remove(path_);
}

void UnixListener::Accept(const std::function<void(base::Descriptor)>& on_accept,
                          const std::function<void(const std::string&)>& on_refused) {
  for (;;) {
    pollfd ready[2] = {{.fd = socket_.get(), .events = POLLIN, .revents = 0},
                       {.fd = wake_read_.get(), .events = POLLIN, .revents = 0}};
    if (poll(ready, 2, -1) < 0 && errno != EINTR) return on_refused("poll: the socket is no longer served");
    if (ready[1].revents != 0) return;
    base::Descriptor connection(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection.valid()) {
      if (errno == EMFILE || errno == ENFILE) poll(&ready[1], 1, kRetryMs);
      continue;
    }
    if (const base::Status allowed = CheckPeer(connection.get()); !allowed.ok()) {
      on_refused(base::Message(allowed));
      continue;
    }
    on_accept(std::move(connection));
  }
}

}  // namespace holdfast::server
