#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/chat.h"
#include "tests/model/text_testing.h"

namespace holdfast::model {
namespace {

constexpr char kEos[] = "<｜end▁of▁sentence｜>";
constexpr char kOpen[] = "\n\n<｜DSML｜tool_calls>\n";
constexpr char kClose[] = "</｜DSML｜invoke>\n</｜DSML｜tool_calls><｜end▁of▁sentence｜>";

std::string ParseIn(ThinkingMode mode, const std::string& text) {
  const auto message = ParseCompletionText(text, mode);
  return message.ok() ? message->Dump() : "error: " + base::Message(message.status());
}
std::string Parse(const std::string& text) { return ParseIn(ThinkingMode::kChat, text); }

// The calls of a chat completion as "name(arguments) ...".
std::string Calls(const std::string& text) {
  const auto message = ParseCompletionText(text, ThinkingMode::kChat);
  if (!message.ok()) return "error";
  std::string calls;
  for (const Json& call : message->Find("tool_calls")->items()) {
    const Json& function = *call.Find("function");
    calls += function.Find("name")->text() + "(" + function.Find("arguments")->text() + ")";
  }
  return calls;
}

TEST(StrictParserTest, GoldenCompletionsAreExact) {
  HF_SKIP_WITHOUT_GOLDEN();
  const std::vector<std::string> lines = ReadLines(*GoldenDir() + "/encoding/parse.jsonl");
  EXPECT_EQ(lines.size(), 260u);
  for (const std::string& line : lines) {
    const Json test_case = *Json::Parse(line);
    const bool thinking = test_case.Find("thinking_mode")->text() == "thinking";
    const auto message = ParseCompletionText(test_case.Find("text")->text(),
                                             thinking ? ThinkingMode::kThinking : ThinkingMode::kChat);
    EXPECT_EQ(message.ok(), test_case.Find("error") == nullptr) << line;
    if (message.ok() && test_case.Find("message") != nullptr) {
      EXPECT_EQ(message->Dump(), test_case.Find("message")->Dump());
    }
  }
}

TEST(StrictParserTest, ContentAndReasoning) {
  EXPECT_EQ(Parse(std::string(" hi\n") + kEos),
            R"({"role": "assistant", "content": " hi\n", "reasoning_content": "", "tool_calls": []})");
  EXPECT_EQ(ParseIn(ThinkingMode::kThinking, std::string("why</think>so") + kEos),
            R"({"role": "assistant", "content": "so", "reasoning_content": "why", "tool_calls": []})");
}

TEST(StrictParserTest, ParametersOfBothKinds) {
  EXPECT_EQ(Calls(std::string("x") + kOpen +
                  "<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" "
                  "string=\"true\">\"<\n</｜DSML｜parameter>\n"
                  "<｜DSML｜parameter name=\"b\" string=\"false\">[1,nonsense</｜DSML｜parameter>\n" +
                  kClose),
            "f({\"a\": \"\\\"<\\n\", \"b\": [1,nonsense})");
}

TEST(StrictParserTest, DollarMatchesBeforeAFinalNewline) {
  const std::string invoke = std::string(kOpen) + "<｜DSML｜invoke name=\"f\">\n";
  EXPECT_EQ(Calls(invoke + kClose), "f({})");
  EXPECT_EQ(Calls(invoke + "\n" + kClose), "f({})");
  EXPECT_EQ(Calls(invoke + "\n\n" + kClose), "error");
  const std::string value = invoke + "<｜DSML｜parameter name=\"a\" string=\"true\">v<";
  EXPECT_EQ(Calls(value + "\n/｜DSML｜parameter>\n" + kClose), "f({\"a\": \"v\"})");
  EXPECT_EQ(Calls(value + "\n\n/｜DSML｜parameter>\n" + kClose), "error");
  EXPECT_EQ(Calls(std::string(kOpen) + "<｜DSML｜invoke\u2003\n name=\"f\">\n" + kClose), "f({})");
}

TEST(StrictParserTest, TextCutAfterSyntaxParsesWithTheCallsSoFar) {
  const std::string start = "x\n\n<｜DSML｜tool_calls";
  const std::string invoke = start + ">\n<｜DSML｜invoke name=\"f\">\n";
  const std::string parameter =
      invoke + "<｜DSML｜parameter name=\"a\" string=\"true\">v</｜DSML｜parameter>\n";
  EXPECT_EQ(Calls(start), "");
  EXPECT_EQ(Calls(invoke), "f({})");
  EXPECT_EQ(Calls(parameter), "f({\"a\": \"v\"})");
  EXPECT_EQ(Calls(parameter + "</｜DSML｜invoke"), "f({\"a\": \"v\"})");
  EXPECT_EQ(Calls(start + ">"), "error");
  EXPECT_EQ(Calls(parameter + "</｜DSML｜invoke>"), "error");
}

TEST(StrictParserTest, RefusesWhatTheOfficialParserRefuses) {
  const std::string parameter = "<｜DSML｜parameter name=\"a\" string=\"true\">v</｜DSML｜parameter>\n";
  const std::string invoke = std::string(kOpen) + "<｜DSML｜invoke name=\"f\">\n";
  for (const std::string& text :
       std::vector<std::string>{"no end", "", std::string("a") + kEos + "b", std::string("a<think>b") + kEos,
                                std::string("a｜DSML｜b") + kEos, invoke + parameter + parameter + kClose,
                                invoke + parameter + kClose + "more", invoke + "text" + parameter + kClose,
                                std::string(kOpen) + "<｜DSML｜invoke nam=\"f\">\n" + kClose}) {
    EXPECT_THAT(Parse(text), testing::StartsWith("error")) << text;
  }
  EXPECT_THAT(ParseIn(ThinkingMode::kThinking, invoke + kClose), testing::StartsWith("error"));
}

}  // namespace
}  // namespace holdfast::model
