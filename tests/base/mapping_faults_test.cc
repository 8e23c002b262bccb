// Real files, cut off under their mappings.
#include "base/mapping_faults.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/coding.h"
#include "base/file.h"
#include "gtest/gtest.h"

namespace holdfast::base {
namespace {

const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

// A file of `pages` pages of 'x', without a name.
class Victim {
 public:
  explicit Victim(size_t pages) {
    std::string name = ::testing::TempDir() + "holdfast_mapping_XXXXXX";
    fd_ = mkstemp(name.data());
    HF_CHECK(fd_ >= 0);
    const std::string bytes(pages * kPage, 'x');
    HF_CHECK(write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    auto mapped = RealFileSystem().Map(name);
    HF_CHECK(mapped.ok());
    mapped_ = *std::move(mapped);
    unlink(name.c_str());
  }
  ~Victim() { close(fd_); }

  void CutTo(size_t pages) { HF_CHECK(ftruncate(fd_, static_cast<off_t>(pages * kPage)) == 0); }
  const MappedFile& mapped() const { return *mapped_; }
  void Unmap() { mapped_.reset(); }
  int fd() const { return fd_; }
  // A byte of a page, really read.
  char Read(size_t page) const {
    return static_cast<char>(*static_cast<const volatile std::byte*>(&mapped_->bytes()[page * kPage + 7]));
  }

 private:
  int fd_ = -1;
  std::unique_ptr<MappedFile> mapped_;
};

TEST(MappingFaultsTest, APageThatIsGoneReadsAsZerosAndIsCounted) {
  Victim file(4);
  const Victim other(1);
  file.CutTo(2);
  const uint64_t before = MappingFaultCount();
  EXPECT_EQ(file.Read(0), 'x');
  EXPECT_EQ(file.Read(1), 'x');
  EXPECT_FALSE(file.mapped().damaged());
  EXPECT_EQ(MappingFaultCount(), before);
  EXPECT_EQ(file.Read(3), 0);
  EXPECT_TRUE(file.mapped().damaged());
  EXPECT_EQ(MappingFaultCount(), before + 1);
  EXPECT_EQ(file.Read(3), 0);
  EXPECT_EQ(file.Read(1), 'x');  // the pages that are there stay
  EXPECT_EQ(MappingFaultCount(), before + 1);
  EXPECT_EQ(file.Read(2), 0);
  EXPECT_EQ(MappingFaultCount(), before + 2);
  EXPECT_EQ(other.Read(0), 'x');
  EXPECT_FALSE(other.mapped().damaged());
}

TEST(MappingFaultsTest, ADamagedPageStaysZeroWhenTheFileGrowsAgain) {
  Victim file(2);
  file.CutTo(1);
  EXPECT_EQ(file.Read(1), 0);
  ASSERT_EQ(pwrite(file.fd(), "yyyyyyyyyyyyyyyy", 16, static_cast<off_t>(kPage)), 16);
  EXPECT_EQ(file.Read(1), 0);
  EXPECT_TRUE(file.mapped().damaged());
}

TEST(MappingFaultsTest, ALargeFileThatWasEmptiedCostsABoundedNumberOfFaults) {
  constexpr size_t kPages = 3 * kMappingFaultsMax;
  Victim file(kPages);
  file.CutTo(0);
  const uint64_t before = MappingFaultCount();
  std::vector<std::byte> copy(kPages * kPage, std::byte{1});
  std::memcpy(copy.data(), file.mapped().bytes().data(), copy.size());  // faults inside of one long read
  EXPECT_EQ(std::count(copy.begin(), copy.end(), std::byte{0}), static_cast<ptrdiff_t>(copy.size()));
  EXPECT_EQ(MappingFaultCount(), before + kMappingFaultsMax + 1);
  EXPECT_TRUE(file.mapped().damaged());
}

TEST(MappingFaultsTest, ManyThreadsMeetTheSameDamage) {
  constexpr size_t kPages = kMappingFaultsMax / 2;
  for (int round = 0; round < 20; ++round) {
    Victim file(kPages);
    file.CutTo(1);
    std::atomic<int> ready{0};
    std::vector<std::thread> readers;
    std::atomic<size_t> wrong{0};
    for (int t = 0; t < 4; ++t) {
      readers.emplace_back([&, t] {
        ++ready;
        while (ready < 4) std::this_thread::yield();
        for (size_t i = 0; i < kPages; ++i) {
          const size_t page = t % 2 == 0 ? i : kPages - 1 - i;
          wrong += file.Read(page) != (page == 0 ? 'x' : 0) ? 1 : 0;
        }
      });
    }
    for (std::thread& reader : readers) reader.join();
    EXPECT_EQ(wrong, 0u);
    EXPECT_TRUE(file.mapped().damaged());
  }
}

// Maps and unmaps on some threads while others meet damage, so that the registry changes under the handler.
TEST(MappingFaultsTest, WatchesComeAndGoWhileFaultsAreHandled) {
  constexpr int kRounds = 200;
  std::atomic<bool> done{false};
  std::vector<std::thread> churners;
  for (int t = 0; t < 2; ++t) {
    churners.emplace_back([&] {
      while (!done) {
        std::vector<std::unique_ptr<Victim>> files;
        for (int i = 0; i < 3; ++i) files.push_back(std::make_unique<Victim>(1));
        for (const auto& file : files) {
          EXPECT_EQ(file->Read(0), 'x');
          EXPECT_FALSE(file->mapped().damaged());
        }
      }
    });
  }
  for (int round = 0; round < kRounds; ++round) {
    Victim file(2);
    file.CutTo(1);
    EXPECT_EQ(file.Read(1), 0);
    EXPECT_TRUE(file.mapped().damaged());
  }
  done = true;
  for (std::thread& churner : churners) churner.join();
}

TEST(MappingFaultsTest, MoreWatchesThanOneChunkHolds) {
  std::vector<std::unique_ptr<Victim>> files;
  for (int i = 0; i < 300; ++i) files.push_back(std::make_unique<Victim>(1));
  for (const auto& file : files) file->CutTo(0);
  for (const auto& file : files) {
    EXPECT_FALSE(file->mapped().damaged());
    EXPECT_EQ(file->Read(0), 0);
    EXPECT_TRUE(file->mapped().damaged());
  }
}

TEST(MappingFaultsTest, AHintMayLieAnywhere) {
  const Victim file(3);
  file.mapped().WillNeed(0, 3 * kPage);
  file.mapped().WillNeed(kPage + 5, 1);
  file.mapped().WillNeed(5, UINT64_MAX);
  file.mapped().WillNeed(UINT64_MAX, UINT64_MAX);
  EXPECT_FALSE(file.mapped().damaged());
}

// --- What is not ours ends as it did before ---

class MappingFaultsDeathTest : public ::testing::Test {
 protected:
  MappingFaultsDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  // Reads past the end of a file through a mapping that nobody watches, at `address` when given.
  static void FaultElsewhere(int fd, void* address = nullptr) {
    HF_CHECK(ftruncate(fd, 0) == 0);
    const int flags = MAP_SHARED | (address != nullptr ? MAP_FIXED : 0);
    void* const memory = mmap(address, kPage, PROT_READ, flags, fd, 0);
    HF_CHECK(memory != MAP_FAILED);
    static_cast<void>(*static_cast<const volatile char*>(memory));
  }
};

TEST_F(MappingFaultsDeathTest, AFaultElsewhereEndsTheProcess) {
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        const Victim file(1);
        FaultElsewhere(file.fd());
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

TEST_F(MappingFaultsDeathTest, AMappingThatEndedIsWatchedNoMore) {
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        Victim file(1);
        void* const address = const_cast<std::byte*>(file.mapped().bytes().data());
        file.Unmap();
        FaultElsewhere(file.fd(), address);
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

TEST_F(MappingFaultsDeathTest, ASignalThatIsSentEndsTheProcess) {
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        const Victim file(1);
        raise(SIGBUS);
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

TEST_F(MappingFaultsDeathTest, AnEarlierHandlerIsCalled) {
  EXPECT_EXIT(
      {
        struct sigaction action = {};
        action.sa_sigaction = [](int, siginfo_t* info, void*) {
          _exit(info->si_code == BUS_ADRERR ? 42 : 1);
        };
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGBUS, &action, nullptr);
        Victim file(2);
        file.CutTo(1);
        HF_CHECK(file.Read(1) == 0);
        FaultElsewhere(file.fd());
      },
      ::testing::ExitedWithCode(42), "");
  EXPECT_EXIT(
      {
        signal(SIGBUS, [](int) { _exit(43); });
        const Victim file(1);
        FaultElsewhere(file.fd());
      },
      ::testing::ExitedWithCode(43), "");
}

}  // namespace
}  // namespace holdfast::base
