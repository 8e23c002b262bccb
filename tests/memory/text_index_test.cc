#include "memory/text_index.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/coding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/memory/sqlite_testing.h"
#include "tests/support/seeded_random.h"

namespace holdfast::memory {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class TextIndexTest : public ::testing::Test {
 protected:
  void SetUp() override {
    world_.options.wal_bytes_max = 16 << 20;  // a large document is one transaction
    ASSERT_TRUE(world_.Open({kPairs1, TextIndex::kSchema}).ok());
    auto index = TextIndex::Make(*world_.database);
    ASSERT_TRUE(index.ok()) << index.status();
    index_ = *std::move(index);
  }
  void Put(const std::string& id, const std::string& text, const std::string& kind = "note",
           const std::string& scope = "s1") {
    auto transaction = SqliteTransaction::Begin(*world_.database);
    ASSERT_TRUE(transaction.ok());
    const base::Status put = index_->Put({.scope = scope, .kind = kind, .id = id, .text = text});
    ASSERT_TRUE(put.ok()) << put;
    ASSERT_TRUE(transaction->Commit().ok());
  }
  std::vector<TextHit> Search(const TextQuery& query) {
    const auto hits = TextIndex::Search(world_.database->writer(), query);
    EXPECT_TRUE(hits.ok()) << hits.status();
    return hits.value_or(std::vector<TextHit>());
  }
  std::vector<std::string> Ids(const std::string& text) {
    std::vector<std::string> ids;
    for (const TextHit& hit : Search({.text = text, .hits_max = 100})) ids.push_back(hit.id);
    return ids;
  }

