// The daemon: a runtime, the services over it, and the sockets they are reached by.
//
//   HF_ASSIGN_OR_RETURN(auto daemon, Daemon::Start({.runtime = ..., .socket = path, .version = "0.1.0"}));
//   daemon->WaitForStop();   // a client has asked for it, or RequestStop
//   daemon.reset();          // sessions come to rest where they are; nothing is lost
//
// Threads: Start, WaitForStop and the destructor on one; RequestStop on any, signal handlers apart.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "agent/live_note.h"
#include "base/status.h"
#include "server/runtime.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace holdfast::server {

class CallGate;
class SessionService;
class UnixListener;
struct ServerFacts;

struct DaemonOptions {
  RuntimeOptions runtime;  // without on_event
  std::string socket;      // path of the unix socket; empty: DIR/holdfast.sock
  std::string version;
};

class Daemon {
 public:
  // What Runtime::Open and UnixListener::Listen answer. Blocks until sessions that were at work are taken up.
  static base::StatusOr<std::unique_ptr<Daemon>> Start(DaemonOptions options);
  ~Daemon();

  void RequestStop(int64_t deadline_ms);
  void WaitForStop();

  const std::string& socket() const { return socket_; }

 private:
  Daemon();
  void AddServices(ServerFacts facts);
  void Tell(const std::string& session, const sessions::Event& event);
  void TellLive(const std::string& session, const agent::LiveNote& note);
  base::Status Serve();

  std::string socket_;
  // Who is told of events stands here: made before the runtime, gone after it.
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<CallGate> gate_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::atomic<SessionService*> session_service_ = nullptr;  // one of them, once it is there
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<UnixListener> listener_;

  std::mutex mutex_;
  std::condition_variable stop_wanted_;
  int64_t stop_deadline_ms_ = -1;  // -1: go on
};

}  // namespace holdfast::server
