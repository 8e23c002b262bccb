#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/coding.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::model {
namespace {

using ::testing::HasSubstr;

std::string WithLength(uint64_t length, std::string_view rest) {
  std::string bytes;
  base::PutFixed64(bytes, length);
  return bytes.append(rest);
}

std::string FileOf(std::string_view header, size_t payload) {
  return WithLength(header.size(), header) + std::string(payload, 'x');
}

std::string ErrorOf(const std::string& bytes) {
  const auto file = Safetensors::Parse(base::AsBytes(bytes), "a.safetensors");
  if (file.ok()) return "no error";
  EXPECT_THAT(base::Message(file.status()), HasSubstr("a.safetensors: "));
  return base::Message(file.status());
}

std::string Tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
         "}";
}

TEST(SafetensorsTest, TensorsAndMetadataAreRead) {
  const std::string bytes =
      FileOf("{\"__metadata__\":{\"k\":\"v\"}," + Tensor("b", "F32", "[1,2]", "[3,11]") + "," +
                 Tensor("a", "F8_E4M3", "[3]", "[0,3]") + "}  ",
             11);
  const auto file = Safetensors::Parse(base::AsBytes(bytes), "f");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata().at("k"), "v");
  ASSERT_EQ(file->tensors().size(), 2u);
  const TensorView* b = file->Find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, DType::kF32);
  EXPECT_EQ(ShapeText(b->shape), "[1, 2]");
  EXPECT_EQ(b->data.size(), 8u);
  EXPECT_EQ(b->data.data(), base::AsBytes(bytes).data() + bytes.size() - 8);
  EXPECT_EQ(file->Find("c"), nullptr);
}

TEST(SafetensorsTest, ScalarsAndEmptyTensorsAreRead) {
  const auto bytes =
      FileOf("{" + Tensor("s", "I64", "[]", "[0,8]") + "," + Tensor("e", "F32", "[0,7]", "[8,8]") + "}", 8);
  const auto file = Safetensors::Parse(base::AsBytes(bytes), "f");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->Find("s")->data.size(), 8u);
  EXPECT_TRUE(file->Find("e")->data.empty());
}

TEST(SafetensorsTest, FileWithoutAWholeHeaderIsRefused) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("shorter than the 8-byte header length"));
  EXPECT_THAT(ErrorOf("1234567"), HasSubstr("shorter than the 8-byte header length"));
  EXPECT_THAT(ErrorOf(WithLength(10, "{}")), HasSubstr("truncated: header length 10, but only 2 bytes"));
  EXPECT_THAT(ErrorOf(WithLength(0, "")), HasSubstr("not a JSON object"));
}

TEST(SafetensorsTest, HeaderOfGigabytesIsRefused) {
  EXPECT_THAT(ErrorOf(WithLength(uint64_t{4} << 30, "{}")),
              HasSubstr("header length 4294967296 is above the limit"));
  EXPECT_THAT(ErrorOf(WithLength(UINT64_MAX, "{}")), HasSubstr("above the limit"));
}

TEST(SafetensorsTest, TruncatedDataIsRefused) {
  const std::string header = "{" + Tensor("a", "F32", "[4]", "[0,16]") + "}";
  const std::string whole = FileOf(header, 16);
  EXPECT_EQ(ErrorOf(whole), "no error");
  EXPECT_THAT(
      ErrorOf(whole.substr(0, whole.size() - 1)),
      HasSubstr("tensor \"a\": ends at byte 16 of the data, but the file holds only 15 (truncated?)"));
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(ErrorOf(whole.substr(0, size)), "no error") << size;
  }
}

struct BadHeader {
  std::string header;
  size_t payload;
  std::string error;
};

