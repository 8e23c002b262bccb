// What the simulated disk does beyond the FileSystem contract (tests/base/file_test.cc checks that).
#include "tests/support/sim_file_system.h"

#include <cerrno>
#include <set>
#include <string>

#include "base/check.h"
#include "base/coding.h"
#include "base/faults.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/sim_clock.h"

namespace holdfast::test {
namespace {

using base::AsBytes;
using base::AsText;
using base::File;
using base::FileSystem;
using base::OpenMode;
using base::Status;
using base::WriteFileAtomically;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class SimFileSystemTest : public ::testing::Test {
 protected:
  // Runs `scenario(fs)`, crashes at once, and calls `check(fs)`, for the same many seeds each time: some
  // tests want to see every outcome.
  template <class Scenario, class Check>
  void CrashAfter(Scenario&& scenario, Check&& check) {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
      SCOPED_TRACE(::testing::Message() << "seed " << seed);
      SimFileSystem fs(clock_, {.seed = seed});
      scenario(fs);
      fs.Crash();
      fs.Restart();
      check(fs);
    }
  }

  static std::string Get(FileSystem& fs, const std::string& path) {
    const auto text = fs.ReadFile(path, 1 << 20);
    return text.ok() ? *text : "(" + absl::StatusCodeToString(text.status().code()) + ")";
  }
  static std::unique_ptr<File> Create(FileSystem& fs, const std::string& path) {
    auto file = fs.Open(path, OpenMode::kCreate);
    HF_CHECK(file.ok());
    return *std::move(file);
  }

  SimClock clock_;
};

TEST_F(SimFileSystemTest, WhatWasSyncedSurvives) {
  CrashAfter([](FileSystem& fs) { ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes("abc")).ok()); },
             [](FileSystem& fs) { EXPECT_EQ(Get(fs, "f"), "abc"); });
}

TEST_F(SimFileSystemTest, AnUnsyncedNameMayBeLostAndAnUnsyncedFileMayBeEmpty) {
  std::set<std::string> found;
  CrashAfter([](FileSystem& fs) { EXPECT_TRUE(Create(fs, "f")->WriteAt(0, AsBytes("abc")).ok()); },
             [&](FileSystem& fs) { found.insert(Get(fs, "f")); });
  EXPECT_THAT(found, Contains("(NOT_FOUND)"));
  EXPECT_THAT(found, Contains(""));
  EXPECT_THAT(found, Contains("abc"));
}

TEST_F(SimFileSystemTest, InfoFollowsTheBoundAndTheSwitch) {
  SimFileSystem fs(clock_, {.disk_bytes_max = 1000});
  ASSERT_TRUE(Create(fs, "f")->WriteAt(0, AsBytes("abc")).ok());
  EXPECT_EQ(fs.Info("f")->free_bytes, 997u);
  EXPECT_EQ(fs.Info("f")->total_bytes, 1000u);
  EXPECT_FALSE(fs.Info("f")->network);
  fs.SetNetwork(true);
  EXPECT_TRUE(fs.Info(".")->network);
  fs.Crash();
  EXPECT_TRUE(absl::IsUnavailable(fs.Info("f").status()));
}

TEST_F(SimFileSystemTest, ARenameIsLostOrMadeAsAWhole) {
  std::set<std::string> found;
  const auto scenario = [](FileSystem& fs) {
    ASSERT_TRUE(WriteFileAtomically(fs, "a", AsBytes("new")).ok());
    ASSERT_TRUE(WriteFileAtomically(fs, "b", AsBytes("old")).ok());
    ASSERT_TRUE(fs.Rename("a", "b").ok());
  };
  CrashAfter(scenario, [&](FileSystem& fs) { found.insert(Get(fs, "a") + " " + Get(fs, "b")); });
  EXPECT_THAT(found, UnorderedElementsAre("new old", "(NOT_FOUND) new"));
}

