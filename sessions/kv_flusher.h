// Writes KV behind the decoding: what the engine lane has handed to the block store goes out on the storage
// lane, and is synced when somebody commits, and at the latest after a stated time. Neither is ever waited
// for by an acknowledgement.
//
// Threads: Kick and Flush from any lane; destroyed on the control lane, when no task of its executor runs any
// more.
// Source: DESIGN section 5 ("at most 10 s of KV are unsynced").
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "base/clock.h"
#include "base/executor.h"
#include "base/status.h"
#include "memory/block_store.h"

namespace holdfast::sessions {

struct KvFlusherOptions {
  int64_t unsynced_ns_max = 10 * base::kNsPerSecond;
};

class KvFlusher {
 public:
  // All must outlive the flusher and its tasks.
  KvFlusher(base::Executor& executor, base::Clock& clock, memory::BlockStore& store,
            const KvFlusherOptions& options = {});

  // Something was handed to the store. Cheap: one task is under way at a time.
  void Kick();

  // Writes and syncs everything that was handed over before the call, then runs `done` on the control lane
  // with the outcome; an error means that it is in memory only (BlockStore::persistence).
  void Flush(std::function<void(base::Status)> done);

 private:
  void WriteBehind();
  void ArmTimer();

  base::Executor& executor_;
  base::Clock& clock_;
  memory::BlockStore& store_;
  const KvFlusherOptions options_;
  std::atomic<bool> write_posted_{false};
  std::atomic<bool> timer_armed_{false};
};

}  // namespace holdfast::sessions
