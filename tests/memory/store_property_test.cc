// The block store against a model that says plainly what must be there: random trees of everything a store
// can be asked to do, with restarts and crashes in between.
#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memory/block_store.h"
#include "tests/memory/kv_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory {
namespace {

struct ModelNode {
  std::optional<BlockKey> parent;  // none for a root
  bool block = false;
  bool tail = false;
  bool periodic = false;
  bool let_go = false;         // since the last sync, and not kept since
  bool block_durable = false;  // a sync has said so
  bool tail_durable = false;
  uint32_t references = 0;
  uint32_t keepers = 0;
};

class RandomTree {
 public:
  explicit RandomTree(uint64_t seed) : random_(seed), world_({.seed = seed}, Options()) {
    HF_CHECK(world_.Open().ok());
    for (int32_t root = 0; root < 2; ++root) nodes_[TestRoot(root)];
  }

  void Steps(int count) {
    for (int step = 0; step < count && !::testing::Test::HasFatalFailure(); ++step) {
      SCOPED_TRACE(::testing::Message() << "step " << step);
      Step();
      Compare();
    }
    ReleaseAll();
  }

  uint64_t evicted() const { return evicted_; }
  uint64_t crashes() const { return crashes_; }

 private:
  struct Held {
    ChainRef ref;
    BlockKey key;
  };
  struct HeldTail {
    TailRef ref;
    BlockKey key;
  };
  struct HeldHeap {
    Held chain;
    const std::byte* planes[3];
  };

  static BlockStoreOptions Options() {
    BlockStoreOptions options = TestStoreOptions();
    options.disk_bytes_max = 10 * 12288;  // tight, so that there is much to evict
    return options;
  }

  BlockStore& store() { return *world_.store; }
  ModelNode& node(const BlockKey& key) { return nodes_.at(key); }

  // --- The model

  std::vector<BlockKey> PathTo(BlockKey key, BlockKey& root) {
    std::vector<BlockKey> path;
    while (node(key).parent.has_value()) {
      path.push_back(key);
      key = *node(key).parent;
    }
    root = key;
    std::reverse(path.begin(), path.end());
    return path;
  }
  // Referenced, or with something below that is.
  std::set<BlockKey> Protected() {
    std::set<BlockKey> keys;
    for (const auto& [key, n] : nodes_) {
      if (n.references == 0 && n.keepers == 0) continue;
      for (std::optional<BlockKey> at = key; at.has_value() && keys.insert(*at).second;) {
        // Nobody knows what was above a block that a crash took.
        at = lost_.contains(*at) ? std::nullopt : node(*at).parent;
      }
    }
    return keys;
  }
  bool HasChild(const BlockKey& key) {
    return std::any_of(nodes_.begin(), nodes_.end(), [&](const auto& entry) {
      const ModelNode& n = entry.second;
      if (n.parent != key || lost_.contains(entry.first)) return false;  // lost: nobody knows its parent
      return n.block || n.tail || n.references > 0 || n.keepers > 0;
    });
  }
  const BlockKey& AnyKey() {
    auto it = nodes_.begin();
    std::advance(it, static_cast<ptrdiff_t>(random_.Below(nodes_.size())));
    return it->first;
  }

  // What may have been evicted, and only that.
  void AfterEviction(bool synced, bool no_room = false) {
    const std::set<BlockKey> kept = Protected();
    std::vector<BlockKey> gone;
    for (auto& [key, n] : nodes_) {
      const BlockStore::Presence now = store().Look(key);
      ASSERT_TRUE(n.block || !now.block) << "a block out of nowhere";
      ASSERT_TRUE(n.tail || !now.tail) << "a tail out of nowhere";
      if (n.block && !now.block) {
        ASSERT_FALSE(kept.contains(key)) << "evicted although in use";
        ++evicted_;
      }
      const bool dropped = n.let_go && !n.periodic && n.keepers == 0;
      if (n.tail && !now.tail) {
        ASSERT_EQ(n.keepers, 0u) << "a kept tail is gone";
        const bool given_up = no_room && !n.tail_durable;
        ASSERT_TRUE((dropped && synced) || !now.block || given_up) << "a tail is gone and its block is not";
      }
      if (n.tail && dropped && synced) {
        ASSERT_FALSE(now.tail) << "a tail that was let go is there";
      }
      n.block = now.block;
      n.tail = now.tail;
      n.block_durable &= now.block;
      n.tail_durable &= now.tail;
    }
    for (const auto& [key, n] : nodes_) {
      if (!n.block || !n.parent.has_value() || !node(*n.parent).parent.has_value()) continue;
      ASSERT_TRUE(node(*n.parent).block || lost_.contains(*n.parent)) << "evicted before what follows it";
    }
    if (synced) {
      for (auto& [key, n] : nodes_) n.let_go = false;
    }
  }

