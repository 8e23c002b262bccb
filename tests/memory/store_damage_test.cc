// Single flipped bits, all over a small store: each is noticed before its bytes are used, or harms nothing.
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memory/kv/kv_segment_format.h"
#include "tests/memory/kv_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory {
namespace {

using Kind = StoreEvent::Kind;

class StoreDamageTest : public ::testing::Test {
 protected:
  StoreDamageTest() : keys_(ChainOf(TestRoot(), std::vector<int32_t>{1, 2, 3})) {
    StoreWorld world;
    HF_CHECK(world.Open().ok());
    Build(*world.store);
    world.Close();
    const auto entries = world.fs.List("/kv", 100);
    for (const base::DirectoryEntry& entry : *entries)
      files_["/kv/" + entry.name] = *world.fs.ReadFile("/kv/" + entry.name, 1 << 20);
    HF_CHECK(files_.size() == 4);  // lock, mark, blocks, tails
  }

  // Three blocks with tails behind the first and the last.
  void Build(BlockStore& store) const {
    const ChainRef one = AppendChain(store, store.Root(TestRoot()), std::span(keys_).first(1));
    const ChainRef end = AppendChain(store, one, std::span(keys_).subspan(1));
    store.PutTail(one, TailBytes(keys_[0]), true);
    store.PutTail(end, TailBytes(keys_[2]), true);
    HF_CHECK(store.Sync().ok());
  }

  std::unique_ptr<StoreWorld> World() const {
    auto world = std::make_unique<StoreWorld>(test::SimDiskOptions{.file_bytes_max = 1 << 16});
    HF_CHECK(world->fs.CreateDirectories("/kv").ok());
    for (const auto& [path, bytes] : files_)
      HF_CHECK(base::WriteFileAtomically(world->fs, path, base::AsBytes(bytes)).ok());
    return world;
  }

  // All bits of what is written, one of each byte where there is only padding: that it is zero is part of the
  // checksum of the header (all its bits: kv_segment_format_test), and no part of anything elsewhere.
  std::vector<uint64_t> BitsOf(const std::string& bytes) const {
    std::vector<uint64_t> bits;
    const uint64_t step = 8 / test::Reduced(8);  // 1, and 4 under a sanitizer
    for (uint64_t at = 0; at<bytes.size(); at += bytes.size()> 1000 ? step : 1) {
      const uint64_t from = at / 16 * 16;
      const bool used = bytes.substr(from, 16).find_first_not_of('\0') != std::string::npos;
      for (uint64_t bit = 0; bit < 8; ++bit)
        if (used || bit == at % 8) bits.push_back(at * 8 + bit);
    }
    return bits;
  }

