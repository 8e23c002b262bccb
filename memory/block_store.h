// The KV block store: compressed KV on disk and in memory, found by content, shared by sessions and forks,
// outliving the process. It is blind: a block is some planes of given sizes, a tail is some bytes; what they
// mean is the model's business (model/kv_layout.h).
//
//   HF_ASSIGN_OR_RETURN(auto store, BlockStore::Open(fs, {.directory = dir, .planes = planes, ...}));
//   Attachment found = store->Attach(root, keys);       // the longest stored prefix that can be gone on from
//   ChainRef end = store->Append(found.end, key, bytes);  // one more block; never waits for the disk
//   store->Write(); store->Sync();                      // behind the decoding, on the storage lane
//
// A block is appended in memory, written behind, and durable after Sync. What was not synced may be lost in a
// crash; what is found afterwards is always whole and right: bytes are checked against checksums before they
// are used, in Attach (planes that every step scans) or in CheckPlane (the rest, on first use). Damaged
// blocks are quarantined: no longer found, reported, and built again when somebody appends them.
//
// Disk full and I/O errors do not stop anybody: blocks stay in memory while they are used, persistence() says
// why, an event is given, and every later Write tries again.
//
// Threads: all methods may be called from any thread. Write, Sync and EvictTo wait for the disk and for each
// other; Verify, Attach and CheckPlane read what they check, Append and PutTail what they compare; the others
// return at once.
// Source: DESIGN section 5; docs/formats/kv_segment.md; ADRs 0004 and 0005.
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

#include "base/file.h"
#include "base/status.h"
#include "memory/block_key.h"

namespace holdfast::memory {

class BlockStore;

// A block of a chain, in this process; names it in calls while a reference keeps it.
enum class BlockId : uint32_t {};

// A reference to the end of a chain: keeps it and all blocks before it from being evicted. Move-only; drops
// the reference when destroyed. Must not outlive the store.
class ChainRef {
 public:
  ChainRef() = default;
  ChainRef(ChainRef&& other) noexcept : store_(std::exchange(other.store_, nullptr)), id_(other.id_) {}
  ChainRef& operator=(ChainRef&& other) noexcept;
  ~ChainRef() { Reset(); }

  bool valid() const { return store_ != nullptr; }
  BlockId id() const { return id_; }
  void Reset();

 private:
  friend class BlockStore;
  ChainRef(BlockStore* store, BlockId id) : store_(store), id_(id) {}
  BlockStore* store_ = nullptr;
  BlockId id_{};
};

// Keeps the tail of a block. A tail that was kept and is no longer is dropped at the next Sync, unless it is
// periodic. Move-only; must not outlive the store.
class TailRef {
 public:
  TailRef() = default;
  TailRef(TailRef&& other) noexcept : store_(std::exchange(other.store_, nullptr)), id_(other.id_) {}
  TailRef& operator=(TailRef&& other) noexcept;
  ~TailRef() { Reset(); }

  bool valid() const { return store_ != nullptr; }
  BlockId id() const { return id_; }
  void Reset();

 private:
  friend class BlockStore;
  TailRef(BlockStore* store, BlockId id) : store_(store), id_(id) {}
  BlockStore* store_ = nullptr;
  BlockId id_{};
};

// One plane of a block: the unit of layout and of checking.
struct PlaneSpec {
  uint32_t bytes = 0;
  bool scanned = false;  // read in full by every step: checked when attached
};

// Something a person may want to know. Given in order, from whichever call noticed it.
struct StoreEvent {
  enum class Kind : uint8_t {
    kQuarantined,         // damaged bytes were found, and will not be used
    kPersistenceLost,     // from now on nothing is written; work goes on
    kPersistenceResumed,  // writing works again
  };
  Kind kind;
  std::string message;
};

struct BlockStoreOptions {
  std::string directory;
  // The layout of the blocks that this process appends and attaches. Empty opens a store to look at it and to
  // clean it: Append, PutTail and Attach must not be called then.
  std::vector<PlaneSpec> planes;
  uint32_t tail_bytes = 0;

