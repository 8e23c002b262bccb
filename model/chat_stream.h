// The incremental parser of an assistant's turn over token ids. Markup is structural by id: a tag stands only
// where the id of the control token `｜DSML｜` stands; the same characters from ordinary tokens are content.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/chat.h"
#include "model/json.h"
#include "model/tokenizer.h"

namespace holdfast::model {

// One thing that happened. Texts are valid UTF-8: a character comes with its last byte, and bytes that make
// none come as U+FFFD.
struct ChatEvent {
  enum class Kind : uint8_t {
    kReasoning,       // text: more reasoning
    kText,            // text: more of the answer
    kCallStart,       // text: the tool's name
    kParameterStart,  // text: the parameter's name
    kValue,           // text: more of the parameter's value, raw
    kParameterEnd,
    kCallEnd,
    kTurnEnd,    // the end-of-sentence token
    kMalformed,  // text: what is wrong; the parser takes no more tokens
  };
  Kind kind = Kind::kText;
  bool is_string = false;  // kParameterStart: the value is text; otherwise it is JSON (not checked here)
  std::string text;

  bool operator==(const ChatEvent&) const = default;
};

// For one thread at a time. The tokenizer outlives it.
class ChatStreamParser {
 public:
  // FailedPrecondition when the tokenizer lacks a control token.
  static base::StatusOr<std::unique_ptr<ChatStreamParser>> Make(const Tokenizer& tokenizer,
                                                                ThinkingMode mode);
  ~ChatStreamParser();

  // Takes the next token and appends what it brought. The events depend on the tokens only, one by one, not
  // on how they arrive. An id without a token is malformed. O(bytes of the token).
  void Feed(int32_t id, std::vector<ChatEvent>* events);

  // Whether the turn ended well so far: by the end-of-sentence token, or right after a whole tool block.
  bool IsComplete() const;
  bool IsMalformed() const;

  // The number of tokens before the one that began the tool block, that is, the one with the `<` of its first
  // tag. A log is cut to this many tokens when its block is not whole. The number of all tokens when there is
  // no block.
  size_t TokensBeforeBlock() const;

  // The message so far, in the form of ParseCompletionText(); calls that are not whole are left out.
  Json Message() const;

 private:
  struct Impl;
  explicit ChatStreamParser(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast::model
