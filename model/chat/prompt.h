// A prompt under construction: control tokens, and the text between them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/chat/format.h"
#include "model/tokenizer.h"

namespace holdfast::model {

class Prompt {
 public:
  explicit Prompt(const ChatFormat& format) : format_(format) {}

  // A control token.
  void Control(std::string_view token) { parts_.push_back({.is_control = true, .text = std::string(token)}); }
  // Text that comes from outside: never a control token, whatever it says.
  void Theirs(std::string_view text);
  // Text of the format itself, in which tags and think marks are control tokens.
  void Ours(std::string_view text);

  std::string ToText() const;
  base::StatusOr<std::vector<int32_t>> ToIds(const Tokenizer& tokenizer) const;

 private:
  struct Part {
    bool is_control = false;
    std::string text;
  };

  const ChatFormat& format_;
  std::vector<Part> parts_;  // text parts are never neighbours
};

}  // namespace holdfast::model
