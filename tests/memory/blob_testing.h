// A small blob store on a simulated disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "memory/blob_store.h"
#include "tests/support/sim_clock.h"
#include "tests/support/sim_file_system.h"

namespace holdfast::memory {

// Batches above 8 KiB get a pack of their own, appended packs end at 32 KiB.
BlobStoreOptions TestBlobOptions();

BlobId IdOf(const std::string& bytes);

// `size` bytes that follow from `seed` and do not repeat.
std::string Noise(uint64_t seed, size_t size);

// A store that can be closed, crashed and opened again.
class BlobWorld {
 public:
  explicit BlobWorld(test::SimDiskOptions disk = {}, BlobStoreOptions options = TestBlobOptions());

  base::Status Open();  // when it is not open
  void Close() { store.reset(); }
  // All batches and readers must be gone.
  base::Status CrashAndOpen();
  base::Status CloseAndOpen();

  // One batch.
  base::Status Put(const std::vector<std::string>& blobs);

  size_t EventCount(BlobEvent::Kind kind) const;
  std::vector<std::string> PackPaths();

  test::SimClock clock;
  test::SimFileSystem fs;
  BlobStoreOptions options;
  std::vector<BlobEvent> events;
  std::unique_ptr<BlobStore> store;
};

}  // namespace holdfast::memory
