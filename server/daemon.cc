#include "server/daemon.h"

#include <chrono>
#include <future>
#include <iterator>
#include <utility>

#include "base/clock.h"
#include "base/file.h"
#include "base/process.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server_posix.h"
#include "server/call_gate.h"
#include "server/metrics.h"
#include "server/notify_hook.h"
#include "server/server_service.h"
#include "server/session_service.h"
#include "server/token.h"
#include "server/unix_listener.h"

namespace holdfast::server {
namespace {

constexpr int kReceiveBytesMax = 8 << 20;
constexpr int kSendBytesMax = 16 << 20;                // a page of events; one has at most 1 MiB
constexpr int kStreamsMax = 1024;                      // of a connection
constexpr size_t kMemoryBytesMax = size_t{512} << 20;  // of gRPC's buffers
constexpr int kHandshakeMs = 10'000;
constexpr int kKeepaliveMs = 120'000;  // a client that is gone is noticed after this and the next
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kPingIntervalMinMs = 10'000;  // of clients, without data: watches may be idle
constexpr int64_t kAnswerMsMax = 2'000;     // for short calls under way when the server stops

// Subsystems that grpc.health.v1 answers for, beside "" for all.
constexpr const char* kSubsystems[] = {"engine", "store", "tools"};

constexpr std::chrono::milliseconds kSampleTimeMax(500);
constexpr char kWhatToDo[] =
    "; use the server that has it, stop that one, or name another directory with --data";

// As sessions::SessionState, WaitFor and CallStatus count.
constexpr const char* kStateNames[] = {"?", "IDLE", "RUNNING", "WAITING", "PAUSED", "CLOSED"};
constexpr const char* kWaitNames[] = {"", "TIMER", "PROCESS", "FILE", "APPROVAL", "INPUT", "CLIENT"};
constexpr const char* kOutcomeNames[] = {"?", "OK", "FAILED", "TIMED_OUT", "CANCELLED", "REFUSED", "UNKNOWN"};

void SetBounds(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kReceiveBytesMax);
  builder.SetMaxSendMessageSize(kSendBytesMax);
  builder.SetResourceQuota(grpc::ResourceQuota("holdfast").Resize(kMemoryBytesMax));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsMax);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kPingIntervalMinMs);
}

}  // namespace

Daemon::Daemon() = default;

base::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(DaemonOptions options) {
  std::unique_ptr<Daemon> daemon(new Daemon);
  daemon->socket_ =
      options.socket.empty() ? options.runtime.directory + "/holdfast.sock" : std::move(options.socket);
  const std::string version = options.version;
  ServerFacts facts{.version = version,
                    .data_directory = options.runtime.directory,
                    .model_directory = options.runtime.model,
                    .start_utc_ms = base::RealClock().UtcNow().ns / base::kNsPerMs,
                    .watchers = [raw = daemon.get()] { return raw->Watchers(); }};
  daemon->data_ = options.runtime.directory;
  HF_RETURN_IF_ERROR(daemon->StartObservers(options));
  options.runtime.on_event = [raw = daemon.get()](const std::string& session, const sessions::Event& event) {
    raw->Tell(session, event);
  };
  options.runtime.on_live = [raw = daemon.get()](const std::string& session, const agent::LiveNote& note) {
    raw->TellLive(session, note);
  };
  // The data directory has one owner: whoever opens it may take the socket.
  auto runtime = Runtime::Open(std::move(options.runtime));
  if (absl::IsUnavailable(runtime.status())) {
    return absl::UnavailableError(base::View(base::Message(runtime.status()) + kWhatToDo));
  }
  HF_RETURN_IF_ERROR(runtime.status());
  daemon->runtime_ = *std::move(runtime);
  daemon->gate_ = std::make_unique<CallGate>(
      *daemon->runtime_, [raw = daemon.get()](const CallRecord& call) { raw->OnCall(call); });
  daemon->AddServices(std::move(facts));
  HF_RETURN_IF_ERROR(daemon->Serve(options));
  daemon->log_->Write(LogLevel::kInfo, "started",
                      {{"version", version},
                       {"process", std::to_string(base::ProcessId())},
                       {"tcp", daemon->tcp_address()},
                       {"metrics_port", std::to_string(daemon->metrics_port())}});
  return daemon;
}

