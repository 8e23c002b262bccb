// The files in a workspace's own directory, beside the layer.
//
//   record   which tree, mode and snapshot this is, and HEAD at the start: written once, durably
//   base     the tree at the start (BaseState): written once, durably
//   state    this boot's id, what the layer holds, whether a restore is under way: never synced, since after
//            another boot nothing of it is believed
//   memory   what makes checkpoints cheap (Layer::EncodeMemory): never synced
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "workspace/manifest.h"
#include "workspace/workspace.h"

namespace holdfast::workspace {

struct WorkspaceRecord {
  std::string tree;
  sandbox::WorkspaceMode mode = sandbox::WorkspaceMode::kOverlay;
  Snapshot snapshot = Snapshot::kNo;
  std::string head;
  base::UtcTime opened;
};

struct WorkspaceState {
  std::string boot_id;
  bool restoring = false;  // the layer is on its way to `current`
  ManifestId current{};
};

base::Status WriteRecord(base::FileSystem& fs, const std::string& directory, const WorkspaceRecord& record);
// Nothing when there is none. DataLoss when it is damaged.
base::StatusOr<std::optional<WorkspaceRecord>> ReadRecord(base::FileSystem& fs, const std::string& directory);

base::Status WriteState(base::FileSystem& fs, const std::string& directory, const WorkspaceState& state);
// Nothing when there is none, or it is damaged.
std::optional<WorkspaceState> ReadState(base::FileSystem& fs, const std::string& directory);

// Replaces a file so that other processes see the old or the new one; no sync.
base::Status WriteUnsynced(base::FileSystem& fs, const std::string& path, std::string_view bytes);

// Of this boot of the machine; FailedPrecondition where the kernel does not tell.
base::StatusOr<std::string> BootId(base::FileSystem& fs);

}  // namespace holdfast::workspace
