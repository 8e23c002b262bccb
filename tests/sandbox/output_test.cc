#include "sandbox/output.h"

#include <string>

#include "gmock/gmock.h"
#include "tests/support/seeded_random.h"

namespace holdfast::sandbox {
namespace {

TEST(MakeSafeTest, PlainTextStays) {
  EXPECT_EQ(MakeSafe("a\tb\nc\n"), "a\tb\nc\n");
  EXPECT_EQ(MakeSafe("gr\u00fc\u00df \u4f60\u597d \U0001f600"), "gr\u00fc\u00df \u4f60\u597d \U0001f600");
  EXPECT_EQ(MakeSafe(""), "");
}

TEST(MakeSafeTest, EscapeSequencesGo) {
  EXPECT_EQ(MakeSafe("\x1b[1;31mred\x1b[0m"), "red");
  EXPECT_EQ(MakeSafe("\x1b]0;title\x07x"), "x");
  EXPECT_EQ(MakeSafe("\x1b]52;c;QUJD\x1b\\x"), "x") << "writes to the clipboard";
  EXPECT_EQ(MakeSafe("\x1bP1;2|data\x1b\\x"), "x");
  EXPECT_EQ(MakeSafe("\x1b(Bx\x1b=y\x1bMz"), "xyz");
  EXPECT_EQ(MakeSafe("x\x1b[31"), "x") << "broken off";
  EXPECT_EQ(MakeSafe("x\x1b"), "x");
  EXPECT_EQ(MakeSafe("\x1b]no end"), "no end") << "a string without an end does not swallow the text";
}

TEST(MakeSafeTest, ControlCharactersAreMarked) {
  EXPECT_EQ(MakeSafe(std::string("a\0b\x08\x7f", 5)), "a\uFFFDb\uFFFD\uFFFD");
  EXPECT_EQ(MakeSafe("\u0085\u009b31m"), "\uFFFD\uFFFD31m") << "C1, which some terminals obey";
  EXPECT_EQ(MakeSafe("a\u202eb\u2066c\u200fd\u061c"), "a\uFFFDb\uFFFDc\uFFFDd\uFFFD") << "direction";
}

TEST(MakeSafeTest, CarriageReturnsBecomeLines) { EXPECT_EQ(MakeSafe("a\r\nb\rc\r"), "a\nb\nc\n"); }

TEST(MakeSafeTest, MalformedUtf8IsReplaced) {
  EXPECT_EQ(MakeSafe("\xff\xc3"), "\uFFFD\uFFFD");
  EXPECT_EQ(MakeSafe("\xc0\xaf"), "\uFFFD\uFFFD") << "overlong";
  EXPECT_EQ(MakeSafe("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD") << "a surrogate";
  EXPECT_EQ(MakeSafe("\xf4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD") << "above U+10FFFF";
  EXPECT_EQ(MakeSafe("\xe4\xbd"
                     "A"),
            "\uFFFD\uFFFD"
            "A");
}

TEST(MakeSafeTest, ResultIsSafeWhateverComes) {
  for (const uint64_t seed : test::TestSeeds(300)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::string bytes;
    constexpr std::string_view kPieces[] = {"\x1b", "[",        "]",    "P",        "\x07", "\\",
                                            "31m",  "\xe2\x80", "\xae", "\xf0\x9f", "\r",   "\n"};
    for (uint64_t i = 0; i < random.Below(60); ++i) {
      if (random.Percent(60)) {
        bytes += kPieces[random.Below(std::size(kPieces))];
      } else {
        bytes += static_cast<char>(random.Below(256));
      }
    }
    const std::string safe = MakeSafe(bytes);
    EXPECT_EQ(MakeSafe(safe), safe) << "safe text is left alone, so nothing unsafe was left";
    for (const char c : safe) EXPECT_TRUE(c == '\t' || c == '\n' || static_cast<unsigned char>(c) >= 0x20);
  }
}

TEST(RenderTest, NothingLeftOutIsTheTextItself) {
  EXPECT_EQ(Render({.head = "all\n", .total_bytes = 4}), "all\n");
}

TEST(RenderTest, MarkSaysExactlyWhatIsMissing) {
  CapturedOutput output = {
      .head = "first", .tail = "last\n", .total_bytes = 1010, .omitted_bytes = 1000, .omitted_lines = 3};
  EXPECT_EQ(Render(output), "first\n[... 1000 bytes, 3 lines omitted]\nlast\n");
  output.spill_name = "sha256:ab";
  output.spill_bytes = 1010;
  EXPECT_EQ(Render(output), "first\n[... 1000 bytes, 3 lines omitted; full: sha256:ab]\nlast\n");
  output.spill_bytes = 500;
  EXPECT_EQ(Render(output), "first\n[... 1000 bytes, 3 lines omitted; first 500 bytes: sha256:ab]\nlast\n");
}

}  // namespace
}  // namespace holdfast::sandbox
