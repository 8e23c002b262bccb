// The block store under several threads. Built by the thread sanitizer too.
#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "memory/block_store.h"
#include "tests/memory/kv_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory {
namespace {

// Feeds, forks, reads and drops chains that the other user has in part, too.
void Use(BlockStore& store, uint64_t seed, uint64_t turns, std::atomic<int>& wrong) {
  test::SeededRandom random(seed);
  for (uint64_t turn = 0; turn < turns; ++turn) {
    std::vector<int32_t> tokens(1 + random.Below(12));
    for (int32_t& token : tokens) token = static_cast<int32_t>(random.Below(2));
    const std::vector<BlockKey> keys = ChainOf(TestRoot(), tokens);
    Attachment found = store.Attach(TestRoot(), keys);
    for (size_t b = 0; b < found.blocks.size(); ++b)
      if (ReadBlock(store, found.blocks[b], keys[b]) != Served::kRight) ++wrong;
    ChainRef end = std::move(found.end);
    TailRef tail;
    for (size_t b = found.blocks.size(); b < keys.size(); ++b) {
      end = store.Append(end, keys[b], BlockBytes(keys[b]));
      if (ReadBlock(store, end.id(), keys[b]) != Served::kRight) ++wrong;
      if (random.Percent(40)) tail = store.PutTail(end, TailBytes(keys[b]), random.Percent(30));
    }
    if (random.Percent(40)) tail.Reset();
    if (random.Percent(30)) store.Drop(std::move(end));
  }
}

TEST(StoreConcurrencyTest, UsersAWriterAndAVerifierDoNotDisturbEachOther) {
  BlockStoreOptions options = TestStoreOptions();
  options.disk_bytes_max = 12 * 12288;  // so that slots are evicted and used again
  StoreWorld world({}, options);
  ASSERT_TRUE(world.Open().ok());
  BlockStore& store = *world.store;
  std::atomic<bool> done = false;
  std::atomic<int> wrong = 0;
  uint64_t damaged = 0;
  {
    std::jthread writer([&] {
      for (uint64_t n = 0; !done; ++n) {
        store.Write(n % 3 == 0 ? UINT64_MAX : 300).IgnoreError();
        if (n % 4 == 0) store.Sync().IgnoreError();
        if (n % 16 == 0) store.EvictTo(6 * 12288).IgnoreError();
      }
    });
    std::jthread verifier([&] {
      while (!done) {
        const auto report = store.Verify();
        damaged += report.ok() ? report->damaged : 1;
        store.QuarantineDamaged();
        store.DropUnkeptTails();
        store.Chains(10);
        store.Segments();
        store.Stats();
      }
    });
    std::jthread other([&] { Use(store, 1, test::Reduced(2000), wrong); });
    Use(store, 2, test::Reduced(2000), wrong);
    other.join();
    done = true;
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(damaged, 0u);
  EXPECT_EQ(world.EventCount(StoreEvent::Kind::kQuarantined), 0u);
  EXPECT_EQ(store.Stats().references, 0u);
  // What is left may be more than the disk may have at once: room is made until all has been there.
  base::Status synced = store.Sync();
  for (int i = 0; i < 100 && absl::IsResourceExhausted(synced); ++i) {
    ASSERT_TRUE(store.EvictTo(0).ok());
    synced = store.Sync();
  }
  ASSERT_TRUE(synced.ok()) << synced;
  EXPECT_EQ(store.Stats().pending_bytes, 0u);
  EXPECT_EQ(store.Stats().heap_bytes, 0u);
  EXPECT_LE(store.Stats().disk_bytes, options.disk_bytes_max);
  ASSERT_TRUE(store.EvictTo(0).ok());
  EXPECT_EQ(store.Stats().blocks, 0u);
  EXPECT_EQ(store.Stats().segments, 0u);
}

}  // namespace
}  // namespace holdfast::memory
