#include "cli/speech.h"

#include "gtest/gtest.h"

namespace holdfast::cli {
namespace {

// All that is shown of a turn whose text comes in these pieces.
std::string Shown(const std::vector<std::string>& pieces) {
  SpeechFilter filter;
  std::string shown;
  for (const std::string& piece : pieces) shown += filter.Add(piece);
  return shown + filter.End();
}

TEST(SpeechFilter, CallsAreNotShown) {
  EXPECT_EQ(Shown({"I look.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"grep\">"}), "I look.\n\n");
}

TEST(SpeechFilter, AnySplitShowsTheSame) {
  const std::string text = "a < b, f(</think>é)\n<｜end▁of▁sentence｜>hidden";
  for (size_t i = 0; i <= text.size(); ++i) {
    for (size_t k = i; k <= text.size(); ++k) {
      EXPECT_EQ(Shown({text.substr(0, i), text.substr(i, k - i), text.substr(k)}), "a < b, f(\né)\n")
          << i << " " << k;
    }
  }
}

TEST(SpeechFilter, NextTurnIsShownAgain) {
  SpeechFilter filter;
  EXPECT_EQ(filter.Add("one<｜x｜>two"), "one");
  EXPECT_EQ(filter.End(), "");
  EXPECT_EQ(filter.Add("three"), "three");
}

TEST(SpeechFilter, SkippedTurnEndsWithTheTurn) {
  SpeechFilter filter;
  filter.SkipTurn();
  EXPECT_EQ(filter.Add("=\"old\">x</"), "");
  EXPECT_EQ(filter.End(), "");
  EXPECT_EQ(filter.Add("Done."), "Done.");
}

TEST(SpeechFilter, ControlCharactersNeverPassEvenInPieces) {
  EXPECT_EQ(Shown({"a\033[31mb\xc2",
                   "\x9b"
                   "31mc"}),
            "a[31mb31mc");
}

TEST(SpeechFilter, HalfACharacterAtTheEndIsLeftOut) { EXPECT_EQ(Shown({"a\xe4\xbd"}), "a"); }

TEST(LiveText, DurableTextThatWasSeenLiveIsNotShownAgain) {
  LiveText live;
  bool differs = false;
  EXPECT_EQ(live.AddLive(10, 2, "he"), "he");
  EXPECT_EQ(live.AddLive(12, 1, "y"), "y");
  EXPECT_EQ(live.AddDurable(10, 2, "he", differs), "");
  EXPECT_EQ(live.AddDurable(12, 3, "you", differs), "ou");
  EXPECT_FALSE(differs);
}

TEST(LiveText, LiveTextThatIsOlderThanWhatIsDurableIsNotShown) {
  LiveText live;
  bool differs = false;
  EXPECT_EQ(live.AddDurable(10, 4, "four", differs), "four");
  EXPECT_EQ(live.AddLive(12, 2, "ur"), "");
  EXPECT_EQ(live.AddLive(14, 1, "!"), "!");
}

TEST(LiveText, DurableTextThatIsAnotherIsShownWhole) {
  LiveText live;
  bool differs = false;
  live.AddLive(10, 1, "cat");
  EXPECT_EQ(live.AddDurable(10, 1, "dog", differs), "dog");
  EXPECT_TRUE(differs);
}

}  // namespace
}  // namespace holdfast::cli
