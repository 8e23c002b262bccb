#include "memory/blob/blob_pack_format.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "base/coding.h"
#include "gtest/gtest.h"
#include "tests/memory/blob_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory::blob {
namespace {

constexpr uint64_t kFileBytes = 1 << 20;

Frame SomeFrame() {
  return {.pack = 3, .sealed = true, .offset = 128, .bytes = 64 * 20, .blobs = 2, .synced_end = 128};
}

BlobEntry SomeEntry() { return {.id = IdOf("id"), .offset = 192, .size = 100}; }

base::StatusOr<Frame> Decode(const std::string& unit, uint64_t at, FrameEnd end = FrameEnd::kHead) {
  return DecodeFrame(base::AsBytes(unit), 3, at, kFileBytes, end);
}

TEST(BlobPackFormatTest, HeadAndTailSayTheSame) {
  const Frame frame = SomeFrame();
  for (const FrameEnd end : {FrameEnd::kHead, FrameEnd::kTail}) {
    const uint64_t at = end == FrameEnd::kHead ? frame.offset : frame.tail_offset();
    const auto decoded = Decode(EncodeFrame(frame, end), at, end);
    ASSERT_TRUE(decoded.ok());
    EXPECT_EQ(decoded->offset, frame.offset);
    EXPECT_EQ(decoded->bytes, frame.bytes);
    EXPECT_EQ(decoded->blobs, frame.blobs);
    EXPECT_EQ(decoded->synced_end, frame.synced_end);
    EXPECT_TRUE(decoded->sealed);
  }
}

TEST(BlobPackFormatTest, AFrameHoldsForItsPlaceOnly) {
  const std::string head = EncodeFrame(SomeFrame(), FrameEnd::kHead);
  EXPECT_FALSE(Decode(head, 64).ok());
  EXPECT_FALSE(Decode(head, 128, FrameEnd::kTail).ok());
  EXPECT_FALSE(DecodeFrame(base::AsBytes(head), 4, 128, kFileBytes, FrameEnd::kHead).ok());
  EXPECT_FALSE(DecodeFrame(base::AsBytes(head), 3, 128, 128 + 64 * 20 - 1, FrameEnd::kHead).ok());
  EXPECT_TRUE(DecodeFrame(base::AsBytes(head), 3, 128, 128 + 64 * 20, FrameEnd::kHead).ok());
}

TEST(BlobPackFormatTest, EveryFlippedBitOfAFrameIsNoticed) {
  const std::string head = EncodeFrame(SomeFrame(), FrameEnd::kHead);
  for (size_t bit = 0; bit < head.size() * 8; ++bit) {
    std::string flipped = head;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_TRUE(absl::IsNotFound(Decode(flipped, 128).status())) << bit;
  }
}

TEST(BlobPackFormatTest, ImpossibleFramesAreRefused) {
  for (const auto& [offset, bytes, blobs] : {std::array<uint64_t, 3>{128, 64, 0},
                                             {128, 64 * 20 + 1, 2},
                                             {120, 64 * 20, 2},
                                             {128, 64 * 20, 19},
                                             {128, UINT64_MAX - 63, 0},
                                             {UINT64_MAX - 63, 128, 0}}) {
    Frame frame = SomeFrame();
    frame.offset = offset;
    frame.bytes = bytes;
    frame.blobs = blobs;
    EXPECT_FALSE(Decode(EncodeFrame(frame, FrameEnd::kHead), offset).ok()) << offset << " " << bytes;
  }
  Frame most = SomeFrame();
  most.blobs = 18;  // nothing but entries
  EXPECT_TRUE(Decode(EncodeFrame(most, FrameEnd::kHead), 128).ok());
}

TEST(BlobPackFormatTest, EveryFlippedBitOfAnEntryIsNoticed) {
  const Frame frame = SomeFrame();
  const std::string good = EncodeEntry(3, 1280, SomeEntry());
  const DecodedEntry decoded = DecodeEntry(base::AsBytes(good), frame, 1280);
  EXPECT_TRUE(decoded.intact && decoded.in_frame);
  EXPECT_EQ(decoded.entry.id, SomeEntry().id);
  EXPECT_EQ(decoded.entry.offset, 192u);
  EXPECT_EQ(decoded.entry.size, 100u);
  EXPECT_FALSE(DecodeEntry(base::AsBytes(good), frame, 1280 + 64).intact);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string flipped = good;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(DecodeEntry(base::AsBytes(flipped), frame, 1280).intact) << bit;
  }
}

