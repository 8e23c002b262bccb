// A timeline over the block store gives the bits of a sequence that was fed from the start, whatever was
// stored, shared, forked, rewound, lost or damaged in between.
#include "sessions/kv_timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include "model/virtual_kv.h"
#include "tests/sessions/kv_testing.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::sessions {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kBlock = 128;

class KvTimelineTest : public ::testing::Test {
 protected:
  std::unique_ptr<OpenedStore> Open(const OpenOptions& options = {}) {
    return OpenSmallStore(fs_, small_.engine(), options);
  }
  Result MustContinue(KvTimeline& timeline, std::span<const int32_t> tokens) {
    auto result = Continue(small_.engine(), timeline, tokens);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : Result{};
  }

  SmallEngine small_;
  test::SimClock clock_;
  test::SimFileSystem fs_{clock_};
};

TEST_F(KvTimelineTest, NothingStoredAttachesAtZero) {
  auto opened = Open();
  const auto tokens = SmallTokens(1, 300);
  KvTimeline line = opened->cache->Attach(tokens);
  EXPECT_EQ(line.position(), 0);
  EXPECT_EQ(MustContinue(line, tokens), small_.FromZero(tokens));
}

TEST_F(KvTimelineTest, CheckpointIsFoundAfterARestart) {
  const auto tokens = SmallTokens(1, 1000);
  {
    auto opened = Open();
    KvTimeline line = opened->cache->Attach(tokens);
    MustContinue(line, std::span(tokens).first(900));
    line.Checkpoint();
    ASSERT_TRUE(opened->store->Sync().ok());
  }
  auto opened = Open();
  KvTimeline line = opened->cache->Attach(tokens);
  EXPECT_EQ(line.position(), 7 * kBlock);
  EXPECT_EQ(MustContinue(line, tokens), small_.FromZero(tokens));
  EXPECT_TRUE(opened->events.empty());
}

TEST_F(KvTimelineTest, WithoutACheckpointThePeriodicTailIsFound) {
  const auto tokens = SmallTokens(1, 1000);
  {
    auto opened = Open();
    KvTimeline line = opened->cache->Attach(tokens);
    MustContinue(line, std::span(tokens).first(900));
    ASSERT_TRUE(opened->store->Sync().ok());
  }
  auto opened = Open();
  KvTimeline line = opened->cache->Attach(tokens);
  EXPECT_EQ(line.position(), 512);
  EXPECT_EQ(line.blocks_stored_at_attach(), 7);
  EXPECT_EQ(MustContinue(line, tokens), small_.FromZero(tokens));
  EXPECT_TRUE(opened->events.empty());  // the blocks computed again had the same bytes
}

TEST_F(KvTimelineTest, WantedTailIsKeptWithoutACheckpoint) {
  const auto tokens = SmallTokens(1, 400);
  {
    auto opened = Open();
    KvTimeline line = opened->cache->Attach(tokens);
    line.WantTail(300);  // the end of a shared prefix: 256 is the boundary
    MustContinue(line, tokens);
    ASSERT_TRUE(opened->store->Sync().ok());
  }
  auto opened = Open();
  opened->store->DropUnkeptTails();
  ASSERT_TRUE(opened->store->Sync().ok());
  EXPECT_EQ(opened->cache->Attach(tokens).position(), 256);
}

TEST_F(KvTimelineTest, OnlyTheLastTwoCheckpointsKeepTheirTails) {
  auto opened = Open();
  const auto tokens = SmallTokens(1, 500);
  KvTimeline line = opened->cache->Attach(tokens);
  for (const size_t end : {150, 280, 400, 500}) {
    MustContinue(line, std::span(tokens).first(end));
    line.Checkpoint();
    ASSERT_TRUE(opened->store->Sync().ok());
  }
  EXPECT_EQ(opened->store->Stats().tails, 2u);  // at 256 and 384: 500 has no boundary of its own
  const KvPin pin = std::move(line).Park();
  EXPECT_EQ(pin.tails.size(), 2u);
  EXPECT_EQ(opened->store->Stats().references, 1u);
}

