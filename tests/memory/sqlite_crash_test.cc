// SQLite on the simulated disk: a crash at every change of it, during transactions, checkpoints and
// migrations.
#include <cerrno>
#include <iostream>
#include <string>
#include <vector>

#include "base/coding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/memory/sqlite_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory {
namespace {

using test::SimOp;

// What was acknowledged, and what may have been decided when the machine stopped.
struct Account {
  Pairs acknowledged;
  Pairs attempted;  // the same, when nothing is under way
};

// One transaction of several changes. The naive model is a map.
base::Status Change(SqliteWorld& world, Account& account, test::SeededRandom& random) {
  account.attempted = account.acknowledged;
  HF_ASSIGN_OR_RETURN(auto transaction, SqliteTransaction::Begin(*world.database));
  SqliteConnection& db = world.database->writer();
  for (uint64_t i = 1 + random.Below(4); i > 0; --i) {
    const auto key = static_cast<int64_t>(random.Below(12));
    if (random.Percent(20)) {
      HF_RETURN_IF_ERROR(db.Execute("DELETE FROM pairs WHERE key = " + std::to_string(key)));
      account.attempted.erase(key);
      continue;
    }
    const std::string value(random.Below(9000), static_cast<char>('a' + random.Below(26)));
    HF_ASSIGN_OR_RETURN(SqliteStatement put,
                        db.Prepare("INSERT OR REPLACE INTO pairs (key, value) VALUES (?, ?)"));
    HF_RETURN_IF_ERROR(put.Bind(1, key).Bind(2, value).Run());
    account.attempted[key] = value;
  }
  HF_RETURN_IF_ERROR(transaction.Commit());
  account.acknowledged = account.attempted;
  return absl::OkStatus();
}

void Live(SqliteWorld& world, Account& account, uint64_t seed) {
  test::SeededRandom random(seed, 9);
  for (int step = 0; step < 12 && !world.fs.crashed(); ++step) {
    const uint64_t what = random.Below(10);
    if (what < 7) {
      Change(world, account, random).IgnoreError();
    } else if (what < 9) {
      world.database->Checkpoint().IgnoreError();
    } else {
      world.Close();
      if (!world.Open().ok()) return;
    }
  }
}

struct CrashTotals {
  uint64_t crashes = 0;
  uint64_t acknowledged = 0;
  uint64_t violations = 0;
  std::string first;
};

void Violation(CrashTotals& totals, uint64_t seed, uint64_t n, const std::string& what) {
  if (++totals.violations == 1)
    totals.first =
        "HOLDFAST_TEST_SEED=" + std::to_string(seed) + ", crash at " + std::to_string(n) + ": " + what;
}

void CrashEverywhere(const test::SimDiskOptions& disk, CrashTotals& totals) {
  for (uint64_t n = 1;; ++n) {
    SqliteWorld world(disk);
    world.options.checkpoint_bytes = 16 << 10;
    Account account;
    world.fs.CrashAtMutation(n);
    if (world.Open().ok()) Live(world, account, disk.seed);
    if (!world.fs.crashed()) return;
    world.Close();
    world.fs.Restart();
    ++totals.crashes;
    totals.acknowledged += account.acknowledged.size();
    if (const base::Status opened = world.Open(); !opened.ok()) {
      Violation(totals, disk.seed, n, "does not open: " + base::Message(opened));
      continue;
    }
    const auto found = world.All();
    if (!found.ok() || (*found != account.acknowledged && *found != account.attempted))
      Violation(totals, disk.seed, n, "neither what was acknowledged nor that and the last one");
    if (const base::Status sound = world.database->CheckIntegrity(); !sound.ok())
      Violation(totals, disk.seed, n, base::Message(sound));
    if (!world.Put(1000, "goes on").ok()) Violation(totals, disk.seed, n, "cannot be gone on with");
  }
}

TEST(SqliteCrashTest, AcknowledgedTransactionsSurviveAndOthersAreWholeOrAbsent) {
  CrashTotals totals;
  for (const uint64_t seed : test::TestSeeds(12)) CrashEverywhere({.seed = seed}, totals);
  EXPECT_EQ(totals.first, "");
  EXPECT_GT(totals.crashes, 300u);
  EXPECT_GT(totals.acknowledged, totals.crashes);
  std::cout << totals.crashes << " crashes, " << totals.acknowledged << " acknowledged rows\n";
}

// A test that cannot fail proves nothing: with a disk that lies, it must.
TEST(SqliteCrashTest, LyingDisksAreFound) {
  for (const test::SimDiskOptions& liar : {test::SimDiskOptions{.lying_syncs = true},
                                           {.lying_directory_syncs = true},
                                           {.lost_writes_percent = 10}}) {
    CrashTotals totals;
    for (const uint64_t seed : test::TestSeeds(3)) {
      test::SimDiskOptions disk = liar;
      disk.seed = seed;
      CrashEverywhere(disk, totals);
    }
    EXPECT_GT(totals.violations, 0u);
  }
}

// A migration is there or not, and its backup is whole when it is.
TEST(SqliteCrashTest, ACrashInAMigrationLeavesTheOldSchemaOrTheNewOne) {
  uint64_t old_ones = 0, new_ones = 0;
  for (const uint64_t seed : test::TestSeeds(6)) {
    for (uint64_t n = 1;; ++n) {
      SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed << ", crash at " << n);
      SqliteWorld world({.seed = seed});
      ASSERT_TRUE(world.Open().ok());
      ASSERT_TRUE(world.Put(1, std::string(5000, 'x')).ok());
      world.Close();
      world.fs.CrashAtMutation(n);
      world.Open({kPairs2, kOther}).IgnoreError();
      const bool crashed = world.fs.crashed();
      world.Close();
      if (!crashed) break;
      world.fs.Restart();
      const base::Status before = world.Open();  // knows step 1 only
      if (before.ok()) {
        ++old_ones;
        ASSERT_EQ(world.All()->size(), 1u);
        world.Close();
      } else {
        ++new_ones;
        ASSERT_TRUE(absl::IsFailedPrecondition(before)) << before;
        ASSERT_TRUE(world.fs.Stat("/data/record.db.backup-1").ok());
      }
      ASSERT_TRUE(world.Open({kPairs2, kOther}).ok());
      ASSERT_EQ(world.All()->size(), 1u);
      ASSERT_TRUE(world.database->CheckIntegrity().ok());
      world.Close();
      world.options.path = "/data/record.db.backup-1";
      ASSERT_TRUE(world.Open().ok());
      ASSERT_EQ(world.All()->size(), 1u);
      world.Close();
    }
  }
  EXPECT_GT(old_ones, 10u);
  EXPECT_GT(new_ones, 5u);
}

