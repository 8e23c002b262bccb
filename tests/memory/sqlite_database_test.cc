#include "memory/sqlite_database.h"

#include <sqlite3.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/coding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/memory/sqlite_testing.h"

namespace holdfast::memory {
namespace {

using test::SimOp;
using ::testing::HasSubstr;

class SqliteDatabaseTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(world_.Open().ok()); }
  SqliteConnection& writer() { return world_.database->writer(); }
  base::StatusOr<std::string> One(const std::string& sql) {
    HF_ASSIGN_OR_RETURN(SqliteStatement statement, writer().Prepare(sql));
    HF_RETURN_IF_ERROR(statement.Step().status());
    const std::string text(statement.Text(0));
    HF_RETURN_IF_ERROR(statement.Finish());
    return text;
  }
  uint64_t WalFileBytes() {
    const auto stat = world_.fs.Stat("/data/record.db-wal");
    return stat.ok() ? stat->size_bytes : 0;
  }

  SqliteWorld world_;
};

TEST_F(SqliteDatabaseTest, CommittedTransactionsSurviveACrashAndOthersDoNot) {
  ASSERT_TRUE(world_.Put(1, "one").ok());
  {
    auto transaction = SqliteTransaction::Begin(*world_.database);
    ASSERT_TRUE(transaction.ok());
    ASSERT_TRUE(writer().Execute("INSERT INTO pairs VALUES (2, 'two')").ok());
    EXPECT_EQ(world_.All()->size(), 2u);
  }
  EXPECT_EQ(*world_.All(), (Pairs{{1, "one"}}));
  ASSERT_TRUE(world_.CrashAndOpen().ok());
  EXPECT_EQ(*world_.All(), (Pairs{{1, "one"}}));
}

// Killed between making the WAL and its first sync: the file is there, and its name is not on the disk.
TEST_F(SqliteDatabaseTest, AWalWhoseMakerDiedIsKeptWithWhatIsAcknowledged) {
  world_.database.reset();
  if (world_.fs.Stat("/data/record.db-wal").ok()) {
    ASSERT_TRUE(world_.fs.Remove("/data/record.db-wal").ok());
  }
  ASSERT_TRUE(world_.fs.SyncDirectory("/data").ok());
  ASSERT_TRUE(world_.fs.Open("/data/record.db-wal", base::OpenMode::kCreateNew).ok());
  ASSERT_TRUE(world_.Open().ok());
  ASSERT_TRUE(world_.Put(1, "one").ok());
  ASSERT_TRUE(world_.CrashAndOpen().ok());
  EXPECT_EQ(*world_.All(), (Pairs{{1, "one"}}));
}

TEST_F(SqliteDatabaseTest, Settings) {
  EXPECT_EQ(*One("SELECT journal_mode FROM pragma_journal_mode"), "wal");
  EXPECT_EQ(*One("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous"), "2");
  EXPECT_EQ(*One("SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys"), "1");
  EXPECT_EQ(*One("SELECT CAST(application_id AS TEXT) FROM pragma_application_id"), "1212564546");
  EXPECT_EQ(*One("SELECT CAST(user_version AS TEXT) FROM pragma_user_version"), "1");
}

TEST_F(SqliteDatabaseTest, TheClockIsTheOneThatWasGiven) {
  EXPECT_EQ(*One("SELECT datetime('now')"), "2026-01-01 00:00:00");
  world_.clock.Advance(3 * base::kNsPerSecond);
  EXPECT_EQ(*One("SELECT datetime('now')"), "2026-01-01 00:00:03");
}

// --- Errors

