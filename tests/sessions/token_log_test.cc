#include "sessions/token_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "tests/support/seeded_random.h"

namespace holdfast::sessions {
namespace {

using test::SeededRandom;
using test::TestSeeds;

Event Tokens(uint64_t seq, int64_t position, std::vector<int32_t> ids,
             TokenOrigin origin = TokenOrigin::kFed) {
  return {.seq = seq, .body = TokenRun{.position = position, .origin = origin, .ids = std::move(ids)}};
}

std::vector<int32_t> Window(const TokenLog& log) { return {log.window().begin(), log.window().end()}; }

TEST(TokenLogTest, RunsAreAppendedAndCounted) {
  TokenLog log;
  ASSERT_TRUE(log.Apply(Tokens(1, 0, {5, 6, 7})).ok());
  ASSERT_TRUE(log.Apply(Tokens(2, 3, {8}, TokenOrigin::kSampled)).ok());
  ASSERT_TRUE(log.Apply(Tokens(3, 4, {9}, TokenOrigin::kForced)).ok());
  ASSERT_TRUE(log.Apply({.seq = 4, .body = TurnFinished{}}).ok());
  EXPECT_EQ(Window(log), (std::vector<int32_t>{5, 6, 7, 8, 9}));
  EXPECT_EQ(log.totals(), (TokenTotals{.fed = 3, .sampled = 1, .forced = 1}));
  ASSERT_EQ(log.spans().size(), 3u);
  EXPECT_EQ(log.spans()[1],
            (TokenSpan{.seq = 2, .position = 3, .count = 1, .origin = TokenOrigin::kSampled}));
}

TEST(TokenLogTest, SpansKnowTheirStream) {
  TokenLog log;
  ASSERT_TRUE(log.Apply(Tokens(1, 0, {5}, TokenOrigin::kSampled)).ok());
  ASSERT_TRUE(log.Apply({.seq = 2, .body = Rewound{.to_seq = 1, .stream = 9}}).ok());
  ASSERT_TRUE(log.Apply(Tokens(3, 1, {6}, TokenOrigin::kSampled)).ok());
  EXPECT_EQ(log.spans()[0].stream, 0u);
  EXPECT_EQ(log.spans()[1].stream, 9u);
}

TEST(TokenLogTest, CutTakesTheLastTokensAndTheirSpans) {
  TokenLog log;
  ASSERT_TRUE(log.Apply(Tokens(1, 0, {1, 2, 3})).ok());
  ASSERT_TRUE(log.Apply(Tokens(2, 3, {4, 5})).ok());
  ASSERT_TRUE(log.Apply({.seq = 3, .body = TokensCut{.position = 2, .count = 3}}).ok());
  EXPECT_EQ(Window(log), (std::vector<int32_t>{1, 2}));
  ASSERT_EQ(log.spans().size(), 1u);
  EXPECT_EQ(log.spans()[0].count, 2);
  EXPECT_EQ(log.totals().cut, 3u);
  ASSERT_TRUE(log.Apply(Tokens(4, 2, {9})).ok());
  EXPECT_EQ(Window(log), (std::vector<int32_t>{1, 2, 9}));
}

TEST(TokenLogTest, EpochBeginsWithAnEmptyWindow) {
  TokenLog log;
  ASSERT_TRUE(log.Apply(Tokens(1, 0, {1, 2, 3})).ok());
  ASSERT_TRUE(log.Apply({.seq = 2, .body = EpochStarted{.epoch = 1}}).ok());
  EXPECT_EQ(log.position(), 0);
  EXPECT_EQ(log.epoch(), 1u);
  EXPECT_EQ(log.totals().fed, 3u);
  EXPECT_TRUE(log.Apply(Tokens(3, 0, {4})).ok());
}

TEST(TokenLogTest, EventsThatDoNotFitAreDataLoss) {
  TokenLog log;
  ASSERT_TRUE(log.Apply(Tokens(1, 0, {1, 2, 3})).ok());
  for (const Event& event :
       {Tokens(2, 2, {4}), Tokens(2, 4, {4}), Event{.seq = 2, .body = TokensCut{.position = 4, .count = 1}},
        Event{.seq = 2, .body = TokensCut{.position = 2, .count = 2}},
        Event{.seq = 2, .body = TokensCut{.position = -1, .count = 4}},
        Event{.seq = 2, .body = EpochStarted{.epoch = 0}},
        Event{.seq = 2, .body = EpochStarted{.epoch = 2}}}) {
    const base::Status status = log.Apply(event);
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_EQ(base::Message(status).rfind("event 2: ", 0), 0u) << status;
  }
  EXPECT_EQ(Window(log), (std::vector<int32_t>{1, 2, 3}));
}

TEST(TokenLogTest, RewindGivesTheStream) {
  TokenLog log;
  ASSERT_TRUE(log.Apply({.seq = 1, .body = Rewound{.to_seq = 0, .stream = 7}}).ok());
  EXPECT_EQ(log.stream(), 7u);
}

TEST(LiveHistoryTest, WithoutRewindsEverythingCounts) {
  EXPECT_TRUE(LiveHistory({}, 0).empty());
  EXPECT_EQ(LiveHistory({}, 9), (std::vector<EventRange>{{1, 9}}));
}

TEST(LiveHistoryTest, RewindToTheBeginningLeavesItself) {
  const std::vector<RewindPoint> rewinds = {{.seq = 5, .to_seq = 0}};
  EXPECT_EQ(LiveHistory(rewinds, 7), (std::vector<EventRange>{{5, 7}}));
}

// Against the obvious: a list of live events that a rewind shortens.
TEST(LiveHistoryTest, EqualsTheObvious) {
  for (const uint64_t seed : TestSeeds(200)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    SeededRandom random(seed);
    std::vector<uint64_t> live;
    std::vector<RewindPoint> rewinds;
    for (uint64_t seq = 1; seq <= 60; ++seq) {
      if (!live.empty() && random.Percent(20)) {
        // Only to an event that still counts, or to before the first.
        const size_t keep = random.Below(live.size() + 1);
        live.resize(keep);
        rewinds.push_back({.seq = seq, .to_seq = live.empty() ? 0 : live.back()});
      }
      live.push_back(seq);
      std::vector<uint64_t> found;
      for (const EventRange& range : LiveHistory(rewinds, seq)) {
        ASSERT_LE(range.first, range.last);
        for (uint64_t at = range.first; at <= range.last; ++at) found.push_back(at);
      }
      ASSERT_EQ(found, live);
    }
  }
}

}  // namespace
}  // namespace holdfast::sessions
