#include "workspace/manifest.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "base/coding.h"
#include "tests/support/seeded_random.h"
#include "workspace/tree.h"

namespace holdfast::workspace {
namespace {

using test::SeededRandom;

BlobId IdOfText(std::string_view text) { return base::Sha256Of(base::AsBytes(text)); }
Version File(std::string_view text, uint32_t mode = 0644) {
  return {.kind = VersionKind::kFile, .mode = mode, .size_bytes = text.size(), .content = IdOfText(text)};
}
Version Directory(uint32_t mode = 0755) { return {.kind = VersionKind::kDirectory, .mode = mode}; }
Version Link(std::string target) { return {.kind = VersionKind::kSymlink, .target = std::move(target)}; }

// Every field and flag once. The golden file holds its nodes; a change of it is a new version of the format.
Manifest Everything() {
  Manifest manifest;
  auto& e = manifest.entries;
  e.push_back({.path = "changed", .now = File("new", 04755), .base = File("old")});
  e.push_back({.path = "dir", .now = Directory(0700), .base = Directory()});
  e.push_back({.path = "dir/link", .now = Link("../changed"), .base = Link("x")});
  e.push_back({.path = "dir/made", .now = File("")});
  e.push_back({.path = "dir.c", .base = File("deleted"), .certainty = BaseCertainty::kUncertain});
  e.push_back({.path = "gone", .base = Directory()});
  e.push_back({.path = "gone/a", .hidden = true, .base = Directory(0500)});
  e.push_back({.path = "gone/a/b", .hidden = true, .base = File("hidden")});
  e.push_back({.path = "large", .now = File("small"), .base = File("")});
  e.back().base = {.kind = VersionKind::kFile, .mode = 0600, .size_bytes = uint64_t{1} << 40};
  e.push_back({.path = "opaque", .now = Directory(), .opaque = true, .base = Directory()});
  e.push_back({.path = "opaque/f", .hidden = true, .base = Link("t")});
  e.push_back({.path = "\xff\nname", .now = File("bytes")});
  return manifest;
}

class NodeStore {
 public:
  NodeSink sink() {
    return [this](std::span<const std::byte> node) -> base::StatusOr<BlobId> {
      const BlobId id = base::Sha256Of(node);
      nodes[id] = base::AsText(node);
      order.push_back(id);
      return id;
    };
  }
  NodeSource source() {
    return [this](const BlobId& id, size_t bytes_max) -> base::StatusOr<std::string> {
      const auto it = nodes.find(id);
      if (it == nodes.end()) return base::NotFound("node");
      if (it->second.size() > bytes_max) return base::ResourceExhausted("node");
      return it->second;
    };
  }
  std::map<BlobId, std::string> nodes;
  std::vector<BlobId> order;
};

TEST(ManifestTest, WhatIsEncodedIsDecoded) {
  NodeStore store;
  const Manifest manifest = Everything();
  const auto id = EncodeManifest(manifest, store.sink());
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(store.order.back(), *id);
  const auto decoded = DecodeManifest(*id, store.source());
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, manifest);
  EXPECT_EQ(*IdOf(manifest), *id);
}

TEST(ManifestTest, TheBytesAreThoseOfTheGoldenFile) {
  NodeStore store;
  ASSERT_TRUE(EncodeManifest(Everything(), store.sink()).ok());
  std::ostringstream text;
  for (const BlobId& id : store.order) {
    text << base::ToHex(id) << " " << base::ToHex(base::AsBytes(store.nodes[id])) << "\n";
  }
  const std::string path = std::string(HOLDFAST_SOURCE_DIR) + "/tests/golden/manifest_v1.txt";
  std::ifstream in(path);
  std::ostringstream golden;
  golden << in.rdbuf();
  EXPECT_EQ(text.str(), golden.str()) << path;
}

TEST(ManifestTest, TheEmptyManifestHasItsId) {
  NodeStore store;
  EXPECT_EQ(*EncodeManifest(Manifest(), store.sink()), EmptyManifestId());
  EXPECT_EQ(*DecodeManifest(EmptyManifestId(), store.source()), Manifest());
}

TEST(ManifestTest, OnlyTheNodesOnTheWayToAChangeAreNew) {
  Manifest manifest;
  for (int d = 0; d < 20; ++d) {
    const std::string directory = "d" + std::string(1, static_cast<char>('a' + d));
    manifest.entries.push_back({.path = directory, .now = Directory(), .base = Directory()});
    manifest.entries.push_back({.path = directory + "/f", .now = File(directory)});
  }
  NodeStore store;
  ASSERT_TRUE(EncodeManifest(manifest, store.sink()).ok());
  EXPECT_EQ(store.nodes.size(), 21u);
  manifest.entries[7].now = File("another");
  ASSERT_TRUE(EncodeManifest(manifest, store.sink()).ok());
  EXPECT_EQ(store.nodes.size(), 23u);
}

TEST(ManifestTest, ManifestsThatMakeNoSenseAreRefused) {
  const ManifestEntry directory = {.path = "d", .now = Directory()};
  const std::vector<std::vector<ManifestEntry>> bad = {
      {{.path = "", .now = File("x")}},
      {{.path = "/a", .now = File("x")}},
      {{.path = "b", .now = File("x")}, {.path = "a", .now = File("x")}},
      {{.path = "a", .now = File("x")}, {.path = "a", .now = File("x")}},
      {{.path = "a/b", .now = File("x")}},
      {{.path = "a", .now = File("x")}, {.path = "a/b", .now = File("x")}},
      {{.path = "a", .now = {.kind = VersionKind::kFile}}},
      {{.path = "a", .now = {.kind = VersionKind::kSymlink}}},
      {{.path = "a", .now = {.kind = VersionKind::kDirectory, .mode = 010000}}},
      {{.path = "a", .now = {.kind = VersionKind::kDirectory, .size_bytes = 1}}},
      {{.path = "a", .now = {.kind = VersionKind::kAbsent, .mode = 1}}},
      {{.path = "a", .now = Link(std::string(4096, 't'))}},
      {{.path = "a", .now = Link(std::string("a\0b", 3))}},
      {{.path = "a", .now = File("x"), .opaque = true}},
      {{.path = "a", .hidden = true, .base = File("x")}},
      {directory, {.path = "d/a", .hidden = true, .base = File("x")}},
      {{.path = "d", .now = Directory(), .base = Directory()}, {.path = "d/a", .hidden = true}},
      {{.path = "d", .base = Directory()}, {.path = "d/a", .now = File("x")}},
  };
  for (size_t i = 0; i < bad.size(); ++i) {
    EXPECT_TRUE(absl::IsInvalidArgument(IdOf({bad[i]}).status())) << i;
  }
}

TEST(ManifestTest, DamagedNodesAreDataLossOrGiveAnotherManifestNeverMore) {
  NodeStore store;
  const Manifest manifest = Everything();
  const ManifestId id = *EncodeManifest(manifest, store.sink());
  for (const auto& [node, bytes] : std::map(store.nodes)) {
    for (size_t cut = 0; cut < bytes.size(); ++cut) {
      store.nodes[node] = bytes.substr(0, cut);
      EXPECT_TRUE(absl::IsDataLoss(DecodeManifest(id, store.source()).status())) << cut;
    }
    store.nodes[node] = bytes + '\0';
    EXPECT_TRUE(absl::IsDataLoss(DecodeManifest(id, store.source()).status()));
    for (size_t at = 0; at < bytes.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        std::string flipped = bytes;
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
        store.nodes[node] = flipped;
        const auto decoded = DecodeManifest(id, store.source());
        if (!decoded.ok()) continue;
        EXPECT_NE(*decoded, manifest);
        EXPECT_NE(*IdOf(*decoded), id);  // it is a good manifest, but another
      }
    }
    store.nodes[node] = bytes;
  }
}

