// A manifest of a tree that commands change in place: what differs, by stat, from the tree at the start.
#pragma once

#include "base/status.h"
#include "memory/blob_store.h"
#include "workspace/layer/base_state.h"
#include "workspace/layer/scan.h"
#include "workspace/tree.h"
#include "workspace/workspace.h"

namespace holdfast::workspace {

// As Scan, of a tree without a layer: `parts.upper` and `parts.lower` are that tree, `parts.base` must be
// given. Bases are kind, mode and size only: the content is gone. What lies in a `.git` is left out. Cost: a
// stat of every file of the tree.
base::StatusOr<ScanResult> DirectScan(const LayerParts& parts, const ScanInput& input);

}  // namespace holdfast::workspace
