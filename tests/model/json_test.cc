#include "model/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace holdfast::model {
namespace {

using testing::HasSubstr;

std::string Again(std::string_view text) {
  const auto parsed = Json::Parse(text);
  return parsed.ok() ? parsed->Dump() : "error";
}

// Expected values are those of Python 3.11: json.dumps(json.loads(text), ensure_ascii=False).
TEST(JsonTest, ReadsAndPrintsAsPythonDoes) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"[1,2 ,3]", "[1, 2, 3]"},
      {"{\"b\":1,\"a\":[],\"b\":{}}", "{\"b\": {}, \"a\": []}"},
      {"123456789012345678901234567890", "123456789012345678901234567890"},
      {"-0", "0"},
      {"-0.0", "-0.0"},
      {"1.0", "1.0"},
      {"1e5", "100000.0"},
      {"1E-5", "1e-05"},
      {"0.0001", "0.0001"},
      {"0.00001", "1e-05"},
      {"1e16", "1e+16"},
      {"1234567890123456.7", "1234567890123456.8"},
      {"9999999999999998.0", "9999999999999998.0"},
      {"1e21", "1e+21"},
      {"1e100", "1e+100"},
      {"0.1", "0.1"},
      {"3.141592653589793", "3.141592653589793"},
      {"-2.5", "-2.5"},
      {"1e400", "Infinity"},
      {"-1e400", "-Infinity"},
      {"1e-400", "0.0"},
      {"5e-324", "5e-324"},
      {"NaN", "NaN"},
      {"[Infinity, -Infinity]", "[Infinity, -Infinity]"},
      {" \t\r\n true ", "true"},
      {R"("\u00e9\u4f60\ud83d\ude42\/")", "\"é你🙂/\""},
      {R"("\u0000\u001f\u007f\b\f\n\r\t\"\\")", "\"\\u0000\\u001f\x7f\\b\\f\\n\\r\\t\\\"\\\\\""},
      {"\"\u2028\"", "\"\u2028\""},
      {R"({"": null})", R"({"": null})"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(Again(text), expected) << text;
}

TEST(JsonTest, HalfASurrogatePairIsAReplacementCharacter) {
  EXPECT_EQ(Again(R"("a\ud83dz")"), "\"a\uFFFDz\"");
  EXPECT_EQ(Again(R"("\ud83d\u0041")"), "\"\uFFFDA\"");
}

TEST(JsonTest, RefusesWhatIsNotJson) {
  for (const char* text :
       {"",        " ",         "{",           "[1,]",      "{\"a\":1,}", "{a:1}", "01",
        "1.",      ".5",        "1e",          "+1",        "-",          "nul",   "\"\n\"",
        "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"",        "1 2",        "\xff",  "\"\xc0\xaf\"",
        "'a'",     "tru",       "[1 2]",       "{\"a\" 1}", "-NaN"}) {
    EXPECT_EQ(Again(text), "error") << text;
  }
}

TEST(JsonTest, ErrorsNameTheByte) {
  EXPECT_THAT(base::Message(Json::Parse("[1, x]").status()), HasSubstr("at byte 4"));
}

TEST(JsonTest, DepthIsBounded) {
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']');
  };
  EXPECT_TRUE(Json::Parse(nested(Json::kMaxDepth)).ok());
  EXPECT_THAT(base::Message(Json::Parse(nested(Json::kMaxDepth + 1)).status()), HasSubstr("too deeply"));
  EXPECT_FALSE(Json::Parse(std::string(1 << 20, '[')).ok());
}

TEST(JsonTest, TruthinessIsPythons) {
  for (const char* text : {"null", "false", "0", "0.0", "\"\"", "[]", "{}"}) {
    EXPECT_FALSE(Json::Parse(text)->Truthy()) << text;
  }
  for (const char* text : {"true", "1", "-0.5", "\"0\"", "[0]", "{\"a\": null}"}) {
    EXPECT_TRUE(Json::Parse(text)->Truthy()) << text;
  }
}

TEST(JsonTest, SetKeepsThePlaceOfAMember) {
  Json object = Json::Object();
  object.Set("a", Json::Int(-5));
  object.Set("b", Json::Float(2));
  object.Set("a", Json::Bool(true));
  EXPECT_EQ(object.Dump(), R"({"a": true, "b": 2.0})");
}

}  // namespace
}  // namespace holdfast::model
