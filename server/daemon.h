// The daemon: a runtime, the services over it, and the sockets they are reached by.
//
//   HF_ASSIGN_OR_RETURN(auto daemon, Daemon::Start({.runtime = ..., .socket = path, .version = "0.1.0"}));
//   const int64_t deadline_ms = daemon->WaitForStop();   // a client has asked for it, or RequestStop
//   daemon.reset();          // sessions come to rest where they are; nothing is lost
//
// The end. From WaitForStop's return on calls are answered Unavailable (SERVER_STOPPING); the destructor ends
// streams the same way, waits a moment for short calls, lets turns stop where they are, and waits for
// commands that run, however long they take. Whoever does not want to wait longer than the deadline leaves
// the process: what is recorded is durable, commands end with their sandbox, and the next start finds their
// calls as after a crash (docs/durability.md).
//
// Threads: Start, WaitForStop and the destructor on one; RequestStop on any, signal handlers apart.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "agent/live_note.h"
#include "base/status.h"
#include "server/log.h"
#include "server/runtime.h"
#include "server/tcp_listener.h"

namespace grpc {
class Server;
class Service;
namespace experimental {
class ExternalConnectionAcceptor;
}
}  // namespace grpc

namespace holdfast::server {

class CallGate;
class Metrics;
class NotifyHook;
class SessionService;
class UnixListener;
struct CallRecord;
struct MetricsSample;
struct ServerFacts;

struct DaemonOptions {
  RuntimeOptions runtime;        // without on_event; what on_message is told goes to the log too
  std::string socket;            // path of the unix socket; empty: DIR/holdfast.sock
  TcpOptions tcp;                // the other door; its token is in DIR/token
  bool reflection = true;        // descriptors of the API, for tools that ask
  size_t connections_max = 256;  // of each door
  std::string metrics;           // address of server/metrics.h; empty: none are served
  std::string notify;            // program of server/notify_hook.h; empty: nobody is told
  LogOptions log;
  std::string version;
};

class Daemon {
 public:
  // What Runtime::Open, the doors, the log and the metrics answer. Blocks until sessions that were at work
  // are taken up.
  static base::StatusOr<std::unique_ptr<Daemon>> Start(DaemonOptions options);
  ~Daemon();

  void RequestStop(int64_t deadline_ms);
  // How long the end may take, as it was asked for.
  int64_t WaitForStop();

  const std::string& socket() const { return socket_; }
  std::string tcp_address() const;  // empty: there is no such door
  int metrics_port() const;         // 0: they are not served
  // Shared, so that it can be said how the daemon's own end went.
  std::shared_ptr<Log> log() const { return log_; }

 private:
  Daemon();
  void AddServices(ServerFacts facts);
  base::Status StartObservers(DaemonOptions& options);
  void Tell(const std::string& session, const sessions::Event& event);
  void TellLive(const std::string& session, const agent::LiveNote& note);
  void LogEvent(const std::string& session, const sessions::Event& event);
  void OnCall(const CallRecord& call);
  void OnRefused(const char* door, const std::string& why);
  void Sample(MetricsSample& sample);
  size_t Watchers() const;  // on the control lane
  base::Status Serve(const DaemonOptions& options);
  base::Status OpenDoors(const DaemonOptions& options);

  std::string socket_;
  std::string data_;
  // Who is told of events stands here: made before the runtime, gone after it.
  std::shared_ptr<Log> log_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<NotifyHook> notify_;  // null: nobody is told
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<CallGate> gate_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::atomic<SessionService*> session_service_ = nullptr;  // one of them, once it is there
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> tcp_connections_;
  std::unique_ptr<UnixListener> unix_listener_;
  std::unique_ptr<TcpListener> tcp_listener_;

  std::mutex mutex_;
  std::condition_variable stop_wanted_;
  int64_t stop_deadline_ms_ = -1;  // -1: go on
};

}  // namespace holdfast::server
