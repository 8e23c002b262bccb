#include "memory/block_store.h"

#include <cerrno>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/memory/kv_testing.h"

namespace holdfast::memory {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Kind = StoreEvent::Kind;
using test::SimOp;

class BlockStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(world_.Open().ok()); }

  BlockStore& store() { return *world_.store; }
  static std::vector<BlockKey> Keys(std::initializer_list<int32_t> tokens) {
    return ChainOf(TestRoot(), std::vector<int32_t>(tokens));
  }
  ChainRef Append(std::span<const BlockKey> keys) {
    return AppendChain(store(), store().Root(TestRoot()), keys);
  }
  TailRef Tail(const ChainRef& at, const BlockKey& key, bool periodic = false) {
    return store().PutTail(at, TailBytes(key), periodic);
  }
  // Appends a chain with a tail at its end, and syncs.
  void Store(std::span<const BlockKey> keys, bool periodic = true) {
    const ChainRef end = Append(keys);
    const TailRef tail = Tail(end, keys.back(), periodic);
    ASSERT_TRUE(store().Sync().ok());
  }
  void Reopen() {
    world_.Close();
    ASSERT_TRUE(world_.Open().ok());
  }
  size_t Attached(std::span<const BlockKey> keys) {
    size_t blocks = 0;
    EXPECT_EQ(ReadChain(store(), TestRoot(), keys, &blocks), Served::kRight);
    return blocks;
  }
  std::string OnlyFile(bool tails) {
    for (const SegmentInfo& info : store().Segments())
      if (info.tails == tails) return info.path;
    return "";
  }

  StoreWorld world_;
};

// --- Finding

TEST_F(BlockStoreTest, WhatIsStoredIsFoundBeforeAndAfterSyncAndRestart) {
  const auto keys = Keys({1, 2, 3, 4, 5});
  const ChainRef end = Append(keys);
  const TailRef tail = Tail(end, keys.back());
  EXPECT_EQ(Attached(keys), 5u);
  EXPECT_TRUE(store().Look(keys[4]).tail && !store().Look(keys[4]).tail_durable);
  EXPECT_GT(store().Stats().pending_bytes, 0u);
  ASSERT_TRUE(store().Write().ok());
  EXPECT_EQ(Attached(keys), 5u);
  EXPECT_FALSE(store().Look(keys[4]).block_durable);
  EXPECT_EQ(store().Stats().pending_bytes, 0u);
  ASSERT_TRUE(store().Sync().ok());
  EXPECT_EQ(Attached(keys), 5u);
  EXPECT_TRUE(store().Look(keys[0]).block_durable && store().Look(keys[4]).tail_durable);
  EXPECT_EQ(store().Stats().heap_bytes, 0u);
}

TEST_F(BlockStoreTest, ARestartFindsIt) {
  const auto keys = Keys({1, 2, 3, 4, 5});
  Store(keys);
  Reopen();
  EXPECT_EQ(Attached(keys), 5u);
  const StoreStats stats = store().Stats();
  EXPECT_EQ(stats.blocks, 5u);
  EXPECT_EQ(stats.tails, 1u);
  EXPECT_EQ(stats.slots_used, 6u);
  EXPECT_EQ(stats.used_bytes, 5u * kTestBlockBytes + kTestTailBytes);
  EXPECT_THAT(world_.events, IsEmpty());
}

TEST_F(BlockStoreTest, AttachEndsAtTheDeepestTail) {
  const auto keys = Keys({1, 2, 3, 4, 5});
  {
    const ChainRef two = Append(std::span(keys).first(2));
    Tail(two, keys[1], true);
    const ChainRef end = AppendChain(store(), two, std::span(keys).subspan(2));
  }
  const Attachment found = store().Attach(TestRoot(), keys);
  EXPECT_THAT(found.blocks, SizeIs(2));
  EXPECT_EQ(found.blocks_stored, 5u);
  EXPECT_EQ(store().Attach(TestRoot(), std::span(keys).first(1)).blocks_stored, 1u);
  EXPECT_THAT(store().Attach(TestRoot(1), keys).blocks, IsEmpty());
  EXPECT_THAT(store().Attach(TestRoot(), {}).blocks, IsEmpty());
  const auto other = Keys({1, 2, 9});
  EXPECT_EQ(store().Attach(TestRoot(), other).blocks_stored, 2u);
}

