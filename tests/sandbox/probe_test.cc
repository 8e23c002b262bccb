#include "sandbox/probe.h"

#include <string>

#include "gmock/gmock.h"
#include "tests/sandbox/sandbox_testing.h"

namespace holdfast::sandbox {
namespace {

using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ProbeTest : public SandboxTest {};
INSTANTIATE_SANDBOX_TEST(ProbeTest);

TEST_P(ProbeTest, EveryAttemptFailsHere) {
  const auto report = Probe(StartSandbox(), DefaultPolicy());
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->ok()) << Describe(*report);
  EXPECT_THAT(report->checks, SizeIs(20));
  EXPECT_THAT(Describe(*report), HasSubstr("in force: seccomp\n"));
}

TEST_P(ProbeTest, WhatIsMissingIsListedWithItsRemedy) {
  Policy policy = DefaultPolicy();
  policy.use_cgroups = false;
  policy.use_landlock = false;
  const auto report = Probe(StartSandbox(), policy);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->ok()) << Describe(*report);
  EXPECT_THAT(report->missing, SizeIs(3));
  EXPECT_THAT(Describe(*report), HasSubstr("missing: landlock; needs a kernel with Landlock"));
}

TEST_P(ProbeTest, RefusalIsPartOfTheReport) {
  Policy policy = DefaultPolicy();
  policy.use_landlock = false;
  policy.required_layers |= Bit(Layer::kLandlock);
  const auto report = Probe(StartSandbox(), policy);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_FALSE(report->ok());
  EXPECT_THAT(report->checks, IsEmpty());
  EXPECT_THAT(Describe(*report), HasSubstr("REFUSES to run commands"));
}

// A probe that cannot fail proves nothing: where a property is given up, its check must say so.
TEST_P(ProbeTest, WhatDoesNotHoldIsFound) {
  Policy policy = DefaultPolicy();
  policy.mounts.push_back({.host = tree(), .inside = "/root"});
  const auto report = Probe(StartSandbox(), policy);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_FALSE(report->ok());
  EXPECT_THAT(Describe(*report), HasSubstr("FAILED: root's home is not there (it worked)"));
}

}  // namespace
}  // namespace holdfast::sandbox