  // --- Steps

  void Step() {
    switch (random_.Below(24)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        return Append();
      case 5:
      case 6:
        return PutTail();
      case 7:
      case 8:
        return Attach();
      case 9:
        return Share();
      case 10:
        return Pin();
      case 11:
        return PinTail();
      case 12:
        return Drop();
      case 13:
      case 14:
        return Release();
      case 15:
        return ReleaseTail();
      case 16:
        return ReadHeap();
      case 17:
        return ReleaseHeap();
      case 18:
        return Write();
      case 19:
      case 20:
        return Sync();
      case 21:
        return Evict();
      case 22:
        return random_.Percent(50) ? DropUnkeptTails() : Verify();
      default:
        return random_.Percent(30) ? Restart() : Sync();
    }
  }

  void Hold(ChainRef ref, const BlockKey& key) {
    ASSERT_TRUE(ref.valid());
    ++node(key).references;
    held_.push_back({std::move(ref), key});
  }
  Held Take(size_t index) {
    Held held = std::move(held_[index]);
    held_.erase(held_.begin() + static_cast<ptrdiff_t>(index));
    --node(held.key).references;
    return held;
  }
  void Keep(TailRef ref, const BlockKey& key) {
    ASSERT_TRUE(ref.valid());
    ++node(key).keepers;
    node(key).let_go = false;
    tails_.push_back({std::move(ref), key});
  }

  void Append() {
    if (held_.empty() || random_.Percent(10)) {
      const BlockKey root = TestRoot(static_cast<int32_t>(random_.Below(2)));
      Hold(store().Root(root), root);
    }
    const Held& above = held_[random_.Below(held_.size())];
    const BlockKey parent = above.key;
    const BlockKey key = ChildOf(parent, static_cast<int32_t>(random_.Below(3)));
    ChainRef ref = store().Append(above.ref, key, BlockBytes(key));
    ModelNode& n = nodes_[key];
    n.parent = parent;
    n.block = true;
    lost_.erase(key);
    Hold(std::move(ref), key);
    // Mostly the chain goes on from its new end.
    if (random_.Percent(70)) {
      for (size_t i = 0; i + 1 < held_.size(); ++i) {
        if (held_[i].key != parent) continue;
        Take(i);
        break;
      }
    }
  }

  void PutTail() {
    std::vector<size_t> ends;
    for (size_t i = 0; i < held_.size(); ++i)
      if (node(held_[i].key).block) ends.push_back(i);
    if (ends.empty()) return;
    const Held& at = held_[ends[random_.Below(ends.size())]];
    const bool periodic = random_.Percent(40);
    ModelNode& n = node(at.key);
    n.periodic = n.tail ? n.periodic || periodic : periodic;
    n.tail = true;
    Keep(store().PutTail(at.ref, TailBytes(at.key), periodic), at.key);
  }

  void Attach() {
    BlockKey root = AnyKey();
    std::vector<BlockKey> path = PathTo(root, root);
    if (random_.Percent(30)) path.push_back(ChildOf(path.empty() ? root : path.back(), 77));
    size_t want_run = 0, want = 0;
    while (want_run < path.size() && nodes_.contains(path[want_run]) && node(path[want_run]).block)
      ++want_run;
    for (size_t d = 1; d <= want_run; ++d)
      if (node(path[d - 1]).tail) want = d;
    Attachment found = store().Attach(root, path);
    ASSERT_EQ(found.blocks_stored, want_run);
    ASSERT_EQ(found.blocks.size(), want);
    for (size_t d = 0; d < want; ++d) ASSERT_EQ(ReadBlock(store(), found.blocks[d], path[d]), Served::kRight);
    if (want > 0) {
      ASSERT_EQ(std::memcmp(found.tail.data(), TailBytes(path[want - 1]).get(), kTestTailBytes), 0);
    } else {
      ASSERT_TRUE(found.tail.empty());
    }
    Hold(std::move(found.end), want == 0 ? root : path[want - 1]);
  }

