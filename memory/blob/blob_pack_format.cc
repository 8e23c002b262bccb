#include "memory/blob/blob_pack_format.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "base/coding.h"

namespace holdfast::memory::blob {
namespace {

constexpr std::string_view kPackSuffix = ".hfp";
constexpr size_t kDigits = 12;
constexpr uint32_t kSealed = 1;

std::string_view MagicOf(FrameEnd end) {
  return end == FrameEnd::kHead ? std::string_view(kHeadMagic, 8) : std::string_view(kTailMagic, 8);
}

uint64_t EntrySum(uint32_t pack, uint64_t at, std::span<const std::byte> fields) {
  std::string bound;
  base::PutFixed64(bound, pack);
  base::PutFixed64(bound, at);
  bound += base::AsText(fields);
  return base::Xxh3(base::AsBytes(bound));
}

// Whether everything a frame says about itself can be true.
bool Sound(const Frame& frame, uint64_t file_bytes) {
  if (frame.offset % kUnit != 0 || frame.bytes % kUnit != 0 || frame.bytes < 2 * kUnit) return false;
  if (frame.offset > file_bytes || frame.bytes > file_bytes - frame.offset) return false;
  return frame.blobs <= frame.bytes / kUnit - 2;
}

}  // namespace

std::string EncodeFrame(const Frame& frame, FrameEnd end) {
  std::string out(MagicOf(end));
  base::PutFixed32(out, kPackVersion);
  base::PutFixed32(out, frame.sealed ? kSealed : 0);
  base::PutFixed32(out, frame.pack);
  base::PutFixed32(out, 0);
  base::PutFixed64(out, frame.offset);
  base::PutFixed64(out, frame.bytes);
  base::PutFixed64(out, frame.blobs);
  base::PutFixed64(out, frame.synced_end);
  base::PutFixed64(out, base::Xxh3(base::AsBytes(out)));
  HF_CHECK(out.size() == kUnit);
  return out;
}

base::StatusOr<Frame> DecodeFrame(std::span<const std::byte> unit, uint32_t pack, uint64_t at,
                                  uint64_t file_bytes, FrameEnd end) {
  HF_CHECK(unit.size() == kUnit);
  const auto none = [] { return base::NotFound("no frame"); };
  if (base::AsText(unit.first(8)) != MagicOf(end)) return none();
  base::Decoder in(unit.subspan(8));
  const uint32_t version = in.Fixed32();
  const uint32_t flags = in.Fixed32();
  Frame frame{.pack = in.Fixed32()};
  const uint32_t zero = in.Fixed32();
  frame.offset = in.Fixed64();
  frame.bytes = in.Fixed64();
  frame.blobs = in.Fixed64();
  frame.synced_end = in.Fixed64();
  if (in.Fixed64() != base::Xxh3(unit.first(kUnit - 8))) return none();
  if (version != kPackVersion)
    return absl::UnimplementedError("version " + std::to_string(version) + " of the format");
  if (flags > kSealed || zero != 0 || frame.pack != pack || !Sound(frame, file_bytes)) return none();
  if (at != (end == FrameEnd::kHead ? frame.offset : frame.tail_offset())) return none();
  frame.sealed = flags == kSealed;
  return frame;
}

std::string EncodeEntry(uint32_t pack, uint64_t at, const BlobEntry& entry) {
  std::string out(base::AsText(entry.id));
  base::PutFixed64(out, entry.offset);
  base::PutFixed64(out, entry.size);
  base::PutFixed64(out, 0);
  base::PutFixed64(out, EntrySum(pack, at, base::AsBytes(out)));
  HF_CHECK(out.size() == kUnit);
  return out;
}

DecodedEntry DecodeEntry(std::span<const std::byte> unit, const Frame& frame, uint64_t at) {
  HF_CHECK(unit.size() == kUnit);
  DecodedEntry out;
  base::Decoder in(unit);
  const auto id = in.Bytes(32);
  std::copy(id.begin(), id.end(), out.entry.id.begin());
  out.entry.offset = in.Fixed64();
  out.entry.size = in.Fixed64();
  const uint64_t zero = in.Fixed64();
  out.intact = in.Fixed64() == EntrySum(frame.pack, at, unit.first(kUnit - 8)) && zero == 0;
  const uint64_t begin = frame.offset + kUnit;
  const uint64_t end = frame.table_offset();
  const BlobEntry& entry = out.entry;
  out.in_frame = entry.offset % kUnit == 0 && entry.offset >= begin && entry.offset <= end &&
                 entry.size <= kBlobBytesLimit && ContentBytes(entry.size) <= end - entry.offset &&
                 end <= kPackBytesLimit;
  return out;
}

uint64_t RowSum(std::span<const std::byte> sums, const BlobEntry& entry) {
  std::string bound(base::AsText(entry.id));
  base::PutFixed64(bound, entry.size);
  bound += base::AsText(sums);
  return base::Xxh3(base::AsBytes(bound));
}

std::string PackFileName(uint32_t id) {
  const std::string digits = std::to_string(id);
  return std::string(kDigits - digits.size(), '0') + digits + std::string(kPackSuffix);
}

std::optional<uint32_t> ParsePackFileName(std::string_view name) {
  if (name.size() != kDigits + kPackSuffix.size() || !name.ends_with(kPackSuffix)) return std::nullopt;
  uint64_t id = 0;
  const char* const end = name.data() + kDigits;
  const auto parsed = std::from_chars(name.data(), end, id);
  if (parsed.ec != std::errc() || parsed.ptr != end || id == 0 || id > kPackIdMax) return std::nullopt;
  return static_cast<uint32_t>(id);
}

}  // namespace holdfast::memory::blob
