#include "tools/text/file_text.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"

namespace holdfast::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string Replace(std::string_view bytes, std::string_view from, std::string_view to,
                    Occurrence occurrence = Occurrence::kOne) {
  return ReplaceText(bytes, from, to, occurrence, 10).text.value_or("(none)");
}

TEST(FileTextTest, WhatIsNotTextSaysWhy) {
  EXPECT_EQ(WhyNotText(""), "");
  EXPECT_EQ(WhyNotText("ä\r\n"), "");
  EXPECT_EQ(WhyNotText("\xFF\xFEx"), "it is UTF-16");
  EXPECT_EQ(WhyNotText(std::string_view("ab\0c", 4)), "a NUL byte at byte 2");
  EXPECT_EQ(WhyNotText("a\nb\xE4\nc"), "malformed in line 2");
}

TEST(FileTextTest, LinesKnowTheirEnds) {
  const auto lines = SplitLines("a\r\n\nb\rc\nd");
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0].end, LineEnd::kCrLf);
  EXPECT_EQ(lines[1].text, "");
  EXPECT_EQ(lines[2].text, "b\rc");
  EXPECT_EQ(lines[3].end, LineEnd::kNone);
  EXPECT_THAT(SplitLines(""), IsEmpty());
  EXPECT_EQ(SplitLines("\n").size(), 1u);
}

TEST(FileTextTest, OneOccurrenceIsReplacedAndEverythingElseStays) {
  EXPECT_EQ(Replace("a b c", "b", "x"), "a x c");
  EXPECT_EQ(Replace("\xEF\xBB\xBF"
                    "a\nb",
                    "a\n", "c\n"),
            "\xEF\xBB\xBF"
            "c\nb");
  EXPECT_EQ(Replace("a b", "b", ""), "a ");
  EXPECT_EQ(Replace("abab", "ab", "x", Occurrence::kAll), "xx");
  EXPECT_EQ(Replace("aaa", "aa", "b", Occurrence::kAll), "ba");
}

TEST(FileTextTest, WhatIsNotUniqueIsCountedWithItsLines) {
  const Replacement twice = ReplaceText("x\ny x\nx", "x", "z", Occurrence::kOne, 2);
  EXPECT_FALSE(twice.text);
  EXPECT_EQ(twice.count, 3u);
  EXPECT_THAT(twice.lines, ElementsAre(1, 2));
  EXPECT_EQ(ReplaceText("aaa", "aa", "b", Occurrence::kOne, 9).count, 2u);  // they overlap
  EXPECT_EQ(ReplaceText("abc", "x", "b", Occurrence::kOne, 9).count, 0u);
}

TEST(FileTextTest, CarriageReturnsStayAndNewLinesGetThem) {
  EXPECT_EQ(Replace("a\r\nb\r\nc\r\n", "a\nb", "x\ny\nz"), "x\r\ny\r\nz\r\nc\r\n");
  EXPECT_EQ(Replace("a\r\nb\r\n", "a\r\nb", "x\r\ny"), "x\r\ny\r\n");
  EXPECT_EQ(Replace("a\r\nb\r\n", "b", "x\ny"), "a\r\nx\r\ny\r\n");
  EXPECT_EQ(Replace("a\r\nb", "b", "x\ny"), "a\r\nx\r\ny");
  EXPECT_EQ(Replace("a\nb\r\n", "a", "x\ny"), "x\ny\nb\r\n");  // mixed: as the line that it stands in
  EXPECT_EQ(Replace("a\nb\r\n", "b", "x\ny"), "a\nx\r\ny\r\n");
  EXPECT_EQ(Replace("a\r\nb\r\n", "a\n", ""), "b\r\n");
  EXPECT_EQ(Replace("a\r\nb\r\n", "\nb", ""), "a\r\n");
  EXPECT_EQ(Replace("a\nb\n", "a\r\nb", "x"), "(none)");
  EXPECT_EQ(Replace("a\rb\n", "a\rb", "x"), "x\n");
}

// Without CR LF: the same as find and replace on strings. With it: the same on the text with LF, put back.
TEST(FileTextTest, RandomReplacementsAgreeWithTheObviousWay) {
  for (const uint64_t seed : test::TestSeeds(3000)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    const auto make = [&](uint64_t length) {
      std::string text;
      for (uint64_t i = random.Below(length); i > 0; --i) text += "ab\n"[random.Below(3)];
      return text;
    };
    const std::string file = make(20), from = "a" + make(4), to = make(5);
    std::string expected;
    size_t at = 0, count = 0;
    for (size_t found; (found = file.find(from, at)) != std::string::npos; ++count) {
      expected += file.substr(at, found - at) + to;
      at = found + from.size();
    }
    expected += file.substr(at);
    const auto crlf = [](const std::string& text) {
      std::string out;
      for (const char c : text) out += c == '\n' ? std::string("\r\n") : std::string(1, c);
      return out;
    };
    const Replacement plain = ReplaceText(file, from, to, Occurrence::kAll, 100);
    const Replacement folded = ReplaceText(crlf(file), from, to, Occurrence::kAll, 100);
    EXPECT_EQ(plain.count, count);
    EXPECT_EQ(folded.count, count);
    if (count == 0) continue;
    EXPECT_EQ(plain.text, expected);
    if (file.find('\n') != std::string::npos) {
      EXPECT_EQ(folded.text, crlf(expected));
    }
    ASSERT_EQ(plain.lines.size(), count);
    EXPECT_EQ(plain.lines[0],
              1 + static_cast<uint64_t>(std::count(
                      file.begin(), file.begin() + static_cast<ptrdiff_t>(file.find(from)), '\n')));
  }
}

TEST(FileTextTest, TheNearestLineIsFound) {
  const std::string text = "int a;\n  int Foo(int x) {\n    return x;\n  }\nint b;\n";
  const auto lines = SplitLines(text);
  EXPECT_EQ(NearestLine(lines, "int Foo(int x) {\nreturn x;\n"), 2u);
  EXPECT_EQ(NearestLine(lines, "int Foo(int y) {"), 2u);
  EXPECT_EQ(NearestLine(lines, "\n    return x;"), 3u);
  EXPECT_EQ(NearestLine(lines, "something else entirely"), 0u);
  EXPECT_EQ(NearestLine(lines, " \n"), 0u);
  EXPECT_EQ(NearestLine({}, "a"), 0u);
}

}  // namespace
}  // namespace holdfast::tools
