#include "memory/kv/segment_set.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace holdfast::memory::kv {

uint32_t SegmentSet::Add(std::unique_ptr<Segment> file) {
  const SegmentGeometry& geometry = file->geometry();
  ReserveId(geometry.id);
  file_bytes_ += geometry.file_bytes;
  ++files_;
  SegmentState state;
  state.owner.assign(geometry.slots, kNoNode);
  state.file = std::move(file);
  segments_.push_back(std::move(state));
  return count() - 1;
}

void SegmentSet::Occupy(Location at, NodeId owner) {
  SegmentState& segment = segments_[at.segment];
  HF_CHECK(segment.owner[at.slot] == kNoNode);
  segment.owner[at.slot] = owner;
  ++segment.used;
}

void SegmentSet::Free(Location at) {
  SegmentState& segment = segments_[at.segment];
  HF_CHECK(segment.owner[at.slot] < kBadSlot);
  segment.owner[at.slot] = kNoNode;
  --segment.used;
}

void SegmentSet::MarkBad(Location at) {
  Free(at);
  segments_[at.segment].owner[at.slot] = kBadSlot;
}

std::optional<Location> SegmentSet::Next(Location before, const std::vector<uint32_t>& plane_bytes) const {
  if (!before.valid()) return std::nullopt;
  const SegmentState& segment = segments_[before.segment];
  if (segment.file == nullptr || segment.retired) return std::nullopt;
  if (segment.file->geometry().plane_bytes != plane_bytes) return std::nullopt;
  const uint32_t slot = before.slot + 1;
  if (slot >= segment.owner.size() || segment.owner[slot] != kNoNode) return std::nullopt;
  return Location{before.segment, slot};
}

std::optional<Location> SegmentSet::AnyFree(SegmentKind kind,
                                            const std::vector<uint32_t>& plane_bytes) const {
  std::optional<uint32_t> best;
  const auto room = [this](uint32_t n) {
    return std::count(segments_[n].owner.begin(), segments_[n].owner.end(), kNoNode);
  };
  for (uint32_t n = 0; n < count(); ++n) {
    const SegmentState& segment = segments_[n];
    if (segment.file == nullptr || segment.retired) continue;
    const SegmentGeometry& geometry = segment.file->geometry();
    if (geometry.kind != kind || geometry.plane_bytes != plane_bytes || room(n) == 0) continue;
    if (!best.has_value() || room(n) > room(*best)) best = n;
  }
  if (!best.has_value()) return std::nullopt;
  const auto& owner = segments_[*best].owner;
  const auto free = std::find(owner.begin(), owner.end(), kNoNode);
  return Location{*best, static_cast<uint32_t>(free - owner.begin())};
}

uint32_t SegmentSet::SlotsOfNew(Location before, uint32_t first, uint32_t most) const {
  if (!before.valid()) return first;
  const auto& owner = segments_[before.segment].owner;
  const auto slots = static_cast<uint32_t>(owner.size());
  // Not the end of its segment: somebody else goes on there, and this is a fork.
  if (before.slot + 1 < slots) return first;
  return std::min(slots * 2, most);
}

std::unique_ptr<Segment> SegmentSet::Remove(uint32_t number) {
  SegmentState& segment = segments_[number];
  HF_CHECK(segment.used == 0 && segment.file != nullptr);
  file_bytes_ -= segment.file->geometry().file_bytes;
  --files_;
  std::unique_ptr<Segment> file = std::move(segment.file);
  segment = SegmentState{};
  return file;
}

}  // namespace holdfast::memory::kv
