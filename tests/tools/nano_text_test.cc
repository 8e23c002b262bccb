#include "tools/text/nano_text.h"

#include <algorithm>
#include <string>

#include "base/coding.h"
#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"

namespace holdfast::tools {
namespace {

TEST(NanoTextTest, LinesAreTrimmedAndCutAtWholeCharacters) {
  EXPECT_EQ(NanoLine("\t a\tb \r\v\f", 80, Indent::kTrimmed), "a b");
  EXPECT_EQ(NanoLine("\t a\tb \r", 80, Indent::kKept), "  a b");
  EXPECT_EQ(NanoLine("  ", 80, Indent::kTrimmed), "");
  EXPECT_EQ(NanoLine("\v\f x", 80, Indent::kTrimmed), "x");
  EXPECT_EQ(NanoLine("ab漢", 4, Indent::kTrimmed), "ab");
  EXPECT_EQ(NanoLine("ab  cd", 4, Indent::kTrimmed), "ab  ");  // trimmed first, then cut
  EXPECT_EQ(NanoLine("a\xFF", 80, Indent::kTrimmed), "a\xEF\xBF\xBD");
}

TEST(NanoTextTest, BinaryIsANulInTheFirst8192Bytes) {
  EXPECT_FALSE(IsBinary(""));
  EXPECT_TRUE(IsBinary(std::string(8191, 'x') + std::string(1, '\0')));
  EXPECT_FALSE(IsBinary(std::string(8192, 'x') + std::string(1, '\0')));
}

uint64_t Count(std::string_view text, std::string_view old) {
  return ReplaceWholeWords(text, old, "new", 1 << 20)->count;
}

TEST(NanoTextTest, WholeWordsOnlyAreReplaced) {
  EXPECT_EQ(ReplaceWholeWords("a ab a_ a-a", "a", "b", 100)->text, "b ab a_ b-b");
  EXPECT_EQ(ReplaceWholeWords("aXa", "X", "", 100)->count, 0u);
  EXPECT_EQ(ReplaceWholeWords("f(x)f(x", "f(", "g(", 100)->text, "g(x)g(x");
  EXPECT_EQ(Count("--", "-"), 2u);  // no word at either end
  EXPECT_EQ(Count("aaa", "aa"), 0u);
  EXPECT_EQ(Count("öa", "a"), 1u);  // bytes beyond ASCII are no word characters
  EXPECT_EQ(Count("a\nb a\nb", "a\nb"), 2u);
  EXPECT_EQ(Count("x", ""), 0u);
}

TEST(NanoTextTest, ResultBeyondTheBoundIsRefused) {
  EXPECT_FALSE(ReplaceWholeWords("a a a", "a", std::string(40, 'x'), 100).has_value());
  EXPECT_TRUE(ReplaceWholeWords("a a a", "a", std::string(32, 'x'), 98).has_value());
}

TEST(NanoTextTest, OutputKeepsItsFirstAndLastHalf) {
  NanoOutput output(10);
  ASSERT_TRUE(output.Append(base::AsBytes("0123456789")).ok());
  ASSERT_TRUE(output.Finish({}, 0).ok());
  EXPECT_EQ(output.cut_bytes(), 0u);
  EXPECT_EQ(output.head(), "0123456789");
  EXPECT_EQ(output.tail(), "");
}

TEST(NanoTextTest, OutputInPiecesIsTheOutputAsAWhole) {
  for (const uint64_t seed : test::TestSeeds(2000)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::string raw;
    const std::string pieces[] = {"a", "b\n", "ö", "漢", "\xFF", "\xE6\xBC", std::string(1, '\0')};
    for (uint64_t n = random.Below(60); n > 0; --n) raw += pieces[random.Below(std::size(pieces))];
    NanoOutput output(20);
    for (size_t at = 0; at < raw.size();) {
      const std::string piece = raw.substr(at, 1 + random.Below(50));
      ASSERT_TRUE(output.Append(base::AsBytes(piece)).ok());
      at += piece.size();
    }
    ASSERT_TRUE(output.Finish({}, 0).ok());
    const std::string whole = RepairUtf8(raw);
    if (whole.size() <= 20) {
      EXPECT_EQ(output.head(), whole);
      EXPECT_EQ(output.cut_bytes(), 0u);
    } else {
      EXPECT_EQ(output.cut_bytes(), whole.size() - 20);
      EXPECT_EQ(output.head(), FirstCharacters(whole, 10));
      EXPECT_EQ(output.tail(), LastCharacters(whole, 10));
    }
  }
}

}  // namespace
}  // namespace holdfast::tools