  const std::vector<BlockKey> keys_;
  std::map<std::string, std::string> files_;
};

TEST_F(StoreDamageTest, EveryFlippedBitIsNoticedOrHarmless) {
  uint64_t noticed = 0, harmless = 0;
  std::unique_ptr<StoreWorld> world = World();
  for (const auto& [path, bytes] : files_) {
    for (const uint64_t bit : BitsOf(bytes)) {
      SCOPED_TRACE(::testing::Message() << path << ", bit " << bit);
      world->fs.FlipBit(path, bit);
      ASSERT_TRUE(world->Open().ok());
      size_t blocks = 0;
      ASSERT_NE(ReadChain(*world->store, TestRoot(), std::span(keys_).first(1), &blocks), Served::kWrong);
      const Served served = ReadChain(*world->store, TestRoot(), keys_, &blocks);
      ASSERT_NE(served, Served::kWrong);
      if (world->events.empty() && *world->fs.ReadFile("/kv/STORE", 1000) == files_["/kv/STORE"]) {
        ASSERT_EQ(served, Served::kRight);
        ASSERT_EQ(blocks, 3u);
        if (bit % 64 == 0) {
          ASSERT_EQ(world->store->Verify()->damaged, 0u);
        }
        world->Close();
        world->fs.FlipBit(path, bit);
        ++harmless;
        continue;
      }
      ++noticed;
      // Whatever it was, it can be built again, and is there after a restart.
      Build(*world->store);
      ASSERT_EQ(ReadChain(*world->store, TestRoot(), keys_, &blocks), Served::kRight);
      ASSERT_EQ(blocks, 3u);
      ASSERT_TRUE(world->CrashAndOpen().ok());
      ASSERT_EQ(ReadChain(*world->store, TestRoot(), keys_, &blocks), Served::kRight);
      ASSERT_EQ(blocks, 3u);
      world = World();
    }
  }
  EXPECT_GT(noticed, test::Reduced(10'000));
  EXPECT_GT(harmless, test::Reduced(10'000));
  std::cout << noticed << " noticed, " << harmless << " harmless\n";
}

// The same while the store is open and has the files mapped, for what it has not used yet.
TEST_F(StoreDamageTest, AFlipUnderAnOpenStoreIsNoticedAtFirstUse) {
  for (size_t block = 0; block < 3; ++block) {
    for (uint64_t bit = 0; bit < 800; bit += 8 / test::Reduced(8)) {
      SCOPED_TRACE(::testing::Message() << "block " << block << ", bit " << bit);
      const std::unique_ptr<StoreWorld> world = World();
      ASSERT_TRUE(world->Open().ok());
      Attachment found = world->store->Attach(TestRoot(), keys_);
      ASSERT_EQ(found.blocks.size(), 3u);
      const SegmentInfo info = world->store->Segments()[0];
      const auto geometry = kv::MakeGeometry(kv::SegmentKind::kBlocks, 1, info.slots, kTestPlaneBytes);
      world->fs.FlipBit(info.path, geometry->slot_offset(static_cast<uint32_t>(block), 2) * 8 + bit);
      for (size_t b = 0; b < 3; ++b)
        ASSERT_EQ(ReadBlock(*world->store, found.blocks[b], keys_[b]),
                  b == block ? Served::kDetected : Served::kRight);
      ASSERT_EQ(world->EventCount(Kind::kQuarantined), 1u);
      ASSERT_EQ(world->store->Attach(TestRoot(), keys_).blocks_stored, block);
      found.end.Reset();
      Build(*world->store);
      size_t blocks = 0;
      ASSERT_EQ(ReadChain(*world->store, TestRoot(), keys_, &blocks), Served::kRight);
      ASSERT_EQ(blocks, 3u);
    }
  }
}

// Two records, or two rows of checksums, change places; a file gets the name of another.
TEST_F(StoreDamageTest, WhatIsInAnotherPlaceIsNotBelieved) {
  const std::string path = "/kv/000000000001.kvb";
  const auto geometry = kv::MakeGeometry(kv::SegmentKind::kBlocks, 1, 4, kTestPlaneBytes);
  const auto swap = [&](std::string bytes, uint64_t a, uint64_t b, uint64_t size) {
    std::swap_ranges(bytes.begin() + static_cast<ptrdiff_t>(a),
                     bytes.begin() + static_cast<ptrdiff_t>(a + size),
                     bytes.begin() + static_cast<ptrdiff_t>(b));
    return bytes;
  };
  const std::string good = files_.at(path);
  std::vector<std::string> bad = {
      swap(good, geometry->record_offset(0), geometry->record_offset(1), kv::kRecordBytes),
      swap(good, geometry->sums_offset(0), geometry->sums_offset(1), geometry->sums_bytes())};
  for (size_t p = 0; p < 3; ++p)
    bad.push_back(swap(good, geometry->slot_offset(1, p), geometry->slot_offset(2, p), kTestPlaneBytes[p]));
  for (const std::string& bytes : bad) {
    files_[path] = bytes;
    const auto world = World();
    ASSERT_TRUE(world->Open().ok());
    size_t blocks = 0;
    ASSERT_NE(ReadChain(*world->store, TestRoot(), keys_, &blocks), Served::kWrong);
    EXPECT_GT(world->EventCount(Kind::kQuarantined), 0u);
  }
  files_[path] = good;
  files_["/kv/000000000009.kvb"] = good;
  const auto world = World();
  ASSERT_TRUE(world->Open().ok());
  EXPECT_EQ(world->EventCount(Kind::kQuarantined), 1u);
  size_t blocks = 0;
  EXPECT_EQ(ReadChain(*world->store, TestRoot(), keys_, &blocks), Served::kRight);
  EXPECT_EQ(blocks, 3u);
}

}  // namespace
}  // namespace holdfast::memory