  void Share() {
    if (held_.empty()) return;
    const Held& one = held_[random_.Below(held_.size())];
    const BlockKey key = one.key;
    Hold(store().Share(one.ref), key);
  }
  void Pin() {
    const BlockKey key = AnyKey();
    ChainRef ref = store().Pin(key);
    ASSERT_EQ(ref.valid(), node(key).block);
    if (ref.valid()) Hold(std::move(ref), key);
  }
  void PinTail() {
    const BlockKey key = AnyKey();
    TailRef ref = store().PinTail(key);
    ASSERT_EQ(ref.valid(), node(key).tail);
    if (ref.valid()) Keep(std::move(ref), key);
  }

  // Takes from the end what nobody else has.
  void Drop() {
    if (held_.empty()) return;
    Held held = Take(random_.Below(held_.size()));
    std::optional<BlockKey> key = held.key;
    store().Drop(std::move(held.ref));
    while (key.has_value()) {
      ModelNode& n = node(*key);
      const BlockStore::Presence now = store().Look(*key);
      const bool free = n.references == 0 && n.keepers == 0 && !HasChild(*key) && (n.block || n.tail);
      if (!free) {
        ASSERT_EQ(now.block, n.block);
        ASSERT_EQ(now.tail, n.tail);
        return;
      }
      // What waits for a sync may stay.
      const bool clean = !written_since_sync_;
      if (now.block || now.tail) {
        ASSERT_FALSE(clean) << "dropped, and still there";
        return;
      }
      n.block = n.tail = n.block_durable = n.tail_durable = n.let_go = false;
      lost_.erase(*key);
      key = n.parent;
    }
  }

  void Release() {
    if (!held_.empty()) Take(random_.Below(held_.size()));
  }
  void ReleaseTail() {
    if (tails_.empty()) return;
    const size_t index = random_.Below(tails_.size());
    HeldTail tail = std::move(tails_[index]);
    tails_.erase(tails_.begin() + static_cast<ptrdiff_t>(index));
    ModelNode& n = node(tail.key);
    if (--n.keepers == 0) n.let_go = true;
  }

  // Reads a block in memory over some steps.
  void ReadHeap() {
    if (held_.empty()) return;
    const size_t index = random_.Below(held_.size());
    if (!node(held_[index].key).block) return;
    HeldHeap heap;
    uint8_t unchecked[3];
    if (!store().Lend(held_[index].ref.id(), heap.planes, unchecked)) return;
    heap.chain = {store().Share(held_[index].ref), held_[index].key};
    ++node(heap.chain.key).references;
    heaps_.push_back(std::move(heap));
  }
  void ReleaseHeap() {
    if (heaps_.empty()) return;
    const size_t index = random_.Below(heaps_.size());
    HeldHeap heap = std::move(heaps_[index]);
    heaps_.erase(heaps_.begin() + static_cast<ptrdiff_t>(index));
    const auto want = BlockBytes(heap.chain.key);
    for (size_t p = 0, at = 0; p < 3; at += kTestPlaneBytes[p++])
      EXPECT_EQ(std::memcmp(heap.planes[p], want.get() + at, kTestPlaneBytes[p]), 0);
    store().ReleaseHeap(heap.chain.ref.id());
    --node(heap.chain.key).references;
  }

