// The blob store when the machine crashes at every change of the disk, when calls fail, and when bits flip.
#include <algorithm>
#include <cerrno>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/coding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/memory/blob_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory {
namespace {

using test::SimOp;
using ::testing::IsEmpty;

constexpr uint64_t kMany = 1 << 30;

// The naive model: what was promised, what was tried, what was given up.
class Account {
 public:
  explicit Account(BlobWorld& world) : world_(world) {}

  // One batch of some blobs, new and old; promised when Commit says OK.
  void Commit(test::SeededRandom& random) {
    const auto batch = world_.store->NewBatch();
    std::set<uint64_t> blobs;
    const uint64_t count = 1 + random.Below(5);
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t number = random.Below(40);
      if (!Add(*batch, number, random)) return;
      blobs.insert(number);
    }
    if (!batch->Commit().ok()) return;
    for (const uint64_t number : blobs) state_[number] = kPromised;
  }

  // Keeps about half of what is there.
  void Sweep(test::SeededRandom& random) {
    world_.clock.Advance(base::kNsPerSecond);
    std::set<BlobId> live;
    for (auto& [number, state] : state_) {
      if (random.Percent(50))
        live.insert(IdOf(BytesOf(number)));
      else
        state = kMaybe;
    }
    const auto is_live = [&](const BlobId& id) { return live.contains(id); };
    world_.store->Sweep(world_.store->BeginSweep(), is_live, 0).status().IgnoreError();
  }

  // What the store must not show now. Empty when all is well.
  std::vector<std::string> Violations() const {
    std::vector<std::string> violations;
    for (const auto& [number, state] : state_) {
      const std::string bytes = BytesOf(number);
      const BlobId id = IdOf(bytes);
      const bool there = world_.store->Contains(id);
      const auto read = world_.store->Read(id, kMany);
      if (read.ok() && *read != bytes) violations.push_back("wrong: blob " + std::to_string(number));
      if (there && !read.ok()) violations.push_back("torn: " + base::Message(read.status()));
      if (state == kPromised && !there) violations.push_back("lost: blob " + std::to_string(number));
    }
    return violations;
  }

  uint64_t promised() const {
    uint64_t n = 0;
    for (const auto& [number, state] : state_) n += state == kPromised ? 1 : 0;
    return n;
  }

 private:
  enum State { kMaybe, kPromised };

  // Sizes with and without a row of checksums; some of them exceed the memory of a batch.
  static std::string BytesOf(uint64_t number) {
    const size_t size = number % 10 == 9 ? 66'000 + number : number * number % 3000;
    return Noise(number, size);
  }

  bool Add(BlobBatch& batch, uint64_t number, test::SeededRandom& random) {
    const std::string bytes = BytesOf(number);
    state_.try_emplace(number, kMaybe);
    if (random.Percent(50)) return batch.Add(base::AsBytes(bytes)).ok();
    const size_t half = bytes.size() / 2;
    return batch.Append(base::AsBytes(bytes).first(half)).ok() &&
           batch.Append(base::AsBytes(bytes).subspan(half)).ok() && batch.Finish().ok();
  }

  BlobWorld& world_;
  std::map<uint64_t, State> state_;
};

