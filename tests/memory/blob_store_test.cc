#include "memory/blob_store.h"

#include <algorithm>
#include <cerrno>
#include <stop_token>
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
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kMany = 1 << 30;

auto Bytes(const std::string& text) { return base::AsBytes(text); }

class BlobStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(world_.Open().ok()); }
  BlobStore& store() { return *world_.store; }
  base::StatusOr<std::string> Read(const std::string& bytes) { return store().Read(IdOf(bytes), kMany); }
  // Frees what is not in `live`, however young.
  SweepReport Sweep(const std::vector<std::string>& live) {
    world_.clock.Advance(base::kNsPerSecond);
    const auto is_live = [&](const BlobId& id) {
      return std::any_of(live.begin(), live.end(), [&](const std::string& l) { return IdOf(l) == id; });
    };
    const auto report = store().Sweep(store().BeginSweep(), is_live, 0);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.value_or(SweepReport{});
  }

  BlobWorld world_;
};

// Sizes around what matters: nothing, units, pieces, the memory of a batch, the size of a pack.
const std::vector<size_t> kSizes = {0,    1,     63,    64,    65,    4095,   4096,   8127,   8128,  8192,
                                    8193, 65535, 65536, 65537, 65600, 131071, 131072, 131073, 200000};

TEST_F(BlobStoreTest, GivesBackWhatWasCommittedAlsoAfterARestart) {
  for (const size_t size : kSizes) ASSERT_TRUE(world_.Put({Noise(size, size)}).ok()) << size;
  for (int round = 0; round < 3; ++round) {
    for (const size_t size : kSizes) {
      const std::string bytes = Noise(size, size);
      const auto read = Read(bytes);
      ASSERT_TRUE(read.ok()) << size << ": " << read.status();
      EXPECT_EQ(*read, bytes) << size;
      EXPECT_TRUE(store().Contains(IdOf(bytes)));
      EXPECT_EQ(*store().Size(IdOf(bytes)), size);
    }
    EXPECT_TRUE((round == 0 ? world_.CloseAndOpen() : world_.CrashAndOpen()).ok());
  }
  EXPECT_THAT(world_.events, IsEmpty());
  EXPECT_EQ(store().Stats().blobs, kSizes.size());
}

TEST_F(BlobStoreTest, OneBatchOfManyIsOneDataSync) {
  std::vector<std::string> blobs;
  for (uint64_t i = 0; i < 30; ++i) blobs.push_back(Noise(i, i));  // in memory: few bytes in all
  const uint64_t before = store().Stats().data_syncs;
  ASSERT_TRUE(world_.Put(blobs).ok());
  EXPECT_EQ(store().Stats().data_syncs - before, 1u);
  for (const std::string& blob : blobs) EXPECT_TRUE(Read(blob).ok());
}

