// What the engine refuses, and that a refusal changes nothing.
#include "model/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "tests/model/checkpoint_testing.h"

namespace holdfast::model {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kVocab = 64;

class EngineTest : public ::testing::Test {
 protected:
  void Open() {
    auto opened = made_.Open();
    ASSERT_TRUE(opened.ok()) << opened.status();
    checkpoint_ = std::move(*opened);
    backend_ = MakeReferenceBackend({});
    engine_ = std::make_unique<Engine>(checkpoint_->config(), checkpoint_->weights(), *backend_,
                                       EngineOptions{.max_rows = 8});
  }
  base::Status Forward(Sequence& sequence, std::vector<int32_t> tokens, LogitRows rows = LogitRows::kLast) {
    logits_.assign(tokens.size() * kVocab, -1.0f);
    hidden_.resize(tokens.size() * static_cast<size_t>(engine_->config().hc_mult) *
                   static_cast<size_t>(engine_->config().hidden_size));
    const Feed feed{.sequence = &sequence,
                    .tokens = tokens,
                    .logits = rows,
                    .logits_out = logits_,
                    .hidden_out = hidden_};
    return engine_->Forward({&feed, 1});
  }
  base::Status Draft(Sequence& sequence, std::vector<int32_t> next, int32_t stage = 0) {
    const size_t width = static_cast<size_t>(engine_->config().hc_mult * engine_->config().hidden_size);
    std::vector<float> hidden(next.size() * width);
    std::vector<float> logits(next.size() * kVocab);
    return engine_->ForwardDraft(
        {.sequence = &sequence, .stage = stage, .next_tokens = next, .hidden = hidden, .logits_out = logits});
  }
  // Everything that belongs to the sequence, as bytes.
  static std::vector<std::byte> State(const Sequence& sequence) {
    std::vector<std::byte> all;
    sequence.VisitState(
        [&](std::span<const std::byte> part) { all.insert(all.end(), part.begin(), part.end()); });
    return all;
  }

  DamagedCheckpoint made_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Engine> engine_;
  std::vector<float> logits_;
  std::vector<float> hidden_;
};

TEST_F(EngineTest, RefusedFeedChangesNothing) {
  Open();
  Sequence sequence = engine_->NewSequence();
  ASSERT_TRUE(Forward(sequence, {1, 2, 3}).ok());
  const auto before = State(sequence);
  const std::pair<std::vector<int32_t>, std::string> cases[] = {
      {{1, kVocab}, "token id 64 is outside the vocabulary of 64"},
      {{-1}, "token id -1 is outside the vocabulary"},
      {{}, "a feed without tokens"},
      {{1, 2, 3, 4, 5, 6, 7, 8, 9}, "9 tokens; a batch takes 1 to 8"},
  };
  for (const auto& [tokens, error] : cases) {
    const base::Status status = Forward(sequence, tokens);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(base::Message(status), HasSubstr(error));
    EXPECT_EQ(sequence.position(), 3);
    EXPECT_EQ(State(sequence), before);
  }
}

TEST_F(EngineTest, BatchWithoutFeedsOrWithOneSequenceTwiceIsRefused) {
  Open();
  EXPECT_THAT(base::Message(engine_->Forward({})), HasSubstr("0 tokens"));
  Sequence sequence = engine_->NewSequence();
  const std::vector<int32_t> tokens = {1};
  const Feed feeds[] = {{.sequence = &sequence, .tokens = tokens}, {.sequence = &sequence, .tokens = tokens}};
  EXPECT_THAT(base::Message(engine_->Forward(feeds)), HasSubstr("a sequence stands twice"));
  EXPECT_EQ(sequence.position(), 0);
}

TEST_F(EngineTest, RowsOfAllFeedsCountTogether) {
  Open();
  Sequence a = engine_->NewSequence();
  Sequence b = engine_->NewSequence();
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5};
  const Feed feeds[] = {{.sequence = &a, .tokens = tokens}, {.sequence = &b, .tokens = tokens}};
  EXPECT_THAT(base::Message(engine_->Forward(feeds)), HasSubstr("10 tokens; a batch takes 1 to 8"));
}

