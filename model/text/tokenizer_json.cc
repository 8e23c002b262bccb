#include "model/text/tokenizer_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "model/text/byte_level.h"

namespace holdfast::model {
namespace {

using nlohmann::json;

base::Status Error(const std::string& what) { return base::InvalidArgument("tokenizer.json: " + what); }

// The member `key`, or null (the JSON value) when it is absent or `object` is not an object.
const json& Member(const json& object, const char* key) {
  static const json null;
  if (!object.is_object()) return null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

std::string TextOr(const json& value, std::string_view otherwise) {
  return value.is_string() ? value.get_ref<const std::string&>() : std::string(otherwise);
}

// Absent, null and false, and an empty text, all say that a feature is off.
bool IsOff(const json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

base::StatusOr<int32_t> ReadId(const json& value, const std::string& token) {
  if (!value.is_number_integer() || value < 0 || value >= TokenizerFile::kMaxIds) {
    return Error("token '" + token + "': its id is not an integer from 0 to " +
                 std::to_string(TokenizerFile::kMaxIds - 1));
  }
  return value.get<int32_t>();
}

class Reader {
 public:
  explicit Reader(const json& root) : root_(root) {}

  base::StatusOr<TokenizerFile> Read() {
    if (!root_.is_object()) return Error("not a JSON object");
    HF_RETURN_IF_ERROR(CheckNormalizer());
    HF_RETURN_IF_ERROR(CheckModel());
    HF_RETURN_IF_ERROR(ReadPatterns());
    HF_RETURN_IF_ERROR(ReadAdded());
    HF_RETURN_IF_ERROR(ReadVocab());
    HF_RETURN_IF_ERROR(CheckBytes());
    HF_RETURN_IF_ERROR(ReadMerges());
    return std::move(file_);
  }

 private:
  base::Status CheckNormalizer() {
    const json& normalizer = Member(root_, "normalizer");
    const json& steps = Member(normalizer, "normalizers");
    if (normalizer.is_null()) return {};
    if (Member(normalizer, "type") == "Sequence" && steps.is_array() && steps.empty()) return {};
    return Error("normalizer: only none is supported");
  }

  base::Status CheckModel() {
    const json& model = Member(root_, "model");
    if (TextOr(Member(model, "type"), "BPE") != "BPE") return Error("model.type: only BPE is supported");
    for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                            "fuse_unk", "byte_fallback", "ignore_merges"}) {
      if (!IsOff(Member(model, key))) return Error("model." + std::string(key) + ": not supported");
    }
    return {};
  }

  base::Status ReadPatterns() {
    const json& pre = Member(root_, "pre_tokenizer");
    const json& sequence = Member(pre, "pretokenizers");
    const json steps = Member(pre, "type") == "Sequence" ? sequence : json::array({pre});
    if (!steps.is_array()) return Error("pre_tokenizer.pretokenizers: not an array");
    bool byte_level = false;
    for (const json& step : steps) {
      const std::string type = TextOr(Member(step, "type"), "");
      if (byte_level) return Error("pre_tokenizer: ByteLevel must come last");
      if (type == "ByteLevel") {
        byte_level = true;
        if (!IsOff(Member(step, "add_prefix_space")) || Member(step, "use_regex") != false) {
          return Error("pre_tokenizer: ByteLevel needs add_prefix_space false and use_regex false");
        }
      } else if (type == "Split") {
        HF_RETURN_IF_ERROR(ReadSplit(step));
      } else {
        return Error("pre_tokenizer: step of type '" + type + "' is not supported");
      }
    }
    return byte_level ? base::Status() : Error("pre_tokenizer: has no ByteLevel step");
  }

  base::Status ReadSplit(const json& step) {
    const json& regex = Member(Member(step, "pattern"), "Regex");
    if (!regex.is_string()) return Error("pre_tokenizer: Split needs a pattern of kind Regex");
    if (Member(step, "behavior") != "Isolated" || !IsOff(Member(step, "invert"))) {
      return Error("pre_tokenizer: Split needs behavior Isolated, not inverted");
    }
    if (file_.patterns.size() >= TokenizerFile::kMaxPatterns) return Error("pre_tokenizer: too many Splits");
    file_.patterns.push_back(regex.get<std::string>());
    return {};
  }

  // Sets the bytes of an id, which must be free.
  base::Status SetBytes(int32_t id, std::string bytes) {
    if (bytes.empty() || bytes.size() > TokenizerFile::kMaxTokenBytes) {
      return Error("token " + std::to_string(id) + ": its length is not from 1 to " +
                   std::to_string(TokenizerFile::kMaxTokenBytes) + " bytes");
    }
    if (static_cast<size_t>(id) >= file_.bytes.size()) file_.bytes.resize(static_cast<size_t>(id) + 1);
    if (!file_.bytes[id].empty()) return Error("id " + std::to_string(id) + " is used twice");
    file_.bytes[id] = std::move(bytes);
    return {};
  }

  base::Status ReadAdded() {
    const json& added = Member(root_, "added_tokens");
    if (added.is_null()) return {};
    if (!added.is_array()) return Error("added_tokens: not an array");
    for (const json& entry : added) {
      const std::string content = TextOr(Member(entry, "content"), "");
      HF_ASSIGN_OR_RETURN(const int32_t id, ReadId(Member(entry, "id"), content));
      for (const char* key : {"single_word", "lstrip", "rstrip"}) {
        if (!IsOff(Member(entry, key)))
          return Error("added token '" + content + "': " + key + " is not supported");
      }
      HF_RETURN_IF_ERROR(SetBytes(id, content));
      if (!added_ids_.try_emplace(content, id).second)
        return Error("added token '" + content + "' occurs twice");
      file_.added.push_back({id, content, !IsOff(Member(entry, "special"))});
    }
    return {};
  }

  base::Status ReadVocab() {
    const json& vocab = Member(Member(root_, "model"), "vocab");
    if (!vocab.is_object()) return Error("model.vocab: not an object");
    for (const auto& [token, value] : vocab.items()) {
      HF_ASSIGN_OR_RETURN(const int32_t id, ReadId(value, token));
      if (const auto added = added_ids_.find(token); added != added_ids_.end()) {
        if (added->second == id) continue;  // listed in both places
        return Error("added token '" + token + "' has another id in model.vocab");
      }
      const base::StatusOr<std::string> bytes = BytesOfToken(token);
      if (!bytes.ok()) return Error("token '" + token + "': " + base::Message(bytes.status()));
      HF_RETURN_IF_ERROR(SetBytes(id, *bytes));
      ids_.try_emplace(*bytes, id);
    }
    return {};
  }

  base::Status CheckBytes() {
    for (int b = 0; b < 256; ++b) {
      const auto found = ids_.find(std::string(1, static_cast<char>(b)));
      if (found == ids_.end()) return Error("model.vocab: byte " + std::to_string(b) + " has no token");
      file_.byte_ids[b] = found->second;
    }
    return {};
  }

  base::Status ReadMerges() {
    const json& merges = Member(Member(root_, "model"), "merges");
    if (!merges.is_array()) return Error("model.merges: not an array");
    if (merges.size() > static_cast<size_t>(TokenizerFile::kMaxIds)) return Error("model.merges: too many");
    for (const json& merge : merges) {
      const base::Status status = ReadMerge(merge);
      if (!status.ok())
        return Error("merge " + std::to_string(file_.merges.size()) + ": " + base::Message(status));
    }
    return {};
  }

  // A merge is "left right" or ["left", "right"].
  base::Status ReadMerge(const json& merge) {
    std::string left, right;
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space == std::string::npos) return base::InvalidArgument("has no space");
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2) {
      left = TextOr(merge[0], "");
      right = TextOr(merge[1], "");
    } else {
      return base::InvalidArgument("neither a string nor a pair");
    }
    HF_ASSIGN_OR_RETURN(const std::string left_bytes, BytesOfToken(left));
    HF_ASSIGN_OR_RETURN(const std::string right_bytes, BytesOfToken(right));
    const auto left_id = ids_.find(left_bytes), right_id = ids_.find(right_bytes),
               result = ids_.find(left_bytes + right_bytes);
    if (left_id == ids_.end() || right_id == ids_.end() || result == ids_.end()) {
      return base::InvalidArgument("'" + left + "' and '" + right +
                                   "' or what they make is not in the vocab");
    }
    file_.merges.push_back({left_id->second, right_id->second, result->second});
    return {};
  }

  const json& root_;
  TokenizerFile file_;
  absl::flat_hash_map<std::string, int32_t> added_ids_;
  absl::flat_hash_map<std::string, int32_t> ids_;  // of ordinary tokens, by their bytes
};

}  // namespace

base::StatusOr<TokenizerFile> ParseTokenizerJson(std::string_view text) {
  const json root = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return Error("not valid JSON");
  return Reader(root).Read();
}

}  // namespace holdfast::model
