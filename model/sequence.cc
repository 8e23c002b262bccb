#include "model/sequence.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/mapping_faults.h"

namespace holdfast::model {

using base::Status;

Status BlockGuard::CheckMappings() { return base::DataLoss("a mapped block is damaged"); }

Sequence::Sequence(const ModelConfig& config, const KvLayout& layout)
    : config_(&config), layout_(&layout), fault_count_(base::MappingFaultCount()) {
  draft_positions_.assign(static_cast<size_t>(config.num_draft_stages), 0);
  plane_blocks_.resize(layout.planes.size());
  unchecked_.resize(layout.planes.size());
  unchecked_count_.assign(layout.planes.size(), 0);
  size_t at = 0;
  const auto take = [&at](int64_t bytes) {
    const size_t offset = at;
    at += (static_cast<size_t>(bytes) + 63) / 64 * 64;
    return offset;
  };
  const auto take_pending = [&](int32_t ratio, int32_t d) {
    const int64_t overlap = ratio == kOverlapRatio ? 2 : 1;
    const int64_t bytes = overlap * ratio * overlap * d * 4;
    return Offsets{take(bytes), take(bytes)};
  };
  layers_.resize(static_cast<size_t>(config.num_layers + config.num_draft_stages));
  for (int32_t l = 0; l < static_cast<int32_t>(layers_.size()); ++l) {
    Layer& layer = layers_[static_cast<size_t>(l)];
    layer.window = take(int64_t{config.sliding_window} * layout.entry.bytes());
    if (l >= config.num_layers || config.role(l) == LayerRole::kSwa) continue;
    layer.entries = take_pending(config.ratio(l), config.head_dim);
    if (config.role(l) == LayerRole::kCsa)
      layer.index_keys = take_pending(config.ratio(l), config.index_head_dim);
  }
  tail_.resize(at);
}

// --- Blocks ---

void Sequence::AddBlock(HeapBlock memory) {
  std::byte* at = memory.get();
  for (size_t p = 0; p < layout_->planes.size(); ++p) {
    plane_blocks_[p].push_back(at);
    at += layout_->planes[p].block_bytes();
  }
  owned_.push_back(std::move(memory));
}

void Sequence::Reserve(int64_t end) {
  const int64_t wanted = (end + layout_->block_tokens - 1) / layout_->block_tokens;
  while (static_cast<int64_t>(owned_.size()) < wanted) {
    AddBlock(std::make_unique<std::byte[]>(static_cast<size_t>(layout_->block_bytes())));
  }
}

// The first `count` blocks stay.
void Sequence::KeepBlocks(int64_t count) {
  const auto n = static_cast<size_t>(count);
  if (owned_.size() <= n) return;
  owned_.resize(n);
  for (size_t p = 0; p < plane_blocks_.size(); ++p) {
    plane_blocks_[p].resize(n);
    if (unchecked_[p].size() <= n) continue;
    unchecked_[p].resize(n);
    unchecked_count_[p] =
        std::count_if(unchecked_[p].begin(), unchecked_[p].end(), [](uint8_t u) { return u != 0; });
  }
}

// Lent memory is never written: entries are written to blocks that are not complete, and those are owned.
void Sequence::SetBlock(int64_t block, std::span<const std::byte* const> planes) {
  HF_CHECK(planes.size() == plane_blocks_.size());
  for (size_t p = 0; p < planes.size(); ++p) {
    plane_blocks_[p][static_cast<size_t>(block)] = const_cast<std::byte*>(planes[p]);
  }
  owned_[static_cast<size_t>(block)] = nullptr;
  lent_ = true;
}

HeapBlock Sequence::TakeBlock(int64_t block) {
  HF_CHECK(block >= 0 && block < complete_blocks() && OwnsBlock(block));
  return std::move(owned_[static_cast<size_t>(block)]);
}

void Sequence::LendBlock(int64_t block, std::span<const std::byte* const> planes) {
  HF_CHECK(block >= 0 && block < complete_blocks());
  SetBlock(block, planes);
}

void Sequence::AppendLentBlock(std::span<const std::byte* const> planes, std::span<const uint8_t> unchecked) {
  HF_CHECK(position_ % layout_->block_tokens == 0);
  HF_CHECK(unchecked.size() == plane_blocks_.size());
  const int64_t block = complete_blocks();
  KeepBlocks(block);  // a Forward that failed may have made room
  owned_.emplace_back();
  for (auto& blocks : plane_blocks_) blocks.push_back(nullptr);
  SetBlock(block, planes);
  for (size_t p = 0; p < unchecked.size(); ++p) {
    if (unchecked[p] == 0) continue;
    unchecked_[p].resize(owned_.size());
    unchecked_[p].back() = 1;
    ++unchecked_count_[p];
  }
  position_ += layout_->block_tokens;
  has_tail_ = false;
}

void Sequence::TruncateToBlocks(int64_t blocks) {
  HF_CHECK(blocks >= 0 && blocks <= complete_blocks());
  KeepBlocks(blocks);
  position_ = blocks * layout_->block_tokens;
  draft_begins_ = position_;
  std::fill(draft_positions_.begin(), draft_positions_.end(), position_);
  has_tail_ = blocks == 0;  // nothing lies before position 0
}

Sequence::Sequence(const Sequence& other)
    : config_(other.config_),
      layout_(other.layout_),
      position_(other.position_),
      draft_positions_(other.draft_positions_),
      draft_begins_(other.draft_begins_),
      layers_(other.layers_),
      tail_(other.tail_),
      plane_blocks_(other.plane_blocks_),
      unchecked_(other.unchecked_),
      unchecked_count_(other.unchecked_count_),
      lent_(other.lent_),
      fault_count_(other.fault_count_) {
  owned_.resize(other.owned_.size());
}

Sequence Sequence::Fork() const {
  HF_CHECK(has_tail_);
  const int64_t blocks = complete_blocks();
  for (int64_t b = 0; b < blocks; ++b) HF_CHECK(!OwnsBlock(b));
  Sequence copy(*this);
  copy.KeepBlocks(blocks);
  if (position_ % layout_->block_tokens == 0) return copy;
  const auto bytes = static_cast<size_t>(layout_->block_bytes());
  auto started = std::make_unique_for_overwrite<std::byte[]>(bytes);
  std::memcpy(started.get(), owned_[static_cast<size_t>(blocks)].get(), bytes);
  copy.AddBlock(std::move(started));
  return copy;
}

// --- First use ---

Status Sequence::CheckBlock(int64_t block, int32_t plane) {
  std::vector<uint8_t>& unchecked = unchecked_[static_cast<size_t>(plane)];
  const auto b = static_cast<size_t>(block);
  if (b >= unchecked.size() || unchecked[b] == 0) return {};
  HF_CHECK(guard_ != nullptr);
  HF_RETURN_IF_ERROR(guard_->Check(block, plane));
  unchecked[b] = 0;
  --unchecked_count_[static_cast<size_t>(plane)];
  return {};
}

Status Sequence::CheckPlane(int32_t plane) {
  const auto blocks = static_cast<int64_t>(unchecked_[static_cast<size_t>(plane)].size());
  for (int64_t b = 0; b < blocks && HasUnchecked(plane); ++b) HF_RETURN_IF_ERROR(CheckBlock(b, plane));
  return {};
}

Status Sequence::CheckEntries(int32_t plane, std::span<const int32_t> entries) {
  const int32_t per_block = layout_->planes[static_cast<size_t>(plane)].entries_per_block;
  for (const int32_t entry : entries) HF_RETURN_IF_ERROR(CheckBlock(entry / per_block, plane));
  return {};
}

Status Sequence::CheckMappings(uint64_t fault_count) {
  if (lent_ && fault_count != fault_count_) {
    HF_RETURN_IF_ERROR(guard_ != nullptr ? guard_->CheckMappings()
                                         : base::DataLoss("a mapped block is damaged"));
  }
  fault_count_ = fault_count;
  return {};
}

// --- The tail ---

// Calls live(offset in tail_, bytes) for what later tokens read, in the order of the boundary tail, and
// dead(bytes) where that has room for rows of positions that do not exist.
template <class Live, class Dead>
void Sequence::WalkTail(Live&& live, Dead&& dead) const {
  const auto row_bytes = static_cast<size_t>(layout_->entry.bytes());
  const auto window = static_cast<size_t>(config_->sliding_window);
  const size_t rows = std::min(window, static_cast<size_t>(position_));
  const size_t oldest = rows < window ? 0 : static_cast<size_t>(position_) % window;  // its slot in the ring
  for (int32_t l = 0; l < config_->num_layers; ++l) {
    const Layer& layer = layers_[static_cast<size_t>(l)];
    live(layer.window + oldest * row_bytes, (rows - oldest) * row_bytes);
    live(layer.window, oldest * row_bytes);
    dead((window - rows) * row_bytes);
    if (config_->role(l) == LayerRole::kSwa) continue;
    WalkPending(layer.entries, config_->ratio(l), config_->head_dim, live, dead);
    if (config_->role(l) == LayerRole::kCsa)
      WalkPending(layer.index_keys, config_->ratio(l), config_->index_head_dim, live, dead);
  }
}

// The rows of the group that is being pooled; with overlap, before them, the first halves of those of the
// group before.
template <class Live, class Dead>
void Sequence::WalkPending(const Offsets& offsets, int64_t ratio, int64_t d, Live&& live, Dead&& dead) const {
  const int64_t overlap = ratio == kOverlapRatio ? 2 : 1;
  const int64_t group = position_ / ratio * ratio;
  const auto row = static_cast<size_t>(overlap * d) * sizeof(float);
  const auto half = static_cast<size_t>(d) * sizeof(float);
  const auto walk = [&](int64_t begin, int64_t end, size_t bytes) {
    for (const size_t base : {offsets.kv, offsets.score}) {
      for (int64_t t = begin; t < end; ++t)
        live(base + static_cast<size_t>(t % (overlap * ratio)) * row, bytes);
    }
  };
  if (overlap == 2 && group > 0) walk(group - ratio, group, half);
  if (overlap == 2 && group == 0) dead(2 * static_cast<size_t>(ratio) * half);
  walk(group, position_, row);
}

void Sequence::SaveTail(std::span<std::byte> out) const {
  HF_CHECK(has_tail_ && position_ % layout_->block_tokens == 0);
  HF_CHECK(static_cast<int64_t>(out.size()) == BoundaryTailBytes(*config_, layout_->mode));
  std::byte* to = out.data();
  WalkTail(
      [&](size_t offset, size_t bytes) {
        std::memcpy(to, tail_.data() + offset, bytes);
        to += bytes;
      },
      [&](size_t bytes) {
        std::memset(to, 0, bytes);
        to += bytes;
      });
  HF_CHECK(to == out.data() + out.size());
}

Status Sequence::RestoreTail(int64_t position, std::span<const std::byte> tail) {
  if (position != position_ || position % layout_->block_tokens != 0) {
    return base::InvalidArgument("tail of position " + std::to_string(position) + ": the sequence ends at " +
                                 std::to_string(position_));
  }
  const int64_t wanted = BoundaryTailBytes(*config_, layout_->mode);
  if (static_cast<int64_t>(tail.size()) != wanted) {
    return base::InvalidArgument("tail of position " + std::to_string(position) + ": " +
                                 std::to_string(tail.size()) + " bytes, not " + std::to_string(wanted));
  }
  const std::byte* from = tail.data();
  WalkTail(
      [&](size_t offset, size_t bytes) {
        std::memcpy(tail_.data() + offset, from, bytes);
        from += bytes;
      },
      [&](size_t bytes) { from += bytes; });
  KeepBlocks(complete_blocks());
  draft_begins_ = position_;
  std::fill(draft_positions_.begin(), draft_positions_.end(), position_);
  has_tail_ = true;
  return {};
}

PendingRows Sequence::Pending(const Offsets& offsets) {
  return {.kv = reinterpret_cast<float*>(&tail_[offsets.kv]),
          .score = reinterpret_cast<float*>(&tail_[offsets.score])};
}

PlaneView Sequence::View(int32_t plane) const {
  if (plane < 0) return {};
  const Plane& p = layout_->planes[static_cast<size_t>(plane)];
  return {plane_blocks_[static_cast<size_t>(plane)].data(), p.entries_per_block, p.entry_bytes};
}

// --- Checks ---

void Sequence::VisitEntries(const std::function<void(std::span<const std::byte>)>& visit) const {
  const auto visit_plane = [&](int32_t index) {
    if (index < 0) return;
    const Plane& plane = layout_->planes[static_cast<size_t>(index)];
    const int64_t entries = position_ / config_->ratio(plane.layer);
    const PlaneView view = View(index);
    for (int64_t i = 0; i < entries; i += plane.entries_per_block) {
      const int64_t count = std::min<int64_t>(plane.entries_per_block, entries - i);
      visit({view.entry(i), static_cast<size_t>(count * plane.entry_bytes)});
    }
  };
  for (int32_t l = 0; l < config_->num_layers; ++l) {
    visit_plane(layout_->entry_plane[static_cast<size_t>(l)]);
    visit_plane(layout_->index_plane[static_cast<size_t>(l)]);
  }
}

void Sequence::VisitState(const std::function<void(std::span<const std::byte>)>& visit) const {
  HF_CHECK(has_tail_);
  VisitEntries(visit);
  WalkTail([&](size_t offset, size_t bytes) { visit({tail_.data() + offset, bytes}); }, [](size_t) {});
}

void Sequence::VisitMemory(const std::function<void(std::span<const std::byte>)>& visit) const {
  VisitEntries(visit);
  visit(tail_);
}

}  // namespace holdfast::model
