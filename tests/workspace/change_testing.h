// Small worlds for tests of diff and apply: a tree as a map, what a session made of it, and the manifest of
// the difference.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/coding.h"
#include "base/hash.h"
#include "gtest/gtest.h"
#include "memory/blob_store.h"
#include "tests/support/seeded_random.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"
#include "workspace/manifest.h"
#include "workspace/path.h"
#include "workspace/tree.h"

namespace holdfast::workspace {

struct Node {
  VersionKind kind = VersionKind::kFile;
  uint32_t mode = 0644;
  std::string text;  // content, or target

  friend bool operator==(const Node&, const Node&) = default;
};

inline Node File(std::string text, uint32_t mode = 0644) {
  return {VersionKind::kFile, mode, std::move(text)};
}
inline Node Directory(uint32_t mode = 0755) { return {VersionKind::kDirectory, mode, {}}; }
inline Node Link(std::string target) { return {VersionKind::kSymlink, 0, std::move(target)}; }

// Sorted so that a directory stands before what is in it.
using World = std::map<std::string, Node, PathLess>;

// One line a path, for messages.
inline std::string Print(const World& world) {
  std::string text;
  for (const auto& [path, node] : world) {
    text += path +
            (node.kind == VersionKind::kDirectory ? "/"
             : node.kind == VersionKind::kSymlink ? " -> "
                                                  : ": ") +
            node.text + " " + std::to_string(node.mode) + "\n";
  }
  return text;
}

inline bool IsDirectoryIn(const World& world, std::string_view path) {
  if (path.empty()) return true;
  const auto found = world.find(path);
  return found != world.end() && found->second.kind == VersionKind::kDirectory;
}

// What is under something that is no directory goes; as every change below leaves it.
inline void Prune(World& world) {
  for (auto it = world.begin(); it != world.end();) {
    it = IsDirectoryIn(world, Parent(it->first)) ? std::next(it) : world.erase(it);
  }
}

inline void Make(Tree& tree, const World& world) {
  for (const auto& [path, node] : world) {
    base::Status made;
    if (node.kind == VersionKind::kDirectory) {
      made = tree.MakeDirectory(path, node.mode);
    } else if (node.kind == VersionKind::kSymlink) {
      made = tree.MakeLink(path, node.text);
    } else {
      auto file = tree.CreateFile(path, node.mode);
      made = file.status();
      if (made.ok()) made = (*file)->WriteAt(0, base::AsBytes(node.text));
      if (made.ok()) made = (*file)->Sync();
    }
    HF_CHECK(made.ok());
  }
  for (const auto& [path, node] : world) {
    if (node.kind == VersionKind::kDirectory) HF_CHECK(tree.SyncDirectory(path).ok());
  }
  HF_CHECK(tree.SyncDirectory("").ok());
}

inline World Read(Tree& tree) {
  World world;
  const base::Status walked = tree.Walk("", 1'000'000, [&](const std::string& path, const EntryStat& stat) {
    if (stat.kind == EntryKind::kWhiteout || stat.kind == EntryKind::kOther) return WalkStep::kContinue;
    Node node;
    node.mode = stat.mode;
    if (stat.kind == EntryKind::kDirectory) {
      node.kind = VersionKind::kDirectory;
    } else if (stat.kind == EntryKind::kSymlink) {
      node = Link(tree.ReadLink(path).value_or("<unreadable>"));
    } else {
      const auto content = ReadWhole(tree, path, 64 << 20);
      node.text = content.ok() ? content->bytes : "<" + base::Message(content.status()) + ">";
    }
    world.emplace(path, std::move(node));
    return WalkStep::kContinue;
  });
  HF_CHECK(walked.ok());
  return world;
}

// A blob store on a disk of its own, that never fails.
class Blobs {
 public:
  Blobs() {
    auto opened = memory::BlobStore::Open(fs_, {.directory = "/blobs"}, clock_);
    HF_CHECK(opened.ok());
    store_ = *std::move(opened);
    batch_ = store_->NewBatch();
  }