TEST_F(SimFileSystemTest, ARenameBetweenDirectoriesNeverLosesTheFile) {
  std::set<std::string> found;
  for (const bool sync_source : {false, true}) {
    const auto scenario = [&](FileSystem& fs) {
      ASSERT_TRUE(fs.CreateDirectories("d").ok());
      ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes("x")).ok());
      ASSERT_TRUE(fs.Rename("f", "d/f").ok());
      if (sync_source) {
        ASSERT_TRUE(fs.SyncDirectory(".").ok());
      }
    };
    CrashAfter(scenario, [&](FileSystem& fs) { found.insert(Get(fs, "f") + " " + Get(fs, "d/f")); });
  }
  EXPECT_THAT(found, UnorderedElementsAre("x (NOT_FOUND)", "x x", "(NOT_FOUND) x"));
}

TEST_F(SimFileSystemTest, UnsyncedWritesAreTornAndReorderedAtSectors) {
  const std::string old(4 * kSimSectorBytes, 'o');
  bool torn = false;
  bool reordered = false;
  const auto scenario = [&](FileSystem& fs) {
    ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes(old)).ok());
    const auto file = Create(fs, "f");
    ASSERT_TRUE(file->WriteAt(0, AsBytes(std::string(2 * kSimSectorBytes, '1'))).ok());
    ASSERT_TRUE(file->WriteAt(2 * kSimSectorBytes, AsBytes(std::string(2 * kSimSectorBytes, '2'))).ok());
  };
  CrashAfter(scenario, [&](FileSystem& fs) {
    const std::string text = Get(fs, "f");
    ASSERT_EQ(text.size(), old.size());
    std::string sectors;
    for (size_t s = 0; s < 4; ++s) {
      sectors += text[s * kSimSectorBytes];
      EXPECT_EQ(text.substr(s * kSimSectorBytes, kSimSectorBytes), std::string(kSimSectorBytes, sectors[s]));
    }
    torn |= sectors == "1ooo" || sectors == "o1oo" || sectors == "112o";
    reordered |= sectors == "oo22";
  });
  EXPECT_TRUE(torn);
  EXPECT_TRUE(reordered);
}

TEST_F(SimFileSystemTest, WithinASectorALaterWriteNeverSurvivesWithoutAnEarlierOne) {
  CrashAfter(
      [](FileSystem& fs) {
        ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes("....")).ok());
        const auto file = Create(fs, "f");
        ASSERT_TRUE(file->WriteAt(0, AsBytes("1")).ok());
        ASSERT_TRUE(file->WriteAt(1, AsBytes("2")).ok());
      },
      [](FileSystem& fs) { EXPECT_NE(Get(fs, "f"), ".2.."); });
}

TEST_F(SimFileSystemTest, TruncationIsLostOrMadeAsAWhole) {
  std::set<std::string> found;
  CrashAfter(
      [](FileSystem& fs) {
        ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes("abcdef")).ok());
        ASSERT_TRUE(Create(fs, "f")->Truncate(2).ok());
      },
      [&](FileSystem& fs) { found.insert(Get(fs, "f")); });
  EXPECT_THAT(found, UnorderedElementsAre("abcdef", "ab"));
}

TEST_F(SimFileSystemTest, WriteFileAtomicallyIsAtomicAtEveryCrash) {
  for (const uint64_t seed : TestSeeds(50)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    SimFileSystem fs(clock_, {.seed = seed});
    ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes(std::string(2000, 'a'))).ok());
    for (uint64_t n = 1;; ++n) {
      fs.CrashAtMutation(n);
      const Status status = WriteFileAtomically(fs, "f", AsBytes(std::string(3000, 'b')));
      if (!fs.crashed()) break;
      EXPECT_TRUE(absl::IsUnavailable(status));
      fs.Restart();
      const std::string text = Get(fs, "f");
      EXPECT_TRUE(text == std::string(2000, 'a') || text == std::string(3000, 'b')) << text.size();
    }
    fs.CrashAtMutation(0);
    fs.Crash();
    fs.Restart();
    EXPECT_EQ(Get(fs, "f"), std::string(3000, 'b'));
  }
}

