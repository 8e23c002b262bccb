#include "model/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/model/text_testing.h"

namespace holdfast::model {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<int32_t> Ids(const Tokenizer& tokenizer, std::string_view text, AddedTokens added) {
  const auto ids = tokenizer.Encode(text, added);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.value_or(std::vector<int32_t>());
}

std::string Text(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  const auto text = tokenizer.Decode(ids);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.value_or("");
}

std::unique_ptr<Tokenizer> Make(const std::vector<BytePair>& merges, const std::vector<std::string>& added) {
  auto made = Tokenizer::FromJson(MakeTokenizerJson(merges, added));
  EXPECT_TRUE(made.ok()) << made.status();
  return std::move(*made);
}

TEST(TokenizerTest, GoldenVectorsAreExactAndRoundTrip) {
  HF_SKIP_WITHOUT_GOLDEN();
  const Tokenizer& tokenizer = *GoldenTokenizer();
  EXPECT_EQ(tokenizer.vocab_size(), 129280);
  const std::vector<std::string> lines = ReadLines(*GoldenDir() + "/tokenizer/vectors.jsonl");
  EXPECT_EQ(lines.size(), 1600u);
  for (const std::string& line : lines) {
    const auto vector = nlohmann::json::parse(line);
    const auto text = vector["text"].get<std::string>();
    EXPECT_EQ(Ids(tokenizer, text, AddedTokens::kMatch), vector["ids"].get<std::vector<int32_t>>()) << text;
    EXPECT_EQ(Text(tokenizer, vector["ids"]), text);
    EXPECT_EQ(Text(tokenizer, Ids(tokenizer, text, AddedTokens::kPlain)), text);
  }
}

TEST(TokenizerTest, GoldenControlTokensHaveTheirPublishedIds) {
  HF_SKIP_WITHOUT_GOLDEN();
  const Tokenizer& tokenizer = *GoldenTokenizer();
  EXPECT_EQ(tokenizer.FindAdded("<｜begin▁of▁sentence｜>"), 0);
  EXPECT_EQ(tokenizer.FindAdded("｜DSML｜"), 128825);
  EXPECT_THAT(Ids(tokenizer, "<｜User｜>你好<｜Assistant｜><think>推理</think>答案<｜end▁of▁sentence｜>",
                  AddedTokens::kMatch),
              ElementsAre(128803, 30594, 128804, 128821, 36101, 128822, 7624, 1));
  EXPECT_TRUE(tokenizer.IsSpecial(0));
  EXPECT_TRUE(tokenizer.IsAdded(128803));
  EXPECT_FALSE(tokenizer.IsSpecial(128803));
}

TEST(TokenizerTest, AddedTokensAreMatchedOnlyWhenAsked) {
  const Tokenizer& tokenizer = SmallTokenizer();
  const std::string text = "a<think>b";
  const int32_t think = *tokenizer.FindAdded("<think>");
  EXPECT_THAT(Ids(tokenizer, text, AddedTokens::kMatch), testing::Contains(think));
  const auto plain = Ids(tokenizer, text, AddedTokens::kPlain);
  EXPECT_TRUE(std::none_of(plain.begin(), plain.end(), [&](int32_t id) { return tokenizer.IsAdded(id); }));
  EXPECT_EQ(Text(tokenizer, plain), text);
}

TEST(TokenizerTest, LeftmostLongestAddedTokenWins) {
  const auto tokenizer = Make({}, {"<a>", "<a><b>", "b><"});
  EXPECT_THAT(Ids(*tokenizer, "<a><b><a>", AddedTokens::kMatch), ElementsAre(1, 0));
  EXPECT_THAT(Ids(*tokenizer, "<a><a><b>", AddedTokens::kMatch), ElementsAre(0, 1));
  EXPECT_THAT(Ids(*tokenizer, "b><a>", AddedTokens::kMatch), ElementsAre(2, 3 + 'a', 3 + '>'));
}

TEST(TokenizerTest, LowestRankMergesFirstThenLeftmost) {
  // Rank 0 joins "bc", so "abc" is a|bc although "ab" is a token too.
  const auto tokenizer = Make({{"b", "c"}, {"a", "b"}, {"a", "a"}}, {});
  EXPECT_THAT(Ids(*tokenizer, "abc", AddedTokens::kPlain), ElementsAre('a', 256));
  EXPECT_THAT(Ids(*tokenizer, "aaa", AddedTokens::kPlain), ElementsAre(258, 'a'));
}

// The definition of the encoding, quadratic.
std::vector<std::string> NaiveBpe(const std::string& piece, const std::map<BytePair, size_t>& ranks) {
  std::vector<std::string> symbols;
  for (const char c : piece) symbols.emplace_back(1, c);
  for (;;) {
    size_t best = ranks.size(), at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = ranks.find({symbols[i], symbols[i + 1]});
      if (found != ranks.end() && found->second < best) {
        best = found->second;
        at = i;
      }
    }
    if (best == ranks.size()) return symbols;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(TokenizerTest, ShortAndLongPiecesEqualTheNaiveModel) {
  const std::vector<BytePair> merges = {{"a", "b"},  {"b", "a"},  {"a", "a"},   {"ab", "a"},
                                        {"aa", "b"}, {"c", "ab"}, {"aba", "c"}, {"ba", "ba"}};
  std::map<BytePair, size_t> ranks;
  for (size_t i = 0; i < merges.size(); ++i) ranks[merges[i]] = i;
  const auto tokenizer = Make(merges, {});
  constexpr uint32_t kSeed = 20240607;
  std::mt19937 rng(kSeed);
  for (int round = 0; round < 300; ++round) {
    std::string piece;
    for (size_t length = 1 + rng() % 120; length > 0; --length) piece.push_back("abc"[rng() % 3]);
    std::vector<std::string> got;
    for (const int32_t id : Ids(*tokenizer, piece, AddedTokens::kPlain))
      got.emplace_back(tokenizer->Bytes(id));
    EXPECT_EQ(got, NaiveBpe(piece, ranks)) << "seed " << kSeed << " round " << round << ": " << piece;
  }
}

TEST(TokenizerTest, AnyBytesRoundTrip) {
  constexpr uint32_t kSeed = 7;
  std::mt19937 rng(kSeed);
  for (int round = 0; round < 500; ++round) {
    std::string bytes;
    for (size_t length = rng() % 40; length > 0; --length) {
      bytes += rng() % 3 == 0 ? std::string("é你 ") : std::string(1, static_cast<char>(rng()));
    }
    const auto ids = Ids(SmallTokenizer(), bytes, AddedTokens::kPlain);
    EXPECT_EQ(Text(SmallTokenizer(), ids), bytes) << "seed " << kSeed << " round " << round;
  }
}

TEST(TokenizerTest, InvalidBytesDoNotChangeHowTheTextAroundThemIsCut) {
  const Tokenizer& tokenizer = SmallTokenizer();
  std::vector<int32_t> expected = Ids(tokenizer, "the 你好", AddedTokens::kPlain);
  const auto tail = Ids(tokenizer, "12 the ", AddedTokens::kPlain);
  expected.push_back(*tokenizer.FindOrdinary("\xFF"));
  expected.insert(expected.end(), tail.begin(), tail.end());
  EXPECT_EQ(Ids(tokenizer,
                "the 你好\xFF"
                "12 the ",
                AddedTokens::kPlain),
            expected);
}

TEST(TokenizerTest, MegabyteOfOneLetterOrSpaceIsNotQuadratic) {
  const auto tokenizer = Make({{"a", "a"}, {"aa", "aa"}, {" ", " "}, {"  ", "  "}}, {});
  for (const char c : {'a', ' ', '!', '\n', '\xFF'}) {
    const std::string text(1 << 20, c);
    EXPECT_EQ(Text(*tokenizer, Ids(*tokenizer, text, AddedTokens::kPlain)), text);
  }
}

TEST(TokenizerTest, DecodeRefusesAnIdWithoutToken) {
  EXPECT_THAT(base::Message(SmallTokenizer().Decode(std::vector<int32_t>{-1}).status()), HasSubstr("id -1"));
  EXPECT_FALSE(SmallTokenizer().Decode(std::vector<int32_t>{SmallTokenizer().vocab_size()}).ok());
}

TEST(StreamDecoderTest, NeverSplitsACharacter) {
  const auto tokenizer = Make({}, {});
  StreamDecoder decoder(*tokenizer);
  std::vector<std::string> out;
  for (const char c : std::string("a\xE4\xBD\xA0\xF0\x9F\x99\x82")) {
    out.push_back(decoder.Feed(static_cast<uint8_t>(c)).value_or("error"));
  }
  EXPECT_THAT(out, ElementsAre("a", "", "", "\xE4\xBD\xA0", "", "", "", "\xF0\x9F\x99\x82"));
  EXPECT_EQ(decoder.Finish(), "");
}

TEST(StreamDecoderTest, InvalidBytesBecomeReplacementCharacters) {
  const auto tokenizer = Make({}, {});
  StreamDecoder decoder(*tokenizer);
  std::string out;
  // A lead byte cut off by a letter, a lone continuation byte, an overlong form, an unfinished end.
  for (const char c : std::string("\xE4\xBDz\x80\xC0\xAF\xF0\x9F"))
    out += *decoder.Feed(static_cast<uint8_t>(c));
  EXPECT_EQ(out, "\uFFFDz\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(decoder.Finish(), "\uFFFD");
  EXPECT_FALSE(decoder.Feed(9999).ok());
}

struct BadFile {
  const char* pointer;  // where in the small file
  nlohmann::json value;
  const char* message;
};

TEST(TokenizerJsonTest, SaysWhatIsWrong) {
  const auto good = nlohmann::json::parse(MakeTokenizerJson({{"a", "b"}}, {"<x>"}));
  const std::vector<BadFile> cases = {
      {"/model/type", "Unigram", "model.type"},
      {"/model/byte_fallback", true, "model.byte_fallback"},
      {"/model/vocab/!", -1, "its id is not an integer"},
      {"/model/vocab/!", 1 << 20, "its id is not an integer"},
      {"/model/vocab/!", "0", "its id is not an integer"},
      {"/model/vocab/!", 0, "used twice"},
      {"/model/vocab/€", 300, "byte-level table"},
      {"/model/vocab", nlohmann::json::array(), "model.vocab"},
      {"/model/vocab", nlohmann::json::object(), "has no token"},
      {"/model/merges", 1, "model.merges"},
      {"/model/merges/0", "ab", "merge 0"},
      {"/model/merges/0", "a zz", "merge 0"},
      {"/model/merges/0", {"b", "a"}, "merge 0"},
      {"/normalizer", {{"type", "NFC"}}, "normalizer"},
      {"/pre_tokenizer", nullptr, "pre_tokenizer"},
      {"/pre_tokenizer/pretokenizers/0/behavior", "Removed", "Isolated"},
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "(", "split pattern"},
      {"/pre_tokenizer/pretokenizers/3/use_regex", true, "use_regex"},
      {"/added_tokens/0/lstrip", true, "lstrip"},
      {"/added_tokens/0/content", "", "length"},
      {"/added_tokens/0/id", 1, "used twice"},
  };
  for (const BadFile& bad : cases) {
    auto file = good;
    file[nlohmann::json::json_pointer(bad.pointer)] = bad.value;
    const auto made = Tokenizer::FromJson(file.dump());
    ASSERT_FALSE(made.ok()) << bad.pointer;
    EXPECT_THAT(base::Message(made.status()), HasSubstr(bad.message)) << bad.pointer;
  }
  EXPECT_FALSE(Tokenizer::FromJson("{").ok());
  EXPECT_FALSE(Tokenizer::FromJson("[]").ok());
}

TEST(TokenizerJsonTest, RunawayPatternIsAnErrorNotAHang) {
  auto file = nlohmann::json::parse(MakeTokenizerJson({}, {}));
  file["/pre_tokenizer/pretokenizers/0/pattern/Regex"_json_pointer] = "(a+)+[bc]";
  const auto tokenizer = Tokenizer::FromJson(file.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto ids = (*tokenizer)->Encode(std::string(100, 'a'), AddedTokens::kPlain);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kResourceExhausted) << ids.status();
}

TEST(TokenizerJsonTest, MergesMayBePairsOrStrings) {
  auto file = nlohmann::json::parse(MakeTokenizerJson({{"a", "b"}}, {}));
  file["model"]["merges"][0] = {"a", "b"};
  const auto tokenizer = Tokenizer::FromJson(file.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(Ids(**tokenizer, "ab", AddedTokens::kPlain), ElementsAre(256));
}

TEST(TokenizerTest, LoadNamesThePath) {
  const auto loaded = Tokenizer::Load(base::RealFileSystem(), "/nonexistent/tokenizer.json");
  EXPECT_THAT(base::Message(loaded.status()), HasSubstr("/nonexistent/tokenizer.json"));
}

}  // namespace
}  // namespace holdfast::model