TEST_F(BlobStoreTest, SixtyThousandBlobsInOneBatchAreOnePack) {
  auto batch = store().NewBatch();
  const uint64_t count = test::Reduced(60'000);
  for (uint64_t i = 0; i < count; ++i) ASSERT_TRUE(batch->Add(Bytes("blob " + std::to_string(i))).ok());
  ASSERT_TRUE(batch->Commit().ok());
  EXPECT_EQ(batch->new_blobs(), count);
  EXPECT_EQ(world_.PackPaths().size(), 1u);
  batch.reset();
  ASSERT_TRUE(world_.CrashAndOpen().ok());
  EXPECT_EQ(store().Stats().blobs, count);
  EXPECT_EQ(*Read("blob 17"), "blob 17");
  const BlobStoreStats stats = store().Stats();
  EXPECT_LE(stats.index_bytes, count * 112);
}

TEST_F(BlobStoreTest, WhatIsNotCommittedIsNotSeenAndLeavesNothing) {
  {
    const auto batch = store().NewBatch();
    ASSERT_TRUE(batch->Add(Bytes("small")).ok());
    EXPECT_FALSE(store().Contains(IdOf("small")));
    EXPECT_TRUE(absl::IsNotFound(Read("small").status()));
    const std::string large = Noise(1, 50'000);
    ASSERT_TRUE(batch->Add(Bytes(large)).ok());
    EXPECT_TRUE(absl::IsNotFound(Read(large).status()));
  }
  EXPECT_EQ(world_.fs.List("/blobs", 100)->size(), 2u);  // LOCK and STORE
  EXPECT_EQ(store().Stats().disk_bytes, 0u);
}

TEST_F(BlobStoreTest, ABlobThatIsThereIsNotStoredAgain) {
  ASSERT_TRUE(world_.Put({"a", "b"}).ok());
  const BlobStoreStats before = store().Stats();
  const auto batch = store().NewBatch();
  EXPECT_EQ(*batch->Add(Bytes("a")), IdOf("a"));
  ASSERT_TRUE(batch->Append(Bytes("b")).ok());
  EXPECT_EQ(*batch->Finish(), IdOf("b"));
  EXPECT_EQ(batch->new_blobs(), 0u);
  ASSERT_TRUE(batch->Commit().ok());
  EXPECT_EQ(store().Stats().disk_bytes, before.disk_bytes);
  EXPECT_EQ(store().Stats().data_syncs, before.data_syncs);
}

TEST_F(BlobStoreTest, ABlobAddedTwiceToABatchIsStoredOnce) {
  const auto batch = store().NewBatch();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(batch->Add(Bytes("again")).ok());
  EXPECT_EQ(batch->new_blobs(), 1u);
  EXPECT_EQ(batch->new_bytes(), 5u);
}

TEST_F(BlobStoreTest, StreamsInPiecesOfAnySizeAndDropsWhatIsThere) {
  const std::string a = Noise(1, 150'000);
  ASSERT_TRUE(world_.Put({a}).ok());
  test::SeededRandom random(5);
  auto batch = store().NewBatch();
  const std::string b = Noise(2, 170'001);
  for (const std::string* blob : {&a, &b, &a, &b}) {
    for (size_t at = 0; at < blob->size();) {
      const size_t n = std::min<size_t>(blob->size() - at, random.Below(30'000));
      ASSERT_TRUE(batch->Append(Bytes(*blob).subspan(at, n)).ok());
      at += n;
    }
    EXPECT_EQ(*batch->Finish(), IdOf(*blob));
  }
  ASSERT_TRUE(batch->Append(Bytes("never finished")).ok());
  EXPECT_EQ(batch->new_blobs(), 1u);
  ASSERT_TRUE(batch->Commit().ok());
  batch.reset();
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(*Read(a), a);
    EXPECT_EQ(*Read(b), b);
    ASSERT_TRUE(world_.CrashAndOpen().ok());
  }
  EXPECT_EQ(store().Stats().blobs, 2u);
  EXPECT_THAT(world_.events, IsEmpty());
}

TEST_F(BlobStoreTest, TheEmptyBlobCanBeStreamedToo) {
  const auto batch = store().NewBatch();
  EXPECT_EQ(*batch->Finish(), IdOf(""));
  ASSERT_TRUE(batch->Commit().ok());
  EXPECT_EQ(*Read(""), "");
  EXPECT_EQ(*store().ReadAt(IdOf(""), 0, {}), 0u);
}

TEST_F(BlobStoreTest, ReadsPartsOfLargeAndSmallBlobs) {
  test::SeededRandom random(3);
  for (const size_t size : kSizes) {
    const std::string bytes = Noise(size, size);
    ASSERT_TRUE(world_.Put({bytes}).ok());
    auto reader = store().OpenBlob(IdOf(bytes));
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(reader->size(), size);
    for (int i = 0; i < 40; ++i) {
      const uint64_t offset = random.Below(size + 10);
      std::string out(random.Below(size + 70'000), '?');
      const auto n = reader->ReadAt(offset, std::as_writable_bytes(std::span(out)));
      ASSERT_TRUE(n.ok()) << n.status();
      const size_t expected = offset < size ? std::min<size_t>(out.size(), size - offset) : 0;
      ASSERT_EQ(*n, expected);
      EXPECT_TRUE(*n == 0 || out.substr(0, *n) == bytes.substr(offset, *n)) << size << " at " << offset;
    }
  }
}

TEST_F(BlobStoreTest, ErrorsOfReading) {
  ASSERT_TRUE(world_.Put({"four"}).ok());
  EXPECT_TRUE(absl::IsNotFound(Read("other").status()));
  EXPECT_TRUE(absl::IsNotFound(store().Size(IdOf("other")).status()));
  EXPECT_TRUE(absl::IsNotFound(store().OpenBlob(IdOf("other")).status()));
  EXPECT_TRUE(absl::IsNotFound(store().ReadAt(IdOf("other"), 0, {}).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(store().Read(IdOf("four"), 3).status()));
  EXPECT_EQ(*store().Read(IdOf("four"), 4), "four");
}

TEST_F(BlobStoreTest, ABlobThatIsTooLargeIsRefused) {
  world_.Close();
  world_.options.blob_bytes_max = 100;
  ASSERT_TRUE(world_.Open().ok());
  const auto batch = store().NewBatch();
  EXPECT_TRUE(absl::IsInvalidArgument(batch->Add(Bytes(std::string(101, 'x'))).status()));
  EXPECT_TRUE(batch->Add(Bytes(std::string(100, 'x'))).ok());  // goes on
  EXPECT_TRUE(batch->Append(Bytes(std::string(60, 'y'))).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(batch->Append(Bytes(std::string(60, 'y')))));
  EXPECT_TRUE(absl::IsInvalidArgument(batch->Finish().status()));
  EXPECT_TRUE(absl::IsInvalidArgument(batch->Commit()));
}

TEST_F(BlobStoreTest, OptionsAreChecked) {
  world_.Close();
  for (const BlobStoreOptions& bad :
       {BlobStoreOptions{.directory = ""}, BlobStoreOptions{.directory = "/x", .blob_bytes_max = kMany << 2},
        BlobStoreOptions{.directory = "/x", .batch_memory_bytes_max = 1},
        BlobStoreOptions{.directory = "/x", .pack_bytes_target = 1},
        BlobStoreOptions{.directory = "/x", .open_files_max = 0}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(BlobStore::Open(world_.fs, bad, world_.clock).status()));
  }
}

// --- Whose directory

TEST_F(BlobStoreTest, OneProcessAtATime) {
  const auto second = BlobStore::Open(world_.fs, world_.options, world_.clock);
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
}

TEST_F(BlobStoreTest, RefusesNetworkDisksAndOtherPeoplesDirectories) {
  world_.Close();
  world_.fs.SetNetwork(true);
  EXPECT_TRUE(absl::IsFailedPrecondition(world_.Open()));
  world_.fs.SetNetwork(false);
  ASSERT_TRUE(world_.fs.CreateDirectories("/other").ok());
  ASSERT_TRUE(base::WriteFileAtomically(world_.fs, "/other/letter", {}).ok());
  world_.options.directory = "/other";
  EXPECT_THAT(base::Message(world_.Open()), HasSubstr("letter"));
  EXPECT_EQ(world_.fs.List("/other", 100)->size(), 1u);
}

TEST_F(BlobStoreTest, AnotherVersionOfTheStoreIsRefusedAndADamagedMarkIsWrittenAgain) {
  ASSERT_TRUE(world_.Put({"a"}).ok());
  world_.Close();
  const std::string ours = *world_.fs.ReadFile("/blobs/STORE", 1000);
  world_.fs.FlipBit("/blobs/STORE", 200);
  ASSERT_TRUE(world_.Open().ok());
  EXPECT_EQ(*world_.fs.ReadFile("/blobs/STORE", 1000), ours);
  EXPECT_TRUE(Read("a").ok());
  world_.Close();
  const std::string line = "Holdfast blob store, version 2";
  std::string sum;
  base::PutFixed64(sum, base::Xxh3(base::AsBytes(line)));
  const std::string other = line + "\n" + base::ToHex(base::AsBytes(sum)) + "\n";
  ASSERT_TRUE(base::WriteFileAtomically(world_.fs, "/blobs/STORE", base::AsBytes(other)).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(world_.Open()));
}

// --- Damage

TEST_F(BlobStoreTest, ADamagedBlobIsDataLossAloneAndHealsWhenAddedAgain) {
  const std::vector<std::string> blobs = {Noise(1, 500), Noise(2, 500), Noise(3, 500)};
  ASSERT_TRUE(world_.Put(blobs).ok());
  const std::string path = world_.PackPaths().at(0);
  world_.fs.FlipBit(path, (64 + 512 + 100) * 8);  // in the second
  EXPECT_TRUE(Read(blobs[0]).ok());
  const auto read = Read(blobs[1]);
  EXPECT_TRUE(absl::IsDataLoss(read.status()));
  EXPECT_THAT(base::Message(read.status()), HasSubstr(path));
  EXPECT_FALSE(store().Contains(IdOf(blobs[1])));
  EXPECT_TRUE(absl::IsDataLoss(store().OpenBlob(IdOf(blobs[1])).status()));
  EXPECT_TRUE(Read(blobs[2]).ok());
  EXPECT_EQ(world_.EventCount(BlobEvent::Kind::kDamaged), 1u);
  EXPECT_EQ(store().Stats().damaged_blobs, 1u);

  ASSERT_TRUE(world_.Put(blobs).ok());
  EXPECT_EQ(*Read(blobs[1]), blobs[1]);
  EXPECT_EQ(store().Stats().damaged_blobs, 0u);
}

TEST_F(BlobStoreTest, VerifyNamesWhatIsDamaged) {
  const std::vector<std::string> blobs = {Noise(1, 500), Noise(2, 70'000), Noise(3, 500)};
  for (const std::string& blob : blobs) ASSERT_TRUE(world_.Put({blob}).ok());
  ASSERT_EQ(world_.PackPaths().size(), 2u);
  world_.fs.FlipBit(world_.PackPaths().at(1), 30'000 * 8);
  uint64_t progressed = 0;
  const auto report = store().Verify([&](uint64_t done, uint64_t all) {
    EXPECT_EQ(all, 71'000u);
    progressed = done;
  });
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(progressed, 71'000u);
  EXPECT_EQ(report->blobs, 3u);
  EXPECT_EQ(report->damaged, 1u);
  EXPECT_THAT(report->damaged_ids, ElementsAre(IdOf(blobs[1])));
  EXPECT_FALSE(store().Contains(IdOf(blobs[1])));
}

TEST_F(BlobStoreTest, AMissingPackIsDataLossOfItsBlobsAndReportedByVerify) {
  const std::string large = Noise(1, 70'000);
  ASSERT_TRUE(world_.Put({large}).ok());
  ASSERT_TRUE(world_.Put({"small"}).ok());
  ASSERT_TRUE(world_.fs.Remove(world_.PackPaths().at(0)).ok());
  const auto report = store().Verify();
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->damaged_ids, ElementsAre(IdOf(large)));
  EXPECT_TRUE(absl::IsDataLoss(Read(large).status()));
  EXPECT_TRUE(Read("small").ok());
}

TEST_F(BlobStoreTest, APackOfAnotherVersionIsLeftAlone) {
  world_.Close();
  std::string future("HFBLOBS\n");
  base::PutFixed32(future, 2);
  future.resize(56);
  base::PutFixed64(future, base::Xxh3(base::AsBytes(future)));
  future.resize(4096, 'x');
  const std::string path = "/blobs/000000000009.hfp";
  ASSERT_TRUE(base::WriteFileAtomically(world_.fs, path, base::AsBytes(future)).ok());
  ASSERT_TRUE(world_.Open().ok());
  EXPECT_EQ(world_.EventCount(BlobEvent::Kind::kLeftAlone), 1u);
  ASSERT_TRUE(world_.Put({"a"}).ok());
  Sweep({"a"});
  EXPECT_EQ(*world_.fs.ReadFile(path, 10'000), future);
  EXPECT_EQ(world_.PackPaths().at(1), "/blobs/000000000010.hfp");
}

// --- Full disks and failing ones

TEST_F(BlobStoreTest, AFullBudgetIsResourceExhaustedWithNothingHalfVisible) {
  world_.Close();
  world_.options.disk_bytes_max = 20'000;
  ASSERT_TRUE(world_.Open().ok());
  ASSERT_TRUE(world_.Put({Noise(1, 5'000)}).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(world_.Put({Noise(2, 7'000), Noise(3, 8'000)})));
  EXPECT_FALSE(store().Contains(IdOf(Noise(2, 7'000))));
  const auto batch = store().NewBatch();
  EXPECT_TRUE(batch->Add(Bytes(Noise(4, 7'000))).ok());
  const auto added = batch->Add(Bytes(Noise(5, 3'000'000)));
  EXPECT_TRUE(absl::IsResourceExhausted(added.status()));
  EXPECT_EQ(batch->Commit(), added.status());
  EXPECT_TRUE(absl::IsResourceExhausted(world_.Put({Noise(5, 50'000)})));
  EXPECT_TRUE(world_.Put({Noise(6, 5'000)}).ok());
}

TEST_F(BlobStoreTest, ACommitThatFailedForWantOfRoomCanBeTriedAgain) {
  for (const size_t size : {3'000u, 40'000u}) {
    const std::string bytes = Noise(size, size);
    const auto batch = store().NewBatch();
    ASSERT_TRUE(batch->Add(Bytes(bytes)).ok());
    for (int i = 0; i < 3; ++i) {
      world_.fs.FailNext(SimOp::kWrite, ".hfp", ENOSPC);
      EXPECT_TRUE(absl::IsResourceExhausted(batch->Commit()));
      EXPECT_FALSE(store().Contains(IdOf(bytes)));
    }
    ASSERT_TRUE(batch->Commit().ok());
    EXPECT_EQ(*Read(bytes), bytes);
  }
  ASSERT_TRUE(world_.CrashAndOpen().ok());
  EXPECT_EQ(store().Stats().blobs, 2u);
  EXPECT_THAT(world_.events, IsEmpty());
}

TEST_F(BlobStoreTest, AFailedSyncMakesNothingVisibleAndIsNotTakenBack) {
  const std::string small = Noise(1, 300);
  const std::string large = Noise(2, 50'000);
  ASSERT_TRUE(world_.Put({"before"}).ok());
  {
    const auto batch = store().NewBatch();
    ASSERT_TRUE(batch->Add(Bytes(small)).ok());
    world_.fs.FailNext(SimOp::kSync, ".hfp", EIO);
    EXPECT_TRUE(absl::IsUnavailable(batch->Commit()));
    EXPECT_FALSE(store().Contains(IdOf(small)));
    ASSERT_TRUE(batch->Commit().ok());  // to another pack
  }
  {
    const auto batch = store().NewBatch();
    ASSERT_TRUE(batch->Add(Bytes(large)).ok());
    world_.fs.FailNext(SimOp::kSync, ".hfp", EIO);
    EXPECT_TRUE(absl::IsUnavailable(batch->Commit()));
    EXPECT_TRUE(absl::IsUnavailable(batch->Commit()));  // what a failed sync has lost is gone
    EXPECT_FALSE(store().Contains(IdOf(large)));
  }
  ASSERT_TRUE(world_.Put({large}).ok());
  ASSERT_TRUE(world_.CrashAndOpen().ok());
  for (const std::string& blob : {std::string("before"), small, large}) EXPECT_EQ(*Read(blob), blob);
}

TEST_F(BlobStoreTest, AFullDiskDoesNotFillUpWithEmptyFiles) {
  world_.fs.FailRandomly(SimOp::kWrite, 100, ENOSPC);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(absl::IsResourceExhausted(world_.Put({"a"})));
  EXPECT_THAT(world_.PackPaths(), IsEmpty());
  world_.fs.FailRandomly(SimOp::kWrite, 0, 0);
  EXPECT_TRUE(world_.Put({"a"}).ok());
}

// --- Sweeping

TEST_F(BlobStoreTest, SweepFreesWhatNobodyNames) {
  const std::string keep = Noise(1, 20'000);
  const std::string drop = Noise(2, 20'000);
  for (const std::string& blob : {keep, drop}) ASSERT_TRUE(world_.Put({blob}).ok());
  const SweepReport report = Sweep({keep});
  EXPECT_EQ(report.blobs_freed, 1u);
  EXPECT_EQ(report.packs_removed, 1u);
  EXPECT_GE(report.bytes_freed, 20'000u);
  EXPECT_TRUE(Read(keep).ok());
  EXPECT_TRUE(absl::IsNotFound(Read(drop).status()));
  EXPECT_EQ(world_.PackPaths().size(), 1u);
}

TEST_F(BlobStoreTest, SweepRewritesAPackThatIsMostlyGarbage) {
  const std::string keep = Noise(1, 3'000);
  const std::string big = Noise(3, 66'000);  // with a row of checksums
  ASSERT_TRUE(world_.Put({keep, Noise(2, 300'000), big}).ok());
  const SweepReport report = Sweep({keep, big});
  EXPECT_EQ(report.packs_rewritten, 1u);
  EXPECT_GE(report.bytes_freed, 290'000u);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(*Read(keep), keep);
    EXPECT_EQ(*Read(big), big);
    std::string part(10, '?');
    EXPECT_EQ(*store().ReadAt(IdOf(big), 65'530, std::as_writable_bytes(std::span(part))), 10u);
    EXPECT_EQ(part, big.substr(65'530, 10));
    ASSERT_TRUE(world_.CrashAndOpen().ok());
  }
}

TEST_F(BlobStoreTest, SweepKeepsWhatABatchOrAReaderHolds) {
  const std::vector<std::string> blobs = {Noise(1, 20'000), Noise(2, 20'000), Noise(3, 20'000)};
  for (const std::string& blob : blobs) ASSERT_TRUE(world_.Put({blob}).ok());
  {
    const auto batch = store().NewBatch();
    ASSERT_TRUE(batch->Add(Bytes(blobs[0])).ok());
    const auto reader = store().OpenBlob(IdOf(blobs[1]));
    ASSERT_TRUE(reader.ok());
    Sweep({});
    EXPECT_TRUE(Read(blobs[0]).ok());
    EXPECT_TRUE(Read(blobs[1]).ok());
    EXPECT_TRUE(absl::IsNotFound(Read(blobs[2]).status()));
  }
  Sweep({});
  EXPECT_EQ(store().Stats().blobs, 0u);
}

// The names were collected before the row was written: what happened in between stays.
TEST_F(BlobStoreTest, SweepKeepsWhatWasAddedOrLetGoSinceTheMark) {
  const std::string old = Noise(1, 20'000);
  const std::string fresh = Noise(2, 20'000);
  ASSERT_TRUE(world_.Put({old}).ok());
  world_.clock.Advance(10 * base::kNsPerSecond);
  const SweepMark mark = store().BeginSweep();
  ASSERT_TRUE(world_.Put({old, fresh}).ok());
  world_.clock.Advance(10 * base::kNsPerSecond);
  const auto none = [](const BlobId&) { return false; };
  ASSERT_TRUE(store().Sweep(mark, none, 0).ok());
  EXPECT_TRUE(Read(old).ok());
  EXPECT_TRUE(Read(fresh).ok());
  ASSERT_TRUE(store().Sweep(store().BeginSweep(), none, 3600).ok());  // and what is young
  EXPECT_TRUE(Read(old).ok());
  world_.clock.Advance(3600 * base::kNsPerSecond);
  ASSERT_TRUE(store().Sweep(store().BeginSweep(), none, 3600).ok());
  EXPECT_FALSE(Read(old).ok());
}

TEST_F(BlobStoreTest, SweepStopsWhenAsked) {
  ASSERT_TRUE(world_.Put({Noise(1, 20'000)}).ok());
  std::stop_source stop;
  stop.request_stop();
  const auto none = [](const BlobId&) { return false; };
  EXPECT_TRUE(absl::IsCancelled(store().Sweep({1 << 20}, none, 0, stop.get_token()).status()));
  EXPECT_TRUE(absl::IsCancelled(store().Verify({}, stop.get_token()).status()));
  EXPECT_EQ(store().Stats().blobs, 1u);
}

// --- Compaction

TEST_F(BlobStoreTest, CompactMergesSmallPacks) {
  std::vector<std::string> blobs;
  for (uint64_t i = 0; i < 30; ++i) {
    blobs.push_back(Noise(i, 100 + i));
    ASSERT_TRUE(world_.Put({blobs.back()}).ok());
    ASSERT_TRUE(world_.CloseAndOpen().ok());  // each process has a pack of its own
  }
  EXPECT_EQ(world_.PackPaths().size(), 30u);
  uint64_t calls = 0;
  for (bool more = true; more; ++calls) {
    const auto report = store().Compact(1'500);
    ASSERT_TRUE(report.ok()) << report.status();
    more = report->more;
    for (const std::string& blob : blobs) ASSERT_EQ(*Read(blob), blob);
    ASSERT_LT(calls, 60u);
  }
  EXPECT_GT(calls, 3u);  // the budget holds
  EXPECT_LT(world_.PackPaths().size(), 8u);
  ASSERT_TRUE(store().Compact(1 << 30).ok());
  EXPECT_EQ(world_.PackPaths().size(), 1u);
  ASSERT_TRUE(world_.CloseAndOpen().ok());
  for (const std::string& blob : blobs) EXPECT_EQ(*Read(blob), blob);
  EXPECT_EQ(store().Compact(1 << 30)->packs_before, 0u);  // nothing to do
  EXPECT_THAT(world_.events, IsEmpty());
}

TEST_F(BlobStoreTest, CompactLeavesDamagedBlobsWhereTheyAre) {
  const std::vector<std::string> blobs = {Noise(1, 500), Noise(2, 500)};
  for (const std::string& blob : blobs) {
    ASSERT_TRUE(world_.Put({blob}).ok());
    ASSERT_TRUE(world_.CloseAndOpen().ok());
  }
  const std::string path = world_.PackPaths().at(0);
  world_.fs.FlipBit(path, 100 * 8);
  ASSERT_TRUE(store().Compact(1 << 30).ok());
  EXPECT_TRUE(absl::IsDataLoss(Read(blobs[0]).status()));
  EXPECT_TRUE(Read(blobs[1]).ok());
  EXPECT_EQ(world_.PackPaths().at(0), path);
  EXPECT_EQ(world_.EventCount(BlobEvent::Kind::kDamaged), 1u);
}

TEST_F(BlobStoreTest, TenThousandPacksOpenAndMerge) {
  const uint64_t count = test::Reduced(10'000);
  world_.Close();
  world_.options.open_files_max = 8;
  ASSERT_TRUE(world_.Open().ok());
  // Each batch a pack of its own: larger than what is kept in memory.
  for (uint64_t i = 0; i < count; ++i) {
    const auto batch = store().NewBatch();
    ASSERT_TRUE(batch->Add(Bytes(std::to_string(i))).ok());
    ASSERT_TRUE(batch->Append(Bytes(std::string(9'000, 'x'))).ok());  // begins a file; not finished
    ASSERT_TRUE(batch->Commit().ok());
  }
  ASSERT_TRUE(world_.CloseAndOpen().ok());
  EXPECT_EQ(store().Stats().packs, count);
  EXPECT_EQ(*Read("77"), "77");
  while (store().Compact(1 << 30)->more) continue;
  EXPECT_LT(store().Stats().packs, count / 50);
  EXPECT_EQ(store().Stats().blobs, count);
  EXPECT_EQ(*Read("77"), "77");
}

}  // namespace
}  // namespace holdfast::memory
