#include "agent/bounded_text.h"

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

}  // namespace holdfast::agent
