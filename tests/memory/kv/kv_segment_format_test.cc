#include "memory/kv/kv_segment_format.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "base/coding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memory/kv/segment.h"
#include "tests/memory/kv_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory::kv {
namespace {

using ::testing::HasSubstr;

SegmentGeometry Geometry(uint32_t slots = 4, SegmentKind kind = SegmentKind::kBlocks) {
  return *MakeGeometry(kind, 7, slots, kTestPlaneBytes);
}

SlotRecord Record() {
  return {.key = ChildOf(TestRoot(), 1),
          .parent = TestRoot(),
          .sequence = 5,
          .sums_hash = 0x1122334455667788,
          .depth = 9,
          .periodic = true};
}

std::span<const std::byte> Bytes(const std::string& text) { return base::AsBytes(text); }

TEST(KvSegmentFormatTest, HeaderComesBack) {
  const SegmentGeometry want = Geometry();
  const auto got = DecodeHeader(Bytes(EncodeHeader(want)), want.file_bytes);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->kind, want.kind);
  EXPECT_EQ(got->id, 7u);
  EXPECT_EQ(got->slots, 4u);
  EXPECT_EQ(got->plane_bytes, want.plane_bytes);
  EXPECT_EQ(got->plane_offset, want.plane_offset);
  EXPECT_EQ(got->file_bytes, want.file_bytes);
  EXPECT_EQ(got->slot_bytes, kTestBlockBytes);
}

TEST(KvSegmentFormatTest, RecordComesBack) {
  const SlotRecord want = Record();
  const auto got = DecodeRecord(Geometry(), 2, Bytes(EncodeRecord(Geometry(), 2, want)));
  ASSERT_TRUE(got.ok() && got->has_value());
  EXPECT_EQ((*got)->key, want.key);
  EXPECT_EQ((*got)->parent, want.parent);
  EXPECT_EQ((*got)->sequence, want.sequence);
  EXPECT_EQ((*got)->sums_hash, want.sums_hash);
  EXPECT_EQ((*got)->depth, want.depth);
  EXPECT_TRUE((*got)->periodic);
}

TEST(KvSegmentFormatTest, ZerosAreAnEmptySlot) {
  const auto got = DecodeRecord(Geometry(), 0, Bytes(std::string(kRecordBytes, '\0')));
  ASSERT_TRUE(got.ok());
  EXPECT_FALSE(got->has_value());
}

TEST(KvSegmentFormatTest, EveryFlippedBitOfAHeaderIsNoticed) {
  const SegmentGeometry geometry = Geometry();
  std::string page = EncodeHeader(geometry);
  for (size_t bit = 0; bit < page.size() * 8; ++bit) {
    page[bit / 8] = static_cast<char>(page[bit / 8] ^ (1 << bit % 8));
    ASSERT_TRUE(absl::IsDataLoss(DecodeHeader(Bytes(page), geometry.file_bytes).status())) << "bit " << bit;
    page[bit / 8] = static_cast<char>(page[bit / 8] ^ (1 << bit % 8));
  }
}

TEST(KvSegmentFormatTest, EveryFlippedBitOfARecordIsNoticed) {
  const SegmentGeometry geometry = Geometry();
  std::string bytes = EncodeRecord(geometry, 1, Record());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    ASSERT_TRUE(absl::IsDataLoss(DecodeRecord(geometry, 1, Bytes(bytes)).status())) << "bit " << bit;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
  }
}

TEST(KvSegmentFormatTest, ARecordIsValidInItsPlaceOnly) {
  const std::string bytes = EncodeRecord(Geometry(), 1, Record());
  SegmentGeometry other = Geometry();
  other.id = 8;
  EXPECT_TRUE(absl::IsDataLoss(DecodeRecord(Geometry(), 2, Bytes(bytes)).status()));
  EXPECT_TRUE(absl::IsDataLoss(DecodeRecord(other, 1, Bytes(bytes)).status()));
  other = Geometry(4, SegmentKind::kTails);
  EXPECT_TRUE(absl::IsDataLoss(DecodeRecord(other, 1, Bytes(bytes)).status()));
}

// Bytes with a good checksum that no writer makes.
std::string Forged(std::string page, size_t at, uint32_t value) {
  base::StoreLittle<uint32_t>(reinterpret_cast<std::byte*>(&page[at]), value);
  const uint64_t sum = base::Xxh3(Bytes(page).first(kHeaderBytes - 8));
  base::StoreLittle<uint64_t>(reinterpret_cast<std::byte*>(&page[kHeaderBytes - 8]), sum);
  return page;
}

