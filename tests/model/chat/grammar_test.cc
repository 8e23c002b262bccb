#include "model/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "model/chat_stream.h"
#include "model/sampler.h"
#include "tests/model/text_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::model {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr char kTools[] = R"([
  {"type": "function", "function": {"name": "read", "parameters": {"type": "object", "properties": {
    "path": {"type": "string"}, "limit": {"type": "integer"}}, "required": ["path"]}}},
  {"type": "function", "function": {"name": "ready", "parameters": {"type": "object", "properties": {}}}},
  {"type": "function", "function": {"name": "set", "parameters": {"type": "object", "properties": {
    "unit": {"type": "string", "enum": ["celsius", "cel", "kelvin"]},
    "level": {"enum": [1, 12, "auto", null, [1, 2]]},
    "ratio": {"type": "number"}, "on": {"type": ["boolean", "string"]}}, "required": ["unit", "on"]}}},
  {"type": "function", "function": {"name": "deep", "parameters": {"type": "object",
    "$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "key": {"type": "integer"}},
                       "required": ["key"]}},
    "properties": {
      "edits": {"type": "array", "items": {"type": "object", "properties": {
        "old": {"type": "string"}, "new \"x\"": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "count": {"type": "integer"}}, "required": ["old", "new \"x\""]}},
      "tree": {"$ref": "#/$defs/tree"},
      "env": {"type": "object", "additionalProperties": {"type": "string"}},
      "any": {}}}}}
])";

std::unique_ptr<GrammarVocabulary> VocabularyOf(const Tokenizer& tokenizer) {
  auto made = GrammarVocabulary::Make(tokenizer);
  EXPECT_TRUE(made.ok()) << made.status();
  return std::move(*made);
}

const GrammarVocabulary& SmallVocabulary() {
  static const auto vocabulary = VocabularyOf(SmallTokenizer());
  return *vocabulary;
}

std::unique_ptr<Grammar> MakeGrammar(const GrammarVocabulary& vocabulary, const std::string& tools) {
  auto made = Grammar::Make(vocabulary, *Json::Parse(tools));
  EXPECT_TRUE(made.ok()) << made.status();
  return std::move(*made);
}

std::string ErrorOf(const std::string& tools) {
  return base::Message(Grammar::Make(SmallVocabulary(), *Json::Parse(tools)).status());
}

// The tokens permitted after `text` in chat mode, or what refused it.
std::set<std::string> PermittedAfter(Grammar& grammar, const std::string& text,
                                     ThinkingMode mode = ThinkingMode::kChat) {
  GrammarTurn turn(grammar, mode);
  const auto ids = SmallTokenizer().Encode(text, AddedTokens::kMatch);
  for (const int32_t id : *ids) {
    const base::Status status = turn.Accept(id);
    if (!status.ok()) return {base::Message(status)};
  }
  std::set<std::string> permitted;
  for (int32_t id = 0; id < SmallTokenizer().vocab_size(); ++id) {
    if (turn.Mask().Has(id)) permitted.emplace(SmallTokenizer().Bytes(id));
  }
  return permitted;
}

constexpr char kOpen[] = "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"";

TEST(GrammarTest, ContentPermitsTextAndTheEndAndATagOnlyAfterItsPrefix) {
  const auto grammar = MakeGrammar(SmallVocabulary(), kTools);
  const auto text = PermittedAfter(*grammar, "hi\n\n");
  EXPECT_THAT(text, Contains("the "));
  EXPECT_THAT(text, Contains("<｜end▁of▁sentence｜>"));
  for (const char* control : {"｜DSML｜", "<think>", "</think>", "<｜User｜>", "<｜begin▁of▁sentence｜>"}) {
    EXPECT_THAT(text, Not(Contains(control)));
  }
  EXPECT_THAT(PermittedAfter(*grammar, "hi\n\n<"), Contains("｜DSML｜"));
  EXPECT_THAT(PermittedAfter(*grammar, "hi\n<"), Not(Contains("｜DSML｜")));
  EXPECT_THAT(PermittedAfter(*MakeGrammar(SmallVocabulary(), "[]"), "hi\n\n<"), Not(Contains("｜DSML｜")));
}