TEST_F(BlockStoreTest, ChainsThatAgreeShareBlocks) {
  const auto left = Keys({1, 2, 3}), right = Keys({1, 2, 4});
  const ChainRef a = Append(left), b = Append(right);
  EXPECT_EQ(store().Stats().blocks, 4u);
  EXPECT_EQ(store().Stats().references, 2u);
  ASSERT_TRUE(store().Sync().ok());
  EXPECT_EQ(store().Stats().slots_used, 4u);
  EXPECT_THAT(world_.events, IsEmpty());
}

TEST_F(BlockStoreTest, TwoRootsShareNothing) {
  const std::vector<int32_t> tokens = {1, 2};
  const ChainRef a = Append(ChainOf(TestRoot(), tokens));
  const ChainRef b = AppendChain(store(), store().Root(TestRoot(1)), ChainOf(TestRoot(1), tokens));
  EXPECT_EQ(store().Stats().blocks, 4u);
}

TEST_F(BlockStoreTest, PinsKeepWhatIsStored) {
  const auto keys = Keys({1, 2, 3});
  Store(keys, /*periodic=*/false);
  Reopen();
  ChainRef pin = store().Pin(keys[2]);
  TailRef tail = store().PinTail(keys[2]);
  ASSERT_TRUE(pin.valid() && tail.valid());
  EXPECT_FALSE(store().Pin(TestRoot()).valid());
  EXPECT_FALSE(store().PinTail(keys[1]).valid());
  ASSERT_TRUE(store().EvictTo(0).ok());
  EXPECT_EQ(Attached(keys), 3u);
  pin.Reset();
  ASSERT_TRUE(store().EvictTo(0).ok());
  EXPECT_EQ(Attached(keys), 3u);  // the tail keeps its block
  tail.Reset();
  ASSERT_TRUE(store().EvictTo(0).ok());
  EXPECT_EQ(store().Stats().blocks, 0u);
  EXPECT_EQ(store().Stats().disk_bytes, 0u);
}

// --- Reading

TEST_F(BlockStoreTest, MemoryIsGivenBackOnceDurableAndReleased) {
  const auto keys = Keys({1});
  const ChainRef end = Append(keys);
  const std::byte* planes[3];
  uint8_t unchecked[3];
  ASSERT_TRUE(store().Lend(end.id(), planes, unchecked));
  const std::byte* const in_heap = planes[0];
  EXPECT_EQ(unchecked[2], 0);
  EXPECT_FALSE(store().IsDurable(end.id()));
  ASSERT_TRUE(store().Sync().ok());
  EXPECT_TRUE(store().IsDurable(end.id()));
  EXPECT_EQ(store().Stats().heap_bytes, kTestBlockBytes);
  ASSERT_FALSE(store().Lend(end.id(), planes, unchecked));
  EXPECT_NE(planes[0], in_heap);
  EXPECT_THAT(unchecked, ElementsAre(1, 1, 1));
  EXPECT_TRUE(store().CheckPlane(end.id(), 1, planes[1]).ok());
  EXPECT_TRUE(absl::IsDataLoss(store().CheckPlane(end.id(), 1, in_heap)));
  EXPECT_TRUE(absl::IsDataLoss(store().CheckPlane(end.id(), 3, planes[1])));
  store().Lend(end.id(), planes, unchecked);
  EXPECT_THAT(unchecked, ElementsAre(1, 0, 1));
  store().ReleaseHeap(end.id());
  EXPECT_EQ(store().Stats().heap_bytes, 0u);
}

TEST_F(BlockStoreTest, AttachChecksScannedPlanesAndFirstUseTheOthers) {
  const auto keys = Keys({1, 2});
  Store(keys);
  Reopen();
  const Attachment found = store().Attach(TestRoot(), keys);
  ASSERT_THAT(found.blocks, SizeIs(2));
  const std::byte* planes[3];
  uint8_t unchecked[3];
  ASSERT_FALSE(store().Lend(found.blocks[0], planes, unchecked));
  EXPECT_THAT(unchecked, ElementsAre(0, 0, 1));
}

