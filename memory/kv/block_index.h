// What the store knows of each key, in memory: a forest of blocks, linked child to parent, with the places of
// their bytes. It is built from the records of all segments when a store is opened, and is nowhere on disk.
//
// A node is there while it has a payload (block or tail), a child, or a reference. A node without a block is
// a root, or the place of a block that was lost and may be built again. A reference to a node, or a child,
// keeps all that is above it.
//
// Threads: the owner locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "memory/block_key.h"

namespace holdfast::memory::kv {

enum class NodeId : uint32_t {};
inline constexpr NodeId kNoNode{UINT32_MAX};

// A slot; `segment` is the number of the segment in this process, not its id on disk.
struct Location {
  uint32_t segment = UINT32_MAX;
  uint32_t slot = 0;
  bool valid() const { return segment != UINT32_MAX; }
  friend bool operator==(const Location&, const Location&) = default;
};

enum class PayloadState : uint8_t {
  kAbsent,
  kPending,  // in `heap`, waits to be written
  kWritten,  // in `heap` and in its slot, not synced
  kDurable,  // in its slot; in `heap` while somebody reads there
};

enum class PayloadKind : uint8_t { kBlock, kTail };

struct Payload {
  PayloadState state = PayloadState::kAbsent;
  Location at;
  uint64_t sums_hash = 0;
  uint64_t sequence = 0;  // of the record, when stored
  std::unique_ptr<std::byte[]> heap;
  uint32_t heap_users = 0;  // sequences that read at the address of `heap`
  uint32_t readers = 0;     // calls that read in the slot `at` without the lock
  bool writing = false;     // taken out of the queue: `heap` is being written

  bool stored() const { return state == PayloadState::kWritten || state == PayloadState::kDurable; }
  // The node must stay as it is: somebody relies on slot or memory.
  bool busy() const { return writing || readers > 0 || heap_users > 0 || state == PayloadState::kWritten; }
};

struct Node {
  BlockKey key;
  NodeId parent = kNoNode;
  uint32_t children = 0;
  uint32_t references = 0;
  uint32_t tail_keepers = 0;
  uint32_t depth = 0;  // blocks from the first of the chain on, this one included; 0 for a root
  bool periodic_tail = false;
  uint64_t last_use = 0;
  Payload block;
  Payload tail;
  // For each plane of the stored block: whether its checksum was looked at in this process.
  std::unique_ptr<uint8_t[]> checked;

  Payload& payload(PayloadKind kind) { return kind == PayloadKind::kBlock ? block : tail; }
  bool has_payload() const {
    return block.state != PayloadState::kAbsent || tail.state != PayloadState::kAbsent;
  }
};

class BlockIndex {
 public:
  std::optional<NodeId> Find(const BlockKey& key) const;
  // The node of `key`, made when absent. Settle it once it has its payload, child or reference.
  NodeId FindOrAdd(const BlockKey& key);

  Node& at(NodeId id) { return nodes_[static_cast<size_t>(id)]; }
  const Node& at(NodeId id) const { return nodes_[static_cast<size_t>(id)]; }

  // Links a node, which must not be linked yet, below the node of `parent`, which is made when absent.
  void Link(NodeId child, const BlockKey& parent);
  // Undoes it.
  void Unlink(NodeId child);
  // A forged store could link blocks in a ring, of which none could ever be evicted: unlinks one of each.
  void BreakRings();

  void AddReference(NodeId id);
  // `now`: the time of last use that the node keeps.
  void DropReference(NodeId id, uint64_t now);

  // To be called after a change of payload, references or keepers: removes the node when nothing is left of
  // it (and then perhaps its parent), and decides whether it may be evicted.
  void Settle(NodeId id);

  // The evictable node that was used longest ago: stored, without child, reference, keeper or unwritten
  // bytes.
  std::optional<NodeId> OldestLeaf() const;

  size_t size() const { return by_key_.size(); }
  uint64_t references() const { return references_; }

  template <class F>
  void ForEach(F&& visit) const {
    for (const auto& [key, id] : by_key_) visit(id, at(id));
  }

 private:
  static bool Evictable(const Node& node);
  void Remove(NodeId id);

  std::vector<Node> nodes_;
  std::vector<NodeId> free_;
  absl::flat_hash_map<BlockKey, NodeId> by_key_;
  std::set<std::pair<uint64_t, NodeId>> leaves_;  // the evictable nodes by last use
  std::vector<uint64_t> leaf_since_;  // by node: last_use under which it is in leaves_, or kNoLeaf
  uint64_t references_ = 0;
};

}  // namespace holdfast::memory::kv
