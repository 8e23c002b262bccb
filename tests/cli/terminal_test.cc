#include "cli/terminal.h"

#include "gtest/gtest.h"

namespace holdfast::cli {
namespace {

TEST(Terminal, ControlCharactersAreLeftOut) {
  EXPECT_EQ(ForTerminal("a\033[2Jb\r\n\tc\x7f\xc2\x9b"
                        "d\xc3\xa9"),
            "a[2Jb\n\tcdé");
}

TEST(Terminal, OneLineIsCutBetweenCharactersAndSaysSo) {
  EXPECT_EQ(OneLine("one\ntwo\n"), "one two");
  EXPECT_EQ(OneLine("ééé", 3), "é ...");
  EXPECT_EQ(OneLine("abc", 3), "abc");
  EXPECT_EQ(OneLine("abcd", 3), "abc ...");
}

TEST(Terminal, NumbersAreGrouped) {
  EXPECT_EQ(GroupDigits(1234567), "1,234,567");
  EXPECT_EQ(GroupDigits(-123), "-123");
  EXPECT_EQ(HumanSeconds(3725), "1h2m");
}

}  // namespace
}  // namespace holdfast::cli
