#include "cli/connection.h"

#include <cstdio>
#include <optional>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "cli/data_directory.h"
#include "cli/interrupts.h"
#include "cli/model_choice.h"
#include "cli/terminal.h"
#include "server/client_daemon.h"

namespace holdfast::cli {
namespace {

using base::Status;
using base::StatusOr;
using server::Client;

constexpr int64_t kConnectMs = 30'000;  // where nobody listens it takes no time
constexpr uint64_t kSmallFileBytes = 1 << 20;

StatusOr<std::string> SmallFile(const std::string& path) {
  HF_ASSIGN_OR_RETURN(std::string text, base::RealFileSystem().ReadFile(path, kSmallFileBytes));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

StatusOr<std::string> SocketOf(const DaemonChoice& choice) {
  HF_ASSIGN_OR_RETURN(const std::string data, FromRoot(choice.data));
  return data + "/holdfast.sock";
}

StatusOr<server::ClientOptions> OptionsOf(const DaemonChoice& choice) {
  server::ClientOptions options{
      .address = choice.address, .connect_ms = kConnectMs, .keep_on = [] { return Interrupts() == 0; }};
  if (options.address.empty()) {
    HF_ASSIGN_OR_RETURN(const std::string socket, SocketOf(choice));
    options.address = "unix:" + socket;
  }
  if (!choice.token_file.empty()) {
    HF_ASSIGN_OR_RETURN(options.token, SmallFile(choice.token_file));
  }
  if (!choice.tls_ca_file.empty()) {
    HF_ASSIGN_OR_RETURN(options.tls_ca, base::RealFileSystem().ReadFile(choice.tls_ca_file, kSmallFileBytes));
  }
  return options;
}

Status NoDaemon(const DaemonChoice& choice) {
  return base::NotFound("no daemon runs for " + choice.data +
                        "; start one with: holdfast serve, or name another directory with --data DIR");
}

void AddBackendArguments(const BackendChoice& backend, std::vector<std::string>& arguments) {
  arguments.insert(arguments.end(), {"--precision", backend.precision});
  if (!backend.kv.empty()) arguments.insert(arguments.end(), {"--kv", backend.kv});
  if (backend.threads > 0) arguments.insert(arguments.end(), {"--threads", std::to_string(backend.threads)});
}

StatusOr<std::vector<std::string>> ServeArguments(const DaemonChoice& choice, const std::string& data,
                                                  const std::string& program) {
  HF_ASSIGN_OR_RETURN(const ModelChoice model, ChooseModel(choice.model, program));
  if (model.shipped) std::fprintf(stderr, "%s\n", ShippedModelNotice(model).c_str());
  HF_ASSIGN_OR_RETURN(const std::string model_directory, ExistingDirectory(model.directory));
  std::vector<std::string> arguments = {"serve", "--data", data, "--model", model_directory};
  if (!choice.broker.empty()) {
    HF_ASSIGN_OR_RETURN(const std::string broker, FromRoot(choice.broker));
    arguments.insert(arguments.end(), {"--broker", broker});
  }
  AddBackendArguments(choice.backend, arguments);
  return arguments;
}

StatusOr<std::unique_ptr<Client>> Start(const DaemonChoice& choice, server::ClientOptions client) {
  HF_ASSIGN_OR_RETURN(const std::string data, FromRoot(choice.data));
  HF_ASSIGN_OR_RETURN(const std::string program, server::OwnProgram());
  HF_ASSIGN_OR_RETURN(std::vector<std::string> arguments, ServeArguments(choice, data, program));
  HF_RETURN_IF_ERROR(base::RealFileSystem().CreateDirectories(data));
  StatusLine line;
  return server::StartDaemon(
      {.program = program,
       .arguments = std::move(arguments),
       .log = DaemonLog(data),
       .client = std::move(client),
       .on_wait = [&line](int64_t waited_ms, const std::string& last) {
         line.Show("starting the daemon: " + HumanSeconds(static_cast<double>(waited_ms) / 1e3) +
                   (last.empty() ? "" : ", " + last));
       }});
}

}  // namespace

std::string DaemonLog(const std::string& data) { return data + "/daemon.log"; }

void AddDaemonOptions(CLI::App& app, DaemonChoice& choice) {
  AddDataOption(app, choice.data);
  app.add_option("--address", choice.address,
                 "Of the daemon: unix:/path or HOST:PORT (default: the socket in the data directory)")
      ->envname("HOLDFAST_ADDRESS");
  app.add_option("--token-file", choice.token_file, "Of a daemon over TCP: file with its token")
      ->envname("HOLDFAST_TOKEN_FILE");
  app.add_option("--tls-ca", choice.tls_ca_file,
                 "Of a daemon over TCP: PEM file of who signed its certificate")
      ->envname("HOLDFAST_TLS_CA");
  app.add_flag("--json", choice.json, "Print JSON, an object a line");
}

void AddStartOptions(CLI::App& app, DaemonChoice& choice) {
  AddDaemonOptions(app, choice);
  app.add_option("--model", choice.model,
                 "Checkpoint directory, with tokenizer.json, for a daemon that is started\n"
                 "(default: the small model that ships with Holdfast)")
      ->envname("HOLDFAST_MODEL");
  app.add_option("--broker", choice.broker, "Program of the sandbox (default: beside this one)");
  AddBackendOptions(app, choice.backend);
}

bool DaemonRuns(const DaemonChoice& choice) { return Connect(choice).ok(); }

StatusOr<std::unique_ptr<Client>> Connect(const DaemonChoice& choice) {
  HF_ASSIGN_OR_RETURN(server::ClientOptions options, OptionsOf(choice));
  if (choice.address.empty()) {
    HF_ASSIGN_OR_RETURN(const std::string socket, SocketOf(choice));
    const auto stat = base::RealFileSystem().Stat(socket);
    if (absl::IsNotFound(stat.status())) return NoDaemon(choice);
    HF_RETURN_IF_ERROR(stat.status());
  }
  auto client = Client::Connect(std::move(options));
  if (choice.address.empty() && absl::IsUnavailable(client.status())) return NoDaemon(choice);
  return client;
}

StatusOr<std::unique_ptr<Client>> ConnectOrStart(const DaemonChoice& choice) {
  auto client = Connect(choice);
  if (!absl::IsNotFound(client.status())) return client;
  HF_ASSIGN_OR_RETURN(server::ClientOptions options, OptionsOf(choice));
  return Start(choice, std::move(options));
}

}  // namespace holdfast::cli
