// Accepts the connections of a listening socket and hands them on as descriptors; never more at once than a
// bound. Who uses a connection later need not say when it ends: that it is gone is seen from its descriptor.
//
// Threads: one of its own, which calls the functions of the options.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/descriptor.h"
#include "base/status.h"

namespace holdfast::server {

struct AcceptorOptions {
  size_t connections_max = 256;
  // Says who may connect; empty: everybody.
  std::function<base::Status(int fd)> admit;
  // The connection is close-on-exec and does not block.
  std::function<void(base::Descriptor)> on_accept;
  // Told of each connection that was closed at once, with the reason, for people.
  std::function<void(const std::string& message)> on_refused;
};

class Acceptor {
 public:
  // `socket`: listens, does not block. Internal when there is no pipe to be had.
  static base::StatusOr<std::unique_ptr<Acceptor>> Start(base::Descriptor socket, AcceptorOptions options);
  ~Acceptor();  // accepts no more; connections that were handed on go on

 private:
  // A descriptor that was handed on, and the inode of its socket: another inode means that it was closed.
  struct Connection {
    int fd = -1;
    ino_t inode = 0;
  };

  Acceptor(base::Descriptor socket, base::Descriptor wake_read, base::Descriptor wake_write,
           AcceptorOptions options);
  void Run();
  void Take(base::Descriptor connection);
  bool HasRoom();

  const AcceptorOptions options_;
  const base::Descriptor socket_;
  const base::Descriptor wake_read_;
  base::Descriptor wake_write_;
  std::vector<Connection> connections_;  // of the thread
  std::thread thread_;
};

}  // namespace holdfast::server