TEST(KvSegmentFormatTest, ForgedHeadersAreRefused) {
  const SegmentGeometry geometry = Geometry();
  const std::string good = EncodeHeader(geometry);
  const auto decode = [&](const std::string& page) {
    return DecodeHeader(Bytes(page), geometry.file_bytes).status();
  };
  EXPECT_TRUE(decode(good).ok());
  EXPECT_THAT(base::Message(decode(Forged(good, 0, 1))), HasSubstr("not a kv segment"));
  EXPECT_TRUE(absl::IsUnimplemented(decode(Forged(good, 8, 2))));
  EXPECT_TRUE(absl::IsDataLoss(decode(Forged(good, 12, 3))));    // kind
  EXPECT_TRUE(absl::IsDataLoss(decode(Forged(good, 20, ~0u))));  // id, upper half
  EXPECT_TRUE(absl::IsDataLoss(decode(Forged(good, 24, 0))));    // slots
  EXPECT_TRUE(absl::IsDataLoss(decode(Forged(good, 24, kSegmentSlotsMax + 1))));
  EXPECT_TRUE(absl::IsDataLoss(decode(Forged(good, 28, 0))));  // planes
  EXPECT_TRUE(absl::IsDataLoss(decode(Forged(good, 28, kSegmentPlanesMax + 1))));
  EXPECT_TRUE(absl::IsDataLoss(decode(Forged(good, 28, 2))));  // a plane is left over
  EXPECT_TRUE(absl::IsDataLoss(decode(Forged(good, 32, 0))));  // plane bytes
  EXPECT_TRUE(absl::IsDataLoss(decode(Forged(good, 32, kPlaneBytesMax + 1))));
  EXPECT_TRUE(absl::IsDataLoss(decode(Forged(good, 2000, 1))));  // behind the last plane
  EXPECT_TRUE(absl::IsDataLoss(DecodeHeader(Bytes(good), geometry.file_bytes - 1).status()));
  EXPECT_TRUE(absl::IsDataLoss(DecodeHeader(Bytes(good).first(100), geometry.file_bytes).status()));
}

TEST(KvSegmentFormatTest, ForgedRecordsAreRefused) {
  const SegmentGeometry geometry = Geometry();
  const auto decode = [&](const SlotRecord& record) {
    return DecodeRecord(geometry, 0, Bytes(EncodeRecord(geometry, 0, record))).status();
  };
  SlotRecord record = Record();
  record.sequence = kSequenceMax;
  EXPECT_TRUE(decode(record).ok());
  record.sequence = kSequenceMax + 1;
  EXPECT_TRUE(absl::IsDataLoss(decode(record)));
  EXPECT_TRUE(absl::IsDataLoss(DecodeRecord(geometry, 0, Bytes(std::string(60, 'x'))).status()));
}

TEST(KvSegmentFormatTest, GeometryBounds) {
  const auto make = [](uint64_t id, uint32_t slots, const std::vector<uint32_t>& planes) {
    return MakeGeometry(SegmentKind::kBlocks, id, slots, planes).status().code();
  };
  constexpr auto kBad = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(make(1, 0, {8}), kBad);
  EXPECT_EQ(make(1, kSegmentSlotsMax + 1, {8}), kBad);
  EXPECT_EQ(make(1, 1, {}), kBad);
  EXPECT_EQ(make(1, 1, {8, 0}), kBad);
  EXPECT_EQ(make(1, 1, {kPlaneBytesMax + 1}), kBad);
  EXPECT_EQ(make(kSegmentIdMax + 1, 1, {8}), kBad);
  EXPECT_EQ(make(1, 1, std::vector<uint32_t>(kSegmentPlanesMax + 1, 8)), kBad);
  EXPECT_EQ(MakeGeometry(SegmentKind{3}, 1, 1, kTestPlaneBytes).status().code(), kBad);
  const auto largest = MakeGeometry(SegmentKind::kBlocks, kSegmentIdMax, kSegmentSlotsMax,
                                    std::vector<uint32_t>(kSegmentPlanesMax, kPlaneBytesMax));
  ASSERT_TRUE(largest.ok());
  EXPECT_GT(largest->file_bytes, uint64_t{kSegmentSlotsMax} * kSegmentPlanesMax * kPlaneBytesMax);
  EXPECT_TRUE(DecodeHeader(Bytes(EncodeHeader(*largest)), largest->file_bytes).ok());
}