  // Without room, what nobody uses may be given up before it is written.
  void Write() {
    written_since_sync_ = true;
    const base::Status status = store().Write(random_.Percent(50) ? UINT64_MAX : random_.Below(2000));
    ASSERT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << status;
    ASSERT_TRUE(status.ok() || !store().persistence().ok());
    AfterEviction(false, !status.ok());
  }
  void Sync() {
    const base::Status status = store().Sync();
    ASSERT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << status;
    AfterEviction(true, !status.ok());
    for (auto& [key, n] : nodes_) {
      const BlockStore::Presence now = store().Look(key);
      if (status.ok()) {
        ASSERT_EQ(now.block_durable, n.block);
        ASSERT_EQ(now.tail_durable, n.tail);
      }
      n.block_durable = now.block_durable;
      n.tail_durable = now.tail_durable;
    }
    if (status.ok()) {
      ASSERT_EQ(store().Stats().pending_bytes, 0u);
    }
    written_since_sync_ = false;
  }
  void Evict() {
    const uint64_t bytes = random_.Below(11) * 12288;
    ASSERT_TRUE(store().EvictTo(bytes).ok());
    AfterEviction(false);
    if (store().Stats().disk_bytes <= bytes) return;
    for (const auto& [key, n] : nodes_) {
      const bool free = (n.block_durable || n.tail_durable) && n.references == 0 && n.keepers == 0;
      ASSERT_FALSE(free && !HasChild(key) && !written_since_sync_ && Settled(key))
          << "could have been evicted";
    }
  }
  bool Settled(const BlockKey& key) {
    const BlockStore::Presence now = store().Look(key);
    return now.block == now.block_durable && now.tail == now.tail_durable;
  }
  void DropUnkeptTails() {
    store().DropUnkeptTails();
    for (auto& [key, n] : nodes_)
      if (n.tail && n.keepers == 0) n.let_go = true;
  }
  void Verify() {
    const auto report = store().Verify();
    ASSERT_TRUE(report.ok());
    ASSERT_EQ(report->damaged, 0u);
  }

  void ReleaseAll() {
    while (!heaps_.empty()) ReleaseHeap();
    while (!held_.empty()) Take(0);
    while (!tails_.empty()) ReleaseTail();
  }

  // What was durable is there again. After a crash the rest may be; what was dropped may come back.
  void Restart() {
    ReleaseAll();
    const bool crash = random_.Percent(70);
    crashes_ += crash ? 1 : 0;
    if (crash) {
      ASSERT_TRUE(world_.CrashAndOpen().ok());
    } else {
      world_.Close();
      ASSERT_TRUE(world_.Open().ok());
    }
    // What cannot be read right is not there after this.
    const auto report = store().Verify();
    ASSERT_TRUE(report.ok());
    ASSERT_TRUE(crash || report->damaged == 0);
    for (auto& [key, n] : nodes_) {
      const BlockStore::Presence now = store().Look(key);
      ASSERT_TRUE(now.block || !n.block_durable) << "a durable block is lost";
      ASSERT_TRUE(now.tail || !n.tail_durable) << "a durable tail is lost";
      n.block = now.block;
      n.tail = now.tail;
      // A process that ends takes nothing away; but what it had not synced is no safer than before.
      n.block_durable = now.block && (crash || n.block_durable);
      n.tail_durable = now.tail && (crash || n.tail_durable);
      n.let_go = false;
      if (n.block) {
        lost_.erase(key);
      } else {
        lost_.insert(key);
      }
    }
    RememberPeriodic();
    written_since_sync_ = false;
    world_.events.clear();
  }
  // A tail may be one of before it became periodic: that is written behind, too.
  void RememberPeriodic() {
    for (auto& [key, n] : nodes_)
      if (n.tail) n.periodic = false;
    store().DropUnkeptTails();
    // The model learns which ones are: the others are dropped now.
    ASSERT_TRUE(store().Sync().ok());
    for (auto& [key, n] : nodes_) {
      const BlockStore::Presence now = store().Look(key);
      n.periodic = n.tail && now.tail;
      n.tail = n.tail_durable = now.tail;
      n.block = n.block_durable = now.block;
    }
  }

  void Compare() {
    const StoreStats stats = store().Stats();
    uint64_t blocks = 0, tails = 0, references = 0;
    for (const auto& [key, n] : nodes_) {
      blocks += n.block ? 1 : 0;
      tails += n.tail ? 1 : 0;
      references += n.references;
      const BlockStore::Presence now = store().Look(key);
      ASSERT_EQ(now.block, n.block);
      ASSERT_EQ(now.tail, n.tail);
    }
    ASSERT_EQ(stats.blocks, blocks);
    ASSERT_EQ(stats.tails, tails);
    ASSERT_EQ(stats.references, references);
    ASSERT_LE(stats.disk_bytes, world_.options.disk_bytes_max);
    if (stats.pending_bytes == 0) {
      ASSERT_EQ(stats.slots_used, blocks + tails);
      ASSERT_EQ(stats.used_bytes, blocks * kTestBlockBytes + tails * kTestTailBytes);
    }
    uint64_t on_disk = 0, used = 0;
    for (const SegmentInfo& info : store().Segments()) {
      const auto stat = world_.fs.Stat(info.path);
      ASSERT_TRUE(stat.ok());
      on_disk += stat->size_bytes;
      used += info.used;
    }
    ASSERT_EQ(stats.disk_bytes, on_disk);
    ASSERT_EQ(stats.slots_used, used);
    ASSERT_EQ(world_.EventCount(StoreEvent::Kind::kQuarantined), 0u);
    ASSERT_LE(nodes_.size(), 20000u);
  }