TEST_F(BlockStoreTest, ABlockThatWasQuarantinedIsLentAsNothing) {
  const auto keys = Keys({1, 2});
  Store(keys);
  Reopen();
  const Attachment found = store().Attach(TestRoot(), keys);
  const SegmentInfo info = store().Segments()[0];
  world_.fs.FlipBit(info.path, 8 * (info.file_bytes - 4096 + 4 * (48 + 20) + 60 + 100 + 7));
  const auto report = store().Verify();
  ASSERT_TRUE(report.ok());
  ASSERT_EQ(report->damaged, 1u);
  const std::byte* planes[3];
  uint8_t unchecked[3];
  EXPECT_FALSE(store().Lend(found.blocks[1], planes, unchecked));
  EXPECT_THAT(planes, ElementsAre(nullptr, nullptr, nullptr));
  EXPECT_THAT(unchecked, ElementsAre(1, 1, 1));
  EXPECT_TRUE(absl::IsDataLoss(store().CheckPlane(found.blocks[1], 0, planes[0])));
  EXPECT_FALSE(store().IsDurable(found.blocks[1]));
  EXPECT_EQ(ReadBlock(store(), found.blocks[0], keys[0]), Served::kRight);
}

// --- Damage

TEST_F(BlockStoreTest, DamageIsQuarantinedReportedAndBuiltAgain) {
  const auto keys = Keys({1, 2, 3});
  Store(keys);
  Reopen();
  const SegmentInfo info = store().Segments()[0];
  const uint64_t plane2 = info.file_bytes - 4096 + 4 * 48 + 0 + 64 + 64;  // 4 slots: planes at +0, +192, +320
  world_.fs.FlipBit(info.path, 8 * (plane2 + 100 + 5));                   // of the second block
  {
    const Attachment found = store().Attach(TestRoot(), keys);
    EXPECT_THAT(found.blocks, SizeIs(3));  // that plane is not looked at yet
    EXPECT_EQ(ReadBlock(store(), found.blocks[1], keys[1]), Served::kDetected);
    EXPECT_EQ(world_.EventCount(Kind::kQuarantined), 1u);
    EXPECT_THAT(world_.events.back().message,
                AllOf(HasSubstr(info.path), HasSubstr("slot 1"), HasSubstr(ShortName(keys[1]))));
  }
  EXPECT_EQ(Attached(keys), 0u);
  EXPECT_EQ(store().Stats().slots_quarantined, 1u);
  {
    const ChainRef end = Append(keys);  // the third block is still there
    EXPECT_EQ(store().Stats().pending_bytes, kTestBlockBytes);
    ASSERT_TRUE(store().Sync().ok());
  }
  EXPECT_EQ(Attached(keys), 3u);
  Reopen();
  EXPECT_EQ(Attached(keys), 3u);
}

TEST_F(BlockStoreTest, OtherBytesForTheSameTokensReplaceTheStoredOnes) {
  const auto keys = Keys({1, 2});
  {
    const ChainRef root = store().Root(TestRoot());
    ChainRef end = store().Append(root, keys[0], BlockBytes(keys[1]));
    ASSERT_TRUE(store().Sync().ok());
    end = store().Append(root, keys[0], BlockBytes(keys[0]));
    EXPECT_EQ(world_.EventCount(Kind::kQuarantined), 1u);
    EXPECT_EQ(ReadBlock(store(), end.id(), keys[0]), Served::kRight);
    ASSERT_TRUE(store().Sync().ok());
    Tail(end, keys[0], true);
    ASSERT_TRUE(store().Sync().ok());
  }
  Reopen();
  EXPECT_EQ(Attached(std::span(keys).first(1)), 1u);
}

