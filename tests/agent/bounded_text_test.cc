#include "agent/bounded_text.h"

#include <gtest/gtest.h>

#include <string>

namespace holdfast::agent {
namespace {

TEST(BoundedTextTest, WhatFitsIsUnchanged) {
  EXPECT_EQ(BoundedText("", 128), "");
  const std::string whole(128, 'x');
  EXPECT_EQ(BoundedText(whole, 128), whole);
}

TEST(BoundedTextTest, BeginningAndEndAreKeptAndTheRestIsCounted) {
  const std::string text = "begin" + std::string(1000, '.') + "end";
  const std::string bounded = BoundedText(text, 128);
  EXPECT_EQ(bounded, "begin" + std::string(27, '.') + "\n[... 944 bytes left out ...]\n" +
                         std::string(29, '.') + "end");
}

TEST(BoundedTextTest, BoundHoldsAndCharactersStayWhole) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "\xE2\x82\xAC";  // 3 bytes
  for (size_t bytes_max = 128; bytes_max < 200; ++bytes_max) {
    const std::string bounded = BoundedText(text, bytes_max);
    EXPECT_LE(bounded.size(), bytes_max);
    const size_t head = bounded.find('\n');
    const size_t tail = bounded.size() - bounded.rfind('\n') - 1;
    EXPECT_EQ(head % 3, 0u);
    EXPECT_EQ(tail % 3, 0u);
    EXPECT_NE(bounded.find(std::to_string(text.size() - head - tail) + " bytes"), std::string::npos);
  }
}

TEST(BoundedTextTest, BytesThatAreNoTextAreCutToo) {
  const std::string bounded = BoundedText(std::string(1000, '\x80'), 128);
  EXPECT_LE(bounded.size(), 128u);
}

TEST(BoundedTextTest, OneLineIsOneAndKeepsCharactersWhole) {
  EXPECT_EQ(OneLine("a\nb\x1B[1m", 100), "a b [1m");
  EXPECT_EQ(OneLine("abcdef", 6), "abcdef");
  EXPECT_EQ(OneLine("abcdefg", 6), "abc...");
  EXPECT_EQ(OneLine("\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC", 8), "\xE2\x82\xAC...");
  EXPECT_EQ(OneLine(std::string(9, '\x80'), 8), "...");
}

}  // namespace
}  // namespace holdfast::agent
