#include "workspace/layer/base_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/sim_clock.h"
#include "tests/support/sim_tree.h"
#include "tests/workspace/workspace_testing.h"

namespace holdfast::workspace {
namespace {

using testing::ElementsAre;
using Kind = TreeChange::Kind;

class BaseStateTest : public testing::Test {
 protected:
  BaseState Take() {
    auto state = BaseState::Take(tree_, 1000, {}, nullptr);
    HF_CHECK(state.ok());
    return std::move(*state);
  }
  test::SimClock clock_;
  test::SimTree tree_{clock_};
};

TEST_F(BaseStateTest, EveryPathIsThereButTheInsideOfGit) {
  Put(tree_, "d/f", "text", 0600);
  Put(tree_, ".git/HEAD", std::string(40, 'a') + "\n");
  ASSERT_TRUE(tree_.MakeLink("d/l", "f").ok());
  const BaseState state = Take();
  ASSERT_NE(state.Find("d/f"), nullptr);
  EXPECT_EQ(state.Find("d/f")->mode, 0600u);
  EXPECT_EQ(state.Find("d/f")->stamp.size_bytes, 4u);
  EXPECT_EQ(state.Find("d/l")->kind, EntryKind::kSymlink);
  EXPECT_NE(state.Find(".git"), nullptr);
  EXPECT_EQ(state.Find(".git/HEAD"), nullptr);
  EXPECT_EQ(state.Find("none"), nullptr);
  EXPECT_EQ(state.head(), std::string(40, 'a'));
}

TEST_F(BaseStateTest, ChangesAreListedInOrderAndCounted) {
  for (const char* path : {"a", "b/c", "d", "e/f", "g"}) Put(tree_, path, "1");
  const BaseState before = Take();
  clock_.Advance(1);
  Put(tree_, "a", "2");  // same size
  ASSERT_TRUE(RemoveAll(tree_, "b").ok());
  ASSERT_TRUE(tree_.SetMode("d", 0600).ok());
  Put(tree_, "e/new", "1");  // e itself did not change
  ASSERT_TRUE(tree_.Remove("g").ok());
  ASSERT_TRUE(tree_.MakeLink("g", "a").ok());
  const TreeChanges changes = before.ChangesTo(Take(), 100);
  EXPECT_THAT(changes.changes,
              ElementsAre(TreeChange{Kind::kChanged, "a"}, TreeChange{Kind::kRemoved, "b"},
                          TreeChange{Kind::kRemoved, "b/c"}, TreeChange{Kind::kChanged, "d"},
                          TreeChange{Kind::kAdded, "e/new"}, TreeChange{Kind::kChanged, "g"}));
  const TreeChanges few = before.ChangesTo(Take(), 2);
  EXPECT_EQ(few.changes.size(), 2u);
  EXPECT_EQ(few.count, 6u);
  EXPECT_EQ(before.ChangesTo(before, 100).count, 0u);
}

TEST_F(BaseStateTest, ItsBytesComeBackAndDamageIsFound) {
  Put(tree_, ".git/HEAD", std::string(40, 'a') + "\n");
  for (const char* path : {"a", "a.b"}) Put(tree_, path, "1");
  Put(tree_, "dir/one", "1");
  Put(tree_, "dir/two\n\xff", "22");
  const BaseState state = Take();
  const std::string bytes = state.Encode();
  const auto decoded = BaseState::Decode(bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->ChangesTo(state, 10).count, 0u);
  EXPECT_EQ(decoded->head(), state.head());
  EXPECT_EQ(decoded->Encode(), bytes);
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    EXPECT_TRUE(absl::IsDataLoss(BaseState::Decode(damaged).status())) << at;
    EXPECT_TRUE(absl::IsDataLoss(BaseState::Decode(bytes.substr(0, at)).status())) << at;
  }
}

TEST(IsInGitTest, AtAnyDepth) {
  EXPECT_TRUE(IsInGit(".git"));
  EXPECT_TRUE(IsInGit("sub/.git/hooks/x"));
  EXPECT_FALSE(IsInGit("sub/.gitignore"));
  EXPECT_FALSE(IsInGit(""));
}

}  // namespace
}  // namespace holdfast::workspace
