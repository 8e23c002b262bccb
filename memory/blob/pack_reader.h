// What is in a pack: the list of steps in docs/formats/blob_pack.md, "Opening". Reads only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "memory/blob/blob_pack_format.h"

namespace holdfast::memory::blob {

struct PackContents {
  std::vector<BlobEntry> entries;           // committed, or left whole by a crash
  std::vector<base::Sha256Digest> damaged;  // named by damaged entries
  std::vector<std::string> damage;          // what a person should know, without the path
  uint64_t unfinished = 0;                  // blobs that a crash has left torn, as far as they can be counted
  bool unfinished_bytes = false;            // something behind the last frame
  bool needs_sync = false;                  // entries may be in the page cache only
  uint64_t file_bytes = 0;
};

// Reads the tables of a pack, and the contents of which nobody knows whether they were synced. Unimplemented
// when a frame is of another version; any other error is one of reading, and says nothing about the pack.
base::StatusOr<PackContents> ReadPack(base::File& file, uint32_t pack);

// Reads all of a content and compares its SHA-256. DataLoss says what differs; other errors are of reading.
base::Status CheckContent(base::File& file, const BlobEntry& entry);

// Reads `out.size()` bytes of a content from `offset` on, which must be inside it, and checks them. DataLoss
// when they are damaged.
base::Status ReadContent(base::File& file, const BlobEntry& entry, uint64_t offset, std::span<std::byte> out);

// SHA-256 of a content.
base::StatusOr<base::Sha256Digest> HashContent(base::File& file, const BlobEntry& entry);

}  // namespace holdfast::memory::blob
