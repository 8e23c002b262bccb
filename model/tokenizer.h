// Byte-level BPE as in the `tokenizer.json` of the DeepSeek family: text to token ids and back.
// Split patterns, vocabulary, merges and added tokens all come from the file (docs: tokenizer.md).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"

namespace holdfast::model {

// Whether the added tokens (control tokens such as `<｜User｜>`) that stand in a text become their ids.
enum class AddedTokens {
  kMatch,  // yes, leftmost and longest: for text that is wholly ours
  kPlain,  // no, their characters are encoded like any others: for all text from outside
};

// Immutable after construction; all methods are safe from any thread.
class Tokenizer {
 public:
  static constexpr uint64_t kMaxFileBytes = 64ull << 20;

  // Reads a tokenizer. InvalidArgument says what in the file is wrong or not supported; Load annotates errors
  // with the path. About half a second for 129,280 tokens.
  static base::StatusOr<std::unique_ptr<Tokenizer>> FromJson(std::string_view json);
  static base::StatusOr<std::unique_ptr<Tokenizer>> Load(base::FileSystem& fs, const std::string& path);

  ~Tokenizer();

  // The ids of `text`; nothing is added (no BOS, no EOS). Any bytes round trip: a stretch that is not valid
  // UTF-8 is cut out before the split patterns see the text and encoded as a piece of its own.
  // ResourceExhausted when a split pattern of the file backtracks beyond its limit. O(n log n).
  base::StatusOr<std::vector<int32_t>> Encode(std::string_view text, AddedTokens added) const;

  // The bytes of `ids` (added tokens as their content), which are not always whole characters: see
  // StreamDecoder. InvalidArgument for an id that has no token.
  base::StatusOr<std::string> Decode(std::span<const int32_t> ids) const;

  // Ids run from 0 to vocab_size() - 1; not all need have a token.
  int32_t vocab_size() const;
  bool HasToken(int32_t id) const { return !Bytes(id).empty(); }
  // Whether `id` is an added token, matched whole and never made by merges.
  bool IsAdded(int32_t id) const;
  // Whether the file marks `id` as special. Few control tokens are: `<｜User｜>` and `<think>` are not.
  bool IsSpecial(int32_t id) const;
  // The bytes of one token; empty for an id that has none.
  std::string_view Bytes(int32_t id) const;

  // The added token with this content; the ordinary token of these bytes.
  std::optional<int32_t> FindAdded(std::string_view content) const;
  std::optional<int32_t> FindOrdinary(std::string_view bytes) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);

  std::unique_ptr<const Impl> impl_;
};

// Decodes a stream of ids to valid UTF-8: a character comes out once its last byte is in, and what is not
// valid UTF-8 becomes U+FFFD, one for each maximal invalid sequence. For one thread at a time.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer);
  ~StreamDecoder();

  // The text that `id` completes, perhaps none. InvalidArgument for an id that has no token.
  base::StatusOr<std::string> Feed(int32_t id);
  // The end of the stream: U+FFFD when it ends within a character.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  std::unique_ptr<class Utf8Stream> utf8_;
};

}  // namespace holdfast::model
