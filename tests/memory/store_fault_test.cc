// The block store when the machine crashes, the disk fills up, and reads, writes and syncs fail.
#include <cerrno>
#include <iostream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/memory/store_fault_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory {
namespace {

using ::testing::IsEmpty;
using Kind = StoreEvent::Kind;
using test::SimOp;

BlockStoreOptions OptionsFor(const NamedScenario& scenario) {
  BlockStoreOptions options = TestStoreOptions();
  options.disk_bytes_max = scenario.disk_bytes_max;
  return options;
}

struct CrashTotals {
  uint64_t crashes = 0;
  uint64_t lost = 0;
  uint64_t wrong = 0;
  uint64_t promises = 0;
  std::string first;  // violation, and how to see it again
};

// Crashes at every change of the disk, and counts what a store must not do.
void CrashEverywhere(const NamedScenario& scenario, const test::SimDiskOptions& disk, CrashTotals& totals) {
  for (uint64_t n = 1;; ++n) {
    StoreWorld world(disk, OptionsFor(scenario));
    Account account(world);
    world.fs.CrashAtMutation(n);
    if (world.Open().ok()) scenario.run(world, account);
    if (!world.fs.crashed()) return;
    account.LetGoOfAll();
    world.Close();
    world.fs.Restart();
    ++totals.crashes;
    totals.promises += account.promised();
    std::vector<std::string> violations;
    if (const base::Status opened = world.Open(); opened.ok()) {
      violations = account.Violations();
      if (violations.empty()) violations = account.Rebuild();
    } else {
      violations.push_back("lost: does not open: " + base::Message(opened));
    }
    for (const std::string& violation : violations) {
      ++(violation.starts_with("wrong") ? totals.wrong : totals.lost);
      if (!totals.first.empty()) continue;
      totals.first = std::string(scenario.name) + ", HOLDFAST_TEST_SEED=" + std::to_string(disk.seed) +
                     ", crash at " + std::to_string(n) + ": " + violation;
    }
  }
}

TEST(StoreCrashTest, WhatWasSyncedIsFoundAndNothingWrongIsServed) {
  CrashTotals totals;
  for (const NamedScenario& scenario : Scenarios())
    for (const uint64_t seed : test::TestSeeds(6)) CrashEverywhere(scenario, {.seed = seed}, totals);
  EXPECT_EQ(totals.first, "");
  EXPECT_GT(totals.crashes, 300u);
  EXPECT_GT(totals.promises, totals.crashes);  // there was something to lose
  std::cout << totals.crashes << " crashes, " << totals.promises << " promises\n";
}

// A test that cannot fail proves nothing: with a disk that lies, it must.
struct PlantedFault {
  const char* name;
  test::SimDiskOptions disk;
};

class PlantedFaultTest : public ::testing::TestWithParam<PlantedFault> {};

TEST_P(PlantedFaultTest, IsFoundAsLossAndNeverServed) {
  CrashTotals totals;
  for (const NamedScenario& scenario : Scenarios()) {
    for (const uint64_t seed : test::TestSeeds(2)) {
      test::SimDiskOptions disk = GetParam().disk;
      disk.seed = seed;
      CrashEverywhere(scenario, disk, totals);
    }
  }
  EXPECT_GT(totals.lost, 0u);
  EXPECT_EQ(totals.wrong, 0u) << totals.first;  // checksums do not rely on the disk's word
}

INSTANTIATE_TEST_SUITE_P(
    StoreCrashTest, PlantedFaultTest,
    ::testing::Values(PlantedFault{"LyingSyncs", {.lying_syncs = true}},
                      PlantedFault{"LyingDirectorySyncs", {.lying_directory_syncs = true}},
                      PlantedFault{"LostWrites", {.lost_writes_percent = 5}}),
    [](const ::testing::TestParamInfo<PlantedFault>& instance) { return instance.param.name; });

// And wrong bytes would be seen: here the caller itself gives others than the test expects.
TEST(StoreCrashTest, WrongBytesWouldBeSeen) {
  StoreWorld world;
  ASSERT_TRUE(world.Open().ok());
  Account account(world);
  const BlockKey key = ChildOf(TestRoot(), 0);
  {
    const ChainRef end = world.store->Append(world.store->Root(TestRoot()), key, BlockBytes(TestRoot()));
    world.store->PutTail(end, TailBytes(key), true);
    account.Feed("a", 0, {0, 1});
    ASSERT_TRUE(account.Sync().ok());
  }
  account.LetGoOfAll();
  EXPECT_THAT(account.Violations(), ::testing::Contains(::testing::StartsWith("wrong")));
}

// --- Errors

// 1, and 4 under a sanitizer.
uint64_t Stride() { return 8 / test::Reduced(8); }

// All that is held is right. It may be gone only when that was said: the first sync of what another process
// has left failed, so that nobody knows what the disk has of it.
void ExpectHeld(StoreWorld& world, Account& account) {
  for (const std::string& violation : account.HeldViolations())
    EXPECT_TRUE(violation.starts_with("lost") && world.EventCount(Kind::kQuarantined) > 0) << violation;
}

// Lets the k-th `op` fail, for all k, and returns how many there were. Whatever fails, work goes on, nothing
// that is held gets lost or wrong, a later sync saves everything, and a crash after it takes nothing.
uint64_t FailEach(const NamedScenario& scenario, SimOp op, const std::string& path_part, int error) {
  for (uint64_t k = 0;; k += Stride()) {
    SCOPED_TRACE(::testing::Message() << scenario.name << ", operation " << static_cast<int>(op) << " number "
                                      << k << " fails with " << error);
    StoreWorld world({.seed = k + 1}, OptionsFor(scenario));
    Account account(world);
    EXPECT_TRUE(world.Open().ok());
    world.fs.FailNext(op, path_part, error, k);
    scenario.run(world, account);
    if (world.fs.FaultsWaiting(path_part) > 0) return k;
    ExpectHeld(world, account);
    EXPECT_LE(world.EventCount(Kind::kPersistenceResumed), world.EventCount(Kind::kPersistenceLost));
    EXPECT_LE(world.EventCount(Kind::kPersistenceLost), 4u);  // of which the scenario plants some
    account.Feed("more", 3, {0});  // what could not be written may have been given up: something to try with
    base::Status synced;
    for (int attempt = 0; attempt < 4; ++attempt) {
      synced = account.Sync();
      if (synced.ok()) break;
    }
    EXPECT_TRUE(synced.ok()) << synced;
    EXPECT_TRUE(world.store->persistence().ok());
    EXPECT_EQ(world.EventCount(Kind::kPersistenceResumed), world.EventCount(Kind::kPersistenceLost));
    ExpectHeld(world, account);
    account.LetGoOfAll();
    EXPECT_TRUE(world.CrashAndOpen().ok());
    EXPECT_THAT(account.Violations(), IsEmpty());
    if (::testing::Test::HasFailure()) return k;
  }
}

TEST(StoreFaultTest, AFailedWriteSyncCreateOrRemoveCostsNothingDurable) {
  uint64_t faults = 0;
  for (const NamedScenario& scenario : Scenarios()) {
    for (const int error : {EIO, ENOSPC}) {
      for (const SimOp op :
           {SimOp::kWrite, SimOp::kSync, SimOp::kCreate, SimOp::kPreallocate, SimOp::kRemove})
        faults += FailEach(scenario, op, "/kv/0", error);
      faults += FailEach(scenario, SimOp::kSyncDirectory, "kv", error);
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(faults, 200u);
}

// Reads and opens fail too: what is held stays right, and nothing is lost on the disk.
TEST(StoreFaultTest, AFailedOpenOrReadLosesNothingOnTheDisk) {
  for (const NamedScenario& scenario : Scenarios()) {
    for (const SimOp op : {SimOp::kOpen, SimOp::kRead}) {
      for (uint64_t k = 0; k < 200; k += Stride()) {
        SCOPED_TRACE(::testing::Message() << scenario.name << ", number " << k);
        StoreWorld world({.seed = k + 1}, OptionsFor(scenario));
        Account account(world);
        ASSERT_TRUE(world.Open().ok());
        world.fs.FailNext(op, "/kv/0", EIO, k);
        scenario.run(world, account);
        if (world.fs.FaultsWaiting("/kv/0") > 0) break;
        for (const std::string& violation : account.HeldViolations())
          ASSERT_FALSE(violation.starts_with("wrong")) << violation;
        account.Feed("more", 3, {0});
        for (int attempt = 0; attempt < 4 && !account.Sync().ok(); ++attempt) continue;
        ASSERT_TRUE(world.store->persistence().ok());
        account.LetGoOfAll();
        ASSERT_TRUE(world.CrashAndOpen().ok());
        ASSERT_THAT(account.Violations(), IsEmpty());
      }
    }
  }
}

// A disk that is full at each point of a scenario, and has room again later.
TEST(StoreFaultTest, AFullDiskStopsNobodyAndPersistenceResumes) {
  constexpr uint64_t kDisk = 512 << 10;
  uint64_t full = 0;
  for (const NamedScenario& scenario : Scenarios()) {
    for (uint64_t room = 0; room < 20 * 12288; room += 2048 * Stride()) {
      SCOPED_TRACE(::testing::Message() << scenario.name << ", room for " << room << " bytes");
      StoreWorld world({.seed = room + 1, .disk_bytes_max = kDisk}, OptionsFor(scenario));
      Account account(world);
      ASSERT_TRUE(world.Open().ok());
      {
        auto ballast = world.fs.Open("/ballast", base::OpenMode::kCreate);
        ASSERT_TRUE((*ballast)->Truncate(kDisk - room - 4096).ok());
      }
      scenario.run(world, account);
      ASSERT_THAT(account.HeldViolations(), IsEmpty());
      const base::Status before = account.Sync();
      ASSERT_TRUE(before.ok() || absl::IsResourceExhausted(before)) << before;
      ASSERT_EQ(world.store->persistence().ok(), before.ok());
      if (!before.ok()) {
        ++full;
        ASSERT_EQ(world.EventCount(Kind::kPersistenceLost), world.EventCount(Kind::kPersistenceResumed) + 1);
        const size_t lost = world.EventCount(Kind::kPersistenceLost);
        ASSERT_FALSE(account.Write().ok());
        ASSERT_EQ(world.EventCount(Kind::kPersistenceLost), lost) << "said twice";
      }
      ASSERT_TRUE(world.fs.Remove("/ballast").ok());
      for (int attempt = 0; attempt < 4 && !account.Sync().ok(); ++attempt)
        continue;  // planted ones are left
      ASSERT_TRUE(world.store->persistence().ok());
      ASSERT_EQ(world.EventCount(Kind::kPersistenceLost), world.EventCount(Kind::kPersistenceResumed));
      ASSERT_THAT(account.HeldViolations(), IsEmpty());
      account.LetGoOfAll();
      ASSERT_TRUE(world.CrashAndOpen().ok());
      ASSERT_THAT(account.Violations(), IsEmpty());
    }
  }
  EXPECT_GT(full, test::Reduced(50));
}

// A disk that fails for a long time: the store does not eat its own good blocks to make room for slots that
// cannot be written, and says so once.
TEST(StoreFaultTest, ALongFailureIsSaidOnceAndCostsNoStoredBlocks) {
  for (const SimOp op : {SimOp::kWrite, SimOp::kSync}) {
    BlockStoreOptions options = TestStoreOptions();
    options.disk_bytes_max = 6 * 12288;
    StoreWorld world({}, options);
    Account account(world);
    ASSERT_TRUE(world.Open().ok());
    account.Feed("old", 0, {0, 1, 2, 3, 4, 5, 6}, /*periodic=*/true);
    ASSERT_TRUE(account.Sync().ok());
    account.LetGo("old");
    const size_t promised = account.promised();
    account.Feed("new", 1, {0, 1, 2});
    world.fs.FailRandomly(op, 100, EIO);
    for (int attempt = 0; attempt < 50; ++attempt) ASSERT_FALSE(account.Sync().ok());
    EXPECT_EQ(world.EventCount(Kind::kPersistenceLost), 1u);
    EXPECT_EQ(world.EventCount(Kind::kPersistenceResumed), 0u);
    EXPECT_EQ(account.promised(), promised);
    EXPECT_LE(world.store->Stats().segments, 5u);
    world.fs.FailRandomly(op, 0, 0);
    ASSERT_TRUE(account.Sync().ok());
    EXPECT_EQ(world.EventCount(Kind::kPersistenceResumed), 1u);
  }
}

}  // namespace
}  // namespace holdfast::memory