  memory::BlobStore& store() {
    HF_CHECK(batch_->Commit().ok());
    batch_ = store_->NewBatch();
    return *store_;
  }

  BlobId Add(std::string_view text) {
    const auto id = batch_->Add(base::AsBytes(text));
    HF_CHECK(id.ok());
    return *id;
  }

 private:
  test::SimClock clock_;
  test::SimFileSystem fs_{clock_};
  std::unique_ptr<memory::BlobStore> store_;
  std::unique_ptr<memory::BlobBatch> batch_;
};

inline Version VersionOf(const Node& node, Blobs& blobs) {
  Version version = {node.kind, node.mode, 0, {}, {}};
  if (node.kind == VersionKind::kFile) {
    version.size_bytes = node.text.size();
    version.content = blobs.Add(node.text);
  }
  if (node.kind == VersionKind::kSymlink) {
    version.mode = 0;
    version.target = node.text;
  }
  return version;
}

// The manifest of a layer that makes `ours` of `base`.
inline Manifest ManifestOf(const World& base, const World& ours, Blobs& blobs) {
  std::map<std::string, ManifestEntry, PathLess> entries;
  const auto entry_of = [&](const std::string& path) -> ManifestEntry& {
    ManifestEntry& entry = entries[path];
    entry.path = path;
    const auto before = base.find(path), now = ours.find(path);
    entry.base = before == base.end() ? Version() : VersionOf(before->second, blobs);
    entry.now = now == ours.end() ? Version() : VersionOf(now->second, blobs);
    entry.hidden = now == ours.end() && !IsDirectoryIn(ours, Parent(path));
    return entry;
  };
  const auto add = [&](const std::string& path) {
    entry_of(path);
    for (std::string_view above = Parent(path); !above.empty(); above = Parent(above))
      entry_of(std::string(above));
  };
  for (const auto& [path, node] : ours) {
    const auto before = base.find(path);
    if (before == base.end() || before->second != node) add(path);
  }
  for (const auto& [path, node] : base) {
    if (!ours.contains(path)) add(path);
  }
  Manifest manifest;
  for (auto& [path, entry] : entries) manifest.entries.push_back(std::move(entry));
  return manifest;
}

// ---- Random worlds ----

inline std::string RandomPath(test::SeededRandom& random) {
  std::string path;
  for (uint64_t depth = 1 + random.Below(3); depth > 0; --depth) {
    if (!path.empty()) path += '/';
    path += std::string(1, static_cast<char>('a' + random.Below(4)));
  }
  return path;
}

inline Node RandomNode(test::SeededRandom& random) {
  switch (random.Below(5)) {
    case 0:
    case 1:
      return Directory(random.Percent(80) ? 0755 : 0700);
    case 2:
      return Link("t" + std::to_string(random.Below(3)));
    default: {
      std::string text = "x" + std::to_string(random.Below(4)) + "\n";
      if (random.Percent(10)) text = std::string(3000, static_cast<char>('0' + random.Below(10)));
      return File(std::move(text), random.Percent(70) ? 0644 : 0755);
    }
  }
}

// Some changes to `world`: nodes put, replaced, removed, modes set.
inline World Changed(World world, test::SeededRandom& random, uint64_t changes) {
  for (; changes > 0; --changes) {
    const std::string path = RandomPath(random);
    if (!IsDirectoryIn(world, Parent(path))) continue;
    const auto found = world.find(path);
    if (found != world.end() && random.Percent(30)) {
      world.erase(found);
    } else if (found != world.end() && random.Percent(20)) {
      if (found->second.kind != VersionKind::kSymlink) found->second.mode ^= 0011;
    } else {
      world[path] = RandomNode(random);
    }
    Prune(world);
  }
  return world;
}

}  // namespace holdfast::workspace