TEST(ManifestTest, LimitsHold) {
  NodeStore store;
  const ManifestId id = *EncodeManifest(Everything(), store.sink());
  EXPECT_TRUE(absl::IsDataLoss(DecodeManifest(id, store.source(), {.entries_max = 11}).status()));
  EXPECT_TRUE(DecodeManifest(id, store.source(), {.entries_max = 12}).ok());
  EXPECT_TRUE(absl::IsDataLoss(DecodeManifest(id, store.source(), {.path_bytes_max = 20}).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(DecodeManifest(id, store.source(), {.node_bytes_max = 20}).status()));
  EXPECT_TRUE(absl::IsNotFound(DecodeManifest(IdOfText("none"), store.source()).status()));
}

TEST(ManifestTest, VisitBlobsNamesNodesAndContentsAndStopsAtKnownOnes) {
  NodeStore store;
  const ManifestId id = *EncodeManifest(Everything(), store.sink());
  std::set<BlobId> seen;
  ASSERT_TRUE(
      VisitBlobs(id, store.source(), [&](const BlobId& blob) { return seen.insert(blob).second; }).ok());
  for (const auto& [node, bytes] : store.nodes) EXPECT_TRUE(seen.contains(node));
  for (const char* text : {"new", "old", "", "deleted", "hidden", "small", "bytes"}) {
    EXPECT_TRUE(seen.contains(IdOfText(text))) << text;
  }
  EXPECT_EQ(seen.size(), store.nodes.size() + 7);
  size_t calls = 0;
  ASSERT_TRUE(VisitBlobs(id, store.source(), [&](const BlobId&) { return ++calls, false; }).ok());
  EXPECT_EQ(calls, 1u);
}

TEST(ManifestTest, FindFindsEachEntryAndNothingElse) {
  const Manifest manifest = Everything();
  for (const ManifestEntry& entry : manifest.entries) EXPECT_EQ(manifest.Find(entry.path), &entry);
  for (const char* path : {"", "dir/", "dir/x", "zzz", "gone/a/b/c"}) EXPECT_EQ(manifest.Find(path), nullptr);
}

TEST(ManifestPropertyTest, RandomManifestsComeBack) {
  for (const uint64_t seed : test::TestSeeds(50)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    SeededRandom random(seed);
    const auto version = [&](bool is_base) -> Version {
      switch (random.Below(4)) {
        case 0:
          return File(std::to_string(random.Below(9)), static_cast<uint32_t>(random.Below(010000)));
        case 1:
          return Directory(static_cast<uint32_t>(random.Below(010000)));
        case 2:
          return Link(std::to_string(random.Below(9)));
        default:
          if (!is_base || random.Percent(50)) return {};
          return {.kind = VersionKind::kFile, .size_bytes = random.Next()};
      }
    };
    std::map<std::string, ManifestEntry, PathLess> entries;
    for (int i = 0; i < 60; ++i) {
      std::string path(1 + random.Below(2), static_cast<char>('a' + random.Below(4)));
      if (!entries.empty() && random.Percent(70)) {
        auto above = entries.begin();
        std::advance(above, static_cast<ptrdiff_t>(random.Below(entries.size())));
        path = above->first + "/" + path;
      }
      ManifestEntry entry{.path = path, .now = version(false), .base = version(true)};
      if (random.Percent(20)) entry.certainty = BaseCertainty::kUncertain;
      entry.opaque = entry.now.kind == VersionKind::kDirectory && random.Percent(30);
      const size_t slash = path.rfind('/');
      if (slash != path.npos) {
        const ManifestEntry& parent = entries.at(path.substr(0, slash));
        const bool may_hide =
            parent.base.kind == VersionKind::kDirectory && entry.base.kind != VersionKind::kAbsent;
        if (parent.now.kind != VersionKind::kDirectory) {
          if (!may_hide) continue;
          entry.hidden = true;
          entry.opaque = false;
          entry.now = {};
        }
      }
      if (!entries.contains(path)) entries[path] = entry;
    }
    Manifest manifest;
    for (const auto& [path, entry] : entries) manifest.entries.push_back(entry);
    NodeStore store;
    const auto id = EncodeManifest(manifest, store.sink());
    ASSERT_TRUE(id.ok()) << id.status();
    const auto decoded = DecodeManifest(*id, store.source());
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, manifest);
  }
}

}  // namespace
}  // namespace holdfast::workspace
