#include "memory/blob_store.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/check.h"
#include "memory/blob/frame_builder.h"
#include "memory/blob/maintenance.h"
#include "memory/blob/pack_log.h"
#include "memory/blob/pack_reader.h"
#include "memory/blob/store_state.h"

namespace holdfast::memory {

using blob::FrameBuilder;
using blob::Location;

namespace {

constexpr uint64_t kReadBytes = 1 << 20;
constexpr int kMovesMax = 100;  // of a blob while it is being read; more is a fault of ours

base::Status CheckOptions(const BlobStoreOptions& options) {
  if (options.directory.empty()) return base::InvalidArgument("blob store: no directory was given");
  if (options.blob_bytes_max > blob::kBlobBytesLimit)
    return base::InvalidArgument("blob store: blob_bytes_max is at most 4 GiB - 1");
  if (options.batch_memory_bytes_max < 4096 || options.batch_memory_bytes_max > uint64_t{1} << 30)
    return base::InvalidArgument("blob store: batch_memory_bytes_max is 4 KiB to 1 GiB");
  if (options.pack_bytes_target < 4096 || options.pack_bytes_target > uint64_t{64} << 30)
    return base::InvalidArgument("blob store: pack_bytes_target is 4 KiB to 64 GiB");
  if (options.open_files_max == 0) return base::InvalidArgument("blob store: open_files_max is at least 1");
  return absl::OkStatus();
}

}  // namespace

class BlobStore::Impl {
 public:
  Impl(base::FileSystem& fs, BlobStoreOptions options, base::Clock& clock)
      : state(fs, std::move(options), clock), log(state) {}

  // Calls `read` with the file and entry of a blob; again when it was moved meanwhile, and once more when the
  // bytes looked damaged. Then it is marked.
  base::Status Reading(const BlobId& id,
                       absl::FunctionRef<base::Status(base::File&, const blob::BlobEntry&)> read);

