#include "tools/text/nano_text.h"

#include <algorithm>

#include "base/coding.h"

namespace holdfast::tools {
namespace {

constexpr size_t kBinaryCheckBytes = 8192;
constexpr std::string_view kBlanks = " \r\f\v";

bool IsWordByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

}  // namespace

std::string NanoLine(std::string_view line, size_t bytes_max, Indent indent) {
  std::string text = RepairUtf8(line);
  std::replace(text.begin(), text.end(), '\t', ' ');
  text.erase(text.find_last_not_of(kBlanks) + 1);
  if (indent == Indent::kTrimmed) text.erase(0, std::min(text.find_first_not_of(kBlanks), text.size()));
  text.resize(FirstCharacters(text, bytes_max).size());
  return text;
}

bool IsBinary(std::string_view bytes) {
  return bytes.substr(0, kBinaryCheckBytes).find('\0') != std::string_view::npos;
}

std::optional<Replaced> ReplaceWholeWords(std::string_view text, std::string_view old,
                                          std::string_view replacement, size_t bytes_max) {
  Replaced result;
  if (old.empty()) return result;
  size_t copied = 0;
  for (size_t at = text.find(old); at != std::string_view::npos;) {
    const size_t end = at + old.size();
    const bool joined_before = IsWordByte(old.front()) && at > 0 && IsWordByte(text[at - 1]);
    const bool joined_after = IsWordByte(old.back()) && end < text.size() && IsWordByte(text[end]);
    if (joined_before || joined_after) {
      at = text.find(old, at + 1);
      continue;
    }
    result.text += text.substr(copied, at - copied);
    result.text += replacement;
    copied = end;
    ++result.count;
    if (result.text.size() > bytes_max) return std::nullopt;
    at = text.find(old, end);
  }
  result.text += text.substr(copied);
  if (result.text.size() > bytes_max) return std::nullopt;
  return result;
}

base::Status NanoOutput::Append(std::span<const std::byte> bytes) {
  std::string text;
  repairer_.Feed(base::AsText(bytes), text);
  Keep(text);
  return absl::OkStatus();
}

base::StatusOr<std::string> NanoOutput::Finish(const base::Sha256Digest&, uint64_t) {
  std::string text;
  repairer_.Finish(text);
  Keep(text);
  return std::string();
}

void NanoOutput::Keep(std::string_view text) {
  total_bytes_ += text.size();
  head_ += text.substr(0, bytes_max_ - head_.size());
  tail_ += text.substr(text.size() - std::min(text.size(), bytes_max_));
  // One byte more than is shown, which tells whether what is shown begins within a character.
  if (tail_.size() > bytes_max_) tail_.erase(0, tail_.size() - bytes_max_ / 2 - 1);
}

std::string_view NanoOutput::head() const {
  if (cut_bytes() == 0) return head_;
  return FirstCharacters(head_, bytes_max_ / 2);
}

std::string_view NanoOutput::tail() const {
  if (cut_bytes() == 0) return {};
  return LastCharacters(tail_, bytes_max_ / 2);
}

}  // namespace holdfast::tools