base::Status Daemon::StartObservers(DaemonOptions& options) {
  HF_ASSIGN_OR_RETURN(log_, Log::Open(options.log));
  options.runtime.on_message = [this,
                                also = std::move(options.runtime.on_message)](const std::string& message) {
    log_->Write(LogLevel::kWarning, "store", {{"message", message}});
    if (also) also(message);
  };
  metrics_ = std::make_unique<Metrics>();
  if (options.notify.empty()) return {};
  HF_RETURN_IF_ERROR(base::RealFileSystem().CreateDirectories(data_));
  HF_ASSIGN_OR_RETURN(notify_,
                      NotifyHook::Start({.program = options.notify,
                                         .file = data_ + "/notified",
                                         .on_message = [this](const std::string& message) {
                                           log_->Write(LogLevel::kWarning, "notify", {{"message", message}});
                                         }}));
  return {};
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
  metrics_->OnEvent(session, event);
  LogEvent(session, event);
  if (notify_ != nullptr) notify_->OnEvent(session, event);
  // Before it is there nobody watches.
  if (SessionService* const sessions = session_service_) sessions->OnEvent(session, event);
}

void Daemon::TellLive(const std::string& session, const agent::LiveNote& note) {
  if (SessionService* const sessions = session_service_) sessions->OnLive(session, note);
}

// Names, states and numbers: what a session says and does is in its record, not here.
void Daemon::LogEvent(const std::string& session, const sessions::Event& event) {
  const std::string seq = std::to_string(event.seq);
  if (const auto* changed = std::get_if<sessions::StateChanged>(&event.body)) {
    const auto state = static_cast<size_t>(changed->state);
    const auto wait = static_cast<size_t>(changed->wait);
    log_->Write(
        LogLevel::kInfo, "state",
        {{"session", session},
         {"seq", seq},
         {"state", state < std::size(kStateNames) ? kStateNames[state] : "?"},
         {"wait", wait < std::size(kWaitNames) ? kWaitNames[wait] : "?"},
         {"reason", changed->state == sessions::SessionState::kPaused ? RuleOf(changed->reason) : ""}});
  } else if (const auto* recovered = std::get_if<sessions::Recovered>(&event.body)) {
    log_->Write(LogLevel::kInfo, "recovered",
                {{"session", session}, {"seq", seq}, {"generation", std::to_string(recovered->generation)}});
  } else if (const auto* ended = std::get_if<sessions::CallOutcome>(&event.body)) {
    const auto status = static_cast<size_t>(ended->status);
    log_->Write(LogLevel::kInfo, "call",
                {{"session", session},
                 {"seq", seq},
                 {"call", ended->call},
                 {"outcome", status < std::size(kOutcomeNames) ? kOutcomeNames[status] : "?"}});
  }
}

size_t Daemon::Watchers() const {
  SessionService* const sessions = session_service_;
  return sessions == nullptr ? 0 : sessions->watchers();
}

void Daemon::OnCall(const CallRecord& call) {
  metrics_->OnCall(call);
  const LogLevel level = call.status.ok() ? LogLevel::kDebug : LogLevel::kInfo;
  log_->Write(level, "rpc",
              {{"method", std::string(call.method)},
               {"code", absl::StatusCodeToString(call.status.code())},
               {"us", std::to_string(call.took_ns / base::kNsPerUs)}});
}

void Daemon::OnRefused(const char* door, const std::string& why) {
  metrics_->OnRefused(door);
  log_->Write(LogLevel::kWarning, "refused", {{"door", door}, {"why", why}});
}

