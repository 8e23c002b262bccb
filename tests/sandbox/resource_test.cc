// Commands that take too much or do not end: each is bounded, and the outcome says by what.
#include <signal.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/process.h"
#include "gmock/gmock.h"
#include "sandbox/sandbox.h"
#include "tests/sandbox/sandbox_testing.h"

namespace holdfast::sandbox {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;

class ResourceTest : public SandboxTest {
 protected:
  RunOptions With(void (*change)(Limits&)) {
    RunOptions options;
    options.limits = DefaultPolicy().limits;
    change(*options.limits);
    return options;
  }
  void ExpectLimit(const Outcome& outcome, LimitKind kind) {
    EXPECT_EQ(outcome.ending, Ending::kLimit) << Describe(outcome) << "\n" << outcome.output.head;
    EXPECT_EQ(LimitName(outcome.limit), LimitName(kind));
    EXPECT_FALSE(outcome.unkillable);
    EXPECT_TRUE(Shell("true").ok()) << "the session goes on";
  }
  Session& OpenWithoutCgroups() {
    Policy policy = DefaultPolicy();
    policy.use_cgroups = false;
    return OpenSession(policy);
  }
};
INSTANTIATE_SANDBOX_TEST(ResourceTest);

// --- processes --------------------------------------------------------------------------------------

TEST_P(ResourceTest, ForkBombIsBoundedAndTornDown) {  // 46, E22
  const Outcome outcome = Guest({"fork-bomb"}, With([](Limits& l) {
                                  l.wall_ms = 500;
                                  l.processes = 100;
                                }));
  ExpectLimit(outcome, LimitKind::kWallTime);
  EXPECT_TRUE(outcome.process_limit_reached);
}

TEST_P(ResourceTest, ForkBombIsBoundedWithoutCgroups) {
  OpenWithoutCgroups();
  const Outcome outcome = Guest({"fork-bomb"}, With([](Limits& l) {
                                  l.wall_ms = 500;
                                  l.processes = 60;
                                }));
  ExpectLimit(outcome, LimitKind::kWallTime);
  EXPECT_TRUE(outcome.process_limit_reached);
}

TEST_P(ResourceTest, ForksStopAtTheLimit) {
  for (const bool cgroups : {true, false}) {
    CloseSession();
    Policy policy = DefaultPolicy();
    policy.use_cgroups = cgroups;
    OpenSession(policy);
    const std::string text = Guest({"count-forks"}, With([](Limits& l) { l.processes = 40; })).output.head;
    int forks = 0;
    ASSERT_EQ(std::sscanf(text.c_str(), "forks=%d\nerror=EAGAIN", &forks), 1) << text;
    EXPECT_THAT(forks, AllOf(Ge(30), Le(40)));
  }
}

// --- memory -----------------------------------------------------------------------------------------

TEST_P(ResourceTest, MemoryBombOfOneProcess) {  // 47
  ExpectLimit(Guest({"memory-bomb"}, With([](Limits& l) { l.memory_bytes = 64 * kMiB; })),
              LimitKind::kMemory);
}

TEST_P(ResourceTest, MemoryBombOfManyProcesses) {  // 47: each far below the limit
  ExpectLimit(Guest({"memory-bomb", "8", "16"}, With([](Limits& l) { l.memory_bytes = 64 * kMiB; })),
              LimitKind::kMemory);
}

TEST_P(ResourceTest, MemoryBombsAreSeenWithoutCgroups) {
  OpenWithoutCgroups();
  const auto limit = [](Limits& l) { l.memory_bytes = 64 * kMiB; };
  ExpectLimit(Guest({"memory-bomb", "1", "400"}, With(limit)), LimitKind::kMemory);
  ExpectLimit(Guest({"memory-bomb", "8", "16"}, With(limit)), LimitKind::kMemory);
}

TEST_P(ResourceTest, SharedPagesCountOnceWithoutCgroups) {
  OpenWithoutCgroups();
  // Twelve processes of one program share its pages; each alone looks larger than it is.
  const Outcome outcome = Shell("for i in $(seq 12); do sleep 0.3 & done; wait",
                                With([](Limits& l) { l.memory_bytes = 16 * kMiB; }));
  EXPECT_TRUE(outcome.ok()) << Describe(outcome);
}

TEST_P(ResourceTest, MemfdBombIsBounded) {  // 48
  const auto limit = [](Limits& l) { l.memory_bytes = 64 * kMiB; };
  OpenSession();
  const bool group = Has(OpenSession().layers(), Layer::kMemoryCgroup);
  const Outcome outcome = Guest({"memfd-bomb"}, With(limit));
  if (group) {
    ExpectLimit(outcome, LimitKind::kMemory);
  } else {
    EXPECT_EQ(outcome.output.head, "memfd_create=ENOSYS\nmib=0\n");
  }
  CloseSession();
  OpenWithoutCgroups();
  EXPECT_EQ(Guest({"memfd-bomb"}, With(limit)).output.head, "memfd_create=ENOSYS\nmib=0\n");
  EXPECT_EQ(Guest({"shared-memory-bomb"}, With(limit)).output.head, "shmget=ENOSYS\nmib=0\n");
}

TEST_P(ResourceTest, TemporaryFileSystemsAreBounded) {  // 48, E23
  const auto fill = [&](const char* place) {
    int mib = -1;
    const std::string text = Guest({"fill", place}).output.head;
    EXPECT_THAT(text, HasSubstr("write=ENOSPC"));
    std::sscanf(text.c_str(), "write=ENOSPC\nmib=%d", &mib);
    return mib;
  };
  EXPECT_THAT(fill("/tmp"), AllOf(Ge(28), Le(32)));
  EXPECT_THAT(fill("/var/tmp"), AllOf(Ge(28), Le(32)));
  EXPECT_THAT(fill("/dev/shm"), AllOf(Ge(60), Le(64)));
  EXPECT_THAT(fill("/agent"), AllOf(Ge(60), Le(64)));
  EXPECT_THAT(Guest({"fill-inodes", "/var/tmp"}).output.head, HasSubstr("open=ENOSPC"));
}

// --- disk -------------------------------------------------------------------------------------------

TEST_P(ResourceTest, DiskFillIsStopped) {  // 49, E24
  const Outcome outcome = Guest({"fill", "/workspace"}, With([](Limits& l) { l.disk_bytes = 64 * kMiB; }));
  ExpectLimit(outcome, LimitKind::kDisk);
}

TEST_P(ResourceTest, InodeFillIsStopped) {  // 49
  const Outcome outcome = Guest({"fill-inodes", "/workspace"}, With([](Limits& l) { l.disk_inodes = 2000; }));
  ExpectLimit(outcome, LimitKind::kInodes);
}

TEST_P(ResourceTest, HiddenFilesCountToo) {
  Policy policy = DefaultPolicy();
  policy.limits.file_bytes = 4 * kGiB;
  OpenSession(policy);
  ExpectLimit(Guest({"fill-hidden", "/workspace"}, With([](Limits& l) {
                      l.disk_bytes = 64 * kMiB;
                      l.file_bytes = 2 * kGiB;
                      l.wall_ms = 10'000;
                    })),
              LimitKind::kDisk);
}

TEST_P(ResourceTest, MakingRoomIsNotStopped) {
  if (!overlay()) GTEST_SKIP() << "direct mode has no layer to measure";
  Shell("head -c 100M /dev/zero > big; sync big");
  const Outcome outcome =
      Shell("sleep 0.3; rm big; sleep 0.2", With([](Limits& l) { l.disk_bytes = 50 * kMiB; }));
  EXPECT_TRUE(outcome.ok()) << Describe(outcome);
}

TEST_P(ResourceTest, FileSizeIsLimited) {
  const auto outcome =
      Guest({"file-too-large", "/workspace/f"}, With([](Limits& l) { l.file_bytes = 4 * kMiB; }));
  ExpectLimit(outcome, LimitKind::kFileSize);
}

TEST_P(ResourceTest, OpenFilesAreLimited) {
  EXPECT_EQ(Guest({"open-many"}, With([](Limits& l) { l.open_files = 64; })).output.head,
            "opened=61\nerror=EMFILE\n");
}

// --- time -------------------------------------------------------------------------------------------

TEST_P(ResourceTest, WallTimeIsLimited) {  // 52
  ExpectLimit(Guest({"sleep"}, With([](Limits& l) { l.wall_ms = 200; })), LimitKind::kWallTime);
}

TEST_P(ResourceTest, CpuTimeIsLimited) {  // 52
  ExpectLimit(Guest({"spin"}, With([](Limits& l) { l.cpu_ms = 300; })), LimitKind::kCpuTime);
  // Of many processes together, each below it.
  ExpectLimit(
      Shell("for i in 1 2 3 4; do /run/guest spin & done; wait", With([](Limits& l) { l.cpu_ms = 800; })),
      LimitKind::kCpuTime);
}

TEST_P(ResourceTest, CpuTimeIsLimitedWithoutCgroups) {
  OpenWithoutCgroups();
  ExpectLimit(
      Shell("for i in 1 2 3 4; do /run/guest spin & done; wait", With([](Limits& l) { l.cpu_ms = 800; })),
      LimitKind::kCpuTime);
}

TEST_P(ResourceTest, IdleTimeIsLimited) {  // 52
  const Outcome outcome =
      Shell("echo a; sleep 0.1; echo b; sleep 100", With([](Limits& l) { l.idle_ms = 400; }));
  ExpectLimit(outcome, LimitKind::kIdleTime);
  EXPECT_EQ(outcome.output.head, "a\nb\n");
}

// --- not ending -------------------------------------------------------------------------------------

TEST_P(ResourceTest, IgnoringTermDoesNotHelp) {  // 53
  const Outcome outcome = Guest({"ignore-term"}, With([](Limits& l) { l.wall_ms = 200; }));
  ExpectLimit(outcome, LimitKind::kWallTime);
  EXPECT_EQ(outcome.output.head, "ignoring\n");
}

TEST_P(ResourceTest, StoppingItselfDoesNotHelp) {  // 53, E28
  const Outcome outcome = Guest({"stop-self"}, With([](Limits& l) { l.wall_ms = 200; }));
  ExpectLimit(outcome, LimitKind::kWallTime);
  EXPECT_TRUE(outcome.stopped);
}

TEST_P(ResourceTest, TermIsHeardBeforeTheEnd) {
  Policy policy = DefaultPolicy();
  policy.limits.kill_grace_ms = 10'000;
  OpenSession(policy);
  RunOptions options = With([](Limits& l) {
    l.wall_ms = 200;
    l.kill_grace_ms = 10'000;
  });
  const Outcome outcome =
      Shell("trap 'echo heard; exit 3' TERM; while :; do sleep 0.01; done", std::move(options));
  ExpectLimit(outcome, LimitKind::kWallTime);
  EXPECT_THAT(outcome.output.head, HasSubstr("heard\n"));
  EXPECT_EQ(outcome.exit_code, 3);
}

TEST_P(ResourceTest, DaemonsEndWithTheirCommand) {  // 53, 54, E25
  for (const char* kind : {"setsid", "double-fork", "nohup", "vfork"}) {
    const Outcome outcome = Guest({"daemon", kind, scratch()});
    EXPECT_TRUE(outcome.ok()) << kind << ": " << Describe(outcome);
    EXPECT_EQ(outcome.output.head, "started\n") << kind;
    EXPECT_LT(outcome.usage.wall_ms, 5000u) << kind;
    EXPECT_TRUE(ProcessesWith(scratch()).empty()) << kind;
  }
}

// --- output -----------------------------------------------------------------------------------------

TEST_P(ResourceTest, OutputFloodIsBoundedInMemoryAndExact) {  // 50, E29
  RunOptions options;
  options.output = {.head_bytes = 128, .tail_bytes = 64};
  const uint64_t peak_before = base::PeakResidentBytes();
  const Outcome outcome = Guest({"flood", "300000000"}, std::move(options));
  EXPECT_TRUE(outcome.ok()) << Describe(outcome);
  EXPECT_EQ(outcome.output.total_bytes, 300'000'000u);
  EXPECT_EQ(outcome.output.head.size(), 128u);
  EXPECT_EQ(outcome.output.tail.size(), 64u);
  EXPECT_EQ(outcome.output.omitted_bytes, 300'000'000u - 128 - 64);
  EXPECT_EQ(outcome.output.omitted_lines, 300'000'000u / 64 - 3);
  EXPECT_LT(base::PeakResidentBytes() - peak_before, 10 * kMiB);
}

TEST_P(ResourceTest, TenGigabytesOfOutputAreCutOff) {
  const Outcome outcome =
      Guest({"flood", "10000000000"}, With([](Limits& l) { l.output_bytes = 50'000'000; }));
  ExpectLimit(outcome, LimitKind::kOutput);
  EXPECT_THAT(outcome.output.total_bytes, AllOf(Ge(50'000'000u), Le(120'000'000u)));
}

// --- limits are not the command's to choose ---------------------------------------------------------

TEST_P(ResourceTest, MoreThanThePolicyAllowsIsRefused) {  // 61
  OpenSession();
  RunOptions options;
  options.limits = DefaultPolicy().limits;
  options.limits->memory_bytes += 1;
  const auto outcome = OpenSession().Run(ShellCommand("touch canary"), std::move(options));
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(base::Message(outcome.status()), HasSubstr("memory_bytes"));
  EXPECT_FALSE(Exists(Written("canary")));
}

}  // namespace
}  // namespace holdfast::sandbox
