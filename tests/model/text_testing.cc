#include "tests/model/text_testing.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/check.h"
#include "model/text/utf8.h"

namespace holdfast::model {
namespace {

// The table character of a byte, as the byte-level scheme defines it.
std::string ByteCharacter(uint8_t byte) {
  const auto stands_for_itself = [](uint32_t b) {
    return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
  };
  uint32_t character = byte;
  if (!stands_for_itself(byte)) {
    character = 0x100;
    for (uint32_t b = 0; b < byte; ++b) character += stands_for_itself(b) ? 0 : 1;
  }
  std::string text;
  AppendUtf8(character, &text);
  return text;
}

std::string TokenText(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) text += ByteCharacter(static_cast<uint8_t>(c));
  return text;
}

nlohmann::json Split(const std::string& regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

}  // namespace

std::string MakeTokenizerJson(const std::vector<BytePair>& merges, const std::vector<std::string>& added) {
  nlohmann::json vocab = nlohmann::json::object(), merge_list = nlohmann::json::array(),
                 added_list = nlohmann::json::array();
  int32_t next = 0;
  for (const std::string& content : added) {
    added_list.push_back({{"id", next++}, {"content", content}, {"special", true}});
  }
  for (int b = 0; b < 256; ++b) vocab[ByteCharacter(static_cast<uint8_t>(b))] = next++;
  for (const auto& [left, right] : merges) {
    if (const std::string result = TokenText(left + right); !vocab.contains(result)) vocab[result] = next++;
    merge_list.push_back(TokenText(left) + " " + TokenText(right));
  }
  const nlohmann::json root = {
      {"normalizer", {{"type", "Sequence"}, {"normalizers", nlohmann::json::array()}}},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {Split(R"(\p{N}{1,3})"),
          Split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
          Split("[!\"#$%&'()*+,\\-./"
                ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
                " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"),
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}},
      {"added_tokens", added_list},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merge_list}}}};
  return root.dump();
}

std::vector<BytePair> MergesOfWords(const std::vector<std::string>& words) {
  std::vector<BytePair> merges;
  std::set<std::string> made;
  for (const std::string& word : words) {
    for (size_t length = 2; length <= word.size(); ++length) {
      if (!made.insert(word.substr(0, length)).second) continue;
      merges.emplace_back(word.substr(0, length - 1), word.substr(length - 1, 1));
    }
  }
  return merges;
}

std::vector<std::string> ChatTokens() {
  return {"<｜begin▁of▁sentence｜>",
          "<｜end▁of▁sentence｜>",
          "<｜▁pad▁｜>",
          "<｜User｜>",
          "<｜Assistant｜>",
          "<think>",
          "</think>",
          "｜DSML｜",
          "<｜latest_reminder｜>",
          "<｜action｜>",
          "<｜query｜>",
          "<｜authority｜>",
          "<｜domain｜>",
          "<｜title｜>",
          "<｜extracted_url｜>",
          "<｜read_url｜>"};
}

const Tokenizer& SmallTokenizer() {
  static const auto tokenizer = [] {
    const std::vector<BytePair> merges = MergesOfWords({"\n\n<",
                                                        ">\n<",
                                                        "\">\n<",
                                                        "\">\n\n</",
                                                        "\"></",
                                                        "</",
                                                        "tool_calls>\n",
                                                        "invoke name=\"",
                                                        "invoke>\n",
                                                        "parameter name=\"",
                                                        "parameter>\n",
                                                        " string=\"true\">",
                                                        "false\">",
                                                        "\": \"",
                                                        "\", \"",
                                                        "\"}",
                                                        "\"]",
                                                        "}, {",
                                                        ", ",
                                                        ": ",
                                                        "the ",
                                                        "你好",
                                                        "é",
                                                        "12",
                                                        "345",
                                                        "path",
                                                        "\\n",
                                                        "\\\"",
                                                        "]]",
                                                        "}}",
                                                        "\"}]</",
                                                        "read",
                                                        "write",
                                                        "content",
                                                        "null",
                                                        "celsius"});
    auto made = Tokenizer::FromJson(MakeTokenizerJson(merges, ChatTokens()));
    HF_CHECK(made.ok());
    return std::move(*made);
  }();
  return *tokenizer;
}

std::optional<std::string> GoldenDir() {
  const char* set = std::getenv("HOLDFAST_GOLDEN_DIR");
  const std::string dir = set != nullptr ? set : HOLDFAST_SOURCE_DIR "/../shared/golden";
  if (!std::filesystem::is_directory(dir + "/encoding")) return std::nullopt;
  return dir;
}

const Tokenizer* GoldenTokenizer() {
  if (!GoldenDir()) return nullptr;
  static const auto tokenizer = [] {
    auto loaded = Tokenizer::FromJson(ReadWhole(*GoldenDir() + "/tokenizer/tokenizer.json"));
    HF_CHECK(loaded.ok());
    return std::move(*loaded);
  }();
  return tokenizer.get();
}

std::string ReadWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  HF_CHECK(file.good());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string> ReadLines(const std::string& path) {
  std::istringstream text(ReadWhole(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

}  // namespace holdfast::model