TEST_F(SqliteDatabaseTest, ConstraintsAreToldApart) {
  ASSERT_TRUE(writer().Execute("INSERT INTO pairs VALUES (1, 'a'); INSERT INTO names VALUES ('n', 1)").ok());
  const base::Status twice = writer().Execute("INSERT INTO names VALUES ('n', 1)");
  EXPECT_TRUE(absl::IsAlreadyExists(twice));
  EXPECT_THAT(base::Message(twice), HasSubstr("/data/record.db"));
  EXPECT_THAT(base::Message(twice), HasSubstr("names.name"));
  EXPECT_TRUE(absl::IsAlreadyExists(writer().Execute("INSERT INTO pairs VALUES (1, 'b')")));
  EXPECT_TRUE(absl::IsFailedPrecondition(writer().Execute("INSERT INTO names VALUES ('m', 99)")));
  EXPECT_TRUE(absl::IsFailedPrecondition(writer().Execute("INSERT INTO pairs VALUES (2, NULL)")));
  EXPECT_TRUE(absl::IsFailedPrecondition(writer().Execute("INSERT INTO pairs VALUES ('text', 'b')")));
}

TEST_F(SqliteDatabaseTest, WrongSqlIsInternal) {
  EXPECT_TRUE(absl::IsInternal(writer().Execute("SELECT nonsense")));
  EXPECT_TRUE(absl::IsInternal(writer().Prepare("SELECT 1; SELECT 2").status()));
  EXPECT_TRUE(absl::IsInternal(writer().Prepare("  ").status()));
  EXPECT_TRUE(absl::IsInternal(writer().Execute("SELECT \"not_a_column\"")));  // never taken for a string
}

TEST_F(SqliteDatabaseTest, AFullDiskIsResourceExhaustedAndRolledBack) {
  ASSERT_TRUE(world_.Put(1, "one").ok());
  world_.fs.FailRandomly(SimOp::kWrite, 100, ENOSPC);
  const base::Status put = world_.Put(2, "two");
  EXPECT_TRUE(absl::IsResourceExhausted(put)) << put;
  EXPECT_THAT(base::Message(put), HasSubstr("record.db-wal"));
  world_.fs.FailRandomly(SimOp::kWrite, 0, 0);
  EXPECT_FALSE(writer().in_transaction());
  ASSERT_TRUE(world_.Put(3, "three").ok());
  ASSERT_TRUE(world_.CrashAndOpen().ok());
  EXPECT_EQ(*world_.All(), (Pairs{{1, "one"}, {3, "three"}}));
}

TEST_F(SqliteDatabaseTest, AFailedSyncIsNotAcknowledgedAndWorkGoesOn) {
  ASSERT_TRUE(world_.Put(1, "one").ok());
  world_.fs.FailNext(SimOp::kSync, "-wal", EIO);
  const base::Status put = world_.Put(2, "two");
  EXPECT_TRUE(absl::IsUnavailable(put)) << put;
  EXPECT_THAT(base::Message(put), HasSubstr("fsync"));
  ASSERT_TRUE(world_.Put(3, "three").ok());
  ASSERT_TRUE(world_.CrashAndOpen().ok());
  EXPECT_EQ(*world_.All(), (Pairs{{1, "one"}, {3, "three"}}));
}

TEST_F(SqliteDatabaseTest, ReadsThatEndEarlyAreErrorsAndNotEmptyPages) {
  for (int64_t i = 0; i < 50; ++i) ASSERT_TRUE(world_.Put(i, std::string(2000, 'x')).ok());
  world_.Close();
  world_.fs.CutReads(100);
  EXPECT_FALSE(world_.Open().ok());
  world_.fs.CutReads(0);
  ASSERT_TRUE(world_.Open().ok());
  EXPECT_EQ(world_.All()->size(), 50u);
}

TEST_F(SqliteDatabaseTest, DamageIsDataLoss) {
  for (int64_t i = 0; i < 200; ++i) ASSERT_TRUE(world_.Put(i, std::string(500, 'x')).ok());
  ASSERT_TRUE(world_.database->Checkpoint().ok());
  EXPECT_TRUE(world_.database->CheckIntegrity().ok());
  world_.Close();
  for (uint64_t bit = 0; bit < 64; ++bit) world_.fs.FlipBit("/data/record.db", (5 * 4096) * 8 + bit);
  ASSERT_TRUE(world_.Open().ok());
  EXPECT_TRUE(absl::IsDataLoss(world_.database->CheckIntegrity()));
  EXPECT_TRUE(absl::IsDataLoss(world_.All().status()));
  world_.Close();
  for (uint64_t bit = 0; bit < 64; ++bit) world_.fs.FlipBit("/data/record.db", bit);
  const base::Status opened = world_.Open();
  EXPECT_TRUE(absl::IsDataLoss(opened)) << opened;
}

