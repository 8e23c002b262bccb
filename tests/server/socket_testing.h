// A client's end of a socket, for the tests of who accepts it.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/descriptor.h"
#include "gtest/gtest.h"
#include "server/acceptor.h"

namespace holdfast::server {

// A new directory, whose path is short enough for a socket's.
inline std::string ShortDirectory() {
  char path[] = "/tmp/hf-XXXXXX";
  return mkdtemp(path);
}

// Invalid, with errno, when the connection is refused.
inline base::Descriptor ConnectUnix(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  base::Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return {};
  return socket;
}

// The other end was closed, now or soon.
inline bool IsClosed(const base::Descriptor& socket) {
  pollfd ready{.fd = socket.get(), .events = POLLIN, .revents = 0};
  char byte = 0;
  return poll(&ready, 1, 10'000) == 1 && read(socket.get(), &byte, 1) <= 0;
}

// What an Acceptor has handed on and refused.
class Door {
 public:
  AcceptorOptions options(size_t connections_max) {
    return {.connections_max = connections_max,
            .on_accept = [this](base::Descriptor one) { Note([&] { accepted_.push_back(std::move(one)); }); },
            .on_refused = [this](const std::string& why) { Note([&] { refused_.push_back(why); }); }};
  }
  // Waits until so many were accepted and refused.
  void Wait(size_t accepted, size_t refused) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return accepted_.size() >= accepted && refused_.size() >= refused; });
  }
  std::vector<base::Descriptor>& accepted() { return accepted_; }
  const std::vector<std::string>& refused() const { return refused_; }

 private:
  template <class Change>
  void Note(Change change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<base::Descriptor> accepted_;
  std::vector<std::string> refused_;
};

}  // namespace holdfast::server
