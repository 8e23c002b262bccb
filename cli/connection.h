// How a command reaches the daemon, and how it starts one.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "cli/backend_options.h"
#include "server/client.h"

namespace CLI {
class App;
}

namespace holdfast::cli {

struct DaemonChoice {
  std::string data;
  std::string address;  // empty: the unix socket in `data`
  std::string token_file;
  std::string tls_ca_file;
  bool json = false;
  // Of a daemon that is started; empty: its own defaults.
  std::string model;
  std::string broker;
  BackendChoice backend;
};

// --data, --address, --token-file, --tls-ca, --json.
void AddDaemonOptions(CLI::App& app, DaemonChoice& choice);
// And --model, --broker and how it computes.
void AddStartOptions(CLI::App& app, DaemonChoice& choice);

// NotFound when none runs, with what to do. Ctrl-C ends calls with Cancelled, until SetKeepOn.
base::StatusOr<std::unique_ptr<server::Client>> Connect(const DaemonChoice& choice);

// Starts one when none runs and it would be on this machine, and says so on standard error.
base::StatusOr<std::unique_ptr<server::Client>> ConnectOrStart(const DaemonChoice& choice);

// Where a daemon that was started so writes what it has to say.
std::string DaemonLog(const std::string& data);

// Whether a daemon may have the directory: there is a socket that takes connections.
bool DaemonRuns(const DaemonChoice& choice);

}  // namespace holdfast::cli
