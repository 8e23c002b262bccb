// What a layer holds: the state of a workspace relative to the tree it lies on, by content, with nothing in
// it that would differ between two runs that did the same (no times, owners or inode numbers).
//
// It is stored as blobs, one for each directory (a node), which name their sub-directories' by hash; so what
// did not change between two checkpoints is stored once. The id of a manifest is that of its root node:
// equal states have equal ids. Byte layout: docs/formats/manifest.md.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/status.h"

namespace holdfast::workspace {

using BlobId = base::Sha256Digest;
using ManifestId = BlobId;

enum class VersionKind : uint8_t { kAbsent = 0, kFile = 1, kDirectory = 2, kSymlink = 3 };

// What stands at a path in one state of things.
struct Version {
  VersionKind kind = VersionKind::kAbsent;
  uint32_t mode = 0;              // of files and directories, 07777
  uint64_t size_bytes = 0;        // of files
  std::optional<BlobId> content;  // of files; none only in a base that was too large to keep
  std::string target;             // of links

  friend bool operator==(const Version&, const Version&) = default;
};

enum class BaseCertainty : uint8_t {
  kCertain = 0,    // the tree underneath held it when the path was first changed
  kUncertain = 1,  // the tree changed at this path at about the same time: the command may have seen another
};

struct ManifestEntry {
  std::string path;
  Version now;          // kAbsent: deleted
  bool opaque = false;  // a directory that hides all of the tree underneath
  bool hidden = false;  // nothing of the layer's own: underneath there is `base` at this path, which a
                        // deleted, replaced or opaque directory above it hides. `now` is kAbsent.
  Version base;         // what the tree underneath had here
  BaseCertainty certainty = BaseCertainty::kCertain;

  // Whether `now` differs from `base`: directories are in a manifest also because something in them changed.
  bool Changed() const;

  friend bool operator==(const ManifestEntry&, const ManifestEntry&) = default;
};

// Sorted by ComparePaths (workspace/tree.h), each path once. The parent of each entry is the root or an entry
// too: a directory that stands, or for a hidden entry one that stood underneath.
struct Manifest {
  std::vector<ManifestEntry> entries;

  // Points into the manifest, hence not for one that is about to go.
  const ManifestEntry* Find(std::string_view path) const&;
  const ManifestEntry* Find(std::string_view path) const&& = delete;
  friend bool operator==(const Manifest&, const Manifest&) = default;
};

struct ManifestLimits {
  size_t node_bytes_max = 64 << 20;
  size_t entries_max = 4'000'000;
  uint64_t path_bytes_max = 1 << 30;  // of all entries together
};

// Stores one node and gives its id, which must be its SHA-256.
using NodeSink = std::function<base::StatusOr<BlobId>(std::span<const std::byte> node)>;
// Gives the bytes of a node of at most `bytes_max`.
using NodeSource = std::function<base::StatusOr<std::string>(const BlobId& id, size_t bytes_max)>;

// Hands all nodes to `sink`, the root's last. InvalidArgument for a manifest that is not as said above.
base::StatusOr<ManifestId> EncodeManifest(const Manifest& manifest, const NodeSink& sink);

// The id alone.
base::StatusOr<ManifestId> IdOf(const Manifest& manifest);

// DataLoss, naming the directory, for nodes that are not what EncodeManifest makes, or beyond the limits;
// otherwise the errors of `source`.
base::StatusOr<Manifest> DecodeManifest(const ManifestId& id, const NodeSource& source,
                                        const ManifestLimits& limits = {});

// Every blob that a manifest needs: its nodes and all contents, some maybe twice. For the sweep of a store:
// `visit` says whether a blob is new to it; what a node names that is not is left out, so that the parts
// which many manifests share are read once.
base::Status VisitBlobs(const ManifestId& id, const NodeSource& source,
                        const std::function<bool(const BlobId&)>& visit, const ManifestLimits& limits = {});

// The layer of a session that has changed nothing.
ManifestId EmptyManifestId();

}  // namespace holdfast::workspace