  uint64_t disk_bytes_max = uint64_t{64} << 30;        // of all segment files
  uint64_t segment_bytes_target = uint64_t{32} << 20;  // a full-sized segment, at most
  uint32_t segment_slots_first = 8;                    // of the segment a chain starts in
  uint32_t segments_max = 16'384;                      // files, each perhaps mapped
  std::function<void(const StoreEvent&)> on_event;     // must not call the store
};

struct Attachment {
  ChainRef end;                 // the last block, or the root when there is none
  std::vector<BlockId> blocks;  // from the first one on
  std::vector<std::byte> tail;  // at the end of the last block; empty when there is none
  // The blocks that are stored, of which those after blocks.size() have no tail to go on from: they have to
  // be computed again.
  size_t blocks_stored = 0;
};

struct StoreStats {
  uint64_t blocks = 0;  // in memory or on disk
  uint64_t tails = 0;
  uint64_t references = 0;         // ChainRefs
  uint64_t slots_used = 0;         // blocks and tails on disk
  uint64_t slots_quarantined = 0;  // since the store was opened
  uint64_t used_bytes = 0;         // of the used slots
  uint64_t disk_bytes = 0;         // of all segment files
  uint64_t foreign_bytes = 0;      // of files that this program cannot read
  uint64_t heap_bytes = 0;         // blocks and tails in memory: not yet durable, or still read there
  uint64_t pending_bytes = 0;      // not yet written
  uint64_t segments = 0;
  uint64_t written_bytes = 0;   // since the store was opened
  uint64_t evicted_blocks = 0;  // since the store was opened
};

struct SegmentInfo {
  std::string path;
  bool tails = false;
  uint32_t slots = 0;
  uint32_t used = 0;
  uint64_t slot_bytes = 0;
  uint64_t file_bytes = 0;
};

// A chain as found in the store: a block that no other follows.
struct ChainInfo {
  BlockKey key;
  uint64_t blocks = 0;        // from the first one that is stored, this one included
  uint64_t deepest_tail = 0;  // blocks before the deepest tail on it; 0 when there is none
  bool complete = false;      // no block is missing between the top and this one
  BlockKey top;               // parent of the first block: the root key, when nothing is missing
};

struct VerifyReport {
  uint64_t slots = 0;
  uint64_t bytes = 0;
  uint64_t damaged = 0;
};

class BlockStore {
 public:
  // Opens or makes the store in a directory, which is locked for this process, and reads all records.
  // Unavailable when another process has it; FailedPrecondition when the directory holds something else or
  // lies on a network file system, whose locks, mappings and syncs cannot be relied on; InvalidArgument for
  // impossible options. Damaged records and files are reported as events, not as errors.
  static base::StatusOr<std::unique_ptr<BlockStore>> Open(base::FileSystem& fs, BlockStoreOptions options);
  // What was not synced stays unwritten. All references must be gone.
  ~BlockStore();

  // --- Chains

  // The place above the first blocks of all chains of one root key.
  ChainRef Root(const BlockKey& root);
  ChainRef Share(const ChainRef& chain);

  // Finds the longest run of blocks with these keys below `root` that are stored or in memory, and takes a
  // reference to the last of them that has a tail. The tail and the scanned planes were checked.
  // Cost: a look-up for each key, and reading the scanned planes of what was not checked before.
  Attachment Attach(const BlockKey& root, std::span<const BlockKey> keys);

  // What the store has of a key, without using it.
  struct Presence {
    bool block = false;
    bool block_durable = false;
    bool tail = false;
    bool tail_durable = false;
  };
  Presence Look(const BlockKey& key) const;

  // Finds the deepest tail on a chain that the caller has attached, or a part of it from its start; the
  // blocks up to there, a reference to the last of them, and the tail, as Attach gives them, but without
  // checking blocks. Without any tail the end is invalid. For forks and rewinds.
  Attachment BackTo(std::span<const BlockId> chain);