TEST_F(EngineTest, WindowOfTheModelEndsWhereItSays) {
  made_.EditConfig("max_position_embeddings", 5);
  Open();
  Sequence sequence = engine_->NewSequence();
  EXPECT_THAT(base::Message(Forward(sequence, {1, 2, 3, 4, 5, 6})), HasSubstr("window of 5 tokens"));
  ASSERT_TRUE(Forward(sequence, {1, 2, 3, 4, 5}).ok());
  const base::Status status = Forward(sequence, {6});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(sequence.position(), 5);
}

TEST_F(EngineTest, LogitsComeForTheRowsAskedFor) {
  Open();
  Sequence all = engine_->NewSequence();
  ASSERT_TRUE(Forward(all, {1, 2, 3}, LogitRows::kAll).ok());
  const std::vector<float> every = logits_;
  Sequence last = engine_->NewSequence();
  ASSERT_TRUE(Forward(last, {1, 2, 3}, LogitRows::kLast).ok());
  EXPECT_TRUE(std::equal(logits_.begin(), logits_.begin() + kVocab, every.end() - kVocab));
  EXPECT_EQ(logits_[kVocab], -1.0f);  // nothing beyond
  Sequence none = engine_->NewSequence();
  ASSERT_TRUE(Forward(none, {1, 2, 3}, LogitRows::kNone).ok());
  EXPECT_EQ(logits_[0], -1.0f);
  EXPECT_EQ(State(none), State(all));
}

// A damaged matrix is noticed wherever it stands, by either backend, also when no logits are asked for: its
// NaN may meet a clamp, a maximum, a rounding or a stored entry on the way.
TEST_F(EngineTest, NanInAnyMatrixIsDataLoss) {
  for (const char* name :
       {"layers.0.hc_attn_fn", "layers.1.hc_ffn_fn", "layers.2.ffn.gate.weight", "hc_head_fn",
        "layers.1.attn.compressor.wgate.weight", "layers.1.attn.compressor.wkv.weight",
        "layers.1.attn.indexer.compressor.wkv.weight", "layers.1.attn.indexer.weights_proj.weight"}) {
    DamagedCheckpoint damaged;
    damaged.EditConfig("index_topk", 1);  // so that index scores are computed
    const auto bytes = damaged.Data(name);
    const size_t width = std::string_view(name).ends_with("_fn") ? 4 : 2;
    for (size_t i = 0; i < bytes.size(); i += width) {
      bytes[i + width - 2] = std::byte{0xc0};
      bytes[i + width - 1] = std::byte{0x7f};
    }
    damaged.Save();
    const auto checkpoint = damaged.Open();
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    ASSERT_EQ((*checkpoint)->config().role(1), LayerRole::kCsa);
    std::unique_ptr<Backend> backends[] = {MakeReferenceBackend({}),
                                           MakeCpuBackend({.threads = 2, .pin_threads = false})};
    for (auto& backend : backends) {
      SCOPED_TRACE(name + (" on " + backend->NumericsId()));
      Engine engine((*checkpoint)->config(), (*checkpoint)->weights(), *backend, {.max_rows = 16});
      Sequence sequence = engine.NewSequence();
      const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
      std::vector<float> logits(kVocab);
      const bool head = std::string_view(name).starts_with("hc_head");
      const Feed feed{.sequence = &sequence,
                      .tokens = tokens,
                      .logits = head ? LogitRows::kLast : LogitRows::kNone,
                      .logits_out = logits};
      const base::Status status = engine.Forward({&feed, 1});
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
      EXPECT_THAT(base::Message(status), HasSubstr("is not finite"));
      EXPECT_EQ(sequence.position(), 0);
    }
  }
}

