// One segment file: slots of a fixed layout, written in place, mapped read-only. Which slot holds what, and
// which are free, is the business of the store.
//
// Nothing here relies on the order in which writes reach the disk: a record is good only together with its
// row of checksums, and a plane only together with that row, so any mixture of old and new bytes is noticed.
//
// A descriptor is held only between a write and the CloseFile after its Sync: a store has more segments than
// a process may have descriptors.
//
// Threads: Write, Erase, Sync and CloseFile one at a time, and so Map; the rest at any time, for slots that
// are not being written.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "memory/kv/kv_segment_format.h"

namespace holdfast::memory::kv {

class Segment {
 public:
  // Makes the file, with all of its disk space. Its name is durable once the caller has synced the directory
  // after Sync. ResourceExhausted when the disk is full; nothing is left behind then.
  static base::StatusOr<std::unique_ptr<Segment>> Create(base::FileSystem& fs, const std::string& directory,
                                                         SegmentGeometry geometry);

  // DataLoss when the header is damaged or the file too short, Unimplemented for another version; any other
  // error says nothing about what is in the file.
  static base::StatusOr<std::unique_ptr<Segment>> Open(base::FileSystem& fs, const std::string& path);

  const SegmentGeometry& geometry() const { return geometry_; }
  const std::string& path() const { return path_; }

  struct Records {
    std::vector<std::optional<SlotRecord>> slots;  // empty slots and damaged ones are nullopt
    std::vector<uint32_t> damaged;
  };
  base::StatusOr<Records> ReadRecords();

  // Writes planes (one after another in `bytes`), checksums and record of a slot, and returns the record's
  // sums_hash, which is filled in. After an error the slot holds anything. Here and in what follows DataLoss
  // says that the file was removed, replaced or cut off by someone else, and nothing less.
  base::StatusOr<uint64_t> Write(uint32_t slot, const SlotRecord& record, std::span<const std::byte> bytes);

  // Replaces the record of a slot by one with the same sums_hash. Its sector has the old or the new one.
  base::Status WriteRecord(uint32_t slot, const SlotRecord& record);

  // Empties the record. Not durable before Sync, and need not be.
  base::Status Erase(uint32_t slot);

  // What was written is durable. After any error nothing is known about what was written since the last Sync.
  base::Status Sync();

  // Gives the descriptor back, once everything is synced.
  void CloseFile() { file_.reset(); }

  // Makes plane() usable; does nothing the second time.
  base::Status Map();
  bool mapped() const { return mapping_.load(std::memory_order_acquire) != nullptr; }

  // Wants Map.
  const std::byte* plane(uint32_t slot, size_t p) const { return bytes() + geometry_.slot_offset(slot, p); }

  // Whether the row of checksums of a slot is the one its record speaks of. Wants Map.
  bool CheckSums(uint32_t slot, uint64_t sums_hash) const;
  // Whether `at` holds what the row says about plane `p`. Wants Map, and a row that is good.
  bool CheckPlane(uint32_t slot, size_t p, const std::byte* at) const;

  // Asks the disk for plane `p`, or the checksums, of slots first..last. Wants Map.
  void WillNeed(uint32_t first, uint32_t last, size_t p) const;
  void WillNeedSums(uint32_t first, uint32_t last) const;

  // A read of the mapping has met a page that could not be delivered.
  bool damaged() const;

 private:
  Segment(base::FileSystem& fs, std::string path, SegmentGeometry geometry, std::unique_ptr<base::File> file,
          uint64_t inode);
  base::Status CheckFile();
  base::StatusOr<base::File*> OpenFile();
  const std::byte* bytes() const { return mapping_.load(std::memory_order_acquire)->bytes().data(); }

  base::FileSystem& fs_;
  const std::string path_;
  const SegmentGeometry geometry_;
  std::unique_ptr<base::File> file_;  // null: to be opened again
  const uint64_t inode_;
  std::unique_ptr<base::MappedFile> owned_mapping_;
  std::atomic<const base::MappedFile*> mapping_{nullptr};  // owned_mapping_, once it is there
  bool size_is_new_ = false;                               // the next Sync has to save the size too
};

// The row of plane checksums of a slot with this content.
std::string PlaneSums(const SegmentGeometry& geometry, std::span<const std::byte> bytes);

}  // namespace holdfast::memory::kv