TEST_F(KvTimelineTest, ParkedSessionHoldsNoMemoryAndSurvivesEviction) {
  auto opened = Open();
  const auto kept = SmallTokens(1, 700);
  const auto lost = SmallTokens(2, 700);
  KvPin pin;
  for (const auto* tokens : {&kept, &lost}) {
    KvTimeline line = opened->cache->Attach(*tokens);
    MustContinue(line, *tokens);
    KvPin parked = std::move(line).Park();
    if (tokens == &kept) pin = std::move(parked);
    ASSERT_TRUE(opened->store->Sync().ok());
  }
  EXPECT_EQ(opened->store->Stats().heap_bytes, 0u);
  ASSERT_TRUE(opened->store->EvictTo(0).ok());
  EXPECT_EQ(opened->cache->Attach(lost).position(), 0);
  KvTimeline line = opened->cache->Attach(kept);
  EXPECT_EQ(line.position(), 640);
  EXPECT_EQ(MustContinue(line, kept), small_.FromZero(kept));
}

TEST_F(KvTimelineTest, PinsAreTakenUpAfterARestart) {
  const auto tokens = SmallTokens(1, 700);
  memory::BlockKey end;
  std::vector<memory::BlockKey> tails;
  {
    auto opened = Open();
    KvTimeline line = opened->cache->Attach(tokens);
    MustContinue(line, tokens);
    line.Checkpoint();
    end = line.end_key();
    tails = line.tail_keys();
    ASSERT_TRUE(opened->store->Sync().ok());
  }
  auto opened = Open();
  const KvPin pin = opened->cache->Pin(end, tails);
  EXPECT_EQ(pin.tails.size(), 1u);
  opened->store->DropUnkeptTails();
  ASSERT_TRUE(opened->store->Sync().ok());
  ASSERT_TRUE(opened->store->EvictTo(0).ok());
  EXPECT_EQ(opened->cache->Attach(tokens).position(), 640);
}

TEST_F(KvTimelineTest, DropRemovesOnlyWhatNobodyElseUses) {
  auto opened = Open();
  auto tokens = SmallTokens(1, 300);
  KvTimeline line = opened->cache->Attach(tokens);
  MustContinue(line, tokens);
  KvTimeline fork = line.Fork(300);
  const auto more = SmallTokens(2, 300);
  tokens.insert(tokens.end(), more.begin(), more.end());
  MustContinue(fork, tokens);
  ASSERT_TRUE(opened->store->Sync().ok());
  line.Settle();
  fork.Settle();
  EXPECT_EQ(opened->store->Stats().blocks, 4u);
  std::move(fork).Drop();
  EXPECT_EQ(opened->store->Stats().blocks, 2u);
  std::move(line).Drop();
  EXPECT_EQ(opened->store->Stats().blocks, 0u);
  EXPECT_EQ(opened->store->Stats().references, 0u);
}

TEST_F(KvTimelineTest, DiskHoldsTheFormulaAndAForkCostsOneTail) {
  auto opened = Open();
  const model::KvLayout& layout = small_.engine().kv_layout();
  const auto block_bytes = static_cast<uint64_t>(layout.block_bytes());
  const auto tail_bytes = static_cast<uint64_t>(model::BoundaryTailBytes(SmallModel(), layout.mode));
  const auto tokens = SmallTokens(1, 1300);
  KvTimeline line = opened->cache->Attach(tokens);
  MustContinue(line, tokens);
  ASSERT_TRUE(opened->store->Sync().ok());
  EXPECT_EQ(opened->store->Stats().used_bytes, 10 * block_bytes + 2 * tail_bytes);  // tails at 512 and 1024
  const KvTimeline live = line.Fork(1300);
  const KvTimeline past = line.Fork(700);
  EXPECT_EQ(past.position(), 512);
  ASSERT_TRUE(opened->store->Sync().ok());
  EXPECT_EQ(opened->store->Stats().used_bytes, 10 * block_bytes + 3 * tail_bytes);  // and at 1280
  EXPECT_EQ(opened->store->Stats().references, 3u);
}

TEST_F(KvTimelineTest, SettleMovesDurableBlocksOutOfMemory) {
  auto opened = Open();
  const auto tokens = SmallTokens(1, 600);
  KvTimeline line = opened->cache->Attach(tokens);
  MustContinue(line, std::span(tokens).first(500));
  KvTimeline fork = line.Fork(500);
  EXPECT_GT(opened->store->Stats().heap_bytes, 0u);
  ASSERT_TRUE(opened->store->Sync().ok());
  line.Settle();
  EXPECT_GT(opened->store->Stats().heap_bytes, 0u);  // the fork reads there
  fork.Settle();
  EXPECT_EQ(opened->store->Stats().heap_bytes, 0u);
  EXPECT_EQ(MustContinue(line, tokens), small_.FromZero(tokens));
  EXPECT_EQ(MustContinue(fork, tokens), small_.FromZero(tokens));
}