TEST(KvSegmentFormatTest, NothingOverlaps) {
  for (const uint64_t seed : test::TestSeeds(40)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::vector<uint32_t> planes(1 + random.Below(20));
    for (uint32_t& bytes : planes) bytes = static_cast<uint32_t>(1 + random.Below(5000));
    const auto slots = static_cast<uint32_t>(1 + random.Below(100));
    const auto g = MakeGeometry(SegmentKind::kTails, 1, slots, planes);
    ASSERT_TRUE(g.ok());
    uint64_t end = kHeaderBytes;
    const auto next = [&end](uint64_t offset, uint64_t bytes) {
      ASSERT_GE(offset, end);
      end = offset + bytes;
    };
    for (uint32_t s = 0; s < slots; ++s) next(g->record_offset(s), kRecordBytes);
    for (uint32_t s = 0; s < slots; ++s) next(g->sums_offset(s), g->sums_bytes());
    for (size_t p = 0; p < planes.size(); ++p) {
      EXPECT_EQ(g->slot_offset(0, p) % kPlaneAlignment, 0u);
      for (uint32_t s = 0; s < slots; ++s) next(g->slot_offset(s, p), planes[p]);
    }
    EXPECT_EQ(g->plane_offset[0] % kDataAlignment, 0u);
    EXPECT_GE(g->file_bytes, end);
    EXPECT_LT(g->file_bytes, end + kDataAlignment + kPlaneAlignment);
  }
}

TEST(KvSegmentFormatTest, FileNames) {
  EXPECT_EQ(SegmentFileName(SegmentKind::kBlocks, 12), "000000000012.kvb");
  EXPECT_EQ(SegmentFileName(SegmentKind::kTails, kSegmentIdMax), "999999999999999.kvt");
  for (const uint64_t id :
       {uint64_t{0}, uint64_t{12}, uint64_t{999'999'999'999}, uint64_t{1'000'000'000'000}, kSegmentIdMax}) {
    for (const SegmentKind kind : {SegmentKind::kBlocks, SegmentKind::kTails}) {
      const auto name = ParseSegmentFileName(SegmentFileName(kind, id));
      ASSERT_TRUE(name.has_value()) << id;
      EXPECT_EQ(name->id, id);
      EXPECT_EQ(name->kind, kind);
    }
  }
  for (const char* name : {"", "12.kvb", "000000000012.kvx", "000000000012.kvb2", "00000000001a.kvb",
                           "0000000000012.kvb", "1000000000000000.kvb", "-00000000012.kvb", "LOCK", "STORE"})
    EXPECT_FALSE(ParseSegmentFileName(name).has_value()) << name;
}

// The bytes on disk do not change without a new version: this file was written by version 1.
// HOLDFAST_WRITE_GOLDEN=1 writes it anew.
TEST(KvSegmentFormatTest, GoldenSegment) {
  const std::string path = std::string(HOLDFAST_SOURCE_DIR) + "/tests/golden/kv_segment_v1.kvb";
  StoreWorld world;
  ASSERT_TRUE(world.fs.CreateDirectories("/kv").ok());
  auto segment = Segment::Create(world.fs, "/kv", Geometry());
  ASSERT_TRUE(segment.ok());
  for (const uint32_t slot : {0u, 2u}) {
    SlotRecord record = Record();
    record.key = ChildOf(TestRoot(), static_cast<int32_t>(slot));
    record.depth = slot + 1;
    record.periodic = slot == 2;
    ASSERT_TRUE((*segment)->Write(slot, record, {BlockBytes(record.key).get(), kTestBlockBytes}).ok());
  }
  const auto made = world.fs.ReadFile("/kv/000000000007.kvb", 1 << 20);
  ASSERT_TRUE(made.ok());
  if (std::getenv("HOLDFAST_WRITE_GOLDEN") != nullptr) std::ofstream(path, std::ios::binary) << *made;
  std::ifstream file(path, std::ios::binary);
  const std::string golden((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  ASSERT_EQ(golden.size(), made->size());
  const auto differs = std::mismatch(golden.begin(), golden.end(), made->begin());
  EXPECT_EQ(differs.first - golden.begin(), static_cast<ptrdiff_t>(golden.size())) << "first difference";
}

}  // namespace
}  // namespace holdfast::memory::kv
