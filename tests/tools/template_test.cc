#include "tools/template.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Template Make(std::string text) { return *Template::Make(std::move(text)); }

TEST(TemplateTest, PlacesAreFilledOnce) {
  EXPECT_EQ(Make("{line}:{text}\n").Fill({{"line", "3"}, {"text", "{line} {text}"}}), "3:{line} {text}\n");
  EXPECT_EQ(Make("{a}{a}").Fill({{"a", "{b}"}}), "{b}{b}");
  EXPECT_EQ(Make("plain").Fill({}), "plain");
  EXPECT_EQ(Make("").Fill({}), "");
}

TEST(TemplateTest, OtherBracesAreText) {
  EXPECT_EQ(Make("{A} {} { {x y} {{a}").Fill({{"a", "1"}}), "{A} {} { {x y} {1");
  EXPECT_THAT(Make("{A} {} }{").names(), IsEmpty());
  EXPECT_THAT(Make("{a} {b_2} {a}").names(), ElementsAre("a", "b_2", "a"));
}

TEST(TemplateTest, TooLongIsRefused) {
  EXPECT_FALSE(Template::Make(std::string(Template::kBytesMax + 1, 'x')).ok());
}

TEST(TemplateDeathTest, ValuesAndPlacesMustAgree) {
  const Template made = Make("{a}");
  EXPECT_DEATH(made.Fill({}), "CHECK failed");
  EXPECT_DEATH(made.Fill({{"a", ""}, {"b", ""}}), "CHECK failed");
}

}  // namespace
}  // namespace holdfast::tools
