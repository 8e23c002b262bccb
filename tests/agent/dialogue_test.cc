#include "agent/dialogue.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/sampler.h"
#include "tests/model/text_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::agent {
namespace {

using model::Json;
using model::SmallTokenizer;
using model::ThinkingMode;

constexpr char kGrep[] =
    R"({"name": "grep", "description": "Find", "parameters": {"type": "object", "properties": )"
    R"({"pattern": {"type": "string"}}, "required": ["pattern"]}})";

std::unique_ptr<Dialogue> MakeDialogue(ThinkingMode mode, std::vector<std::string> tools = {kGrep}) {
  auto made =
      Dialogue::Make(SmallTokenizer(), {.mode = mode, .system = "Be brief.", .tools = std::move(tools)});
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

std::vector<int32_t> Ids(std::string_view text) {
  return *SmallTokenizer().Encode(text, model::AddedTokens::kMatch);
}

Json Message(std::string_view role, std::string_view content) {
  Json message = Json::Object();
  message.Set("role", Json::String(role));
  message.Set("content", Json::String(content));
  return message;
}

constexpr char kCallText[] =
    "Looking.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"grep\">\n<｜DSML｜parameter name=\"pattern\" "
    "string=\"true\">a b</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls><｜end▁of▁sentence｜>";

// Piece by piece gives the ids of the whole conversation rendered at once.
TEST(DialogueTest, PiecesAreTheWhole) {
  for (const ThinkingMode mode : {ThinkingMode::kChat, ThinkingMode::kThinking}) {
    const auto dialogue = MakeDialogue(mode);
    const bool thinks = mode == ThinkingMode::kThinking;
    const std::string reasoning = thinks ? "Hm." : "";
    const std::vector<int32_t> turn = Ids((thinks ? reasoning + "</think>" : "") + kCallText);
    const std::vector<Said> asked = {{.text = "Where is a?"}};
    const std::vector<Said> told = {{.kind = Said::Kind::kToolResult, .text = "a.c\n1:a b\n"},
                                    {.text = "And c?"}};
    std::vector<int32_t> pieces = *dialogue->First(asked);
    pieces.insert(pieces.end(), turn.begin(), turn.end());
    const std::vector<int32_t> next = *dialogue->Next(told);
    pieces.insert(pieces.end(), next.begin(), next.end());

    Json messages = Json::Array();
    Json system = Message("system", "Be brief.");
    Json tool = Json::Object();
    tool.Set("type", Json::String("function"));
    tool.Set("function", *Json::Parse(kGrep));
    Json tools = Json::Array();
    tools.Append(tool);
    system.Set("tools", tools);
    messages.Append(system);
    messages.Append(Message("user", "Where is a?"));
    Json assistant = Message("assistant", "Looking.");
    assistant.Set("reasoning_content", Json::String(reasoning));
    Json function = Json::Object();
    function.Set("name", Json::String("grep"));
    function.Set("arguments", Json::String(R"({"pattern": "a b"})"));
    Json call = Json::Object();
    call.Set("type", Json::String("function"));
    call.Set("function", function);
    Json calls = Json::Array();
    calls.Append(call);
    assistant.Set("tool_calls", calls);
    messages.Append(assistant);
    messages.Append(Message("tool", "a.c\n1:a b\n"));
    messages.Append(Message("user", "And c?"));
    const auto whole = model::RenderIds(
        messages, {.mode = mode, .version = model::ChatVersion::kV4_0731, .drop_thinking = false},
        SmallTokenizer());
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_EQ(pieces, *whole);
  }
}

TEST(DialogueTest, TurnSaysItsCalls) {
  const auto dialogue = MakeDialogue(ThinkingMode::kThinking);
  const std::vector<int32_t> ids = Ids(std::string("Hm.</think>") + kCallText);
  const Turn turn = dialogue->Read(ids);
  EXPECT_TRUE(turn.complete);
  EXPECT_FALSE(turn.malformed);
  EXPECT_EQ(turn.reasoning, "Hm.");
  EXPECT_EQ(turn.text, "Looking.");
  ASSERT_EQ(turn.calls.size(), 1u);
  EXPECT_EQ(turn.calls[0].tool, "grep");
  EXPECT_EQ(turn.calls[0].arguments, R"({"pattern": "a b"})");
  EXPECT_FALSE(dialogue->Read(std::span(ids).first(ids.size() - 1)).complete);
}

// Wherever a turn is interrupted, what is left of it and what is forced parse as a turn without calls.
TEST(DialogueTest, EveryPrefixOfATurnCanBeClosed) {
  for (const ThinkingMode mode : {ThinkingMode::kChat, ThinkingMode::kThinking}) {
    const auto dialogue = MakeDialogue(mode);
    const std::vector<int32_t> ids =
        Ids((mode == ThinkingMode::kThinking ? std::string("Hm.</think>") : std::string()) + kCallText);
    for (size_t size = 0; size < ids.size(); ++size) {
      const auto begun = std::span(ids).first(size);
      const Closing closing = dialogue->Close(begun);
      ASSERT_LE(closing.cut, static_cast<int64_t>(size));
      std::vector<int32_t> closed(begun.begin(), begun.end() - closing.cut);
      closed.insert(closed.end(), closing.forced.begin(), closing.forced.end());
      const Turn turn = dialogue->Read(closed);
      EXPECT_TRUE(turn.complete) << "of " << size;
      EXPECT_FALSE(turn.malformed);
      EXPECT_TRUE(turn.calls.empty());
    }
    EXPECT_TRUE(dialogue->Close(ids).forced.empty());
  }
}

// Random turns under the grammar, left anywhere and taken up again, end complete and parse.
TEST(DialogueTest, ConstraintGoesOnWhereATurnStopped) {
  const auto dialogue = MakeDialogue(ThinkingMode::kChat);
  for (const uint64_t seed : test::TestSeeds(20)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::vector<int32_t> ids;
    auto constraint = dialogue->Constrain(ids);
    while (!constraint->IsDone() && ids.size() < 3000) {
      std::vector<int32_t> permitted;
      for (int32_t id = 0; id < SmallTokenizer().vocab_size(); ++id) {
        if (constraint->Mask()->Has(id)) permitted.push_back(id);
      }
      ASSERT_FALSE(permitted.empty());
      // Control tokens first, or the text would never end.
      const int32_t id = random.Percent(20) ? permitted.front() : permitted[random.Below(permitted.size())];
      ASSERT_TRUE(constraint->Accept(id).ok());
      ids.push_back(id);
      if (random.Percent(5)) constraint = dialogue->Constrain(ids);
    }
    if (!constraint->IsDone()) continue;
    const Turn turn = dialogue->Read(ids);
    EXPECT_TRUE(turn.complete);
    EXPECT_FALSE(turn.malformed);
    for (const AskedCall& call : turn.calls) EXPECT_EQ(call.tool, "grep");
  }
}

TEST(DialogueTest, ToolsThatAreNoneAreRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(Dialogue::Make(SmallTokenizer(), {.tools = {"{"}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Dialogue::Make(SmallTokenizer(), {.tools = {"{}"}}).status()));
}

}  // namespace
}  // namespace holdfast::agent
