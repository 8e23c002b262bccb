// The block store on a real disk, when somebody else lays hands on its files.
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/mapping_faults.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memory/block_store.h"
#include "tests/memory/kv_testing.h"

namespace holdfast::memory {
namespace {

using ::testing::HasSubstr;

class StoreRealFileTest : public ::testing::Test {
 protected:
  StoreRealFileTest() : keys_(ChainOf(TestRoot(), std::vector<int32_t>{1, 2, 3})) {
    std::string name = (std::filesystem::temp_directory_path() / "holdfast-kv-XXXXXX").string();
    HF_CHECK(mkdtemp(name.data()) != nullptr);
    directory_ = name;
    options_ = TestStoreOptions();
    options_.directory = directory_ + "/kv";
    options_.on_event = [this](const StoreEvent& event) { events_.push_back(event); };
    Open();
    HF_CHECK(Build().ok());
    Close();
  }
  ~StoreRealFileTest() override {
    Close();
    std::filesystem::remove_all(directory_);
  }

  void Open() {
    auto store = BlockStore::Open(base::RealFileSystem(), options_);
    HF_CHECK(store.ok());
    store_ = *std::move(store);
  }
  void Close() { store_.reset(); }
  base::Status Build() {
    const ChainRef end = AppendChain(*store_, store_->Root(TestRoot()), keys_);
    const TailRef tail = store_->PutTail(end, TailBytes(keys_.back()), true);
    return store_->Sync();
  }
  std::string BlocksFile() const { return options_.directory + "/000000000001.kvb"; }

  // As a session reads: what was read while a page could not be is thrown away.
  Served Read(const Attachment& found) {
    const uint64_t before = base::MappingFaultCount();
    Served all = Served::kRight;
    for (size_t b = 0; b < found.blocks.size(); ++b) {
      const Served served = ReadBlock(*store_, found.blocks[b], keys_[b]);
      if (served == Served::kWrong && base::MappingFaultCount() == before) return served;
      if (served != Served::kRight) all = Served::kDetected;
    }
    if (base::MappingFaultCount() != before) {
      EXPECT_TRUE(store_->QuarantineDamaged());
    }
    return all;
  }
  // Builds everything again, and finds it after a restart.
  void ExpectRecovers() {
    base::Status synced;
    for (int attempt = 0; attempt < 2; ++attempt) {
      synced = Build();
      if (synced.ok()) break;
      EXPECT_TRUE(absl::IsDataLoss(synced) || absl::IsPermissionDenied(synced)) << synced;
    }
    EXPECT_TRUE(synced.ok()) << synced;
    for (const bool restart : {false, true}) {
      if (restart) Close(), Open();
      const Attachment found = store_->Attach(TestRoot(), keys_);
      EXPECT_EQ(found.blocks.size(), 3u);
      EXPECT_EQ(Read(found), Served::kRight);
    }
  }

