// Long results as blobs.
#pragma once

#include <string_view>

#include "tools/dispatcher.h"

namespace holdfast::memory {
class BlobStore;
}

namespace holdfast::tools {

// A SpillStore over a blob store, which outlives it. Between Put and the row that names the blob, the grace
// time of a sweep keeps it.
class BlobSpill final : public SpillStore {
 public:
  explicit BlobSpill(memory::BlobStore& blobs) : blobs_(blobs) {}
  base::StatusOr<SpilledBlob> Put(std::string_view bytes) override;

 private:
  memory::BlobStore& blobs_;
};

}  // namespace holdfast::tools
