#include "base/faults.h"

#include <signal.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::base {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

void Work() {
  HF_FAULT_POINT("faults_test.before");
  HF_FAULT_POINT("faults_test.after");
}

void Record(void* context, std::string_view name) {
  static_cast<std::vector<std::string>*>(context)->emplace_back(name);
}

TEST(FaultPointTest, DoesNothingUnarmed) {
  ASSERT_TRUE(ArmFaultPointFromEnvironment().ok());  // the variable is not set
  Work();
}

TEST(FaultPointTest, AHandlerSeesEveryHitWhileItLives) {
  std::vector<std::string> hits;
  {
    const ScopedFaultHandler handler(Record, &hits);
    Work();
  }
  Work();
  EXPECT_THAT(hits, ElementsAre("faults_test.before", "faults_test.after"));
}

TEST(FaultPointTest, AHandlerMayHitFurtherPoints) {
  int depth = 0;
  const auto nested = [](void* context, std::string_view) {
    if (++*static_cast<int*>(context) < 3) Work();
  };
  const ScopedFaultHandler handler(nested, &depth);
  HF_FAULT_POINT("faults_test.outer");
  EXPECT_GE(depth, 3);
}

TEST(FaultPointTest, MalformedArmingIsRefused) {
  for (const char* const bad : {"", ":1", "name:", "name:0", "name:x", "name:1x", "name:-1"}) {
    ASSERT_EQ(setenv(kFaultPointVariable, bad, 1), 0);
    const Status status = ArmFaultPointFromEnvironment();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad;
    EXPECT_THAT(Message(status), HasSubstr("HOLDFAST_FAULT_POINT"));
  }
  unsetenv(kFaultPointVariable);
  Work();
}

void ArmAndWork(const char* value, int times) {
  setenv(kFaultPointVariable, value, 1);
  if (!ArmFaultPointFromEnvironment().ok()) std::_Exit(2);
  for (int i = 0; i < times; ++i) Work();
  std::_Exit(0);
}

TEST(FaultPointDeathTest, TheEnvironmentKillsAtTheNthHit) {
  const ::testing::KilledBySignal killed(SIGKILL);
  EXPECT_EXIT(ArmAndWork("faults_test.after", 1), killed, "");
  EXPECT_EXIT(ArmAndWork("faults_test.after:3", 3), killed, "");
  EXPECT_EXIT(ArmAndWork("faults_test.after:3", 2), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(ArmAndWork("faults_test.other", 5), ::testing::ExitedWithCode(0), "");
}

TEST(FaultPointDeathTest, TwoHandlersAreAProgrammersError) {
  const auto ignore = [](void*, std::string_view) {};
  EXPECT_DEATH(
      {
        const ScopedFaultHandler first(ignore, nullptr);
        const ScopedFaultHandler second(ignore, nullptr);
      },
      "CHECK failed");
}

}  // namespace
}  // namespace holdfast::base
