#include "sandbox/limits.h"

#include "gmock/gmock.h"

namespace holdfast::sandbox {
namespace {

using ::testing::HasSubstr;

TEST(LimitsTest, DefaultsAreGood) {
  EXPECT_TRUE(Validate(Limits()).ok());
  EXPECT_TRUE(CheckWithin(Limits(), Limits()).ok());
}

TEST(LimitsTest, BoundsThatMustExistMustNotBeZero) {
  Limits limits;
  limits.idle_ms = limits.wall_ms = limits.cpu_ms = limits.kill_grace_ms = 0;
  EXPECT_TRUE(Validate(limits).ok());
  for (uint64_t Limits::*field :
       {&Limits::memory_bytes, &Limits::processes, &Limits::open_files, &Limits::file_bytes,
        &Limits::disk_bytes, &Limits::disk_inodes, &Limits::output_bytes}) {
    limits = Limits();
    limits.*field = 0;
    EXPECT_EQ(Validate(limits).code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(LimitsTest, MessageNamesTheField) {
  Limits limits;
  limits.processes = 1;
  EXPECT_THAT(base::Message(Validate(limits)), HasSubstr("processes is 1, must be 2 to"));
}

TEST(LimitsTest, MoreThanAllowedIsRefused) {
  Limits more;
  more.open_files += 1;
  EXPECT_THAT(base::Message(CheckWithin(more, Limits())),
              HasSubstr("open_files 4097 is more than the policy's 4096"));
  Limits less;
  less.open_files -= 1;
  EXPECT_TRUE(CheckWithin(less, Limits()).ok());
}

TEST(LimitsTest, NoBoundIsMoreThanAnyBound) {
  Limits none;
  none.wall_ms = 0;
  EXPECT_THAT(base::Message(CheckWithin(none, Limits())), HasSubstr("wall_ms none"));
  Limits policy;
  policy.wall_ms = 0;
  EXPECT_TRUE(CheckWithin(Limits(), policy).ok());
  EXPECT_TRUE(CheckWithin(none, policy).ok());
  Limits at_once;
  at_once.kill_grace_ms = 0;
  EXPECT_TRUE(CheckWithin(at_once, Limits()).ok());
}

}  // namespace
}  // namespace holdfast::sandbox
