#include "memory/disk/local_disk.h"

#include <gtest/gtest.h>

#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::memory {
namespace {

TEST(LocalDiskTest, OtherMachinesDisksAreRefusedByName) {
  test::SimClock clock;
  test::SimFileSystem fs(clock);
  ASSERT_TRUE(fs.CreateDirectories("/d").ok());
  EXPECT_TRUE(RequireLocalDisk(fs, "/d", "/d/file").ok());
  fs.SetNetwork(true);
  const base::Status refused = RequireLocalDisk(fs, "/d", "/d/file");
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_EQ(base::Message(refused).rfind("/d/file: lies on a network file system", 0), 0u) << refused;
}

TEST(LocalDiskTest, MissingDirectoryIsNotFound) {
  test::SimClock clock;
  test::SimFileSystem fs(clock);
  EXPECT_TRUE(absl::IsNotFound(RequireLocalDisk(fs, "/d", "/d/file")));
}

}  // namespace
}  // namespace holdfast::memory