TEST(GrammarTest, ReasoningEndsBeforeAnythingElse) {
  const auto grammar = MakeGrammar(SmallVocabulary(), kTools);
  const auto permitted = PermittedAfter(*grammar, "hm\n\n<", ThinkingMode::kThinking);
  EXPECT_THAT(permitted, Contains("</think>"));
  EXPECT_THAT(permitted, Not(Contains("｜DSML｜")));
  EXPECT_THAT(permitted, Not(Contains("<｜end▁of▁sentence｜>")));
  EXPECT_THAT(PermittedAfter(*grammar, "hm</think>", ThinkingMode::kThinking),
              Contains("<｜end▁of▁sentence｜>"));
}

TEST(GrammarTest, TextStaysValidUtf8) {
  const auto grammar = MakeGrammar(SmallVocabulary(), kTools);
  const auto within = PermittedAfter(*grammar, "\xE4");
  EXPECT_EQ(within.size(), 64u);  // the continuation bytes
  EXPECT_THAT(PermittedAfter(*grammar, "a"), Not(Contains("\xFF")));
}

TEST(GrammarTest, MarkupIsForced) {
  const auto grammar = MakeGrammar(SmallVocabulary(), kTools);
  for (const std::string& token : PermittedAfter(*grammar, "\n\n<｜DSML｜")) {
    EXPECT_THAT("tool_calls>\n<", StartsWith(token));
  }
  EXPECT_THAT(PermittedAfter(*grammar, "\n\n<｜DSML｜tool_calls>\n<"), testing::ElementsAre("｜DSML｜"));
}

TEST(GrammarTest, ToolNamesComeFromTheTools) {
  const auto grammar = MakeGrammar(SmallVocabulary(), kTools);
  EXPECT_THAT(PermittedAfter(*grammar, kOpen), testing::ElementsAre("d", "r", "re", "rea", "read", "s"));
  EXPECT_THAT(PermittedAfter(*grammar, std::string(kOpen) + "read"),
              testing::ElementsAre("\"", "\">", "\">\n", "\">\n<", "y"));
  // `ready` has no parameters: what spans into one is masked, what spans into the end is not.
  EXPECT_THAT(PermittedAfter(*grammar, std::string(kOpen) + "ready"),
              testing::ElementsAre("\"", "\">", "\">\n", "\">\n\n", "\">\n\n<", "\">\n\n</"));
}

TEST(GrammarTest, UnknownDuplicateAndMissingParametersAreMasked) {
  const auto grammar = MakeGrammar(SmallVocabulary(), kTools);
  const std::string read = std::string(kOpen) + "read\">\n";
  EXPECT_THAT(PermittedAfter(*grammar, read), testing::ElementsAre("<"));  // path is required
  EXPECT_THAT(PermittedAfter(*grammar, read + "<"), testing::ElementsAre("｜DSML｜"));
  const std::string name = read + "<｜DSML｜parameter name=\"";
  EXPECT_THAT(PermittedAfter(*grammar, name), testing::ElementsAre("l", "p", "pa", "pat", "path"));
  const std::string limit = name + "limit\" string=\"false\">12</｜DSML｜parameter>\n";
  EXPECT_THAT(PermittedAfter(*grammar, limit + "<"), testing::ElementsAre("｜DSML｜"));
  EXPECT_THAT(PermittedAfter(*grammar, limit + "<｜DSML｜parameter name=\""),
              testing::ElementsAre("p", "pa", "pat", "path"));
  const std::string path = name + "path\" string=\"true\">a</｜DSML｜parameter>\n";
  EXPECT_THAT(PermittedAfter(*grammar, path + "<"), testing::ElementsAre("/", "｜DSML｜"));
  EXPECT_THAT(PermittedAfter(*grammar, path + "<｜DSML｜parameter name=\""), testing::ElementsAre("l"));
}

