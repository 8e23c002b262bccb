#include "sessions/kv_flusher.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <optional>

#include "tests/support/sim_clock.h"
#include "tests/support/sim_executor.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::sessions {
namespace {

class KvFlusherTest : public ::testing::Test {
 protected:
  KvFlusherTest() {
    auto store =
        memory::BlockStore::Open(fs_, {.directory = "/kv", .planes = {{64, true}}, .tail_bytes = 16});
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    flusher_.emplace(executor_, clock_, *store_);
  }
  memory::ChainRef Append(int32_t token) {
    const memory::BlockKey root;
    return store_->Append(store_->Root(root), memory::KeyOfBlock(root, {&token, 1}),
                          std::make_unique<std::byte[]>(64));
  }

  test::SimClock clock_;
  test::SimFileSystem fs_{clock_};
  test::SimExecutor executor_{clock_, {}};
  std::unique_ptr<memory::BlockStore> store_;
  std::optional<KvFlusher> flusher_;
};

TEST_F(KvFlusherTest, KickWritesSoonAndSyncsWithinTheBound) {
  const memory::ChainRef chain = Append(1);
  flusher_->Kick();
  flusher_->Kick();
  EXPECT_EQ(store_->Stats().pending_bytes, 64u);  // nothing waits in the caller
  executor_.RunUntilIdle();
  EXPECT_EQ(store_->Stats().pending_bytes, 0u);
  EXPECT_FALSE(store_->IsDurable(chain.id()));
  executor_.RunFor(10 * base::kNsPerSecond + base::kNsPerMs);
  EXPECT_TRUE(store_->IsDurable(chain.id()));
}

TEST_F(KvFlusherTest, EveryKickAfterASyncStartsANewBound) {
  const memory::ChainRef first = Append(1);
  flusher_->Kick();
  executor_.RunFor(11 * base::kNsPerSecond);
  const memory::ChainRef second = Append(2);
  flusher_->Kick();
  executor_.RunFor(9 * base::kNsPerSecond);
  EXPECT_FALSE(store_->IsDurable(second.id()));
  executor_.RunFor(2 * base::kNsPerSecond);
  EXPECT_TRUE(store_->IsDurable(second.id()));
}

TEST_F(KvFlusherTest, FlushTellsWhenEverythingIsDurable) {
  const memory::ChainRef chain = Append(1);
  std::optional<base::Status> outcome;
  flusher_->Flush([&](const base::Status& status) {
    EXPECT_TRUE(executor_.RunsOn(base::Lane::kControl));
    outcome = status;
  });
  executor_.RunUntilIdle();
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(outcome->ok()) << *outcome;
  EXPECT_TRUE(store_->IsDurable(chain.id()));
}

TEST_F(KvFlusherTest, FlushTellsWhyNothingIsDurable) {
  const memory::ChainRef chain = Append(1);
  fs_.FailRandomly(test::SimOp::kSync, 100, EIO);
  std::optional<base::Status> outcome;
  flusher_->Flush([&](const base::Status& status) { outcome = status; });
  executor_.RunUntilIdle();
  ASSERT_TRUE(outcome.has_value());
  EXPECT_FALSE(outcome->ok());
  EXPECT_FALSE(store_->IsDurable(chain.id()));
  fs_.FailRandomly(test::SimOp::kSync, 0, EIO);
  flusher_->Flush([&](const base::Status& status) { outcome = status; });
  executor_.RunUntilIdle();
  EXPECT_TRUE(outcome->ok()) << *outcome;
  EXPECT_TRUE(store_->IsDurable(chain.id()));
}

}  // namespace
}  // namespace holdfast::sessions