TEST_F(SqliteDatabaseTest, AWalThatWasReplacedBehindOurBackIsNotedBeforeAnythingIsAcknowledged) {
  ASSERT_TRUE(world_.Put(1, "one").ok());
  ASSERT_TRUE(world_.fs.Remove("/data/record.db-wal").ok());
  EXPECT_FALSE(world_.Put(2, "two").ok());
  ASSERT_TRUE(base::WriteFileAtomically(world_.fs, "/data/record.db-wal", {}).ok());
  EXPECT_THAT(base::Message(world_.Put(3, "three")), HasSubstr("another program"));
}

// --- Whose file

TEST_F(SqliteDatabaseTest, OneProcessAtATimeAndNoNetworkDisks) {
  const auto second = SqliteDatabase::Open(world_.fs, world_.options, {kPairs1}, world_.clock);
  EXPECT_TRUE(absl::IsUnavailable(second.status()));
  world_.Close();
  world_.fs.SetNetwork(true);
  EXPECT_TRUE(absl::IsFailedPrecondition(world_.Open()));
}

TEST_F(SqliteDatabaseTest, ADatabaseOfAnotherProgramIsRefused) {
  ASSERT_TRUE(writer().Execute("PRAGMA application_id = 7").ok());
  world_.Close();
  const base::Status opened = world_.Open();
  EXPECT_TRUE(absl::IsFailedPrecondition(opened)) << opened;
  ASSERT_TRUE(
      base::WriteFileAtomically(world_.fs, "/data/text.db", base::AsBytes(std::string(5000, 't'))).ok());
  world_.options.path = "/data/text.db";
  EXPECT_TRUE(absl::IsDataLoss(world_.Open()));
}

TEST_F(SqliteDatabaseTest, OptionsAreChecked) {
  for (const SqliteOptions& bad :
       {SqliteOptions{.path = ""}, SqliteOptions{.path = "/data/x", .wal_bytes_max = 4096},
        SqliteOptions{.path = "/data/x", .checkpoint_bytes = 1},
        SqliteOptions{.path = "/data/x", .wal_bytes_max = 2 << 20, .checkpoint_bytes = 2 << 20}})
    EXPECT_TRUE(absl::IsInvalidArgument(SqliteDatabase::Open(world_.fs, bad, {}, world_.clock).status()));
}

// --- Migrations

TEST_F(SqliteDatabaseTest, MissingStepsRunOnceAfterABackup) {
  ASSERT_TRUE(world_.Put(1, "one").ok());
  world_.Close();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(world_.Open({kPairs2, kOther}).ok());
    EXPECT_EQ(*One("SELECT note FROM pairs"), "old");
    world_.Close();
  }
  // The backup is the database as it was.
  world_.options.path = "/data/record.db.backup-1";
  ASSERT_TRUE(world_.Open().ok());
  EXPECT_EQ(*world_.All(), (Pairs{{1, "one"}}));
}

TEST_F(SqliteDatabaseTest, ANewerDatabaseAndAChangedStepAreRefused) {
  world_.Close();
  ASSERT_TRUE(world_.Open({kPairs2, kOther}).ok());
  world_.Close();
  EXPECT_THAT(base::Message(world_.Open({kPairs1, kOther})), HasSubstr("newer version"));
  EXPECT_TRUE(absl::IsFailedPrecondition(world_.Open({kPairs2})));
  constexpr std::string_view kChanged[] = {kPairsStep1[0], "SELECT 1"};
  EXPECT_THAT(base::Message(world_.Open({SqliteSchema{"pairs", kChanged}, kOther})), HasSubstr("other SQL"));
  EXPECT_TRUE(world_.Open({kPairs2, kOther}).ok());
}

