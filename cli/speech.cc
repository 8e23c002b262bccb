#include "cli/speech.h"

#include <algorithm>
#include <utility>

#include "cli/terminal.h"

namespace holdfast::cli {
namespace {

constexpr std::string_view kMarkup = "<｜";         // begins every special token's name
constexpr std::string_view kThinkEnd = "</think>";  // what was reasoning becomes speech

// How many of the last bytes may be the beginning of `token`.
size_t PossibleBeginning(std::string_view text, std::string_view token) {
  for (size_t n = std::min(token.size() - 1, text.size()); n > 0; --n) {
    if (text.substr(text.size() - n) == token.substr(0, n)) return n;
  }
  return 0;
}

// How many of the last bytes are a character that is not whole.
size_t BrokenCharacter(std::string_view text) {
  for (size_t n = 1; n <= std::min<size_t>(3, text.size()); ++n) {
    const auto byte = static_cast<unsigned char>(text[text.size() - n]);
    if ((byte & 0xc0) == 0x80) continue;
    const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > n ? n : 0;
  }
  return 0;
}

}  // namespace

std::string SpeechFilter::Add(std::string_view text) {
  if (hidden_) return {};
  held_ += text;
  for (size_t at; (at = held_.find(kThinkEnd)) != std::string::npos;) {
    held_.replace(at, kThinkEnd.size(), "\n");
  }
  if (const size_t at = held_.find(kMarkup); at != std::string::npos) {
    held_.resize(at);
    hidden_ = true;
    return ForTerminal(std::exchange(held_, {}));
  }
  const size_t keep = std::max(
      {PossibleBeginning(held_, kMarkup), PossibleBeginning(held_, kThinkEnd), BrokenCharacter(held_)});
  const std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return ForTerminal(shown);
}

std::string SpeechFilter::End() {
  hidden_ = false;
  std::string rest = std::exchange(held_, {});
  rest.resize(rest.size() - BrokenCharacter(rest));
  return ForTerminal(rest);
}

std::string LiveText::AddLive(int64_t position, int64_t count, std::string_view text) {
  if (position < end_) return {};  // an older one
  if (position > end_ || end_ == begin_) {
    begin_ = position;
    text_.clear();
  }
  end_ = position + count;
  text_ += text;
  return std::string(text);
}

std::string LiveText::AddDurable(int64_t position, int64_t count, std::string_view text, bool& differs) {
  const int64_t end = position + count;
  differs = false;
  std::string fresh(text);
  if (begin_ == position && end_ > begin_) {
    if (text.starts_with(text_)) {
      fresh = text.substr(text_.size());
      text_.clear();
    } else if (std::string_view(text_).starts_with(text)) {
      fresh.clear();
      text_.erase(0, text.size());
    } else {
      differs = true;
      text_.clear();
    }
  } else {
    text_.clear();
  }
  begin_ = end;
  end_ = std::max(end, text_.empty() ? end : end_);
  return fresh;
}

}  // namespace holdfast::cli
