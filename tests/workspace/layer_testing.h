// A layer over a tree in memory, with a store of blobs on a simulated disk: one machine, one power switch.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "memory/blob_store.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"
#include "tests/support/sim_tree.h"
#include "tests/workspace/workspace_testing.h"
#include "workspace/layer/layer.h"
#include "workspace/path.h"

namespace holdfast::workspace {

class SimWorld {
 public:
  explicit SimWorld(uint64_t seed, LayerLimits limits = {})
      : fs(clock, {.seed = seed}),
        upper(clock, {.seed = seed}),
        lower(clock, {.seed = seed + 1}),
        limits_(limits) {
    upper.JoinPower(fs);
    OpenStore();
  }

  // The process ends; nothing on disk changes.
  void EndProcess() {
    layer.reset();
    blobs.reset();
  }

  void OpenStore() {
    auto store = memory::BlobStore::Open(fs, {.directory = "/blobs"}, clock);
    ASSERT_TRUE(store.ok()) << store.status();
    blobs = std::move(*store);
  }

  // A session begins: the lower is as it is now.
  void OpenLayer() {
    auto state = BaseState::Take(lower, 1000, {}, nullptr);
    ASSERT_TRUE(state.ok()) << state.status();
    base = std::move(*state);
    Settle();
    layer = std::make_unique<Layer>(LayerParts{.upper = upper,
                                               .lower = lower,
                                               .base = &base,
                                               .blobs = *blobs,
                                               .clock = clock,
                                               .limits = limits_},
                                    clock.UtcNow());
  }

  // The power goes, and comes back.
  void Restart() {
    EndProcess();
    if (!upper.crashed()) upper.Crash();
    fs.Restart();
    upper.Restart();
    clock.Reboot();
    OpenStore();
  }

  // Lets so much time pass that stamps prove something.
  void Settle() { clock.Advance(3 * base::kNsPerSecond); }

  CheckpointResult Checkpoint() {
    auto result = layer->Checkpoint();
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? std::move(*result) : CheckpointResult();
  }

  Manifest Load(const ManifestId& id) {
    auto manifest = DecodeManifest(id, NodesOf(*blobs));
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    return manifest.ok() ? std::move(*manifest) : Manifest();
  }

  test::SimClock clock;
  test::SimFileSystem fs;
  test::SimTree upper, lower;
  BaseState base;
  std::unique_ptr<memory::BlobStore> blobs;
  std::unique_ptr<Layer> layer;

 private:
  const LayerLimits limits_;
};

// Changes an upper directory as overlayfs does when commands run: what it shows of a lower directory is
// deleted by a whiteout, and a directory made in place of a deleted one is opaque.
class OverlayHand {
 public:
  OverlayHand(Tree& upper, Tree& lower) : upper_(upper), lower_(lower) {}

  bool Shows(const std::string& path) { return KindOf(path).has_value(); }

  std::optional<EntryKind> KindOf(const std::string& path) {
    const auto stat = upper_.Stat(path);
    if (stat.ok()) return stat->kind == EntryKind::kWhiteout ? std::nullopt : std::optional(stat->kind);
    if (!LowerShows(path)) return std::nullopt;
    const auto lower = lower_.Stat(path);
    return lower.ok() ? std::optional(lower->kind) : std::nullopt;
  }

  void Write(const std::string& path, std::string_view text, uint32_t mode = 0644) {
    CopyUpParents(path);
    DropWhiteout(path);
    Put(upper_, path, text, mode);
    upper_.SetMode(path, mode).IgnoreError();
  }

  void Link(const std::string& path, std::string_view target) {
    CopyUpParents(path);
    DropWhiteout(path);
    EXPECT_TRUE(upper_.MakeLink(path, target).ok());
  }

  void MakeDirectory(const std::string& path, uint32_t mode = 0755) {
    CopyUpParents(path);
    DropWhiteout(path);
    EXPECT_TRUE(upper_.MakeDirectory(path, mode).ok());
    EXPECT_TRUE(upper_.SetOpaque(path, true).ok());
  }

  void Delete(const std::string& path) {
    CopyUpParents(path);
    EXPECT_TRUE(RemoveAll(upper_, path).ok());
    if (LowerShows(path) && lower_.Stat(path).ok()) {
      EXPECT_TRUE(upper_.MakeWhiteout(path).ok());
    }
  }

 private:
  // Whether nothing above `path` hides the lower.
  bool LowerShows(const std::string& path) {
    for (std::string above(Parent(path)); !above.empty(); above = Parent(above)) {
      const auto stat = upper_.Stat(above);
      if (!stat.ok()) continue;
      if (stat->kind != EntryKind::kDirectory || *upper_.IsOpaque(above)) return false;
    }
    return true;
  }
  void DropWhiteout(const std::string& path) {
    const auto stat = upper_.Stat(path);
    if (stat.ok() && stat->kind == EntryKind::kWhiteout) {
      EXPECT_TRUE(upper_.Remove(path).ok());
    }
  }
  void CopyUpParents(const std::string& path) {
    const std::string parent(Parent(path));
    if (parent.empty() || upper_.Stat(parent).ok()) return;
    CopyUpParents(parent);
    const auto lower = lower_.Stat(parent);
    EXPECT_TRUE(upper_.MakeDirectory(parent, lower.ok() ? lower->mode : 0755).ok());
  }

  Tree& upper_;
  Tree& lower_;
};

}  // namespace holdfast::workspace
