// The pack that this process appends to. Batches that commit at the same time share a sync: each writes its
// frame, then one of them syncs for all that were written until then.
//
// A pack is given up after the first error in it, so nothing is ever appended behind bytes of unknown state,
// and packs of other processes are never appended to.
//
// Threads: safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/file.h"
#include "base/status.h"
#include "memory/blob/frame_builder.h"
#include "memory/blob/store_state.h"

namespace holdfast::memory::blob {

class PackLog {
 public:
  explicit PackLog(StoreState& state) : state_(state) {}
  // Notes in the pack that all of it was synced. Nobody must be committing.
  ~PackLog();

  // Writes a frame that is in memory, makes it durable, and publishes its blobs. After an error it may be
  // tried again.
  base::Status Commit(FrameBuilder& frame);

  uint64_t syncs() const { return syncs_.load(std::memory_order_relaxed); }

 private:
  struct Open {
    uint32_t id = 0;
    std::unique_ptr<base::File> file;
    uint64_t end = 0;                      // guarded by mu_
    std::atomic<uint64_t> written_end{0};  // the same, for the one who syncs
    std::atomic<uint64_t> synced_end{0};
    std::mutex sync_mu;
    base::Status failed;  // guarded by sync_mu
  };
  using OpenPtr = std::shared_ptr<Open>;  // shared_ptr: those who wait for its sync outlive its being current

  base::Status Write(FrameBuilder& frame, OpenPtr* where, uint64_t* end);
  base::Status Start();
  base::Status SyncTo(Open& pack, uint64_t end);
  base::Status SyncAll(Open& pack);
  void Retire(const OpenPtr& pack);
  void Mark(Open& pack);

  StoreState& state_;
  std::atomic<uint64_t> syncs_{0};
  std::mutex mu_;    // taken before sync_mu of a pack is free again, never the other way round
  OpenPtr current_;  // guarded by mu_; null when a new one has to be started
};

}  // namespace holdfast::memory::blob
