#include "server/proto_value.h"

#include <cstdint>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "google/protobuf/util/time_util.h"
#include "gtest/gtest.h"

namespace holdfast::server {
namespace {

using ::testing::HasSubstr;

TEST(ProtoValueTest, NamesOfSessionsGoThereAndBack) {
  EXPECT_EQ(*SessionIdOf(SessionName("fix-tests")), "fix-tests");
  EXPECT_EQ(*SessionIdOf("sessions/" + std::string(63, 'a')), std::string(63, 'a'));
}

TEST(ProtoValueTest, WhatIsNoNameOfASessionIsRefusedWithItsField) {
  const std::string names[] = {"",
                               "fix-tests",
                               "sessions/",
                               "sessions/-a",
                               "sessions/a-",
                               "sessions/A",
                               "sessions/a/b",
                               "session/a",
                               "sessions/ä",
                               std::string("sessions/a\0b", 12),
                               "sessions/" + std::string(64, 'a')};
  for (const std::string& name : names) {
    const auto id = SessionIdOf(name, "parent");
    ASSERT_FALSE(id.ok()) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(id.status()));
    EXPECT_THAT(base::Message(id.status()), HasSubstr("parent")) << name;
  }
}

TEST(ProtoValueTest, TextsAreUtf8AndBounded) {
  EXPECT_EQ(ValidText("plain ä", 128), "plain ä");
  EXPECT_EQ(ValidText("a\xff"
                      "b",
                      128),
            "a\xEF\xBF\xBD"
            "b");
  const std::string cut = ValidText(std::string(1000, 'x'), 200);
  EXPECT_LE(cut.size(), 200u);
  EXPECT_THAT(cut, HasSubstr("bytes left out"));
}

TEST(ProtoValueTest, ABeginningEndsBeforeTheCharacterThatDoesNotFit) {
  bool cut = false;
  EXPECT_EQ(ValidBeginning("aä", 2, &cut), "a");
  EXPECT_TRUE(cut);
  EXPECT_EQ(ValidBeginning("aä", 3, &cut), "aä");
  EXPECT_FALSE(cut);
  EXPECT_EQ(ValidBeginning("\xff\xff", 2, &cut).size(), 0u) << "marks are longer than the bytes";
  EXPECT_TRUE(cut);
}

TEST(ProtoValueTest, EveryTimeOfTheRecordIsOneOfProtobuf) {
  for (const int64_t ms : {std::numeric_limits<int64_t>::min(), int64_t{-1}, int64_t{0},
                           int64_t{1'700'000'000'123}, std::numeric_limits<int64_t>::max()}) {
    google::protobuf::Timestamp time;
    SetTime(ms, &time);
    EXPECT_GE(time.nanos(), 0) << ms;
    EXPECT_LT(time.nanos(), 1'000'000'000) << ms;
    EXPECT_TRUE(google::protobuf::util::TimeUtil::ToString(time).ends_with("Z")) << ms;
  }
  google::protobuf::Timestamp before;
  SetTime(-1, &before);
  EXPECT_EQ(before.seconds(), -1);
  EXPECT_EQ(before.nanos(), 999'000'000);
}

TEST(ProtoValueTest, DurationsAreCheckedBeforeTheyAreMultiplied) {
  google::protobuf::Duration duration;
  duration.set_seconds(2);
  duration.set_nanos(500'000'000);
  EXPECT_EQ(*DurationMs(duration, 0, 10'000, "timeout"), 2500);
  EXPECT_FALSE(DurationMs(duration, 0, 2499, "timeout").ok());
  EXPECT_FALSE(DurationMs(duration, 2501, 10'000, "timeout").ok());
  duration.set_seconds(std::numeric_limits<int64_t>::max());
  EXPECT_FALSE(DurationMs(duration, 0, std::numeric_limits<int64_t>::max(), "timeout").ok());
  duration.set_seconds(1);
  duration.set_nanos(-1);
  EXPECT_FALSE(DurationMs(duration, 0, 10'000, "timeout").ok()) << "signs differ";
  duration.set_nanos(1'000'000'000);
  EXPECT_FALSE(DurationMs(duration, 0, 10'000, "timeout").ok());
}

TEST(ProtoValueTest, DurationsThatProtobufCannotSayBecomeTheNearest) {
  google::protobuf::Duration duration;
  SetDuration(std::numeric_limits<int64_t>::max(), &duration);
  EXPECT_EQ(duration.seconds(), 315'576'000'000);
  EXPECT_EQ(duration.nanos(), 0);
  SetDuration(-1500, &duration);
  EXPECT_EQ(duration.seconds(), -1);
  EXPECT_EQ(duration.nanos(), -500'000'000);
}

}  // namespace
}  // namespace holdfast::server
