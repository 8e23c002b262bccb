#include "memory/block_key.h"

#include "base/check.h"

namespace holdfast::memory {
namespace {

BlockKey KeyWith(base::Sha256& hash, const BlockKey& parent, std::span<const int32_t> tokens) {
  hash.Update(parent.digest);
  hash.Update(std::as_bytes(tokens));  // little-endian: base/coding.h asserts it
  return {hash.Finish()};
}

}  // namespace

BlockKey KeyOfBlock(const BlockKey& parent, std::span<const int32_t> tokens) {
  base::Sha256 hash;
  return KeyWith(hash, parent, tokens);
}

std::vector<BlockKey> KeysOfBlocks(const BlockKey& root, std::span<const int32_t> tokens,
                                   int64_t block_tokens) {
  HF_CHECK(block_tokens > 0);
  const size_t step = static_cast<size_t>(block_tokens);
  std::vector<BlockKey> keys;
  keys.reserve(tokens.size() / step);
  base::Sha256 hash;
  for (size_t at = 0; at + step <= tokens.size(); at += step)
    keys.push_back(KeyWith(hash, keys.empty() ? root : keys.back(), tokens.subspan(at, step)));
  return keys;
}

std::string ShortName(const BlockKey& key) { return base::ToHex(key.digest).substr(0, 12); }

}  // namespace holdfast::memory
