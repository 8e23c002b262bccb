#include "sandbox/client/output_capture.h"

#include <algorithm>
#include <string>

#include "base/coding.h"
#include "gmock/gmock.h"
#include "tests/support/seeded_random.h"

namespace holdfast::sandbox {
namespace {

const SecretSet kNoSecrets{std::vector<Secret>()};

class TextSink final : public OutputSink {
 public:
  base::Status Append(std::span<const std::byte> bytes) override {
    text += base::AsText(bytes);
    return absl::OkStatus();
  }
  base::StatusOr<std::string> Finish(const base::Sha256Digest& sha256, uint64_t) override {
    return base::ToHex(sha256).substr(0, 8);
  }
  std::string text;
};

OutputOptions Small() { return {.head_bytes = 4, .tail_bytes = 6, .ring_bytes = 8, .spill_bytes_max = 20}; }

TEST(OutputCaptureTest, WhatFitsIsWhole) {
  OutputCapture capture(Small(), kNoSecrets, nullptr);
  capture.Append("0123456789");
  const CapturedOutput output = capture.Finish();
  EXPECT_EQ(output.head, "0123456789");
  EXPECT_EQ(output.tail, "");
  EXPECT_EQ(output.omitted_bytes, 0u);
}

TEST(OutputCaptureTest, OneByteMoreIsOmitted) {
  OutputCapture capture(Small(), kNoSecrets, nullptr);
  capture.Append("0123\n56789A");
  const CapturedOutput output = capture.Finish();
  EXPECT_EQ(output.head, "0123");
  EXPECT_EQ(output.tail, "56789A");
  EXPECT_EQ(output.omitted_bytes, 1u);
  EXPECT_EQ(output.omitted_lines, 1u);
  EXPECT_EQ(output.total_bytes, 11u);
}

TEST(OutputCaptureTest, CharactersAreNotCut) {
  OutputCapture capture(Small(), kNoSecrets, nullptr);
  capture.Append(
      "abc\u00e4----------\u4f60\u597d");  // the head would end, and the tail begin, within a character
  const CapturedOutput output = capture.Finish();
  EXPECT_EQ(output.head, "abc");
  EXPECT_EQ(output.tail, "\u4f60\u597d");
  EXPECT_EQ(output.omitted_bytes, 12u);
}

TEST(OutputCaptureTest, SpillHasTheBytesUpToItsBound) {
  TextSink sink;
  OutputCapture capture(Small(), kNoSecrets, &sink);
  capture.Append(std::string(15, 'a'));
  capture.Append(std::string(15, 'b'));
  const CapturedOutput output = capture.Finish();
  EXPECT_EQ(sink.text, std::string(15, 'a') + std::string(5, 'b'));
  EXPECT_EQ(output.spill_bytes, 20u);
  EXPECT_EQ(output.total_bytes, 30u);
  EXPECT_EQ(output.spill_sha256, base::Sha256Of(base::AsBytes(sink.text)));
  EXPECT_EQ(output.spill_name, base::ToHex(output.spill_sha256).substr(0, 8));
}

TEST(OutputCaptureTest, OneEndlessLineWithNulsIsBoundedAndExact) {
  OutputCapture capture({.head_bytes = 8, .tail_bytes = 8}, kNoSecrets, nullptr);
  const std::string piece = std::string(65'535, 'x') + '\0';
  for (int i = 0; i < 16'384; ++i) capture.Append(piece);  // 1 GiB
  const CapturedOutput output = capture.Finish();
  EXPECT_EQ(output.total_bytes, uint64_t{1} << 30);
  EXPECT_EQ(output.omitted_bytes, (uint64_t{1} << 30) - 16);
  EXPECT_EQ(output.omitted_lines, 0u);
  EXPECT_EQ(output.head, "xxxxxxxx");
  EXPECT_EQ(output.tail, "xxxxxxx\uFFFD");
}

TEST(OutputCaptureTest, ForgottenSinkIsToldNothing) {
  TextSink sink;
  OutputCapture capture(Small(), kNoSecrets, &sink);
  capture.Append("before");
  capture.ForgetSink();
  capture.Append("after");
  EXPECT_EQ(capture.Finish().spill_name, "");
  EXPECT_EQ(sink.text, "before");
}

TEST(OutputCaptureTest, ReadingGoesOnWhereItStopped) {
  OutputCapture capture(Small(), kNoSecrets, nullptr);
  capture.Append("abc");
  OutputCapture::Part part = capture.Read(0, 100);
  EXPECT_EQ(part.text, "abc");
  capture.Append("de");
  part = capture.Read(part.next, 100);
  EXPECT_EQ(part.text, "de");
  EXPECT_EQ(capture.Read(part.next, 100).text, "");
  capture.Append("0123456789");
  part = capture.Read(part.next, 100);
  EXPECT_EQ(part.skipped_bytes, 2u) << "the ring holds eight";
  EXPECT_EQ(part.text, "23456789");
  EXPECT_EQ(capture.Read(99, 100).text, "") << "beyond the end";
}

TEST(OutputCaptureTest, ReadingWaitsForTheRestOfACharacter) {
  OutputCapture capture(Small(), kNoSecrets, nullptr);
  capture.Append("a\xe4\xbd");
  OutputCapture::Part part = capture.Read(0, 100);
  EXPECT_EQ(part.text, "a");
  capture.Append("\xa0");
  EXPECT_EQ(capture.Read(part.next, 100).text, "\u4f60");
  capture.Append("\xe4");
  capture.Finish();
  EXPECT_EQ(capture.Read(4, 100).text, "\uFFFD") << "no rest will come";
}

// Against the whole text, for any sizes and any pieces.
TEST(OutputCaptureTest, FiguresAddUpWhateverThePieces) {
  for (const uint64_t seed : test::TestSeeds(300)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    const OutputOptions options = {.head_bytes = static_cast<size_t>(random.Below(20)),
                                   .tail_bytes = static_cast<size_t>(random.Below(20)),
                                   .ring_bytes = static_cast<size_t>(random.Below(30)),
                                   .spill_bytes_max = random.Below(100)};
    TextSink sink;
    OutputCapture capture(options, kNoSecrets, &sink);
    std::string whole;
    for (uint64_t i = 0; i < random.Below(20); ++i) {
      std::string piece;
      for (uint64_t k = 0; k < random.Below(12); ++k)
        piece += random.Percent(20) ? '\n' : static_cast<char>('a' + random.Below(26));
      capture.Append(piece);
      whole += piece;
    }
    const CapturedOutput output = capture.Finish();
    EXPECT_EQ(output.total_bytes, whole.size());
    EXPECT_EQ(sink.text, whole.substr(0, static_cast<size_t>(options.spill_bytes_max)));
    if (whole.size() <= options.head_bytes + options.tail_bytes) {
      EXPECT_EQ(output.head, whole);
      continue;
    }
    EXPECT_EQ(output.head, whole.substr(0, options.head_bytes));
    EXPECT_EQ(output.tail, whole.substr(whole.size() - options.tail_bytes));
    const std::string middle =
        whole.substr(options.head_bytes, whole.size() - options.head_bytes - options.tail_bytes);
    EXPECT_EQ(output.omitted_bytes, middle.size());
    EXPECT_EQ(output.omitted_lines, static_cast<uint64_t>(std::count(middle.begin(), middle.end(), '\n')));
  }
}

}  // namespace
}  // namespace holdfast::sandbox
