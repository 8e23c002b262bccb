// Content-addressed blobs on disk: file contents and manifests of workspaces, spilled output of commands,
// large results of tools. A blob is some bytes, named by their SHA-256; it is stored once, never changed, and
// kept until a sweep finds that nobody names it.
//
//   HF_ASSIGN_OR_RETURN(auto blobs, BlobStore::Open(fs, {.directory = dir}));
//   auto batch = blobs->NewBatch();
//   HF_ASSIGN_OR_RETURN(const BlobId id, batch->Add(bytes));   // as often as wanted
//   HF_RETURN_IF_ERROR(batch->Commit());                       // all of them durable: one data fsync
//   ... commit the database row that names `id` ...
//   batch.reset();                                             // until here no sweep removes them
//
// A batch is durable as a whole when Commit returns OK, and its blobs are visible from then on. After a crash
// before that each of its blobs is absent or whole; never torn.
//
// Damage: every read compares what it gives with a hash. Bytes that are torn, flipped or gone are DataLoss
// for the blobs they belong to and for no other; a blob found damaged counts as absent from then on
// (Contains is false), so that whoever adds it again heals it. Verify finds all damage at once.
//
// Space: a batch of up to `batch_memory_bytes_max` is appended to the pack that this process writes, together
// with the batches of other threads that commit meanwhile; a larger one becomes a pack of its own, written
// while it grows. Sweep frees blobs that are not named any more, Compact merges small packs and those with
// much garbage; both are meant for the background and can be killed at any moment.
//
// Memory: 56 to 112 bytes for each blob in the store (a hash table between half full and full), twice that
// for a moment when the table grows; for each pack about 200; for each batch at most batch_memory_bytes_max
// and 250 bytes a blob; for a read what it reads, at most 64 KiB more.
//
// Threads: all methods of BlobStore may be called from any thread; a Batch and a BlobReader are used by one
// thread at a time (not always the same). Commit, Sweep, Compact and Verify wait for the disk; Add, Append,
// Finish may write to it; the rest reads what it returns.
// Source: DESIGN sections 1 and 6; docs/formats/blob_pack.md; ADR 0011.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/status.h"

namespace holdfast::memory {

using BlobId = base::Sha256Digest;

class BlobStore;

// Something a person may want to know; given from whichever call noticed it.
struct BlobEvent {
  enum class Kind : uint8_t {
    kUnfinished,  // left by a crash before the end of a Commit; nothing that was promised is missing
    kDamaged,     // stored bytes are torn, flipped or gone
    kLeftAlone,   // a pack that cannot be read at all, or is of another version
  };
  Kind kind;
  std::string message;
};

struct BlobStoreOptions {
  std::string directory;
  uint64_t disk_bytes_max = uint64_t{64} << 30;         // of all packs
  uint64_t blob_bytes_max = uint64_t{1} << 30;          // of one blob; at most 4 GiB - 1
  uint64_t batch_memory_bytes_max = uint64_t{4} << 20;  // beyond it a batch is written as it grows
  uint64_t pack_bytes_target = uint64_t{64} << 20;      // an appended or merged pack ends about here
  size_t open_files_max = 64;                           // descriptors held for reading
  std::function<void(const BlobEvent&)> on_event = {};  // must not call the store
};

// Blobs that become durable together. Keeps each blob added, new or present before, from being swept until it
// is destroyed; so it is destroyed after that which names the blobs is durable. Must not outlive the store.
//
// After an error of Add, Append or Finish the batch is broken: only Commit may be called, which returns the
// same error, and the destructor. After an error of Commit nothing of the batch is visible, and Commit may be
// tried again (room may have been made meanwhile), except when it was the sync of a batch too large for
// memory that failed: then it says so again. A batch that is destroyed before Commit leaves nothing behind.
class BlobBatch {
 public:
  ~BlobBatch();
  BlobBatch(const BlobBatch&) = delete;
  BlobBatch& operator=(const BlobBatch&) = delete;

  // Adds one blob. InvalidArgument when it is larger than blob_bytes_max; ResourceExhausted when disk or
  // budget is full. Cost: a SHA-256, and a copy unless the store has the blob.
  base::StatusOr<BlobId> Add(std::span<const std::byte> bytes);

  // One blob in pieces: any number of Append, then Finish, which gives its name. No Add between. Errors as
  // Add. Holds at most batch_memory_bytes_max in memory.
  base::Status Append(std::span<const std::byte> bytes);
  base::StatusOr<BlobId> Finish();

  // Makes all blobs added so far durable, then visible. Once only, then the batch is closed. A blob begun by
  // Append and not finished is left out. ResourceExhausted when disk or budget is full. Without any new blob
  // it costs nothing; else one data fsync, shared with those who commit meanwhile, and one of the directory
  // for the first batch of a pack.
  base::Status Commit();

  uint64_t new_blobs() const;  // not in the store before
  uint64_t new_bytes() const;