// Between the chunks of a long feed there is no tail at the end of the chain.
TEST_F(KvTimelineTest, ForkAndRewindBetweenChunks) {
  auto opened = Open();
  const auto tokens = SmallTokens(1, 900);
  KvTimeline line = opened->cache->Attach(tokens);
  MustContinue(line, std::span(tokens).first(128));
  const auto chunk = std::span(tokens).subspan(128, 128);
  const model::Feed feed{.sequence = &line.sequence(), .tokens = chunk};
  ASSERT_TRUE(small_.engine().Forward({&feed, 1}).ok());
  line.Fed(chunk, 600);
  KvTimeline fork = line.Fork(256);
  line.Rewind(200);
  EXPECT_EQ(MustContinue(fork, tokens), small_.FromZero(tokens));
  EXPECT_EQ(MustContinue(line, tokens), small_.FromZero(tokens));
}

// The positions at which something might go wrong, against everything that can happen there.
TEST_F(KvTimelineTest, BoundaryMatrix) {
  constexpr std::array<int64_t, 18> kPositions = {1,   3,   4,   5,   127, 128, 129,  131,  132,
                                                  255, 256, 257, 511, 512, 513, 2047, 2048, 2049};
  constexpr int64_t kAfter = 3;
  const auto tokens = SmallTokens(7, 2300);
  std::vector<int64_t> ends;
  for (const int64_t position : kPositions) ends.push_back(position + kAfter);
  std::vector<int64_t> ascending = ends;
  std::sort(ascending.begin(), ascending.end());
  std::map<int64_t, Result> expected;
  const auto results = small_.FromZero(tokens, ascending);
  for (size_t i = 0; i < ascending.size(); ++i) expected[ascending[i]] = results[i];

  uint64_t root = 100;  // a chain of its own for each case
  for (const int64_t position : kPositions) {
    SCOPED_TRACE(testing::Message() << "position " << position);
    const auto until = std::span(tokens).first(static_cast<size_t>(position));
    const auto whole = std::span(tokens).first(static_cast<size_t>(position + kAfter));
    const Result& want = expected[position + kAfter];
    {  // checkpoint
      auto opened = Open({.root = ++root});
      KvTimeline line = opened->cache->Attach(until);
      MustContinue(line, until);
      line.Checkpoint();
      ASSERT_TRUE(opened->store->Sync().ok());
      line.Settle();
      EXPECT_EQ(MustContinue(line, whole), want);
    }
    {  // restart: found are all blocks before the last boundary
      auto opened = Open({.root = root});
      KvTimeline line = opened->cache->Attach(until);
      EXPECT_EQ(line.position(), position / kBlock * kBlock);
      EXPECT_EQ(MustContinue(line, whole), want);
    }
    {  // fork, of the live position; both go on, the first one elsewhere in between
      auto opened = Open({.root = ++root});
      KvTimeline line = opened->cache->Attach(until);
      MustContinue(line, until);
      KvTimeline fork = line.Fork(position);
      EXPECT_EQ(fork.position(), position);
      std::vector<int32_t> other(until.begin(), until.end());
      other.insert(other.end(), 150, 1);
      MustContinue(line, other);
      EXPECT_EQ(MustContinue(fork, whole), want);
      // fork, of the past
      KvTimeline late = line.Fork(position);
      EXPECT_LE(late.position(), position);
      EXPECT_GE(late.position(), position - 512);
      EXPECT_EQ(MustContinue(late, whole), want);
    }
    {  // rewind
      auto opened = Open({.root = ++root});
      KvTimeline line = opened->cache->Attach(until);
      MustContinue(line, std::span(tokens).first(static_cast<size_t>(position + 200)));
      line.Rewind(position);
      EXPECT_LE(line.position(), position);
      EXPECT_EQ(MustContinue(line, whole), want);
    }
  }
}

// --- Damage

