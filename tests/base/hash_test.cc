#include "base/hash.h"

#include <string>

#include "base/coding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/seeded_random.h"

namespace holdfast::base {
namespace {

using ::testing::HasSubstr;

std::string HexOf(std::string_view text) { return ToHex(Sha256Of(AsBytes(text))); }

// FIPS 180-2, appendix B, and the empty message.
TEST(Sha256Test, MatchesThePublishedVectors) {
  EXPECT_EQ(HexOf(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(HexOf("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(HexOf("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(HexOf(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, PiecesGiveTheDigestOfTheWhole) {
  for (const uint64_t seed : test::TestSeeds(20)) {
    SCOPED_TRACE(::testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    Sha256 hash;
    std::string whole;
    for (int i = 0; i < 20; ++i) {
      const std::string piece(random.Below(200), static_cast<char>(random.Next()));
      hash.Update(AsBytes(piece));
      whole += piece;
    }
    EXPECT_EQ(hash.Finish(), Sha256Of(AsBytes(whole)));
  }
}

TEST(Sha256Test, FinishStartsAnew) {
  Sha256 hash;
  hash.Update(AsBytes("something else"));
  hash.Finish();
  hash.Update(AsBytes("abc"));
  EXPECT_EQ(hash.Finish(), Sha256Of(AsBytes("abc")));
  EXPECT_EQ(hash.Finish(), Sha256Of({}));
}

// xxHash 0.8, tests/sanity_test: XXH3 of nothing, seed 0.
TEST(Xxh3Test, MatchesThePublishedVectorOfNothing) {
  EXPECT_EQ(Xxh3({}), 0x2D06800538D394C2u);
  EXPECT_NE(Xxh3(AsBytes("a")), Xxh3(AsBytes("b")));
}

TEST(HexTest, ComesBack) {
  const Sha256Digest digest = Sha256Of(AsBytes("abc"));
  std::string hex = ToHex(digest);
  EXPECT_EQ(*Sha256FromHex(hex), digest);
  for (char& c : hex) c = static_cast<char>(std::toupper(c));
  EXPECT_EQ(*Sha256FromHex(hex), digest);
  EXPECT_EQ(ToHex({}), "");
}

TEST(HexTest, AnythingElseIsInvalid) {
  const std::string good(64, '0');
  EXPECT_TRUE(Sha256FromHex(good).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Sha256FromHex("").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Sha256FromHex(good + "0").status()));
  for (const char c : {'g', '/', ':', '@', 'G', '`', ' ', '\0'}) {
    std::string bad = good;
    bad[63] = c;
    const Status status = Sha256FromHex(bad).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c;
    EXPECT_THAT(Message(status), HasSubstr("offset 62"));
  }
}

}  // namespace
}  // namespace holdfast::base
