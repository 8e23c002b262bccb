#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/chat_stream.h"
#include "tests/model/text_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::model {
namespace {

using testing::HasSubstr;
using Kind = ChatEvent::Kind;

struct Outcome {
  std::vector<ChatEvent> events;
  Json message;
  bool complete = false;
  bool malformed = false;
  size_t before_block = 0;
};

Outcome ParseIds(const Tokenizer& tokenizer, ThinkingMode mode, const std::vector<int32_t>& ids) {
  auto parser = ChatStreamParser::Make(tokenizer, mode);
  EXPECT_TRUE(parser.ok()) << parser.status();
  Outcome outcome;
  for (const int32_t id : ids) (*parser)->Feed(id, &outcome.events);
  outcome.message = (*parser)->Message();
  outcome.complete = (*parser)->IsComplete();
  outcome.malformed = (*parser)->IsMalformed();
  outcome.before_block = (*parser)->TokensBeforeBlock();
  return outcome;
}

std::vector<int32_t> Ids(const Tokenizer& tokenizer, const std::string& text) {
  return *tokenizer.Encode(text, AddedTokens::kMatch);
}

Outcome ParseText(const std::string& text, ThinkingMode mode = ThinkingMode::kChat) {
  return ParseIds(SmallTokenizer(), mode, Ids(SmallTokenizer(), text));
}

// The ids of a text with its tokens cut at random: control tokens whole, all else in any tokens that spell
// it.
std::vector<int32_t> RandomCuts(const Tokenizer& tokenizer, const std::string& text,
                                test::SeededRandom* rng) {
  std::vector<int32_t> ids;
  for (const int32_t id : Ids(tokenizer, text)) {
    const std::string_view bytes = tokenizer.Bytes(id);
    if (tokenizer.IsAdded(id) || rng->Below(2) == 0) {
      ids.push_back(id);
      continue;
    }
    for (const char byte : bytes) ids.push_back(*tokenizer.FindOrdinary(std::string(1, byte)));
  }
  return ids;
}

// Neighbouring texts of one kind joined, so that only what is said counts, not in how many pieces.
std::vector<ChatEvent> Joined(const std::vector<ChatEvent>& events) {
  std::vector<ChatEvent> joined;
  for (const ChatEvent& event : events) {
    const bool is_text =
        event.kind == Kind::kReasoning || event.kind == Kind::kText || event.kind == Kind::kValue;
    if (is_text && !joined.empty() && joined.back().kind == event.kind) {
      joined.back().text += event.text;
    } else {
      joined.push_back(event);
    }
  }
  return joined;
}

std::string Brief(const std::vector<ChatEvent>& events) {
  static constexpr const char* kNames[] = {"R", "T", "CALL", "P", "V", "/P", "/CALL", "END", "BAD"};
  std::string brief;
  for (const ChatEvent& event : events) {
    brief += std::string(brief.empty() ? "" : " ") + kNames[static_cast<int>(event.kind)];
    if (!event.text.empty()) brief += ":" + event.text;
  }
  return brief;
}

constexpr char kCallText[] =
    "ok\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"read\">\n"
    "<｜DSML｜parameter name=\"path\" string=\"true\">a</b</｜DSML｜parameter>\n"
    "<｜DSML｜parameter name=\"n\" string=\"false\">[1, 2]</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
    "<｜DSML｜invoke name=\"now\">\n\n</｜DSML｜invoke>\n</｜DSML｜tool_calls><｜end▁of▁sentence｜>";

TEST(StreamParserTest, EmitsReasoningTextAndCalls) {
  const Outcome outcome = ParseText(std::string("why</think>") + kCallText, ThinkingMode::kThinking);
  EXPECT_EQ(Brief(Joined(outcome.events)),
            "R:why T:ok CALL:read P:path V:a</b /P P:n V:[1, 2] /P /CALL CALL:now /CALL END");
  EXPECT_TRUE(outcome.complete);
  EXPECT_EQ(outcome.message.Find("tool_calls")->items().size(), 2u);
  EXPECT_EQ(outcome.message.Find("content")->text(), "ok");
}

TEST(StreamParserTest, TheSameHoweverTheTextIsCut) {
  for (const uint64_t seed : test::TestSeeds(50)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom rng(seed);
    const Outcome whole = ParseText(kCallText);
    const Outcome cut =
        ParseIds(SmallTokenizer(), ThinkingMode::kChat, RandomCuts(SmallTokenizer(), kCallText, &rng));
    EXPECT_EQ(Joined(cut.events), Joined(whole.events));
    EXPECT_EQ(cut.message.Dump(), whole.message.Dump());
  }
}

TEST(StreamParserTest, TextBeforeATagIsHeldBackAndNeverShown) {
  auto parser = ChatStreamParser::Make(SmallTokenizer(), ThinkingMode::kChat);
  std::vector<ChatEvent> events;
  const auto feed = [&](const std::string& text) {
    events.clear();
    for (const char byte : text)
      (*parser)->Feed(*SmallTokenizer().FindOrdinary(std::string(1, byte)), &events);
    return Brief(Joined(events));
  };
  EXPECT_EQ(feed("a\n"), "T:a");
  EXPECT_EQ(feed("\n"), "");
  EXPECT_EQ(feed("\n"), "T:\n");
  EXPECT_EQ(feed("<"), "");
  EXPECT_EQ(feed("b"), "T:\n\n<b");
  EXPECT_EQ(feed("\xE4\xBD"), "");
  EXPECT_EQ(feed("\xA0"), "T:你");
}

TEST(StreamParserTest, MarkupSpelledByOrdinaryTokensIsText) {
  const std::string text = std::string("x") + kCallText + "</think>";
  const auto ids = *SmallTokenizer().Encode(text, AddedTokens::kPlain);
  const Outcome outcome = ParseIds(SmallTokenizer(), ThinkingMode::kChat, ids);
  EXPECT_EQ(outcome.message.Find("content")->text(), text);
  EXPECT_FALSE(outcome.malformed);
}

TEST(StreamParserTest, OtherEndTagsInAValueAreContent) {
  const std::string head =
      "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" string=\"true\">";
  const std::string tail =
      "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls><｜end▁of▁sentence｜>";
  for (const std::string value : {"</｜DSML｜invoke>", "</｜DSML｜para", "</｜DSML｜｜DSML｜",
                                  "<｜DSML｜parameter", "<think>", "</｜DSML｜</", "<", "</", "\n\n<"}) {
    const Outcome outcome = ParseText(head + value + tail);
    ASSERT_EQ(Joined(outcome.events).size(), 6u) << value << ": " << Brief(outcome.events);
    EXPECT_EQ(Joined(outcome.events)[2].text, value);
  }
}

TEST(StreamParserTest, MalformedTurnsSayWhyAndGiveNoCall) {
  const std::string open = "t\n\n<｜DSML｜tool_calls>\n";
  const std::string invoke = open + "<｜DSML｜invoke name=\"f\">\n";
  const std::string parameter = "<｜DSML｜parameter name=\"a\" string=\"true\">v</｜DSML｜parameter>\n";
  for (const std::string& text : std::vector<std::string>{
           "a｜DSML｜", "a<think>", "a<｜User｜>", "a</think>", "\n\n<｜DSML｜calls>", open + "x",
           invoke + "x", invoke + parameter + parameter, invoke + parameter + "<｜end▁of▁sentence｜>",
           invoke + "<｜DSML｜parameter name=\"a\" string=\"maybe\">",
           invoke + "<｜DSML｜parameter name=\"a\" string=\"true\">v<｜end▁of▁sentence｜>",
           "x<｜end▁of▁sentence｜>y"}) {
    const Outcome outcome = ParseText(text);
    EXPECT_TRUE(outcome.malformed) << text;
    EXPECT_FALSE(outcome.complete);
    EXPECT_EQ(outcome.events.back().kind, Kind::kMalformed);
    EXPECT_TRUE(outcome.message.Find("tool_calls")->items().empty()) << text;
  }
  EXPECT_TRUE(ParseText("\n\n<｜DSML｜tool_calls>", ThinkingMode::kThinking).malformed);
  EXPECT_TRUE(ParseIds(SmallTokenizer(), ThinkingMode::kChat, {-5}).malformed);
}

TEST(StreamParserTest, AnUnfinishedBlockIsCutAwayWhole) {
  const std::string text = "the answer\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n";
  const auto ids = Ids(SmallTokenizer(), text);
  const Outcome outcome = ParseIds(SmallTokenizer(), ThinkingMode::kChat, ids);
  EXPECT_FALSE(outcome.complete);
  ASSERT_LT(outcome.before_block, ids.size());
  const std::vector<int32_t> kept(ids.begin(),
                                  ids.begin() + static_cast<std::ptrdiff_t>(outcome.before_block));
  EXPECT_THAT(*SmallTokenizer().Decode(kept), testing::StartsWith("the answer"));
  EXPECT_THAT(*SmallTokenizer().Decode(kept), testing::Not(HasSubstr("<")));
  EXPECT_EQ(ParseText("no block").before_block, Ids(SmallTokenizer(), "no block").size());
}

TEST(StreamParserTest, InvalidUtf8BecomesReplacementCharacters) {
  const Outcome outcome = ParseText("a\xFF\xE4\xBD<｜end▁of▁sentence｜>");
  EXPECT_EQ(Brief(Joined(outcome.events)), "T:a\uFFFD\uFFFD END");
}

// Renders a message with one `write` call of this content, parses it back, and renders that again.
void ExpectSurvives(const Tokenizer& tokenizer, const std::string& content) {
  Json arguments = Json::Object();
  arguments.Set("path", Json::String("a.md"));
  arguments.Set("content", Json::String(content));
  Json function = Json::Object();
  function.Set("name", Json::String("write"));
  function.Set("arguments", Json::String(arguments.Dump()));
  Json call = Json::Object();
  call.Set("type", Json::String("function"));
  call.Set("function", function);
  Json calls = Json::Array();
  calls.Append(call);
  Json message = Json::Object();
  message.Set("role", Json::String("assistant"));
  message.Set("content", Json::String("writing"));
  message.Set("reasoning_content", Json::String(""));
  message.Set("tool_calls", calls);
  Json messages = Json::Array();
  messages.Append(message);
  const RenderOptions options = {.add_bos = false};
  const auto ids = RenderIds(messages, options, tokenizer);
  ASSERT_TRUE(ids.ok()) << ids.status();

  const Outcome outcome = ParseIds(tokenizer, ThinkingMode::kChat, *ids);
  EXPECT_EQ(outcome.message.Dump(), message.Dump());
  Json again = Json::Array();
  again.Append(outcome.message);
  EXPECT_EQ(*RenderIds(again, options, tokenizer), *ids);
  EXPECT_EQ(*RenderText(again, options), *RenderText(messages, options));
}

TEST(StreamParserTest, AWrittenFileFullOfMarkupSurvives) {
  ExpectSurvives(SmallTokenizer(), std::string(kCallText) + "</｜DSML｜parameter>\n" + kCallText + "\n\n<");
  HF_SKIP_WITHOUT_GOLDEN();
  ExpectSurvives(*GoldenTokenizer(), ReadWhole(*GoldenDir() + "/../spec/chat-format.md"));
}

TEST(StreamParserTest, GoldenCompletionsParseAsTheOfficialParserDoes) {
  HF_SKIP_WITHOUT_GOLDEN();
  const Tokenizer& tokenizer = *GoldenTokenizer();
  test::SeededRandom rng(1);
  for (const std::string& line : ReadLines(*GoldenDir() + "/encoding/parse.jsonl")) {
    const Json test_case = *Json::Parse(line);
    const bool thinking = test_case.Find("thinking_mode")->text() == "thinking";
    const ThinkingMode mode = thinking ? ThinkingMode::kThinking : ThinkingMode::kChat;
    const std::string& text = test_case.Find("text")->text();
    const Json* message = test_case.Find("message");
    const Outcome whole = ParseIds(tokenizer, mode, Ids(tokenizer, text));
    EXPECT_EQ(whole.complete, message != nullptr) << line << "\n" << Brief(whole.events);
    if (message != nullptr) {
      EXPECT_EQ(whole.message.Dump(), message->Dump());
    }
    for (int cut = 0; cut < 3; ++cut) {
      const Outcome other = ParseIds(tokenizer, mode, RandomCuts(tokenizer, text, &rng));
      EXPECT_EQ(Joined(other.events), Joined(whole.events)) << line;
    }
  }
}

TEST(StreamParserTest, MissingControlTokenIsNamed) {
  const auto bare = Tokenizer::FromJson(MakeTokenizerJson({}, {}));
  const auto parser = ChatStreamParser::Make(**bare, ThinkingMode::kChat);
  EXPECT_THAT(base::Message(parser.status()), HasSubstr("no control token '｜DSML｜'"));
}

}  // namespace
}  // namespace holdfast::model