TEST_F(SqliteDatabaseTest, AStepThatFailsOrIsNotStrictChangesNothing) {
  world_.Close();
  constexpr std::string_view kFails[] = {"CREATE TABLE good (a INTEGER) STRICT; CREATE TABLE bad (oops"};
  constexpr std::string_view kLoose[] = {"CREATE TABLE loose (a)"};
  EXPECT_THAT(base::Message(world_.Open({kPairs1, SqliteSchema{"new", kFails}})), HasSubstr("new, step 1"));
  EXPECT_THAT(base::Message(world_.Open({kPairs1, SqliteSchema{"new", kLoose}})), HasSubstr("not STRICT"));
  ASSERT_TRUE(world_.Open().ok());
  EXPECT_EQ(*One("SELECT group_concat(name, ' ') FROM (SELECT name FROM sqlite_schema WHERE type = 'table'"
                 " ORDER BY name)"),
            "names pairs schema_steps");
}

// --- Readers and the WAL

TEST_F(SqliteDatabaseTest, AReaderSeesWhatWasCommittedWhenItBegan) {
  ASSERT_TRUE(world_.Put(1, "one").ok());
  const auto reader = world_.database->OpenReader();
  ASSERT_TRUE(reader.ok()) << reader.status();
  ASSERT_TRUE((*reader)->Execute("BEGIN").ok());
  EXPECT_EQ(SqliteWorld::All(**reader)->size(), 1u);
  ASSERT_TRUE(world_.Put(2, "two").ok());
  EXPECT_EQ(SqliteWorld::All(**reader)->size(), 1u);
  ASSERT_TRUE((*reader)->Execute("COMMIT").ok());
  EXPECT_EQ(SqliteWorld::All(**reader)->size(), 2u);
  EXPECT_TRUE(absl::IsFailedPrecondition((*reader)->Execute("INSERT INTO pairs VALUES (3, 'x')")));
}

TEST_F(SqliteDatabaseTest, TheWalStaysWithinItsBound) {
  uint64_t most = 0;
  for (int64_t i = 0; i < 400; ++i) {
    ASSERT_TRUE(world_.Put(i, std::string(3000, 'x')).ok());
    most = std::max(most, WalFileBytes());
  }
  EXPECT_LE(most, (64 << 10) + 10 * 4120u);
  // One that is too large for it fails as a whole.
  const base::Status large = world_.Put(-1, std::string(2 << 20, 'y'));
  EXPECT_TRUE(absl::IsResourceExhausted(large)) << large;
  EXPECT_LE(WalFileBytes(), 1u << 20);
  EXPECT_EQ(world_.All()->size(), 400u);
  EXPECT_TRUE(world_.Put(401, "goes on").ok());
}

TEST_F(SqliteDatabaseTest, AReaderThatStaysMakesTheWriterWaitAtHalfTheBound) {
  ASSERT_TRUE(world_.Put(0, "zero").ok());
  const auto reader = world_.database->OpenReader();
  ASSERT_TRUE((*reader)->Execute("BEGIN; SELECT count(*) FROM pairs").ok());
  base::Status status;
  int64_t put = 0;
  while (status.ok() && put < 1000) status = world_.Put(++put, std::string(3000, 'x'));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(base::Message(status), HasSubstr("a reader"));
  EXPECT_LE(WalFileBytes(), 1u << 20);
  ASSERT_TRUE((*reader)->Execute("COMMIT").ok());
  EXPECT_TRUE(world_.Put(put, "now").ok());
  EXPECT_LE(WalFileBytes(), 100u << 10);
}

// --- The rest

TEST_F(SqliteDatabaseTest, SavepointsFailAlone) {
  auto transaction = SqliteTransaction::Begin(*world_.database);
  ASSERT_TRUE(transaction.ok());
  for (int64_t i = 0; i < 4; ++i) {
    auto part = SqliteSavepoint::Begin(writer());
    ASSERT_TRUE(part.ok());
    ASSERT_TRUE(writer().Execute("INSERT INTO pairs VALUES (" + std::to_string(i) + ", 'x')").ok());
    if (i % 2 == 0) {
      ASSERT_TRUE(part->Keep().ok());
    }
  }
  ASSERT_TRUE(transaction->Commit().ok());
  EXPECT_EQ(*world_.All(), (Pairs{{0, "x"}, {2, "x"}}));
}