 private:
  friend class BlobStore;
  class Impl;
  explicit BlobBatch(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Reads one blob in pieces, and keeps it from being swept meanwhile. Must not outlive the store.
class BlobReader {
 public:
  ~BlobReader();
  BlobReader(BlobReader&&) noexcept;
  BlobReader& operator=(BlobReader&&) = delete;

  uint64_t size() const { return size_; }

  // Fills `out` from `offset`; returns the bytes read, fewer than asked for only at the end of the blob. What
  // is returned was checked: for a blob of up to 64 KiB by its SHA-256, for a larger one by the checksums of
  // the 64 KiB pieces it lies in. DataLoss as in BlobStore::Read.
  base::StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> out);

 private:
  friend class BlobStore;
  BlobReader(BlobStore& store, const BlobId& id, uint64_t size) : store_(&store), id_(id), size_(size) {}
  BlobStore* store_;  // null when moved from
  BlobId id_;
  uint64_t size_;
};

struct BlobStoreStats {
  uint64_t blobs = 0;
  uint64_t blob_bytes = 0;  // of contents
  uint64_t packs = 0;
  uint64_t disk_bytes = 0;     // of all packs
  uint64_t used_bytes = 0;     // of them, what blobs need with their records; the rest is garbage
  uint64_t damaged_blobs = 0;  // found since the store was opened and not healed
  uint64_t index_bytes = 0;    // heap
  uint64_t data_syncs = 0;     // since the store was opened
};

// What a sweep is measured from: see BlobStore::BeginSweep.
struct SweepMark {
  int32_t at_seconds = 0;
};

struct SweepReport {
  uint64_t blobs_freed = 0;
  uint64_t bytes_freed = 0;  // of disk
  uint64_t packs_removed = 0;
  uint64_t packs_rewritten = 0;
  uint64_t packs_kept_damaged = 0;  // with garbage, but also with damaged blobs: left for a person to look at
};

struct CompactReport {
  uint64_t packs_before = 0;  // of those that were merged
  uint64_t packs_after = 0;
  uint64_t bytes_copied = 0;
  bool more = false;  // another call would find something to do
};

struct BlobVerifyReport {
  uint64_t blobs = 0;
  uint64_t bytes = 0;
  uint64_t damaged = 0;
  std::vector<BlobId> damaged_ids;  // the first 1,000
};

class BlobStore {
 public:
  // Opens or makes the store in a directory, which is locked for this process, and reads the tables of all
  // packs. Unavailable when another process has it; FailedPrecondition when the directory holds something
  // else, or lies on a network file system; InvalidArgument for impossible options. Damage is reported as
  // events, not as an error. Nothing of what it finds is changed, but for files that a crash left unfinished
  // under a temporary name.
  // Cost: one open, one to a few reads and one close for each pack, and 64 bytes a blob.
  static base::StatusOr<std::unique_ptr<BlobStore>> Open(base::FileSystem& fs, BlobStoreOptions options,
                                                         base::Clock& clock = base::RealClock());
  // All batches and readers must be gone.
  ~BlobStore();

  std::unique_ptr<BlobBatch> NewBatch();

  // Whether a blob is stored, durable, and not known to be damaged.
  bool Contains(const BlobId& id) const;

  // Bytes of a blob. NotFound.
  base::StatusOr<uint64_t> Size(const BlobId& id) const;

  // The whole blob, its SHA-256 compared. NotFound; ResourceExhausted when it is larger than `max_bytes`;
  // DataLoss when what is stored is damaged, with the reason.
  base::StatusOr<std::string> Read(const BlobId& id, uint64_t max_bytes);

  // A blob in pieces. NotFound.
  base::StatusOr<BlobReader> OpenBlob(const BlobId& id);

  // One piece, as BlobReader::ReadAt.
  base::StatusOr<size_t> ReadAt(const BlobId& id, uint64_t offset, std::span<std::byte> out);

  // --- Space

  // To be called before the names of live blobs are collected: Sweep keeps whatever was added after this.
  SweepMark BeginSweep();

  // Frees every blob for which `live` is false, unless a batch or reader holds it, or it was added or
  // committed after the mark or within `grace_seconds` before it. Removes packs without live blobs, and
  // rewrites those of which less than half is live. A freed blob may be found again after a restart: `live`
  // is asked about it again by the next sweep. Not for the pack being written. `live` is called from this
  // thread only, with no lock held, once or more for a blob. Cancelled when asked to stop. ResourceExhausted
  // when a pack cannot be rewritten for want of room; what was removed until then stays removed.
  base::StatusOr<SweepReport> Sweep(SweepMark mark, absl::FunctionRef<bool(const BlobId&)> live,
                                    uint64_t grace_seconds = 3600, std::stop_token stop = {});

  // Merges packs smaller than a quarter of pack_bytes_target, and rewrites packs of which less than half is
  // used; copies about `budget_bytes` at most, and at least one pack. Each blob can be read all the time. A
  // crash leaves the old packs, or the new one, or both.
  base::StatusOr<CompactReport> Compact(uint64_t budget_bytes, std::stop_token stop = {});

  // Reads everything and compares hashes. Cancelled when asked to stop.
  base::StatusOr<BlobVerifyReport> Verify(const std::function<void(uint64_t, uint64_t)>& progress = {},
                                          std::stop_token stop = {});

  BlobStoreStats Stats() const;

 private:
  friend class BlobBatch;
  friend class BlobReader;
  class Impl;
  explicit BlobStore(std::unique_ptr<Impl> impl);
  void Unpin(const BlobId& id);

  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast::memory