  std::unique_ptr<base::FileLock> lock;
  blob::StoreState state;
  blob::PackLog log;
  std::mutex maintenance_mu;  // held by Sweep, Compact and Verify
};

base::Status BlobStore::Impl::Reading(
    const BlobId& id, absl::FunctionRef<base::Status(base::File&, const blob::BlobEntry&)> read) {
  std::optional<Location> failed_at;
  for (int moves = 0; moves < kMovesMax; ++moves) {
    HF_ASSIGN_OR_RETURN(const Location at, state.Find(id));
    const auto file = state.FileOf(at.pack);
    base::Status status = file.status();
    if (file.ok()) status = read(**file, at.entry(id));
    // A file that is not there is damage too, unless the blob has gone elsewhere.
    if (!absl::IsDataLoss(status) && !absl::IsNotFound(status)) return status;
    if (failed_at == at) {
      state.MarkDamaged(id, at, base::Message(status));
      return base::DataLoss(state.PathOf(at.pack) + ": blob " + base::ToHex(id) + ": " +
                            base::Message(status));
    }
    failed_at = at;
  }
  return base::Internal("blob " + base::ToHex(id) + ": moved again and again while it was read");
}

BlobStore::BlobStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BlobStore::~BlobStore() { HF_CHECK(impl_->state.pinned() == 0); }

base::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(base::FileSystem& fs, BlobStoreOptions options,
                                                           base::Clock& clock) {
  HF_RETURN_IF_ERROR(CheckOptions(options));
  auto impl = std::make_unique<Impl>(fs, std::move(options), clock);
  HF_ASSIGN_OR_RETURN(impl->lock, blob::OpenStore(impl->state));
  return std::unique_ptr<BlobStore>(new BlobStore(std::move(impl)));
}

bool BlobStore::Contains(const BlobId& id) const { return impl_->state.Contains(id); }

base::StatusOr<uint64_t> BlobStore::Size(const BlobId& id) const {
  HF_ASSIGN_OR_RETURN(const Location at, impl_->state.Find(id));
  return uint64_t{at.size};
}

base::StatusOr<std::string> BlobStore::Read(const BlobId& id, uint64_t max_bytes) {
  std::string out;
  HF_RETURN_IF_ERROR(impl_->Reading(id, [&](base::File& file, const blob::BlobEntry& entry) -> base::Status {
    if (entry.size > max_bytes)
      return base::ResourceExhausted("blob " + base::ToHex(id) + ": has " + std::to_string(entry.size) +
                                     " bytes, " + std::to_string(max_bytes) + " were expected at most");
    out.resize(entry.size);
    base::Sha256 hash;
    auto rest = std::as_writable_bytes(std::span(out));
    for (uint64_t done = 0; done < entry.size;) {
      const auto window = rest.subspan(done, std::min(entry.size - done, kReadBytes));
      HF_ASSIGN_OR_RETURN(const size_t n, file.ReadAt(entry.offset + done, window));
      if (n != window.size()) return base::DataLoss("the file ends inside it");
      hash.Update(window);
      done += n;
    }
    return hash.Finish() == id ? absl::OkStatus() : base::DataLoss("its bytes have another SHA-256");
  }));
  return out;
}

base::StatusOr<size_t> BlobStore::ReadAt(const BlobId& id, uint64_t offset, std::span<std::byte> out) {
  size_t n = 0;
  HF_RETURN_IF_ERROR(impl_->Reading(id, [&](base::File& file, const blob::BlobEntry& entry) -> base::Status {
    n = offset < entry.size ? std::min<uint64_t>(out.size(), entry.size - offset) : 0;
    return n == 0 ? absl::OkStatus() : blob::ReadContent(file, entry, offset, out.first(n));
  }));
  return n;
}

base::StatusOr<BlobReader> BlobStore::OpenBlob(const BlobId& id) {
  impl_->state.Pin(id);
  const auto size = Size(id);
  if (!size.ok()) {
    impl_->state.Unpin(id);
    return size.status();
  }
  return BlobReader(*this, id, *size);
}

void BlobStore::Unpin(const BlobId& id) { impl_->state.Unpin(id); }

SweepMark BlobStore::BeginSweep() { return {.at_seconds = impl_->state.NowSeconds()}; }

base::StatusOr<SweepReport> BlobStore::Sweep(SweepMark mark, absl::FunctionRef<bool(const BlobId&)> live,
                                             uint64_t grace_seconds, std::stop_token stop) {
  const std::lock_guard<std::mutex> lock(impl_->maintenance_mu);
  const int64_t until = mark.at_seconds - static_cast<int64_t>(std::min<uint64_t>(grace_seconds, INT32_MAX));
  return blob::Sweep(impl_->state, static_cast<int32_t>(std::max<int64_t>(until, INT32_MIN)), live, stop);
}

base::StatusOr<CompactReport> BlobStore::Compact(uint64_t budget_bytes, std::stop_token stop) {
  const std::lock_guard<std::mutex> lock(impl_->maintenance_mu);
  return blob::Compact(impl_->state, budget_bytes, stop);
}

base::StatusOr<BlobVerifyReport> BlobStore::Verify(const std::function<void(uint64_t, uint64_t)>& progress,
                                                   std::stop_token stop) {
  const std::lock_guard<std::mutex> lock(impl_->maintenance_mu);
  return blob::Verify(impl_->state, progress, stop);
}

BlobStoreStats BlobStore::Stats() const {
  BlobStoreStats stats = impl_->state.Stats();
  stats.data_syncs = impl_->log.syncs();
  return stats;
}

// --- Readers

BlobReader::BlobReader(BlobReader&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)), id_(other.id_), size_(other.size_) {}

BlobReader::~BlobReader() {
  if (store_ != nullptr) store_->Unpin(id_);
}

base::StatusOr<size_t> BlobReader::ReadAt(uint64_t offset, std::span<std::byte> out) {
  return store_->ReadAt(id_, offset, out);
}

// --- Batches

class BlobBatch::Impl {
 public:
  Impl(blob::StoreState& store_state, blob::PackLog& pack_log)
      : state(store_state),
        log(pack_log),
        frame(store_state.fs, {.directory = store_state.options.directory,
                               .memory_bytes_max = store_state.options.batch_memory_bytes_max,
                               .take_pack_id = [&store_state] { return store_state.TakePackId(); },
                               .room = [&store_state](uint64_t bytes) { return store_state.Room(bytes); }}) {}

