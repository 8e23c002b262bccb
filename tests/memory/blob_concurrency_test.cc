// The blob store under threads: writers of overlapping blobs, readers, a sweeper and a merger.
#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/coding.h"
#include "gtest/gtest.h"
#include "tests/memory/blob_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory {
namespace {

constexpr uint64_t kMany = 1 << 30;

std::string BytesOf(uint64_t number) { return Noise(number, number % 16 == 0 ? 70'000 : number * 37 % 4000); }

// What is held by a batch is there, whatever else goes on.
TEST(BlobConcurrencyTest, WhatABatchHoldsCanBeReadWhileOthersCommitSweepAndMerge) {
  BlobWorld world;
  world.options.on_event = {};
  world.options.open_files_max = 2;
  ASSERT_TRUE(world.Open().ok());
  BlobStore& store = *world.store;
  const uint64_t rounds = test::Reduced(400);
  std::atomic<uint64_t> failures = 0;
  std::atomic<bool> done = false;

  const auto write = [&](uint64_t seed) {
    test::SeededRandom random(seed);
    for (uint64_t round = 0; round < rounds; ++round) {
      const auto batch = store.NewBatch();
      std::set<uint64_t> numbers;
      for (int i = 0; i < 4; ++i) numbers.insert(random.Below(64));
      for (const uint64_t n : numbers) failures += batch->Add(base::AsBytes(BytesOf(n))).ok() ? 0 : 1;
      failures += batch->Commit().ok() ? 0 : 1;
      for (const uint64_t n : numbers) {
        const auto read = store.Read(IdOf(BytesOf(n)), kMany);
        failures += read.ok() && *read == BytesOf(n) ? 0 : 1;
      }
    }
  };
  const auto read = [&](uint64_t seed) {
    test::SeededRandom random(seed);
    while (!done) {
      const std::string bytes = BytesOf(random.Below(64));
      auto reader = store.OpenBlob(IdOf(bytes));
      if (!reader.ok()) {
        failures += absl::IsNotFound(reader.status()) ? 0 : 1;
        continue;
      }
      std::string part(bytes.size(), '?');
      for (int i = 0; i < 3; ++i) {  // it stays while it is held
        const auto n = reader->ReadAt(0, std::as_writable_bytes(std::span(part)));
        failures += n.ok() && part == bytes ? 0 : 1;
      }
    }
  };
  const auto clean = [&] {
    while (!done) {
      world.clock.Advance(base::kNsPerSecond);
      const auto live = [](const BlobId& id) { return id[0] < std::byte{64}; };
      failures += store.Sweep(store.BeginSweep(), live, 0).ok() ? 0 : 1;
      failures += store.Compact(100'000).ok() ? 0 : 1;
      failures += store.Verify().ok() ? 0 : 1;
    }
  };

  std::vector<std::thread> writers, others;
  for (uint64_t seed = 1; seed <= 3; ++seed) writers.emplace_back(write, seed);
  for (uint64_t seed = 11; seed <= 12; ++seed) others.emplace_back(read, seed);
  others.emplace_back(clean);
  for (std::thread& thread : writers) thread.join();
  done = true;
  for (std::thread& thread : others) thread.join();
  EXPECT_EQ(failures, 0u);
  EXPECT_EQ(store.Stats().damaged_blobs, 0u);
}

// Each of many threads pays for its own commit at most; those that wait together share.
TEST(BlobConcurrencyTest, CommitsShareSyncs) {
  BlobWorld world;
  ASSERT_TRUE(world.Open().ok());
  std::vector<std::thread> threads;
  std::atomic<uint64_t> failures = 0;
  const uint64_t each = test::Reduced(100);
  for (uint64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < each; ++i)
        failures += world.Put({std::to_string(t) + "/" + std::to_string(i)}).ok() ? 0 : 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0u);
  EXPECT_EQ(world.store->Stats().blobs, 8 * each);
  EXPECT_LE(world.store->Stats().data_syncs, 8 * each);
  ASSERT_TRUE(world.CrashAndOpen().ok());
  EXPECT_EQ(world.store->Stats().blobs, 8 * each);
}

}  // namespace
}  // namespace holdfast::memory
