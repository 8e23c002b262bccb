#include "memory/blob/frame_builder.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/coding.h"
#include "base/faults.h"
#include "base/hash.h"

namespace holdfast::memory::blob {
namespace {

constexpr uint64_t kWriteBytes = 1 << 20;  // of one write into a file

}  // namespace

FrameBuilder::FrameBuilder(base::FileSystem& fs, Options options)
    : fs_(fs), options_(std::move(options)), buffer_(kUnit, '\0') {}

FrameBuilder::~FrameBuilder() {
  if (file_ == nullptr || finished_) return;
  file_.reset();
  fs_.Remove(temporary()).IgnoreError();
}

uint64_t FrameBuilder::frame_bytes() const {
  return RoundUp(position(), kUnit) + entries_.size() * kUnit + kUnit;
}

void FrameBuilder::Begin() {
  HF_CHECK(position() == contents_end_);
  blob_start_ = position();
  blob_bytes_ = 0;
  piece_.clear();
  sums_.clear();
}

base::Status FrameBuilder::Write(std::span<const std::byte> bytes) {
  HashPieces(bytes);
  blob_bytes_ += bytes.size();
  return PutBytes(bytes);
}

base::Status FrameBuilder::WriteAll(std::span<const std::byte> bytes) {
  if (bytes.size() > kPieceBytes) return Write(bytes);
  blob_bytes_ = bytes.size();  // no row, so nothing to hash
  return PutBytes(bytes);
}

// Of the pieces that are complete; the last one is hashed by PutRow.
void FrameBuilder::HashPieces(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (piece_.empty() && bytes.size() >= kPieceBytes) {
      base::PutFixed64(sums_, base::Xxh3(bytes.first(kPieceBytes)));
      bytes = bytes.subspan(kPieceBytes);
      continue;
    }
    const size_t n = std::min<size_t>(bytes.size(), kPieceBytes - piece_.size());
    piece_ += base::AsText(bytes.first(n));
    bytes = bytes.subspan(n);
    if (piece_.size() < kPieceBytes) return;
    base::PutFixed64(sums_, base::Xxh3(base::AsBytes(piece_)));
    piece_.clear();
  }
}

base::Status FrameBuilder::PutRow(const BlobEntry& entry) {
  if (entry.size <= kPieceBytes) return absl::OkStatus();
  if (!piece_.empty()) base::PutFixed64(sums_, base::Xxh3(base::AsBytes(piece_)));
  HF_CHECK(sums_.size() == 8 * PieceCount(entry.size));
  base::PutFixed64(sums_, RowSum(base::AsBytes(sums_), entry));
  std::string row(RowOffset(entry.size) - entry.size, '\0');
  return PutBytes(base::AsBytes(row += sums_));
}

base::Status FrameBuilder::End(const base::Sha256Digest& id) {
  const BlobEntry entry{.id = id, .offset = blob_start_, .size = blob_bytes_};
  HF_RETURN_IF_ERROR(PutRow(entry));
  const std::string padding(RoundUp(position(), kUnit) - position(), '\0');
  HF_RETURN_IF_ERROR(PutBytes(base::AsBytes(padding)));
  HF_CHECK(position() - blob_start_ == ContentBytes(entry.size));
  entries_.push_back(entry);
  contents_end_ = position();
  return absl::OkStatus();
}

// What is in the file already is written over later, or cut off by FinishFile.
void FrameBuilder::Cancel() {
  if (contents_end_ >= buffer_start_) {
    buffer_.resize(contents_end_ - buffer_start_);
    return;
  }
  buffer_.clear();
  buffer_start_ = contents_end_;
}

base::Status FrameBuilder::PutBytes(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const uint64_t limit = in_file() ? kWriteBytes : std::max(options_.memory_bytes_max, kUnit);
    if (buffer_.size() >= limit) {
      HF_RETURN_IF_ERROR(Flush());
      continue;
    }
    const size_t n = std::min<size_t>(bytes.size(), limit - buffer_.size());
    buffer_ += base::AsText(bytes.first(n));
    bytes = bytes.subspan(n);
  }
  return absl::OkStatus();
}

