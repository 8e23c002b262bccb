// Hashes: SHA-256 for identity (what content is), XXH3 for checksums (whether bytes are as written). Both are
// fixed by their specifications; their values are on disk.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

struct evp_md_ctx_st;  // libcrypto's EVP_MD_CTX

namespace holdfast::base {

using Sha256Digest = std::array<std::byte, 32>;

// SHA-256 of bytes that come in pieces. One thread at a time.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(std::span<const std::byte> bytes);

  // The digest of all bytes since construction or the last Finish; starts anew.
  Sha256Digest Finish();

 private:
  const std::unique_ptr<evp_md_ctx_st, void (*)(evp_md_ctx_st*)> context_;
};

Sha256Digest Sha256Of(std::span<const std::byte> bytes);

// XXH3, 64 bits, seed 0: some 10 GB/s, no protection against intent.
uint64_t Xxh3(std::span<const std::byte> bytes);

// Two lower-case hexadecimal digits a byte.
std::string ToHex(std::span<const std::byte> bytes);

// Reads exactly 64 hexadecimal digits, either case; anything else is InvalidArgument.
StatusOr<Sha256Digest> Sha256FromHex(std::string_view hex);

}  // namespace holdfast::base