TEST_F(KvTimelineTest, DamagedSelectedEntriesAreNoticedAndRebuilt) {
  const auto tokens = SmallTokens(1, 700);
  {
    auto opened = Open();
    KvTimeline line = opened->cache->Attach(tokens);
    MustContinue(line, std::span(tokens).first(650));
    line.Checkpoint();
    ASSERT_TRUE(opened->store->Sync().ok());
  }
  auto opened = Open();
  KvTimeline line = opened->cache->Attach(tokens);
  ASSERT_EQ(line.position(), 640);
  // A byte of the selected entries of the first block, which are checked when first used.
  const model::KvLayout& layout = small_.engine().kv_layout();
  ASSERT_FALSE(layout.planes.back().scanned);
  for (const memory::SegmentInfo& segment : opened->store->Segments()) {
    const uint64_t plane = static_cast<uint64_t>(layout.planes.back().block_bytes()) * segment.slots;
    if (!segment.tails) fs_.FlipBit(segment.path, (segment.file_bytes - 4096 - plane + 5000) * 8);
  }
  int losses = 0;
  auto result = Continue(small_.engine(), line, tokens);
  for (; !result.ok() && losses < 9; ++losses) {
    EXPECT_TRUE(absl::IsDataLoss(result.status())) << result.status();
    line.Reattach();
    result = Continue(small_.engine(), line, tokens);
  }
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(*result, small_.FromZero(tokens));
  EXPECT_GT(losses, 0);
  ASSERT_FALSE(opened->events.empty());
  EXPECT_EQ(opened->events.front().kind, memory::StoreEvent::Kind::kQuarantined);
  EXPECT_THAT(opened->events.front().message, HasSubstr("checksum mismatch"));
}

// The files vanish under a running engine: whatever happens to them, no wrong result and no crash.
class KvFileDamageTest : public ::testing::TestWithParam<const char*> {};

TEST_P(KvFileDamageTest, IsNoticedAndRebuilt) {
  const std::string directory = ::testing::TempDir() + "/kv_damage_" + GetParam() + "_" +
                                std::to_string(static_cast<unsigned>(::getpid()));
  std::filesystem::remove_all(directory);
  SmallEngine small;
  const auto tokens = SmallTokens(1, 2700);
  const OpenOptions options{.directory = directory};
  {
    auto opened = OpenSmallStore(base::RealFileSystem(), small.engine(), options);
    KvTimeline line = opened->cache->Attach(tokens);
    ASSERT_TRUE(Continue(small.engine(), line, std::span(tokens).first(2600)).ok());
    line.Checkpoint();
    ASSERT_TRUE(opened->store->Sync().ok());
  }
  auto opened = OpenSmallStore(base::RealFileSystem(), small.engine(), options);
  KvTimeline line = opened->cache->Attach(tokens);
  ASSERT_EQ(line.position(), 2560);
  const std::string what = GetParam();
  for (const memory::SegmentInfo& segment : opened->store->Segments()) {
    if (what == "unlink") std::filesystem::remove(segment.path);
    if (what == "empty") std::filesystem::resize_file(segment.path, 0);
    if (what == "half") std::filesystem::resize_file(segment.path, segment.file_bytes / 2);
  }
  auto result = Continue(small.engine(), line, tokens);
  for (int turn = 0; !result.ok() && turn < 50; ++turn) {
    EXPECT_TRUE(absl::IsDataLoss(result.status())) << result.status();
    line.Reattach();
    result = Continue(small.engine(), line, tokens);
  }
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(*result, small.FromZero(tokens));
  line.Checkpoint();
  // Each sync notices the files that it had to do with, and keeps their blocks in memory for the next.
  bool synced = false;
  for (int turn = 0; !synced && turn < 5; ++turn) synced = opened->store->Sync().ok();
  EXPECT_TRUE(synced);
  KvTimeline again = opened->cache->Attach(tokens);
  EXPECT_EQ(*Continue(small.engine(), again, tokens), *result);
  std::filesystem::remove_all(directory);
}

INSTANTIATE_TEST_SUITE_P(All, KvFileDamageTest, ::testing::Values("unlink", "empty", "half"),
                         [](const auto& p) { return std::string(p.param); });

// --- Long sessions