TEST_F(EngineTest, DraftNeedsItsStageAndItsHiddenStates) {
  Open();
  Sequence sequence = engine_->NewSequence();
  EXPECT_EQ(Draft(sequence, {1}).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(Forward(sequence, {1, 2, 3}).ok());
  EXPECT_THAT(base::Message(Draft(sequence, {1, 2, 3, 4})), HasSubstr("entry 3 needs a hidden state"));
  EXPECT_THAT(base::Message(Draft(sequence, {1}, 1)), HasSubstr("no MTP stage 1"));
  EXPECT_THAT(base::Message(Draft(sequence, {1}, -1)), HasSubstr("no MTP stage -1"));
  EXPECT_THAT(base::Message(Draft(sequence, {})), HasSubstr("without tokens"));
  EXPECT_THAT(base::Message(Draft(sequence, {kVocab})), HasSubstr("outside the vocabulary"));
  EXPECT_EQ(sequence.draft_position(0), 0);
  ASSERT_TRUE(Draft(sequence, {2, 3}).ok());
  EXPECT_EQ(sequence.draft_position(0), 2);
  EXPECT_EQ(Draft(sequence, {1, 2}).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EngineTest, CheckpointWithoutDraftHeadRefusesDrafts) {
  made_.EditConfig("num_nextn_predict_layers", 0);
  Open();
  Sequence sequence = engine_->NewSequence();
  ASSERT_TRUE(Forward(sequence, {1, 2}).ok());
  EXPECT_EQ(Draft(sequence, {1}).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EngineTest, ObserverSeesEveryLayerOfEveryRow) {
  Open();
  std::vector<std::pair<int32_t, size_t>> seen;
  engine_->set_layer_observer([&](int32_t layer, std::span<const float> h) {
    seen.push_back({layer, h.size()});
  });
  Sequence sequence = engine_->NewSequence();
  ASSERT_TRUE(Forward(sequence, {1, 2}).ok());
  const std::vector<std::pair<int32_t, size_t>> want = {{0, 2 * 4 * 256}, {1, 2 * 4 * 256}, {2, 2 * 4 * 256}};
  EXPECT_EQ(seen, want);
}

// --- Files that go bad under a running engine ---

class DamageTest : public ::testing::Test {
 protected:
  DamageTest() {
    directory_ = ::testing::TempDir() + "damage_" + std::to_string(static_cast<unsigned>(::getpid()));
    std::filesystem::remove_all(directory_);
    const auto config = SynthConfig(SynthShape::kTiny, {.layers = 3, .experts = 4, .vocab = kVocab});
    HF_CHECK(config.ok());
    // Several shards, so that the error can name the right one.
    HF_CHECK(WriteSynthCheckpoint(fs_, *config, directory_, {.seed = 1, .max_shard_bytes = 1 << 20}).ok());
    auto opened = Checkpoint::Open(fs_, directory_);
    HF_CHECK(opened.ok());
    checkpoint_ = std::move(*opened);
    backend_ = MakeCpuBackend({.threads = 2, .pin_threads = false});
    engine_ = std::make_unique<Engine>(checkpoint_->config(), checkpoint_->weights(), *backend_,
                                       EngineOptions{.max_rows = 128});
  }
  ~DamageTest() override { std::filesystem::remove_all(directory_); }

  base::Status Forward(Engine& engine, Sequence& sequence, size_t count, int32_t first = 1) {
    std::vector<int32_t> tokens(count);
    for (size_t i = 0; i < count; ++i) tokens[i] = (first + static_cast<int32_t>(i) * 7) % kVocab;
    const Feed feed{
        .sequence = &sequence, .tokens = tokens, .logits = LogitRows::kLast, .logits_out = logits_};
    return engine.Forward({&feed, 1});
  }
  base::Status Forward(Sequence& sequence, size_t count, int32_t first = 1) {
    return Forward(*engine_, sequence, count, first);
  }
  static void CutOff(const std::string& path) { HF_CHECK(truncate(path.c_str(), 0) == 0); }

  // A file with the bytes of a block, mapped; its planes.
  struct BlockFile {
    std::string path;
    std::unique_ptr<base::MappedFile> mapped;
    std::vector<const std::byte*> planes;
  };
  BlockFile StoreBlock(const std::string& name, const std::byte* block) {
    const KvLayout& layout = engine_->kv_layout();
    BlockFile file{.path = directory_ + "/" + name};
    HF_CHECK(WriteFileAtomically(fs_, file.path, {block, static_cast<size_t>(layout.block_bytes())}).ok());
    auto mapped = fs_.Map(file.path);
    HF_CHECK(mapped.ok());
    file.mapped = std::move(*mapped);
    const std::byte* at = file.mapped->bytes().data();
    for (const Plane& plane : layout.planes) {
      file.planes.push_back(at);
      at += plane.block_bytes();
    }
    return file;
  }

  base::FileSystem& fs_ = base::RealFileSystem();
  std::string directory_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Engine> engine_;
  std::vector<float> logits_ = std::vector<float>(kVocab);
};

TEST_F(DamageTest, AShardThatIsCutOffEndsInAnErrorThatNamesIt) {
  Sequence sequence = engine_->NewSequence();
  ASSERT_TRUE(Forward(sequence, 5).ok());
  EXPECT_FALSE(checkpoint_->damaged());
  const std::string shard = checkpoint_->weights().shards.at(1).path;
  CutOff(shard);
  const base::Status status = Forward(sequence, 5);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(base::Message(status), HasSubstr("weights are damaged: " + shard + ": "));
  EXPECT_EQ(sequence.position(), 5);
  EXPECT_TRUE(checkpoint_->damaged());

  // The pages are zeros now and fault no more; nothing is computed with them.
  Sequence another = engine_->NewSequence();
  EXPECT_EQ(Forward(another, 5), status);
  EXPECT_EQ(another.position(), 0);
  const std::vector<float> hidden(static_cast<size_t>(checkpoint_->config().hc_mult) *
                                  static_cast<size_t>(checkpoint_->config().hidden_size));
  const std::vector<int32_t> next = {1};
  EXPECT_EQ(engine_->ForwardDraft(
                {.sequence = &sequence, .next_tokens = next, .hidden = hidden, .logits_out = logits_}),
            status);
  // Nor by an engine that came later.
  Engine late(checkpoint_->config(), checkpoint_->weights(), *backend_, {.max_rows = 128});
  Sequence of_late = late.NewSequence();
  EXPECT_EQ(Forward(late, of_late, 5), status);
}

TEST_F(DamageTest, ADraftReportsDamageToo) {
  Sequence sequence = engine_->NewSequence();
  ASSERT_TRUE(Forward(sequence, 5).ok());
  for (const WeightShard& shard : checkpoint_->weights().shards) CutOff(shard.path);
  const std::vector<float> hidden(static_cast<size_t>(checkpoint_->config().hc_mult) *
                                  static_cast<size_t>(checkpoint_->config().hidden_size));
  const std::vector<int32_t> next = {1};
  const base::Status status = engine_->ForwardDraft(
      {.sequence = &sequence, .next_tokens = next, .hidden = hidden, .logits_out = logits_});
  EXPECT_THAT(base::Message(status), HasSubstr("weights are damaged: "));
  EXPECT_EQ(sequence.draft_position(0), 0);
}

// Cuts a file off when it was looked at for the `cut_at_look`th time: before it is mapped, or after.
class CuttingFileSystem final : public base::FileSystem {
 public:
  explicit CuttingFileSystem(int cut_at_look) : cut_at_look_(cut_at_look) {}
  base::StatusOr<std::unique_ptr<base::MappedFile>> Map(const std::string& path) override {
    return real_.Map(path);
  }
  base::StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes) override {
    return real_.ReadFile(path, max_bytes);
  }
  base::StatusOr<std::unique_ptr<base::File>> Open(const std::string&, base::OpenMode) override {
    return No();
  }
  base::Status Rename(const std::string&, const std::string&) override { return No(); }
  base::Status Remove(const std::string&) override { return No(); }
  base::Status CreateDirectories(const std::string&) override { return No(); }
  base::Status SyncDirectory(const std::string&) override { return No(); }
  base::StatusOr<std::vector<base::DirectoryEntry>> List(const std::string&, size_t) override { return No(); }
  base::StatusOr<base::FileStat> Stat(const std::string& path) override {
    auto stat = real_.Stat(path);
    HF_CHECK(stat.ok());
    if (++looks_ % 2 != cut_at_look_ % 2) return stat;
    // The header stays readable.
    HF_CHECK(truncate(path.c_str(), static_cast<off_t>(stat->size_bytes / 2)) == 0);
    return stat;
  }
  base::StatusOr<base::FileSystemInfo> Info(const std::string&) override { return No(); }
  base::StatusOr<std::unique_ptr<base::FileLock>> Lock(const std::string&) override { return No(); }

 private:
  static base::Status No() { return base::Internal("not expected"); }
  base::FileSystem& real_ = base::RealFileSystem();
  const int cut_at_look_;
  int looks_ = 0;
};

TEST_F(DamageTest, AShardThatGoesBadWhileOpeningIsNotOpened) {
  CuttingFileSystem cutting(2);
  const base::Status status = Checkpoint::Open(cutting, directory_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(base::Message(status), HasSubstr("weights are damaged: " + directory_ + "/model-0000"));
}

TEST_F(DamageTest, AShardThatIsWrittenWhileOpeningIsNotOpened) {
  CuttingFileSystem cutting(1);
  const base::Status status = Checkpoint::Open(cutting, directory_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(base::Message(status), HasSubstr("changed while it was opened"));
}

// Knows its mapping.
class MappingGuard final : public BlockGuard {
 public:
  explicit MappingGuard(const base::MappedFile& mapped) : mapped_(mapped) {}
  base::Status Check(int64_t, int32_t) override { return {}; }
  base::Status CheckMappings() override {
    ++asked;
    return mapped_.damaged() ? base::DataLoss("segment 7 is damaged") : base::Status();
  }
  int asked = 0;

 private:
  const base::MappedFile& mapped_;
};

TEST_F(DamageTest, ABlockThatGoesBadEndsOnlyTheSequencesThatReadIt) {
  Sequence sequence = engine_->NewSequence();
  ASSERT_TRUE(Forward(sequence, 128).ok());
  std::vector<std::byte> tail(
      static_cast<size_t>(BoundaryTailBytes(checkpoint_->config(), backend_->kv_mode())));
  sequence.SaveTail(tail);
  const HeapBlock block = sequence.TakeBlock(0);
  const BlockFile bad = StoreBlock("bad", block.get());
  const BlockFile good = StoreBlock("good", block.get());

  const auto attach = [&](const BlockFile& file) {
    Sequence s = engine_->NewSequence();
    s.AppendLentBlock(file.planes, std::vector<uint8_t>(file.planes.size()));
    HF_CHECK(s.RestoreTail(128, tail).ok());
    return s;
  };
  Sequence unguarded = attach(bad);
  Sequence guarded = attach(bad);
  MappingGuard bad_guard(*bad.mapped);
  guarded.set_guard(&bad_guard);
  Sequence other = attach(good);
  MappingGuard good_guard(*good.mapped);
  other.set_guard(&good_guard);
  ASSERT_TRUE(Forward(sequence, 1).ok());
  const std::vector<float> want = logits_;
  const int asked_before = good_guard.asked;

  CutOff(bad.path);
  const base::Status status = Forward(unguarded, 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_EQ(base::Message(status), "a mapped block is damaged");
  EXPECT_EQ(unguarded.position(), 128);
  // Its pages fault no more, but the sequence that shares them is told.
  EXPECT_EQ(base::Message(Forward(guarded, 1)), "segment 7 is damaged");
  EXPECT_EQ(base::Message(Forward(guarded, 1)), "segment 7 is damaged");
  EXPECT_FALSE(checkpoint_->damaged());

  ASSERT_TRUE(Forward(other, 1).ok());
  EXPECT_EQ(logits_, want);
  EXPECT_EQ(good_guard.asked, asked_before + 1);
  ASSERT_TRUE(Forward(other, 1).ok());
  EXPECT_EQ(good_guard.asked, asked_before + 1);  // once for each time that something went bad
  ASSERT_TRUE(Forward(sequence, 1).ok());         // reads no mapped block

  // Cut back and given good blocks, the sequence goes on with the same bits.
  guarded.TruncateToBlocks(0);
  guarded.AppendLentBlock(good.planes, std::vector<uint8_t>(good.planes.size()));
  guarded.set_guard(&good_guard);
  ASSERT_TRUE(guarded.RestoreTail(128, tail).ok());
  ASSERT_TRUE(Forward(guarded, 1).ok());
  EXPECT_EQ(logits_, want);
}

}  // namespace
}  // namespace holdfast::model
