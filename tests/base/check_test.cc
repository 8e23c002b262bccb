#include "base/check.h"

#include "gtest/gtest.h"

namespace holdfast::base {
namespace {

TEST(CheckTest, EvaluatesItsConditionOnce) {
  int evaluations = 0;
  HF_CHECK(++evaluations == 1);
  EXPECT_EQ(evaluations, 1);
}

TEST(CheckDeathTest, NamesPlaceAndCondition) {
  EXPECT_DEATH(HF_CHECK(1 + 1 == 3), "check_test.cc:[0-9]+: CHECK failed: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace holdfast::base
