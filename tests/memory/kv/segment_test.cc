#include "memory/kv/segment.h"

#include <cerrno>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/memory/kv_testing.h"

namespace holdfast::memory::kv {
namespace {

using test::SimOp;
using ::testing::ElementsAre;

const char kPath[] = "/kv/000000000007.kvb";

class SegmentTest : public ::testing::Test {
 protected:
  SegmentTest() { HF_CHECK(world_.fs.CreateDirectories("/kv").ok()); }

  base::StatusOr<std::unique_ptr<Segment>> Create() {
    return Segment::Create(world_.fs, "/kv", *MakeGeometry(SegmentKind::kBlocks, 7, 4, kTestPlaneBytes));
  }
  static SlotRecord RecordOf(int32_t token) {
    return {.key = ChildOf(TestRoot(), token), .parent = TestRoot(), .sequence = 1, .depth = 1};
  }
  static base::StatusOr<uint64_t> Put(Segment& segment, uint32_t slot, int32_t token) {
    const SlotRecord record = RecordOf(token);
    return segment.Write(slot, record, {BlockBytes(record.key).get(), kTestBlockBytes});
  }
  static bool Holds(Segment& segment, uint32_t slot, uint64_t sums_hash, int32_t token) {
    const auto want = BlockBytes(RecordOf(token).key);
    if (!segment.CheckSums(slot, sums_hash)) return false;
    for (size_t p = 0, at = 0; p < 3; at += kTestPlaneBytes[p++]) {
      const std::byte* const plane = segment.plane(slot, p);
      if (!segment.CheckPlane(slot, p, plane)) return false;
      if (std::memcmp(plane, want.get() + at, kTestPlaneBytes[p]) != 0) return false;
    }
    return true;
  }