TEST_F(SqliteDatabaseTest, InterruptEndsWhatRuns) {
  auto endless = writer().Prepare(
      "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i % 1000 = 0");
  ASSERT_TRUE(endless.ok());
  ASSERT_TRUE(*endless->Step());
  writer().Interrupt();
  EXPECT_TRUE(absl::IsCancelled(endless->Step().status()));
  EXPECT_TRUE(absl::IsCancelled(endless->Finish()));
  EXPECT_TRUE(world_.Put(1, "goes on").ok());
}

TEST_F(SqliteDatabaseTest, BallastMakesRoomOnAFullDisk) {
  SqliteWorld world({.disk_bytes_max = 3 << 20, .file_bytes_max = 8 << 20});
  world.options.ballast_bytes = 256 << 10;
  ASSERT_TRUE(world.Open().ok());
  {
    const auto fill = world.fs.Open("/fill", base::OpenMode::kCreate);
    ASSERT_TRUE(fill.ok());
    const uint64_t free = world.fs.Info("/")->free_bytes;
    ASSERT_TRUE((*fill)->Preallocate(free).ok());
  }
  EXPECT_TRUE(absl::IsResourceExhausted(world.Put(1, "one")));
  EXPECT_TRUE(*world.database->ReleaseBallast());
  EXPECT_TRUE(world.Put(1, "paused: the disk is full").ok());
  EXPECT_FALSE(*world.database->ReleaseBallast());
  EXPECT_TRUE(absl::IsResourceExhausted(world.database->RestoreBallast()));
  ASSERT_TRUE(world.fs.Remove("/fill").ok());
  EXPECT_TRUE(world.database->RestoreBallast().ok());
  EXPECT_TRUE(*world.database->ReleaseBallast());
}

// What is written through our VFS on a real disk is a database for everybody.
TEST(SqliteRealFileTest, SQLiteItselfReadsWhatWasWritten) {
  std::string directory = (std::filesystem::temp_directory_path() / "holdfast-sqlite-XXXXXX").string();
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const SqliteOptions options = {.path = directory + "/record.db", .ballast_bytes = 1 << 20};
  for (int64_t round = 0; round < 3; ++round) {
    const auto database = SqliteDatabase::Open(base::RealFileSystem(), options, {kPairs1});
    ASSERT_TRUE(database.ok()) << database.status();
    auto transaction = SqliteTransaction::Begin(**database);
    ASSERT_TRUE(transaction.ok());
    for (int64_t i = 0; i < 100; ++i) {
      const std::string row = std::to_string(round * 100 + i) + ", 'x'";
      ASSERT_TRUE((*database)->writer().Execute("INSERT INTO pairs VALUES (" + row + ")").ok());
    }
    ASSERT_TRUE(transaction->Commit().ok());
    const auto reader = (*database)->OpenReader();
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ(SqliteWorld::All(**reader)->size(), static_cast<size_t>(round + 1) * 100);
  }
  EXPECT_FALSE(std::filesystem::exists(options.path + "-wal"));  // emptied at the end
  EXPECT_EQ(std::filesystem::file_size(options.path + ".ballast"), 1u << 20);
  sqlite3* stock = nullptr;
  ASSERT_EQ(sqlite3_open_v2(options.path.c_str(), &stock, SQLITE_OPEN_READONLY, "unix"), SQLITE_OK);
  const auto expect = [](void* expected, int, char** values, char**) {
    return *static_cast<std::string*>(expected) == values[0] ? 0 : 1;
  };
  for (const auto& [sql, answer] : {std::pair<std::string, std::string>{"PRAGMA integrity_check", "ok"},
                                    {"SELECT count(*) FROM pairs", "300"}}) {
    std::string expected = answer;
    EXPECT_EQ(sqlite3_exec(stock, sql.c_str(), expect, &expected, nullptr), SQLITE_OK) << sql;
  }
  sqlite3_close(stock);
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace holdfast::memory