  // A reference to a block that is known by key, to keep a session's chain; invalid when it is not stored.
  ChainRef Pin(const BlockKey& key);
  // The same for its tail.
  TailRef PinTail(const BlockKey& key);

  // Adds a block behind `parent`, with its planes one after another in `bytes`, and returns a reference to
  // it. When the store has the block, `bytes` is compared with it (read from the disk when nobody has used it
  // yet) and freed. When a stored copy differs, it is quarantined and `bytes` takes its place; a copy in
  // memory that differs stays, and is reported. The caller then asks Lend where to read. A key has one
  // parent.
  ChainRef Append(const ChainRef& parent, const BlockKey& key, std::unique_ptr<std::byte[]> bytes);

  // Stores the tail at the end of a block, which is compared and replaced as in Append. `periodic` tails are
  // kept as long as their block; a tail becomes one when anybody says so. While nothing can be written, new
  // ones that nobody keeps are given up.
  TailRef PutTail(const ChainRef& at, std::unique_ptr<std::byte[]> bytes, bool periodic);

  // Drops `chain`, and removes its blocks from the end up to the first that is referenced or shared.
  void Drop(ChainRef chain);

  // --- Reading

  // Gives the address of each plane of a referenced block, and which of them must be passed to CheckPlane
  // before use (1) or not (0). A block just written is checked again where it lies now. True when they lie in
  // memory that the store would free after writing: the caller holds them until ReleaseHeap, and should ask
  // again when IsDurable. When the block was quarantined meanwhile, all addresses are null and all planes
  // unchecked: CheckPlane then says DataLoss.
  bool Lend(BlockId block, std::span<const std::byte*> planes, std::span<uint8_t> unchecked);
  void ReleaseHeap(BlockId block);
  bool IsDurable(BlockId block) const;

  // Checks the bytes of a plane at the address that Lend gave. DataLoss when they are not what was stored:
  // the block is quarantined, and the caller must drop everything computed with it and attach again.
  base::Status CheckPlane(BlockId block, size_t plane, const std::byte* at);

  // Quarantines all blocks of segments in which a mapped page could not be read. To be called after
  // base::MappingFaultCount() has moved; true when there are such segments, also when they were quarantined
  // before: whoever has not attached since the count moved must attach again.
  bool QuarantineDamaged();

  // --- Disk

  // Writes pending blocks and tails, `bytes_max` of them at most; syncs only when it has to, to make room. OK
  // when nothing stands in the way of more; else why persistence is lost.
  base::Status Write(uint64_t bytes_max = UINT64_MAX);

  // Writes all that is pending and makes it durable: after OK, everything appended before the call. After an
  // error (also when a file was removed or cut off behind our back) what was not made durable waits in memory
  // for the next call. Only blocks that a process before this one has left, in a segment of which the first
  // sync fails, are quarantined: nobody knows what the disk has of them.
  base::Status Sync();

  // OK, or why nothing is written at present.
  base::Status persistence() const;

  // Evicts unreferenced blocks, least recently used ends of chains first, until the files have at most
  // `bytes` in all or nothing is left to evict.
  base::Status EvictTo(uint64_t bytes);

  // Drops the tails that nobody keeps and that are not periodic. For after a start, when all sessions have
  // pinned theirs.
  void DropUnkeptTails();

  // Reads everything and compares it with its checksums; what is damaged is quarantined. `progress` is called
  // with (bytes done, bytes in all). Cancelled when asked to stop.
  base::StatusOr<VerifyReport> Verify(const std::function<void(uint64_t, uint64_t)>& progress = {},
                                      std::stop_token stop = {});

  // --- Looking

  StoreStats Stats() const;
  std::vector<SegmentInfo> Segments() const;
  // The ends of all chains, most recently used first, `max` at most.
  std::vector<ChainInfo> Chains(size_t max) const;

 private:
  friend class ChainRef;
  friend class TailRef;
  class Impl;
  explicit BlockStore(std::unique_ptr<Impl> impl);
  void Unref(BlockId id);
  void Unkeep(BlockId id);

  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast::memory
