// The bytes of a KV segment file, version 1: docs/formats/kv_segment.md. One writer and one reader use this
// header (segment.cc); the fuzz target feeds the reader.
//
//   header page                     4,096 bytes
//   records                         slots x 128 bytes
//   plane checksums                 slots x planes x 8 bytes, a row for each slot
//   planes, from a multiple of 4,096 on, each from a multiple of 64 on: slots x plane_bytes[p] bytes
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "memory/block_key.h"

namespace holdfast::memory::kv {

inline constexpr char kSegmentMagic[8] = {'H', 'F', 'K', 'V', 'S', 'E', 'G', '\n'};
inline constexpr uint32_t kSegmentVersion = 1;
inline constexpr uint64_t kHeaderBytes = 4096;
inline constexpr uint64_t kRecordBytes = 128;
inline constexpr uint64_t kSegmentIdMax = 999'999'999'999'999;  // 15 digits
inline constexpr uint32_t kSegmentSlotsMax = 4096;
inline constexpr uint32_t kSegmentPlanesMax = 1000;
inline constexpr uint32_t kPlaneBytesMax = 1u << 30;
inline constexpr uint64_t kDataAlignment = 4096;
inline constexpr uint64_t kPlaneAlignment = 64;
inline constexpr uint64_t kSequenceMax = uint64_t{1} << 62;
static_assert(kRecordBytes * 4 == 512, "a record never crosses a sector");

enum class SegmentKind : uint32_t { kBlocks = 1, kTails = 2 };

// What a segment is and where everything in it lies.
struct SegmentGeometry {
  SegmentKind kind = SegmentKind::kBlocks;
  uint64_t id = 0;
  uint32_t slots = 0;
  std::vector<uint32_t> plane_bytes;  // of one slot

  // Filled in by MakeGeometry.
  std::vector<uint64_t> plane_offset;
  uint64_t slot_bytes = 0;  // of all planes
  uint64_t file_bytes = 0;

  uint64_t record_offset(uint32_t slot) const { return kHeaderBytes + slot * kRecordBytes; }
  uint64_t sums_bytes() const { return plane_bytes.size() * 8; }
  uint64_t sums_offset(uint32_t slot) const { return record_offset(slots) + slot * sums_bytes(); }
  uint64_t slot_offset(uint32_t slot, size_t plane) const {
    return plane_offset[plane] + uint64_t{slot} * plane_bytes[plane];
  }
};

// InvalidArgument when a number is out of its bounds.
base::StatusOr<SegmentGeometry> MakeGeometry(SegmentKind kind, uint64_t id, uint32_t slots,
                                             std::span<const uint32_t> plane_bytes);

// What is known of the content of one slot.
struct SlotRecord {
  BlockKey key;
  BlockKey parent;  // of tails: zeros
  // Order of writing in this store, kSequenceMax at most: of two records of one key the later one counts, and
  // it stands for the time of use after a restart.
  uint64_t sequence = 0;
  uint64_t sums_hash = 0;  // XXH3 of the slot's row of plane checksums
  uint32_t depth = 0;      // of blocks: how many from the first of the chain on, this one included; tails: 0
  bool periodic = false;   // a tail that is kept as long as its block
};

std::string EncodeHeader(const SegmentGeometry& geometry);

// The header of a file of `file_bytes` bytes. DataLoss when damaged or when the file is shorter than the
// header says; Unimplemented for another version.
base::StatusOr<SegmentGeometry> DecodeHeader(std::span<const std::byte> page, uint64_t file_bytes);

std::string EncodeRecord(const SegmentGeometry& geometry, uint32_t slot, const SlotRecord& record);

// nullopt for an empty slot (zeros); DataLoss when damaged.
base::StatusOr<std::optional<SlotRecord>> DecodeRecord(const SegmentGeometry& geometry, uint32_t slot,
                                                       std::span<const std::byte> bytes);

// "000000000012.kvb", "000000000012.kvt" for tails.
std::string SegmentFileName(SegmentKind kind, uint64_t id);

struct SegmentName {
  SegmentKind kind;
  uint64_t id;
};
// nullopt when `name` is not exactly a name that SegmentFileName gives.
std::optional<SegmentName> ParseSegmentFileName(std::string_view name);

}  // namespace holdfast::memory::kv
