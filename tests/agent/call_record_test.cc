#include "agent/call_record.h"

#include <gtest/gtest.h>

#include <string>

#include "base/coding.h"

namespace holdfast::agent {
namespace {

TEST(CallRecordTest, WhatWasSeenComesBack) {
  const std::vector<tools::FileVersion> seen = {
      {.path = "a\n\xff", .hash = base::Sha256Of(base::AsBytes("x"))}, {.path = "gone", .hash = {}}};
  const sessions::CallOutcome outcome =
      OutcomeOf("c1", {.status = tools::ToolStatus::kOk, .text = "t", .observed = seen});
  EXPECT_EQ(outcome.call, "c1");
  EXPECT_EQ(outcome.text, "t");
  const auto back = ObservedIn(outcome.record);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, seen);
}

TEST(CallRecordTest, NothingSeenIsNoRecord) {
  EXPECT_EQ(OutcomeOf("c1", {}).record, "");
  EXPECT_TRUE(ObservedIn("")->empty());
}

TEST(CallRecordTest, EveryStatusHasItsOwn) {
  const auto status = [](tools::ToolStatus s) { return OutcomeOf("c", {.status = s}).status; };
  EXPECT_EQ(status(tools::ToolStatus::kOk), sessions::CallStatus::kOk);
  EXPECT_EQ(status(tools::ToolStatus::kDenied), sessions::CallStatus::kRefused);
  EXPECT_EQ(status(tools::ToolStatus::kInvalid), sessions::CallStatus::kRefused);
  EXPECT_EQ(status(tools::ToolStatus::kTimeout), sessions::CallStatus::kTimedOut);
  EXPECT_EQ(status(tools::ToolStatus::kCancelled), sessions::CallStatus::kCancelled);
  EXPECT_EQ(status(tools::ToolStatus::kUnknown), sessions::CallStatus::kUnknown);
}

TEST(CallRecordTest, StrangeRecordsAreDataLoss) {
  for (const char* record : {"{", "[]", "{}", R"({"observed": 1})", R"({"observed": [1]})",
                             R"({"observed": [["6", null]]})", R"({"observed": [["zz", null]]})",
                             R"({"observed": [["61", 1]]})", R"({"observed": [["61", "00"]]})"}) {
    EXPECT_TRUE(absl::IsDataLoss(ObservedIn(record).status())) << record;
  }
}

}  // namespace
}  // namespace holdfast::agent
