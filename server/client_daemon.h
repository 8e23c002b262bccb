// Starts the daemon of a data directory when none runs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "server/client.h"

namespace holdfast::server {

struct DaemonStart {
  std::string program;                 // absolute path of `holdfast`
  std::vector<std::string> arguments;  // after the program's name: "serve", "--data", ...
  std::string log;                     // its output is appended here
  ClientOptions client;                // how it will be reached
  // About twice a second while it starts: for how long it has, and the last line of its log. May be empty.
  std::function<void(int64_t waited_ms, const std::string& line)> on_wait;
};

// The program of this process.
base::StatusOr<std::string> OwnProgram();

// A session of its own, no terminal, which outlives this process; waits until it serves. When another daemon
// has the directory, that one is waited for. FailedPrecondition when it ends instead, with the end of its
// log; Cancelled leaves it to go on starting.
base::StatusOr<std::unique_ptr<Client>> StartDaemon(DaemonStart start);

}  // namespace holdfast::server
