// The ordinary tokens of a vocabulary as a byte trie in preorder, for asking an automaton which tokens it
// takes.
#pragma once

#include <cstdint>
#include <vector>

#include "model/token_mask.h"
#include "model/tokenizer.h"

namespace holdfast::model {

// Immutable after construction; safe from any thread.
class TokenTrie {
 public:
  struct Node {
    uint32_t end = 0;    // the node after this one's subtree
    int32_t token = -1;  // the token that ends here; -1: none
    uint16_t depth = 0;  // bytes from the root, this one included
    uint8_t byte = 0;
  };

  explicit TokenTrie(const Tokenizer& tokenizer);

  const std::vector<Node>& nodes() const { return nodes_; }
  uint16_t depth_max() const { return depth_max_; }

  // Walks the tokens below `parent` (all of them: pass 0 and nodes().size()), nodes [begin, end), at whose
  // parent the automaton is in `start`. `step(State*, byte)` says whether a byte may come; where it may not,
  // the subtree is left out. Tokens reached are added to `mask`. `states` is scratch space.
  template <typename State, typename Step>
  void Walk(uint32_t begin, uint32_t end, const State& start, Step step, std::vector<State>* states,
            TokenMask* mask) const;

 private:
  std::vector<Node> nodes_;
  uint16_t depth_max_ = 0;
};

template <typename State, typename Step>
void TokenTrie::Walk(uint32_t begin, uint32_t end, const State& start, Step step, std::vector<State>* states,
                     TokenMask* mask) const {
  if (begin >= end) return;
  const size_t base = nodes_[begin].depth - size_t{1};
  states->resize(depth_max_ + size_t{1});
  (*states)[base] = start;
  for (uint32_t i = begin; i < end;) {
    const Node& node = nodes_[i];
    State& state = (*states)[node.depth];
    state = (*states)[node.depth - size_t{1}];
    if (!step(&state, node.byte)) {
      i = node.end;
      continue;
    }
    if (node.token >= 0) mask->Add(node.token);
    ++i;
  }
}

}  // namespace holdfast::model
