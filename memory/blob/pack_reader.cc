#include "memory/blob/pack_reader.h"

#include <algorithm>
#include <optional>

#include "base/coding.h"
#include "base/hash.h"

namespace holdfast::memory::blob {
namespace {

constexpr uint64_t kScanBytes = 1 << 20;
constexpr uint64_t kTableBytes = 1 << 20;  // read at once
constexpr int kSalvagesMax = 16;           // of a pack: each may cost reading a whole frame

base::Status EndsEarly(uint64_t at) {
  return base::DataLoss("the file ends at offset " + std::to_string(at));
}

// Fills `out`, or DataLoss.
base::Status ReadFully(base::File& file, uint64_t offset, std::span<std::byte> out) {
  HF_ASSIGN_OR_RETURN(const size_t n, file.ReadAt(offset, out));
  return n == out.size() ? absl::OkStatus() : EndsEarly(offset + n);
}

class Reader {
 public:
  Reader(base::File& file, uint32_t pack, uint64_t size) : file_(file), pack_(pack), size_(size) {
    out_.file_bytes = size;
  }

  base::Status Read() {
    HF_RETURN_IF_ERROR(FindFrames());
    for (const Frame& frame : frames_) HF_RETURN_IF_ERROR(ReadTable(frame));
    for (const auto& [begin, end] : gaps_) {
      if (begin < synced_end_)
        out_.damage.push_back("bytes " + std::to_string(begin) + " to " + std::to_string(end) +
                              " are damaged");
      else
        out_.unfinished_bytes = true;
    }
    return absl::OkStatus();
  }

  PackContents Take() { return std::move(out_); }

 private:
  base::Status FindFrames();
  base::StatusOr<std::optional<Frame>> HeadAt(uint64_t at);
  base::StatusOr<std::optional<Frame>> NextFrame(uint64_t from);
  base::Status ReadTable(const Frame& frame);
  base::Status TakeEntry(const Frame& frame, const DecodedEntry& decoded);
  base::Status Salvage(const DecodedEntry& decoded);

