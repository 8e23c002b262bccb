#include "tools/search/ripgrep.h"

#include <map>
#include <string>
#include <vector>

#include "base/coding.h"
#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"

namespace holdfast::tools {
namespace {

// Hands over `text` in pieces.
void Feed(sandbox::OutputSink& sink, std::string_view text, test::SeededRandom& random) {
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, 1 + random.Below(30));
    ASSERT_TRUE(sink.Append(base::AsBytes(piece)).ok());
    text.remove_prefix(piece.size());
  }
  ASSERT_TRUE(sink.Finish({}, 0).ok());
}

TEST(RipgrepTest, PathsThatSortFirstAreKeptAndAllAreCounted) {
  for (const uint64_t seed : test::TestSeeds(300)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::map<std::string, uint64_t> files;
    for (uint64_t n = random.Below(40); n > 0; --n) {
      std::string name;
      for (uint64_t m = 1 + random.Below(6); m > 0; --m) name += "ab\n:/\xFF 1"[random.Below(8)];
      files["x" + name] = random.Below(1000) + 1;
    }
    std::string text;
    uint64_t hits = 0;
    for (auto it = files.rbegin(); it != files.rend(); ++it) {
      text += "./" + it->first + std::string(1, '\0') + std::to_string(it->second) + "\n";
      hits += it->second;
    }
    PathCollector collector(PathCollector::Records::kCounts, {.files_max = 5}, nullptr);
    Feed(collector, text, random);
    EXPECT_EQ(collector.files(), files.size());
    EXPECT_EQ(collector.hits(), hits);
    ASSERT_EQ(collector.kept().size(), std::min<size_t>(files.size(), 5));
    auto want = files.begin();
    for (const FileHits& kept : collector.kept()) {
      EXPECT_EQ(kept.path, want->first);
      EXPECT_EQ(kept.count, (want++)->second);
    }
  }
}

TEST(RipgrepTest, MemoryOfPathsIsBounded) {
  test::SeededRandom random(1);
  PathCollector collector(PathCollector::Records::kPaths, {.files_max = 1000, .bytes_max = 100}, nullptr);
  std::string text;
  for (char c = 'z'; c >= 'a'; --c) text += std::string(30, c) + std::string(1, '\0');
  Feed(collector, text, random);
  EXPECT_EQ(collector.files(), 26u);
  EXPECT_EQ(collector.kept().size(), 3u);
  EXPECT_EQ(collector.kept().begin()->path, std::string(30, 'a'));
}

TEST(RipgrepTest, FilterLeavesOutAndDoesNotCount) {
  test::SeededRandom random(1);
  PathCollector collector(PathCollector::Records::kPaths, {.files_max = 10},
                          [](std::string_view path) { return path.ends_with(".h"); });
  Feed(collector, std::string("./a.h\0./b.c\0", 12), random);
  EXPECT_EQ(collector.files(), 1u);
}

TEST(RipgrepTest, LinesOfOddNamesAndTextsAreToldApart) {
  for (const uint64_t seed : test::TestSeeds(300)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::vector<HitLine> want;
    std::string text;
    for (uint64_t n = random.Below(10); n > 0; --n) {
      HitLine line{.path = "n\n1:a", .line = 1 + random.Below(500), .context = random.Percent(40)};
      for (uint64_t m = random.Below(14); m > 0; --m) line.text += std::string(":-\0 a1", 6)[random.Below(6)];
      text += "./" + line.path + std::string(1, '\0') + std::to_string(line.line) +
              (line.context ? "-" : ":") + line.text + "\n";
      if (line.text.size() > 10) {
        line.left_bytes = line.text.size() - 10;
        line.left_blank = line.text.find_first_not_of(' ', 10) == std::string::npos;
        line.text.resize(10);
      }
      want.push_back(line);
    }
    LineCollector collector({.lines_max = 8, .text_bytes_max = 10});
    Feed(collector, text, random);
    EXPECT_EQ(collector.complete(), want.size() <= 8);
    want.resize(std::min<size_t>(want.size(), 8));
    ASSERT_EQ(collector.lines().size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(collector.lines()[i].path, want[i].path);
      EXPECT_EQ(collector.lines()[i].line, want[i].line);
      EXPECT_EQ(collector.lines()[i].context, want[i].context);
      EXPECT_EQ(collector.lines()[i].text, want[i].text);
      EXPECT_EQ(collector.lines()[i].left_bytes, want[i].left_bytes);
      EXPECT_EQ(collector.lines()[i].left_blank, want[i].left_blank);
    }
  }
}

TEST(RipgrepTest, MessagesAreCountedAndTheFirstIsTheSameInAnyOrder) {
  test::SeededRandom random(1);
  MessageCollector one, other;
  Feed(one, "b: denied\na: denied\nc: denied\n", random);
  Feed(other, "c: denied\nb: denied\na: denied", random);
  EXPECT_EQ(one.count(), 3u);
  EXPECT_EQ(other.count(), 3u);
  EXPECT_EQ(one.first(), "a: denied");
  EXPECT_EQ(other.first(), "a: denied");
}

}  // namespace
}  // namespace holdfast::tools