  ~Impl() {
    for (const BlobId& id : held) state.Unpin(id);
  }

  // Pins a blob; true when it must be stored.
  bool IsNew(const BlobId& id) { return held.insert(id).second && !state.Pin(id); }

  base::Status CheckSize(uint64_t bytes) const {
    if (bytes <= state.options.blob_bytes_max) return absl::OkStatus();
    return base::InvalidArgument("blob store: a blob of more than " +
                                 std::to_string(state.options.blob_bytes_max) + " bytes");
  }

  base::Status Put(const BlobId& id, std::span<const std::byte> bytes) {
    frame.Begin();
    HF_RETURN_IF_ERROR(frame.WriteAll(bytes));
    return frame.End(id);
  }
  base::Status Append(std::span<const std::byte> bytes) {
    HF_RETURN_IF_ERROR(CheckSize(frame.blob_bytes() + bytes.size()));
    hash.Update(bytes);
    return frame.Write(bytes);
  }
  base::Status Commit();

  blob::StoreState& state;
  blob::PackLog& log;
  FrameBuilder frame;
  absl::flat_hash_set<BlobId, blob::IdHash> held;
  base::Sha256 hash;  // of the blob begun
  bool begun = false;
  bool closed = false;
  base::Status broken;
};

base::Status BlobBatch::Impl::Commit() {
  if (frame.entries().empty()) return absl::OkStatus();
  if (!frame.in_file()) return log.Commit(frame);
  HF_RETURN_IF_ERROR(frame.FinishFile());
  state.AddPack(frame.pack_id(), frame.frame_bytes(), 1);
  state.Publish(frame.pack_id(), frame.entries(), state.NowSeconds());
  state.DropWriter(frame.pack_id());
  return absl::OkStatus();
}

std::unique_ptr<BlobBatch> BlobStore::NewBatch() {
  auto impl = std::make_unique<BlobBatch::Impl>(impl_->state, impl_->log);
  return std::unique_ptr<BlobBatch>(new BlobBatch(std::move(impl)));
}

BlobBatch::BlobBatch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BlobBatch::~BlobBatch() = default;

base::StatusOr<BlobId> BlobBatch::Add(std::span<const std::byte> bytes) {
  HF_CHECK(!impl_->begun && !impl_->closed);
  HF_RETURN_IF_ERROR(impl_->broken);
  HF_RETURN_IF_ERROR(impl_->CheckSize(bytes.size()));  // breaks nothing
  const BlobId id = base::Sha256Of(bytes);
  if (!impl_->IsNew(id)) return id;
  impl_->broken = impl_->Put(id, bytes);
  HF_RETURN_IF_ERROR(impl_->broken);
  return id;
}

base::Status BlobBatch::Append(std::span<const std::byte> bytes) {
  HF_CHECK(!impl_->closed);
  HF_RETURN_IF_ERROR(impl_->broken);
  if (!impl_->begun) impl_->frame.Begin();
  impl_->begun = true;
  impl_->broken = impl_->Append(bytes);
  return impl_->broken;
}

base::StatusOr<BlobId> BlobBatch::Finish() {
  HF_CHECK(!impl_->closed);
  HF_RETURN_IF_ERROR(impl_->broken);
  if (!impl_->begun) impl_->frame.Begin();  // a blob of no bytes
  impl_->begun = false;
  const BlobId id = impl_->hash.Finish();
  if (!impl_->IsNew(id)) {
    impl_->frame.Cancel();
    return id;
  }
  impl_->broken = impl_->frame.End(id);
  HF_RETURN_IF_ERROR(impl_->broken);
  return id;
}

base::Status BlobBatch::Commit() {
  HF_RETURN_IF_ERROR(impl_->broken);
  if (impl_->begun) impl_->frame.Cancel();
  impl_->begun = false;
  impl_->closed = true;
  return impl_->Commit();
}

uint64_t BlobBatch::new_blobs() const { return impl_->frame.entries().size(); }

uint64_t BlobBatch::new_bytes() const {
  uint64_t bytes = 0;
  for (const blob::BlobEntry& entry : impl_->frame.entries()) bytes += entry.size;
  return bytes;
}

}  // namespace holdfast::memory
