// The FileSystem contract, checked on the real disk and on the simulated one; then what only the real one
// has.
#include "base/file.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "base/check.h"
#include "base/coding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::base {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = ::testing::TempDir() + "holdfast_file_XXXXXX";
    HF_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryDirectory() { Clear(path_); }
  const std::string& path() const { return path_; }

 private:
  static void Clear(const std::string& path) {
    FileSystem& fs = RealFileSystem();
    const auto entries = fs.List(path, 1000);
    if (!entries.ok()) return;
    for (const DirectoryEntry& e : *entries) {
      if (e.kind == FileKind::kDirectory) Clear(path + "/" + e.name);
      fs.Remove(path + "/" + e.name).IgnoreError();
    }
    fs.Remove(path).IgnoreError();
  }

  std::string path_;
};

std::string ReadAll(File& file, uint64_t offset, size_t bytes) {
  std::string text(bytes, '?');
  const auto n = file.ReadAt(offset, std::as_writable_bytes(std::span(text)));
  EXPECT_TRUE(n.ok()) << n.status();
  text.resize(n.value_or(0));
  return text;
}

enum class Kind { kReal, kSimulated };

class FileSystemTest : public ::testing::TestWithParam<Kind> {
 protected:
  FileSystemTest() : simulated_(clock_), dir_(real_dir_.path()) {
    HF_CHECK(GetParam() == Kind::kReal || simulated_.CreateDirectories(dir_).ok());
  }

  FileSystem& fs() {
    return GetParam() == Kind::kReal ? RealFileSystem() : static_cast<FileSystem&>(simulated_);
  }
  std::string Path(const std::string& name) const { return dir_ + "/" + name; }
  void Put(const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFileAtomically(fs(), Path(name), AsBytes(text)).ok());
  }
  std::string Get(const std::string& name) {
    const auto text = fs().ReadFile(Path(name), 1 << 20);
    return text.ok() ? *text : text.status().ToString();
  }
  std::unique_ptr<File> OpenOk(const std::string& name, OpenMode mode) {
    auto file = fs().Open(Path(name), mode);
    HF_CHECK(file.ok());
    return *std::move(file);
  }

 private:
  test::SimClock clock_;
  test::SimFileSystem simulated_;
  TemporaryDirectory real_dir_;

 protected:
  const std::string dir_;
};

INSTANTIATE_TEST_SUITE_P(Disks, FileSystemTest, ::testing::Values(Kind::kReal, Kind::kSimulated),
                         [](const auto& tested) {
                           return tested.param == Kind::kReal ? "Real" : "Simulated";
                         });

TEST_P(FileSystemTest, WrittenBytesAreReadBack) {
  const auto file = OpenOk("f", OpenMode::kCreateNew);
  ASSERT_TRUE(file->WriteAt(0, AsBytes("hello world")).ok());
  ASSERT_TRUE(file->WriteAt(6, AsBytes("W")).ok());
  ASSERT_TRUE(file->Append(AsBytes("!")).ok());
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(file->DataSync().ok());
  EXPECT_EQ(*file->Size(), 12u);
  EXPECT_EQ(ReadAll(*file, 0, 100), "hello World!");
  EXPECT_EQ(ReadAll(*file, 6, 5), "World");
  EXPECT_EQ(ReadAll(*file, 12, 5), "");
  EXPECT_EQ(ReadAll(*file, 1000, 5), "");
  EXPECT_EQ(ReadAll(*file, 0, 0), "");
}

TEST_P(FileSystemTest, AGapReadsAsZeros) {
  const auto file = OpenOk("f", OpenMode::kCreate);
  ASSERT_TRUE(file->WriteAt(3, AsBytes("x")).ok());
  EXPECT_EQ(ReadAll(*file, 0, 10), std::string("\0\0\0x", 4));
}

TEST_P(FileSystemTest, TruncateCutsAndGrowsWithZeros) {
  const auto file = OpenOk("f", OpenMode::kCreate);
  ASSERT_TRUE(file->WriteAt(0, AsBytes("abcdef")).ok());
  ASSERT_TRUE(file->Truncate(2).ok());
  ASSERT_TRUE(file->Truncate(4).ok());
  EXPECT_EQ(ReadAll(*file, 0, 10), std::string("ab\0\0", 4));
}

