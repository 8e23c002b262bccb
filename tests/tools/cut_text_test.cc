#include "tools/text/cut_text.h"

#include <algorithm>
#include <string>

#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"
#include "tools/text/utf8.h"

namespace holdfast::tools {
namespace {

TEST(CutTextTest, WhatFitsStaysWhole) {
  const TextCut cut = CutText("abc", 3);
  EXPECT_EQ(cut.head, "abc");
  EXPECT_EQ(cut.omitted_bytes, 0u);
}

TEST(CutTextTest, RandomTextsAreCutAtCharactersAndCounted) {
  for (const uint64_t seed : test::TestSeeds(500)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::string text;
    const char* const parts[] = {"a", "\n", "ä", "€", "😀"};
    for (uint64_t i = random.Below(100); i > 0; --i) text += parts[random.Below(5)];
    const size_t bytes_max = random.Below(120);
    const TextCut cut = CutText(text, bytes_max);
    if (text.size() <= bytes_max) {
      EXPECT_EQ(cut.head, text);
      continue;
    }
    EXPECT_LE(cut.head.size() + cut.tail.size(), bytes_max);
    EXPECT_TRUE(text.starts_with(cut.head) && text.ends_with(cut.tail));
    EXPECT_TRUE(IsUtf8(cut.head) && IsUtf8(cut.tail));
    const std::string omitted = text.substr(cut.head.size(), text.size() - cut.head.size() - cut.tail.size());
    EXPECT_EQ(cut.omitted_bytes, omitted.size());
    EXPECT_EQ(cut.omitted_lines, static_cast<uint64_t>(std::count(omitted.begin(), omitted.end(), '\n')));
  }
}

}  // namespace
}  // namespace holdfast::tools
