#include "memory/blob/store_state.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace holdfast::memory::blob {
namespace {

using Guard = std::lock_guard<std::mutex>;

constexpr int64_t kSecondsFar = 1'000'000'000;

int32_t ToSeconds(int64_t ns) {
  return static_cast<int32_t>(std::clamp(ns / base::kNsPerSecond, -kSecondsFar, kSecondsFar));
}

base::Status Unknown(const BlobId& id) {
  return base::NotFound("blob " + base::ToHex(id) + ": not in the store");
}

base::Status Damaged(const BlobId& id) {
  return base::DataLoss("blob " + base::ToHex(id) + ": the stored bytes are damaged");
}

}  // namespace

StoreState::StoreState(base::FileSystem& file_system, BlobStoreOptions store_options, base::Clock& clock)
    : fs(file_system),
      options(std::move(store_options)),
      clock_(clock),
      opened_(clock.MonotonicNow()),
      opened_utc_(clock.UtcNow()) {}

int32_t StoreState::NowSeconds() const { return ToSeconds(clock_.MonotonicNow().ns - opened_.ns); }

int32_t StoreState::SecondsOf(int64_t mtime_ns) const {
  return std::min(0, ToSeconds(mtime_ns - opened_utc_.ns));
}

void StoreState::Report(BlobEvent::Kind kind, const std::string& message) const {
  if (options.on_event) options.on_event({kind, message});
}

// --- Index

base::StatusOr<Location> StoreState::Find(const BlobId& id) const {
  const Guard lock(mu_);
  if (damaged_.contains(id)) return Damaged(id);
  const auto it = index_.find(id);
  if (it == index_.end()) return Unknown(id);
  return it->second.at;
}

bool StoreState::Contains(const BlobId& id) const {
  const Guard lock(mu_);
  return index_.contains(id) && !damaged_.contains(id);
}

bool StoreState::Pin(const BlobId& id) {
  const Guard lock(mu_);
  ++pins_[id];
  return index_.contains(id) && !damaged_.contains(id);
}

void StoreState::Unpin(const BlobId& id) {
  const int32_t now = NowSeconds();
  const Guard lock(mu_);
  const auto pin = pins_.find(id);
  HF_CHECK(pin != pins_.end());
  if (--pin->second == 0) pins_.erase(pin);
  const auto it = index_.find(id);
  if (it != index_.end()) it->second.touched_seconds = std::max(it->second.touched_seconds, now);
}

size_t StoreState::pinned() const {
  const Guard lock(mu_);
  return pins_.size();
}

void StoreState::Count(const Location& at, int64_t sign) {
  const auto pack = packs_.find(at.pack);
  HF_CHECK(pack != packs_.end());
  const auto used = static_cast<uint64_t>(sign) * (ContentBytes(at.size) + kUnit);
  pack->second.used_bytes += used;
  pack->second.blobs += static_cast<uint64_t>(sign);
  used_bytes_ += used;
  blob_bytes_ += static_cast<uint64_t>(sign) * at.size;
}

void StoreState::Publish(uint32_t pack, std::span<const BlobEntry> entries, int32_t touched_seconds) {
  const Guard lock(mu_);
  for (const BlobEntry& entry : entries) {
    const Location at{.pack = pack,
                      .unit = static_cast<uint32_t>(entry.offset / kUnit),
                      .size = static_cast<uint32_t>(entry.size)};
    const auto [it, added] = index_.try_emplace(entry.id);
    Place& place = it->second;
    if (!added) {
      place.touched_seconds = std::max(place.touched_seconds, touched_seconds);
      if (!damaged_.contains(entry.id)) continue;
      Count(place.at, -1);
    }
    damaged_.erase(entry.id);
    place = {.at = at, .touched_seconds = touched_seconds};
    Count(at, 1);
  }
}

void StoreState::Relocate(const BlobId& id, const Location& from, const Location& to) {
  const Guard lock(mu_);
  const auto it = index_.find(id);
  if (it == index_.end() || it->second.at != from) return;
  Count(from, -1);
  it->second.at = to;
  Count(to, 1);
}

bool StoreState::FreeUnlessKept(const Placed& placed, int32_t until_seconds) {
  const Guard lock(mu_);
  const auto it = index_.find(placed.id);
  if (it == index_.end() || it->second.at != placed.place.at) return false;
  if (it->second.touched_seconds >= until_seconds || pins_.contains(placed.id)) return false;
  Count(it->second.at, -1);
  index_.erase(it);
  damaged_.erase(placed.id);
  return true;
}

void StoreState::MarkDamaged(const BlobId& id, const Location& at, const std::string& why) {
  std::string message;
  {
    const Guard lock(mu_);
    const auto it = index_.find(id);
    if (it == index_.end() || it->second.at != at || !damaged_.insert(id).second) return;
    Pack& pack = packs_.at(at.pack);
    pack.has_damage = true;
    message = pack.path + ": blob " + base::ToHex(id) + ": " + why;
  }
  Report(BlobEvent::Kind::kDamaged, message);
}

void StoreState::MarkMissing(const BlobId& id) {
  const Guard lock(mu_);
  if (!index_.contains(id)) damaged_.insert(id);
}

