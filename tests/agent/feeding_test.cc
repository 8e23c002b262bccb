#include "agent/feeding.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/model/text_testing.h"

namespace holdfast::agent {
namespace {

using sessions::EventBody;
using sessions::TokenOrigin;
using Seqs = std::vector<uint64_t>;
using Ids = std::vector<int32_t>;

TEST(FeedingTest, ResultsComeInTheOrderOfTheirCallsBeforeTheRest) {
  EXPECT_EQ(TellingOrder(Seqs{9, 7}, Seqs{3, 7, 8, 9}), (Seqs{9, 7, 3, 8}));
  EXPECT_EQ(TellingOrder(Seqs{}, Seqs{3, 8}), (Seqs{3, 8}));
}

TEST(FeedingTest, TurnBeginsBehindWhatWasFedLast) {
  sessions::TokenLog tokens;
  const auto add = [&tokens](TokenOrigin origin, Ids ids) {
    sessions::TokenRun run{.position = tokens.position(), .origin = origin, .ids = std::move(ids)};
    ASSERT_TRUE(tokens.Apply({.seq = 1, .body = EventBody(std::move(run))}).ok());
  };
  EXPECT_TRUE(TurnTokens(tokens).empty());
  add(TokenOrigin::kFed, {1, 2});
  EXPECT_TRUE(TurnTokens(tokens).empty());
  add(TokenOrigin::kSampled, {3, 4});
  add(TokenOrigin::kForced, {5});
  const auto turn = TurnTokens(tokens);
  EXPECT_EQ(Ids(turn.begin(), turn.end()), (Ids{3, 4, 5}));
  EXPECT_EQ(CallName(tokens, 2), "c0.5.2");
  ASSERT_TRUE(tokens.Apply({.seq = 1, .body = sessions::Rewound{.stream = 9}}).ok());
  EXPECT_EQ(CallName(tokens, 2), "c0.5.2");  // the turn was sampled before
  add(TokenOrigin::kSampled, {6});
  EXPECT_EQ(CallName(tokens, 2), "c0.6.2.9");
}

TEST(FeedingTest, InputsAndResultsAreTold) {
  EXPECT_EQ(SaidBy(sessions::CallOutcome{.text = "r"})->kind, Said::Kind::kToolResult);
  EXPECT_EQ(SaidBy(sessions::InputReceived{.text = "u"})->kind, Said::Kind::kUser);
  EXPECT_EQ(SaidBy(sessions::InputReceived{.kind = sessions::InputKind::kReminder})->kind,
            Said::Kind::kReminder);
  EXPECT_FALSE(SaidBy(sessions::TurnFinished{}).has_value());
}

TEST(FeedingTest, KeptTokensStandBetweenTheTextsAndWhatIsSaid) {
  auto dialogue = Dialogue::Make(model::SmallTokenizer(), {.system = "s"});
  ASSERT_TRUE(dialogue.ok()) << dialogue.status();
  const std::vector<std::string> texts = {"goal"};
  const std::vector<Said> said = {{.text = "news"}};
  Ids expected = *(*dialogue)->First(std::vector<Said>{{.text = "goal"}});
  expected.insert(expected.end(), {7, 8, 9});
  const Ids next = *(*dialogue)->Next(said);
  expected.insert(expected.end(), next.begin(), next.end());
  EXPECT_EQ(*OpeningTokens(**dialogue, texts, Ids{7, 8, 9}, said), expected);
  EXPECT_EQ(*OpeningTokens(**dialogue, texts, {}, said),
            *(*dialogue)->First(std::vector<Said>{{.text = "goal"}, {.text = "news"}}));
}

TEST(FeedingTest, PromptIsReadFromTheRecord) {
  const auto options = DialogueOptionsOf({.tools = "{\"name\": \"a\"}\n{\"name\": \"b\"}\n"},
                                         {.mode = "thinking", .version = "v4-0731", .system = "s"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->mode, model::ThinkingMode::kThinking);
  EXPECT_EQ(options->tools, (std::vector<std::string>{"{\"name\": \"a\"}", "{\"name\": \"b\"}"}));
  EXPECT_TRUE(absl::IsInvalidArgument(DialogueOptionsOf({}, {.mode = "loud"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(DialogueOptionsOf({}, {.mode = "chat", .version = "v9"}).status()));
}

}  // namespace
}  // namespace holdfast::agent
