#include "memory/kv/block_index.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace holdfast::memory::kv {
namespace {

constexpr uint64_t kNoLeaf = UINT64_MAX;

}  // namespace

std::optional<NodeId> BlockIndex::Find(const BlockKey& key) const {
  const auto it = by_key_.find(key);
  if (it == by_key_.end()) return std::nullopt;
  return it->second;
}

NodeId BlockIndex::FindOrAdd(const BlockKey& key) {
  const auto [it, added] = by_key_.try_emplace(key, kNoNode);
  if (!added) return it->second;
  if (free_.empty()) {
    HF_CHECK(nodes_.size() < static_cast<size_t>(kNoNode));
    free_.push_back(static_cast<NodeId>(nodes_.size()));
    nodes_.emplace_back();
    leaf_since_.push_back(kNoLeaf);
  }
  it->second = free_.back();
  free_.pop_back();
  at(it->second) = Node{.key = key};
  return it->second;
}

void BlockIndex::Link(NodeId child, const BlockKey& parent) {
  HF_CHECK(at(child).parent == kNoNode);
  const NodeId id = FindOrAdd(parent);
  at(child).parent = id;
  ++at(id).children;
  Settle(id);
}

void BlockIndex::Unlink(NodeId child) {
  const NodeId id = std::exchange(at(child).parent, kNoNode);
  if (id == kNoNode) return;
  --at(id).children;
  Settle(id);
}

void BlockIndex::BreakRings() {
  std::vector<uint32_t> seen_in(nodes_.size(), 0);  // the walk that has first come by
  std::vector<NodeId> to_unlink;
  uint32_t walk = 0;
  for (size_t start = 0; start < nodes_.size(); ++start) {
    ++walk;
    NodeId id = static_cast<NodeId>(start);
    while (id != kNoNode && seen_in[static_cast<size_t>(id)] == 0) {
      seen_in[static_cast<size_t>(id)] = walk;
      id = at(id).parent;
    }
    if (id != kNoNode && seen_in[static_cast<size_t>(id)] == walk) to_unlink.push_back(id);
  }
  for (const NodeId id : to_unlink) Unlink(id);
}

void BlockIndex::AddReference(NodeId id) {
  ++at(id).references;
  ++references_;
  Settle(id);
}

void BlockIndex::DropReference(NodeId id, uint64_t now) {
  Node& node = at(id);
  HF_CHECK(node.references > 0);
  --node.references;
  --references_;
  node.last_use = std::max(node.last_use, now);
  Settle(id);
}

bool BlockIndex::Evictable(const Node& node) {
  const auto stays = [](const Payload& p) { return p.state == PayloadState::kPending || p.busy(); };
  return node.has_payload() && node.children == 0 && node.references == 0 && node.tail_keepers == 0 &&
         !stays(node.block) && !stays(node.tail);
}

void BlockIndex::Settle(NodeId id) {
  const Node& node = at(id);
  uint64_t& since = leaf_since_[static_cast<size_t>(id)];
  const bool evictable = Evictable(node);
  if (since != kNoLeaf && (!evictable || since != node.last_use)) {
    leaves_.erase({since, id});
    since = kNoLeaf;
  }
  if (evictable && since == kNoLeaf) {
    since = node.last_use;
    leaves_.emplace(since, id);
  }
  if (!node.has_payload() && node.children == 0 && node.references == 0 && node.tail_keepers == 0) Remove(id);
}

// A parent that has lost its last child was used when the child was.
void BlockIndex::Remove(NodeId id) {
  const NodeId parent = at(id).parent;
  const uint64_t last_use = at(id).last_use;
  by_key_.erase(at(id).key);
  at(id) = Node{};
  free_.push_back(id);
  if (parent == kNoNode) return;
  Node& above = at(parent);
  --above.children;
  above.last_use = std::max(above.last_use, last_use);
  Settle(parent);
}

std::optional<NodeId> BlockIndex::OldestLeaf() const {
  if (leaves_.empty()) return std::nullopt;
  return leaves_.begin()->second;
}

}  // namespace holdfast::memory::kv
