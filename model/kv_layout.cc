#include "model/kv_layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "model/number_formats.h"

namespace holdfast::model {
namespace {

constexpr int32_t kEntryGroup = 64;
constexpr int32_t kIndexGroup = 32;

float MaxAbs(const float* values, int32_t count) {
  float amax = 0.0f;
  for (int32_t i = 0; i < count; ++i) amax = std::max(amax, std::fabs(values[i]));
  return amax;
}

float Clamp(float value, float limit) { return std::min(std::max(value, -limit), limit); }

bool AllFinite(const float* values, int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) return false;
  }
  return true;
}

// The UE8M0 byte of 2^exponent; finite input keeps it in range, anything else saturates.
uint8_t ScaleByte(int32_t exponent) { return static_cast<uint8_t>(std::clamp(exponent + 127, 1, 254)); }

}  // namespace

EntryCodec::EntryCodec(KvMode mode, int32_t head_dim, int32_t rope_dim)
    : mode_(mode), nope_(head_dim - rope_dim), rope_(rope_dim) {
  bytes_ = mode != KvMode::kStored ? head_dim * 4 : (nope_ + 2 * rope_ + nope_ / kEntryGroup + 7) / 8 * 8;
}

void EntryCodec::Encode(const float* values, std::byte* out) const {
  if (mode_ == KvMode::kF32) {
    std::memcpy(out, values, static_cast<size_t>(bytes_));
    return;
  }
  if (mode_ == KvMode::kQuantised) {
    const EntryCodec stored(KvMode::kStored, nope_ + rope_, rope_);
    std::vector<std::byte> bytes(static_cast<size_t>(stored.bytes()));
    std::vector<float> grid(static_cast<size_t>(nope_ + rope_));
    stored.Encode(values, bytes.data());
    stored.Decode(bytes.data(), grid.data());
    std::copy(values + nope_, values + nope_ + rope_, grid.begin() + nope_);
    std::memcpy(out, grid.data(), static_cast<size_t>(bytes_));
    return;
  }
  auto* bytes = reinterpret_cast<uint8_t*>(out);
  const int32_t groups = nope_ / kEntryGroup;
  for (int32_t g = 0; g < groups; ++g) {
    const float* x = values + g * kEntryGroup;
    const float amax = std::max(MaxAbs(x, kEntryGroup), kE4m3AmaxFloor);
    const uint8_t scale = ScaleByte(ScaleExponent(amax, 1.0f / kE4m3Max));
    const float inverse = 1.0f / E8m0ToF32(scale);  // a power of two: exact
    for (int32_t i = 0; i < kEntryGroup; ++i) {
      bytes[g * kEntryGroup + i] = F32ToE4m3(Clamp(x[i] * inverse, kE4m3Max));
    }
    bytes[scale_offset() + g] = scale;
  }
  const bool finite = AllFinite(values, nope_ + rope_);
  for (int32_t i = 0; i < rope_; ++i) {
    const uint16_t bf16 = finite ? F32ToBf16(values[nope_ + i]) : uint16_t{0x7fc0};
    std::memcpy(bytes + rope_offset() + 2 * i, &bf16, 2);
  }
  const int32_t used = scale_offset() + groups;
  std::memset(bytes + used, 0, static_cast<size_t>(bytes_ - used));
}

