// Constrained decoding: which tokens may come next in an assistant's turn, so that what is sampled is always
// a well-formed turn whose tool calls follow the schemas of the session's tools.
//
// Free text permits every ordinary token that keeps it valid UTF-8, `</think>` where reasoning is open, EOS
// in content, and `｜DSML｜` after `\n\n<`; from there the markup is forced, names come from the tools,
// parameters that are unknown or there already are masked, and a call cannot close while a required one is
// missing. A string value permits everything, and `｜DSML｜` after `</`; other values follow their JSON
// schema (what of it is enforced: model/chat/schema.h). A token is permitted exactly when all its bytes may
// come, also across the borders of the markup. Every state but the end of the turn permits some token.
#pragma once

#include <cstdint>
#include <memory>

#include "base/status.h"
#include "model/chat.h"
#include "model/json.h"
#include "model/token_mask.h"
#include "model/tokenizer.h"

namespace holdfast::model {

// A tokenizer's vocabulary, prepared for grammars: a trie of its bytes and the masks of free text. Immutable;
// safe from any thread. One per tokenizer; about 50 ms and 10 MB for 129,280 tokens.
class GrammarVocabulary {
 public:
  // FailedPrecondition when the tokenizer lacks a control token of the format. The tokenizer outlives it.
  static base::StatusOr<std::unique_ptr<GrammarVocabulary>> Make(const Tokenizer& tokenizer);
  ~GrammarVocabulary();

 private:
  friend class Grammar;
  friend class GrammarTurn;
  struct Impl;
  explicit GrammarVocabulary(std::unique_ptr<const Impl> impl);

  std::unique_ptr<const Impl> impl_;
};

// The grammar of one set of tools, with a cache of masks. For one thread at a time, its turns included.
class Grammar {
 public:
  // `tools` in the form of a message's `tools`; empty for none: then no calls are permitted. InvalidArgument,
  // naming the tool, for schemas that cannot be followed. The vocabulary outlives the grammar.
  static base::StatusOr<std::unique_ptr<Grammar>> Make(const GrammarVocabulary& vocabulary,
                                                       const Json& tools);
  ~Grammar();

 private:
  friend class GrammarTurn;
  struct Impl;
  explicit Grammar(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

// One turn under a grammar, which outlives it.
class GrammarTurn {
 public:
  GrammarTurn(Grammar& grammar, ThinkingMode mode);
  ~GrammarTurn();
  GrammarTurn(const GrammarTurn&) = delete;
  GrammarTurn& operator=(const GrammarTurn&) = delete;

  // The tokens permitted next, over the tokenizer's vocabulary; valid until the next call for this grammar.
  // Never empty before the end of the turn, empty after it. Free text costs a look-up; elsewhere a mask is
  // computed on first need and cached.
  const TokenMask& Mask();

  // Takes the next token. InvalidArgument, changing nothing, for one that is not permitted.
  base::Status Accept(int32_t id);

  bool IsDone() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast::model
