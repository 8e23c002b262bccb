#include "sessions/kv_flusher.h"

#include <utility>

namespace holdfast::sessions {

KvFlusher::KvFlusher(base::Executor& executor, base::Clock& clock, memory::BlockStore& store,
                     const KvFlusherOptions& options)
    : executor_(executor), clock_(clock), store_(store), options_(options) {}

void KvFlusher::Kick() {
  if (!write_posted_.exchange(true)) executor_.PostResult(base::Lane::kStorage, [this] { WriteBehind(); });
  if (!timer_armed_.exchange(true)) ArmTimer();
}

// The store tells why it does not write (an event, and persistence()); the next kick or sync tries again.
void KvFlusher::WriteBehind() {
  write_posted_.store(false);
  store_.Write().IgnoreError();
}

void KvFlusher::ArmTimer() {
  const base::MonotonicTime when{clock_.MonotonicNow().ns + options_.unsynced_ns_max};
  const auto timer = executor_.PostAt(when, [this] {
    executor_.PostResult(base::Lane::kStorage, [this] {
      timer_armed_.store(false);
      store_.Sync().IgnoreError();
    });
  });
  if (!timer.ok()) timer_armed_.store(false);  // no room for a timer: the next kick asks again
}

void KvFlusher::Flush(std::function<void(base::Status)> done) {
  executor_.PostResult(base::Lane::kStorage, [this, done = std::move(done)]() mutable {
    base::Status status = store_.Sync();
    executor_.PostResult(base::Lane::kControl,
                         [done = std::move(done), status = std::move(status)] { done(status); });
  });
}

}  // namespace holdfast::sessions