TEST_F(BlockStoreTest, OtherBytesForABlockInMemoryAreReportedAndTheFirstStay) {
  const auto keys = Keys({1, 2});
  for (const bool written : {false, true}) {
    const ChainRef root = store().Root(TestRoot(written ? 1 : 0));
    const BlockKey key = ChildOf(TestRoot(written ? 1 : 0), 1);
    const ChainRef first = store().Append(root, key, BlockBytes(key));
    if (written) {
      ASSERT_TRUE(store().Write().ok());
    }
    world_.events.clear();
    const ChainRef second = store().Append(root, key, BlockBytes(keys[1]));
    EXPECT_EQ(world_.EventCount(Kind::kQuarantined), 1u);
    EXPECT_EQ(ReadBlock(store(), second.id(), key), Served::kRight);
  }
}

TEST_F(BlockStoreTest, VerifyFindsDamageCountsAndStops) {
  const auto keys = Keys({1, 2, 3, 4, 5, 6});
  Store(keys);
  auto report = store().Verify();
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->slots, 7u);
  EXPECT_EQ(report->bytes, 6u * kTestBlockBytes + kTestTailBytes);
  EXPECT_EQ(report->damaged, 0u);
  world_.fs.FlipBit(OnlyFile(true), 8 * 8192 + 3);
  std::stop_source stopped;
  stopped.request_stop();
  EXPECT_TRUE(absl::IsCancelled(store().Verify({}, stopped.get_token()).status()));
  uint64_t done = 0, all = 0;
  report = store().Verify([&](uint64_t d, uint64_t a) { done = d, all = a; });
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->damaged, 1u);
  EXPECT_EQ(done, all);
  EXPECT_EQ(store().Stats().tails, 0u);
  EXPECT_EQ(Attached(keys), 0u);
}

// --- Tails

TEST_F(BlockStoreTest, ATailLetGoIsDroppedAtTheNextSyncUnlessPeriodic) {
  const auto keys = Keys({1, 2});
  const ChainRef one = Append(std::span(keys).first(1));
  const ChainRef two = AppendChain(store(), one, std::span(keys).subspan(1));
  TailRef kept = Tail(one, keys[0]);
  Tail(two, keys[1], true);
  ASSERT_TRUE(store().Sync().ok());
  EXPECT_EQ(store().Stats().tails, 2u);
  kept.Reset();
  EXPECT_EQ(store().Stats().tails, 2u);
  ASSERT_TRUE(store().Sync().ok());
  EXPECT_EQ(store().Stats().tails, 1u);
  EXPECT_EQ(store().Stats().slots_used, 3u);
  EXPECT_EQ(Attached(keys), 2u);
}

TEST_F(BlockStoreTest, UnkeptTailsOfBeforeARestartAreDroppedWhenAsked) {
  const auto keys = Keys({1, 2});
  {
    const ChainRef one = Append(std::span(keys).first(1));
    const ChainRef two = AppendChain(store(), one, std::span(keys).subspan(1));
    const TailRef a = Tail(one, keys[0]), b = Tail(two, keys[1]);
    ASSERT_TRUE(store().Sync().ok());
  }
  Reopen();
  ASSERT_TRUE(store().Sync().ok());
  EXPECT_EQ(store().Stats().tails, 2u);
  const TailRef kept = store().PinTail(keys[0]);
  store().DropUnkeptTails();
  ASSERT_TRUE(store().Sync().ok());
  EXPECT_EQ(store().Stats().tails, 1u);
  EXPECT_EQ(Attached(keys), 1u);
}

TEST_F(BlockStoreTest, ATailBecomesPeriodicForGood) {
  const auto keys = Keys({1});
  for (const bool synced_before : {false, true}) {
    {
      const ChainRef end = Append(keys);
      const TailRef first = Tail(end, keys[0]);
      if (synced_before) {
        ASSERT_TRUE(store().Sync().ok());
      }
      const TailRef second = Tail(end, keys[0], true);
      ASSERT_TRUE(store().Sync().ok());
    }
    ASSERT_TRUE(store().Sync().ok());
    ASSERT_TRUE(world_.CrashAndOpen().ok());
    store().DropUnkeptTails();
    ASSERT_TRUE(store().Sync().ok());
    EXPECT_EQ(Attached(keys), 1u) << synced_before;
    ASSERT_TRUE(store().EvictTo(0).ok());
  }
}

