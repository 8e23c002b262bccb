#include "tools/blob_spill.h"

#include <span>

#include "memory/blob_store.h"

namespace holdfast::tools {

base::StatusOr<SpilledBlob> BlobSpill::Put(std::string_view bytes) {
  const auto batch = blobs_.NewBatch();
  HF_ASSIGN_OR_RETURN(const memory::BlobId id, batch->Add(std::as_bytes(std::span(bytes))));
  HF_RETURN_IF_ERROR(batch->Commit());
  return SpilledBlob{.id = id, .bytes = bytes.size()};
}

}  // namespace holdfast::tools
