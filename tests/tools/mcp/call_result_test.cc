#include "tools/mcp/call_result.h"

#include <string>

#include "gmock/gmock.h"

namespace holdfast::tools::mcp {
namespace {

using ::testing::HasSubstr;

ToolResult Read(std::string_view json) { return ReadCallResult("s", Json::parse(json)); }

TEST(CallResultTest, TextsStandBelowOneAnotherMadeSafe) {
  const ToolResult result =
      Read(R"({"content":[{"type":"text","text":"a\n"},{"type":"text","text":"\u001b[31mb"}]})");
  EXPECT_EQ(result.status, ToolStatus::kOk);
  EXPECT_EQ(result.text, "a\nb");
}

TEST(CallResultTest, ErrorOfTheToolIsAFailureWithItsText) {
  const ToolResult result = Read(R"({"content":[{"type":"text","text":"no such city"}],"isError":true})");
  EXPECT_EQ(result.status, ToolStatus::kFailed);
  EXPECT_EQ(result.text, "no such city");
}

TEST(CallResultTest, WhatCannotBeShownIsNamed) {
  EXPECT_EQ(Read(R"({"content":[{"type":"image","mimeType":"image/png","data":"AAAAAA=="}]})").text,
            "[image, image/png, 4 bytes, not shown]");
  EXPECT_EQ(Read(R"({"content":[{"type":"audio","data":""}]})").text, "[audio, 0 bytes, not shown]");
  EXPECT_EQ(Read(R"({"content":[{"type":"resource","resource":{"uri":"file:///x","blob":"AAAA"}}]})").text,
            "[resource file:///x, 3 bytes, not shown]");
  EXPECT_EQ(Read(R"({"content":[{"type":"resource","resource":{"uri":"file:///x","text":"T"}}]})").text,
            "[resource file:///x]\nT");
  EXPECT_EQ(Read(R"({"content":[{"type":"resource_link","uri":"u","name":"n","description":"d\ne"}]})").text,
            "[link u n: d e]");
  EXPECT_EQ(Read(R"({"content":[{"type":"hologram"}]})").text,
            "[content of the unknown type `hologram`, not shown]");
  EXPECT_EQ(Read(R"({"content":[7]})").text, "[content of the unknown type ``, not shown]");
  EXPECT_EQ(Read(R"({"content":[]})").text, "[no content]");
}

TEST(CallResultTest, StructureIsShownUnlessATextSaysTheSame) {
  EXPECT_EQ(Read(R"({"structuredContent":{"b":1,"a":[2]}})").text, R"({"a":[2],"b":1})");
  EXPECT_EQ(Read(R"({"content":[{"type":"text","text":"{ \"a\": 1 }"}],"structuredContent":{"a":1}})").text,
            R"({ "a": 1 })");
  EXPECT_EQ(Read(R"({"content":[{"type":"text","text":"Found 1"}],"structuredContent":[1]})").text,
            "Found 1\n[1]");
  EXPECT_EQ(Read(R"({"content":[],"structuredContent":null})").text, "null");
}

TEST(CallResultTest, ResultTypesAreTakenSeriously) {
  EXPECT_EQ(Read(R"({"resultType":"complete","content":[]})").status, ToolStatus::kOk);
  for (const char* bad : {"7", "[]", "{}", R"({"content":{}})", R"({"resultType":"task","content":[]})",
                          R"({"resultType":7,"content":[]})", R"({"content":"x","structuredContent":1})"}) {
    const ToolResult result = Read(bad);
    EXPECT_EQ(result.status, ToolStatus::kFailed) << bad;
    EXPECT_THAT(result.text, HasSubstr("no result")) << bad;
  }
}

TEST(CallResultTest, WantedInputIsNamed) {
  const ToolResult result = Read(
      R"({"resultType":"input_required","inputRequests":{"a":{"method":"x"},"b":{"method":"w"},"c":{"method":"x"},"d":1}})");
  EXPECT_EQ(result.status, ToolStatus::kFailed);
  EXPECT_THAT(result.text, HasSubstr("w, x)"));
}

TEST(CallResultTest, StateAloneMayBeGivenBack) {
  const auto state = [](std::string_view json) { return RetryState(Json::parse(json)); };
  EXPECT_EQ(state(R"({"resultType":"input_required","requestState":"x"})"), "x");
  EXPECT_EQ(state(R"({"resultType":"input_required","requestState":"x","inputRequests":{}})"), "x");
  EXPECT_EQ(state(R"({"resultType":"input_required","requestState":"x","inputRequests":{"a":{}}})"),
            std::nullopt);
  EXPECT_EQ(state(R"({"resultType":"input_required"})"), std::nullopt);
  EXPECT_EQ(state(R"({"requestState":"x"})"), std::nullopt);
}

TEST(CallResultTest, NoAnswerIsUnknownOnlyWhenSomethingMayHaveHappened) {
  EXPECT_EQ(NoAnswer("s", "ended", Progress::kNotSent).status, ToolStatus::kUnavailable);
  EXPECT_EQ(NoAnswer("s", "ended", Progress::kHarmless).status, ToolStatus::kFailed);
  EXPECT_EQ(NoAnswer("s", "ended", Progress::kSent).status, ToolStatus::kUnknown);
  EXPECT_EQ(PastDeadline("s", Progress::kNotSent).status, ToolStatus::kTimeout);
  EXPECT_EQ(PastDeadline("s", Progress::kHarmless).status, ToolStatus::kTimeout);
  EXPECT_EQ(PastDeadline("s", Progress::kSent).status, ToolStatus::kUnknown);
  EXPECT_EQ(Cancelled("s", Progress::kNotSent).status, ToolStatus::kCancelled);
  EXPECT_EQ(Cancelled("s", Progress::kHarmless).status, ToolStatus::kCancelled);
  EXPECT_EQ(Cancelled("s", Progress::kSent).status, ToolStatus::kUnknown);
}

TEST(CallResultTest, LongNamesAndErrorsAreCut) {
  const std::string uri(10'000, 'u');
  EXPECT_LT(Read(R"({"content":[{"type":"resource_link","uri":")" + uri + R"("}]})").text.size(), 300u);
  const ToolResult error = ReadCallError("s", {.kind = Answer::Kind::kError, .code = 1, .message = uri});
  EXPECT_LT(error.text.size(), 4'200u);
}

TEST(CallResultTest, SecretsAreReplacedEverywhere) {
  std::string text = "secret1 and secret1secret2";
  Redact({{"A", "secret1"}, {"B", "secret2"}}, text);
  EXPECT_EQ(text, "\xC2\xABredacted:A\xC2\xBB and \xC2\xABredacted:A\xC2\xBB\xC2\xABredacted:B\xC2\xBB");
  std::string plain = "nothing here";
  Redact({{"A", "secret1"}}, plain);
  EXPECT_EQ(plain, "nothing here");
}

}  // namespace
}  // namespace holdfast::tools::mcp