TEST_F(SimFileSystemTest, WriteFileAtomicallyIsAtomicAtEveryFaultPoint) {
  struct CrashAt {
    SimFileSystem& fs;
    std::string_view name;
  };
  const auto crash = [](void* context, std::string_view name) {
    auto& at = *static_cast<CrashAt*>(context);
    if (name == at.name) at.fs.Crash();
  };
  for (const char* const name :
       {"base.file.before_sync", "base.file.before_rename", "base.file.before_directory_sync"}) {
    SimFileSystem fs(clock_);
    ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes("old")).ok());
    CrashAt at{fs, name};
    {
      const base::ScopedFaultHandler handler(crash, &at);
      EXPECT_TRUE(absl::IsUnavailable(WriteFileAtomically(fs, "f", AsBytes("new")))) << name;
    }
    ASSERT_TRUE(fs.crashed()) << name;
    fs.Restart();
    EXPECT_THAT(Get(fs, "f"), AnyOf("old", "new")) << name;
  }
}

// The harness must be able to fail: with syncs that do nothing, the same property is broken.
TEST_F(SimFileSystemTest, LyingSyncsAreFoundOut) {
  bool found = false;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SimFileSystem fs(clock_, {.seed = seed, .lying_syncs = true});
    ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes("abc")).ok());
    fs.Crash();
    fs.Restart();
    found |= Get(fs, "f") != "abc";
  }
  EXPECT_TRUE(found);
}

TEST_F(SimFileSystemTest, AFailedSyncLosesWhatItShouldHaveSaved) {
  std::set<std::string> found;
  CrashAfter(
      [](SimFileSystem& fs) {
        ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes("old")).ok());
        const auto file = Create(fs, "f");
        ASSERT_TRUE(file->WriteAt(0, AsBytes("new")).ok());
        fs.FailNext(SimOp::kSync, "f", EIO);
        EXPECT_TRUE(absl::IsDataLoss(file->Sync()));
        EXPECT_EQ(Get(fs, "f"), "new");
        EXPECT_TRUE(file->Sync().ok());
      },
      [&](FileSystem& fs) { found.insert(Get(fs, "f")); });
  EXPECT_THAT(found, UnorderedElementsAre("old"));
}

TEST_F(SimFileSystemTest, FilesOfBeforeACrashAreDeadAndLocksAreGone) {
  SimFileSystem fs(clock_);
  const auto file = Create(fs, "f");
  const auto lock = fs.Lock("lock");
  ASSERT_TRUE(lock.ok());
  ASSERT_TRUE(fs.SyncDirectory("/").ok());
  fs.Crash();
  EXPECT_TRUE(fs.crashed());
  EXPECT_TRUE(absl::IsUnavailable(file->Sync()));
  EXPECT_TRUE(absl::IsUnavailable(fs.Stat("f").status()));
  EXPECT_TRUE(absl::IsUnavailable(fs.CreateDirectories("d")));
  EXPECT_TRUE(absl::IsUnavailable(fs.Map("f").status()));
  fs.Restart();
  EXPECT_TRUE(absl::IsUnavailable(file->Size().status()));
  EXPECT_TRUE(absl::IsUnavailable(file->WriteAt(0, AsBytes("x"))));
  const auto second = fs.Lock("lock");
  EXPECT_TRUE(second.ok()) << second.status();
}

TEST_F(SimFileSystemTest, AMappingKeepsItsBytesOverACrash) {
  SimFileSystem fs(clock_);
  ASSERT_TRUE(Create(fs, "f")->WriteAt(0, AsBytes("abc")).ok());
  const auto mapped = fs.Map("f");
  ASSERT_TRUE(mapped.ok());
  fs.Crash();
  fs.Restart();
  EXPECT_EQ(AsText((*mapped)->bytes()), "abc");
}

TEST_F(SimFileSystemTest, AFullDiskTakesWhatFitsAndPreallocatedSpaceStaysUsable) {
  SimFileSystem fs(clock_, {.disk_bytes_max = 100});
  const auto a = Create(fs, "a");
  ASSERT_TRUE(a->Preallocate(60).ok());
  const auto b = Create(fs, "b");
  ASSERT_TRUE(b->WriteAt(0, AsBytes(std::string(40, 'b'))).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(b->WriteAt(30, AsBytes(std::string(20, 'c')))));
  EXPECT_EQ(Get(fs, "b"), std::string(30, 'b') + std::string(10, 'c'));
  EXPECT_TRUE(absl::IsResourceExhausted(b->Truncate(41)));
  EXPECT_TRUE(a->WriteAt(0, AsBytes(std::string(60, 'a'))).ok());
  ASSERT_TRUE(fs.Remove("a").ok());
  EXPECT_TRUE(b->Truncate(100).ok());
}