  base::File& file_;
  const uint32_t pack_;
  const uint64_t size_;
  std::vector<Frame> frames_;
  std::vector<std::pair<uint64_t, uint64_t>> gaps_;
  uint64_t synced_end_ = 0;    // what lies before it was synced
  uint64_t contents_end_ = 0;  // of the entries read so far in this frame
  int salvages_ = 0;
  PackContents out_;
};

base::StatusOr<std::optional<Frame>> Reader::HeadAt(uint64_t at) {
  std::byte unit[kUnit];
  HF_ASSIGN_OR_RETURN(const size_t n, file_.ReadAt(at, unit));
  if (n < kUnit) return std::nullopt;
  const auto frame = DecodeFrame(unit, pack_, at, size_, FrameEnd::kHead);
  if (absl::IsUnimplemented(frame.status())) return frame.status();
  return frame.ok() ? std::optional<Frame>(*frame) : std::nullopt;
}

// The first frame whose head or tail is found at `from` or behind it.
base::StatusOr<std::optional<Frame>> Reader::NextFrame(uint64_t from) {
  std::vector<std::byte> window(kScanBytes);
  for (uint64_t begin = from; begin < size_; begin += kScanBytes) {
    HF_ASSIGN_OR_RETURN(const size_t n, file_.ReadAt(begin, window));
    for (size_t i = 0; i + kUnit <= n; i += kUnit) {
      const auto unit = std::span(window).subspan(i, kUnit);
      for (const FrameEnd end : {FrameEnd::kHead, FrameEnd::kTail}) {
        const auto frame = DecodeFrame(unit, pack_, begin + i, size_, end);
        if (frame.ok() && frame->offset >= from) return *frame;
      }
    }
  }
  return std::nullopt;
}

base::Status Reader::FindFrames() {
  uint64_t at = 0;
  while (at < size_) {
    HF_ASSIGN_OR_RETURN(std::optional<Frame> frame, HeadAt(at));
    if (!frame.has_value()) {
      HF_ASSIGN_OR_RETURN(frame, NextFrame(at));
      if (!frame.has_value()) {
        out_.unfinished_bytes = true;
        break;
      }
      if (frame->offset > at) gaps_.emplace_back(at, frame->offset);
    }
    frames_.push_back(*frame);
    synced_end_ = std::max(synced_end_, frame->sealed ? frame->end() : frame->synced_end);
    at = frame->end();
  }
  return absl::OkStatus();
}

base::Status Reader::ReadTable(const Frame& frame) {
  std::vector<std::byte> table;
  contents_end_ = frame.offset;
  const uint64_t end = frame.tail_offset();
  for (uint64_t at = frame.table_offset(); at < end; at += table.size()) {
    table.resize(std::min(end - at, kTableBytes));
    HF_RETURN_IF_ERROR(ReadFully(file_, at, table));
    for (size_t i = 0; i < table.size(); i += kUnit) {
      const auto unit = std::span(table).subspan(i, kUnit);
      HF_RETURN_IF_ERROR(TakeEntry(frame, DecodeEntry(unit, frame, at + i)));
    }
  }
  return absl::OkStatus();
}

// What was not synced for certain is taken only when it is whole. Contents lie in the order of entries, so
// nothing is read twice however many entries a hostile file has.
base::Status Reader::TakeEntry(const Frame& frame, const DecodedEntry& decoded) {
  const BlobEntry& entry = decoded.entry;
  const bool good = decoded.intact && decoded.in_frame && entry.offset >= contents_end_;
  if (good) contents_end_ = entry.offset + ContentBytes(entry.size);
  if (frame.offset < synced_end_) {
    if (!good) return Salvage(decoded);
    out_.entries.push_back(decoded.entry);
    return absl::OkStatus();
  }
  const base::Status status = good ? CheckContent(file_, decoded.entry) : EndsEarly(0);
  if (absl::IsDataLoss(status)) {
    ++out_.unfinished;
    return absl::OkStatus();
  }
  HF_RETURN_IF_ERROR(status);
  out_.entries.push_back(decoded.entry);
  out_.needs_sync = true;
  return absl::OkStatus();
}

// A damaged entry of something that was committed. What its place holds has a name whatever the entry says;
// and when that is not the one it gives, the named blob is missing.
base::Status Reader::Salvage(const DecodedEntry& decoded) {
  BlobEntry entry = decoded.entry;
  if (decoded.in_frame && ++salvages_ <= kSalvagesMax) {
    const auto id = HashContent(file_, entry);
    if (!id.ok() && !absl::IsDataLoss(id.status())) return id.status();
    if (id.ok()) {
      const bool as_named = *id == entry.id;
      if (!as_named) out_.damaged.push_back(entry.id);
      entry.id = *id;
      out_.entries.push_back(entry);
      out_.damage.push_back("the entry of blob " + base::ToHex(entry.id) + " is damaged, the blob is not");
      return absl::OkStatus();
    }
  }
  out_.damaged.push_back(entry.id);
  out_.damage.push_back("the entry of what seems to be blob " + base::ToHex(entry.id) + " is damaged");
  return absl::OkStatus();
}

// One whole piece, or what of it exists, compared with the row.
base::Status CheckPieces(base::File& file, const BlobEntry& entry, uint64_t first,
                         std::span<const std::byte> bytes) {
  std::vector<std::byte> row(RowBytes(entry.size));
  HF_RETURN_IF_ERROR(ReadFully(file, entry.offset + RowOffset(entry.size), row));
  const auto sums = std::span(row).first(row.size() - 8);
  if (RowSum(sums, entry) != base::LoadLittle<uint64_t>(row.data() + sums.size()))
    return base::DataLoss("its row of checksums is damaged");
  for (uint64_t piece = first; !bytes.empty(); ++piece) {
    const auto part = bytes.first(std::min<size_t>(bytes.size(), kPieceBytes));
    if (base::Xxh3(part) != base::LoadLittle<uint64_t>(row.data() + piece * 8))
      return base::DataLoss("bytes " + std::to_string(piece * kPieceBytes) +
                            " and following of it are damaged");
    bytes = bytes.subspan(part.size());
  }
  return absl::OkStatus();
}

}  // namespace

base::StatusOr<PackContents> ReadPack(base::File& file, uint32_t pack) {
  HF_ASSIGN_OR_RETURN(const uint64_t size, file.Size());
  Reader reader(file, pack, size);
  HF_RETURN_IF_ERROR(reader.Read());
  return reader.Take();
}

base::StatusOr<base::Sha256Digest> HashContent(base::File& file, const BlobEntry& entry) {
  base::Sha256 hash;
  std::vector<std::byte> window(std::min(entry.size, kScanBytes));
  for (uint64_t done = 0; done < entry.size; done += window.size()) {
    window.resize(std::min(entry.size - done, kScanBytes));
    HF_RETURN_IF_ERROR(ReadFully(file, entry.offset + done, window));
    hash.Update(window);
  }
  return hash.Finish();
}

base::Status CheckContent(base::File& file, const BlobEntry& entry) {
  HF_ASSIGN_OR_RETURN(const base::Sha256Digest id, HashContent(file, entry));
  if (id != entry.id) return base::DataLoss("its bytes have another SHA-256");
  return absl::OkStatus();
}

base::Status ReadContent(base::File& file, const BlobEntry& entry, uint64_t offset,
                         std::span<std::byte> out) {
  const uint64_t begin = offset / kPieceBytes * kPieceBytes;
  const uint64_t end = std::min(entry.size, RoundUp(offset + out.size(), kPieceBytes));
  // Whole pieces are read where they are wanted; what is cut by the borders of `out` goes through a copy.
  std::vector<std::byte> copy;
  const bool direct = begin == offset && end == offset + out.size();
  if (!direct) copy.resize(end - begin);
  const std::span<std::byte> pieces = direct ? out : std::span(copy);
  HF_RETURN_IF_ERROR(ReadFully(file, entry.offset + begin, pieces));
  if (entry.size <= kPieceBytes) {
    if (base::Sha256Of(pieces) != entry.id) return base::DataLoss("its bytes have another SHA-256");
  } else {
    HF_RETURN_IF_ERROR(CheckPieces(file, entry, begin / kPieceBytes, pieces));
  }
  if (!direct) std::copy_n(copy.begin() + static_cast<ptrdiff_t>(offset - begin), out.size(), out.begin());
  return absl::OkStatus();
}

}  // namespace holdfast::memory::blob