// What the control lane knows; a lane that is busy for long leaves zeros.
void Daemon::Sample(MetricsSample& sample) {
  const auto known = std::make_shared<std::promise<MetricsSample>>();  // by whoever of the two ends last
  auto answer = known->get_future();
  runtime_->OnControl([this, known] {
    const sessions::SchedulerStats orders = runtime_->scheduler().stats();
    MetricsSample now;
    now.requests_running = static_cast<int64_t>(orders.active);
    now.requests_waiting = static_cast<int64_t>(orders.waiting);
    now.sessions_open = static_cast<int64_t>(runtime_->manager().open_sessions());
    now.watchers = static_cast<int64_t>(Watchers());
    known->set_value(now);
  });
  if (answer.wait_for(kSampleTimeMax) == std::future_status::ready) sample = answer.get();
  const memory::StoreStats kv = runtime_->blocks().Stats();
  sample.kv_disk_bytes = kv.disk_bytes;
  sample.kv_memory_bytes = kv.heap_bytes;
  const auto wal = base::RealFileSystem().Stat(data_ + "/holdfast.db-wal");
  sample.wal_bytes = wal.ok() ? wal->size_bytes : 0;
}

base::Status Daemon::Serve(const DaemonOptions& options) {
  grpc::EnableDefaultHealthCheckService(true);
  if (options.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  SetBounds(builder);
  for (const auto& service : services_) builder.RegisterService(service.get());
  if (!options.tcp.address.empty()) {
    HF_ASSIGN_OR_RETURN(const std::string token, LoadOrMakeToken(data_ + "/token"));
    HF_ASSIGN_OR_RETURN(const auto credentials, MakeTcpCredentials(options.tcp, token));
    tcp_connections_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  }
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) return base::Internal("gRPC does not start");
  for (const char* name : kSubsystems) server_->GetHealthCheckService()->SetServingStatus(name, true);
  if (!options.metrics.empty()) {
    HF_RETURN_IF_ERROR(metrics_->Serve(options.metrics, [this](MetricsSample& sample) { Sample(sample); }));
  }
  return OpenDoors(options);
}

base::Status Daemon::OpenDoors(const DaemonOptions& options) {
  const auto accept_unix = [this](base::Descriptor connection) {
    grpc::AddInsecureChannelFromFd(server_.get(), connection.Release());
  };
  const auto refuse = [this](const char* door) {
    return [this, door](const std::string& why) { OnRefused(door, why); };
  };
  HF_ASSIGN_OR_RETURN(unix_listener_,
                      UnixListener::Listen(socket_, {.connections_max = options.connections_max,
                                                     .on_accept = accept_unix,
                                                     .on_refused = refuse("unix")}));
  if (tcp_connections_ == nullptr) return {};
  const auto accept_tcp = [this](base::Descriptor connection) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
    parameters.fd = connection.Release();
    tcp_connections_->HandleNewConnection(&parameters);
  };
  HF_ASSIGN_OR_RETURN(tcp_listener_,
                      TcpListener::Listen(options.tcp, {.connections_max = options.connections_max,
                                                        .on_accept = accept_tcp,
                                                        .on_refused = refuse("tcp")}));
  return {};
}

std::string Daemon::tcp_address() const {
  return tcp_listener_ == nullptr ? std::string() : tcp_listener_->address();
}

int Daemon::metrics_port() const { return metrics_->port(); }

Daemon::~Daemon() {
  const bool server_was_up = server_ != nullptr;
  tcp_listener_.reset();
  unix_listener_.reset();
  if (gate_ != nullptr) gate_->Close();
  if (server_ != nullptr) {
    server_->GetHealthCheckService()->Shutdown();  // NOT_SERVING from here on, also to those who watch
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(kAnswerMsMax));
  }
  if (metrics_ != nullptr) metrics_->StopServing();
  if (runtime_ != nullptr) runtime_->Stop();
  server_.reset();
  if (server_was_up) log_->Write(LogLevel::kInfo, "stopped");
}

void Daemon::RequestStop(int64_t deadline_ms) {
  const std::lock_guard lock(mutex_);
  if (stop_deadline_ms_ < 0) stop_deadline_ms_ = deadline_ms;
  stop_wanted_.notify_all();
}

int64_t Daemon::WaitForStop() {
  std::unique_lock lock(mutex_);
  stop_wanted_.wait(lock, [this] { return stop_deadline_ms_ >= 0; });
  log_->Write(LogLevel::kInfo, "stopping", {{"deadline_ms", std::to_string(stop_deadline_ms_)}});
  gate_->Close();
  return stop_deadline_ms_;
}

}  // namespace holdfast::server
