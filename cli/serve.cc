// holdfast serve: the daemon, in the foreground.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "cli/backend_options.h"
#include "cli/commands.h"
#include "cli/data_directory.h"
#include "server/daemon.h"

namespace holdfast::cli {
namespace {

using base::Status;

constexpr int64_t kSignalDeadlineMs = 30'000;

struct Options {
  std::string data;
  std::string model;
  std::string socket;
  std::string broker;
  BackendChoice backend;
};

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  return signals;
}

Status Serve(Options options) {
  // Before there are threads: all of them leave these signals to the one that waits for them.
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  HF_ASSIGN_OR_RETURN(auto backend, MakeBackend(options.backend));
  sandbox::Policy policy;
  policy.workspace.inside = "/workspace";
  server::DaemonOptions daemon_options{
      .runtime = {.directory = options.data,
                  .model = options.model,
                  .backend = std::move(backend),
                  .broker = options.broker,
                  .policy = std::move(policy),
                  .on_message =
                      [](const std::string& message) { std::fprintf(stderr, "%s\n", message.c_str()); }},
      .socket = options.socket,
      .version = HOLDFAST_VERSION};
  HF_ASSIGN_OR_RETURN(auto daemon, server::Daemon::Start(std::move(daemon_options)));
  std::printf("serving at %s\n", daemon->socket().c_str());
  std::fflush(stdout);
  std::thread waiter([&] {
    int signal = 0;
    sigwait(&signals, &signal);
    daemon->RequestStop(kSignalDeadlineMs);
  });
  daemon->WaitForStop();
  kill(getpid(), SIGTERM);  // wakes the waiter, when it was not a signal
  waiter.join();
  daemon.reset();
  return {};
}

}  // namespace

void AddServe(CLI::App& parent, Status& result) {
  CLI::App* command = parent.add_subcommand(
      "serve",
      "Run the daemon: one process that owns a data directory and works on its sessions.\n\n"
      "Examples:\n"
      "  holdfast serve --model model/nano/checkpoint");
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  AddDataOption(*command, options->data);
  command->add_option("--model", options->model, "Checkpoint directory, with tokenizer.json")
      ->envname("HOLDFAST_MODEL")
      ->required();
  command->add_option("--socket", options->socket,
                      "Of the API (default: holdfast.sock in the data directory)");
  command->add_option("--broker", options->broker, "Program of the sandbox (default: beside this one)");
  AddBackendOptions(*command, options->backend);
  command->final_callback([options, &result] { result = Serve(std::move(*options)); });
}

}  // namespace holdfast::cli
