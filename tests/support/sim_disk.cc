#include "tests/support/sim_disk.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/coding.h"

namespace holdfast::test {
namespace {

std::byte* Reserve(uint64_t bytes) {
  void* const data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  HF_CHECK(data != MAP_FAILED);
  return static_cast<std::byte*>(data);
}

// How many of `changes` changes a crash keeps: none, all, or any number, equally likely.
size_t PickCount(SeededRandom& random, size_t changes) {
  switch (random.Below(3)) {
    case 0:
      return 0;
    case 1:
      return changes;
    default:
      return random.Below(changes + 1);
  }
}

}  // namespace

SimRegion::SimRegion(uint64_t bytes_max) : data_(Reserve(bytes_max)), bytes_max_(bytes_max) {}

SimRegion::~SimRegion() { munmap(data_, bytes_max_); }

void SimFileNode::Write(uint64_t offset, std::span<const std::byte> bytes, bool lost) {
  if (bytes.empty()) return;
  std::memcpy(region_.data() + offset, bytes.data(), bytes.size());
  size_ = std::max(size_, offset + bytes.size());
  pending_.push_back({false, lost, offset, std::string(base::AsText(bytes)), size_});
}

void SimFileNode::Resize(uint64_t size) {
  const uint64_t cut = size_ - std::min(size, size_);
  std::memset(region_.data() + size, 0, cut);
  size_ = size;
  pending_.push_back({true, false, size, std::string(cut, '\0'), size});
}

void SimFileNode::Apply(const Change& change, std::string& image) {
  image.resize(std::max(image.size(), change.offset + change.bytes.size()));
  if (!change.lost) change.bytes.copy(image.data() + change.offset, change.bytes.size());
  image.resize(change.size_after);
}

void SimFileNode::Sync() {
  for (const Change& change : pending_) Apply(change, durable_);
  pending_.clear();
}

std::string SimFileNode::AfterCrash(SeededRandom& random) const {
  uint64_t extent = durable_.size();
  for (const Change& c : pending_) extent = std::max(extent, c.offset + c.bytes.size());
  const size_t sectors = static_cast<size_t>(extent / kSimSectorBytes + 1);

  // In half of the crashes all sectors stop at one moment, and the write that was under way is torn.
  const size_t common = PickCount(random, pending_.size());
  const bool in_order = random.Percent(50);
  std::vector<size_t> cuts(sectors);
  for (size_t& cut : cuts) {
    cut = in_order ? std::min(common + random.Below(2), pending_.size()) : PickCount(random, pending_.size());
  }
  const size_t size_cut = in_order ? common : PickCount(random, pending_.size());

  std::string image = durable_;
  image.resize(extent);
  for (size_t i = 0; i < pending_.size(); ++i) {
    const Change& change = pending_[i];
    if (!change.truncates) {
      ApplyKept(change, i, cuts, image);
    } else if (i < size_cut) {
      change.bytes.copy(image.data() + change.offset, change.bytes.size());
    }
  }
  image.resize(size_cut == 0 ? durable_.size() : pending_[size_cut - 1].size_after);
  return image;
}

void SimFileNode::ApplyKept(const Change& change, size_t index, std::span<const size_t> sector_cuts,
                            std::string& image) {
  size_t done = 0;
  while (done < change.bytes.size()) {
    const uint64_t offset = change.offset + done;
    const size_t in_sector = kSimSectorBytes - offset % kSimSectorBytes;
    const size_t n = std::min(in_sector, change.bytes.size() - done);
    const bool kept = index < sector_cuts[offset / kSimSectorBytes] && !change.lost;
    if (kept) change.bytes.copy(image.data() + offset, n, done);
    done += n;
  }
}

void SimFileNode::FlipBit(uint64_t bit) {
  const uint64_t offset = bit / 8;
  HF_CHECK(offset < size_);
  const auto mask = static_cast<std::byte>(1 << bit % 8);
  region_.data()[offset] ^= mask;
  if (offset < durable_.size()) durable_[offset] = static_cast<char>(std::byte(durable_[offset]) ^ mask);
}

void SimFileNode::Restore(std::string content) {
  std::memcpy(region_.data(), content.data(), content.size());
  size_ = content.size();
  durable_ = std::move(content);
  pending_.clear();
}

SimInodePtr SimDirectoryNode::Find(const std::string& name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : it->second;
}

void SimDirectoryNode::Apply(const Change& change, Entries& entries) {
  for (const auto& [name, inode] : change.entries) {
    if (inode != nullptr) {
      entries[name] = inode;
    } else {
      entries.erase(name);
    }
  }
}

void SimDirectoryNode::Make(Change change) {
  Apply(change, entries_);
  pending_.push_back(std::move(change));
}

// A journal that holds the removal of a renamed file holds its arrival too.
void SimDirectoryNode::Sync() {
  const std::vector<Change> changes = std::exchange(pending_, {});
  for (const Change& change : changes) {
    Apply(change, durable_);
    if (const auto arrival_in = change.arrival_in.lock()) arrival_in->Sync();
  }
}

void SimDirectoryNode::Collect(std::vector<SimDirectoryNode*>& all) {
  if (std::find(all.begin(), all.end(), this) != all.end()) return;
  all.push_back(this);
  const auto visit = [&all](const Entries& entries) {
    for (const auto& [name, inode] : entries) {
      if (inode == nullptr || inode->kind != base::FileKind::kDirectory) continue;
      static_cast<SimDirectoryNode&>(*inode).Collect(all);
    }
  };
  visit(entries_);
  visit(durable_);
  for (const Change& change : pending_) visit(change.entries);
}

void SimDirectoryNode::PickCut(SeededRandom& random) { cut_ = PickCount(random, pending_.size()); }

bool SimDirectoryNode::LowerCut() {
  for (size_t i = 0; i < cut_; ++i) {
    const Change& change = pending_[i];
    const auto arrival_in = change.arrival_in.lock();
    if (arrival_in == nullptr || arrival_in->Survives(change.id)) continue;
    cut_ = i;
    return true;
  }
  return false;
}

bool SimDirectoryNode::Survives(uint64_t change_id) const {
  for (size_t i = cut_; i < pending_.size(); ++i) {
    if (pending_[i].id == change_id) return false;
  }
  return true;  // within the cut, or synced before
}

SimDirectoryNode::Entries SimDirectoryNode::AfterCrash() const {
  Entries entries = durable_;
  for (size_t i = 0; i < cut_; ++i) Apply(pending_[i], entries);
  return entries;
}

void SimDirectoryNode::Restore(Entries entries) {
  entries_ = entries;
  durable_ = std::move(entries);
  pending_.clear();
}

}  // namespace holdfast::test
