#include "memory/block_key.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::memory {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int32_t kTokens[] = {1, 2, 3, 4, 5, 6, 7};

// The value is on disk: sha256 of 32 zero bytes, then 01000000 02000000, computed with another program.
TEST(BlockKeyTest, IsTheSha256OfParentAndTokens) {
  const BlockKey key = KeyOfBlock({}, std::span(kTokens).first(2));
  EXPECT_EQ(base::ToHex(key.digest), "e7ca17d6581d126af7e0c8574cdd8987ed93319969b54a5e2a272d585a38f3ea");
  EXPECT_EQ(ShortName(key), base::ToHex(key.digest).substr(0, 12));
}

TEST(BlockKeyTest, ChainsOnlyCompleteBlocks) {
  const std::vector<BlockKey> keys = KeysOfBlocks({}, kTokens, 3);
  ASSERT_THAT(keys, SizeIs(2));
  EXPECT_EQ(keys[0], KeyOfBlock({}, std::span(kTokens).first(3)));
  EXPECT_EQ(keys[1], KeyOfBlock(keys[0], std::span(kTokens).subspan(3, 3)));
  EXPECT_THAT(KeysOfBlocks({}, kTokens, 8), IsEmpty());
  EXPECT_THAT(KeysOfBlocks({}, {}, 1), IsEmpty());
}

TEST(BlockKeyTest, ParentAndEveryTokenCount) {
  const BlockKey key = KeyOfBlock({}, kTokens);
  EXPECT_NE(key, KeyOfBlock(key, kTokens));
  for (size_t i = 0; i < std::size(kTokens); ++i) {
    int32_t other[std::size(kTokens)];
    std::copy(std::begin(kTokens), std::end(kTokens), other);
    other[i] = -1;
    EXPECT_NE(key, KeyOfBlock({}, other)) << i;
  }
}

}  // namespace
}  // namespace holdfast::memory
