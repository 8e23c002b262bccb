// The engine lane feeds while other lanes write, sync, check and evict. For ThreadSanitizer, too.
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/executor.h"
#include "sessions/kv_flusher.h"
#include "sessions/kv_timeline.h"
#include "tests/sessions/kv_testing.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::sessions {
namespace {

TEST(KvConcurrencyTest, FeedingWhileOthersWriteVerifyAndEvict) {
  SmallEngine small;
  test::SimClock clock;
  test::SimFileSystem fs(clock);
  auto opened = OpenSmallStore(fs, small.engine(), {.tail_interval_tokens = 256});
  base::ThreadExecutor executor;
  KvFlusher flusher(executor, base::RealClock(), *opened->store, {.unsynced_ns_max = base::kNsPerMs});
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop.load()) {
      EXPECT_TRUE(opened->store->Verify().ok());
      EXPECT_TRUE(opened->store->EvictTo(600'000).ok());
      opened->store->Stats();
    }
  });

  const size_t turns = test::Reduced(8);
  for (uint32_t turn = 0; turn < turns; ++turn) {
    const auto tokens = SmallTokens(turn % 2, 700 + 40 * turn);
    KvTimeline line = opened->cache->Attach(tokens);
    for (size_t end = static_cast<size_t>(line.position()); end < tokens.size();) {
      end = std::min(end + 170, tokens.size());
      const auto result = Continue(small.engine(), line, std::span(tokens).first(end));
      ASSERT_TRUE(result.ok()) << result.status();
      flusher.Kick();
    }
    KvTimeline fork = line.Fork(static_cast<int64_t>(tokens.size()) / 2);
    const auto forked = Continue(small.engine(), fork, tokens);
    ASSERT_TRUE(forked.ok()) << forked.status();
    EXPECT_EQ(*forked, small.FromZero(tokens));
    line.Checkpoint();
    std::promise<base::Status> flushed;
    flusher.Flush([&](const base::Status& status) { flushed.set_value(status); });
    const base::Status status = flushed.get_future().get();
    EXPECT_TRUE(status.ok()) << status;
  }
  stop.store(true);
  other.join();
  executor.Shutdown();
  EXPECT_TRUE(opened->events.empty());
  EXPECT_EQ(opened->store->Stats().references, 0u);
}

}  // namespace
}  // namespace holdfast::sessions
