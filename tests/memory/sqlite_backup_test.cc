#include "memory/sqlite_backup.h"

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/memory/sqlite_testing.h"

namespace holdfast::memory {
namespace {

constexpr char kCopy[] = "/data/copy.db";

class SqliteBackupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(world_.Open().ok());
    for (int64_t i = 0; i < 200; ++i) Put(i);
  }
  void Put(int64_t key) { ASSERT_TRUE(world_.Put(key, Text(key)).ok()); }
  static std::string Text(int64_t key) { return std::string(3000, static_cast<char>('a' + key % 26)); }
  // As the machine finds it that loses its power now.
  base::StatusOr<Pairs> ReadCopyAfterACrash() {
    HF_RETURN_IF_ERROR(world_.fs.SyncDirectory("/data"));
    world_.options.path = kCopy;
    HF_RETURN_IF_ERROR(world_.CrashAndOpen());
    HF_RETURN_IF_ERROR(world_.database->CheckIntegrity());
    return world_.All();
  }

  SqliteWorld world_;
};

TEST_F(SqliteBackupTest, WhatIsCommittedBetweenTheStepsIsInTheCopy) {
  auto backup = SqliteBackup::Begin(*world_.database, world_.fs, kCopy);
  ASSERT_TRUE(backup.ok()) << backup.status();
  int64_t key = 200;
  for (bool complete = false; !complete;) {
    const auto step = (*backup)->Step(4);
    ASSERT_TRUE(step.ok()) << step.status();
    complete = *step;
    if (!complete && key < 230) Put(key++);
  }
  EXPECT_GT(key, 220) << "the copy was made in too few steps to show anything";
  EXPECT_EQ((*backup)->bytes_done(), (*backup)->bytes_total());
  backup->reset();
  const Pairs before = *world_.All();
  EXPECT_EQ(*ReadCopyAfterACrash(), before);
}

TEST_F(SqliteBackupTest, ACopyThatIsNotCompleteIsRemoved) {
  auto backup = SqliteBackup::Begin(*world_.database, world_.fs, kCopy);
  ASSERT_TRUE(backup.ok()) << backup.status();
  ASSERT_FALSE(*(*backup)->Step(1));
  backup->reset();
  EXPECT_FALSE(world_.fs.Stat(kCopy).ok());
  Put(1000);
}

TEST_F(SqliteBackupTest, WhatIsThereIsNotOverwritten) {
  ASSERT_TRUE(world_.fs.Open(kCopy, base::OpenMode::kCreateNew).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(SqliteBackup::Begin(*world_.database, world_.fs, kCopy).status()));
}

}  // namespace
}  // namespace holdfast::memory