TEST(BlobPackFormatTest, EntriesPointIntoTheirFrame) {
  const Frame frame = SomeFrame();  // contents from 192 to 1,216
  const auto in_frame = [&](uint64_t offset, uint64_t size) {
    const std::string unit = EncodeEntry(3, 1280, {.id = {}, .offset = offset, .size = size});
    return DecodeEntry(base::AsBytes(unit), frame, 1280).in_frame;
  };
  EXPECT_TRUE(in_frame(192, 1024));
  EXPECT_TRUE(in_frame(1216, 0));
  EXPECT_FALSE(in_frame(192, 1025));
  EXPECT_FALSE(in_frame(128, 1));
  EXPECT_FALSE(in_frame(193, 1));
  EXPECT_FALSE(in_frame(1216, 1));
  EXPECT_FALSE(in_frame(1280, 0));
  EXPECT_FALSE(in_frame(192, UINT64_MAX));
}

TEST(BlobPackFormatTest, Sizes) {
  EXPECT_EQ(ContentBytes(0), 0u);
  EXPECT_EQ(ContentBytes(1), 64u);
  EXPECT_EQ(ContentBytes(65'536), 65'536u);
  EXPECT_EQ(PieceCount(65'537), 2u);
  EXPECT_EQ(ContentBytes(65'537), 65'600u);  // 65,544 and a row of 24
  EXPECT_EQ(RowBytes(kBlobBytesLimit), 8 * 65'536 + 8u);
}

TEST(BlobPackFormatTest, Names) {
  EXPECT_EQ(PackFileName(12), "000000000012.hfp");
  EXPECT_EQ(ParsePackFileName("000000000012.hfp"), 12u);
  EXPECT_EQ(ParsePackFileName("004294967294.hfp"), kPackIdMax);
  for (const char* bad : {"000000000000.hfp", "004294967295.hfp", "00000000012.hfp", "0000000000012.hfp",
                          "000000000012.hfp.tmp", "00000000001x.hfp", "-00000000012.hfp", ""})
    EXPECT_FALSE(ParsePackFileName(bad).has_value()) << bad;
}

// One pack as this program writes it: two batches, and the mark of a clean end.
TEST(BlobPackFormatTest, GoldenPack) {
  const std::string path = std::string(HOLDFAST_SOURCE_DIR) + "/tests/golden/blob_pack_v1.hfp";
  BlobStoreOptions options = TestBlobOptions();
  options.batch_memory_bytes_max = 1 << 20;
  options.pack_bytes_target = 1 << 20;
  BlobWorld world({}, options);
  ASSERT_TRUE(world.Open().ok());
  ASSERT_TRUE(world.Put({"one", ""}).ok());
  ASSERT_TRUE(world.Put({std::string(65'537, 'x')}).ok());
  world.Close();
  const auto made = world.fs.ReadFile("/blobs/000000000001.hfp", 1 << 20);
  ASSERT_TRUE(made.ok());
  if (std::getenv("HOLDFAST_WRITE_GOLDEN") != nullptr) std::ofstream(path, std::ios::binary) << *made;
  std::ifstream file(path, std::ios::binary);
  const std::string golden((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  ASSERT_EQ(golden.size(), made->size());
  const auto differs = std::mismatch(golden.begin(), golden.end(), made->begin());
  EXPECT_EQ(differs.first - golden.begin(), static_cast<ptrdiff_t>(golden.size())) << "first difference";
  // And read by itself.
  BlobWorld other({}, options);
  ASSERT_TRUE(other.fs.CreateDirectories("/blobs").ok());
  ASSERT_TRUE(base::WriteFileAtomically(other.fs, "/blobs/000000000001.hfp", base::AsBytes(golden)).ok());
  ASSERT_TRUE(other.Open().ok());
  EXPECT_EQ(other.store->Stats().blobs, 3u);
  EXPECT_EQ(*other.store->Read(IdOf("one"), 100), "one");
  EXPECT_EQ(other.store->Verify()->damaged, 0u);
  EXPECT_TRUE(other.events.empty());
}

}  // namespace
}  // namespace holdfast::memory::blob
