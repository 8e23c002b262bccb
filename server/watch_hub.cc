#include "server/watch_hub.h"

#include <algorithm>

#include "base/check.h"
#include "holdfast/v1/session_service.pb.h"
#include "server/grpc_status.h"

namespace holdfast::server {
namespace {

grpc::ByteBuffer Serialize(const v1::WatchSessionResponse& response) {
  const grpc::Slice slice(response.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

base::Status NoSuchSession(const std::string& id) {
  return WithReason(base::NotFound("session " + id + ": there is none"), "SESSION_NOT_FOUND");
}

}  // namespace

WatchHub::WatchHub(const Parts& parts, const WatchHubOptions& options, OnEnd on_end)
    : parts_(parts), options_(options), on_end_(std::move(on_end)) {}

WatchHub::~WatchHub() = default;

// --- Coming and going

grpc::ServerWriteReactor<grpc::ByteBuffer>* WatchHub::Watch(WatchRequest request) {
  auto* reactor = new StreamReactor(*this, next_id_++, options_.bounds, parts_.clock.MonotonicNow());
  const base::Status posted = parts_.executor.Post(
      base::Lane::kControl,
      [this, reactor, request = std::move(request)]() mutable { Join(reactor, std::move(request)); });
  if (!posted.ok()) reactor->End(posted);
  return reactor;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* WatchHub::Refuse(base::Status status) {
  auto* reactor = new StreamReactor(*this, next_id_++, options_.bounds, parts_.clock.MonotonicNow());
  reactor->End(std::move(status));
  return reactor;
}

// The call may be over by now: then its end is behind this in the lane.
void WatchHub::Join(StreamReactor* reactor, WatchRequest request) {
  if (!closed_.ok()) return reactor->End(closed_);
  if (watchers_.size() >= options_.watchers_max) {
    return reactor->End(base::ResourceExhausted(std::to_string(watchers_.size()) + " watches are open"));
  }
  const uint64_t id = reactor->id();
  const std::string session = request.session;
  sessions_[session].watchers.push_back(id);
  watchers_[id] = {
      .reactor = reactor, .request = std::move(request), .quiet_since = parts_.clock.MonotonicNow()};
  watchers_[id].last_seq = watchers_[id].request.after_seq;
  parts_.store.Get(session, [this, id](base::StatusOr<sessions::SessionRow> row) {
    Watcher* const watcher = Find(id);
    if (watcher == nullptr) return;
    if (absl::IsNotFound(row.status())) return watcher->reactor->End(NoSuchSession(watcher->request.session));
    if (!row.ok()) return watcher->reactor->End(row.status());
    if (watcher->last_seq > row->last_seq) {
      return watcher->reactor->End(WithField(
          base::InvalidArgument("after_sequence: the last event is " + std::to_string(row->last_seq)),
          "after_sequence"));
    }
    ArmHeartbeat(id);
    Read(id);
  });
}

void WatchHub::OnDone(std::unique_ptr<StreamReactor> reactor) {
  if (on_end_) on_end_(reactor->status(), parts_.clock.MonotonicNow().ns - reactor->began().ns);
  parts_.executor.PostResult(base::Lane::kControl,
                             [this, reactor = std::move(reactor)] { Leave(reactor->id()); });
}

void WatchHub::Leave(uint64_t id) {
  const auto found = watchers_.find(id);
  if (found == watchers_.end()) return;
  const auto session = sessions_.find(found->second.request.session);
  std::erase(session->second.watchers, id);
  if (session->second.watchers.empty()) sessions_.erase(session);
  if (found->second.timer.has_value()) parts_.executor.Cancel(*found->second.timer);
  watchers_.erase(found);
}

void WatchHub::Close(base::Status status) {
  HF_CHECK(!status.ok());
  parts_.executor.PostResult(base::Lane::kControl, [this, status = std::move(status)] {
    closed_ = status;
    for (const auto& [id, watcher] : watchers_) watcher.reactor->End(status);
  });
}

WatchHub::Watcher* WatchHub::Find(uint64_t id) {
  const auto found = watchers_.find(id);
  return found == watchers_.end() ? nullptr : &found->second;
}

// --- The record

void WatchHub::Read(uint64_t id) {
  Watcher& watcher = *Find(id);
  watcher.phase = Phase::kReading;
  parts_.store.ReadEvents(
      watcher.request.session, watcher.last_seq, options_.page_events_max,
      [this, id](base::StatusOr<std::vector<sessions::Event>> page) { TakePage(id, std::move(page)); });
}

void WatchHub::TakePage(uint64_t id, base::StatusOr<std::vector<sessions::Event>> page) {
  Watcher* const watcher = Find(id);
  if (watcher == nullptr) return;
  if (!page.ok()) return watcher->reactor->End(page.status());
  if (page->empty()) {
    // What was told while the page was on its way is not in it.
    if (sessions_[watcher->request.session].told_seq > watcher->last_seq) return Read(id);
    watcher->phase = Phase::kFollowing;
    return;
  }
  size_t bytes = 0;
  for (const sessions::Event& event : *page) {
    const grpc::ByteBuffer message = Encode(event, watcher->request.view);
    bytes += message.Length();
    // The rest is read again when this has gone out.
    if (bytes > options_.page_bytes_max && bytes > message.Length()) break;
    if (!Give(*watcher, message, event.seq)) return;
  }
  watcher->phase = Phase::kDraining;
  watcher->reactor->AskWhenDrained();
}

void WatchHub::OnDrained(uint64_t id) {
  parts_.executor.PostResult(base::Lane::kControl, [this, id] {
    const Watcher* const watcher = Find(id);
    if (watcher != nullptr && watcher->phase == Phase::kDraining) Read(id);
  });
}

// --- What happens

void WatchHub::OnEvent(const std::string& id, const sessions::Event& event) {
  const auto session = sessions_.find(id);
  if (session == sessions_.end()) return;
  session->second.told_seq = event.seq;
  // Encoded once for all who want it so.
  std::map<EventView, grpc::ByteBuffer> messages;
  for (const uint64_t watcher_id : session->second.watchers) {
    Watcher& watcher = *Find(watcher_id);
    if (watcher.phase != Phase::kFollowing || event.seq <= watcher.last_seq) continue;
    if (event.seq > watcher.last_seq + 1) {
      Read(watcher_id);
      continue;
    }
    const auto [message, is_new] = messages.try_emplace(watcher.request.view);
    if (is_new) message->second = Encode(event, watcher.request.view);
    Give(watcher, message->second, event.seq);
  }
}

void WatchHub::OnLive(const std::string& id, const std::function<void(v1::LiveUpdate&)>& make) {
  const auto session = sessions_.find(id);
  if (session == sessions_.end()) return;
  std::optional<grpc::ByteBuffer> message;
  for (const uint64_t watcher_id : session->second.watchers) {
    Watcher& watcher = *Find(watcher_id);
    if (!watcher.request.live || watcher.phase != Phase::kFollowing) continue;
    if (!message.has_value()) {
      v1::WatchSessionResponse response;
      make(*response.mutable_live());
      message = Serialize(response);
    }
    watcher.reactor->PushLive(*message);
    watcher.quiet_since = parts_.clock.MonotonicNow();
  }
}

bool WatchHub::Give(Watcher& watcher, const grpc::ByteBuffer& message, uint64_t seq) {
  if (!watcher.reactor->Push(message, seq)) {
    const std::string last = std::to_string(watcher.reactor->last_sent());
    watcher.reactor->End(WithReason(
        base::ResourceExhausted("the client takes events more slowly than they happen: watch again after " +
                                last),
        "WATCH_OVERFLOW", {{"last_sequence", last}}));
    return false;
  }
  watcher.last_seq = seq;
  watcher.quiet_since = parts_.clock.MonotonicNow();
  return true;
}

grpc::ByteBuffer WatchHub::Encode(const sessions::Event& event, const EventView& view) const {
  v1::WatchSessionResponse response;
  EventToProto(event, view, parts_.tokenizer, response.mutable_event());
  return Serialize(response);
}

// --- Silence

void WatchHub::ArmHeartbeat(uint64_t id) {
  Watcher& watcher = *Find(id);
  const int64_t due_ns = std::max(parts_.clock.MonotonicNow().ns,
                                  watcher.quiet_since.ns + watcher.request.heartbeat_ms * base::kNsPerMs);
  auto timer = parts_.executor.PostAt({due_ns}, [this, id] { LookForSilence(id); });
  if (!timer.ok()) return watcher.reactor->End(timer.status());
  watcher.timer = *timer;
}

void WatchHub::LookForSilence(uint64_t id) {
  Watcher& watcher = *Find(id);
  watcher.timer.reset();
  const int64_t now_ns = parts_.clock.MonotonicNow().ns;
  const bool silent = now_ns - watcher.quiet_since.ns >= watcher.request.heartbeat_ms * base::kNsPerMs;
  if (!silent) return ArmHeartbeat(id);
  watcher.quiet_since = {now_ns};
  ArmHeartbeat(id);
  if (watcher.phase != Phase::kFollowing || !watcher.reactor->IsDrained()) return;
  // There may be events that nobody has told of.
  parts_.store.Get(watcher.request.session, [this, id](const base::StatusOr<sessions::SessionRow>& row) {
    Watcher* const quiet = Find(id);
    if (quiet == nullptr || quiet->phase != Phase::kFollowing) return;
    if (!row.ok()) return quiet->reactor->End(row.status());
    if (row->last_seq > quiet->last_seq) return Read(id);
    v1::WatchSessionResponse response;
    response.mutable_heartbeat()->set_last_sequence(quiet->last_seq);
    (void)quiet->reactor->Push(Serialize(response), quiet->last_seq);
  });
}

}  // namespace holdfast::server
