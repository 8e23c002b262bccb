#include "memory/blob/pack_log.h"

#include <utility>
#include <vector>

#include "base/coding.h"
#include "base/faults.h"

namespace holdfast::memory::blob {

PackLog::~PackLog() {
  if (current_ != nullptr) Retire(current_);
}

base::Status PackLog::Start() {
  const uint32_t id = state_.TakePackId();
  auto file = state_.fs.Open(state_.PathOf(id), base::OpenMode::kCreateNew);
  if (!file.ok()) return WriteError(file.status());
  current_ = std::make_shared<Open>();  // shared: see OpenPtr
  current_->id = id;
  current_->file = *std::move(file);
  state_.AddPack(id, 0, 1);
  return absl::OkStatus();
}

// A frame without blobs that says that what lies before it was synced. Saves the next start from checking,
// so it need not be synced, nor succeed.
void PackLog::Mark(Open& pack) {
  const uint64_t synced = pack.synced_end.load();
  if (synced == 0 || synced != pack.end) return;
  const Frame mark{.pack = pack.id, .offset = pack.end, .bytes = 2 * kUnit, .synced_end = synced};
  const std::string bytes = EncodeFrame(mark, FrameEnd::kHead) + EncodeFrame(mark, FrameEnd::kTail);
  if (!pack.file->WriteAt(pack.end, base::AsBytes(bytes)).ok()) return;
  pack.end += bytes.size();
  state_.GrowPack(pack.id, pack.end);
}

// Wants mu_ held. Those who have written and not synced yet count as writers of their own.
void PackLog::Retire(const OpenPtr& pack) {
  if (current_ != pack) return;
  const OpenPtr keep = std::exchange(current_, nullptr);
  Mark(*keep);
  state_.DropWriter(keep->id);
}

base::Status PackLog::Write(FrameBuilder& frame, OpenPtr* where, uint64_t* end) {
  const std::lock_guard<std::mutex> lock(mu_);
  HF_RETURN_IF_ERROR(state_.Room(frame.frame_bytes()));
  if (current_ != nullptr && current_->end >= state_.options.pack_bytes_target) Retire(current_);
  if (current_ == nullptr) HF_RETURN_IF_ERROR(Start());
  const OpenPtr pack = current_;
  const auto bytes = frame.Bytes(pack->id, pack->end, pack->synced_end.load());
  const base::Status written = WriteError(pack->file->WriteAt(pack->end, bytes));
  if (!written.ok()) {
    pack->file->Truncate(pack->end).IgnoreError();  // gives room back; what stays is found unfinished
    Retire(pack);
    state_.RemoveIfEmpty(pack->id).status().IgnoreError();  // a full disk must not fill up with empty files
    return written;
  }
  pack->end += bytes.size();
  pack->written_end.store(pack->end);
  state_.GrowPack(pack->id, pack->end);
  state_.AddWriter(pack->id);
  *where = pack;
  *end = pack->end;
  return absl::OkStatus();
}

base::Status PackLog::SyncAll(Open& pack) {
  const bool first = pack.synced_end.load() == 0;
  syncs_.fetch_add(1, std::memory_order_relaxed);
  HF_FAULT_POINT("memory.blob.before_sync");
  HF_RETURN_IF_ERROR(WriteError(first ? pack.file->Sync() : pack.file->DataSync()));
  HF_FAULT_POINT("memory.blob.before_directory_sync");
  return first ? WriteError(state_.fs.SyncDirectory(state_.options.directory)) : absl::OkStatus();
}

base::Status PackLog::SyncTo(Open& pack, uint64_t end) {
  const std::lock_guard<std::mutex> lock(pack.sync_mu);
  if (pack.synced_end.load() >= end) return absl::OkStatus();
  HF_RETURN_IF_ERROR(pack.failed);
  const uint64_t target = pack.written_end.load();
  pack.failed = SyncAll(pack);
  if (pack.failed.ok()) {
    pack.synced_end.store(target);
    return absl::OkStatus();
  }
  // Nobody knows what of the rest the disk has; the page cache must not keep it for a later start to trust.
  pack.file->Truncate(pack.synced_end.load()).IgnoreError();
  return pack.failed;
}

base::Status PackLog::Commit(FrameBuilder& frame) {
  OpenPtr pack;
  uint64_t end = 0;
  HF_RETURN_IF_ERROR(Write(frame, &pack, &end));
  const base::Status synced = SyncTo(*pack, end);
  if (synced.ok()) {
    state_.Publish(pack->id, frame.entries(), state_.NowSeconds());
    state_.DropWriter(pack->id);
    return absl::OkStatus();
  }
  {
    const std::lock_guard<std::mutex> lock(mu_);
    Retire(pack);
    state_.GrowPack(pack->id, pack->synced_end.load());
  }
  state_.DropWriter(pack->id);
  state_.RemoveIfEmpty(pack->id).status().IgnoreError();
  return synced;
}

}  // namespace holdfast::memory::blob