// Lets the k-th operation fail, for all k.
TEST(SqliteFaultTest, AnyFailedOperationLosesNothingAcknowledged) {
  uint64_t faults = 0;
  for (const SimOp op : {SimOp::kWrite, SimOp::kSync, SimOp::kTruncate, SimOp::kCreate, SimOp::kRemove,
                         SimOp::kSyncDirectory, SimOp::kRead, SimOp::kOpen}) {
    for (const int error : {EIO, ENOSPC}) {
      for (uint64_t k = 0;; ++k) {
        SCOPED_TRACE(::testing::Message()
                     << "operation " << static_cast<int>(op) << " number " << k << " fails with " << error);
        SqliteWorld world({.seed = k + 1});
        Account account;
        ASSERT_TRUE(world.Open().ok());
        world.fs.FailNext(op, "/data", error, k);
        Live(world, account, 3);
        if (world.fs.FaultsWaiting("/data") > 0) break;
        ++faults;
        // What failed was not acknowledged; unless nothing came after it, it is not there either.
        if (world.database == nullptr) {
          ASSERT_TRUE(world.Open().ok());
        }
        ASSERT_TRUE(world.Put(1000, "goes on").ok());
        account.acknowledged[1000] = account.attempted[1000] = "goes on";
        ASSERT_TRUE(world.CrashAndOpen().ok());
        const auto found = world.All();
        ASSERT_TRUE(found.ok());
        ASSERT_TRUE(*found == account.acknowledged || *found == account.attempted);
        ASSERT_TRUE(world.database->CheckIntegrity().ok());
      }
    }
  }
  EXPECT_GT(faults, 100u);
}

}  // namespace
}  // namespace holdfast::memory
