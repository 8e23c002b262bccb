// What the model says, out of the text of its tokens: without calls and markup, harmless to a terminal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace holdfast::cli {

// Text comes in pieces that may break anywhere, also inside a character.
class SpeechFilter {
 public:
  // What of it is to be shown now.
  std::string Add(std::string_view text);
  // What comes until the next turn is not shown: it may begin within markup.
  void SkipTurn() { hidden_ = true; }
  // The rest; what comes next is another turn.
  std::string End();

 private:
  std::string held_;     // may be the beginning of markup or of a character
  bool hidden_ = false;  // behind the first markup of a turn everything is markup
};

// Joins what is seen live with the events that supersede it, so that each token is shown once.
class LiveText {
 public:
  // Provisional text of tokens from `position` on; what of it is new.
  std::string AddLive(int64_t position, int64_t count, std::string_view text);
  // The same, durable. `differs`: what was shown of it was something else.
  std::string AddDurable(int64_t position, int64_t count, std::string_view text, bool& differs);
  void Clear() { *this = LiveText(); }

 private:
  int64_t begin_ = 0, end_ = 0;  // tokens that `text_` is of
  std::string text_;             // shown, and not durable yet
};

}  // namespace holdfast::cli
