#include "model/text/byte_level.h"

#include <array>
#include <cstdint>
#include <optional>

namespace holdfast::model {
namespace {

constexpr uint32_t kTableEnd = 0x100 + 68;  // 68 bytes do not stand for themselves

bool StandsForItself(uint32_t byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

// The byte of each character below kTableEnd, -1 for a character outside the table.
std::array<int16_t, kTableEnd> MakeTable() {
  std::array<int16_t, kTableEnd> table;
  table.fill(-1);
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    table[StandsForItself(byte) ? byte : next++] = static_cast<int16_t>(byte);
  }
  return table;
}

// Takes the next character of at most two bytes; all of the table's are.
std::optional<uint32_t> TakeCharacter(std::string_view* text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>((*text)[i]); };
  if (byte(0) < 0x80) {
    const uint32_t c = byte(0);
    text->remove_prefix(1);
    return c;
  }
  if (text->size() < 2 || byte(0) < 0xC2 || byte(0) >= 0xE0 || (byte(1) & 0xC0) != 0x80) return std::nullopt;
  const uint32_t c = (byte(0) & 0x1Fu) << 6 | (byte(1) & 0x3Fu);
  text->remove_prefix(2);
  return c;
}

}  // namespace

base::StatusOr<std::string> BytesOfToken(std::string_view token) {
  static const std::array<int16_t, kTableEnd> table = MakeTable();
  std::string bytes;
  while (!token.empty()) {
    const std::optional<uint32_t> c = TakeCharacter(&token);
    if (!c || *c >= kTableEnd || table[*c] < 0) {
      return base::InvalidArgument("a character outside the byte-level table");
    }
    bytes.push_back(static_cast<char>(table[*c]));
  }
  return bytes;
}

}  // namespace holdfast::model
