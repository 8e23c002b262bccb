#include "model/virtual_kv.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/random.h"

namespace holdfast::model {
namespace {

// Scales near 2^-8 give FP8 codes the size of normed entries; see kE4m3Max.
constexpr uint8_t kEntryScale = 127 - 8;
constexpr uint8_t kIndexScale = 127 - 4;

// Random bytes of one block or tail, 16 at a time.
class Stream {
 public:
  enum class Kind : uint32_t { kBlock, kTail };
  Stream(uint64_t seed, Kind kind, int64_t index)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        counter_{0, static_cast<uint32_t>(kind), static_cast<uint32_t>(index),
                 static_cast<uint32_t>(static_cast<uint64_t>(index) >> 32)} {}

  void Fill(std::span<uint8_t> out) {
    for (size_t at = 0; at < out.size(); at += 16) {
      const base::PhiloxCounter bits = base::Philox4x32(counter_, key_);
      ++counter_[0];
      std::memcpy(out.data() + at, bits.data(), std::min<size_t>(16, out.size() - at));
    }
  }

 private:
  const base::PhiloxKey key_;
  base::PhiloxCounter counter_;
};

// Random bytes become an entry as EntryCodec stores it.
void MakeEntry(const EntryCodec& codec, uint8_t* bytes) {
  constexpr int32_t kGroup = 64;
  const int32_t groups = codec.nope() / kGroup;
  for (int32_t i = 0; i < codec.nope(); ++i) {
    if ((bytes[i] & 0x7f) == 0x7f) bytes[i] ^= 0x40;  // NaN
  }
  for (int32_t g = 0; g < groups; ++g) {
    // The scale of a group is the smallest that holds its largest value: one in the top octave keeps it so.
    uint8_t& first = bytes[g * kGroup];
    first = static_cast<uint8_t>((first & 0x81) | 0x7c);
    uint8_t& scale = bytes[codec.scale_offset() + g];
    scale = static_cast<uint8_t>(kEntryScale - (scale & 1));
  }
  for (int32_t i = 0; i < codec.rope(); ++i) {  // BF16 from 2^-3 to 2^1
    uint8_t* value = bytes + codec.rope_offset() + 2 * i;
    const auto exponent = static_cast<uint32_t>(124 + (value[1] & 3));
    const auto bits = static_cast<uint16_t>((value[1] & 0x80u) << 8 | exponent << 7 | (value[0] & 0x7fu));
    std::memcpy(value, &bits, 2);
  }
  std::fill(bytes + codec.scale_offset() + groups, bytes + codec.bytes(), uint8_t{0});
}

// The same for an index key: every code is a number, the first of each group one of the two largest.
void MakeIndexKey(const IndexCodec& codec, uint8_t* bytes) {
  constexpr int32_t kGroup = 32;
  for (int32_t g = 0; g < codec.dim() / kGroup; ++g) {
    bytes[g * kGroup / 2] |= 6;
    uint8_t& scale = bytes[codec.scale_offset() + g];
    scale = static_cast<uint8_t>(kIndexScale + (scale & 3));
  }
}

// `count` entries of one codec; `make` turns random bytes into one in stored form.
template <class Codec, class Make>
void FillEntries(const Codec& codec, const Codec& stored, Stream& random, Make&& make,
                 std::span<std::byte> out) {
  const auto bytes = static_cast<size_t>(codec.bytes());
  std::vector<uint8_t> one(static_cast<size_t>(stored.bytes()));
  std::vector<float> values(static_cast<size_t>(codec.dim()));
  for (size_t at = 0; at < out.size(); at += bytes) {
    random.Fill(one);
    make(stored, one.data());
    if (codec.mode() == KvMode::kStored) {
      std::memcpy(&out[at], one.data(), bytes);
    } else {
      stored.Decode(reinterpret_cast<const std::byte*>(one.data()), values.data());
      std::memcpy(&out[at], values.data(), bytes);
    }
  }
}

void FillMainEntries(const EntryCodec& codec, Stream& random, std::span<std::byte> out) {
  const EntryCodec stored(KvMode::kStored, codec.dim(), codec.rope());
  FillEntries(codec, stored, random, MakeEntry, out);
}

void FillIndexKeys(const IndexCodec& codec, Stream& random, std::span<std::byte> out) {
  const IndexCodec stored(KvMode::kStored, codec.dim());
  FillEntries(codec, stored, random, MakeIndexKey, out);
}

// Floats from -1 to 1: pooled rows and their scores.
void FillFloats(Stream& random, std::span<std::byte> out) {
  constexpr size_t kFloats = 64;
  uint32_t bits[kFloats];
  float values[kFloats];
  for (size_t at = 0; at < out.size(); at += sizeof(values)) {
    random.Fill({reinterpret_cast<uint8_t*>(bits), sizeof(bits)});
    for (size_t i = 0; i < kFloats; ++i) {
      values[i] = static_cast<float>(static_cast<int32_t>(bits[i]) >> 8) * 0x1p-23f;
    }
    std::memcpy(&out[at], values, std::min(sizeof(values), out.size() - at));
  }
}

}  // namespace

void FillVirtualBlock(const KvLayout& layout, uint64_t seed, int64_t block, std::span<std::byte> out) {
  HF_CHECK(static_cast<int64_t>(out.size()) == layout.block_bytes());
  Stream random(seed, Stream::Kind::kBlock, block);
  size_t at = 0;
  for (const Plane& plane : layout.planes) {
    const auto part = out.subspan(at, static_cast<size_t>(plane.block_bytes()));
    at += part.size();
    if (plane.kind == PlaneKind::kEntries) {
      FillMainEntries(layout.entry, random, part);
    } else {
      FillIndexKeys(layout.index_key, random, part);
    }
  }
}

void FillVirtualTail(const ModelConfig& config, const KvLayout& layout, uint64_t seed, int64_t position,
                     std::span<std::byte> out) {
  HF_CHECK(static_cast<int64_t>(out.size()) == BoundaryTailBytes(config, layout.mode));
  HF_CHECK(position >= 0 && position % layout.block_tokens == 0);
  std::fill(out.begin(), out.end(), std::byte{0});
  if (position == 0) return;
  Stream random(seed, Stream::Kind::kTail, position);
  const auto row_bytes = static_cast<size_t>(layout.entry.bytes());
  const auto window = static_cast<size_t>(config.sliding_window);
  const size_t rows = std::min(window, static_cast<size_t>(position));
  size_t at = 0;
  for (int32_t l = 0; l < config.num_layers; ++l) {
    FillMainEntries(layout.entry, random, out.subspan(at, rows * row_bytes));
    at += window * row_bytes;
    if (config.role(l) != LayerRole::kCsa) continue;
    const auto pending =
        static_cast<size_t>(2 * kOverlapRatio * (config.head_dim + config.index_head_dim)) * sizeof(float);
    FillFloats(random, out.subspan(at, pending));
    at += pending;
  }
  HF_CHECK(at == out.size());
}

}  // namespace holdfast::model
