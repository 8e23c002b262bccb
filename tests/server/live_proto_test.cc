#include "server/live_proto.h"

#include "gtest/gtest.h"
#include "holdfast/v1/event.pb.h"

namespace holdfast::server {
namespace {

base::MonotonicTime At(int64_t seconds) { return {seconds * base::kNsPerSecond}; }

TEST(LiveProtoTest, ThePrefillRateIsOfWhatWasComputed) {
  PrefillRates rates;
  EXPECT_EQ(rates.Take("a", {.attached = 1000, .done = 1000, .total = 5000}, At(0)), 0);
  EXPECT_EQ(rates.Take("a", {.attached = 1000, .done = 2000, .total = 5000}, At(2)), 500);
  EXPECT_EQ(rates.Take("b", {.done = 0, .total = 5000}, At(2)), 0) << "another session";
  EXPECT_EQ(rates.Take("a", {.attached = 1000, .done = 5000, .total = 5000}, At(4)), 1000);
  EXPECT_EQ(rates.Take("a", {.done = 0, .total = 5000}, At(5)), 0) << "it had ended: this is another";
}

TEST(LiveProtoTest, AnotherWindowBeginsAnew) {
  PrefillRates rates;
  rates.Take("a", {.done = 100, .total = 5000}, At(0));
  EXPECT_EQ(rates.Take("a", {.done = 200, .total = 600}, At(1)), 0);
  EXPECT_EQ(rates.Take("a", {.done = 300, .total = 600}, At(2)), 100);
  EXPECT_EQ(rates.Take("a", {.done = 0, .total = 600}, At(3)), 0) << "from an earlier place";
}

TEST(LiveProtoTest, TheTimeLeftIsToldWithARate) {
  v1::LiveUpdate out;
  PrefillToProto({.done = 1000, .total = 5000}, 0, &out);
  EXPECT_FALSE(out.prefill().has_time_left());
  PrefillToProto({.done = 1000, .total = 5000}, 500, &out);
  EXPECT_EQ(out.prefill().time_left().seconds(), 8);
}

}  // namespace
}  // namespace holdfast::server
