#include "memory/kv/segment_set.h"

#include "gtest/gtest.h"
#include "tests/memory/kv_testing.h"

namespace holdfast::memory::kv {
namespace {

class SegmentSetTest : public ::testing::Test {
 protected:
  SegmentSetTest() { HF_CHECK(world_.fs.CreateDirectories("/kv").ok()); }

  uint32_t Add(uint32_t slots, std::vector<uint32_t> planes = {8}, SegmentKind kind = SegmentKind::kBlocks) {
    auto geometry = MakeGeometry(kind, set_.next_id(), slots, planes);
    return set_.Add(*Segment::Create(world_.fs, "/kv", *geometry));
  }
  void Fill(uint32_t segment, uint32_t from, uint32_t to) {
    for (uint32_t slot = from; slot < to; ++slot) set_.Occupy({segment, slot}, NodeId{slot});
  }

  StoreWorld world_;
  SegmentSet set_;
};

TEST_F(SegmentSetTest, AChainGoesOnInTheNextSlot) {
  const uint32_t s = Add(4);
  EXPECT_FALSE(set_.Next({}, {8}).has_value());
  Fill(s, 0, 2);
  EXPECT_EQ(set_.Next({s, 1}, {8}), (Location{s, 2}));
  EXPECT_FALSE(set_.Next({s, 0}, {8}).has_value());  // somebody sits there
  EXPECT_FALSE(set_.Next({s, 3}, {8}).has_value());  // the end
  EXPECT_FALSE(set_.Next({s, 1}, {9}).has_value());  // another layout
  set_.at(s).retired = true;
  EXPECT_FALSE(set_.Next({s, 1}, {8}).has_value());
}

TEST_F(SegmentSetTest, AnyFreeIsOfTheEmptiestSegmentOfTheLayout) {
  EXPECT_FALSE(set_.AnyFree(SegmentKind::kBlocks, {8}).has_value());
  const uint32_t a = Add(4), b = Add(4);
  Add(8, {9});
  Add(8, {8}, SegmentKind::kTails);
  Fill(a, 0, 3);
  Fill(b, 0, 2);
  EXPECT_EQ(set_.AnyFree(SegmentKind::kBlocks, {8}), (Location{b, 2}));
  set_.at(b).retired = true;
  EXPECT_EQ(set_.AnyFree(SegmentKind::kBlocks, {8}), (Location{a, 3}));
  set_.Occupy({a, 3}, NodeId{9});
  EXPECT_FALSE(set_.AnyFree(SegmentKind::kBlocks, {8}).has_value());
  set_.Free({a, 0});
  EXPECT_EQ(set_.AnyFree(SegmentKind::kBlocks, {8}), (Location{a, 0}));
}

TEST_F(SegmentSetTest, ABadSlotIsNeitherUsedNorFree) {
  const uint32_t s = Add(1);
  Fill(s, 0, 1);
  set_.MarkBad({s, 0});
  EXPECT_EQ(set_.at(s).used, 0u);
  EXPECT_FALSE(set_.AnyFree(SegmentKind::kBlocks, {8}).has_value());
}

TEST_F(SegmentSetTest, SegmentsGrowAlongAChainAndStartSmallAtAFork) {
  const uint32_t s = Add(4);
  EXPECT_EQ(set_.SlotsOfNew({}, 4, 64), 4u);
  EXPECT_EQ(set_.SlotsOfNew({s, 3}, 4, 64), 8u);
  EXPECT_EQ(set_.SlotsOfNew({s, 3}, 4, 6), 6u);
  EXPECT_EQ(set_.SlotsOfNew({s, 2}, 4, 64), 4u);
}

TEST_F(SegmentSetTest, CountsFilesAndBytesAndNumbers) {
  const uint32_t a = Add(4);
  const uint64_t bytes = set_.file_bytes();
  EXPECT_EQ(bytes, set_.at(a).file->geometry().file_bytes);
  const uint32_t b = Add(4);
  EXPECT_EQ(set_.files(), 2u);
  EXPECT_EQ(set_.file_bytes(), 2 * bytes);
  EXPECT_EQ(set_.next_id(), 3u);
  set_.ReserveId(10);
  set_.ReserveId(4);
  EXPECT_EQ(set_.next_id(), 11u);
  EXPECT_NE(set_.Remove(a), nullptr);
  EXPECT_EQ(set_.files(), 1u);
  EXPECT_EQ(set_.count(), 2u);
  EXPECT_EQ(set_.file_bytes(), bytes);
  EXPECT_EQ(set_.at(a).file, nullptr);
  EXPECT_FALSE(set_.Next({a, 0}, {8}).has_value());
  EXPECT_EQ(set_.AnyFree(SegmentKind::kBlocks, {8}), (Location{b, 0}));
}

}  // namespace
}  // namespace holdfast::memory::kv
