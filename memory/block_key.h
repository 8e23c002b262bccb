// The identity of a block of tokens: what it holds and all that came before it. Equal prefixes have equal
// keys, whoever made them, so sessions, forks and restarts find each other's KV by key alone.
// Source: DESIGN "KV block store"; docs/formats/kv_segment.md.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/coding.h"
#include "base/hash.h"

namespace holdfast::memory {

struct BlockKey {
  base::Sha256Digest digest{};

  friend bool operator==(const BlockKey&, const BlockKey&) = default;
  friend auto operator<=>(const BlockKey&, const BlockKey&) = default;
  // The digest is random already.
  template <typename H>
  friend H AbslHashValue(H h, const BlockKey& key) {
    return H::combine(std::move(h), base::LoadLittle<uint64_t>(key.digest.data()));
  }
};

// SHA-256 of (parent, tokens as little-endian 32-bit numbers). The parent of a first block is the root key,
// which says by what model, layout and numerics the KV was made.
BlockKey KeyOfBlock(const BlockKey& parent, std::span<const int32_t> tokens);

// The keys of all complete blocks of `tokens`, in order. Cost: one SHA-256 of the tokens.
std::vector<BlockKey> KeysOfBlocks(const BlockKey& root, std::span<const int32_t> tokens,
                                   int64_t block_tokens);

// The first 12 hexadecimal digits, for messages and lists.
std::string ShortName(const BlockKey& key);

}  // namespace holdfast::memory
