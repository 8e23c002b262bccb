// What the tests of tokenizer and chat encoding share: a small tokenizer made in memory, and the golden data.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/tokenizer.h"

namespace holdfast::model {

// A merge as its two sides, in bytes.
using BytePair = std::pair<std::string, std::string>;

// The tokenizer.json of a vocabulary of the 256 bytes, the tokens that `merges` make, and `added`. Ids: added
// tokens 0 and up, then bytes in order, then merges in order. The split patterns are the family's.
std::string MakeTokenizerJson(const std::vector<BytePair>& merges, const std::vector<std::string>& added);

// Merges that build each word from its bytes, left to right.
std::vector<BytePair> MergesOfWords(const std::vector<std::string>& words);

// The control tokens of the chat format.
std::vector<std::string> ChatTokens();

// A tokenizer of about 500 tokens: bytes, chat tokens, and words of the markup, among them many that span its
// borders (`">\n<`, `\n\n<`).
const Tokenizer& SmallTokenizer();

// The golden directory beside the source tree, or $HOLDFAST_GOLDEN_DIR; nullopt when it is not there.
std::optional<std::string> GoldenDir();

// The official tokenizer of the golden data; null when that is not present.
const Tokenizer* GoldenTokenizer();

// The lines of a file; CHECKs that it can be read.
std::vector<std::string> ReadLines(const std::string& path);
std::string ReadWhole(const std::string& path);

}  // namespace holdfast::model

// Leaves a test whose data is not on this machine.
#define HF_SKIP_WITHOUT_GOLDEN() \
  if (!::holdfast::model::GoldenDir()) GTEST_SKIP() << "golden data not present"