// A node that is gone and another one in its place: what was let go belongs to the first.
TEST_F(BlockStoreTest, LettingGoIsByKey) {
  const auto keys = Keys({1});
  const BlockKey other = ChildOf(TestRoot(2), 1);
  {
    const ChainRef end = AppendChain(store(), store().Root(TestRoot(2)), {&other, 1});
    const TailRef tail = Tail(end, other);
    ASSERT_TRUE(store().Sync().ok());
  }
  Store(keys, /*periodic=*/false);  // drops the tail of `other`, and lets its own go
  Reopen();
  store().PinTail(keys[0]);  // let go at once
  {
    ChainRef pin = store().Pin(keys[0]);
    store().Drop(std::move(pin));  // its node is free for the next
  }
  const ChainRef end = AppendChain(store(), store().Root(TestRoot(3)), {&other, 0});
  EXPECT_FALSE(store().Look(keys[0]).block);
  ASSERT_TRUE(store().Sync().ok());
  EXPECT_TRUE(store().Look(other).block);
}

// --- Dropping and evicting

TEST_F(BlockStoreTest, DropRemovesTheUnsharedEnd) {
  const auto left = Keys({1, 2, 3, 4}), right = Keys({1, 2, 5});
  const ChainRef kept = Append(right);
  for (const bool durable : {false, true}) {
    ChainRef dropped = Append(left);
    if (durable) {
      ASSERT_TRUE(store().Sync().ok());
    }
    EXPECT_EQ(store().Stats().blocks, 5u);
    store().Drop(std::move(dropped));
    EXPECT_EQ(store().Stats().blocks, 3u);
  }
  ASSERT_TRUE(store().Sync().ok());
  EXPECT_EQ(store().Stats().slots_used, 3u);
  EXPECT_EQ(store().Stats().pending_bytes, 0u);
}

TEST_F(BlockStoreTest, DropStopsAtAKeptTail) {
  const auto keys = Keys({1, 2, 3});
  const ChainRef two = Append(std::span(keys).first(2));
  const TailRef tail = Tail(two, keys[1]);
  ChainRef end = AppendChain(store(), two, std::span(keys).subspan(2));
  store().Drop(std::move(end));
  EXPECT_EQ(store().Stats().blocks, 2u);
}

TEST_F(BlockStoreTest, EvictsLeastRecentlyUsedEndsFirst) {
  std::vector<std::vector<BlockKey>> chains;
  for (int32_t c = 0; c < 3; ++c) {
    chains.push_back(Keys({c, 1, 2, 3}));
    Store(chains.back());
  }
  Attached(chains[0]);  // used again
  ASSERT_TRUE(store().EvictTo(store().Stats().disk_bytes - 1).ok());
  EXPECT_EQ(Attached(chains[1]), 0u);
  EXPECT_EQ(Attached(chains[0]), 4u);
  EXPECT_EQ(Attached(chains[2]), 4u);
  EXPECT_EQ(store().Stats().evicted_blocks, 4u);
}

TEST_F(BlockStoreTest, TheOrderOfUseOutlivesARestart) {
  for (int32_t c = 0; c < 3; ++c) Store(Keys({c, 1, 2, 3}));
  Reopen();
  ASSERT_TRUE(store().EvictTo(store().Stats().disk_bytes - 1).ok());
  EXPECT_EQ(Attached(Keys({0, 1, 2, 3})), 0u);
  EXPECT_EQ(Attached(Keys({1, 1, 2, 3})), 4u);
}

TEST_F(BlockStoreTest, StaysWithinItsBudgetByEvicting) {
  world_.options.disk_bytes_max = 5 * 12288;
  Reopen();
  for (int32_t c = 0; c < 20; ++c) {
    Store(Keys({c, 1, 2, 3}));
    EXPECT_LE(store().Stats().disk_bytes, world_.options.disk_bytes_max);
    EXPECT_EQ(Attached(Keys({c, 1, 2, 3})), 4u);
  }
  EXPECT_GT(store().Stats().evicted_blocks, 0u);
  EXPECT_TRUE(store().persistence().ok());
}