// A life of a store: batches, sweeps, merges, restarts.
void Live(BlobWorld& world, Account& account, uint64_t seed) {
  test::SeededRandom random(seed, 5);
  for (int step = 0; step < 14 && !world.fs.crashed(); ++step) {
    const uint64_t what = random.Below(10);
    if (what < 6) {
      account.Commit(random);
    } else if (what < 7) {
      account.Sweep(random);
    } else if (what < 9) {
      world.store->Compact(random.Below(60'000)).status().IgnoreError();
    } else if (!world.CloseAndOpen().ok()) {
      return;
    }
  }
}

struct CrashTotals {
  uint64_t crashes = 0;
  uint64_t promises = 0;
  uint64_t lost = 0;
  uint64_t wrong = 0;
  uint64_t alarms = 0;  // damage reported where there is none
  std::string first;
};

void CrashEverywhere(const test::SimDiskOptions& disk, CrashTotals& totals) {
  for (uint64_t n = 1;; ++n) {
    BlobWorld world(disk);
    Account account(world);
    world.fs.CrashAtMutation(n);
    if (world.Open().ok()) Live(world, account, disk.seed);
    if (!world.fs.crashed()) return;
    world.Close();
    world.fs.Restart();
    ++totals.crashes;
    totals.promises += account.promised();
    std::vector<std::string> violations;
    if (const base::Status opened = world.Open(); !opened.ok()) {
      violations.push_back("lost: does not open: " + base::Message(opened));
    } else {
      totals.alarms += world.EventCount(BlobEvent::Kind::kDamaged) + world.store->Verify()->damaged;
      violations = account.Violations();
      // And it can be gone on with; a second crash takes nothing either.
      Live(world, account, disk.seed + 1000);
      if (world.store != nullptr && world.CrashAndOpen().ok())
        for (std::string& violation : account.Violations()) violations.push_back("later " + violation);
    }
    for (const std::string& violation : violations) {
      ++(violation.find("lost") != std::string::npos ? totals.lost : totals.wrong);
      if (totals.first.empty())
        totals.first = "HOLDFAST_TEST_SEED=" + std::to_string(disk.seed) + ", crash at " + std::to_string(n) +
                       ": " + violation;
    }
  }
}

TEST(BlobCrashTest, CommittedBatchesAreWholeAndOthersAbsentOrWhole) {
  CrashTotals totals;
  for (const uint64_t seed : test::TestSeeds(24)) CrashEverywhere({.seed = seed}, totals);
  EXPECT_EQ(totals.first, "");
  EXPECT_EQ(totals.alarms, 0u);
  EXPECT_GT(totals.crashes, 300u);
  EXPECT_GT(totals.promises, totals.crashes);  // there was something to lose
  std::cout << totals.crashes << " crashes, " << totals.promises << " promises\n";
}

// A test that cannot fail proves nothing: with a disk that lies, it must.
struct PlantedFault {
  const char* name;
  test::SimDiskOptions disk;
};

class BlobPlantedFaultTest : public ::testing::TestWithParam<PlantedFault> {};

TEST_P(BlobPlantedFaultTest, IsFoundAsLossAndNeverServed) {
  CrashTotals totals;
  for (const uint64_t seed : test::TestSeeds(6)) {
    test::SimDiskOptions disk = GetParam().disk;
    disk.seed = seed;
    CrashEverywhere(disk, totals);
  }
  EXPECT_GT(totals.lost + totals.alarms, 0u);
  EXPECT_EQ(totals.first.find("wrong"), std::string::npos) << totals.first;
}

INSTANTIATE_TEST_SUITE_P(
    BlobCrashTest, BlobPlantedFaultTest,
    ::testing::Values(PlantedFault{"LyingSyncs", {.lying_syncs = true}},
                      PlantedFault{"LyingDirectorySyncs", {.lying_directory_syncs = true}},
                      PlantedFault{"LostWrites", {.lost_writes_percent = 10}}),
    [](const ::testing::TestParamInfo<PlantedFault>& instance) { return instance.param.name; });

// --- Errors

// Lets the k-th `op` fail, for all k: what is promised stays, nothing torn is seen, and later work succeeds.
uint64_t FailEach(SimOp op, int error, uint64_t seed) {
  for (uint64_t k = 0;; ++k) {
    SCOPED_TRACE(::testing::Message() << "operation " << static_cast<int>(op) << " number " << k
                                      << " fails with " << error << ", HOLDFAST_TEST_SEED=" << seed);
    BlobWorld world({.seed = seed * 1000 + k});
    Account account(world);
    EXPECT_TRUE(world.Open().ok());
    world.fs.FailNext(op, "/blobs", error, k);
    Live(world, account, seed);
    if (world.fs.FaultsWaiting("/blobs") > 0) return k;
    if (world.store == nullptr) {
      EXPECT_TRUE(world.Open().ok());
    }
    EXPECT_THAT(account.Violations(), IsEmpty());
    EXPECT_TRUE(world.Put({"one more", Noise(k, 20'000)}).ok());
    EXPECT_TRUE(world.CrashAndOpen().ok());
    EXPECT_THAT(account.Violations(), IsEmpty());
    EXPECT_TRUE(world.store->Contains(IdOf("one more")));
    if (::testing::Test::HasFailure()) return k;
  }
}

TEST(BlobFaultTest, AnyFailedWriteSyncCreateRenameOrRemoveCostsNothingPromised) {
  uint64_t faults = 0;
  for (const uint64_t seed : test::TestSeeds(3)) {
    for (const int error : {EIO, ENOSPC}) {
      for (const SimOp op : {SimOp::kWrite, SimOp::kSync, SimOp::kCreate, SimOp::kTruncate, SimOp::kRename,
                             SimOp::kRemove, SimOp::kSyncDirectory})
        faults += FailEach(op, error, seed);
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(faults, 200u);
}

// --- Flipped bits

std::vector<std::string> FlipBlobs() {
  std::vector<std::string> blobs = {"", "x", Noise(1, 63), Noise(2, 64), Noise(3, 700)};
  blobs.push_back(Noise(4, 66'000));  // with a row
  blobs.push_back(Noise(5, 9'000));
  return blobs;
}

// Packs of several frames, closed well or found after a crash; and one of a large batch.
void Build(BlobWorld& world, bool closed) {
  const std::vector<std::string> blobs = FlipBlobs();
  ASSERT_TRUE(world.Open().ok());
  ASSERT_TRUE(world.Put({blobs[0], blobs[1]}).ok());
  ASSERT_TRUE(world.Put({blobs[2]}).ok());
  ASSERT_TRUE(world.Put({blobs[3], blobs[4]}).ok());
  ASSERT_TRUE(world.Put({blobs[5], blobs[6]}).ok());
  if (!closed) world.fs.Crash();
  world.Close();
  if (!closed) world.fs.Restart();
}

// How many blobs a flip has cost. None of them is served wrong; `unknown` counts those of which the store
// does not even know that they are missing.
uint64_t CountLost(BlobWorld& world, uint64_t* unknown) {
  uint64_t lost = 0;
  for (const std::string& bytes : FlipBlobs()) {
    const auto read = world.store->Read(IdOf(bytes), kMany);
    EXPECT_TRUE(!read.ok() || *read == bytes);
    std::string part(bytes.size() / 2, '?');
    const auto some = world.store->ReadAt(IdOf(bytes), 1, std::as_writable_bytes(std::span(part)));
    EXPECT_TRUE(!some.ok() ||
                part.substr(0, *some) == bytes.substr(std::min<size_t>(1, bytes.size()), *some));
    if (read.ok()) continue;
    ++lost;
    EXPECT_FALSE(world.store->Contains(IdOf(bytes)));
    if (absl::IsNotFound(read.status())) ++*unknown;
  }
  return lost;
}

TEST(BlobDamageTest, EveryFlippedBitCostsOneBlobAtMostAndIsReported) {
  for (const bool closed : {true, false}) {
    BlobWorld world;
    Build(world, closed);
    uint64_t flips = 0, costly = 0, unknown = 0;
    for (const std::string& path : world.PackPaths()) {
      const uint64_t bits = world.fs.Stat(path)->size_bytes * 8;
      // Every bit of the heads, entries, tails and small contents; of large contents some.
      const uint64_t stride = bits > 40'000 * 8 ? 997 : closed ? 1 : 5;
      for (uint64_t bit = 0; bit < bits; bit += test::Reduced(8) == 8 ? stride : stride * 31) {
        SCOPED_TRACE(::testing::Message() << path << " bit " << bit << (closed ? "" : ", after a crash"));
        world.fs.FlipBit(path, bit);
        world.events.clear();
        ASSERT_TRUE(world.Open().ok());
        const uint64_t lost = CountLost(world, &unknown);
        EXPECT_LE(lost, 1u);
        if (lost > 0 && closed) {
          EXPECT_GT(world.EventCount(BlobEvent::Kind::kDamaged), 0u);
        }
        ++flips;
        costly += lost;
        // The next one is to find the same: no mark of a clean end.
        world.fs.FailRandomly(SimOp::kWrite, 100, EIO);
        world.Close();
        world.fs.FailRandomly(SimOp::kWrite, 0, 0);
        world.fs.FlipBit(path, bit);
        if (HasFailure()) return;
      }
    }
    EXPECT_GT(costly, 10u);
    if (closed) {
      EXPECT_EQ(unknown, 0u);  // DataLoss, never NotFound
    }
    std::cout << flips << " flips, " << costly << " cost a blob\n";
  }
}

}  // namespace
}  // namespace holdfast::memory
