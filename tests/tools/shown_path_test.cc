#include "tools/shown_path.h"

#include <gtest/gtest.h>

namespace holdfast::tools {
namespace {

TEST(ShownPathTest, IsOneLineOfValidText) {
  EXPECT_EQ(ShownPath("a b/ö.cc"), "a b/ö.cc");
  EXPECT_EQ(ShownPath("a\nb\t\"\\\xFF"), "\"a\\nb\\t\\\"\\\\\\377\"");
  EXPECT_EQ(ShownPath("\"x"), "\"\\\"x\"");
  EXPECT_EQ(ShownPath("a\\b"), "a\\b");
}

}  // namespace
}  // namespace holdfast::tools
