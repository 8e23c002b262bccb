#include "agent/session_summary.h"

#include <gtest/gtest.h>

#include "sessions/session_store.h"

namespace holdfast::agent {
namespace {

TEST(SessionSummaryTest, ComesBackAsItWas) {
  const SessionSummary summary{
      .display_name = "Fix \"it\"", .goal = "Fix it", .goal_state = "PAUSED", .goal_reason = "USER"};
  EXPECT_EQ(DecodeSummary(EncodeSummary(summary)), summary);
  EXPECT_EQ(EncodeSummary({}), "");
  EXPECT_EQ(DecodeSummary(""), SessionSummary());
}

TEST(SessionSummaryTest, IsBoundedWhateverPeopleWrite) {
  for (const std::string& text :
       {std::string(5000, '"'), std::string(5000, '\xFF'), std::string(5000, '\n')}) {
    const std::string encoded =
        EncodeSummary({.display_name = text, .goal = text, .goal_state = "ACTIVE", .goal_reason = text});
    EXPECT_LE(encoded.size(), sessions::kSummaryBytesMax);
    EXPECT_EQ(DecodeSummary(encoded).goal_state, "ACTIVE");
  }
}

TEST(SessionSummaryTest, WhatIsNoSummaryIsEmpty) {
  for (const char* text : {"x", "[]", "{\"goal\": 1}", "null"}) {
    EXPECT_EQ(DecodeSummary(text), SessionSummary()) << text;
  }
}

}  // namespace
}  // namespace holdfast::agent