TEST(GrammarTest, ValuesFollowTheirSchema) {
  const auto grammar = MakeGrammar(SmallVocabulary(), kTools);
  const std::string set = std::string(kOpen) + "set\">\n<｜DSML｜parameter name=\"";
  EXPECT_THAT(PermittedAfter(*grammar, set + "unit\" string=\""), Not(Contains("f")));
  EXPECT_THAT(PermittedAfter(*grammar, set + "unit\" string=\"true\">cel"),
              testing::ElementsAre("<", "</", "s"));
  EXPECT_THAT(PermittedAfter(*grammar, set + "level\" string=\"false\">"),
              testing::ElementsAre("1", "12", "[", "n", "nu", "nul", "null"));
  EXPECT_THAT(PermittedAfter(*grammar, set + "level\" string=\"false\">1"),
              testing::ElementsAre("2", "<", "</"));
  EXPECT_THAT(PermittedAfter(*grammar, set + "level\" string=\"true\">"), testing::ElementsAre("a"));
  EXPECT_THAT(PermittedAfter(*grammar, set + "on\" string=\"false\">t"), testing::ElementsAre("r"));
  EXPECT_THAT(PermittedAfter(*grammar, set + "ratio\" string=\"false\">-0"), testing::ElementsAre("."));
  EXPECT_THAT(PermittedAfter(*grammar, std::string(kOpen) +
                                           "read\">\n<｜DSML｜parameter name=\"limit\" string=\"false\">1"),
              Not(Contains(".")));
}

TEST(GrammarTest, AValueEndsOnlyAfterItsEndTagBegins) {
  const auto grammar = MakeGrammar(SmallVocabulary(), kTools);
  const std::string value = std::string(kOpen) + "read\">\n<｜DSML｜parameter name=\"path\" string=\"true\">";
  EXPECT_THAT(PermittedAfter(*grammar, value + "a"), Not(Contains("｜DSML｜")));
  EXPECT_THAT(PermittedAfter(*grammar, value + "a<"), Not(Contains("｜DSML｜")));
  EXPECT_THAT(PermittedAfter(*grammar, value + "a</"), Contains("｜DSML｜"));
  EXPECT_THAT(PermittedAfter(*grammar, value + "a</b"), Not(Contains("｜DSML｜")));
  EXPECT_THAT(PermittedAfter(*grammar, value + "\n\n<"), Not(Contains("｜DSML｜")));
  EXPECT_THAT(
      PermittedAfter(*grammar, value + "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>"),
      testing::ElementsAre("<｜end▁of▁sentence｜>"));
}

TEST(GrammarTest, NestedObjectsFollowTheirSchema) {
  const auto grammar = MakeGrammar(SmallVocabulary(), kTools);
  const std::string edits =
      std::string(kOpen) + "deep\">\n<｜DSML｜parameter name=\"edits\" string=\"false\">[{\"";
  EXPECT_THAT(PermittedAfter(*grammar, edits), testing::ElementsAre("c", "co", "n", "o"));
  EXPECT_THAT(PermittedAfter(*grammar, edits + "old\": \"x\""), testing::ElementsAre(",", ", "));
  EXPECT_THAT(PermittedAfter(*grammar, edits + "old\": \"x\", \""), testing::ElementsAre("c", "co", "n"));
  EXPECT_THAT(PermittedAfter(*grammar, edits + "old\": \"x\", \"new \\\"x\\\"\": null"),
              testing::ElementsAre(",", ", ", "}", "},", "}, ", "}, {"));
}

