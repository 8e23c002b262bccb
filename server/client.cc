#include "server/client.h"

#include <utility>

#include "base/clock.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "server/grpc_status.h"

namespace holdfast::server {
namespace {

using base::Status;
using base::StatusOr;
using google::protobuf::MessageLite;

constexpr int64_t kPollMs = 50;  // between two questions whether to keep on
constexpr int kMessageBytesMax = 16 << 20;
constexpr int kReconnectMsMin = 100, kReconnectMsMax = 1'000;
constexpr int kAnswerMsMax = 30'000;
constexpr int kKeepaliveMs = 60'000;

gpr_timespec In(int64_t ms) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(ms, GPR_TIMESPAN));
}

grpc::ByteBuffer Pack(const MessageLite& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

Status Unpack(const grpc::ByteBuffer& buffer, MessageLite& message) {
  grpc::Slice slice;
  if (const grpc::Status dumped = buffer.DumpToSingleSlice(&slice); !dumped.ok()) return FromGrpc(dumped);
  if (message.ParseFromArray(slice.begin(), static_cast<int>(slice.size()))) return {};
  return base::DataLoss("the server's answer cannot be read; are client and server of one version?");
}

// gRPC takes a path as a part of a URI.
std::string EscapedPath(std::string_view path) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string escaped;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("/-._~").find(c) != std::string_view::npos;
    const auto byte = static_cast<unsigned char>(c);
    escaped += plain ? std::string(1, c) : std::string{'%', kHex[byte >> 4], kHex[byte & 15]};
  }
  return escaped;
}

StatusOr<std::string> TargetOf(const std::string& address) {
  static constexpr std::string_view kUnix = "unix:";
  if (address.starts_with("unix:/")) return "unix:" + EscapedPath(address.substr(kUnix.size()));
  const size_t colon = address.rfind(':');
  if (colon != std::string::npos && colon > 0 && colon + 1 < address.size() && !address.starts_with(kUnix)) {
    return address;
  }
  return base::InvalidArgument("'" + address + "' is no address: write unix:/absolute/path or HOST:PORT");
}

}  // namespace

struct Client::Shared {
  ClientOptions options;
  std::shared_ptr<grpc::Channel> channel;  // shared: gRPC's own interface

  // One call of any shape. One operation is under way at a time.
  class Exchange {
   public:
    Exchange(const Shared& shared, const char* path) : shared_(shared), path_(path), stub_(shared.channel) {
      if (!shared.options.token.empty()) {
        context_.AddMetadata("authorization", "Bearer " + shared.options.token);
      }
      call_ = stub_.PrepareCall(&context_, path, &queue_);
      call_->StartCall(this);
      usable_ = Await(0);
    }
    ~Exchange() {
      if (!finished_) {
        context_.TryCancel();
        const Status ignored = Finish();
      }
      queue_.Shutdown();
      void* tag;
      bool ok;
      while (queue_.Next(&tag, &ok)) {
      }
    }

    void Write(const MessageLite& message) {
      if (!usable_) return;
      call_->Write(Pack(message), this);
      usable_ = Await(0);
    }
    void WritesDone() {
      if (!usable_) return;
      call_->WritesDone(this);
      usable_ = Await(0);
    }
    bool usable() const { return usable_; }

    // False: there are no more; Finish says why.
    StatusOr<bool> Read(MessageLite& message, int64_t silence_ms) {
      if (!usable_) return false;
      grpc::ByteBuffer buffer;
      call_->Read(&buffer, this);
      if (!Await(silence_ms)) return false;
      HF_RETURN_IF_ERROR(Unpack(buffer, message));
      return true;
    }

    Status Finish() {
      grpc::Status status;
      finished_ = true;
      call_->Finish(&status, this);
      Await(0);
      if (silent_) return absl::DeadlineExceededError("nothing has come from the server for too long");
      if (cancelled_) return absl::CancelledError("interrupted");
      if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED && status.error_message().empty()) {
        return absl::UnimplementedError(base::View("the server does not serve " + std::string(path_)));
      }
      return FromGrpc(status);
    }

