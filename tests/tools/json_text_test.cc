#include "tools/text/json_text.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace holdfast::tools {
namespace {

using ::testing::HasSubstr;

std::string Canonical(std::string_view text) {
  const auto value = ParseJson(text, 1000, 8);
  return value.ok() ? CanonicalJson(*value) : "! " + std::string(value.status().message());
}

TEST(JsonTextTest, OneValueHasOneText) {
  EXPECT_EQ(Canonical(R"( {"b": 1, "a": [true, null, 1.50, "ä\u00e4\n"]} )"),
            "{\"a\":[true,null,1.5,\"ää\\n\"],\"b\":1}");
  EXPECT_EQ(Canonical(R"({"a": 1, "a": 2})"), R"({"a":2})");
  EXPECT_EQ(Canonical("-0.0"), "-0.0");
}

TEST(JsonTextTest, WhatIsNoJsonSaysWhere) {
  EXPECT_THAT(Canonical("{\"a\" 1}"), HasSubstr("byte 6"));
  EXPECT_THAT(Canonical("\"\xff\""), HasSubstr("not JSON"));
  EXPECT_THAT(Canonical("1e999"), HasSubstr("! "));
  EXPECT_THAT(Canonical("NaN"), HasSubstr("not JSON"));
  EXPECT_THAT(Canonical(""), HasSubstr("not JSON"));
  EXPECT_THAT(Canonical("\"" + std::string(1000, 'a') + "\""), HasSubstr("at most 1000"));
}

TEST(JsonTextTest, DepthIsKnownBeforeItHurts) {
  EXPECT_EQ(Canonical("[[[[[[[[]]]]]]]]"), "[[[[[[[[]]]]]]]]");
  EXPECT_THAT(Canonical("[[[[[[[[[]]]]]]]]]"), HasSubstr("deep"));
  EXPECT_EQ(Canonical(R"("[[[[[[[[[\"[[[[")"), R"("[[[[[[[[[\"[[[[")");
  EXPECT_THAT(Canonical(std::string(900, '[')), HasSubstr("deep"));
}

}  // namespace
}  // namespace holdfast::tools
