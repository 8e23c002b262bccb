#include "server/client_watch.h"

#include "base/clock.h"
#include "google/protobuf/util/time_util.h"
#include "holdfast/v1/session_service.pb.h"
#include "server/grpc_status.h"

namespace holdfast::server {
namespace {

using base::Status;

constexpr int64_t kRetryMs = 100;
constexpr int kSilentHeartbeats = 3;  // that fail to come before the connection counts as dead

// Whether the same watch may do better on another connection.
bool IsLost(const Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         (absl::IsResourceExhausted(status) && ReasonOf(status) == "WATCH_OVERFLOW");
}

class Watcher {
 public:
  Watcher(Client& client, WatchOptions options) : client_(client), options_(std::move(options)) {}

  Status Run() {
    int64_t left_ms = options_.patience_ms;
    for (;;) {
      heard_ = false;
      Status ended = WatchOnce();
      if (done_ || !gap_.ok()) return gap_;
      if (ended.ok()) ended = absl::UnavailableError("the server has ended the watch");
      if (!IsLost(ended)) return ended;
      if (heard_) left_ms = options_.patience_ms;
      if (options_.on_lost) options_.on_lost(ended);
      const int64_t begun = base::RealClock().MonotonicNow().ns;
      const bool reached = client_.Wait(kRetryMs) && client_.WaitForConnected(left_ms);
      if (!client_.keep_on()) return absl::CancelledError("interrupted");
      left_ms -= (base::RealClock().MonotonicNow().ns - begun) / base::kNsPerMs;
      if (!reached || left_ms <= 0) return ended;
    }
  }

 private:
  Status WatchOnce() {
    v1::WatchSessionRequest request;
    request.set_name(options_.name);
    request.set_after_sequence(options_.after_sequence);
    request.set_live(options_.live);
    request.mutable_view()->set_fed_text(options_.fed_text);
    *request.mutable_heartbeat_interval() =
        google::protobuf::util::TimeUtil::MillisecondsToDuration(options_.heartbeat_ms);
    return client_.Stream(
        request, [this](const v1::WatchSessionResponse& response) { return Take(response); },
        kSilentHeartbeats * options_.heartbeat_ms);
  }

  bool Take(const v1::WatchSessionResponse& response) {
    heard_ = true;
    if (response.has_event()) return TakeEvent(response.event());
    if (response.has_live() && options_.on_live) options_.on_live(response.live());
    if (response.has_heartbeat() && options_.on_heartbeat) {
      done_ = !options_.on_heartbeat(response.heartbeat().last_sequence());
    }
    return !done_;
  }

  bool TakeEvent(const v1::SessionEvent& event) {
    if (event.sequence() != options_.after_sequence + 1) {
      gap_ = base::DataLoss(options_.name + ": event " + std::to_string(event.sequence()) +
                            " came after event " + std::to_string(options_.after_sequence));
      return false;
    }
    options_.after_sequence = event.sequence();
    done_ = !options_.on_event(event);
    return !done_;
  }

  Client& client_;
  WatchOptions options_;
  bool done_ = false;   // a callback has ended it
  bool heard_ = false;  // something, over this connection
  Status gap_;
};

}  // namespace

Status Watch(Client& client, WatchOptions options) { return Watcher(client, std::move(options)).Run(); }

}  // namespace holdfast::server
