#include "memory/kv/block_index.h"

#include <map>

#include "gtest/gtest.h"
#include "tests/memory/kv_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory::kv {
namespace {

// What the index promises, said plainly and slowly.
struct NaiveNode {
  std::optional<BlockKey> parent;
  uint32_t references = 0;
  bool block = false;
  uint64_t last_use = 0;
};

class NaiveIndex {
 public:
  std::map<BlockKey, NaiveNode> nodes;

  bool HasChild(const BlockKey& key) const {
    for (const auto& [other, node] : nodes)
      if (node.parent == key) return true;
    return false;
  }
  void Settle() {
    for (bool removed = true; removed;) {
      removed = false;
      for (auto it = nodes.begin(); it != nodes.end(); ++it) {
        const NaiveNode& node = it->second;
        if (node.block || node.references > 0 || HasChild(it->first)) continue;
        if (node.parent.has_value())
          nodes[*node.parent].last_use = std::max(nodes[*node.parent].last_use, node.last_use);
        nodes.erase(it);
        removed = true;
        break;
      }
    }
  }
  std::optional<uint64_t> OldestUse() const {
    std::optional<uint64_t> oldest;
    for (const auto& [key, node] : nodes) {
      if (!node.block || node.references > 0 || HasChild(key)) continue;
      oldest = std::min(oldest.value_or(UINT64_MAX), node.last_use);
    }
    return oldest;
  }
};

class BlockIndexTest : public ::testing::Test {
 protected:
  // A durable block below `parent`.
  void Put(const BlockKey& parent, const BlockKey& key) {
    const NodeId id = index_.FindOrAdd(key);
    if (index_.at(id).parent == kNoNode) index_.Link(id, parent);
    index_.at(id).block.state = PayloadState::kDurable;
    index_.Settle(id);
    naive_.nodes[parent];
    naive_.nodes[key].parent = parent;
    naive_.nodes[key].block = true;
    naive_.Settle();
  }

  void Compare() {
    ASSERT_EQ(index_.size(), naive_.nodes.size());
    uint64_t references = 0;
    for (const auto& [key, want] : naive_.nodes) {
      const auto id = index_.Find(key);
      ASSERT_TRUE(id.has_value());
      const Node& node = index_.at(*id);
      ASSERT_EQ(node.key, key);
      ASSERT_EQ(node.references, want.references);
      ASSERT_EQ(node.last_use, want.last_use);
      ASSERT_EQ(node.children > 0, naive_.HasChild(key));
      if (want.parent.has_value()) {
        ASSERT_EQ(index_.at(node.parent).key, *want.parent);
      }
      references += want.references;
    }
    ASSERT_EQ(index_.references(), references);
    const auto leaf = index_.OldestLeaf();
    const auto oldest = naive_.OldestUse();
    ASSERT_EQ(leaf.has_value(), oldest.has_value());
    if (leaf.has_value()) {
      ASSERT_EQ(index_.at(*leaf).last_use, *oldest);
    }
  }

  BlockIndex index_;
  NaiveIndex naive_;
};

TEST_F(BlockIndexTest, EqualsTheNaiveModel) {
  for (const uint64_t seed : test::TestSeeds(40)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    index_ = BlockIndex();
    naive_ = NaiveIndex();
    uint64_t now = 1;
    const auto any_key = [&] {  // of a tree of three levels
      BlockKey key = TestRoot(static_cast<int32_t>(random.Below(2)));
      for (uint64_t depth = random.Below(4); depth > 0; --depth)
        key = ChildOf(key, static_cast<int32_t>(random.Below(3)));
      return key;
    };
    for (int step = 0; step < 300; ++step) {
      const BlockKey key = any_key();
      const auto id = index_.Find(key);
      switch (random.Below(5)) {
        case 0:
        case 1:
          Put(key, ChildOf(key, static_cast<int32_t>(random.Below(3))));
          break;
        case 2: {
          const NodeId node = index_.FindOrAdd(key);
          index_.AddReference(node);
          ++naive_.nodes[key].references;
          break;
        }
        case 3:
          if (!id.has_value() || index_.at(*id).references == 0) break;
          index_.DropReference(*id, ++now);
          --naive_.nodes[key].references;
          naive_.nodes[key].last_use = std::max(naive_.nodes[key].last_use, now);
          break;
        default:
          if (!id.has_value()) break;
          index_.at(*id).block = Payload{};
          index_.Settle(*id);
          naive_.nodes[key].block = false;
      }
      naive_.Settle();
      Compare();
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(BlockIndexTest, ANodeThatIsBusyIsNoLeaf) {
  const BlockKey key = ChildOf(TestRoot(), 1);
  Put(TestRoot(), key);
  const NodeId id = *index_.Find(key);
  Node& node = index_.at(id);
  const auto leaf = [&] {
    index_.Settle(id);
    return index_.OldestLeaf().has_value();
  };
  EXPECT_TRUE(leaf());
  for (const PayloadState state : {PayloadState::kPending, PayloadState::kWritten}) {
    node.block.state = state;
    EXPECT_FALSE(leaf());
  }
  node.block.state = PayloadState::kDurable;
  for (uint32_t* count : {&node.block.heap_users, &node.block.readers, &node.tail.readers, &node.tail_keepers,
                          &node.references, &node.children}) {
    *count = 1;
    EXPECT_FALSE(leaf());
    *count = 0;
    EXPECT_TRUE(leaf());
  }
}

TEST_F(BlockIndexTest, RingsAreBroken) {
  // a -> b -> c -> a, d -> b, e -> e, f -> TestRoot
  const BlockKey a = TestRoot(1), b = TestRoot(2), c = TestRoot(3), d = TestRoot(4), e = TestRoot(5);
  const BlockKey f = ChildOf(TestRoot(), 1);
  for (const auto& [key, parent] : {std::pair(a, b), {b, c}, {c, a}, {d, b}, {e, e}, {f, TestRoot()}}) {
    const NodeId id = index_.FindOrAdd(key);
    index_.at(id).block.state = PayloadState::kDurable;
    index_.Link(id, parent);
    index_.Settle(id);
  }
  index_.BreakRings();
  EXPECT_NE(index_.at(*index_.Find(f)).parent, kNoNode);
  EXPECT_NE(index_.at(*index_.Find(d)).parent, kNoNode);
  size_t evicted = 0;
  while (const auto leaf = index_.OldestLeaf()) {
    index_.at(*leaf).block = Payload{};
    index_.Settle(*leaf);
    ++evicted;
  }
  EXPECT_EQ(evicted, 6u);
  EXPECT_EQ(index_.size(), 0u);
}

}  // namespace
}  // namespace holdfast::memory::kv
