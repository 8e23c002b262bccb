#include "tools/mcp/line_splitter.h"

#include <vector>

#include "gmock/gmock.h"
#include "tests/support/seeded_random.h"

namespace holdfast::tools::mcp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Split {
  std::vector<std::string> lines;
  bool whole = true;
};

Split Feed(LineSplitter& splitter, std::string_view bytes) {
  Split split;
  split.whole = splitter.Feed(bytes, [&](std::string line) { split.lines.push_back(std::move(line)); });
  return split;
}

TEST(LineSplitterTest, LinesAreCutAtNewlinesWhateverThePieces) {
  LineSplitter splitter(100);
  EXPECT_THAT(Feed(splitter, "ab").lines, IsEmpty());
  EXPECT_THAT(Feed(splitter, "c\n\nde\nf").lines, ElementsAre("abc", "", "de"));
  EXPECT_EQ(splitter.Rest(), "f");
  EXPECT_EQ(splitter.Rest(), "");
}

TEST(LineSplitterTest, LineOfTheBoundIsTakenAndALongerOneEndsIt) {
  LineSplitter splitter(3);
  EXPECT_THAT(Feed(splitter, "abc\n").lines, ElementsAre("abc"));
  const Split split = Feed(splitter, "x\nabcd");
  EXPECT_THAT(split.lines, ElementsAre("x"));
  EXPECT_FALSE(split.whole);
  EXPECT_FALSE(Feed(splitter, "\nafter\n").whole);
  EXPECT_THAT(Feed(splitter, "\nafter\n").lines, IsEmpty());
  EXPECT_EQ(splitter.Rest(), "");
}

TEST(LineSplitterTest, AgreesWithSplittingTheWhole) {
  for (const uint64_t seed : test::TestSeeds(200)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    std::string all;
    for (uint64_t i = random.Below(200); i > 0; --i) all += random.Percent(20) ? '\n' : 'x';
    constexpr size_t kMax = 12;
    std::vector<std::string> expected(1);
    bool whole = true;
    for (const char c : all) {
      if (c == '\n') {
        expected.emplace_back();
      } else {
        expected.back() += c;
      }
      if (expected.back().size() > kMax) {
        whole = false;
        break;
      }
    }
    const std::string rest = whole ? expected.back() : "";
    expected.pop_back();
    LineSplitter splitter(kMax);
    std::vector<std::string> lines;
    bool still_whole = true;
    for (size_t at = 0; at < all.size();) {
      const size_t count = random.Below(20) + 1;
      const Split split = Feed(splitter, std::string_view(all).substr(at, count));
      lines.insert(lines.end(), split.lines.begin(), split.lines.end());
      still_whole = split.whole;
      at += count;
    }
    EXPECT_EQ(lines, expected);
    EXPECT_EQ(still_whole, whole);
    EXPECT_EQ(splitter.Rest(), rest);
  }
}

}  // namespace
}  // namespace holdfast::tools::mcp