TEST_F(BlockStoreTest, WithoutRoomWorkGoesOnInMemory) {
  world_.options.disk_bytes_max = 12288;
  Reopen();
  const auto keys = Keys({1, 2, 3, 4, 5, 6});
  ChainRef end = Append(keys);
  EXPECT_TRUE(absl::IsResourceExhausted(store().Sync()));
  EXPECT_TRUE(absl::IsResourceExhausted(store().Write()));
  EXPECT_THAT(base::Message(store().persistence()), HasSubstr("12288 bytes"));
  EXPECT_EQ(world_.EventCount(Kind::kPersistenceLost), 1u);
  EXPECT_TRUE(store().Look(keys[3]).block_durable);
  EXPECT_FALSE(store().Look(keys[4]).block_durable);
  EXPECT_EQ(ReadBlock(store(), end.id(), keys[5]), Served::kRight);
  // What nobody uses is given up; then there is nothing to write.
  end.Reset();
  EXPECT_TRUE(absl::IsResourceExhausted(store().Write()));
  EXPECT_EQ(store().Stats().pending_bytes, 0u);
  EXPECT_EQ(store().Stats().blocks, 4u);
  const ChainRef other = Append(Keys({7}));
  EXPECT_TRUE(store().Sync().ok());
  EXPECT_EQ(world_.EventCount(Kind::kPersistenceResumed), 1u);
}

