#include "base/coding.h"

#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"

namespace holdfast::base {
namespace {

using ::testing::HasSubstr;

TEST(CodingTest, FixedNumbersAreLittleEndian) {
  std::string out;
  PutFixed8(out, 0x01);
  PutFixed16(out, 0x0203);
  PutFixed32(out, 0x04050607);
  PutFixed64(out, 0x08090a0b0c0d0e0f);
  EXPECT_EQ(out, std::string("\x01\x03\x02\x07\x06\x05\x04\x0f\x0e\x0d\x0c\x0b\x0a\x09\x08", 15));
  Decoder in(AsBytes(out));
  EXPECT_EQ(in.Fixed8(), 0x01);
  EXPECT_EQ(in.Fixed16(), 0x0203);
  EXPECT_EQ(in.Fixed32(), 0x04050607u);
  EXPECT_EQ(in.Fixed64(), 0x08090a0b0c0d0e0fu);
  EXPECT_TRUE(in.Finish("record").ok());
}

TEST(CodingTest, LoadAndStoreWorkAtAnyAlignment) {
  std::byte bytes[9]{};
  StoreLittle<uint64_t>(bytes + 1, 0x1122334455667788);
  EXPECT_EQ(LoadLittle<uint64_t>(bytes + 1), 0x1122334455667788u);
  EXPECT_EQ(bytes[1], std::byte{0x88});
}

TEST(CodingTest, VarintsAtTheirBoundaries) {
  const std::pair<uint64_t, size_t> cases[] = {{0, 1},
                                               {1, 1},
                                               {127, 1},
                                               {128, 2},
                                               {16383, 2},
                                               {16384, 3},
                                               {UINT32_MAX, 5},
                                               {(uint64_t{1} << 63) - 1, 9},
                                               {uint64_t{1} << 63, 10},
                                               {UINT64_MAX, kMaxVarint64Bytes}};
  for (const auto& [value, size] : cases) {
    std::string out;
    PutVarint64(out, value);
    EXPECT_EQ(out.size(), size);
    Decoder in(AsBytes(out));
    EXPECT_EQ(in.Varint64(), value);
    EXPECT_TRUE(in.Finish("varint").ok());
  }
}

TEST(CodingTest, OneValueHasOneEncoding) {
  for (const std::string_view bad : {std::string_view("\x80\x00", 2), std::string_view("\xff\x80\x00", 3),
                                     std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10),
                                     std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80\x01", 11)}) {
    Decoder in(AsBytes(bad));
    EXPECT_EQ(in.Varint64(), 0u);
    const Status status = in.Finish("record");
    EXPECT_TRUE(absl::IsDataLoss(status));
    EXPECT_EQ(Message(status), "record: at offset 0: not a varint of 64 bits in its shortest form");
  }
}

TEST(CodingTest, EveryTruncationIsFoundAndNothingIsReadBeyondIt) {
  std::string out;
  PutFixed32(out, 1);
  PutVarint64(out, 300);
  PutLengthPrefixed(out, "name");
  PutFixed64(out, 2);
  for (size_t size = 0; size <= out.size(); ++size) {
    const std::vector<std::byte> exact(AsBytes(out).begin(),
                                       AsBytes(out).begin() + static_cast<int64_t>(size));
    Decoder in(exact);
    in.Fixed32();
    in.Varint64();
    in.LengthPrefixed(100);
    in.Fixed64();
    EXPECT_EQ(in.Finish("record").ok(), size == out.size()) << size;
  }
}

TEST(CodingTest, TheFirstFailureSticks) {
  Decoder in(AsBytes("ab"));
  EXPECT_EQ(in.Fixed32(), 0u);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.Fixed8(), 0);  // though a byte is there
  EXPECT_TRUE(in.Bytes(1).empty());
  EXPECT_TRUE(in.LengthPrefixed(9).empty());
  EXPECT_THAT(Message(in.Finish("record")), HasSubstr("at offset 0: the input ends inside a 32-bit number"));
}

TEST(CodingTest, LeftoverBytesAreAnError) {
  Decoder in(AsBytes("abc"));
  EXPECT_EQ(AsText(in.Bytes(2)), "ab");
  EXPECT_EQ(in.remaining(), 1u);
  EXPECT_EQ(Message(in.Finish("record")), "record: at offset 2: bytes are left over");
}

TEST(CodingTest, LengthsAreBounded) {
  std::string out;
  PutLengthPrefixed(out, "abcd");
  Decoder fits(AsBytes(out));
  EXPECT_EQ(fits.LengthPrefixed(4), "abcd");
  Decoder too_long(AsBytes(out));
  EXPECT_EQ(too_long.LengthPrefixed(3), "");
  EXPECT_THAT(Message(too_long.Finish("record")), HasSubstr("longer than its bound"));
  std::string huge;
  PutVarint64(huge, UINT64_MAX);
  Decoder lying(AsBytes(huge));
  EXPECT_EQ(lying.LengthPrefixed(std::numeric_limits<size_t>::max()), "");
  EXPECT_FALSE(lying.ok());
}

TEST(CodingTest, RandomRecordsComeBack) {
  for (const uint64_t seed : test::TestSeeds(50)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::vector<std::pair<uint64_t, uint64_t>> values;  // (kind, value)
    std::string out;
    for (int i = 0; i < 100; ++i) {
      const uint64_t kind = random.Below(3);
      const uint64_t value = random.Next() >> random.Below(64);
      values.emplace_back(kind, value);
      if (kind == 0) PutFixed64(out, value);
      if (kind == 1) PutVarint64(out, value);
      if (kind == 2) PutLengthPrefixed(out, std::to_string(value));
    }
    Decoder in(AsBytes(out));
    for (const auto& [kind, value] : values) {
      switch (kind) {
        case 0:
          EXPECT_EQ(in.Fixed64(), value);
          break;
        case 1:
          EXPECT_EQ(in.Varint64(), value);
          break;
        default:
          EXPECT_EQ(in.LengthPrefixed(20), std::to_string(value));
      }
    }
    EXPECT_TRUE(in.Finish("record").ok());
  }
}

TEST(CodingTest, RandomBytesNeverReadOutOfBounds) {
  for (const uint64_t seed : test::TestSeeds(200)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::vector<std::byte> bytes(random.Below(40));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.Next() | (random.Percent(50) ? 0x80 : 0));
    Decoder in(bytes);
    while (in.ok() && in.remaining() > 0) {
      const size_t before = in.offset();
      if (random.Percent(50)) {
        in.Varint64();
      } else {
        in.LengthPrefixed(8);
      }
      ASSERT_LE(in.offset(), bytes.size());
      ASSERT_TRUE(!in.ok() || in.offset() > before);
    }
  }
}

}  // namespace
}  // namespace holdfast::base