TEST_F(SimFileSystemTest, AFileBeyondTheLimitIsResourceExhausted) {
  SimFileSystem fs(clock_, {.file_bytes_max = 4096});
  const auto file = Create(fs, "f");
  EXPECT_TRUE(absl::IsResourceExhausted(file->WriteAt(4096, AsBytes("x"))));
  EXPECT_TRUE(file->WriteAt(4095, AsBytes("x")).ok());
}

TEST_F(SimFileSystemTest, PlannedFaultsHitTheirPathOnceAndInTurn) {
  SimFileSystem fs(clock_);
  ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes("abc")).ok());
  fs.FailNext(SimOp::kOpen, "f", EIO, /*skip=*/1);
  EXPECT_TRUE(fs.Map("f").ok());
  const Status status = fs.Map("f").status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(base::Message(status), HasSubstr("open f: Input/output error"));
  EXPECT_TRUE(fs.Map("f").ok());
  for (const SimOp op : {SimOp::kCreate, SimOp::kWrite, SimOp::kSync, SimOp::kRename}) {
    fs.FailNext(op, "g.tmp", ENOSPC);
    EXPECT_TRUE(absl::IsResourceExhausted(WriteFileAtomically(fs, "g", AsBytes("x"))));
    EXPECT_TRUE(absl::IsNotFound(fs.Stat("g").status()));
    EXPECT_TRUE(absl::IsNotFound(fs.Stat("g.tmp").status()));
  }
}

TEST_F(SimFileSystemTest, RandomFaultsComeAndGo) {
  SimFileSystem fs(clock_);
  ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes("abc")).ok());
  fs.FailRandomly(SimOp::kOpen, 50, EIO);
  int failures = 0;
  for (int i = 0; i < 100; ++i) failures += fs.Map("f").ok() ? 0 : 1;
  EXPECT_GT(failures, 20);
  EXPECT_LT(failures, 80);
  fs.FailRandomly(SimOp::kOpen, 0, 0);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(fs.Map("f").ok());
}

TEST_F(SimFileSystemTest, ReadsMayBeCutShort) {
  SimFileSystem fs(clock_);
  ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes("abc")).ok());
  fs.CutReads(100);
  std::byte buffer[3];
  EXPECT_LT(*Create(fs, "f")->ReadAt(0, buffer), 3u);
}

TEST_F(SimFileSystemTest, AFlippedBitIsSeenAtOnceAndAfterARestart) {
  SimFileSystem fs(clock_);
  ASSERT_TRUE(WriteFileAtomically(fs, "f", AsBytes("abc")).ok());
  fs.FlipBit("f", 8);
  EXPECT_EQ(Get(fs, "f"), "acc");
  fs.Crash();
  fs.Restart();
  EXPECT_EQ(Get(fs, "f"), "acc");
}

TEST_F(SimFileSystemTest, TheSameSeedCrashesTheSameWay) {
  const auto run = [&](uint64_t seed) {
    SimFileSystem fs(clock_, {.seed = seed});
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(Create(fs, "f" + std::to_string(i))->WriteAt(0, AsBytes(std::string(3000, 'x'))).ok());
    }
    fs.Restart();
    std::string state;
    const auto entries = fs.List("/", 100);
    HF_CHECK(entries.ok());
    for (const auto& e : *entries) state += e.name + "=" + Get(fs, e.name) + ";";
    return state;
  };
  std::set<std::string> states;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    EXPECT_EQ(run(seed), run(seed));
    states.insert(run(seed));
  }
  EXPECT_THAT(states, SizeIs(::testing::Gt(5u)));
}

TEST_F(SimFileSystemTest, ADirectoryStaysWithItsParent) {
  SimFileSystem fs(clock_);
  ASSERT_TRUE(fs.CreateDirectories("a/b").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(fs.Rename("a/b", "c")));
  EXPECT_TRUE(fs.Rename("a", "c").ok());
  EXPECT_TRUE(fs.Stat("c/b").ok());
}

}  // namespace
}  // namespace holdfast::test