TEST_P(FileSystemTest, PreallocateGrowsAndNeverCuts) {
  const auto file = OpenOk("f", OpenMode::kCreate);
  ASSERT_TRUE(file->Preallocate(0).ok());
  ASSERT_TRUE(file->Preallocate(8192).ok());
  ASSERT_TRUE(file->Preallocate(100).ok());
  EXPECT_EQ(*file->Size(), 8192u);
  EXPECT_EQ(ReadAll(*file, 0, 3), std::string(3, '\0'));
}

TEST_P(FileSystemTest, OffsetsBeyond63BitsAreInvalid) {
  const auto file = OpenOk("f", OpenMode::kCreate);
  std::byte b[2]{};
  EXPECT_TRUE(absl::IsInvalidArgument(file->WriteAt(UINT64_MAX, b)));
  EXPECT_TRUE(absl::IsInvalidArgument(file->WriteAt(INT64_MAX, b)));
  EXPECT_TRUE(absl::IsInvalidArgument(file->ReadAt(UINT64_MAX - 1, b).status()));
}

TEST_P(FileSystemTest, AMappingShowsTheFileAndLaterWrites) {
  Put("f", "abc");
  const auto mapped = fs().Map(Path("f"));
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_EQ(AsText((*mapped)->bytes()), "abc");
  ASSERT_TRUE(OpenOk("f", OpenMode::kReadWrite)->WriteAt(1, AsBytes("B")).ok());
  EXPECT_EQ(AsText((*mapped)->bytes()), "aBc");
}

TEST_P(FileSystemTest, AMappingOutlivesTheName) {
  Put("f", "abc");
  const auto mapped = fs().Map(Path("f"));
  ASSERT_TRUE(fs().Remove(Path("f")).ok());
  EXPECT_EQ(AsText((*mapped)->bytes()), "abc");
}

TEST_P(FileSystemTest, AnEmptyFileMapsToAnEmptySpan) {
  Put("f", "");
  const auto mapped = fs().Map(Path("f"));
  ASSERT_TRUE(mapped.ok());
  EXPECT_TRUE((*mapped)->bytes().empty());
}

TEST_P(FileSystemTest, AbsentFilesAreNotFoundAndNamed) {
  const Status status = fs().Map(Path("none")).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(Message(status), HasSubstr(Path("none")));
  EXPECT_THAT(Message(status), HasSubstr("No such file or directory"));
  EXPECT_TRUE(absl::IsNotFound(fs().ReadFile(Path("none"), 1).status()));
  EXPECT_TRUE(absl::IsNotFound(fs().Open(Path("none"), OpenMode::kRead).status()));
  EXPECT_TRUE(absl::IsNotFound(fs().Open(Path("none"), OpenMode::kReadWrite).status()));
  EXPECT_TRUE(absl::IsNotFound(fs().Open(Path("none/f"), OpenMode::kCreate).status()));
  EXPECT_TRUE(absl::IsNotFound(fs().Stat(Path("none")).status()));
  EXPECT_TRUE(absl::IsNotFound(fs().Remove(Path("none"))));
  EXPECT_TRUE(absl::IsNotFound(fs().Rename(Path("none"), Path("f"))));
  EXPECT_TRUE(absl::IsNotFound(fs().List(Path("none"), 1).status()));
  EXPECT_TRUE(absl::IsNotFound(fs().SyncDirectory(Path("none"))));
}