  const std::vector<BlockKey> keys_;
  std::string directory_;
  BlockStoreOptions options_;
  std::vector<StoreEvent> events_;
  std::unique_ptr<BlockStore> store_;
};

TEST_F(StoreRealFileTest, WhatIsStoredIsFoundAfterARestart) {
  Open();
  const Attachment found = store_->Attach(TestRoot(), keys_);
  EXPECT_EQ(found.blocks.size(), 3u);
  EXPECT_EQ(Read(found), Served::kRight);
  EXPECT_TRUE(events_.empty());
}

TEST_F(StoreRealFileTest, ASecondHandleIsTurnedAway) {
  Open();
  const auto second = BlockStore::Open(base::RealFileSystem(), options_);
  ASSERT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_THAT(base::Message(second.status()), HasSubstr("held by process " + std::to_string(getpid())));
}

TEST_F(StoreRealFileTest, AFileCutOffBeforeItIsMappedIsQuarantined) {
  for (const off_t size : {0, 100, 4096, 5000, 8192, 9000, 12287}) {
    SCOPED_TRACE(::testing::Message() << "to " << size);
    Open();
    std::string path;
    for (const SegmentInfo& info : store_->Segments())
      if (!info.tails) path = info.path;
    ASSERT_EQ(truncate(path.c_str(), size), 0);
    events_.clear();
    EXPECT_EQ(store_->Attach(TestRoot(), keys_).blocks.size(), 0u);
    EXPECT_EQ(events_.size(), 1u);
    ExpectRecovers();
    Close();
  }
}

// Reads of the mapping raise SIGBUS here.
TEST_F(StoreRealFileTest, AFileCutOffUnderReadersIsQuarantined) {
  for (const off_t size : {0, 4096, 8192}) {
    SCOPED_TRACE(::testing::Message() << "to " << size);
    Open();
    std::string path;
    for (const SegmentInfo& info : store_->Segments())
      if (!info.tails) path = info.path;
    {
      const Attachment found = store_->Attach(TestRoot(), keys_);
      ASSERT_EQ(found.blocks.size(), 3u);
      ASSERT_EQ(truncate(path.c_str(), size), 0);
      EXPECT_EQ(Read(found), Served::kDetected);
    }
    EXPECT_EQ(store_->Attach(TestRoot(), keys_).blocks.size(), 0u);
    ExpectRecovers();
    Close();
  }
}

TEST_F(StoreRealFileTest, AFileCutOffDuringVerifyIsQuarantined) {
  Open();
  ASSERT_EQ(store_->Attach(TestRoot(), keys_).blocks.size(), 3u);
  ASSERT_EQ(truncate(BlocksFile().c_str(), 4096), 0);
  const auto report = store_->Verify();
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->damaged, 3u);
  ExpectRecovers();
}

TEST_F(StoreRealFileTest, ARemovedFileIsNoticed) {
  for (const bool mapped : {false, true}) {
    Open();
    std::string path;
    for (const SegmentInfo& info : store_->Segments())
      if (!info.tails) path = info.path;
    Attachment found;
    if (mapped) found = store_->Attach(TestRoot(), keys_);
    ASSERT_EQ(unlink(path.c_str()), 0);
    if (mapped) {
      EXPECT_EQ(Read(found), Served::kRight);  // what is mapped stays
      found.end.Reset();
    } else {
      EXPECT_EQ(store_->Attach(TestRoot(), keys_).blocks.size(), 0u);
    }
    if (mapped) Close(), Open();
    ExpectRecovers();
    Close();
  }
}

TEST_F(StoreRealFileTest, AReplacedFileIsNotWrittenTo) {
  Open();
  const std::string other = directory_ + "/other";
  const std::string text(20000, 'x');
  ASSERT_TRUE(base::WriteFileAtomically(base::RealFileSystem(), other, base::AsBytes(text)).ok());
  const ChainRef end = AppendChain(*store_, store_->Root(TestRoot()), keys_);
  ASSERT_EQ(rename(other.c_str(), BlocksFile().c_str()), 0);
  const BlockKey next = ChildOf(keys_.back(), 4);
  const ChainRef more = store_->Append(end, next, BlockBytes(next));
  EXPECT_TRUE(absl::IsDataLoss(store_->Sync()));
  EXPECT_EQ(*base::RealFileSystem().ReadFile(BlocksFile(), 1 << 20), text);
  EXPECT_TRUE(store_->Sync().ok());
  EXPECT_EQ(ReadBlock(*store_, more.id(), next), Served::kRight);
}

TEST_F(StoreRealFileTest, AFileThatMayNotBeOpenedIsLeftAlone) {
  if (geteuid() == 0) GTEST_SKIP() << "root may open everything";
  Open();
  ASSERT_EQ(chmod(BlocksFile().c_str(), 0), 0);
  EXPECT_EQ(store_->Attach(TestRoot(), keys_).blocks.size(), 0u);
  Close();
  Open();
  EXPECT_GT(store_->Stats().foreign_bytes, 0u);
  ASSERT_EQ(chmod(BlocksFile().c_str(), 0600), 0);
  Close();
  Open();
  EXPECT_EQ(store_->Attach(TestRoot(), keys_).blocks.size(), 3u);
}

}  // namespace
}  // namespace holdfast::memory
