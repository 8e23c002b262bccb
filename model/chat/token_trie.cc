#include "model/chat/token_trie.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace holdfast::model {

TokenTrie::TokenTrie(const Tokenizer& tokenizer) {
  std::vector<std::pair<std::string_view, int32_t>> tokens;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.HasToken(id) && !tokenizer.IsAdded(id)) tokens.emplace_back(tokenizer.Bytes(id), id);
  }
  std::sort(tokens.begin(), tokens.end());
  std::vector<uint32_t> path;  // the nodes of the token before
  std::string_view before;
  const auto close = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back())
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
  };
  for (const auto& [bytes, id] : tokens) {
    const auto shared = std::mismatch(before.begin(), before.end(), bytes.begin(), bytes.end()).first;
    close(static_cast<size_t>(shared - before.begin()));
    for (size_t i = path.size(); i < bytes.size(); ++i) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.depth = static_cast<uint16_t>(i + 1), .byte = static_cast<uint8_t>(bytes[i])});
    }
    nodes_[path.back()].token = id;
    depth_max_ = std::max(depth_max_, static_cast<uint16_t>(bytes.size()));
    before = bytes;
  }
  close(0);
}

}  // namespace holdfast::model