TEST(GrammarTest, EndOfTurnPermitsNothingAndRefusalsChangeNothing) {
  const auto grammar = MakeGrammar(SmallVocabulary(), kTools);
  GrammarTurn turn(*grammar, ThinkingMode::kChat);
  const int32_t dsml = *SmallTokenizer().FindAdded("｜DSML｜");
  EXPECT_THAT(base::Message(turn.Accept(dsml)), HasSubstr("is not permitted here"));
  EXPECT_FALSE(turn.Accept(-1).ok());
  EXPECT_FALSE(turn.Accept(1 << 20).ok());
  EXPECT_TRUE(turn.Accept(*SmallTokenizer().FindAdded("<｜end▁of▁sentence｜>")).ok());
  EXPECT_TRUE(turn.IsDone());
  EXPECT_TRUE(turn.Mask().empty());
}

TEST(GrammarTest, SchemasThatCannotBeFollowedAreRefused) {
  const auto with = [](const std::string& parameters) {
    return ErrorOf(R"([{"function": {"name": "f", "parameters": )" + parameters + "}}]");
  };
  EXPECT_THAT(ErrorOf("[{}]"), HasSubstr("tool 0"));
  EXPECT_THAT(ErrorOf(R"([{"function": {"name": "a\"b"}}])"), HasSubstr("tool 0"));
  EXPECT_THAT(ErrorOf(R"([{"function": {"name": "f"}}, {"function": {"name": "f"}}])"),
              HasSubstr("occurs twice"));
  EXPECT_THAT(with(R"({"properties": {"a<b": {}}})"), HasSubstr("cannot stand in a tag"));
  EXPECT_THAT(with(R"({"$defs": {"t": {"properties": {"t": {"$ref": "#/$defs/t"}}, "required": ["t"]}},
                       "properties": {"a": {"$ref": "#/$defs/t"}}})"),
              HasSubstr("no value within 16 levels"));
  std::string many;
  for (int i = 0; i < 129; ++i) many += (i > 0 ? ", \"p" : "\"p") + std::to_string(i) + "\": {}";
  EXPECT_THAT(with("{\"properties\": {" + many + "}}"), HasSubstr("more than 128 members"));
  EXPECT_EQ(with(R"({"properties": {"a": {"$ref": "#/nowhere"}}, "required": ["b"]})"), "");
}

// ---- Random generations -----------------------------------------------------------------------------------

// What JSON schema says of a value, for the keywords the grammar enforces; an oracle in few lines.
bool Conforms(const Json& root, const Json& schema, const Json& value) {
  if (const Json* reference = schema.Find("$ref"); reference != nullptr) {
    const Json* target = root.Find("$defs")->Find(reference->text().substr(std::string("#/$defs/").size()));
    return Conforms(root, *target, value);
  }
  if (const Json* choices = schema.Find("anyOf"); choices != nullptr) {
    return std::any_of(choices->items().begin(), choices->items().end(),
                       [&](const Json& choice) { return Conforms(root, choice, value); });
  }
  if (const Json* values = schema.Find("enum"); values != nullptr) {
    return std::any_of(values->items().begin(), values->items().end(),
                       [&](const Json& each) { return each.Dump() == value.Dump(); });
  }
  static constexpr const char* kNames[] = {"null",   "boolean", "integer", "number",
                                           "string", "array",   "object"};
  if (const Json* type = schema.Find("type"); type != nullptr) {
    const std::string types = type->Dump();
    const bool is_whole_number =
        value.kind() == Json::Kind::kInt && types.find("\"number\"") != std::string::npos;
    const std::string name = "\"" + std::string(kNames[static_cast<int>(value.kind())]) + "\"";
    if (types.find(name) == std::string::npos && !is_whole_number) return false;
  }
  const Json* properties = schema.Find("properties");
  const Json* required = schema.Find("required");
  for (size_t i = 0; properties != nullptr && i < value.keys().size(); ++i) {
    const Json* property = properties->Find(value.keys()[i]);
    if (property == nullptr || !Conforms(root, *property, value.items()[i])) return false;
  }
  for (size_t i = 0; required != nullptr && i < required->items().size(); ++i) {
    if (value.Find(required->items()[i].text()) == nullptr) return false;
  }
  for (const char* key : {"items", "additionalProperties"}) {
    const Json* each = schema.Find(key);
    for (size_t i = 0; each != nullptr && i < value.items().size(); ++i) {
      if (!Conforms(root, *each, value.items()[i])) return false;
    }
  }
  return true;
}

const Json& ParametersOf(const Json& tools, const std::string& name) {
  static const Json none = Json::Object();
  for (const Json& tool : tools.items()) {
    if (tool.Find("function")->Find("name")->text() == name)
      return *tool.Find("function")->Find("parameters");
  }
  ADD_FAILURE() << "unknown tool " << name;
  return none;
}

// Random logits, leaned so that calls happen and turns end.
class RandomLogits {
 public:
  RandomLogits(const Tokenizer& tokenizer, uint64_t seed) : tokenizer_(tokenizer), rng_(seed) {
    logits_.resize(static_cast<size_t>(tokenizer.vocab_size()));
    wants_call_ = rng_.Below(4) > 0;
    length_ = 10 + rng_.Below(150);
  }

  const std::vector<float>& Next(size_t step) {
    uint64_t bits = rng_.Next() | 1;
    for (float& logit : logits_) {
      bits ^= bits << 13;
      bits ^= bits >> 7;
      bits ^= bits << 17;
      logit = static_cast<float>(bits >> 40) * 0x1p-21f;  // 0 to 8
    }
    if (step > length_) {
      Lean({"<｜end▁of▁sentence｜>", "｜DSML｜", "</think>"}, 0);
      Lean({"</", "/", "}", "]", "\"", "1", "\n"}, 100);
    } else if (wants_call_ && rng_.Below(3) == 0) {
      Lean({"｜DSML｜", "</think>"}, 0);
      Lean({"\n\n<", "\n\n", "\n", "<", "</", "\"", "1"}, 100);
    }
    return logits_;
  }

 private:
  // Makes these likely: by `spread` 0 the earlier the more, else in random order, below the former.
  void Lean(const std::vector<std::string>& tokens, uint64_t spread) {
    float lean = 1000;
    for (const std::string& token : tokens) {
      auto id = tokenizer_.FindAdded(token);
      if (!id) id = tokenizer_.FindOrdinary(token);
      lean = spread == 0 ? lean - 20 : 500 + 3 * static_cast<float>(rng_.Below(spread));
      if (id) logits_[static_cast<size_t>(*id)] = lean;
    }
  }

  const Tokenizer& tokenizer_;
  test::SeededRandom rng_;
  std::vector<float> logits_;
  bool wants_call_ = false;
  size_t length_ = 0;
};

struct Tally {
  size_t calls = 0;
  size_t tokens = 0;
};

void CheckMessage(const Tokenizer& tokenizer, const Json& tools, ThinkingMode mode,
                  const std::vector<int32_t>& ids, Tally* tally) {
  auto parser = ChatStreamParser::Make(tokenizer, mode);
  std::vector<ChatEvent> events;
  for (const int32_t id : ids) (*parser)->Feed(id, &events);
  ASSERT_TRUE((*parser)->IsComplete()) << events.back().text;
  const Json message = (*parser)->Message();
  const std::string text = *tokenizer.Decode(ids);
  bool is_canonical = true;
  for (const Json& call : message.Find("tool_calls")->items()) {
    const Json& function = *call.Find("function");
    const auto arguments = Json::Parse(function.Find("arguments")->text());
    ASSERT_TRUE(arguments.ok()) << text;
    const Json& schema = ParametersOf(tools, function.Find("name")->text());
    EXPECT_TRUE(Conforms(schema, schema, *arguments)) << function.Dump();
    is_canonical = is_canonical && arguments->Dump() == function.Find("arguments")->text();
    ++tally->calls;
  }
  tally->tokens += ids.size();
  const auto official = ParseCompletionText(text, mode);
  ASSERT_TRUE(official.ok()) << official.status() << text;
  EXPECT_EQ(official->Dump(), message.Dump());
  if (!is_canonical) return;  // a number in another form than json.dumps gives it
  Json messages = Json::Array();
  messages.Append(message);
  EXPECT_EQ(*RenderText(messages, {.mode = mode, .add_bos = false}), text);
}

Tally Generate(const Tokenizer& tokenizer, const GrammarVocabulary& vocabulary, uint64_t first_seed,
               uint64_t count) {
  const Json tools = *Json::Parse(kTools);
  const auto grammar = MakeGrammar(vocabulary, kTools);
  auto sampler = Sampler::Make({});
  Tally tally;
  for (uint64_t seed = first_seed; seed < first_seed + count; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const ThinkingMode mode = seed % 2 == 0 ? ThinkingMode::kChat : ThinkingMode::kThinking;
    RandomLogits logits(tokenizer, seed);
    GrammarTurn turn(*grammar, mode);
    std::vector<int32_t> ids;
    while (!turn.IsDone() && ids.size() < 20000) {
      const auto id =
          sampler->Sample(logits.Next(ids.size()), &turn.Mask(), {.seed = seed, .position = ids.size()});
      if (!id.ok() || !turn.Accept(*id).ok()) {
        ADD_FAILURE() << "dead end after " << *tokenizer.Decode(ids);
        return tally;
      }
      ids.push_back(*id);
    }
    EXPECT_TRUE(turn.IsDone()) << *tokenizer.Decode(ids);
    CheckMessage(tokenizer, tools, mode, ids, &tally);
    if (testing::Test::HasFailure()) return tally;
  }
  return tally;
}

// How many generations: a few by default, HOLDFAST_GENERATIONS in the long run.
uint64_t Generations(uint64_t few) {
  const char* set = std::getenv("HOLDFAST_GENERATIONS");
  return set == nullptr ? few : std::strtoull(set, nullptr, 10);
}

TEST(GrammarTest, RandomGenerationsParseAndFollowTheSchemas) {
  const Tally tally = Generate(SmallTokenizer(), SmallVocabulary(), 1, Generations(2000));
  EXPECT_GT(tally.calls, 100u);
  RecordProperty("calls", static_cast<int>(tally.calls));
  RecordProperty("tokens", static_cast<int>(tally.tokens));
}

TEST(GrammarTest, RandomGenerationsOfTheOfficialVocabularyParse) {
  HF_SKIP_WITHOUT_GOLDEN();
  const auto vocabulary = VocabularyOf(*GoldenTokenizer());
  Generate(*GoldenTokenizer(), *vocabulary, 1, Generations(2000) / 400);
}

TEST(GrammarTest, MasksEqualTryingEveryToken) {
  const Tokenizer& tokenizer = SmallTokenizer();
  const auto grammar = MakeGrammar(SmallVocabulary(), kTools);
  auto sampler = Sampler::Make({});
  for (const uint64_t seed : test::TestSeeds(12)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    RandomLogits logits(tokenizer, seed);
    GrammarTurn turn(*grammar, ThinkingMode::kChat);
    std::vector<int32_t> ids;
    while (!turn.IsDone() && ids.size() < 150) {
      if (ids.size() % 4 == 3) {
        for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
          GrammarTurn other(*grammar, ThinkingMode::kChat);
          for (const int32_t before : ids) ASSERT_TRUE(other.Accept(before).ok());
          ASSERT_EQ(other.Accept(id).ok(), turn.Mask().Has(id))
              << tokenizer.Bytes(id) << " after " << *tokenizer.Decode(ids);
        }
      }
      const auto id =
          sampler->Sample(logits.Next(ids.size()), &turn.Mask(), {.seed = seed, .position = ids.size()});
      ASSERT_TRUE(turn.Accept(*id).ok());
      ids.push_back(*id);
    }
  }
}

}  // namespace
}  // namespace holdfast::model
