// Bytes of on-disk formats: little-endian fixed-width numbers, varints, length-prefixed strings.
//
//   std::string out;                         Decoder in(bytes);
//   PutFixed32(out, version);                const uint32_t version = in.Fixed32();
//   PutVarint64(out, position);              const uint64_t position = in.Varint64();
//   PutLengthPrefixed(out, name);            const std::string_view name = in.LengthPrefixed(kMaxNameBytes);
//                                            HF_RETURN_IF_ERROR(in.Finish("journal record"));
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace holdfast::base {

static_assert(std::endian::native == std::endian::little, "mapped formats are little-endian");

inline constexpr size_t kMaxVarint64Bytes = 10;

// A number at an address of any alignment.
template <std::unsigned_integral T>
T LoadLittle(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <std::unsigned_integral T>
void StoreLittle(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof(T));
}

inline std::span<const std::byte> AsBytes(std::string_view text) { return std::as_bytes(std::span(text)); }

inline std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Append to `out`.
void PutFixed8(std::string& out, uint8_t value);
void PutFixed16(std::string& out, uint16_t value);
void PutFixed32(std::string& out, uint32_t value);
void PutFixed64(std::string& out, uint64_t value);
// 7 bits a byte, low ones first, the top bit set on all but the last; always the shortest form.
void PutVarint64(std::string& out, uint64_t value);
// Varint64 of the size, then the bytes.
void PutLengthPrefixed(std::string& out, std::string_view value);

// Reads what Put... wrote, from bytes that may be hostile. The first failure sticks: from then on every read
// gives 0 or an empty view, and Finish says what was wrong. So a record is read in one go and checked once,
// before any of it is used. One thread at a time; views point into the input.
class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> input) : input_(input) {}

  uint8_t Fixed8() { return Fixed<uint8_t>("the input ends inside a 8-bit number"); }
  uint16_t Fixed16() { return Fixed<uint16_t>("the input ends inside a 16-bit number"); }
  uint32_t Fixed32() { return Fixed<uint32_t>("the input ends inside a 32-bit number"); }
  uint64_t Fixed64() { return Fixed<uint64_t>("the input ends inside a 64-bit number"); }

  // A varint longer than its shortest form, or beyond 64 bits, is a failure: one value has one encoding.
  uint64_t Varint64();

  // `size` bytes as they are.
  std::span<const std::byte> Bytes(size_t size);

  // A length above `max_bytes` is a failure.
  std::string_view LengthPrefixed(size_t max_bytes);

  bool ok() const { return problem_ == nullptr; }
  size_t offset() const { return offset_; }  // of the next byte to read
  size_t remaining() const { return input_.size() - offset_; }

  // OK when no read failed and nothing is left; else DataLoss, "`what`: at offset 12: ...".
  Status Finish(std::string_view what) const;

 private:
  template <std::unsigned_integral T>
  T Fixed(const char* what) {
    const auto bytes = Take(sizeof(T), what);
    return bytes.empty() ? T{0} : LoadLittle<T>(bytes.data());
  }
  std::span<const std::byte> Take(size_t size, const char* what);
  void Fail(const char* problem);

  const std::span<const std::byte> input_;
  size_t offset_ = 0;
  const char* problem_ = nullptr;  // a literal
};

}  // namespace holdfast::base