   private:
    // Until the operation has ended; whether it was of use.
    bool Await(int64_t silence_ms) {
      const int64_t begun = base::RealClock().MonotonicNow().ns;
      for (;;) {
        void* tag;
        bool ok = false;
        if (queue_.AsyncNext(&tag, &ok, In(kPollMs)) == grpc::CompletionQueue::GOT_EVENT) return ok;
        const int64_t waited_ns = base::RealClock().MonotonicNow().ns - begun;
        if (silence_ms > 0 && waited_ns > silence_ms * base::kNsPerMs) silent_ = true;
        if (!finished_ && shared_.options.keep_on && !shared_.options.keep_on()) cancelled_ = true;
        if (silent_ || cancelled_) context_.TryCancel();
      }
    }

    const Shared& shared_;
    const char* const path_;
    grpc::GenericStub stub_;
    grpc::ClientContext context_;
    grpc::CompletionQueue queue_;
    std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
    bool usable_ = false, finished_ = false, silent_ = false, cancelled_ = false;
  };
};

StatusOr<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  HF_ASSIGN_OR_RETURN(const std::string target, TargetOf(options.address));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMsMin);
  // Also the time in which a connection has to be answered, which takes long on a busy machine.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kAnswerMsMax);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMsMax);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // The authority of a socket's path is no name of a host.
  if (options.address.starts_with("unix:")) arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  const auto credentials = options.tls_ca.empty() ? grpc::InsecureChannelCredentials()
                                                  : grpc::SslCredentials({.pem_root_certs = options.tls_ca});
  auto shared = std::make_unique<Shared>();
  shared->channel = grpc::CreateCustomChannel(target, credentials, arguments);
  shared->options = std::move(options);
  auto client = std::unique_ptr<Client>(new Client(std::move(shared)));
  const ClientOptions& kept = client->shared_->options;
  for (int64_t left_ms = kept.connect_ms; left_ms > 0 && client->keep_on(); left_ms -= kPollMs) {
    if (client->WaitForConnected(std::min(left_ms, kPollMs))) return client;
    // Who listens on a socket answers at once.
    const bool refused = client->shared_->channel->GetState(false) == GRPC_CHANNEL_TRANSIENT_FAILURE;
    if (refused && kept.address.starts_with("unix:")) break;
  }
  if (!client->keep_on()) return absl::CancelledError("interrupted");
  return absl::UnavailableError(base::View("nobody answers at " + kept.address));
}

Client::Client(std::unique_ptr<Shared> shared) : shared_(std::move(shared)) {}
Client::~Client() = default;

bool Client::WaitForConnected(int64_t timeout_ms) {
  for (int64_t left_ms = timeout_ms; keep_on(); left_ms -= kPollMs) {
    if (shared_->channel->WaitForConnected(In(std::min(std::max<int64_t>(left_ms, 0), kPollMs)))) return true;
    if (left_ms <= 0) return false;
  }
  return false;
}

bool Client::Wait(int64_t ms) const {
  grpc::CompletionQueue nothing;
  void* tag;
  bool ok;
  for (; ms > 0 && keep_on(); ms -= kPollMs) nothing.AsyncNext(&tag, &ok, In(std::min(ms, kPollMs)));
  nothing.Shutdown();
  nothing.Next(&tag, &ok);
  return keep_on();
}

bool Client::keep_on() const { return !shared_->options.keep_on || shared_->options.keep_on(); }

void Client::SetKeepOn(std::function<bool()> keep_on) { shared_->options.keep_on = std::move(keep_on); }

const std::string& Client::address() const { return shared_->options.address; }

Status Client::Unary(const char* path, const Message& request, Message& response) {
  return ServerStream(
      path, request, response, [] { return true; }, 0);
}

Status Client::ServerStream(const char* path, const Message& request, Message& response,
                            const std::function<bool()>& on_response, int64_t silence_ms) {
  Shared::Exchange exchange(*shared_, path);
  exchange.Write(request);
  exchange.WritesDone();
  for (;;) {
    HF_ASSIGN_OR_RETURN(const bool got, exchange.Read(response, silence_ms));
    if (!got) return exchange.Finish();
    if (!on_response()) return {};
  }
}

Status Client::ClientStream(const char* path, const std::function<StatusOr<bool>()>& next,
                            const Message& request, Message& response) {
  Shared::Exchange exchange(*shared_, path);
  while (exchange.usable()) {
    HF_ASSIGN_OR_RETURN(const bool more, next());
    if (!more) break;
    exchange.Write(request);
  }
  exchange.WritesDone();
  HF_RETURN_IF_ERROR(exchange.Read(response, 0).status());
  return exchange.Finish();
}

}  // namespace holdfast::server
