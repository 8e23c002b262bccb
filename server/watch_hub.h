// Who watches which session: each watcher is given every event after the one that he names, once and in
// order, first those on record, then those that happen.
//
// A watcher reads pages of the record until there is no more, and then takes what OnEvent is told. OnEvent is
// told of most events, in order, and each after it is durable; one that comes with a gap before it, or that
// is found at the next heartbeat without having been told, sends the watcher back to the record. So nothing
// is missed and nothing comes twice, whoever is told or not. Who reads the record goes at his own pace and
// holds one page; who takes what happens has a bounded queue, and is let go when it is full.
//
// Threads: Watch and Close any; the rest on the control lane. No call waits. Destroyed after the gRPC server,
// when no task of the executor runs any more.
// Source: DESIGN section 1, invariant 5.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "model/tokenizer.h"
#include "server/event_proto.h"
#include "server/stream_reactor.h"
#include "sessions/session_store.h"

namespace holdfast::v1 {
class LiveUpdate;
class WatchSessionResponse;
}  // namespace holdfast::v1

namespace holdfast::server {

struct WatchHubOptions {
  StreamBounds bounds;
  size_t watchers_max = 4096;
  size_t page_events_max = 256;
  size_t page_bytes_max = size_t{1} << 20;  // as encoded; at least one event
};

// What one watcher wants.
struct WatchRequest {
  std::string session;  // id
  uint64_t after_seq = 0;
  EventView view;
  bool live = false;
  int64_t heartbeat_ms = 15'000;
};

class WatchHub final : private StreamOwner {
 public:
  struct Parts {
    base::Executor& executor;
    base::Clock& clock;
    sessions::SessionStore& store;
    const model::Tokenizer& tokenizer;
  };
  // A watch has ended; any thread.
  using OnEnd = std::function<void(const base::Status&, int64_t took_ns)>;

  // All of `parts` outlive the hub. `on_end` may be empty.
  explicit WatchHub(const Parts& parts, const WatchHubOptions& options = {}, OnEnd on_end = {});
  ~WatchHub() override;

  // The stream of a call, which is gRPC's; it ends by itself. NotFound for a session that is not there,
  // InvalidArgument for a number that it does not have yet, ResourceExhausted with WATCH_OVERFLOW for a
  // client that is too slow, or beyond watchers_max.
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Watch(WatchRequest request);
  // A stream that ends with an error, for a call that is not to be served.
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Refuse(base::Status status);

  void OnEvent(const std::string& id, const sessions::Event& event);
  // What may be seen of a session before it is durable. `make` is called when somebody wants it.
  void OnLive(const std::string& id, const std::function<void(v1::LiveUpdate&)>& make);

  // Ends all watches, and those that come, with `status`.
  void Close(base::Status status);

  size_t watchers() const { return watchers_.size(); }

 private:
  enum class Phase : uint8_t {
    kReading,   // a page of the record is on its way
    kDraining,  // it goes out to the client
    kFollowing,
  };
  struct Watcher {
    StreamReactor* reactor = nullptr;
    WatchRequest request;
    uint64_t last_seq = 0;  // given to the reactor
    Phase phase = Phase::kReading;
    base::MonotonicTime quiet_since;  // nothing has been given to the reactor
    std::optional<base::TimerId> timer;
  };
  struct Watched {
    uint64_t told_seq = 0;           // OnEvent has told so far
    std::vector<uint64_t> watchers;  // ids
  };

  // StreamOwner
  void OnDrained(uint64_t id) override;
  void OnDone(std::unique_ptr<StreamReactor> reactor) override;

  void Join(StreamReactor* reactor, WatchRequest request);
  void Leave(uint64_t id);
  Watcher* Find(uint64_t id);
  // Begins or goes on to read the record: all there is after last_seq.
  void Read(uint64_t id);
  void TakePage(uint64_t id, base::StatusOr<std::vector<sessions::Event>> page);
  // Gives the watcher an event; false: he was let go.
  bool Give(Watcher& watcher, const grpc::ByteBuffer& message, uint64_t seq);
  void ArmHeartbeat(uint64_t id);
  void LookForSilence(uint64_t id);
  grpc::ByteBuffer Encode(const sessions::Event& event, const EventView& view) const;

  const Parts parts_;
  const WatchHubOptions options_;
  const OnEnd on_end_;
  std::atomic<uint64_t> next_id_ = 1;

  // Control lane.
  std::map<uint64_t, Watcher> watchers_;
  std::map<std::string, Watched> sessions_;
  base::Status closed_;  // an error: how watches end
};

}  // namespace holdfast::server
