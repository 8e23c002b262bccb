// holdfast serve: the daemon, in the foreground.
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "CLI/CLI.hpp"
#include "base/file.h"
#include "cli/backend_options.h"
#include "cli/commands.h"
#include "cli/config.h"
#include "cli/data_directory.h"
#include "server/daemon.h"

namespace holdfast::cli {
namespace {

using base::Status;

struct Options {
  std::string data;
  std::string model;
  std::string broker;
  std::string log_level = "info";
  int64_t stop_seconds = 30;
  server::DaemonOptions daemon;
  BackendChoice backend;
};

// SIGINT and SIGTERM ask for the end; SIGUSR1 is this program's own, to wake the one who waits.
sigset_t EndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) sigaddset(&signals, signal);
  return signals;
}

// Waits for signals. The first asks the daemon to end. When the end has begun, by a signal or by a client,
// the next signal or the deadline ends the process where it stands: what is recorded is durable, and commands
// that run end with their sandbox.
class Ending {
 public:
  // The signals are blocked in all threads.
  Ending(server::Daemon& daemon, int64_t deadline_ms)
      : daemon_(daemon), log_(daemon.log()), thread_([this, deadline_ms] { Wait(deadline_ms); }) {}
  // The end was reached in time.
  ~Ending() {
    over_ = true;
    Wake();
    thread_.join();
  }

  // The end has begun, and may take so long.
  void Begin(int64_t deadline_ms) {
    deadline_ms_ = deadline_ms;
    Wake();
  }

 private:
  void Wake() { pthread_kill(thread_.native_handle(), SIGUSR1); }

  void Wait(int64_t deadline_ms) {
    const sigset_t signals = EndSignals();
    bool asked = false;
    for (;;) {
      const int64_t ms = deadline_ms_;
      const timespec time{.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1'000'000};
      const int signal = ms < 0 ? sigwaitinfo(&signals, nullptr) : sigtimedwait(&signals, nullptr, &time);
      if (over_) return;
      if (signal == SIGUSR1 || (signal < 0 && errno == EINTR)) continue;
      if (ms >= 0 || asked) return Exit(signal < 0 ? "deadline" : "signal");
      asked = true;
      daemon_.RequestStop(deadline_ms);
    }
  }

  void Exit(const char* why) {
    log_->Write(server::LogLevel::kWarning, "ended", {{"why", why}});
    _exit(0);
  }

  server::Daemon& daemon_;
  const std::shared_ptr<server::Log> log_;  // shared: the daemon may be gone by then
  std::atomic<int64_t> deadline_ms_ = -1;   // -1: the end has not begun
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

Status Serve(Options options) {
  // Before there are threads: all of them leave these signals to the one that waits for them.
  const sigset_t signals = EndSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  if (options.model.empty()) {
    return base::InvalidArgument("which model? Give --model DIR, or set `model` in your configuration");
  }
  HF_ASSIGN_OR_RETURN(auto backend, MakeBackend(options.backend));
  sandbox::Policy policy;
  policy.workspace.inside = "/workspace";
  options.daemon.runtime.directory = options.data;
  options.daemon.runtime.model = options.model;
  options.daemon.runtime.backend = std::move(backend);
  options.daemon.runtime.broker = options.broker;
  options.daemon.runtime.policy = std::move(policy);
  options.daemon.version = HOLDFAST_VERSION;
  HF_ASSIGN_OR_RETURN(options.daemon.log.level, server::ParseLogLevel(options.log_level));
  HF_ASSIGN_OR_RETURN(auto daemon, server::Daemon::Start(std::move(options.daemon)));
  std::printf("serving at %s\n", daemon->socket().c_str());
  if (!daemon->tcp_address().empty()) std::printf("serving at %s\n", daemon->tcp_address().c_str());
  if (daemon->metrics_port() != 0) std::printf("metrics at port %d\n", daemon->metrics_port());
  std::fflush(stdout);
  Ending ending(*daemon, options.stop_seconds * 1000);
  ending.Begin(daemon->WaitForStop());
  daemon.reset();
  return {};
}

void AddDoors(CLI::App& command, Options& options) {
  server::DaemonOptions& daemon = options.daemon;
  command.add_option("--socket", daemon.socket, "Of the API (default: holdfast.sock in the data directory)");
  command.add_option(
      "--tcp", daemon.tcp.address,
      "Also serve at this ADDRESS:PORT, for who shows the token (the file `token` in the data\n"
      "directory). Without TLS at the loopback interface only");
  command.add_option("--tls-cert", daemon.tcp.tls_certificate, "PEM file: certificate chain of --tcp");
  command.add_option("--tls-key", daemon.tcp.tls_key, "PEM file: its key");
  command.add_option("--tls-client-ca", daemon.tcp.tls_client_ca,
                     "PEM file: clients must show a certificate of this authority");
  command.add_option("--connections", daemon.connections_max, "Most at once, of each door")
      ->capture_default_str()
      ->check(CLI::Range(1, 100'000));
  command.add_flag("--reflection,!--no-reflection", daemon.reflection,
                   "Tell clients what the API is (default)");
}

void AddWatching(CLI::App& command, Options& options) {
  server::DaemonOptions& daemon = options.daemon;
  command.add_option("--metrics", daemon.metrics,
                     "Serve figures for Prometheus at http://ADDRESS:PORT/metrics");
  command.add_option("--log-file", daemon.log.file, "Instead of stderr; rotated at 16 MiB, five are kept");
  command.add_option("--log-level", options.log_level, "debug, info, warning or error")
      ->capture_default_str();
  command.add_flag("--log-json,!--no-log-json", daemon.log.json, "JSON lines");
  command.add_option("--notify", daemon.notify,
                     "Program that is run when a session needs a person or its goal is at its end");
  command.add_option("--stop-seconds", options.stop_seconds, "How long a stop by a signal may take")
      ->capture_default_str()
      ->check(CLI::Range(0, 86'400));
}

}  // namespace

void AddServe(CLI::App& parent, Status& result) {
  CLI::App* command = parent.add_subcommand(
      "serve",
      "Run the daemon: one process that owns a data directory and works on its sessions.\n\n"
      "Examples:\n"
      "  holdfast serve --model model/nano/checkpoint\n"
      "  holdfast serve --tcp 127.0.0.1:7443 --metrics 127.0.0.1:9464 --notify ~/bin/tell-me\n\n"
      "What it can be configured with stands in docs/configuration.md, how it is run in docs/operations.md.");
  const auto options = std::make_shared<Options>();  // shared: CLI11 copies the callback that owns it
  AddDataOption(*command, options->data);
  command->add_option("--model", options->model, "Checkpoint directory, with tokenizer.json")
      ->envname("HOLDFAST_MODEL");
  command->add_option("--broker", options->broker, "Program of the sandbox (default: beside this one)");
  AddDoors(*command, *options);
  AddWatching(*command, *options);
  AddBackendOptions(*command, options->backend);
  const auto config = Config::Load(FindConfigPlaces());
  const Status configured = config.ok() ? config->ApplyTo(*command) : config.status();
  command->final_callback(
      [options, configured, &result] { result = configured.ok() ? Serve(std::move(*options)) : configured; });
}

}  // namespace holdfast::cli