// 175,000 tokens read once; the last turn is then edited, cut short or written anew. (The KV is invented:
// what is looked at is how far one must go back.)
TEST_F(KvTimelineTest, ChangedTurnFeedsAtMostOneTailIntervalAgain) {
  constexpr size_t kTokens = 175'000;
  auto opened = Open({.tail_interval_tokens = 4096});
  const model::KvLayout& layout = small_.engine().kv_layout();
  const auto tokens = SmallTokens(1, kTokens);
  const auto block_bytes = static_cast<size_t>(layout.block_bytes());
  const auto tail_bytes = static_cast<size_t>(model::BoundaryTailBytes(SmallModel(), layout.mode));
  memory::ChainRef end = opened->store->Root(SmallRoot(1));
  const auto keys = memory::KeysOfBlocks(SmallRoot(1), tokens, kBlock);
  for (size_t b = 0; b < keys.size(); ++b) {
    auto bytes = std::make_unique<std::byte[]>(block_bytes);
    model::FillVirtualBlock(layout, 1, static_cast<int64_t>(b), {bytes.get(), block_bytes});
    end = opened->store->Append(end, keys[b], std::move(bytes));
    const auto position = static_cast<int64_t>(b + 1) * kBlock;
    if (position % 4096 != 0) continue;
    auto tail = std::make_unique<std::byte[]>(tail_bytes);
    model::FillVirtualTail(SmallModel(), layout, 1, position, {tail.get(), tail_bytes});
    opened->store->PutTail(end, std::move(tail), /*periodic=*/true);
  }
  ASSERT_TRUE(opened->store->Sync().ok());

  for (const size_t edited :
       {size_t{174'999}, size_t{172'032}, size_t{172'031}, size_t{140'001}, size_t{4095}}) {
    SCOPED_TRACE(testing::Message() << "the first changed token is " << edited);
    std::vector<int32_t> changed = tokens;
    changed[edited] = (changed[edited] + 1) % 61;
    KvTimeline line = opened->cache->Attach(changed);
    EXPECT_LE(line.position(), static_cast<int64_t>(edited));
    EXPECT_LT(static_cast<int64_t>(edited) - line.position(), 4096);
    if (edited > 4096) {
      EXPECT_TRUE(small_.engine()
                      .Forward(std::array{model::Feed{
                          .sequence = &line.sequence(),
                          .tokens = std::span(changed).subspan(static_cast<size_t>(line.position()), 100)}})
                      .ok());
    }
  }
  KvTimeline line = opened->cache->Attach(tokens);
  for (const int64_t position : {170'001, 169'984, 150'000}) {
    KvTimeline cut = line.Fork(line.position());
    cut.Rewind(position);
    EXPECT_LE(cut.position(), position);
    EXPECT_LT(position - cut.position(), 4096);
  }
}

// --- The whole against the naive model

// Lines of tokens that grow from each other, each with its timeline, when it is attached, and what it should
// be.
class RandomTree {
 public:
  RandomTree(uint64_t seed, test::SimFileSystem& fs, SmallEngine& small)
      : random_(seed), fs_(fs), small_(small) {
    Reopen();
  }

  void Step() {
    switch (random_.Below(12)) {
      case 0:
      case 1:
      case 2:
        return Feed();
      case 3:
        return Fork();
      case 4:
        return Rewind();
      case 5:
        return Checkpoint();
      case 6:
        return Attach();
      case 7:
        return Drop();
      case 8:
        return Park();
      case 9:
        return Write();
      case 10:
        return random_.Percent(30) ? Restart() : Evict();
      default:
        return Check();
    }
  }

  void Check() {
    for (Line& line : lines_) CheckLine(line);
    CheckStats();
  }

 private:
  struct Line {
    std::vector<int32_t> tokens;
    std::unique_ptr<KvTimeline> timeline;  // null while parked
    KvPin pin;
  };

  void Reopen() {
    opened_ = OpenSmallStore(fs_, small_.engine(),
                             {.tail_interval_tokens = 384, .disk_bytes_max = uint64_t{4} << 20});
  }
  Line* PickLive() {
    if (lines_.empty()) return nullptr;
    Line& line = lines_[random_.Below(lines_.size())];
    if (line.timeline == nullptr) Unpark(line);
    return &line;
  }
  void Unpark(Line& line) {
    line.timeline = std::make_unique<KvTimeline>(opened_->cache->Attach(line.tokens));
    line.pin = KvPin{};
    CatchUp(line);
  }
  void CatchUp(Line& line) {
    if (line.timeline->position() == static_cast<int64_t>(line.tokens.size())) return;
    const auto result = Continue(small_.engine(), *line.timeline, line.tokens);
    ASSERT_TRUE(result.ok()) << result.status();
  }

  void Feed() {
    if (lines_.empty() || (lines_.size() < 4 && random_.Percent(20))) {
      lines_.emplace_back();
      lines_.back().timeline =
          std::make_unique<KvTimeline>(opened_->cache->Attach(std::span<const int32_t>()));
    }
    Line& line = *PickLive();
    const auto more = SmallTokens(static_cast<uint32_t>(random_.Below(3)), 1 + random_.Below(300));
    line.tokens.insert(line.tokens.end(), more.begin(), more.end());
    CatchUp(line);
  }
  void Fork() {
    Line* line = PickLive();
    if (line == nullptr || lines_.size() >= 6) return;
    const size_t all = line->tokens.size();
    const size_t position = random_.Percent(50) ? all : random_.Below(all + 1);
    Line fork;
    fork.timeline = std::make_unique<KvTimeline>(line->timeline->Fork(static_cast<int64_t>(position)));
    fork.tokens.assign(line->tokens.begin(), line->tokens.begin() + static_cast<ptrdiff_t>(position));
    CatchUp(fork);
    lines_.push_back(std::move(fork));
  }
  void Rewind() {
    Line* line = PickLive();
    if (line == nullptr) return;
    const size_t position = random_.Below(line->tokens.size() + 1);
    line->timeline->Rewind(static_cast<int64_t>(position));
    line->tokens.resize(position);
    CatchUp(*line);
  }
  void Checkpoint() {
    Line* line = PickLive();
    if (line == nullptr) return;
    line->timeline->Checkpoint();
    ASSERT_TRUE(opened_->store->Sync().ok());
    if (random_.Percent(50)) line->timeline->Settle();
  }
  void Attach() {
    Line* line = PickLive();
    if (line == nullptr) return;
    if (random_.Percent(50)) return line->timeline->Reattach(), CatchUp(*line);
    Unpark(*line);
  }
  void Drop() {
    if (lines_.empty() || random_.Percent(50)) return;
    const size_t which = random_.Below(lines_.size());
    Line line = std::move(lines_[which]);
    lines_.erase(lines_.begin() + static_cast<ptrdiff_t>(which));
    if (line.timeline != nullptr && random_.Percent(50)) std::move(*line.timeline).Drop();
  }
  void Park() {
    Line* line = PickLive();
    if (line == nullptr) return;
    line->pin = std::move(*line->timeline).Park();
    line->timeline.reset();
  }
  void Write() { ASSERT_TRUE(opened_->store->Write(1 + random_.Below(100'000)).ok()); }
  void Evict() { ASSERT_TRUE(opened_->store->EvictTo(random_.Below(2'000'000)).ok()); }
  void Restart() {
    const bool crash = random_.Percent(50);
    for (Line& line : lines_) {
      line.timeline.reset();
      line.pin = KvPin{};
    }
    if (!crash) {
      ASSERT_TRUE(opened_->store->Sync().ok());
    }
    opened_.reset();
    if (crash) {
      fs_.Crash();
      fs_.Restart();
    }
    Reopen();
    for (Line& line : lines_) Unpark(line);
  }

  void CheckLine(Line& line) {
    if (line.timeline == nullptr) return;
    EXPECT_EQ(line.timeline->position(), static_cast<int64_t>(line.tokens.size()));
    if (line.tokens.empty()) return;
    EXPECT_EQ(StateHash(line.timeline->sequence()), small_.FromZero(line.tokens).state);
  }
  // Every timeline and every pin holds one reference, and what they hold is there.
  void CheckStats() {
    uint64_t references = 0;
    for (const Line& line : lines_) references += line.timeline != nullptr || line.pin.end.valid() ? 1 : 0;
    const memory::StoreStats stats = opened_->store->Stats();
    EXPECT_EQ(stats.references, references);
    EXPECT_LE(stats.disk_bytes, uint64_t{4} << 20);
    EXPECT_EQ(stats.slots_quarantined, 0u);
    std::set<memory::BlockKey> blocks;
    for (const Line& line : lines_)
      for (const memory::BlockKey& key : memory::KeysOfBlocks(SmallRoot(1), line.tokens, kBlock))
        blocks.insert(key);
    EXPECT_GE(stats.blocks, blocks.size());
  }

  test::SeededRandom random_;
  test::SimFileSystem& fs_;
  SmallEngine& small_;
  std::unique_ptr<OpenedStore> opened_;
  std::vector<Line> lines_;  // after opened_: timelines go first
};

TEST_F(KvTimelineTest, RandomTreesEqualTheNaiveModel) {
  for (const uint64_t seed : test::TestSeeds(12)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SimFileSystem fs(clock_, {.seed = seed});
    RandomTree tree(seed, fs, small_);
    for (int step = 0; step < 60 && !HasFailure(); ++step) tree.Step();
    tree.Check();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace holdfast::sessions
