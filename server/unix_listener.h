// A unix socket that only its owner may use: the file has mode 0600, and whoever connects must have the same
// user id as this process, or be root. Connections are accepted here and handed on as descriptors.
//
// Threads: one of its own, which calls `on_accept`.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/descriptor.h"
#include "base/status.h"

namespace holdfast::server {

class UnixListener {
 public:
  // `path`: absolute; what is there is removed first: the caller has made sure that nobody listens there.
  // InvalidArgument for a path that is too long for a socket, with what to do.
  static base::StatusOr<std::unique_ptr<UnixListener>> Listen(
      const std::string& path, std::function<void(base::Descriptor)> on_accept,
      std::function<void(const std::string& message)> on_refused);
  // Accepts no more, and removes the socket.
  ~UnixListener();

 private:
  UnixListener(std::string path, base::Descriptor socket, base::Descriptor wake_read,
               base::Descriptor wake_write);
  void Accept(const std::function<void(base::Descriptor)>& on_accept,
              const std::function<void(const std::string&)>& on_refused);

  const std::string path_;
  const base::Descriptor socket_;
  const base::Descriptor wake_read_;
  base::Descriptor wake_write_;
  std::thread thread_;
};

}  // namespace holdfast::server
