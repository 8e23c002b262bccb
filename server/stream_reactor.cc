#include "server/stream_reactor.h"

#include <algorithm>
#include <utility>

#include "server/grpc_status.h"

namespace holdfast::server {

bool StreamReactor::Push(grpc::ByteBuffer message, uint64_t seq) {
  std::unique_lock lock(mutex_);
  if (ended_) return true;
  if (!Fits(message.Length())) return false;
  Add({.bytes = std::move(message), .seq = seq});
  Advance(std::move(lock));
  return true;
}

void StreamReactor::PushLive(grpc::ByteBuffer message) {
  std::unique_lock lock(mutex_);
  if (ended_) return;
  if (queued_live_ == bounds_.live_messages_max) {
    const auto oldest = std::find_if(queue_.begin(), queue_.end(), [](const Message& m) { return m.live; });
    queued_bytes_ -= oldest->bytes.Length();
    queue_.erase(oldest);
    --queued_live_;
  }
  if (!Fits(message.Length())) return;
  Add({.bytes = std::move(message), .live = true});
  Advance(std::move(lock));
}

void StreamReactor::AskWhenDrained() {
  std::unique_lock lock(mutex_);
  if (ended_) return;
  if (writing_ || !queue_.empty()) {
    tell_drained_ = true;
    return;
  }
  lock.unlock();
  owner_.OnDrained(id_);
}

bool StreamReactor::IsDrained() const {
  const std::lock_guard lock(mutex_);
  return !writing_ && queue_.empty();
}

void StreamReactor::End(base::Status status) {
  std::unique_lock lock(mutex_);
  EndLocked(std::move(status));
  Advance(std::move(lock));
}

uint64_t StreamReactor::last_sent() const {
  const std::lock_guard lock(mutex_);
  return last_sent_;
}

base::Status StreamReactor::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void StreamReactor::OnWriteDone(bool ok) {
  std::unique_lock lock(mutex_);
  writing_ = false;
  if (ok && !outgoing_.live) last_sent_ = outgoing_.seq;
  outgoing_.bytes.Clear();
  if (!ok) EndLocked(absl::CancelledError("the client has gone"));
  const bool drained = queue_.empty() && !ended_ && std::exchange(tell_drained_, false);
  Advance(std::move(lock));
  if (drained) owner_.OnDrained(id_);
}

void StreamReactor::OnCancel() { End(absl::CancelledError("the client has gone")); }

bool StreamReactor::Fits(size_t bytes) const {
  if (queue_.empty()) return true;
  return queue_.size() - queued_live_ < bounds_.messages_max && queued_bytes_ + bytes <= bounds_.bytes_max;
}

void StreamReactor::Add(Message message) {
  queued_bytes_ += message.bytes.Length();
  if (message.live) ++queued_live_;
  queue_.push_back(std::move(message));
}

void StreamReactor::Advance(std::unique_lock<std::mutex> lock) {
  if (writing_ || finished_) return;
  if (ended_) {
    finished_ = true;
    const grpc::Status status = ToGrpc(status_);
    lock.unlock();
    return Finish(status);
  }
  if (queue_.empty()) return;
  outgoing_ = std::move(queue_.front());
  queue_.pop_front();
  queued_bytes_ -= outgoing_.bytes.Length();
  if (outgoing_.live) --queued_live_;
  writing_ = true;
  lock.unlock();
  StartWrite(&outgoing_.bytes);
}

void StreamReactor::EndLocked(base::Status status) {
  if (std::exchange(ended_, true)) return;
  status_ = std::move(status);
  queue_.clear();
  queued_bytes_ = queued_live_ = 0;
}

}  // namespace holdfast::server