  test::SeededRandom random_;
  StoreWorld world_;
  std::map<BlockKey, ModelNode> nodes_;
  std::set<BlockKey> lost_;  // blocks that a crash took, perhaps from the middle of a chain
  std::vector<Held> held_;
  std::vector<HeldTail> tails_;
  std::vector<HeldHeap> heaps_;
  bool written_since_sync_ = false;
  uint64_t evicted_ = 0;
  uint64_t crashes_ = 0;
};

TEST(StorePropertyTest, EqualsTheModel) {
  uint64_t evicted = 0, crashes = 0;
  for (const uint64_t seed : test::TestSeeds(200)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    RandomTree run(seed);
    run.Steps(400);
    if (HasFatalFailure()) return;
    evicted += run.evicted();
    crashes += run.crashes();
  }
  // The test has met what it is for.
  if (std::getenv("HOLDFAST_TEST_SEED") != nullptr) return;
  EXPECT_GT(evicted, 100u);
  EXPECT_GT(crashes, 10u);
}

// Two sessions on one prefix: one is dropped and everything unused evicted while the other reads.
TEST(StorePropertyTest, OneOfTwoThatShareIsDroppedInTheMiddle) {
  for (const uint64_t seed : test::TestSeeds(60)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    StoreWorld world({.seed = seed});
    ASSERT_TRUE(world.Open().ok());
    std::vector<int32_t> tokens(2 + random.Below(30));
    for (int32_t& token : tokens) token = static_cast<int32_t>(random.Below(9));
    const size_t shared = 1 + random.Below(tokens.size() - 1);
    const std::vector<BlockKey> left = ChainOf(TestRoot(), tokens);
    for (size_t t = shared; t < tokens.size(); ++t) tokens[t] += 10;
    const std::vector<BlockKey> right = ChainOf(TestRoot(), tokens);
    {
      const ChainRef a = AppendChain(*world.store, world.store->Root(TestRoot()), left);
      const ChainRef b = AppendChain(*world.store, world.store->Root(TestRoot()), right);
      world.store->PutTail(a, TailBytes(left.back()), true);
      world.store->PutTail(b, TailBytes(right.back()), true);
      ASSERT_TRUE(world.store->Sync().ok());
      ASSERT_EQ(world.store->Stats().blocks, 2 * left.size() - shared);
    }
    Attachment reader = world.store->Attach(TestRoot(), left);
    Attachment dropped = world.store->Attach(TestRoot(), right);
    ASSERT_EQ(reader.blocks.size(), left.size());
    ASSERT_EQ(dropped.blocks.size(), right.size());
    const size_t half = random.Below(left.size() + 1);
    const auto read = [&](size_t from, size_t to) {
      for (size_t b = from; b < to; ++b)
        ASSERT_EQ(ReadBlock(*world.store, reader.blocks[b], left[b]), Served::kRight);
    };
    read(0, half);
    if (random.Percent(50)) {
      world.store->Drop(std::move(dropped.end));
    } else {
      dropped.end.Reset();
    }
    ASSERT_TRUE(world.store->EvictTo(0).ok());
    // Others move in where the dropped one was.
    const std::vector<BlockKey> other = ChainOf(TestRoot(1), tokens);
    const ChainRef c = AppendChain(*world.store, world.store->Root(TestRoot(1)), other);
    ASSERT_TRUE(world.store->Sync().ok());
    read(0, left.size());
    ASSERT_EQ(world.store->Stats().blocks, left.size() + other.size());
    ASSERT_EQ(world.store->Stats().references, 2u);
  }
}

}  // namespace
}  // namespace holdfast::memory
