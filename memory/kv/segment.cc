#include "memory/kv/segment.h"

#include <utility>

#include "base/check.h"
#include "base/coding.h"
#include "base/faults.h"
#include "base/hash.h"

namespace holdfast::memory::kv {
namespace {

// EIO is DataLoss too (base/errno.h). Here that code means that bytes were seen to be wrong or gone; of an
// I/O error only that is known, and what it hit may be read another time.
base::Status IoError(const base::Status& status) {
  return absl::IsDataLoss(status) ? absl::UnavailableError(status.message()) : status;
}

}  // namespace

Segment::Segment(base::FileSystem& fs, std::string path, SegmentGeometry geometry,
                 std::unique_ptr<base::File> file, uint64_t inode)
    : fs_(fs),
      path_(std::move(path)),
      geometry_(std::move(geometry)),
      file_(std::move(file)),
      inode_(inode) {}

base::StatusOr<std::unique_ptr<Segment>> Segment::Create(base::FileSystem& fs, const std::string& directory,
                                                         SegmentGeometry geometry) {
  const std::string path = directory + "/" + SegmentFileName(geometry.kind, geometry.id);
  HF_ASSIGN_OR_RETURN(auto file, fs.Open(path, base::OpenMode::kCreateNew));
  const auto fill = [&]() -> base::StatusOr<uint64_t> {
    HF_RETURN_IF_ERROR(file->Preallocate(geometry.file_bytes));
    HF_RETURN_IF_ERROR(file->WriteAt(0, base::AsBytes(EncodeHeader(geometry))));
    HF_ASSIGN_OR_RETURN(const base::FileStat stat, fs.Stat(path));
    return stat.inode;
  };
  const auto inode = fill();
  if (!inode.ok()) {
    fs.Remove(path).IgnoreError();
    return inode.status();
  }
  HF_FAULT_POINT("memory.segment.created");
  auto segment =
      std::unique_ptr<Segment>(new Segment(fs, path, std::move(geometry), std::move(file), *inode));
  segment->size_is_new_ = true;
  return segment;
}

base::StatusOr<std::unique_ptr<Segment>> Segment::Open(base::FileSystem& fs, const std::string& path) {
  std::unique_ptr<base::File> file;
  uint64_t size = 0;
  uint64_t inode = 0;
  std::vector<std::byte> page(kHeaderBytes);
  const auto read = [&]() -> base::Status {
    HF_ASSIGN_OR_RETURN(file, fs.Open(path, base::OpenMode::kReadWrite));
    HF_ASSIGN_OR_RETURN(size, file->Size());
    HF_ASSIGN_OR_RETURN(const base::FileStat stat, fs.Stat(path));
    inode = stat.inode;
    HF_ASSIGN_OR_RETURN(const size_t bytes, file->ReadAt(0, page));
    page.resize(bytes);
    return absl::OkStatus();
  };
  if (const base::Status status = read(); !status.ok()) return IoError(status);
  HF_ASSIGN_OR_RETURN(SegmentGeometry geometry, DecodeHeader(page, size));
  return std::unique_ptr<Segment>(new Segment(fs, path, std::move(geometry), std::move(file), inode));
}

base::StatusOr<Segment::Records> Segment::ReadRecords() {
  HF_ASSIGN_OR_RETURN(base::File* const file, OpenFile());
  std::vector<std::byte> table(geometry_.slots * kRecordBytes);
  const auto read = file->ReadAt(geometry_.record_offset(0), table);
  if (!read.ok()) return IoError(read.status());
  if (*read != table.size()) return base::DataLoss(path_ + ": the file ends inside the records");
  Records records;
  for (uint32_t slot = 0; slot < geometry_.slots; ++slot) {
    auto record = DecodeRecord(geometry_, slot, std::span(table).subspan(slot * kRecordBytes, kRecordBytes));
    if (!record.ok()) records.damaged.push_back(slot);
    records.slots.push_back(record.ok() ? *std::move(record) : std::nullopt);
  }
  return records;
}

std::string PlaneSums(const SegmentGeometry& geometry, std::span<const std::byte> bytes) {
  HF_CHECK(bytes.size() == geometry.slot_bytes);
  std::string sums;
  sums.reserve(geometry.sums_bytes());
  size_t at = 0;
  for (const uint32_t size : geometry.plane_bytes) {
    base::PutFixed64(sums, base::Xxh3(bytes.subspan(at, size)));
    at += size;
  }
  return sums;
}

base::StatusOr<uint64_t> Segment::Write(uint32_t slot, const SlotRecord& record,
                                        std::span<const std::byte> bytes) {
  HF_CHECK(slot < geometry_.slots);
  HF_ASSIGN_OR_RETURN(base::File* const file, OpenFile());
  const std::string sums = PlaneSums(geometry_, bytes);
  size_t at = 0;
  for (size_t p = 0; p < geometry_.plane_bytes.size(); ++p) {
    const size_t size = geometry_.plane_bytes[p];
    HF_RETURN_IF_ERROR(IoError(file->WriteAt(geometry_.slot_offset(slot, p), bytes.subspan(at, size))));
    at += size;
  }
  HF_RETURN_IF_ERROR(IoError(file->WriteAt(geometry_.sums_offset(slot), base::AsBytes(sums))));
  HF_FAULT_POINT("memory.segment.planes_written");
  SlotRecord filled = record;
  filled.sums_hash = base::Xxh3(base::AsBytes(sums));
  HF_RETURN_IF_ERROR(WriteRecord(slot, filled));
  return filled.sums_hash;
}

base::Status Segment::WriteRecord(uint32_t slot, const SlotRecord& record) {
  HF_CHECK(slot < geometry_.slots);
  HF_ASSIGN_OR_RETURN(base::File* const file, OpenFile());
  return IoError(
      file->WriteAt(geometry_.record_offset(slot), base::AsBytes(EncodeRecord(geometry_, slot, record))));
}

base::Status Segment::Erase(uint32_t slot) {
  HF_CHECK(slot < geometry_.slots);
  HF_ASSIGN_OR_RETURN(base::File* const file, OpenFile());
  return IoError(
      file->WriteAt(geometry_.record_offset(slot), base::AsBytes(std::string(kRecordBytes, '\0'))));
}

base::StatusOr<base::File*> Segment::OpenFile() {
  if (file_ == nullptr) {
    HF_RETURN_IF_ERROR(CheckFile());
    auto file = fs_.Open(path_, base::OpenMode::kReadWrite);
    if (!file.ok()) return IoError(file.status());
    file_ = *std::move(file);
  }
  return file_.get();
}

base::Status Segment::CheckFile() {
  const auto stat = fs_.Stat(path_);
  if (absl::IsNotFound(stat.status())) return base::DataLoss(path_ + ": the file was removed");
  if (!stat.ok()) return IoError(stat.status());
  if (stat->inode != inode_) return base::DataLoss(path_ + ": the file was replaced");
  if (stat->size_bytes < geometry_.file_bytes) return base::DataLoss(path_ + ": the file was cut off");
  return absl::OkStatus();
}

base::Status Segment::Sync() {
  HF_RETURN_IF_ERROR(CheckFile());
  HF_FAULT_POINT("memory.segment.before_sync");
  HF_ASSIGN_OR_RETURN(base::File* const file, OpenFile());
  HF_RETURN_IF_ERROR(IoError(size_is_new_ ? file->Sync() : file->DataSync()));
  size_is_new_ = false;
  return absl::OkStatus();
}

base::Status Segment::Map() {
  if (mapped()) return absl::OkStatus();
  HF_RETURN_IF_ERROR(CheckFile());
  auto mapping = fs_.Map(path_);
  if (!mapping.ok()) return IoError(mapping.status());
  owned_mapping_ = *std::move(mapping);
  if (owned_mapping_->bytes().size() < geometry_.file_bytes)
    return base::DataLoss(path_ + ": the file was cut off");
  mapping_.store(owned_mapping_.get(), std::memory_order_release);
  return absl::OkStatus();
}

bool Segment::CheckSums(uint32_t slot, uint64_t sums_hash) const {
  return base::Xxh3({bytes() + geometry_.sums_offset(slot), geometry_.sums_bytes()}) == sums_hash;
}

bool Segment::CheckPlane(uint32_t slot, size_t p, const std::byte* at) const {
  const uint64_t sum = base::LoadLittle<uint64_t>(bytes() + geometry_.sums_offset(slot) + p * 8);
  return base::Xxh3({at, geometry_.plane_bytes[p]}) == sum;
}

void Segment::WillNeed(uint32_t first, uint32_t last, size_t p) const {
  mapping_.load(std::memory_order_acquire)
      ->WillNeed(geometry_.slot_offset(first, p), uint64_t{last - first + 1} * geometry_.plane_bytes[p]);
}

void Segment::WillNeedSums(uint32_t first, uint32_t last) const {
  mapping_.load(std::memory_order_acquire)
      ->WillNeed(geometry_.sums_offset(first), uint64_t{last - first + 1} * geometry_.sums_bytes());
}

bool Segment::damaged() const {
  const base::MappedFile* mapping = mapping_.load(std::memory_order_acquire);
  return mapping != nullptr && mapping->damaged();
}

}  // namespace holdfast::memory::kv