TEST_F(BlockStoreTest, ConsecutiveBlocksLieSideBySide) {
  const auto keys = Keys({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
  Store(keys);
  std::vector<uint32_t> slots;
  for (const SegmentInfo& info : store().Segments())
    if (!info.tails) slots.push_back(info.slots);
  EXPECT_THAT(slots, ElementsAre(4, 8, 8));
  const Attachment found = store().Attach(TestRoot(), keys);
  const std::byte* before[3] = {};
  const std::byte* planes[3];
  uint8_t unchecked[3];
  for (size_t b = 0; b < 12; ++b) {
    store().Lend(found.blocks[b], planes, unchecked);
    if (b != 0 && b != 4) {
      EXPECT_EQ(planes[0] - before[0], 48) << b;
    }
    std::copy(std::begin(planes), std::end(planes), std::begin(before));
  }
}

// --- Looking

TEST_F(BlockStoreTest, ChainsTellWhatIsThere) {
  const auto left = Keys({1, 2, 3}), right = Keys({1, 4});
  {
    const ChainRef a = Append(left);
    const ChainRef two = store().Pin(left[1]);
    Tail(two, left[1], true);
    const ChainRef b = Append(right);
    ASSERT_TRUE(store().Sync().ok());
  }
  Reopen();
  Attached(std::span(left).first(2));
  auto chains = store().Chains(10);
  ASSERT_THAT(chains, SizeIs(2));
  const ChainInfo& deep = chains[0].key == left[2] ? chains[0] : chains[1];
  EXPECT_EQ(deep.blocks, 3u);
  EXPECT_EQ(deep.deepest_tail, 2u);
  EXPECT_TRUE(deep.complete);
  EXPECT_EQ(deep.top, TestRoot());
  EXPECT_THAT(store().Chains(1), SizeIs(1));
  // Without its first block a chain is incomplete, also after a restart.
  const SegmentInfo info = store().Segments()[0];
  world_.Close();
  world_.fs.FlipBit(info.path, 8 * (4096 + 40));
  ASSERT_TRUE(world_.Open().ok());
  chains = store().Chains(10);
  ASSERT_THAT(chains, SizeIs(2));
  EXPECT_FALSE(chains[0].complete);
  EXPECT_FALSE(chains[1].complete);
}

// --- Opening

TEST_F(BlockStoreTest, OneProcessHasAStore) {
  const auto second = BlockStore::Open(world_.fs, world_.options);
  EXPECT_TRUE(absl::IsUnavailable(second.status()));
  EXPECT_THAT(base::Message(second.status()), HasSubstr("in use by another process"));
  Reopen();
}

TEST_F(BlockStoreTest, ANetworkFileSystemIsRefused) {
  world_.Close();
  world_.fs.SetNetwork(true);
  const base::Status status = world_.Open();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(base::Message(status), HasSubstr("network"));
}

TEST_F(BlockStoreTest, AForeignDirectoryIsRefusedAndLeftAsItIs) {
  ASSERT_TRUE(world_.fs.CreateDirectories("/elsewhere").ok());
  ASSERT_TRUE(base::WriteFileAtomically(world_.fs, "/elsewhere/thesis.txt", {}).ok());
  world_.Close();
  world_.options.directory = "/elsewhere";
  const base::Status status = world_.Open();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(base::Message(status), HasSubstr("thesis.txt"));
  EXPECT_THAT(*world_.fs.List("/elsewhere", 10), SizeIs(1));
}

TEST_F(BlockStoreTest, AnotherVersionIsRefusedAndADamagedMarkIsNot) {
  const auto keys = Keys({1});
  Store(keys);
  world_.Close();
  const std::string mark = *world_.fs.ReadFile("/kv/STORE", 1000);
  const auto put = [&](std::string_view text) {
    ASSERT_TRUE(base::WriteFileAtomically(world_.fs, "/kv/STORE", base::AsBytes(text)).ok());
  };
  const std::string line = "Holdfast KV store, version 2";
  std::string sum;
  base::PutFixed64(sum, base::Xxh3(base::AsBytes(line)));
  put(line + "\n" + base::ToHex(base::AsBytes(sum)) + "\n");
  EXPECT_TRUE(absl::IsFailedPrecondition(world_.Open()));
  for (const std::string& damaged : {std::string(), std::string(2000, 'x'), mark.substr(0, 20)}) {
    put(damaged);
    ASSERT_TRUE(world_.Open().ok()) << damaged;
    EXPECT_EQ(Attached(keys), 1u);
    EXPECT_EQ(*world_.fs.ReadFile("/kv/STORE", 1000), mark);
    world_.Close();
  }
}

TEST_F(BlockStoreTest, ImpossibleOptionsAreRefused) {
  const auto open = [&](auto&& change) {
    BlockStoreOptions options = world_.options;
    options.directory = "/other";
    change(options);
    return BlockStore::Open(world_.fs, options).status();
  };
  EXPECT_TRUE(open([](BlockStoreOptions&) {}).ok());
  EXPECT_TRUE(open([](BlockStoreOptions& o) { o.planes.clear(); }).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(open([](BlockStoreOptions& o) { o.directory.clear(); })));
  EXPECT_TRUE(absl::IsInvalidArgument(open([](BlockStoreOptions& o) { o.segment_slots_first = 0; })));
  EXPECT_TRUE(absl::IsInvalidArgument(open([](BlockStoreOptions& o) { o.segment_slots_first = 1025; })));
  EXPECT_TRUE(absl::IsInvalidArgument(open([](BlockStoreOptions& o) { o.planes[1].bytes = 0; })));
  EXPECT_TRUE(absl::IsInvalidArgument(open([](BlockStoreOptions& o) { o.planes.resize(1001, {8}); })));
  EXPECT_TRUE(absl::IsInvalidArgument(open([](BlockStoreOptions& o) { o.tail_bytes = 0; })));
}

TEST_F(BlockStoreTest, AStoreCanBeLookedAtWithoutALayout) {
  const auto keys = Keys({1, 2, 3});
  Store(keys);
  world_.Close();
  const auto planes = std::exchange(world_.options.planes, {});
  ASSERT_TRUE(world_.Open().ok());
  EXPECT_EQ(store().Stats().blocks, 3u);
  EXPECT_EQ(store().Verify()->slots, 4u);
  EXPECT_THAT(store().Chains(10), SizeIs(1));
  ASSERT_TRUE(store().EvictTo(0).ok());
  EXPECT_EQ(store().Stats().disk_bytes, 0u);
}

TEST_F(BlockStoreTest, AnotherLayoutIsNotServedAndIsReplaced) {
  const auto keys = Keys({1, 2});
  Store(keys);
  world_.Close();
  world_.options.planes = {{.bytes = 100}, {.bytes = 68, .scanned = true}};
  world_.options.tail_bytes = 50;
  ASSERT_TRUE(world_.Open().ok());
  EXPECT_EQ(store().Attach(TestRoot(), keys).blocks_stored, 0u);
  const std::byte* planes[2];
  uint8_t unchecked[2];
  {
    const ChainRef pin = store().Pin(keys[1]);
    EXPECT_FALSE(store().Lend(pin.id(), planes, unchecked));
    EXPECT_EQ(planes[0], nullptr);
    EXPECT_TRUE(absl::IsDataLoss(store().CheckPlane(pin.id(), 0, planes[0])));
    const ChainRef child = store().Append(pin, ChildOf(keys[1], 1), BlockBytes(keys[1]));
    ASSERT_TRUE(store().Sync().ok());  // not into the other segment
  }
  const ChainRef end = Append(keys);
  EXPECT_TRUE(store().Lend(end.id(), planes, unchecked));
  store().ReleaseHeap(end.id());
  const TailRef tail = store().PutTail(end, std::make_unique<std::byte[]>(50), true);
  ASSERT_TRUE(store().Sync().ok());
  EXPECT_THAT(store().Attach(TestRoot(), keys).blocks, SizeIs(2));
}

TEST_F(BlockStoreTest, OfTwoRecordsOfABlockTheLaterCounts) {
  const auto keys = Keys({1});
  {
    const ChainRef end = Append(keys);
    ASSERT_TRUE(store().Write().ok());
    world_.fs.FailNext(SimOp::kSync, ".kvb", EIO);
    EXPECT_FALSE(store().Sync().ok());
    const std::string first = store().Segments()[0].path;
    world_.fs.FlipBit(first, 8 * 8192);  // what such a failure may leave
    world_.fs.FailNext(SimOp::kRemove, first, EROFS);
    Tail(end, keys[0], true);
    ASSERT_TRUE(store().Sync().ok());
    EXPECT_TRUE(world_.fs.Stat(first).ok());
  }
  Reopen();
  EXPECT_EQ(Attached(keys), 1u);
  EXPECT_EQ(store().Stats().segments, 2u);
}

TEST_F(BlockStoreTest, AnIoErrorAtOpeningRemovesNothing) {
  const auto keys = Keys({1, 2});
  Store(keys);
  world_.Close();
  for (const auto& [op, skip] : {std::pair(SimOp::kRead, 0), {SimOp::kRead, 1}, {SimOp::kOpen, 0}}) {
    world_.fs.FailNext(op, ".kvb", EIO, static_cast<uint64_t>(skip));
    ASSERT_TRUE(world_.Open().ok());
    EXPECT_EQ(store().Stats().blocks, 0u);
    EXPECT_GT(store().Stats().foreign_bytes, 0u);
    EXPECT_THAT(world_.events.back().message, HasSubstr("left alone"));
    world_.Close();
  }
  ASSERT_TRUE(world_.Open().ok());
  EXPECT_EQ(Attached(keys), 2u);
}

TEST_F(BlockStoreTest, AForgedParentIsNotBelieved) {
  const auto keys = Keys({1, 2});
  const ChainRef root = store().Root(TestRoot());
  {
    // Somebody else's block under our key: as if its record had been forged.
    const ChainRef wrong = store().Append(store().Root(TestRoot(5)), keys[0], BlockBytes(keys[1]));
    ASSERT_TRUE(store().Sync().ok());
  }
  EXPECT_EQ(store().Attach(TestRoot(), keys).blocks_stored, 0u);
  const ChainRef end = Append(keys);
  EXPECT_EQ(store().Attach(TestRoot(), keys).blocks_stored, 2u);
  EXPECT_EQ(ReadBlock(store(), end.id(), keys[1]), Served::kRight);
  EXPECT_EQ(world_.EventCount(Kind::kQuarantined), 1u);
  EXPECT_EQ(store().Chains(10).size(), 1u);
}

TEST_F(BlockStoreTest, FilesOfOthersAreLeftAlone) {
  Store(Keys({1}));
  world_.Close();
  const std::string text = "not a segment name";
  ASSERT_TRUE(base::WriteFileAtomically(world_.fs, "/kv/README", base::AsBytes(text)).ok());
  ASSERT_TRUE(world_.Open().ok());
  EXPECT_EQ(*world_.fs.ReadFile("/kv/README", 100), text);
  EXPECT_EQ(Attached(Keys({1})), 1u);
}

}  // namespace
}  // namespace holdfast::memory