TEST_P(FileSystemTest, ADirectoryIsNoFileAndTheOtherWayRound) {
  ASSERT_TRUE(fs().CreateDirectories(Path("d")).ok());
  Put("f", "x");
  EXPECT_TRUE(absl::IsFailedPrecondition(fs().Map(Path("d")).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(fs().ReadFile(Path("d"), 9).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(fs().Open(Path("d"), OpenMode::kReadWrite).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(fs().Lock(Path("d")).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(fs().List(Path("f"), 9).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(fs().SyncDirectory(Path("f"))));
  EXPECT_TRUE(absl::IsFailedPrecondition(fs().Stat(Path("f/g")).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(fs().CreateDirectories(Path("f/g"))));
  EXPECT_TRUE(absl::IsFailedPrecondition(fs().Rename(Path("f"), Path("d"))));
  EXPECT_TRUE(absl::IsFailedPrecondition(fs().Rename(Path("d"), Path("f"))));
}

TEST_P(FileSystemTest, BadPathsAreInvalid) {
  EXPECT_TRUE(absl::IsInvalidArgument(fs().Map("").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(fs().Stat(std::string("a\0b", 3)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(fs().Remove("")));
}

TEST_P(FileSystemTest, ReadFileKeepsItsBound) {
  Put("f", "12345");
  EXPECT_EQ(*fs().ReadFile(Path("f"), 5), "12345");
  EXPECT_TRUE(absl::IsResourceExhausted(fs().ReadFile(Path("f"), 4).status()));
  Put("empty", "");
  EXPECT_EQ(*fs().ReadFile(Path("empty"), 0), "");
}

TEST_P(FileSystemTest, ReadFileReadsMoreThanOneChunk) {
  const std::string text(200'000, 'x');
  Put("f", text);
  EXPECT_EQ(Get("f"), text);
}

TEST_P(FileSystemTest, OpenModesCreateKeepOrEmpty) {
  EXPECT_TRUE(fs().Open(Path("f"), OpenMode::kCreateNew).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(fs().Open(Path("f"), OpenMode::kCreateNew).status()));
  Put("f", "abc");
  EXPECT_EQ(*OpenOk("f", OpenMode::kCreate)->Size(), 3u);
  EXPECT_EQ(*OpenOk("f", OpenMode::kTruncate)->Size(), 0u);
}

TEST_P(FileSystemTest, AFileOpenedForReadingIsNotWritten) {
  Put("f", "abc");
  const auto file = OpenOk("f", OpenMode::kRead);
  EXPECT_FALSE(file->WriteAt(0, AsBytes("x")).ok());
  EXPECT_EQ(ReadAll(*file, 0, 9), "abc");
}

TEST_P(FileSystemTest, RenameReplaces) {
  Put("a", "new");
  Put("b", "old");
  ASSERT_TRUE(fs().Rename(Path("a"), Path("b")).ok());
  EXPECT_EQ(Get("b"), "new");
  EXPECT_TRUE(absl::IsNotFound(fs().Stat(Path("a")).status()));
}

TEST_P(FileSystemTest, CreateDirectoriesMakesParentsAndMayBeRepeated) {
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(fs().CreateDirectories(Path("a/b//c/")).ok());
  EXPECT_EQ(fs().Stat(Path("a/b/c"))->kind, FileKind::kDirectory);
  EXPECT_TRUE(absl::IsFailedPrecondition(fs().Remove(Path("a"))));  // not empty
  EXPECT_TRUE(fs().Remove(Path("a/b/c")).ok());
}

TEST_P(FileSystemTest, ListIsSortedAndBounded) {
  Put("b", "");
  Put("a", "");
  ASSERT_TRUE(fs().CreateDirectories(Path("c")).ok());
  const auto entries = fs().List(dir_, 3);
  ASSERT_TRUE(entries.ok()) << entries.status();
  std::vector<std::string> names;
  for (const DirectoryEntry& e : *entries) names.push_back(e.name);
  EXPECT_THAT(names, ElementsAre("a", "b", "c"));
  EXPECT_EQ((*entries)[0].kind, FileKind::kRegular);
  EXPECT_EQ((*entries)[2].kind, FileKind::kDirectory);
  EXPECT_TRUE(absl::IsResourceExhausted(fs().List(dir_, 2).status()));
  EXPECT_THAT(*fs().List(Path("c"), 0), IsEmpty());
}

TEST_P(FileSystemTest, StatTellsFilesApart) {
  Put("a", "abc");
  Put("b", "");
  const auto a = fs().Stat(Path("a"));
  const auto b = fs().Stat(Path("b"));
  EXPECT_EQ(a->kind, FileKind::kRegular);
  EXPECT_EQ(a->size_bytes, 3u);
  EXPECT_EQ(a->device, b->device);
  EXPECT_NE(a->inode, b->inode);
  EXPECT_GT(a->mtime_ns, 1'500'000'000 * int64_t{1'000'000'000});
  EXPECT_GE(a->ctime_ns, a->mtime_ns);
  EXPECT_EQ(a->links, 1u);
  EXPECT_GT(a->allocated_bytes + 1, b->allocated_bytes);
}

TEST_P(FileSystemTest, InfoTellsWhereAPathLies) {
  Put("a", "abc");
  for (const std::string& path : {Path("a"), dir_}) {
    const auto info = fs().Info(path);
    ASSERT_TRUE(info.ok()) << info.status();
    EXPECT_THAT(info->type, ::testing::Not(IsEmpty()));
    EXPECT_GT(info->total_bytes, 0u);
    EXPECT_LE(info->free_bytes, info->total_bytes);
  }
  EXPECT_TRUE(absl::IsNotFound(fs().Info(Path("none")).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(fs().Info("").status()));
}

TEST_P(FileSystemTest, AMappingOfAFileThatWasCutOffIsDamaged) {
  Put("f", std::string(100'000, 'x'));
  const auto mapped = fs().Map(Path("f"));
  ASSERT_TRUE(mapped.ok());
  (*mapped)->WillNeed(10, 99'999'999);
  EXPECT_FALSE((*mapped)->damaged());
  ASSERT_TRUE(OpenOk("f", OpenMode::kReadWrite)->Truncate(0).ok());
  EXPECT_EQ(AsText((*mapped)->bytes()), std::string(100'000, '\0'));
  EXPECT_TRUE((*mapped)->damaged());
}

TEST_P(FileSystemTest, ALockIsExclusiveUntilDropped) {
  auto lock = fs().Lock(Path("lock"));
  ASSERT_TRUE(lock.ok()) << lock.status();
  const Status second = fs().Lock(Path("lock")).status();
  EXPECT_TRUE(absl::IsUnavailable(second));
  EXPECT_THAT(Message(second), HasSubstr("held by process "));
  lock->reset();
  EXPECT_TRUE(fs().Lock(Path("lock")).ok());
}

TEST_P(FileSystemTest, WriteFileAtomicallyLeavesNoTemporaryBehind) {
  Put("f", "1");
  Put("f", "2");
  EXPECT_EQ(Get("f"), "2");
  EXPECT_EQ(fs().List(dir_, 10)->size(), 1u);
  EXPECT_FALSE(WriteFileAtomically(fs(), Path("none/f"), AsBytes("x")).ok());
}

TEST_P(FileSystemTest, RandomReadsAndWritesMatchAString) {
  for (const uint64_t seed : test::TestSeeds(5)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    const auto file = OpenOk("f", OpenMode::kTruncate);
    std::string model;
    for (int step = 0; step < 300; ++step) {
      const size_t offset = random.Below(5000);
      const std::string bytes(random.Below(1500), static_cast<char>(random.Below(256)));
      if (random.Percent(60)) {
        ASSERT_TRUE(file->WriteAt(offset, AsBytes(bytes)).ok());
        if (!bytes.empty()) model.resize(std::max(model.size(), offset + bytes.size()));
        model.replace(std::min(offset, model.size()), bytes.size(), bytes);
      } else if (random.Percent(20)) {
        ASSERT_TRUE(file->Truncate(offset).ok());
        model.resize(offset);
      }
      ASSERT_EQ(ReadAll(*file, 0, 10'000), model);
      ASSERT_EQ(*file->Size(), model.size());
    }
  }
}

// --- What only a real disk has ---

class RealFileSystemTest : public ::testing::Test {
 protected:
  FileSystem& fs_ = RealFileSystem();
  TemporaryDirectory dir_;
};

TEST_F(RealFileSystemTest, DoesNotWaitForAFifoOrReadADevice) {
  const std::string fifo = dir_.path() + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(fs_.Map(fifo).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(fs_.ReadFile(fifo, 10).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(fs_.ReadFile("/dev/zero", 10).status()));
}

TEST_F(RealFileSystemTest, ReadsFilesThatDoNotTellTheirSize) {
  EXPECT_THAT(fs_.ReadFile("/proc/self/status", 1 << 20).value_or(""), HasSubstr("Pid:"));
}

TEST_F(RealFileSystemTest, FollowsLinksButListsThemAsLinks) {
  const std::string target = dir_.path() + "/target";
  ASSERT_TRUE(WriteFileAtomically(fs_, target, AsBytes("abc")).ok());
  ASSERT_EQ(symlink("target", (dir_.path() + "/link").c_str()), 0);
  EXPECT_EQ(*fs_.ReadFile(dir_.path() + "/link", 3), "abc");
  EXPECT_EQ(fs_.Stat(dir_.path() + "/link")->kind, FileKind::kRegular);
  EXPECT_EQ(fs_.List(dir_.path(), 9)->front().kind, FileKind::kSymlink);
}

TEST_F(RealFileSystemTest, StatCountsNamesAndBlocks) {
  const std::string path = dir_.path() + "/f";
  {
    const auto file = fs_.Open(path, OpenMode::kCreateNew);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE((*file)->Truncate(1 << 20).ok());
  }
  EXPECT_LT(fs_.Stat(path)->allocated_bytes, 1u << 20);  // a hole
  ASSERT_EQ(link(path.c_str(), (dir_.path() + "/g").c_str()), 0);
  EXPECT_EQ(fs_.Stat(path)->links, 2u);
}

TEST_F(RealFileSystemTest, KernelFileSystemsAreKnown) {
  EXPECT_EQ(fs_.Info("/proc")->type, "proc");
  EXPECT_FALSE(fs_.Info("/proc")->network);
}

TEST_F(RealFileSystemTest, ALinkThatPointsToItselfIsInvalid) {
  const std::string loop = dir_.path() + "/loop";
  ASSERT_EQ(symlink("loop", loop.c_str()), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(fs_.Map(loop).status()));
}

TEST_F(RealFileSystemTest, CreatesForTheOwnerOnly) {
  const std::string path = dir_.path() + "/d/f";
  ASSERT_TRUE(fs_.CreateDirectories(dir_.path() + "/d").ok());
  ASSERT_TRUE(fs_.Open(path, OpenMode::kCreateNew).ok());
  struct stat s;
  ASSERT_EQ(stat(path.c_str(), &s), 0);
  EXPECT_EQ(s.st_mode & 0777, 0600u);
  ASSERT_EQ(stat((dir_.path() + "/d").c_str(), &s), 0);
  EXPECT_EQ(s.st_mode & 0777, 0700u);
}

TEST_F(RealFileSystemTest, ALockNamesItsHolderAndEndsWithIt) {
  const std::string path = dir_.path() + "/lock";
  EXPECT_EXIT(
      {
        const auto lock = fs_.Lock(path);
        if (lock.ok()) kill(getpid(), SIGKILL);
      },
      ::testing::KilledBySignal(SIGKILL), "");
  const auto lock = fs_.Lock(path);
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_THAT(Message(fs_.Lock(path).status()),
              HasSubstr("held by process " + std::to_string(getpid()) + ")"));
}

TEST_F(RealFileSystemTest, ALockFileWithGarbageNamesNoHolder) {
  const std::string path = dir_.path() + "/lock";
  const auto lock = fs_.Lock(path);
  const auto file = fs_.Open(path, OpenMode::kReadWrite);
  ASSERT_TRUE((*file)->WriteAt(0, AsBytes("-7 garbage without end")).ok());
  const Status held = fs_.Lock(path).status();
  EXPECT_TRUE(absl::IsUnavailable(held));
  EXPECT_THAT(Message(held), ::testing::Not(HasSubstr("held by")));
}

TEST(ParentDirectoryTest, CutsTheLastName) {
  EXPECT_EQ(ParentDirectory("a/b"), "a");
  EXPECT_EQ(ParentDirectory("/a"), "/");
  EXPECT_EQ(ParentDirectory("a"), ".");
  EXPECT_EQ(ParentDirectory("/a/b/c"), "/a/b");
}

}  // namespace
}  // namespace holdfast::base
