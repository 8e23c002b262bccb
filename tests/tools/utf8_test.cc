#include "tools/text/utf8.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"

namespace holdfast::tools {
namespace {

constexpr char kBad[] = "\xEF\xBF\xBD";

std::string Bad(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += kBad;
  return text;
}

TEST(Utf8Test, MaximalMalformedPartsBecomeOneCharacterEach) {
  // As Python's bytes.decode(errors="replace").
  EXPECT_EQ(RepairUtf8("plain Größe 漢字 😀"), "plain Größe 漢字 😀");
  EXPECT_EQ(RepairUtf8("a\xFF"
                       "b"),
            "a" + Bad(1) + "b");
  EXPECT_EQ(RepairUtf8("\xC0\xAF"), Bad(2));          // overlong
  EXPECT_EQ(RepairUtf8("\xE0\x80\xAF"), Bad(3));      // overlong
  EXPECT_EQ(RepairUtf8("\xED\xA0\x80"), Bad(3));      // a surrogate
  EXPECT_EQ(RepairUtf8("\xF4\x90\x80\x80"), Bad(4));  // beyond U+10FFFF
  EXPECT_EQ(RepairUtf8("\xE6\xBC"
                       "x"),
            Bad(1) + "x");                        // broken off
  EXPECT_EQ(RepairUtf8("\xF0\x9F\x98"), Bad(1));  // at the end
  EXPECT_EQ(RepairUtf8("\xF0\x9F\xE6\xBC\xA2"), Bad(1) + "漢");
  EXPECT_TRUE(IsUtf8("漢"));
  EXPECT_FALSE(IsUtf8("\xE6\xBC"));
  EXPECT_TRUE(IsUtf8(std::string("a\0b", 3)));
}

TEST(Utf8Test, CutsAtWholeCharacters) {
  EXPECT_EQ(FirstCharacters("aö漢", 6), "aö漢");
  EXPECT_EQ(FirstCharacters("aö漢", 5), "aö");
  EXPECT_EQ(FirstCharacters("aö漢", 2), "a");
  EXPECT_EQ(FirstCharacters("漢", 0), "");
  EXPECT_EQ(LastCharacters("漢öa", 5), "öa");
  EXPECT_EQ(LastCharacters("漢öa", 2), "a");
  EXPECT_EQ(LastCharacters("漢", 2), "");
}

TEST(Utf8Test, PiecesGiveWhatTheWholeGives) {
  const std::string bytes = "\x61\xC3\xB6\xE6\xBC\xA2\xF0\x9F\x98\x80\xFF\x80\xED\xA0\xF4\x90\xC0";
  for (const uint64_t seed : test::TestSeeds(2000)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::string text;
    for (uint64_t n = random.Below(40); n > 0; --n) text += bytes[random.Below(bytes.size())];
    std::string pieces;
    Utf8Repairer repairer;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random.Below(4);
      repairer.Feed(text.substr(at, size), pieces);
      EXPECT_TRUE(IsUtf8(pieces));
      at += size;
    }
    repairer.Finish(pieces);
    ASSERT_EQ(pieces, RepairUtf8(text));
    ASSERT_EQ(pieces == text, IsUtf8(text));
  }
}

}  // namespace
}  // namespace holdfast::tools
