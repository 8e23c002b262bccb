#include "agent/bounded_text.h"

#include <algorithm>

#include "base/check.h"

namespace holdfast::agent {
namespace {

constexpr size_t kMarkBytesMax = 64;

// The byte before which nothing of a character stands open.
bool IsBorder(std::string_view text, size_t at) {
  return at == 0 || at == text.size() || (static_cast<unsigned char>(text[at]) & 0xC0) != 0x80;
}

}  // namespace

std::string BoundedText(std::string_view text, size_t bytes_max) {
  HF_CHECK(bytes_max >= kBoundedTextBytesMin);
  if (text.size() <= bytes_max) return std::string(text);
  const size_t half = (bytes_max - kMarkBytesMax) / 2;
  size_t head = half;
  size_t tail = text.size() - half;
  while (!IsBorder(text, head)) --head;
  while (!IsBorder(text, tail)) ++tail;
  return std::string(text.substr(0, head)) + "\n[... " + std::to_string(tail - head) +
         " bytes left out ...]\n" + std::string(text.substr(tail));
}

std::string OneLine(std::string_view text, size_t bytes_max) {
  constexpr std::string_view kDots = "...";
  size_t size = text.size();
  if (size > bytes_max) {
    size = bytes_max - std::min(bytes_max, kDots.size());
    while (!IsBorder(text, size)) --size;
  }
  std::string line(text.substr(0, size));
  std::replace_if(
      line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7F; }, ' ');
  if (size < text.size()) line += kDots;
  return line;
}

}  // namespace holdfast::agent
