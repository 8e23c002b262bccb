// The bytes of a pack of blobs, version 1: docs/formats/blob_pack.md. A pack is a row of frames; a frame is
// what one batch has written:
//
//   head                64 bytes
//   contents            each from a multiple of 64 on; one above 64 KiB with a row of checksums behind it
//   entries             64 bytes a blob
//   tail                64 bytes, the head once more
//
// Head and tail say the same, so that a frame is found when either is damaged. An entry holds for its own
// place in its own pack only. One writer (frame_builder.cc) and one reader (pack_reader.cc) use this header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "base/status.h"

namespace holdfast::memory::blob {

inline constexpr char kHeadMagic[8] = {'H', 'F', 'B', 'L', 'O', 'B', 'S', '\n'};
inline constexpr char kTailMagic[8] = {'H', 'F', 'B', 'L', 'O', 'B', 'E', '\n'};
inline constexpr uint32_t kPackVersion = 1;
inline constexpr uint64_t kUnit = 64;  // of heads, entries and tails, and what contents are aligned to
inline constexpr uint64_t kPieceBytes = 64 << 10;
inline constexpr uint64_t kBlobBytesLimit = UINT32_MAX;
inline constexpr uint64_t kPackBytesLimit = kUnit << 32;  // positions are kept as 32-bit units
inline constexpr uint32_t kPackIdMax = UINT32_MAX - 1;

constexpr uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

// A blob of at most kPieceBytes has no row: its SHA-256 is checked instead. Else 8 bytes a piece and 8 more.
constexpr uint64_t PieceCount(uint64_t size) {
  return size <= kPieceBytes ? 0 : RoundUp(size, kPieceBytes) / kPieceBytes;
}
constexpr uint64_t RowOffset(uint64_t size) { return RoundUp(size, 8); }  // from the content's start
constexpr uint64_t RowBytes(uint64_t size) { return size <= kPieceBytes ? 0 : 8 * PieceCount(size) + 8; }
// Bytes of a pack that a content takes, row and padding included.
constexpr uint64_t ContentBytes(uint64_t size) {
  return RoundUp(size <= kPieceBytes ? size : RowOffset(size) + RowBytes(size), kUnit);
}

struct Frame {
  uint32_t pack = 0;
  // The file got its name after it was synced: whatever is in it was committed.
  bool sealed = false;
  uint64_t offset = 0;  // of the head in the file
  uint64_t bytes = 0;   // from head to tail, both included
  uint64_t blobs = 0;
  uint64_t synced_end = 0;  // everything before this position of the file was synced when this was written

  uint64_t table_offset() const { return offset + bytes - kUnit - blobs * kUnit; }
  uint64_t tail_offset() const { return offset + bytes - kUnit; }
  uint64_t end() const { return offset + bytes; }
};

enum class FrameEnd { kHead, kTail };

struct BlobEntry {
  base::Sha256Digest id = {};
  uint64_t offset = 0;  // of the content in the file
  uint64_t size = 0;
};

std::string EncodeFrame(const Frame& frame, FrameEnd end);

// The head or tail found at `at` of pack `pack` in a file of `file_bytes` bytes. NotFound when there is none,
// or when it is damaged, of another place, or of a frame that does not fit in the file; Unimplemented when it
// is of another version.
base::StatusOr<Frame> DecodeFrame(std::span<const std::byte> unit, uint32_t pack, uint64_t at,
                                  uint64_t file_bytes, FrameEnd end);

std::string EncodeEntry(uint32_t pack, uint64_t at, const BlobEntry& entry);

struct DecodedEntry {
  BlobEntry entry;
  bool intact = false;    // the checksum is right
  bool in_frame = false;  // offset and size lie within the contents of the frame
};
// The entry found at `at`. What is not intact may still be of use: see pack_reader.cc.
DecodedEntry DecodeEntry(std::span<const std::byte> unit, const Frame& frame, uint64_t at);

// The last 8 bytes of a row: they tie it to its blob.
uint64_t RowSum(std::span<const std::byte> sums, const BlobEntry& entry);

// "000000000012.hfp"; with ".tmp" behind it while it is being written and not yet a pack.
std::string PackFileName(uint32_t id);
// nullopt when `name` is not exactly a name that PackFileName gives.
std::optional<uint32_t> ParsePackFileName(std::string_view name);

inline constexpr std::string_view kTemporarySuffix = ".tmp";

}  // namespace holdfast::memory::blob
