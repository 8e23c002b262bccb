// A daemon in a process of its own, to be killed and begun again on the same directory.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "tests/server/server_testing.h"

namespace holdfast::server {

class DaemonProcess {
 public:
  explicit DaemonProcess(std::string directory) : directory_(std::move(directory)) {}
  ~DaemonProcess() { Kill(); }

  void Start();
  // SIGKILL; nothing is left of the process when it returns.
  void Kill();
  bool running() const { return pid_ > 0; }

  // Calls wait until the daemon is there (set wait_for_ready).
  std::unique_ptr<SessionStub> NewStub() const;

 private:
  const std::string directory_;
  pid_t pid_ = -1;
};

}  // namespace holdfast::server
