// Writes one frame: the blobs of a batch, or what compaction copies. In memory as long as it is small; in a
// pack of its own, under a temporary name, from then on.
//
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "memory/blob/blob_pack_format.h"

namespace holdfast::memory::blob {

// EIO is DataLoss in base/errno.h. For one who writes it means that nothing was promised yet.
inline base::Status WriteError(const base::Status& status) {
  return absl::IsDataLoss(status) ? absl::UnavailableError(status.message()) : status;
}

class FrameBuilder {
 public:
  struct Options {
    std::string directory;
    uint64_t memory_bytes_max = 0;               // beyond it a file is begun
    std::function<uint32_t()> take_pack_id;      // for that file
    std::function<base::Status(uint64_t)> room;  // whether a file may have so many bytes
  };

  FrameBuilder(base::FileSystem& fs, Options options);
  ~FrameBuilder();  // removes a file that was not finished

  // One blob: Begin, Write any number of times, End with its name, or Cancel to forget it.
  void Begin();
  base::Status Write(std::span<const std::byte> bytes);
  // The same for all of a blob in one call: cheaper for small ones.
  base::Status WriteAll(std::span<const std::byte> bytes);
  base::Status End(const base::Sha256Digest& id);
  void Cancel();

  uint64_t blob_bytes() const { return blob_bytes_; }  // of the blob begun
  uint64_t frame_bytes() const;                        // if it ended now
  const std::vector<BlobEntry>& entries() const { return entries_; }
  bool in_file() const { return file_ != nullptr; }
  uint32_t pack_id() const { return pack_id_; }  // once in_file

  // For a frame in memory: its bytes when it stands at `offset` of a pack. The entries get their places.
  // Valid until the next call.
  std::span<const std::byte> Bytes(uint32_t pack, uint64_t offset, uint64_t synced_end);

  // For a frame in a file, or that is to be in one: makes it a pack, durably: one sync of the file, one of
  // the directory. May be tried again after an error; not after a failed sync, which is told once more.
  base::Status FinishFile();

 private:
  uint64_t position() const { return buffer_start_ + buffer_.size(); }
  base::Status PutBytes(std::span<const std::byte> bytes);
  base::Status BeginFile();
  base::Status Flush();
  base::Status PutRow(const BlobEntry& entry);
  void HashPieces(std::span<const std::byte> bytes);
  void PutTable(const Frame& frame);
  std::string path() const { return options_.directory + "/" + PackFileName(pack_id_); }
  std::string temporary() const { return path() + std::string(kTemporarySuffix); }

  base::FileSystem& fs_;
  const Options options_;
  std::vector<BlobEntry> entries_;  // offsets from the start of the frame, until Bytes
  uint64_t base_ = 0;               // what Bytes has added to them

  std::string buffer_;         // the end of the frame
  uint64_t buffer_start_ = 0;  // what lies before it is in the file
  std::unique_ptr<base::File> file_;
  uint64_t file_end_ = 0;  // written so far, perhaps more than is wanted
  uint32_t pack_id_ = 0;
  bool finished_ = false;  // it has its name
  base::Status broken_;

  uint64_t blob_start_ = 0;
  uint64_t blob_bytes_ = 0;
  std::string piece_;  // of the blob begun, not yet hashed
  std::string sums_;
  uint64_t contents_end_ = kUnit;
};

}  // namespace holdfast::memory::blob
