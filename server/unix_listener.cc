#include "server/unix_listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/descriptor.h"
#include "base/errno.h"
#include "base/file.h"

namespace holdfast::server {
namespace {

constexpr int kBacklog = 128;

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

// A socket that a process has left which was killed.
base::Status RemoveStale(const std::string& path) {
  struct stat found = {};
  if (lstat(path.c_str(), &found) != 0) return {};
  if (!S_ISSOCK(found.st_mode)) {
    return base::FailedPrecondition(path + " is there and is no socket; name another one with --socket");
  }
  return base::RealFileSystem().Remove(path);
}

}  // namespace

base::StatusOr<std::unique_ptr<UnixListener>> UnixListener::Listen(const std::string& path,
                                                                   AcceptorOptions options) {
  HF_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  base::Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return base::ErrnoStatus(errno, "socket");
  HF_RETURN_IF_ERROR(RemoveStale(path));
  // The mode is of the file from its first moment on: nobody can connect before it is changed.
  if (fchmod(socket.get(), 0600) != 0) return base::ErrnoStatus(errno, path);
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return base::ErrnoStatus(errno, path);
  }
  if (chmod(path.c_str(), 0600) != 0 || listen(socket.get(), kBacklog) != 0) {
    return base::ErrnoStatus(errno, path);
  }
  options.admit = CheckPeer;
  HF_ASSIGN_OR_RETURN(auto acceptor, Acceptor::Start(std::move(socket), std::move(options)));
  return std::unique_ptr<UnixListener>(new UnixListener(path, std::move(acceptor)));
}

UnixListener::UnixListener(std::string path, std::unique_ptr<Acceptor> acceptor)
    : path_(std::move(path)), acceptor_(std::move(acceptor)) {}

UnixListener::~UnixListener() {
  acceptor_.reset();
  (void)base::RealFileSystem().Remove(path_);
}

}  // namespace holdfast::server
