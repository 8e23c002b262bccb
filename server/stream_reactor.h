// One stream of messages to a client: they wait in a bounded queue and go out one after the other, as fast as
// the client takes them. A client that does not take them costs its queue and one message, and nobody waits.
//
//   auto* reactor = new StreamReactor(owner, id, bounds);   // gRPC's, until StreamOwner::OnDone gives it
//   back reactor->Push(message, seq); reactor->End(status);
//
// Threads: any; gRPC calls it on threads of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "base/clock.h"
#include "base/status.h"
#include "grpcpp/grpcpp.h"

namespace holdfast::server {

struct StreamBounds {
  size_t messages_max = 4096;          // of events and heartbeats that wait
  size_t bytes_max = size_t{8} << 20;  // of all that wait
  size_t live_messages_max = 64;       // of live updates that wait; then the oldest goes
};

class StreamReactor;

// Told on gRPC's threads; OnDrained also from within AskWhenDrained.
class StreamOwner {
 public:
  virtual ~StreamOwner() = default;
  // Everything that waited has gone out; once for each AskWhenDrained.
  virtual void OnDrained(uint64_t id) = 0;
  // The call has ended, with what the client was told or CANCELLED; nothing calls the reactor any more.
  virtual void OnDone(std::unique_ptr<StreamReactor> reactor) = 0;
};

class StreamReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  StreamReactor(StreamOwner& owner, uint64_t id, const StreamBounds& bounds, base::MonotonicTime began)
      : owner_(owner), id_(id), bounds_(bounds), began_(began) {}

  uint64_t id() const { return id_; }
  base::MonotonicTime began() const { return began_; }

  // False when the queue is full: nothing was added. `seq` of an event, or of the last one before a
  // heartbeat. The first message of an empty queue always goes in. True without effect after the end.
  bool Push(grpc::ByteBuffer message, uint64_t seq);
  // Behind all that waits; may be dropped.
  void PushLive(grpc::ByteBuffer message);
  // OnDrained follows, at once when nothing waits.
  void AskWhenDrained();
  bool IsDrained() const;

  // Drops what waits and ends the call, once what is going out is out. The first of several counts.
  void End(base::Status status);

  // Of the messages that have gone out; to be said to a client that has to begin again.
  uint64_t last_sent() const;
  base::Status status() const;  // of the end

 private:
  struct Message {
    grpc::ByteBuffer bytes;
    uint64_t seq = 0;
    bool live = false;
  };

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { owner_.OnDone(std::unique_ptr<StreamReactor>(this)); }

  bool Fits(size_t bytes) const;
  void Add(Message message);
  // Begins the next write, or the end, as is due; unlocks first.
  void Advance(std::unique_lock<std::mutex> lock);
  void EndLocked(base::Status status);

  StreamOwner& owner_;
  const uint64_t id_;
  const StreamBounds bounds_;
  const base::MonotonicTime began_;

  mutable std::mutex mutex_;  // guards all that follows, but `outgoing_` is gRPC's while writing_
  std::deque<Message> queue_;
  size_t queued_bytes_ = 0;
  size_t queued_live_ = 0;
  Message outgoing_;
  bool writing_ = false;
  bool tell_drained_ = false;
  bool ended_ = false;
  bool finished_ = false;
  uint64_t last_sent_ = 0;
  base::Status status_;
};

}  // namespace holdfast::server