void EntryCodec::Decode(const std::byte* entry, float* values) const {
  if (mode_ != KvMode::kStored) {
    std::memcpy(values, entry, static_cast<size_t>(bytes_));
    return;
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(entry);
  for (int32_t i = 0; i < nope_; ++i) {
    values[i] = E4m3ToF32(bytes[i]) * E8m0ToF32(bytes[scale_offset() + i / kEntryGroup]);
  }
  for (int32_t i = 0; i < rope_; ++i) {
    uint16_t bf16 = 0;
    std::memcpy(&bf16, bytes + rope_offset() + 2 * i, 2);
    values[nope_ + i] = Bf16ToF32(bf16);
  }
}

IndexCodec::IndexCodec(KvMode mode, int32_t dim) : mode_(mode), dim_(dim) {
  bytes_ = mode != KvMode::kStored ? dim * 4 : dim / 2 + dim / kIndexGroup;
}

void IndexCodec::Encode(const float* values, std::byte* out) const {
  if (mode_ == KvMode::kF32) {
    std::memcpy(out, values, static_cast<size_t>(bytes_));
    return;
  }
  if (mode_ == KvMode::kQuantised) {
    const IndexCodec stored(KvMode::kStored, dim_);
    std::vector<std::byte> bytes(static_cast<size_t>(stored.bytes()));
    stored.Encode(values, bytes.data());
    stored.Decode(bytes.data(), reinterpret_cast<float*>(out));
    return;
  }
  auto* bytes = reinterpret_cast<uint8_t*>(out);
  for (int32_t g = 0; g < dim_ / kIndexGroup; ++g) {
    const float* x = values + g * kIndexGroup;
    const float amax = std::max(MaxAbs(x, kIndexGroup), kE2m1AmaxFloor);
    const uint8_t scale = ScaleByte(ScaleExponent(amax, 1.0f / kE2m1Max));
    const float inverse = 1.0f / E8m0ToF32(scale);
    for (int32_t i = 0; i < kIndexGroup; i += 2) {
      const uint8_t low = F32ToE2m1(x[i] * inverse);
      const uint8_t high = F32ToE2m1(x[i + 1] * inverse);
      bytes[(g * kIndexGroup + i) / 2] = static_cast<uint8_t>(low | (high << 4));
    }
    bytes[scale_offset() + g] = AllFinite(x, kIndexGroup) ? scale : uint8_t{255};
  }
}

void IndexCodec::Decode(const std::byte* entry, float* values) const {
  if (mode_ != KvMode::kStored) {
    std::memcpy(values, entry, static_cast<size_t>(bytes_));
    return;
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(entry);
  for (int32_t i = 0; i < dim_; ++i) {
    const uint8_t code = (i % 2 == 0) ? (bytes[i / 2] & 15) : (bytes[i / 2] >> 4);
    values[i] = kE2m1Values[code] * E8m0ToF32(bytes[scale_offset() + i / kIndexGroup]);
  }
}

int64_t KvLayout::block_bytes() const {
  int64_t total = 0;
  for (const Plane& plane : planes) total += plane.block_bytes();
  return total;
}

KvLayout MakeKvLayout(const ModelConfig& config, KvMode mode) {
  KvLayout layout;
  layout.mode = mode;
  layout.block_tokens = config.block_tokens();
  layout.entry = EntryCodec(mode, config.head_dim, config.rope_dim);
  layout.index_key = IndexCodec(mode, config.index_head_dim);
  const int32_t layers = config.num_layers + config.num_draft_stages;
  layout.entry_plane.assign(static_cast<size_t>(layers), -1);
  layout.index_plane.assign(static_cast<size_t>(layers), -1);
  const auto add = [&](LayerRole role, PlaneKind kind, bool scanned, std::vector<int32_t>& plane_of) {
    const int32_t bytes = kind == PlaneKind::kEntries ? layout.entry.bytes() : layout.index_key.bytes();
    for (int32_t l = 0; l < config.num_layers; ++l) {
      if (config.role(l) != role) continue;
      plane_of[static_cast<size_t>(l)] = static_cast<int32_t>(layout.planes.size());
      layout.planes.push_back({l, kind, layout.block_tokens / config.ratio(l), bytes, scanned});
    }
  };
  add(LayerRole::kCsa, PlaneKind::kIndexKeys, true, layout.index_plane);
  add(LayerRole::kHca, PlaneKind::kEntries, true, layout.entry_plane);
  add(LayerRole::kCsa, PlaneKind::kEntries, false, layout.entry_plane);
  return layout;
}

int64_t TailBytes(const ModelConfig& config, KvMode mode) {
  const EntryCodec codec(mode, config.head_dim, config.rope_dim);
  int64_t total = 0;
  for (int32_t l = 0; l < config.num_layers + config.num_draft_stages; ++l) {
    total += int64_t{config.sliding_window} * codec.bytes();
    if (l >= config.num_layers || config.role(l) == LayerRole::kSwa) continue;
    const bool csa = config.role(l) == LayerRole::kCsa;
    const int64_t rows = int64_t{csa ? 2 : 1} * config.ratio(l);
    const int64_t width = int64_t{csa ? 2 : 1} * (config.head_dim + (csa ? config.index_head_dim : 0));
    total += 2 * rows * width * 4;
  }
  return total;
}

int64_t BoundaryTailBytes(const ModelConfig& config, KvMode mode) {
  const EntryCodec codec(mode, config.head_dim, config.rope_dim);
  int64_t total = 0;
  for (int32_t l = 0; l < config.num_layers; ++l) {
    total += int64_t{config.sliding_window} * codec.bytes();
    if (config.role(l) != LayerRole::kCsa) continue;
    total += int64_t{2} * kOverlapRatio * (config.head_dim + config.index_head_dim) * 4;
  }
  return total;
}

}  // namespace holdfast::model