  StoreWorld world_;
};

TEST_F(SegmentTest, WhatWasWrittenIsMappedAndFoundAgain) {
  auto segment = Create();
  ASSERT_TRUE(segment.ok());
  const auto first = Put(**segment, 1, 5);
  const auto second = Put(**segment, 3, 6);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_FALSE((*segment)->mapped());
  ASSERT_TRUE((*segment)->Map().ok());
  ASSERT_TRUE((*segment)->Map().ok());
  EXPECT_TRUE(Holds(**segment, 1, *first, 5));
  EXPECT_TRUE(Holds(**segment, 3, *second, 6));
  EXPECT_FALSE((*segment)->CheckSums(1, *second));
  ASSERT_TRUE((*segment)->Sync().ok());

  auto again = Segment::Open(world_.fs, kPath);
  ASSERT_TRUE(again.ok()) << again.status();
  const auto records = (*again)->ReadRecords();
  ASSERT_TRUE(records.ok());
  EXPECT_FALSE(records->slots[0].has_value());
  EXPECT_EQ(records->slots[1]->key, RecordOf(5).key);
  EXPECT_EQ(records->slots[1]->sums_hash, *first);
  EXPECT_EQ(records->slots[3]->key, RecordOf(6).key);
}

TEST_F(SegmentTest, ErasedAndDamagedRecordsAreNotFound) {
  auto segment = Create();
  for (uint32_t slot = 0; slot < 3; ++slot) ASSERT_TRUE(Put(**segment, slot, 5).ok());
  ASSERT_TRUE((*segment)->Erase(1).ok());
  world_.fs.FlipBit(kPath, 8 * ((*segment)->geometry().record_offset(2) + 40));
  const auto records = (*segment)->ReadRecords();
  ASSERT_TRUE(records.ok());
  EXPECT_TRUE(records->slots[0].has_value());
  EXPECT_FALSE(records->slots[1].has_value());
  EXPECT_FALSE(records->slots[2].has_value());
  EXPECT_THAT(records->damaged, ElementsAre(2u));
}

TEST_F(SegmentTest, ARecordCanBeReplaced) {
  auto segment = Create();
  const auto sums_hash = Put(**segment, 0, 5);
  SlotRecord record = RecordOf(5);
  record.sums_hash = *sums_hash;
  record.periodic = true;
  ASSERT_TRUE((*segment)->WriteRecord(0, record).ok());
  const auto records = (*segment)->ReadRecords();
  EXPECT_TRUE(records->slots[0]->periodic);
  ASSERT_TRUE((*segment)->Map().ok());
  EXPECT_TRUE(Holds(**segment, 0, records->slots[0]->sums_hash, 5));
}

TEST_F(SegmentTest, AFailedCreateLeavesNothing) {
  for (const SimOp op : {SimOp::kPreallocate, SimOp::kWrite}) {
    world_.fs.FailNext(op, ".kvb", ENOSPC);
    EXPECT_TRUE(absl::IsResourceExhausted(Create().status()));
    EXPECT_TRUE(absl::IsNotFound(world_.fs.Stat(kPath).status()));
  }
  ASSERT_TRUE(Create().ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Create().status()));
  EXPECT_TRUE(world_.fs.Stat(kPath).ok());
}

// Only what was seen in the bytes is DataLoss: a disk that answers with EIO may answer better tomorrow.
TEST_F(SegmentTest, AnIoErrorIsNotDataLoss) {
  auto segment = Create();
  ASSERT_TRUE(Put(**segment, 0, 5).ok());
  world_.fs.FailNext(SimOp::kSync, ".kvb", EIO);
  EXPECT_TRUE(absl::IsUnavailable((*segment)->Sync()));
  world_.fs.FailNext(SimOp::kOpen, ".kvb", EIO);
  EXPECT_TRUE(absl::IsUnavailable((*segment)->Map()));
  world_.fs.FailNext(SimOp::kRead, ".kvb", EIO);
  EXPECT_TRUE(absl::IsUnavailable((*segment)->ReadRecords().status()));
  for (const SimOp op : {SimOp::kOpen, SimOp::kRead}) {
    world_.fs.FailNext(op, ".kvb", EIO);
    EXPECT_TRUE(absl::IsUnavailable(Segment::Open(world_.fs, kPath).status()));
  }
  EXPECT_TRUE(Segment::Open(world_.fs, kPath).ok());
}

TEST_F(SegmentTest, AFileThatIsGoneIsDataLoss) {
  auto segment = Create();
  ASSERT_TRUE(Put(**segment, 0, 5).ok());
  const std::string bytes = *world_.fs.ReadFile(kPath, 1 << 20);
  const auto replace = [&](std::string_view content) {
    ASSERT_TRUE(world_.fs.Remove(kPath).ok());
    ASSERT_TRUE(base::WriteFileAtomically(world_.fs, kPath, base::AsBytes(content)).ok());
  };
  {
    auto file = world_.fs.Open(kPath, base::OpenMode::kReadWrite);
    ASSERT_TRUE((*file)->Truncate(100).ok());
  }
  EXPECT_TRUE(absl::IsDataLoss((*segment)->Sync()));
  EXPECT_TRUE(absl::IsDataLoss((*segment)->Map()));
  EXPECT_TRUE(absl::IsDataLoss(Segment::Open(world_.fs, kPath).status()));
  replace(bytes);
  EXPECT_TRUE(absl::IsDataLoss((*segment)->Sync()));
  EXPECT_TRUE(absl::IsDataLoss((*segment)->Map()));
  EXPECT_TRUE(Segment::Open(world_.fs, kPath).ok());
  ASSERT_TRUE(world_.fs.Remove(kPath).ok());
  EXPECT_TRUE(absl::IsDataLoss((*segment)->Sync()));
  (*segment)->CloseFile();
  EXPECT_TRUE(absl::IsDataLoss(Put(**segment, 1, 6).status()));
}

TEST_F(SegmentTest, TheDescriptorIsOpenedAgainWhenNeeded) {
  auto segment = Create();
  (*segment)->CloseFile();
  const auto sums_hash = Put(**segment, 0, 5);
  ASSERT_TRUE(sums_hash.ok());
  (*segment)->CloseFile();
  ASSERT_TRUE((*segment)->Sync().ok());
  ASSERT_TRUE((*segment)->Map().ok());
  EXPECT_TRUE(Holds(**segment, 0, *sums_hash, 5));
}

TEST_F(SegmentTest, AFlippedBitOfPlaneOrRowIsNoticed) {
  auto segment = Create();
  const auto sums_hash = Put(**segment, 2, 5);
  ASSERT_TRUE((*segment)->Map().ok());
  const SegmentGeometry& g = (*segment)->geometry();
  const auto expect_noticed = [&](uint64_t from, uint64_t bytes) {
    for (uint64_t bit = from * 8; bit < (from + bytes) * 8; ++bit) {
      world_.fs.FlipBit(kPath, bit);
      ASSERT_FALSE(Holds(**segment, 2, *sums_hash, 5)) << bit;
      bool checks = (*segment)->CheckSums(2, *sums_hash);
      for (size_t p = 0; p < 3; ++p) checks &= (*segment)->CheckPlane(2, p, (*segment)->plane(2, p));
      ASSERT_FALSE(checks) << bit;
      world_.fs.FlipBit(kPath, bit);
    }
  };
  expect_noticed(g.sums_offset(2), g.sums_bytes());
  for (size_t p = 0; p < 3; ++p) expect_noticed(g.slot_offset(2, p), kTestPlaneBytes[p]);
  EXPECT_TRUE(Holds(**segment, 2, *sums_hash, 5));
}

}  // namespace
}  // namespace holdfast::memory::kv
