#include "workspace/layer/layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <map>

#include "tests/workspace/layer_testing.h"

namespace holdfast::workspace {
namespace {

using test::SeededRandom;
using testing::ElementsAre;
using testing::HasSubstr;

class LayerTest : public testing::Test {
 protected:
  LayerTest() : world_(1), hand_(world_.upper, world_.lower) {}
  std::string Text(const std::optional<BlobId>& id) {
    const auto bytes = world_.blobs->Read(*id, 1 << 20);
    return bytes.ok() ? *bytes : "<" + base::Message(bytes.status()) + ">";
  }
  SimWorld world_;
  OverlayHand hand_;
};

TEST_F(LayerTest, AnUntouchedLayerIsTheEmptyManifest) {
  world_.OpenLayer();
  const CheckpointResult result = world_.Checkpoint();
  EXPECT_EQ(result.id, EmptyManifestId());
  EXPECT_TRUE(result.changed.empty());
  EXPECT_EQ(world_.Load(result.id), Manifest());
}

TEST_F(LayerTest, ChangesAreKeptWithWhatWasUnderneath) {
  Put(world_.lower, "d/changed", "old", 0640);
  Put(world_.lower, "d/deleted", "gone");
  world_.OpenLayer();
  hand_.Write("d/changed", "new", 0755);
  hand_.Delete("d/deleted");
  hand_.Write("made", "fresh");
  hand_.Link("link", "d/changed");
  const CheckpointResult result = world_.Checkpoint();
  EXPECT_THAT(result.changed, ElementsAre("d/changed", "d/deleted", "link", "made"));
  const Manifest manifest = world_.Load(result.id);
  const ManifestEntry* const changed = manifest.Find("d/changed");
  ASSERT_NE(changed, nullptr);
  EXPECT_EQ(Text(changed->now.content), "new");
  EXPECT_EQ(changed->now.mode, 0755u);
  EXPECT_EQ(Text(changed->base.content), "old");
  EXPECT_EQ(changed->base.mode, 0640u);
  EXPECT_EQ(changed->certainty, BaseCertainty::kCertain);
  EXPECT_EQ(manifest.Find("d/deleted")->now.kind, VersionKind::kAbsent);
  EXPECT_EQ(Text(manifest.Find("d/deleted")->base.content), "gone");
  EXPECT_EQ(manifest.Find("made")->base.kind, VersionKind::kAbsent);
  EXPECT_EQ(manifest.Find("link")->now.target, "d/changed");
  EXPECT_FALSE(manifest.Find("d")->Changed());
}

TEST_F(LayerTest, WhatDidNotChangeIsNotReadAgain) {
  world_.OpenLayer();
  for (int i = 0; i < 50; ++i) hand_.Write("file" + std::to_string(i), "text " + std::to_string(i));
  EXPECT_EQ(world_.Checkpoint().files_read, 50u);
  world_.Settle();
  EXPECT_EQ(world_.Checkpoint().files_read, 50u);  // the first reads were too close to the writes to trust
  world_.Settle();
  hand_.Write("file7", "new");
  const CheckpointResult result = world_.Checkpoint();
  EXPECT_EQ(result.files_read, 1u);
  EXPECT_THAT(result.changed, ElementsAre("file7"));
  EXPECT_GT(result.bytes_stored, 0u);
}

TEST_F(LayerTest, AChangeWithinTheClocksTickIsSeen) {
  world_.OpenLayer();
  hand_.Write("file", "one");
  const ManifestId first = world_.Checkpoint().id;
  hand_.Write("file", "two");  // same size, same time
  EXPECT_NE(world_.Checkpoint().id, first);
}

TEST_F(LayerTest, IdsDependOnContentOnly) {
  world_.OpenLayer();
  hand_.Write("b", "2");
  hand_.Write("a", "1");
  const ManifestId id = world_.Checkpoint().id;
  SimWorld other(9);
  other.OpenLayer();
  OverlayHand hand(other.upper, other.lower);
  hand.Write("a", "temporary");
  other.Checkpoint();
  other.Settle();
  hand.Write("a", "1");
  hand.Write("b", "2");
  EXPECT_EQ(other.Checkpoint().id, id);
}

TEST_F(LayerTest, ADeletedDirectoryKeepsTheBasesOfWhatWasInIt) {
  Put(world_.lower, "d/a", "1");
  Put(world_.lower, "d/sub/b", "2");
  world_.OpenLayer();
  hand_.Delete("d");
  const CheckpointResult deleted = world_.Checkpoint();
  EXPECT_THAT(deleted.changed, ElementsAre("d"));
  Manifest manifest = world_.Load(deleted.id);
  EXPECT_TRUE(manifest.Find("d/sub/b")->hidden);
  EXPECT_EQ(Text(manifest.Find("d/sub/b")->base.content), "2");
  // Made anew, with one of the files: now that one stands, with its base.
  hand_.MakeDirectory("d");
  hand_.Write("d/a", "again");
  manifest = world_.Load(world_.Checkpoint().id);
  EXPECT_TRUE(manifest.Find("d")->opaque);
  EXPECT_FALSE(manifest.Find("d/a")->hidden);
  EXPECT_EQ(Text(manifest.Find("d/a")->base.content), "1");
  EXPECT_TRUE(manifest.Find("d/sub/b")->hidden);
  EXPECT_TRUE(manifest.Find("d/sub")->hidden);
}

TEST_F(LayerTest, TheBaseIsTheOneOfTheFirstChange) {
  Put(world_.lower, "f", "first");
  world_.OpenLayer();
  hand_.Write("f", "ours");
  world_.Checkpoint();
  world_.Settle();
  Put(world_.lower, "f", "theirs, later");
  hand_.Write("f", "ours again");
  const Manifest manifest = world_.Load(world_.Checkpoint().id);
  EXPECT_EQ(Text(manifest.Find("f")->base.content), "first");
  EXPECT_EQ(manifest.Find("f")->certainty, BaseCertainty::kCertain);
}

TEST_F(LayerTest, ABaseThatChangedMeanwhileIsUncertain) {
  Put(world_.lower, "early", "1");
  Put(world_.lower, "late", "1");
  world_.OpenLayer();
  Put(world_.lower, "early", "2");  // by the user, before the command
  world_.Settle();
  world_.Checkpoint();
  world_.Settle();
  hand_.Write("early", "ours");
  hand_.Write("late", "ours");
  Put(world_.lower, "late", "2");  // by the user, at the time of the command
  const Manifest manifest = world_.Load(world_.Checkpoint().id);
  EXPECT_EQ(manifest.Find("early")->certainty, BaseCertainty::kCertain);
  EXPECT_EQ(Text(manifest.Find("early")->base.content), "2");
  EXPECT_EQ(manifest.Find("late")->certainty, BaseCertainty::kUncertain);
}

TEST_F(LayerTest, IgnoredPathsAreCountedAndNotKept) {
  Put(world_.lower, ".gitignore", "build/\n*.log\n");
  Put(world_.lower, ".git/HEAD", "ref: refs/heads/main\n");
  world_.OpenLayer();
  for (int i = 0; i < 10; ++i) hand_.Write("build/o" + std::to_string(i), "12345");
  hand_.Write("x.log", "123");
  hand_.Write("x.c", "code");
  const CheckpointResult result = world_.Checkpoint();
  EXPECT_THAT(result.changed, ElementsAre("x.c"));
  EXPECT_EQ(result.derived.files, 11u);
  EXPECT_EQ(result.derived.bytes, 53u);
  EXPECT_TRUE(result.derived.bytes_complete);
  EXPECT_THAT(result.derived.roots, ElementsAre("build", "x.log"));
  hand_.Write("build/o3", "1234567890");  // the directory does not change
  EXPECT_EQ(world_.Checkpoint().derived.bytes, 58u);
}

TEST_F(LayerTest, WithoutAnIndexIgnoredFilesOfTheUserAreKept) {
  Put(world_.lower, ".gitignore", "*.conf\n");
  Put(world_.lower, "local.conf", "old");
  world_.OpenLayer();
  hand_.Write("local.conf", "new");
  hand_.Write("made.conf", "new");
  EXPECT_THAT(world_.Checkpoint().changed, ElementsAre("local.conf"));
}

TEST_F(LayerTest, SpecialFilesAreNotedAndDropped) {
  world_.OpenLayer();
  ASSERT_TRUE(world_.upper.MakeOther("fifo").ok());
  hand_.Write("f", "x", 04755);
  const CheckpointResult result = world_.Checkpoint();
  EXPECT_THAT(result.dropped, ElementsAre("fifo"));
  EXPECT_EQ(result.entries, 1u);
  const Manifest manifest = world_.Load(result.id);
  EXPECT_EQ(manifest.Find("f")->now.mode, 04755u);
}

TEST_F(LayerTest, LimitsAreErrorsThatStoreNothing) {
  SimWorld world(3, {.files_max = 5, .bytes_max = 1000, .file_bytes_max = 500, .derived_files_max = 2});
  world.OpenLayer();
  OverlayHand hand(world.upper, world.lower);
  hand.Write("big", std::string(501, 'b'));
  EXPECT_TRUE(absl::IsResourceExhausted(world.layer->Checkpoint().status()));
  hand.Delete("big");
  for (const char* name : {"a", "b", "c"}) hand.Write(name, std::string(400, 'x'));
  const base::Status bytes = world.layer->Checkpoint().status();
  EXPECT_TRUE(absl::IsResourceExhausted(bytes));
  EXPECT_THAT(base::Message(bytes), HasSubstr("1000 bytes"));
  hand.Write("c", "");
  for (const char* name : {"d", "e", "f"}) hand.Write(name, "");
  EXPECT_TRUE(absl::IsResourceExhausted(world.layer->Checkpoint().status()));
  for (const char* name : {"c", "d", "e", "f"}) hand.Delete(name);
  hand.Write(".gitignore", "out\n");
  for (const char* name : {"out/1", "out/2", "out/3"}) hand.Write(name, "");
  EXPECT_TRUE(absl::IsResourceExhausted(world.layer->Checkpoint().status()));
  EXPECT_EQ(world.layer->current(), EmptyManifestId());
  hand.Delete("out/3");
  EXPECT_TRUE(world.layer->Checkpoint().ok());
}

TEST_F(LayerTest, RestoreKeepsOldDerivedFilesAndDropsNewerOnes) {
  Put(world_.lower, ".gitignore", "build\n");
  world_.OpenLayer();
  hand_.Write("src", "1");
  hand_.Write("build/old.o", "old");
  world_.Settle();
  const ManifestId id = world_.Checkpoint().id;
  world_.Settle();
  hand_.Write("src", "2");
  hand_.Write("build/new.o", "half writ");
  const auto result = world_.layer->Restore(id, Trust::kSameBoot);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->changed, ElementsAre("src"));
  EXPECT_EQ(result->derived_removed, 1u);
  EXPECT_EQ(Get(world_.upper, "src"), "1");
  EXPECT_EQ(Get(world_.upper, "build/old.o"), "old");
  EXPECT_TRUE(absl::IsNotFound(world_.upper.Stat("build/new.o").status()));
  // With another boot nothing derived is trusted.
  ASSERT_TRUE(world_.layer->Restore(id, Trust::kNothing).ok());
  EXPECT_EQ(world_.upper.Dump(), "f 644 src: 1\n");
}

TEST_F(LayerTest, ARestoreOfWhatIsNotThereChangesNothing) {
  world_.OpenLayer();
  hand_.Write("f", "x");
  world_.Checkpoint();
  const std::string before = world_.upper.Dump();
  BlobId unknown{};
  EXPECT_TRUE(absl::IsNotFound(world_.layer->Restore(unknown, Trust::kSameBoot).status()));
  EXPECT_EQ(world_.upper.Dump(), before);
}

TEST_F(LayerTest, TheMemoryMakesTheNextProcessQuickAndIsCheckedForDamage) {
  world_.OpenLayer();
  for (int i = 0; i < 20; ++i) hand_.Write("f" + std::to_string(i), std::to_string(i));
  world_.Settle();
  const ManifestId id = world_.Checkpoint().id;
  const std::string memory = world_.layer->EncodeMemory();
  world_.OpenLayer();
  world_.layer->DecodeMemory(memory, id);
  const CheckpointResult warm = world_.Checkpoint();
  EXPECT_EQ(warm.id, id);
  EXPECT_EQ(warm.files_read, 0u);
  for (size_t at = 0; at < memory.size(); at += 7) {
    std::string damaged = memory;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    world_.OpenLayer();
    world_.layer->DecodeMemory(damaged, id);
    EXPECT_EQ(world_.layer->current(), EmptyManifestId());
  }
  world_.layer->DecodeMemory(memory.substr(0, 10), id);
  world_.layer->DecodeMemory(memory, EmptyManifestId());
  EXPECT_EQ(world_.Checkpoint().files_read, 20u);
}

// Random commands, checkpoints and restores: after each restore the upper is, byte for byte, what it was.
void MutateAtRandom(OverlayHand& hand, SeededRandom& random) {
  const auto name = [&] { return std::string(1, static_cast<char>('a' + random.Below(3))); };
  std::string path = name();
  while (random.Percent(50) && hand.KindOf(path) == EntryKind::kDirectory) path += "/" + name();
  const std::string parent(Parent(path));
  if (!parent.empty() && hand.KindOf(parent) != EntryKind::kDirectory) return;
  const auto kind = hand.KindOf(path);
  switch (random.Below(5)) {
    case 0:
      if (kind.has_value()) hand.Delete(path);
      break;
    case 1:
      if (!kind.has_value()) hand.MakeDirectory(path, random.Percent(20) ? 0500 : 0755);
      break;
    case 2:
      if (!kind.has_value()) hand.Link(path, "target" + std::to_string(random.Below(3)));
      break;
    default:
      if (!kind.has_value() || kind == EntryKind::kFile) {
        hand.Write(path, "text" + std::to_string(random.Below(20)), random.Percent(20) ? 0755 : 0644);
      }
  }
}

void FillLower(SimWorld& world, SeededRandom& random) {
  for (const char* path : {"a/a", "a/b/c", "b", "c/a/a", "c/b"}) {
    if (random.Percent(70)) Put(world.lower, path, std::string("lower ") + path);
  }
}

TEST(LayerPropertyTest, RestoredLayersAreWhatTheyWere) {
  for (const uint64_t seed : test::TestSeeds(60)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    SeededRandom random(seed);
    SimWorld world(seed);
    FillLower(world, random);
    world.OpenLayer();
    OverlayHand hand(world.upper, world.lower);
    std::map<ManifestId, std::string> seen = {{EmptyManifestId(), ""}};
    std::vector<ManifestId> ids = {EmptyManifestId()};
    for (int step = 0; step < 30; ++step) {
      for (uint64_t n = random.Below(6); n > 0; --n) MutateAtRandom(hand, random);
      if (random.Percent(50)) world.Settle();
      const CheckpointResult result = world.Checkpoint();
      // Directories that are as underneath come and go unseen, so the first sight is from a rebuilt layer.
      if (!seen.contains(result.id)) {
        ids.push_back(result.id);
        ASSERT_TRUE(world.layer->Restore(result.id, Trust::kNothing).ok());
        seen[result.id] = world.upper.Dump();
        ASSERT_EQ(world.Checkpoint().id, result.id);
      }
      if (random.Percent(40)) {
        const ManifestId& id = ids[random.Below(ids.size())];
        const Trust trust = random.Percent(70) ? Trust::kSameBoot : Trust::kNothing;
        const auto restored = world.layer->Restore(id, trust);
        ASSERT_TRUE(restored.ok()) << restored.status();
        const CheckpointResult again = world.Checkpoint();
        ASSERT_EQ(again.id, id);
        ASSERT_TRUE(again.changed.empty());
        if (trust == Trust::kNothing) {
          ASSERT_EQ(world.upper.Dump(), seen[id]);
        }
      }
    }
  }
}

// The power goes at every point of checkpoints and restores. What was acknowledged comes back, whole.
TEST(LayerCrashTest, AfterACrashTheLayerIsMadeAnewFromTheLastAcknowledgedManifest) {
  for (const uint64_t seed : test::TestSeeds(4)) {
    for (uint64_t n = 1;; ++n) {
      SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed << " crash at " << n);
      SeededRandom random(seed);
      SimWorld world(seed + 1000 * n);
      FillLower(world, random);
      world.OpenLayer();
      OverlayHand hand(world.upper, world.lower);
      std::vector<std::pair<ManifestId, std::string>> acknowledged = {{EmptyManifestId(), ""}};
      const auto checkpoint = [&] {
        const auto result = world.layer->Checkpoint();
        if (!result.ok()) return;
        if (!world.upper.crashed()) acknowledged.emplace_back(result->id, "");
      };
      for (int i = 0; i < 8; ++i) MutateAtRandom(hand, random);
      // Half of the crashes are counted on the disk of the blobs, half in the layer.
      n % 2 == 0 ? world.fs.CrashAtMutation(n / 2) : world.upper.CrashAtMutation((n + 1) / 2);
      checkpoint();
      for (int i = 0; i < 8; ++i) {
        ReplaceFile(world.upper, "w" + std::to_string(i), base::AsBytes("text"), 0644).IgnoreError();
      }
      checkpoint();
      if (!world.upper.crashed()) {
        world.layer->Restore(acknowledged[acknowledged.size() / 2].first, Trust::kSameBoot).IgnoreError();
      }
      const bool crashed = world.upper.crashed();
      world.Restart();
      for (const auto& [id, unused] : acknowledged) {
        world.OpenLayer();
        const auto restored = world.layer->Restore(id, Trust::kNothing);
        ASSERT_TRUE(restored.ok()) << restored.status();
        world.Settle();
        ASSERT_EQ(world.Checkpoint().id, id);
      }
      if (!crashed && n > 60) break;
    }
  }
}

// The power goes at every point of the recovery itself.
TEST(LayerCrashTest, ARecoveryThatIsInterruptedIsDoneAgain) {
  for (const uint64_t seed : test::TestSeeds(3)) {
    SeededRandom random(seed);
    SimWorld world(seed);
    FillLower(world, random);
    world.OpenLayer();
    OverlayHand hand(world.upper, world.lower);
    for (int i = 0; i < 30; ++i) MutateAtRandom(hand, random);
    const ManifestId id = world.Checkpoint().id;
    bool crashed = true;
    for (uint64_t n = 1; crashed; ++n) {
      SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed << " crash at " << n);
      world.upper.CrashAtMutation(n);
      const bool restored = world.layer->Restore(id, Trust::kNothing).ok();
      crashed = world.upper.crashed();
      ASSERT_EQ(restored, !crashed);
      world.Restart();
      world.OpenLayer();
      ASSERT_TRUE(world.layer->Restore(id, Trust::kNothing).ok());
      world.Settle();
      ASSERT_EQ(world.Checkpoint().id, id);
    }
  }
}

}  // namespace
}  // namespace holdfast::workspace
