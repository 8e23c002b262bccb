// A layer: the upper directory of an overlay, as manifests see it.
//
// Nothing in the upper directory is ever synced, and nothing needs to be: what a crash of the process leaves
// is whole, since the kernel has it, and after a crash of the machine (another boot id) nothing of it is
// trusted and all is made anew from the manifest, whose blobs are durable.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "workspace/layer/scan.h"
#include "workspace/manifest.h"
#include "workspace/workspace.h"

namespace holdfast::workspace {

enum class Trust {
  kSameBoot,  // what is there was written by this boot of the machine: compare
  kNothing,   // make all anew
};

// One thread at a time.
class Layer {
 public:
  // `opened` is when the session began: what the lower had then is certain.
  Layer(LayerParts parts, base::UtcTime opened);

  // See Workspace::Checkpoint.
  base::StatusOr<CheckpointResult> Checkpoint();

  // Makes the upper hold exactly `id`. No overlay may be mounted on it. After an error, or a crash, the upper
  // is somewhere between; the next Restore makes it good.
  base::StatusOr<RestoreResult> Restore(const ManifestId& id, Trust trust);

  const ManifestId& current() const { return current_; }
  const Manifest& manifest() const { return manifest_; }

  // What makes the next checkpoint cheap after a restart of the process. Its loss does no harm.
  std::string EncodeMemory() const;
  // Takes it over when it is whole and belongs to `id`; else nothing happens.
  void DecodeMemory(std::string_view bytes, const ManifestId& id);

 private:
  base::StatusOr<Manifest> Load(const ManifestId& id) const;
  base::Status Clear(RestoreResult& result);
  base::Status RemoveDerivedSince(const ManifestId& id, const ScanResult& scan,
                                  const std::vector<std::pair<std::string, Stamp>>& derived,
                                  RestoreResult& result);
  base::Status RemoveOthers(const Manifest& target, const Manifest& present, RestoreResult& result);
  base::Status Put(const ManifestEntry& entry, const ManifestEntry* present, RestoreResult& result);
  base::Status PutFile(const ManifestEntry& entry);
  void NoteTime(const ManifestId& id, base::UtcTime time);

  const LayerParts parts_;
  Manifest manifest_;
  ManifestId current_;
  KnownFiles known_;
  ScanMemory memory_;
  base::UtcTime last_checkpoint_;
  // When the layer was last seen to hold a manifest; oldest first.
  std::deque<std::pair<ManifestId, base::UtcTime>> times_;
};

// Gives nodes from a store.
NodeSource NodesOf(memory::BlobStore& blobs);

// What differs between two manifests in what commands see; sorted.
std::vector<std::string> ChangedPaths(const Manifest& before, const Manifest& after);

}  // namespace holdfast::workspace