  SqliteWorld world_;
  std::unique_ptr<TextIndex> index_;
};

TEST_F(TextIndexTest, FindsWordsPhrasesAndBeginnings) {
  Put("1", "The lease has a generation number.");
  Put("2", "A number of generations; no LEASE here? One.");
  Put("3", "Caf\xC3\xA9 au lait");
  EXPECT_THAT(Ids("lease"), UnorderedElementsAre("1", "2"));
  EXPECT_THAT(Ids("lease number"), UnorderedElementsAre("1", "2"));
  EXPECT_THAT(Ids("\"generation number\""), ElementsAre("1"));
  EXPECT_THAT(Ids("gener*"), UnorderedElementsAre("1", "2"));
  EXPECT_THAT(Ids("gen*"), UnorderedElementsAre("1", "2"));
  EXPECT_THAT(Ids("ge*"), IsEmpty());  // too short for a beginning
  EXPECT_THAT(Ids("cafe"), ElementsAre("3"));
  EXPECT_THAT(Ids("absent"), IsEmpty());
}

TEST_F(TextIndexTest, WhenNothingHasAllWordsThoseWithSomeAreGiven) {
  Put("1", "apples and pears");
  Put("2", "pears and plums");
  const auto hits = Search({.text = "apples plums"});
  ASSERT_EQ(hits.size(), 2u);
  EXPECT_FALSE(hits[0].has_all);
  EXPECT_TRUE(Search({.text = "pears plums"}).at(0).has_all);
}

TEST_F(TextIndexTest, CodeIsFoundByItsWords) {
  Put("1", "void workspace::Tree::OpenFile(const std::string& path_name);");
  Put("2", "path of the name");
  EXPECT_THAT(Ids("Tree::OpenFile(const"), ElementsAre("1"));
  EXPECT_THAT(Ids("path_name"), ElementsAre("1"));
  EXPECT_THAT(Ids("std::string&"), ElementsAre("1"));
}

// Nothing can be wrong with a query.
TEST_F(TextIndexTest, SpecialCharactersAreSafe) {
  Put("1", "AND OR NOT NEAR text: col - ^ + { } ( ) * \" ' ; -- x");
  for (const std::string& query : std::vector<std::string>{"",
                                                           " ",
                                                           "*",
                                                           "\"",
                                                           "\"\"",
                                                           "\"\"\"",
                                                           "AND",
                                                           "OR OR",
                                                           "NOT",
                                                           "NEAR(a b, 5)",
                                                           "text:x",
                                                           "rank:x",
                                                           "^x",
                                                           "x^",
                                                           "-x",
                                                           "x-",
                                                           "+",
                                                           "a + b",
                                                           "{x}",
                                                           "(x",
                                                           "x)",
                                                           "((((",
                                                           "'",
                                                           "';--",
                                                           "\"unclosed phrase",
                                                           "* x *",
                                                           "x**",
                                                           "\\",
                                                           std::string("a\0b", 3),
                                                           "\xff\xfe",
                                                           "\xC3",
                                                           std::string(10'000, '"'),
                                                           std::string(10'000, '('),
                                                           std::string(10'000, 'x'),
                                                           "%_",
                                                           "x\" OR \"y",
                                                           "text_search",
                                                           "?1 :a @b $c"}) {
    EXPECT_TRUE(TextIndex::Search(world_.database->writer(), {.text = query}).ok()) << query;
  }
  EXPECT_THAT(Ids("x\" AND \""), ElementsAre("1"));
  EXPECT_THAT(Ids("text:x"), IsEmpty());  // words in this order, and they are not
}

TEST_F(TextIndexTest, AnyBytesAreSafe) {
  for (uint64_t seed : test::TestSeeds(40)) {
    test::SeededRandom random(seed);
    std::string text, query;
    for (uint64_t i = random.Below(200); i > 0; --i) text += static_cast<char>(random.Next());
    for (uint64_t i = random.Below(60); i > 0; --i) query += "\"*a b()^:-+\n\x80\xE2\xFF"[random.Below(15)];
    Put(std::to_string(seed), text);
    for (const std::string& q : {query, text}) {
      const auto hits = TextIndex::Search(world_.database->writer(), {.text = q, .snippet_bytes_max = 40});
      ASSERT_TRUE(hits.ok()) << "HOLDFAST_TEST_SEED=" << seed << ": " << hits.status();
      for (const TextHit& hit : *hits) ASSERT_LE(hit.snippet.size(), 40u);
    }
  }
  EXPECT_TRUE(index_->CheckIntegrity().ok());
}

TEST_F(TextIndexTest, ScopeAndKindNarrow) {
  Put("1", "word", "note", "s1");
  Put("2", "word", "result", "s1");
  Put("3", "word", "note", "s2");
  EXPECT_EQ(Search({.text = "word"}).size(), 3u);
  EXPECT_EQ(Search({.text = "word", .scope = "s1"}).size(), 2u);
  EXPECT_EQ(Search({.text = "word", .scope = "s1", .kind = "note"}).at(0).id, "1");
  EXPECT_THAT(Search({.text = "word", .scope = "s3"}), IsEmpty());
  EXPECT_EQ(Search({.text = "word", .hits_max = 2}).size(), 2u);
}

TEST_F(TextIndexTest, SnippetsAreBoundedAndShowWhatWasFound) {
  std::string text(50'000, 'y');  // one long word
  text += " before\nthe\x1b[31m needle\tand after ";
  for (int i = 0; i < 1000; ++i) text += "more \xE2\x82\xAC ";
  Put("1", text);
  for (const size_t bytes : {16u, 17u, 40u, 240u, 4096u}) {
    const auto hits = Search({.text = "needle", .snippet_bytes_max = bytes});
    ASSERT_EQ(hits.size(), 1u);
    EXPECT_LE(hits[0].snippet.size(), bytes);
    EXPECT_THAT(hits[0].snippet, HasSubstr("needle"));
    EXPECT_EQ(hits[0].snippet.find_first_of("\n\t\x1b\x01"), std::string::npos);
    EXPECT_EQ(hits[0].text_bytes, text.size());
  }
}

TEST_F(TextIndexTest, SnippetsSayWhereTheyAreCut) {
  std::string words;
  for (int i = 0; i < 200; ++i) words += "filler ";
  Put("1", "needle " + words);
  Put("2", words + "needle");
  Put("3", words + "needle " + words);
  Put("4", "a needle");
  std::map<std::string, std::pair<bool, bool>> cuts;
  for (const TextHit& hit : Search({.text = "needle"})) cuts[hit.id] = {hit.cut_before, hit.cut_after};
  EXPECT_EQ(cuts["1"], std::pair(false, true));
  EXPECT_EQ(cuts["2"], std::pair(true, false));
  EXPECT_EQ(cuts["3"], std::pair(true, true));
  EXPECT_EQ(cuts["4"], std::pair(false, false));
}

TEST_F(TextIndexTest, NamesOfScopesAndKindsAreNoWordsOfTheText) {
  Put("1", "text", "note", "a-b");
  Put("2", "text", "note", "x a-b y");
  EXPECT_THAT(Ids("note"), IsEmpty());
  EXPECT_THAT(Ids("s612d62"), IsEmpty());
  EXPECT_EQ(Search({.text = "text", .scope = "a-b"}).size(), 1u);
  EXPECT_THAT(Search({.text = "text", .scope = "A-B"}), IsEmpty());
}

TEST_F(TextIndexTest, OfVeryManyMatchesTheNewestAreRanked) {
  auto transaction = SqliteTransaction::Begin(*world_.database);
  for (int i = 0; i < 5002; ++i) {
    const bool best = i == 1 || i == 2;  // by relevance; the first of them is one too old
    ASSERT_TRUE(index_->Put({"s1", "note", std::to_string(i), best ? "w w" : "w and others"}).ok());
  }
  ASSERT_TRUE(transaction->Commit().ok());
  const auto hits = Search({.text = "w", .scope = "s1", .hits_max = 2});
  ASSERT_EQ(hits.size(), 2u);
  EXPECT_EQ(hits[0].id, "2");
  EXPECT_EQ(hits[1].id, "3");
}

TEST_F(TextIndexTest, CutAroundKeepsCharactersWhole) {
  const std::string euros = "\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC";
  for (size_t at = 0; at <= euros.size(); ++at) {
    for (size_t bytes = 0; bytes < 14; ++bytes) {
      const CutText around = CutAround(euros, at, bytes);
      const std::string& cut = around.line;
      EXPECT_EQ(around.cut_before || around.cut_after, cut.size() < euros.size());
      EXPECT_LE(cut.size(), bytes);
      EXPECT_EQ(cut.size() % 3, 0u);
      EXPECT_TRUE(euros.starts_with(cut));
    }
  }
  EXPECT_EQ(CutAround("a\xff\xC0\xAF\xED\xA0\x80z", 0, 100).line, "a??????z");
  EXPECT_EQ(CutAround("", 0, 10).line, "");
}

TEST_F(TextIndexTest, DocumentsAreReplacedAndRemoved) {
  Put("1", "first");
  Put("1", "second");
  EXPECT_THAT(Ids("first"), IsEmpty());
  EXPECT_THAT(Ids("second"), ElementsAre("1"));
  EXPECT_EQ(*TextIndex::Get(world_.database->writer(), "s1", "note", "1"), "second");
  Put("2", "second", "note", "other");
  ASSERT_TRUE(index_->RemoveScope("other").ok());
  EXPECT_THAT(Ids("second"), ElementsAre("1"));
  ASSERT_TRUE(index_->Remove("s1", "note", "1").ok());
  ASSERT_TRUE(index_->Remove("s1", "note", "1").ok());
  EXPECT_TRUE(absl::IsNotFound(TextIndex::Get(world_.database->writer(), "s1", "note", "1").status()));
  EXPECT_TRUE(index_->CheckIntegrity().ok());
}

TEST_F(TextIndexTest, ATransactionThatIsRolledBackLeavesNothing) {
  {
    auto transaction = SqliteTransaction::Begin(*world_.database);
    ASSERT_TRUE(index_->Put({.scope = "s", .kind = "k", .id = "1", .text = "ghost"}).ok());
  }
  EXPECT_THAT(Ids("ghost"), IsEmpty());
  EXPECT_TRUE(index_->CheckIntegrity().ok());
}

TEST_F(TextIndexTest, OfALongTextTheBeginningCounts) {
  std::string text = "start ";
  while (text.size() < TextIndex::kTextBytesMax + 100) text += "word ";
  Put("1", text + "needle");
  EXPECT_THAT(Ids("start"), ElementsAre("1"));
  EXPECT_THAT(Ids("needle"), IsEmpty());
}

TEST_F(TextIndexTest, BoundsAreChecked) {
  for (const TextQuery& bad : {TextQuery{.text = "x", .hits_max = 0},
                               {.text = "x", .hits_max = 101},
                               {.text = "x", .snippet_bytes_max = 15},
                               {.text = "x", .snippet_bytes_max = 4097}})
    EXPECT_TRUE(absl::IsInvalidArgument(TextIndex::Search(world_.database->writer(), bad).status()));
}

TEST_F(TextIndexTest, AMissingSchemaIsSaid) {
  index_.reset();
  SqliteWorld other;
  ASSERT_TRUE(other.Open().ok());
  EXPECT_TRUE(absl::IsInternal(TextIndex::Make(*other.database).status()));
}

TEST_F(TextIndexTest, ReadersSearchAndRebuildChangesNothing) {
  Put("1", "needle");
  const auto reader = world_.database->OpenReader();
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(TextIndex::Search(**reader, {.text = "needle"})->size(), 1u);
  ASSERT_TRUE(index_->Rebuild().ok());
  EXPECT_EQ(TextIndex::Search(**reader, {.text = "needle"})->size(), 1u);
  EXPECT_TRUE(index_->CheckIntegrity().ok());
}

// Against a naive model: sets of words.
TEST_F(TextIndexTest, FindsExactlyTheDocumentsThatHaveAllWords) {
  for (const uint64_t seed : test::TestSeeds(8)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    ASSERT_TRUE(index_->RemoveScope("s1").ok());
    std::map<std::string, std::set<std::string>> model;
    const auto word = [&] { return "w" + std::to_string(random.Below(12)); };
    for (int step = 0; step < 120; ++step) {
      const std::string id = std::to_string(random.Below(20));
      if (random.Percent(20)) {
        ASSERT_TRUE(index_->Remove("s1", "note", id).ok());
        model.erase(id);
      } else if (random.Percent(50)) {
        std::set<std::string> words;
        std::string text;
        for (uint64_t i = random.Below(6); i > 0; --i) text += *words.insert(word()).first + ", ";
        Put(id, text);
        model[id] = words;
      } else {
        const std::string a = word(), b = word();
        std::set<std::string> expected, found;
        for (const auto& [name, words] : model)
          if (words.contains(a) && words.contains(b)) expected.insert(name);
        for (const TextHit& hit : Search({.text = a + " " + b, .hits_max = 100}))
          if (hit.has_all) found.insert(hit.id);
        ASSERT_EQ(found, expected);
      }
    }
    ASSERT_TRUE(index_->CheckIntegrity().ok());
  }
}

}  // namespace
}  // namespace holdfast::memory
