#include "memory/kv/kv_segment_format.h"

#include <algorithm>
#include <cstring>

#include "base/coding.h"

namespace holdfast::memory::kv {
namespace {

constexpr uint32_t kPeriodicFlag = 1;
constexpr size_t kChecksumOffset = kHeaderBytes - 8;
constexpr size_t kRecordChecksumOffset = kRecordBytes - 8;

uint64_t RoundUp(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

void Pad(std::string& out, size_t size) { out.resize(size, '\0'); }

// A record is valid in its place only.
uint64_t RecordChecksum(const SegmentGeometry& geometry, uint32_t slot, std::string_view body) {
  std::string place;
  base::PutFixed64(place, geometry.id);
  base::PutFixed32(place, static_cast<uint32_t>(geometry.kind));
  base::PutFixed32(place, slot);
  place += body;
  return base::Xxh3(base::AsBytes(place));
}

bool AllZero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

base::Sha256Digest Digest(base::Decoder& in) {
  base::Sha256Digest digest{};
  const auto bytes = in.Bytes(digest.size());
  if (!bytes.empty()) std::memcpy(digest.data(), bytes.data(), digest.size());
  return digest;
}

}  // namespace

base::StatusOr<SegmentGeometry> MakeGeometry(SegmentKind kind, uint64_t id, uint32_t slots,
                                             std::span<const uint32_t> plane_bytes) {
  if (kind != SegmentKind::kBlocks && kind != SegmentKind::kTails)
    return base::InvalidArgument("kv segment: unknown kind");
  if (id > kSegmentIdMax)
    return base::InvalidArgument("kv segment: number " + std::to_string(id) + " is beyond the last one, " +
                                 std::to_string(kSegmentIdMax));
  if (slots == 0 || slots > kSegmentSlotsMax)
    return base::InvalidArgument("kv segment: " + std::to_string(slots) + " slots, 1 to " +
                                 std::to_string(kSegmentSlotsMax) + " are allowed");
  if (plane_bytes.empty() || plane_bytes.size() > kSegmentPlanesMax)
    return base::InvalidArgument("kv segment: " + std::to_string(plane_bytes.size()) + " planes, 1 to " +
                                 std::to_string(kSegmentPlanesMax) + " are allowed");
  SegmentGeometry g{.kind = kind, .id = id, .slots = slots};
  g.plane_bytes.assign(plane_bytes.begin(), plane_bytes.end());
  uint64_t at = RoundUp(g.sums_offset(slots), kDataAlignment);
  for (const uint32_t bytes : plane_bytes) {
    if (bytes == 0 || bytes > kPlaneBytesMax)
      return base::InvalidArgument("kv segment: a plane of " + std::to_string(bytes) + " bytes");
    g.plane_offset.push_back(at);
    g.slot_bytes += bytes;
    at = RoundUp(at + uint64_t{slots} * bytes, kPlaneAlignment);
  }
  g.file_bytes = RoundUp(at, kDataAlignment);
  return g;
}

std::string EncodeHeader(const SegmentGeometry& geometry) {
  std::string page(kSegmentMagic, sizeof(kSegmentMagic));
  base::PutFixed32(page, kSegmentVersion);
  base::PutFixed32(page, static_cast<uint32_t>(geometry.kind));
  base::PutFixed64(page, geometry.id);
  base::PutFixed32(page, geometry.slots);
  base::PutFixed32(page, static_cast<uint32_t>(geometry.plane_bytes.size()));
  for (const uint32_t bytes : geometry.plane_bytes) base::PutFixed32(page, bytes);
  Pad(page, kChecksumOffset);
  base::PutFixed64(page, base::Xxh3(base::AsBytes(page)));
  return page;
}

base::StatusOr<SegmentGeometry> DecodeHeader(std::span<const std::byte> page, uint64_t file_bytes) {
  if (page.size() != kHeaderBytes) return base::DataLoss("the file ends inside the header");
  if (base::Xxh3(page.first(kChecksumOffset)) != base::LoadLittle<uint64_t>(&page[kChecksumOffset]))
    return base::DataLoss("header checksum mismatch");
  base::Decoder in(page.first(kChecksumOffset));
  const auto magic = in.Bytes(sizeof(kSegmentMagic));
  if (std::memcmp(magic.data(), kSegmentMagic, sizeof(kSegmentMagic)) != 0)
    return base::DataLoss("not a kv segment");
  if (const uint32_t version = in.Fixed32(); version != kSegmentVersion)
    return absl::UnimplementedError("segment version " + std::to_string(version) + ", this program reads " +
                                    std::to_string(kSegmentVersion));
  const auto kind = static_cast<SegmentKind>(in.Fixed32());
  const uint64_t id = in.Fixed64();
  const uint32_t slots = in.Fixed32();
  const uint32_t planes = in.Fixed32();
  if (planes > kSegmentPlanesMax) return base::DataLoss("too many planes");
  std::vector<uint32_t> plane_bytes(planes);
  for (uint32_t& bytes : plane_bytes) bytes = in.Fixed32();
  if (!in.ok() || !AllZero(page.subspan(in.offset(), kChecksumOffset - in.offset())))
    return base::DataLoss("malformed header");
  auto geometry = MakeGeometry(kind, id, slots, plane_bytes);
  if (!geometry.ok()) return base::DataLoss(base::Message(geometry.status()));
  if (file_bytes < geometry->file_bytes)
    return base::DataLoss("the file has " + std::to_string(file_bytes) + " bytes of " +
                          std::to_string(geometry->file_bytes));
  return geometry;
}

std::string EncodeRecord(const SegmentGeometry& geometry, uint32_t slot, const SlotRecord& record) {
  std::string out(base::AsText(record.key.digest));
  out += base::AsText(record.parent.digest);
  base::PutFixed64(out, record.sequence);
  base::PutFixed64(out, record.sums_hash);
  base::PutFixed32(out, record.periodic ? kPeriodicFlag : 0);
  base::PutFixed32(out, record.depth);
  Pad(out, kRecordChecksumOffset);
  base::PutFixed64(out, RecordChecksum(geometry, slot, out));
  return out;
}

base::StatusOr<std::optional<SlotRecord>> DecodeRecord(const SegmentGeometry& geometry, uint32_t slot,
                                                       std::span<const std::byte> bytes) {
  if (bytes.size() != kRecordBytes) return base::DataLoss("the file ends inside a record");
  if (AllZero(bytes)) return std::optional<SlotRecord>();
  const auto body = bytes.first(kRecordChecksumOffset);
  if (RecordChecksum(geometry, slot, base::AsText(body)) !=
      base::LoadLittle<uint64_t>(&bytes[kRecordChecksumOffset]))
    return base::DataLoss("record checksum mismatch");
  base::Decoder in(body);
  SlotRecord record;
  record.key.digest = Digest(in);
  record.parent.digest = Digest(in);
  record.sequence = in.Fixed64();
  record.sums_hash = in.Fixed64();
  const uint32_t flags = in.Fixed32();
  record.depth = in.Fixed32();
  if (!in.ok() || record.sequence > kSequenceMax || flags > kPeriodicFlag ||
      !AllZero(body.subspan(in.offset())))
    return base::DataLoss("malformed record");
  record.periodic = flags == kPeriodicFlag;
  return std::optional<SlotRecord>(record);
}

std::string SegmentFileName(SegmentKind kind, uint64_t id) {
  std::string digits = std::to_string(id);
  if (digits.size() < 12) digits.insert(0, 12 - digits.size(), '0');
  return digits + (kind == SegmentKind::kBlocks ? ".kvb" : ".kvt");
}

std::optional<SegmentName> ParseSegmentFileName(std::string_view name) {
  if (name.size() < 16 || name.size() > 19) return std::nullopt;
  const std::string_view digits = name.substr(0, name.size() - 4);
  uint64_t id = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    id = id * 10 + static_cast<uint64_t>(c - '0');
  }
  const auto kind = name.ends_with(".kvb") ? SegmentKind::kBlocks : SegmentKind::kTails;
  if (SegmentFileName(kind, id) != name) return std::nullopt;
  return SegmentName{kind, id};
}

}  // namespace holdfast::memory::kv
