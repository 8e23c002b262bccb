#include "base/coding.h"

namespace holdfast::base {
namespace {

template <std::unsigned_integral T>
void PutFixed(std::string& out, T value) {
  std::byte bytes[sizeof(T)];
  StoreLittle(bytes, value);
  out += AsText(bytes);
}

}  // namespace

void PutFixed8(std::string& out, uint8_t value) { PutFixed(out, value); }
void PutFixed16(std::string& out, uint16_t value) { PutFixed(out, value); }
void PutFixed32(std::string& out, uint32_t value) { PutFixed(out, value); }
void PutFixed64(std::string& out, uint64_t value) { PutFixed(out, value); }

void PutVarint64(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void PutLengthPrefixed(std::string& out, std::string_view value) {
  PutVarint64(out, value.size());
  out += value;
}

uint64_t Decoder::Varint64() {
  const size_t start = offset_;
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    const auto bytes = Take(1, "the input ends inside a varint");
    if (bytes.empty()) return 0;
    const auto digit = std::to_integer<uint64_t>(bytes[0]);
    value |= (digit & 0x7f) << shift;
    if (digit >= 0x80) continue;
    const bool too_big = shift == 63 && digit > 1;
    const bool too_long = shift > 0 && digit == 0;
    if (!too_big && !too_long) return value;
    break;
  }
  offset_ = start;
  Fail("not a varint of 64 bits in its shortest form");
  return 0;
}

std::span<const std::byte> Decoder::Bytes(size_t size) {
  return Take(size, "the input ends inside a run of bytes");
}

std::string_view Decoder::LengthPrefixed(size_t max_bytes) {
  const size_t start = offset_;
  const uint64_t size = Varint64();
  if (!ok()) return {};
  if (size > max_bytes) {
    offset_ = start;
    Fail("a string is longer than its bound");
    return {};
  }
  return AsText(Take(static_cast<size_t>(size), "the input ends inside a string"));
}

Status Decoder::Finish(std::string_view what) const {
  if (ok() && remaining() == 0) return absl::OkStatus();
  const char* const problem = ok() ? "bytes are left over" : problem_;
  return DataLoss(std::string(what) + ": at offset " + std::to_string(offset_) + ": " + problem);
}

std::span<const std::byte> Decoder::Take(size_t size, const char* what) {
  if (!ok()) return {};
  if (size > remaining()) {
    Fail(what);
    return {};
  }
  offset_ += size;
  return input_.subspan(offset_ - size, size);
}

void Decoder::Fail(const char* problem) {
  if (ok()) problem_ = problem;
}

}  // namespace holdfast::base
