// A unix socket that only its owner may use: the file has mode 0600, and whoever connects must have the same
// user id as this process, or be root.
//
// Threads: that of its Acceptor.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "server/acceptor.h"

namespace holdfast::server {

class UnixListener {
 public:
  // `path`: absolute; what is there is removed first: the caller has made sure that nobody listens there.
  // `options.admit` is the listener's own. InvalidArgument for a path that is too long for a socket, with
  // what to do; FailedPrecondition when something that is no socket is there.
  static base::StatusOr<std::unique_ptr<UnixListener>> Listen(const std::string& path,
                                                              AcceptorOptions options);
  // Accepts no more, and removes the socket.
  ~UnixListener();

 private:
  UnixListener(std::string path, std::unique_ptr<Acceptor> acceptor);

  const std::string path_;
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace holdfast::server
