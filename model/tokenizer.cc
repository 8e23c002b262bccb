#include "model/tokenizer.h"

#include <array>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "model/text/bpe.h"
#include "model/text/literal_set.h"
#include "model/text/splitter.h"
#include "model/text/tokenizer_json.h"
#include "model/text/utf8.h"

namespace holdfast::model {
namespace {

enum class TokenKind : uint8_t { kNone, kOrdinary, kAdded, kSpecial };

}  // namespace

struct Tokenizer::Impl {
  Impl(TokenizerFile file, Splitter splitter_in)
      : splitter(std::move(splitter_in)), bpe(file.byte_ids, file.merges), bytes(std::move(file.bytes)) {
    kinds.resize(bytes.size(), TokenKind::kNone);
    std::vector<std::string> contents;
    for (const AddedToken& token : file.added) {
      kinds[token.id] = token.special ? TokenKind::kSpecial : TokenKind::kAdded;
      contents.push_back(token.content);
      added_ids[token.content] = token.id;
      added_first[static_cast<uint8_t>(token.content[0])] = true;
    }
    added = LiteralSet(std::move(contents));
    for (size_t id = 0; id < bytes.size(); ++id) {
      if (bytes[id].empty() || kinds[id] != TokenKind::kNone) continue;
      kinds[id] = TokenKind::kOrdinary;
      ordinary_ids[bytes[id]] = static_cast<int32_t>(id);
    }
  }

  // The length of the longest added token that `text` begins with; 0 when there is none.
  size_t MatchAdded(std::string_view text) const {
    size_t longest = 0;
    LiteralSet::Cursor at = added.Begin();
    for (const char c : text) {
      at = added.Step(at, static_cast<uint8_t>(c));
      if (at.lo >= at.hi) break;
      if (added.IsComplete(at)) longest = at.offset;
    }
    return longest;
  }

  // Encodes text in which no added token counts.
  base::Status EncodePlain(std::string_view text, std::vector<int32_t>* ids) const;
  base::Status EncodeValid(std::string_view text, std::vector<int32_t>* ids) const;

  Splitter splitter;
  Bpe bpe;
  std::vector<std::string> bytes;
  std::vector<TokenKind> kinds;
  LiteralSet added;
  std::array<bool, 256> added_first = {};
  absl::flat_hash_map<std::string, int32_t> added_ids;
  absl::flat_hash_map<std::string, int32_t> ordinary_ids;
};

base::Status Tokenizer::Impl::EncodeValid(std::string_view text, std::vector<int32_t>* ids) const {
  std::vector<std::string_view> pieces;
  HF_RETURN_IF_ERROR(splitter.Split(text, &pieces));
  for (const std::string_view piece : pieces) bpe.Encode(piece, ids);
  return {};
}

base::Status Tokenizer::Impl::EncodePlain(std::string_view text, std::vector<int32_t>* ids) const {
  while (!text.empty()) {
    const size_t valid = ValidUtf8Prefix(text);
    if (valid > 0) HF_RETURN_IF_ERROR(EncodeValid(text.substr(0, valid), ids));
    text.remove_prefix(valid);
    size_t invalid = 0;
    // A character is at most 4 bytes long, so that much decides whether one begins here.
    while (invalid < text.size() && ValidUtf8Prefix(text.substr(invalid, 4)) == 0) ++invalid;
    if (invalid > 0) bpe.Encode(text.substr(0, invalid), ids);
    text.remove_prefix(invalid);
  }
  return {};
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

base::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view json) {
  HF_ASSIGN_OR_RETURN(TokenizerFile file, ParseTokenizerJson(json));
  base::StatusOr<Splitter> splitter = Splitter::Compile(file.patterns);
  if (!splitter.ok()) return base::Annotate(splitter.status(), "tokenizer.json");
  auto impl = std::make_unique<const Impl>(std::move(file), std::move(*splitter));
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

base::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(base::FileSystem& fs, const std::string& path) {
  HF_ASSIGN_OR_RETURN(const std::string json, fs.ReadFile(path, kMaxFileBytes));
  base::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = FromJson(json);
  if (!tokenizer.ok()) return base::Annotate(tokenizer.status(), path);
  return tokenizer;
}

base::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text, AddedTokens added) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 1);
  size_t start = 0;
  for (size_t i = 0; added == AddedTokens::kMatch && i < text.size();) {
    const size_t length =
        impl_->added_first[static_cast<uint8_t>(text[i])] ? impl_->MatchAdded(text.substr(i)) : 0;
    if (length == 0) {
      ++i;
      continue;
    }
    HF_RETURN_IF_ERROR(impl_->EncodePlain(text.substr(start, i - start), &ids));
    ids.push_back(impl_->added_ids.find(std::string(text.substr(i, length)))->second);
    i += length;
    start = i;
  }
  HF_RETURN_IF_ERROR(impl_->EncodePlain(text.substr(start), &ids));
  return ids;
}

base::StatusOr<std::string> Tokenizer::Decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    if (!HasToken(id)) return base::InvalidArgument("id " + std::to_string(id) + " has no token");
    text.append(Bytes(id));
  }
  return text;
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(impl_->bytes.size()); }

std::string_view Tokenizer::Bytes(int32_t id) const {
  return id >= 0 && id < vocab_size() ? std::string_view(impl_->bytes[id]) : std::string_view();
}

bool Tokenizer::IsAdded(int32_t id) const {
  return HasToken(id) && (impl_->kinds[id] == TokenKind::kAdded || impl_->kinds[id] == TokenKind::kSpecial);
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return HasToken(id) && impl_->kinds[id] == TokenKind::kSpecial;
}

std::optional<int32_t> Tokenizer::FindAdded(std::string_view content) const {
  const auto found = impl_->added_ids.find(std::string(content));
  return found == impl_->added_ids.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

std::optional<int32_t> Tokenizer::FindOrdinary(std::string_view bytes) const {
  const auto found = impl_->ordinary_ids.find(std::string(bytes));
  return found == impl_->ordinary_ids.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer), utf8_(std::make_unique<Utf8Stream>()) {}
StreamDecoder::~StreamDecoder() = default;

base::StatusOr<std::string> StreamDecoder::Feed(int32_t id) {
  if (!tokenizer_.HasToken(id)) return base::InvalidArgument("id " + std::to_string(id) + " has no token");
  std::string text;
  utf8_->Feed(tokenizer_.Bytes(id), &text);
  return text;
}

std::string StreamDecoder::Finish() {
  std::string text;
  utf8_->Finish(&text);
  return text;
}

}  // namespace holdfast::model