TEST(SafetensorsTest, EveryInconsistentHeaderIsRefused) {
  const BadHeader cases[] = {
      {"[]", 0, "not a JSON object"},
      {"{\"a\":1}", 0, "tensor \"a\": is not an object"},
      {"{\"a\":{}}", 0, "has no dtype"},
      {"{\"a\":{\"dtype\":\"F32\"}}", 0, "has no shape"},
      {"{" + Tensor("a", "F32", "[1]", "[0]") + "}", 4, "has no data_offsets"},
      {"{" + Tensor("a", "F32", "[1]", "[-4,0]") + "}", 4, "has no data_offsets"},
      {"{" + Tensor("a", "F32", "[1]", "[0,4.0]") + "}", 4, "has no data_offsets"},
      {"{" + Tensor("a", "F33", "[1]", "[0,4]") + "}", 4, "unknown dtype \"F33\""},
      {"{" + Tensor("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") + "}", 4, "no shape of at most 8 dimensions"},
      {"{" + Tensor("a", "F32", "[-1]", "[0,4]") + "}", 4, "shape holds something other than a size"},
      {"{" + Tensor("a", "F32", "[[1]]", "[0,4]") + "}", 4, "shape holds something other than a size"},
      {"{" + Tensor("a", "F32", "[18446744073709551615]", "[0,4]") + "}", 4, "shape overflows"},
      {"{" + Tensor("a", "F32", "[4294967296,4294967296]", "[0,4]") + "}", 4, "shape overflows"},
      {"{" + Tensor("a", "F32", "[4294967296,0,4294967296,4294967296]", "[0,4]") + "}", 4, "takes 0 bytes"},
      {"{" + Tensor("a", "F32", "[2]", "[0,4]") + "}", 4, "F32 [2] takes 8 bytes, but data_offsets span 4"},
      {"{" + Tensor("a", "F32", "[1]", "[4,0]") + "}", 4, "data_offsets end before they begin"},
      {"{" + Tensor("a", "F32", "[1]", "[18446744073709551612,18446744073709551615]") + "}", 4,
       "ends at byte"},
      {"{" + Tensor("a", "F32", "[1]", "[0,4]") + "," + Tensor("b", "F32", "[1]", "[2,6]") + "}", 6,
       "tensor \"b\" overlaps another"},
      {"{" + Tensor("a", "F32", "[1]", "[0,4]") + "," + Tensor("b", "F32", "[1]", "[6,10]") + "}", 10,
       "hole of 2 bytes before tensor \"b\""},
      {"{" + Tensor("a", "F32", "[1]", "[0,4]") + "}", 7, "3 bytes after the last tensor belong to none"},
      {"{" + Tensor("a", "F32", "[1]", "[0,4]") + "," + Tensor("a", "F32", "[1]", "[0,4]") + "}", 4,
       "tensor \"a\" stands twice"},
      {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
      {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ \"a\" is not a string"},
      {"{\"\\u0001\\u001b[2J\":1}", 0, "tensor \"??[2J\""},
      {"{\"a\":" + std::string(200'000, '[') + std::string(200'000, ']') + "}", 0, "is not an object"},
  };
  for (const BadHeader& bad : cases) {
    EXPECT_THAT(ErrorOf(FileOf(bad.header, bad.payload)), HasSubstr(bad.error)) << bad.header.substr(0, 200);
  }
}

TEST(SafetensorsTest, WrittenTensorsAreReadBackWithTheirBytesAligned) {
  test::SimClock clock;
  test::SimFileSystem fs(clock);
  const auto filled_with = [](uint8_t value) {
    return [value](std::span<std::byte> out) { std::fill(out.begin(), out.end(), std::byte{value}); };
  };
  const TensorToWrite tensors[] = {{"z.first", DType::kBf16, {3, 5}, filled_with(7)},
                                   {"empty", DType::kF32, {0, 4}, filled_with(9)},
                                   {"a.second", DType::kI64, {2}, filled_with(8)}};
  ASSERT_TRUE(WriteSafetensors(fs, "out.safetensors", tensors, {{"made", "here"}}).ok());
  const auto mapping = fs.Map("out.safetensors");
  ASSERT_TRUE(mapping.ok());
  const auto bytes = (*mapping)->bytes();
  const auto file = Safetensors::Parse(bytes, "out.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata().at("made"), "here");
  const TensorView* first = file->Find("z.first");
  EXPECT_EQ((first->data.data() - bytes.data()) % 64, 0);  // written in order: first in the file
  EXPECT_EQ(ShapeText(first->shape), "[3, 5]");
  ASSERT_EQ(first->data.size(), 30u);
  EXPECT_EQ(first->data[29], std::byte{7});
  EXPECT_EQ(file->Find("a.second")->data[15], std::byte{8});
  EXPECT_EQ(file->Find("empty")->dtype, DType::kF32);
  EXPECT_FALSE(fs.Stat("out.safetensors.tmp").ok());
}

TEST(SafetensorsTest, FullDiskIsReportedAndLeavesNoFile) {
  test::SimClock clock;
  test::SimFileSystem fs(clock, {.disk_bytes_max = 2000});
  const TensorToWrite tensor = {"a", DType::kF32, {1000}, [](std::span<std::byte>) {}};
  EXPECT_EQ(WriteSafetensors(fs, "out.safetensors", {&tensor, 1}).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(fs.Stat("out.safetensors").ok());
  EXPECT_FALSE(fs.Stat("out.safetensors.tmp").ok());
}

TEST(SafetensorsTest, EveryDtypeHasANameAndASize) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16, DType::kF8E4m3, DType::kF8E8m0,
                            DType::kI8, DType::kU8, DType::kI32, DType::kI64}) {
    const std::string size = std::to_string(DTypeBytes(dtype));
    const auto bytes =
        FileOf("{" + Tensor("a", std::string(DTypeName(dtype)), "[1]", "[0," + size + "]") + "}",
               static_cast<size_t>(DTypeBytes(dtype)));
    const auto file = Safetensors::Parse(base::AsBytes(bytes), "f");
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->Find("a")->dtype, dtype);
  }
}

}  // namespace
}  // namespace holdfast::model
