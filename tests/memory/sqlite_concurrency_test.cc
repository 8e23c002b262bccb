// One writer that commits and checkpoints, and readers on other threads.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/memory/sqlite_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory {
namespace {

// Each transaction moves something from one row to another: whoever reads sees the same sum.
TEST(SqliteConcurrencyTest, ReadersSeeWholeTransactionsWhileTheWriterCommitsAndCheckpoints) {
  SqliteWorld world;
  world.options.checkpoint_bytes = 16 << 10;
  ASSERT_TRUE(world.Open().ok());
  SqliteConnection& writer = world.database->writer();
  ASSERT_TRUE(writer.Execute("INSERT INTO pairs VALUES (1, '1000'), (2, '0')").ok());
  std::atomic<bool> done = false;
  std::atomic<uint64_t> failures = 0, reads = 0;
  const auto read = [&] {
    while (!done) {
      const auto reader = world.database->OpenReader();
      EXPECT_TRUE(reader.ok()) << reader.status();
      for (int i = 0; reader.ok() && i < 20; ++i) {
        const auto pairs = SqliteWorld::All(**reader);
        EXPECT_TRUE(pairs.ok()) << pairs.status();
        failures += pairs.ok() && std::stoi(pairs->at(1)) + std::stoi(pairs->at(2)) == 1000 ? 0 : 1;
        ++reads;
      }
    }
  };
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) readers.emplace_back(read);
  const uint64_t rounds = test::Reduced(2000);
  for (uint64_t round = 1; round <= rounds || reads < 100; ++round) {
    auto transaction = SqliteTransaction::Begin(*world.database);
    if (!transaction.ok()) {
      ADD_FAILURE() << transaction.status();  // readers that come and go stop nobody
      break;
    }
    const std::string n = std::to_string(round % 1000);
    failures +=
        writer.Execute("UPDATE pairs SET value = CAST(1000 - " + n + " AS TEXT) WHERE key = 1").ok() ? 0 : 1;
    failures += writer.Execute("UPDATE pairs SET value = CAST(" + n + " AS TEXT) WHERE key = 2").ok() ? 0 : 1;
    failures += transaction->Commit().ok() ? 0 : 1;
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(failures, 0u);
  EXPECT_TRUE(world.database->CheckIntegrity().ok());
  ASSERT_TRUE(world.CrashAndOpen().ok());
  EXPECT_EQ(world.All()->size(), 2u);
}

}  // namespace
}  // namespace holdfast::memory
