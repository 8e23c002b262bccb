#include "model/sequence.h"

#include <algorithm>

#include "base/check.h"

namespace holdfast::model {

Sequence::Sequence(const ModelConfig& config, const KvLayout& layout) : config_(&config), layout_(&layout) {
  draft_positions_.assign(static_cast<size_t>(config.num_draft_stages), 0);
  plane_blocks_.resize(layout.planes.size());
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

void Sequence::Reserve(int64_t end) {
  const int64_t wanted = (end + layout_->block_tokens - 1) / layout_->block_tokens;
  while (static_cast<int64_t>(blocks_.size()) < wanted) {
    blocks_.push_back(std::make_unique<std::byte[]>(static_cast<size_t>(layout_->block_bytes())));
    std::byte* at = blocks_.back().get();
    for (size_t p = 0; p < layout_->planes.size(); ++p) {
      plane_blocks_[p].push_back(at);
      at += layout_->planes[p].block_bytes();
    }
  }
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

void Sequence::VisitState(const std::function<void(std::span<const std::byte>)>& visit) const {
  for (size_t p = 0; p < layout_->planes.size(); ++p) {
    const Plane& plane = layout_->planes[p];
    const int64_t entries = position_ / config_->ratio(plane.layer);
    const PlaneView view = View(static_cast<int32_t>(p));
    for (int64_t i = 0; i < entries; i += plane.entries_per_block) {
      const int64_t count = std::min<int64_t>(plane.entries_per_block, entries - i);
      visit({view.entry(i), static_cast<size_t>(count * plane.entry_bytes)});
    }
  }
  visit(tail_);
}

}  // namespace holdfast::model
