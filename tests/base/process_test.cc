#include "base/process.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "base/coding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::base {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::IsEmpty;

// A machine described by its files.
class ProcessTest : public ::testing::Test {
 protected:
  void Put(const std::string& path, std::string_view text) {
    ASSERT_TRUE(fs_.CreateDirectories(ParentDirectory(path)).ok());
    ASSERT_TRUE(WriteFileAtomically(fs_, path, AsBytes(text)).ok());
  }
  void PutMemory() {
    Put("/proc/meminfo", "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     600 kB\n");
  }
  void PutSiblings(int cpu, std::string_view list) {
    Put("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list", list);
  }
  MemoryInfo Memory() {
    const auto info = GetMemoryInfo(fs_);
    EXPECT_TRUE(info.ok()) << info.status();
    return info.value_or(MemoryInfo{});
  }

  test::SimClock clock_;
  test::SimFileSystem fs_{clock_};
};

TEST_F(ProcessTest, MemoryComesFromMeminfo) {
  PutMemory();
  EXPECT_EQ(Memory().total_bytes, 1000u * 1024);
  EXPECT_EQ(Memory().available_bytes, 600u * 1024);
}

TEST_F(ProcessTest, AControlGroupLowersIt) {
  PutMemory();
  Put("/proc/self/cgroup", "0::/user.slice/job\n");
  Put("/sys/fs/cgroup/user.slice/job/memory.max", "409600\n");
  Put("/sys/fs/cgroup/user.slice/job/memory.current", "300000\n");
  Put("/sys/fs/cgroup/user.slice/job/memory.stat", "anon 100000\nfile 250000\nshmem 50000\n");
  EXPECT_EQ(Memory().total_bytes, 409600u);
  EXPECT_EQ(Memory().available_bytes, 409600u - (300000u - 200000u));  // file cache gives way, shmem does not
}

TEST_F(ProcessTest, TheTightestGroupCounts) {
  PutMemory();
  Put("/proc/self/cgroup", "12:cpu:/old\n0::/outer/inner\n");
  Put("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
  Put("/sys/fs/cgroup/outer/memory.max", "102400\n");
  Put("/sys/fs/cgroup/memory.max", "204800\n");
  EXPECT_EQ(Memory().total_bytes, 102400u);
  EXPECT_EQ(Memory().available_bytes, 102400u);
}

TEST_F(ProcessTest, AGroupThatIsOverItsLimitHasNothingLeft) {
  PutMemory();
  Put("/proc/self/cgroup", "0::/\n");
  Put("/sys/fs/cgroup/memory.max", "1000\n");
  Put("/sys/fs/cgroup/memory.current", "2000\n");
  EXPECT_EQ(Memory().available_bytes, 0u);
}

TEST_F(ProcessTest, UnreadableMeminfoIsDataLossAndAbsentNotFound) {
  EXPECT_TRUE(absl::IsNotFound(GetMemoryInfo(fs_).status()));
  Put("/proc/meminfo", "MemTotal: lots\nMemAvailable");
  EXPECT_TRUE(absl::IsDataLoss(GetMemoryInfo(fs_).status()));
  Put("/proc/meminfo", "");
  EXPECT_TRUE(absl::IsDataLoss(GetMemoryInfo(fs_).status()));
}

TEST_F(ProcessTest, SiblingsCountOnceAndAffinityIsHonoured) {
  for (const int cpu : {0, 4}) PutSiblings(cpu, "0,4\n");
  for (const int cpu : {1, 5}) PutSiblings(cpu, "1,5\n");
  EXPECT_THAT(PhysicalCores(std::vector<int>{0, 1, 4, 5}, fs_), ElementsAre(0, 1));
  EXPECT_THAT(PhysicalCores(std::vector<int>{4, 5}, fs_), ElementsAre(4, 5));
  EXPECT_THAT(PhysicalCores(std::vector<int>{0, 4}, fs_), ElementsAre(0));
  EXPECT_THAT(PhysicalCores(std::vector<int>{}, fs_), IsEmpty());
}

TEST_F(ProcessTest, ACpuWithoutTopologyIsACore) {
  PutSiblings(0, "0-1\n");
  PutSiblings(1, "0-1\n");
  EXPECT_THAT(PhysicalCores(std::vector<int>{0, 1, 2, 3}, fs_), ElementsAre(0, 2, 3));
}

TEST(ThisProcessTest, TellsPlausibleFacts) {
  EXPECT_EQ(ProcessId(), getpid());
  EXPECT_GE(PageSizeBytes(), 4096u);
  EXPECT_GT(PeakResidentBytes(), 100'000u);
  EXPECT_GE(PhysicalCoreCount(), 1);
  EXPECT_LE(PhysicalCoreCount(), static_cast<int>(AllowedCpus().size()));
  EXPECT_THAT(AllowedCpus(), Each(Ge(0)));
  const auto memory = GetMemoryInfo();
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_GT(memory->total_bytes, 1u << 20);
  EXPECT_LE(memory->available_bytes, memory->total_bytes);
}

TEST(ThisProcessTest, PinningToACpuThatIsNotThereFails) {
  EXPECT_TRUE(absl::IsInvalidArgument(PinThisThread(-1)));
  EXPECT_TRUE(absl::IsInvalidArgument(PinThisThread(1 << 20)));
}

}  // namespace
}  // namespace holdfast::base
