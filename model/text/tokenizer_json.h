// Reads the Hugging Face `tokenizer.json` of a byte-level BPE tokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/text/bpe.h"

namespace holdfast::model {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
};

// What the file says, checked: every id in range and used once, all 256 bytes have a token, every merge is of
// two tokens whose joint bytes are a token.
struct TokenizerFile {
  static constexpr int32_t kMaxIds = 1 << 20;
  static constexpr size_t kMaxTokenBytes = 1024;
  static constexpr size_t kMaxPatterns = 16;

  std::vector<std::string> bytes;  // by id; empty for an id that has no token
  std::vector<AddedToken> added;   // in file order
  std::vector<std::string> patterns;
  std::array<int32_t, 256> byte_ids;
  std::vector<Bpe::Merge> merges;  // in rank order
};

// InvalidArgument, saying what is wrong where, for anything that is not such a file; also for features of the
// format that would change ids and are not implemented (normalizers, lstrip, unk tokens, ...).
base::StatusOr<TokenizerFile> ParseTokenizerJson(std::string_view json);

}  // namespace holdfast::model
