#include "server/daemon.h"

#include <chrono>
#include <utility>

#include "base/clock.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/server_posix.h"
#include "server/call_gate.h"
#include "server/server_service.h"
#include "server/session_service.h"
#include "server/unix_listener.h"

namespace holdfast::server {

Daemon::Daemon() = default;

base::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(DaemonOptions options) {
  std::unique_ptr<Daemon> daemon(new Daemon);
  daemon->socket_ =
      options.socket.empty() ? options.runtime.directory + "/holdfast.sock" : std::move(options.socket);
  ServerFacts facts{.version = std::move(options.version),
                    .data_directory = options.runtime.directory,
                    .model_directory = options.runtime.model,
                    .start_utc_ms = base::RealClock().UtcNow().ns / base::kNsPerMs};
  options.runtime.on_event = [raw = daemon.get()](const std::string& session, const sessions::Event& event) {
    raw->Tell(session, event);
  };
  options.runtime.on_live = [raw = daemon.get()](const std::string& session, const agent::LiveNote& note) {
    raw->TellLive(session, note);
  };
  // The data directory has one owner: whoever opens it may take the socket.
  HF_ASSIGN_OR_RETURN(daemon->runtime_, Runtime::Open(std::move(options.runtime)));
  daemon->gate_ = std::make_unique<CallGate>(*daemon->runtime_);
  daemon->AddServices(std::move(facts));
  HF_RETURN_IF_ERROR(daemon->Serve());
  return daemon;
}

// Every service of the API, made of the gate, the runtime and who is told of events. They live until no call
// is left. One that has streams ends them when the gate closes (CallGate::OnClose).
void Daemon::AddServices(ServerFacts facts) {
  auto sessions = std::make_unique<SessionService>(*gate_, *runtime_, facts.data_directory);
  session_service_ = sessions.get();
  services_.push_back(std::move(sessions));
  services_.push_back(std::make_unique<ServerService>(
      *gate_, *runtime_, std::move(facts), [this](int64_t deadline_ms) { RequestStop(deadline_ms); }));
}

// Whoever wants to know what becomes durable in open sessions is told here, on the control lane, from before
// the first session is taken up.
void Daemon::Tell(const std::string& session, const sessions::Event& event) {
  // Before it is there nobody watches.
  if (SessionService* const sessions = session_service_) sessions->OnEvent(session, event);
}

void Daemon::TellLive(const std::string& session, const agent::LiveNote& note) {
  if (SessionService* const sessions = session_service_) sessions->OnLive(session, note);
}

base::Status Daemon::Serve() {
  grpc::ServerBuilder builder;
  for (const auto& service : services_) builder.RegisterService(service.get());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) return base::Internal("gRPC does not start");
  HF_ASSIGN_OR_RETURN(listener_, UnixListener::Listen(
                                     socket_,
                                     [this](base::Descriptor connection) {
                                       grpc::AddInsecureChannelFromFd(server_.get(), connection.Release());
                                     },
                                     [](const std::string&) {}));
  return {};
}

Daemon::~Daemon() {
  listener_.reset();
  if (gate_ != nullptr) gate_->Close();
  if (server_ != nullptr) {
    server_->Shutdown(std::chrono::system_clock::now() +
                      std::chrono::milliseconds(std::max<int64_t>(stop_deadline_ms_, 0)));
  }
  if (runtime_ != nullptr) runtime_->Stop();
  server_.reset();
}

void Daemon::RequestStop(int64_t deadline_ms) {
  const std::lock_guard lock(mutex_);
  if (stop_deadline_ms_ < 0) stop_deadline_ms_ = deadline_ms;
  stop_wanted_.notify_all();
}

void Daemon::WaitForStop() {
  std::unique_lock lock(mutex_);
  stop_wanted_.wait(lock, [this] { return stop_deadline_ms_ >= 0; });
}

}  // namespace holdfast::server