base::Status FrameBuilder::BeginFile() {
  pack_id_ = options_.take_pack_id();
  auto file = fs_.Open(temporary(), base::OpenMode::kTruncate);
  if (!file.ok()) return WriteError(file.status());
  file_ = *std::move(file);
  HF_FAULT_POINT("memory.blob.file_begun");
  return absl::OkStatus();
}

base::Status FrameBuilder::Flush() {
  HF_RETURN_IF_ERROR(options_.room(frame_bytes()));
  if (!in_file()) HF_RETURN_IF_ERROR(BeginFile());
  if (position() > kPackBytesLimit - kUnit)
    return base::InvalidArgument("blob store: a batch of 256 GiB or more");
  HF_RETURN_IF_ERROR(WriteError(file_->WriteAt(buffer_start_, base::AsBytes(buffer_))));
  buffer_start_ += buffer_.size();
  file_end_ = std::max(file_end_, buffer_start_);
  buffer_.clear();
  return absl::OkStatus();
}

// Behind the contents: entries and tail.
void FrameBuilder::PutTable(const Frame& frame) {
  uint64_t at = frame.table_offset();
  for (const BlobEntry& entry : entries_) {
    buffer_ += EncodeEntry(frame.pack, at, entry);
    at += kUnit;
  }
  buffer_ += EncodeFrame(frame, FrameEnd::kTail);
}

std::span<const std::byte> FrameBuilder::Bytes(uint32_t pack, uint64_t offset, uint64_t synced_end) {
  HF_CHECK(!in_file());
  buffer_.resize(contents_end_);
  for (BlobEntry& entry : entries_) entry.offset += offset - base_;
  base_ = offset;
  const Frame frame{.pack = pack,
                    .offset = offset,
                    .bytes = frame_bytes(),
                    .blobs = entries_.size(),
                    .synced_end = synced_end};
  buffer_.replace(0, kUnit, EncodeFrame(frame, FrameEnd::kHead));
  PutTable(frame);
  return base::AsBytes(buffer_);
}

base::Status FrameBuilder::FinishFile() {
  HF_RETURN_IF_ERROR(broken_);
  HF_CHECK(!finished_);
  if (!in_file()) HF_RETURN_IF_ERROR(BeginFile());
  Cancel();
  const Frame frame{
      .pack = pack_id_, .sealed = true, .bytes = frame_bytes(), .blobs = entries_.size(), .synced_end = 0};
  HF_RETURN_IF_ERROR(options_.room(frame.bytes));
  PutTable(frame);
  HF_RETURN_IF_ERROR(WriteError(file_->WriteAt(buffer_start_, base::AsBytes(buffer_))));
  HF_RETURN_IF_ERROR(WriteError(file_->WriteAt(0, base::AsBytes(EncodeFrame(frame, FrameEnd::kHead)))));
  if (file_end_ > frame.bytes) HF_RETURN_IF_ERROR(WriteError(file_->Truncate(frame.bytes)));
  HF_FAULT_POINT("memory.blob.before_sync");
  broken_ = WriteError(file_->Sync());  // what a failed sync has lost cannot be written again: it is gone
  HF_RETURN_IF_ERROR(broken_);
  HF_FAULT_POINT("memory.blob.before_rename");
  HF_RETURN_IF_ERROR(WriteError(fs_.Rename(temporary(), path())));
  HF_FAULT_POINT("memory.blob.before_directory_sync");
  broken_ = WriteError(fs_.SyncDirectory(options_.directory));
  finished_ = true;
  if (!broken_.ok()) fs_.Remove(path()).IgnoreError();
  return broken_;
}

}  // namespace holdfast::memory::blob
