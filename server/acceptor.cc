#include "server/acceptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "base/errno.h"

namespace holdfast::server {
namespace {

constexpr int kRetryMs = 100;  // when the process has too many descriptors

ino_t InodeOf(int fd) {
  struct stat found = {};
  return fstat(fd, &found) == 0 && S_ISSOCK(found.st_mode) ? found.st_ino : 0;
}

}  // namespace

base::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Start(base::Descriptor socket, AcceptorOptions options) {
  int wake[2];
  if (pipe2(wake, O_CLOEXEC) != 0) return base::ErrnoStatus(errno, "pipe2");
  std::unique_ptr<Acceptor> acceptor(new Acceptor(std::move(socket), base::Descriptor(wake[0]),
                                                  base::Descriptor(wake[1]), std::move(options)));
  acceptor->thread_ = std::thread([raw = acceptor.get()] { raw->Run(); });
  return acceptor;
}

Acceptor::Acceptor(base::Descriptor socket, base::Descriptor wake_read, base::Descriptor wake_write,
                   AcceptorOptions options)
    : options_(std::move(options)),
      socket_(std::move(socket)),
      wake_read_(std::move(wake_read)),
      wake_write_(std::move(wake_write)) {}

Acceptor::~Acceptor() {
  wake_write_.Reset();
  if (thread_.joinable()) thread_.join();
}

void Acceptor::Run() {
  for (;;) {
    pollfd ready[2] = {{.fd = socket_.get(), .events = POLLIN, .revents = 0},
                       {.fd = wake_read_.get(), .events = POLLIN, .revents = 0}};
    if (poll(ready, 2, -1) < 0 && errno != EINTR) {
      return options_.on_refused("poll: the socket is no longer served");
    }
    if (ready[1].revents != 0) return;
    base::Descriptor connection(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.valid()) {
      Take(std::move(connection));
    } else if (errno == EMFILE || errno == ENFILE) {
      poll(&ready[1], 1, kRetryMs);
    }
  }
}

void Acceptor::Take(base::Descriptor connection) {
  if (const base::Status admitted = options_.admit ? options_.admit(connection.get()) : base::Status();
      !admitted.ok()) {
    return options_.on_refused(base::Message(admitted));
  }
  if (!HasRoom()) {
    return options_.on_refused("a connection was refused: there are " +
                               std::to_string(options_.connections_max) + " already");
  }
  connections_.push_back({.fd = connection.get(), .inode = InodeOf(connection.get())});
  options_.on_accept(std::move(connection));
}

bool Acceptor::HasRoom() {
  if (connections_.size() < options_.connections_max) return true;
  std::erase_if(connections_, [](const Connection& one) { return InodeOf(one.fd) != one.inode; });
  return connections_.size() < options_.connections_max;
}

}  // namespace holdfast::server
