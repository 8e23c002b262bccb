// One look at a layer: its upper directory becomes a manifest, with the base of what changed for the first
// time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "memory/blob_store.h"
#include "workspace/ignore.h"
#include "workspace/layer/base_state.h"
#include "workspace/layer/derived.h"
#include "workspace/layer/stamp.h"
#include "workspace/manifest.h"
#include "workspace/tree.h"
#include "workspace/workspace.h"

namespace holdfast::workspace {

// Files of the upper whose content is known, by path.
struct KnownFile {
  Stamp stamp;
  BlobId content{};
};
using KnownFiles = std::unordered_map<std::string, KnownFile>;

// What a layer is made of. All outlive it.
struct LayerParts {
  Tree& upper;
  Tree& lower;
  const BaseState* base;  // of the lower when the session began; null where nobody changes the lower
  memory::BlobStore& blobs;
  base::Clock& clock;
  LayerLimits limits;
};

struct ScanResult {
  Manifest manifest;
  KnownFiles files;  // those whose stamps prove something
  std::vector<std::string> dropped, unstable;
  DerivedSummary derived;
  uint64_t files_read = 0;
  uint64_t bytes = 0;  // of contents
};

// What is kept between scans, so that they cost what changed. One thread at a time.
struct ScanMemory {
  struct Index {
    Stamp stamp;
    bool of_upper = false;
    std::optional<std::vector<std::string>> paths;
  };
  DerivedIndex derived;
  std::map<std::string, Index> indexes;  // git's, by repository
};

// Called with each derived path of the upper that is no directory.
using DerivedVisitor = std::function<void(const std::string& path, const EntryStat& stat)>;

struct ScanInput {
  const Manifest& before;   // of the scan before; may be empty
  const KnownFiles& known;  // likewise
  base::UtcTime last_checkpoint;
  // Contents go here. Null: nothing is stored, and the bases are those of `before` only.
  memory::BlobBatch* batch = nullptr;
  ScanMemory& memory;
  DerivedVisitor each_derived = {};  // set: called instead of counting
};

// Errors: those of the trees and of the batch; ResourceExhausted for a limit. What vanishes or changes while
// it is looked at is no error.
base::StatusOr<ScanResult> Scan(const LayerParts& parts, const ScanInput& input);

}  // namespace holdfast::workspace