std::vector<Placed> StoreState::Snapshot(bool with_written) const {
  std::vector<Placed> all;
  {
    const Guard lock(mu_);
    all.reserve(index_.size());
    for (const auto& [id, place] : index_)
      if (with_written || packs_.at(place.at.pack).writers == 0) all.push_back({id, place});
  }
  std::sort(all.begin(), all.end(), [](const Placed& a, const Placed& b) {
    return std::tie(a.place.at.pack, a.place.at.unit, a.id) <
           std::tie(b.place.at.pack, b.place.at.unit, b.id);
  });
  return all;
}

// --- Packs

uint32_t StoreState::TakePackId() {
  const Guard lock(mu_);
  HF_CHECK(next_pack_ < kPackIdMax);
  return next_pack_++;
}

void StoreState::ReservePackId(uint32_t id) {
  const Guard lock(mu_);
  next_pack_ = std::max(next_pack_, id + 1);
}

std::string StoreState::PathOf(uint32_t pack) const { return options.directory + "/" + PackFileName(pack); }

void StoreState::AddPack(uint32_t id, uint64_t file_bytes, uint32_t writers) {
  const Guard lock(mu_);
  const bool added = packs_
                         .try_emplace(id, Pack{.path = PathOf(id),
                                               .file_bytes = file_bytes,
                                               .writers = writers,
                                               .file = nullptr,
                                               .recent = {}})
                         .second;
  HF_CHECK(added);
  disk_bytes_ += file_bytes;
}

void StoreState::GrowPack(uint32_t id, uint64_t file_bytes) {
  const Guard lock(mu_);
  Pack& pack = packs_.at(id);
  disk_bytes_ += file_bytes - pack.file_bytes;
  pack.file_bytes = file_bytes;
}

void StoreState::AddWriter(uint32_t id) {
  const Guard lock(mu_);
  ++packs_.at(id).writers;
}

void StoreState::DropWriter(uint32_t id) {
  const Guard lock(mu_);
  Pack& pack = packs_.at(id);
  HF_CHECK(pack.writers > 0);
  --pack.writers;
}

base::Status StoreState::Room(uint64_t more) const {
  const Guard lock(mu_);
  if (disk_bytes_ <= options.disk_bytes_max && more <= options.disk_bytes_max - disk_bytes_)
    return absl::OkStatus();
  return base::ResourceExhausted(options.directory + ": the blob store has " + std::to_string(disk_bytes_) +
                                 " bytes, and " + std::to_string(more) + " more exceed its budget of " +
                                 std::to_string(options.disk_bytes_max));
}

void StoreState::DropFile(Pack& pack) {
  if (pack.file == nullptr) return;
  recent_.erase(pack.recent);
  pack.file.reset();
}

base::StatusOr<std::shared_ptr<base::File>> StoreState::FileOf(uint32_t id) {  // shared_ptr: see Pack
  {
    const Guard lock(mu_);
    const auto pack = packs_.find(id);
    if (pack == packs_.end()) return base::NotFound("no such pack");
    if (pack->second.file != nullptr) {
      recent_.splice(recent_.begin(), recent_, pack->second.recent);
      return pack->second.file;
    }
  }
  HF_ASSIGN_OR_RETURN(std::unique_ptr<base::File> opened, fs.Open(PathOf(id), base::OpenMode::kRead));
  std::shared_ptr<base::File> file = std::move(opened);  // shared_ptr: see Pack
  const Guard lock(mu_);
  const auto pack = packs_.find(id);
  if (pack == packs_.end() || pack->second.file != nullptr) return file;
  while (recent_.size() >= options.open_files_max) DropFile(packs_.at(recent_.back()));
  recent_.push_front(id);
  pack->second.recent = recent_.begin();
  pack->second.file = file;
  return file;
}

std::vector<StoreState::PackInfo> StoreState::QuietPacks() const {
  const Guard lock(mu_);
  std::vector<PackInfo> quiet;
  for (const auto& [id, pack] : packs_)
    if (pack.writers == 0)
      quiet.push_back({.id = id,
                       .file_bytes = pack.file_bytes,
                       .used_bytes = pack.used_bytes,
                       .blobs = pack.blobs,
                       .has_damage = pack.has_damage});
  return quiet;
}

base::StatusOr<bool> StoreState::RemoveIfEmpty(uint32_t id) {
  {
    const Guard lock(mu_);
    const auto pack = packs_.find(id);
    if (pack == packs_.end() || pack->second.blobs > 0 || pack->second.writers > 0) return false;
  }
  // Nothing can be published in a quiet pack, so it stays empty meanwhile.
  const base::Status removed = fs.Remove(PathOf(id));
  if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  const Guard lock(mu_);
  const auto pack = packs_.find(id);
  if (pack == packs_.end()) return false;  // another thread was quicker
  DropFile(pack->second);
  disk_bytes_ -= pack->second.file_bytes;
  packs_.erase(pack);
  return true;
}

BlobStoreStats StoreState::Stats() const {
  const Guard lock(mu_);
  BlobStoreStats stats;
  stats.blobs = index_.size();
  stats.blob_bytes = blob_bytes_;
  stats.packs = packs_.size();
  stats.disk_bytes = disk_bytes_;
  stats.used_bytes = used_bytes_;
  stats.damaged_blobs = damaged_.size();
  stats.index_bytes = index_.capacity() * (sizeof(decltype(index_)::value_type) + 1);
  return stats;
}

}  // namespace holdfast::memory::blob
