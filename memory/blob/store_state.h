// What the parts of a blob store share: where each blob lies, which packs there are, who holds what.
//
// Threads: safe; one mutex, held for look-ups and never while the disk is waited for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/clock.h"
#include "base/coding.h"
#include "base/file.h"
#include "base/status.h"
#include "memory/blob/blob_pack_format.h"
#include "memory/blob_store.h"

namespace holdfast::memory::blob {

// A SHA-256 is as good a hash as any: its first bytes are taken.
struct IdHash {
  size_t operator()(const BlobId& id) const { return base::LoadLittle<uint64_t>(id.data()); }
};

struct Location {
  uint32_t pack = 0;
  uint32_t unit = 0;  // of 64 bytes: where the content starts
  uint32_t size = 0;
  friend bool operator==(const Location&, const Location&) = default;

  BlobEntry entry(const BlobId& id) const {
    return {.id = id, .offset = uint64_t{unit} * kUnit, .size = size};
  }
};

struct Place {
  Location at;
  int32_t touched_seconds = 0;  // since the store was opened; when somebody last needed it to stay
};
static_assert(sizeof(std::pair<const BlobId, Place>) == 48, "the header promises 56 to 112 bytes a blob");

// A blob and where it lies, out of the index.
struct Placed {
  BlobId id;
  Place place;
};

struct Pack {
  std::string path;
  uint64_t file_bytes = 0;
  uint64_t used_bytes = 0;  // of the blobs that the index finds here, with their entries
  uint64_t blobs = 0;
  uint32_t writers = 0;  // commits under way, and one while it is the pack that is appended to
  bool has_damage = false;
  // shared_ptr: a reader goes on with the file while the pack is dropped or its descriptor given back
  std::shared_ptr<base::File> file;
  std::list<uint32_t>::iterator recent;  // in recent_, while file is there
};

class StoreState {
 public:
  StoreState(base::FileSystem& file_system, BlobStoreOptions store_options, base::Clock& clock);

  base::FileSystem& fs;
  const BlobStoreOptions options;

  int32_t NowSeconds() const;
  // For a pack that was last written at `mtime_ns`: negative.
  int32_t SecondsOf(int64_t mtime_ns) const;
  void Report(BlobEvent::Kind kind, const std::string& message) const;

  // --- Index

  // NotFound, or DataLoss when it is known to be damaged.
  base::StatusOr<Location> Find(const BlobId& id) const;
  bool Contains(const BlobId& id) const;

  // Keeps a blob that is there or will be; true when it is there now. Unpin touches it.
  bool Pin(const BlobId& id);
  void Unpin(const BlobId& id);
  size_t pinned() const;

  // Makes blobs of a pack visible. One that is there already stays where it is, unless it is damaged.
  void Publish(uint32_t pack, std::span<const BlobEntry> entries, int32_t touched_seconds);
  // Moves a blob, if it is still at `from`.
  void Relocate(const BlobId& id, const Location& from, const Location& to);
  // Frees a blob, unless it is pinned, was touched at or after `until_seconds`, or has moved.
  bool FreeUnlessKept(const Placed& placed, int32_t until_seconds);
  // Bytes of a blob turned out to be damaged: it counts as absent until it is added again.
  void MarkDamaged(const BlobId& id, const Location& at, const std::string& why);
  // The same for one that is named by something damaged, and perhaps not in the index.
  void MarkMissing(const BlobId& id);

  // All blobs, by pack and position; those of packs that are being written are left out when asked.
  std::vector<Placed> Snapshot(bool with_written) const;

  // --- Packs

  uint32_t TakePackId();
  void ReservePackId(uint32_t id);
  std::string PathOf(uint32_t pack) const;
  void AddPack(uint32_t id, uint64_t file_bytes, uint32_t writers);
  void GrowPack(uint32_t id, uint64_t file_bytes);
  void AddWriter(uint32_t id);
  void DropWriter(uint32_t id);
  // ResourceExhausted when `more` bytes would exceed the budget.
  base::Status Room(uint64_t more) const;

  // The file of a pack, opened for reading. NotFound when there is no such pack any more, or its file is
  // gone.
  base::StatusOr<std::shared_ptr<base::File>> FileOf(uint32_t pack);  // shared_ptr: see Pack

  struct PackInfo {
    uint32_t id = 0;
    uint64_t file_bytes = 0;
    uint64_t used_bytes = 0;
    uint64_t blobs = 0;
    bool has_damage = false;
  };
  // Those that nobody writes, by number.
  std::vector<PackInfo> QuietPacks() const;
  // Removes the file of a quiet pack without blobs. False when it has some after all.
  base::StatusOr<bool> RemoveIfEmpty(uint32_t id);

  BlobStoreStats Stats() const;

 private:
  void Count(const Location& at, int64_t sign);
  void DropFile(Pack& pack);

  base::Clock& clock_;
  const base::MonotonicTime opened_;
  const base::UtcTime opened_utc_;

  mutable std::mutex mu_;  // guards all that follows
  absl::flat_hash_map<BlobId, Place, IdHash> index_;
  absl::flat_hash_map<BlobId, uint32_t, IdHash> pins_;
  absl::flat_hash_set<BlobId, IdHash> damaged_;
  std::map<uint32_t, Pack> packs_;
  std::list<uint32_t> recent_;  // packs with an open file, the most recently used first
  uint32_t next_pack_ = 1;
  uint64_t disk_bytes_ = 0;
  uint64_t blob_bytes_ = 0;
  uint64_t used_bytes_ = 0;
};

}  // namespace holdfast::memory::blob
