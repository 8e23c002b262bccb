#include "tests/memory/blob_testing.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/coding.h"
#include "memory/blob/blob_pack_format.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory {

BlobStoreOptions TestBlobOptions() {
  return {.directory = "/blobs", .batch_memory_bytes_max = 8 << 10, .pack_bytes_target = 32 << 10};
}

BlobId IdOf(const std::string& bytes) { return base::Sha256Of(base::AsBytes(bytes)); }

std::string Noise(uint64_t seed, size_t size) {
  test::SeededRandom random(seed, 77);
  std::string out;
  while (out.size() < size) base::PutFixed64(out, random.Next());
  out.resize(size);
  return out;
}

BlobWorld::BlobWorld(test::SimDiskOptions disk, BlobStoreOptions store_options)
    : fs(clock, disk), options(std::move(store_options)) {
  options.on_event = [this](const BlobEvent& event) { events.push_back(event); };
}

base::Status BlobWorld::Open() {
  HF_ASSIGN_OR_RETURN(store, BlobStore::Open(fs, options, clock));
  return absl::OkStatus();
}

base::Status BlobWorld::CrashAndOpen() {
  fs.Crash();
  Close();
  fs.Restart();
  return Open();
}

base::Status BlobWorld::CloseAndOpen() {
  Close();
  return Open();
}

base::Status BlobWorld::Put(const std::vector<std::string>& blobs) {
  const auto batch = store->NewBatch();
  for (const std::string& bytes : blobs) HF_RETURN_IF_ERROR(batch->Add(base::AsBytes(bytes)).status());
  return batch->Commit();
}

size_t BlobWorld::EventCount(BlobEvent::Kind kind) const {
  return static_cast<size_t>(
      std::count_if(events.begin(), events.end(), [kind](const BlobEvent& e) { return e.kind == kind; }));
}

std::vector<std::string> BlobWorld::PackPaths() {
  std::vector<std::string> paths;
  const auto entries = fs.List(options.directory, 100'000);
  HF_CHECK(entries.ok());
  for (const base::DirectoryEntry& entry : *entries)
    if (blob::ParsePackFileName(entry.name).has_value())
      paths.push_back(options.directory + "/" + entry.name);
  return paths;
}

}  // namespace holdfast::memory
