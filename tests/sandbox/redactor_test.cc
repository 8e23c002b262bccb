#include "sandbox/client/redactor.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/support/seeded_random.h"

namespace holdfast::sandbox {
namespace {

std::string Redact(const SecretSet& secrets, const std::vector<std::string>& pieces) {
  Redactor redactor(secrets);
  std::string out;
  for (const std::string& piece : pieces) redactor.Feed(piece, out);
  redactor.Finish(out);
  return out;
}

TEST(RedactorTest, SecretIsReplacedWhereverItStands) {
  const SecretSet secrets(std::vector<Secret>{{"key", "hunter2"}});
  EXPECT_EQ(Redact(secrets, {"hunter2 a hunter2hunter2 b hunter2"}),
            "\u00abredacted:key\u00bb a \u00abredacted:key\u00bb\u00abredacted:key\u00bb b "
            "\u00abredacted:key\u00bb");
}

TEST(RedactorTest, SecretSplitAcrossPiecesIsReplaced) {
  const SecretSet secrets(std::vector<Secret>{{"key", "hunter2"}});
  for (size_t cut = 0; cut <= 7; ++cut) {
    const std::string value = "hunter2";
    EXPECT_EQ(Redact(secrets, {"a" + value.substr(0, cut), value.substr(cut) + "b"}),
              "a\u00abredacted:key\u00bbb")
        << cut;
  }
  EXPECT_EQ(Redact(secrets, {"h", "u", "n", "t", "e", "r", "2"}), "\u00abredacted:key\u00bb");
}

TEST(RedactorTest, WhatOnlyBeganLikeASecretComesOut) {
  const SecretSet secrets(std::vector<Secret>{{"key", "hunter2"}});
  EXPECT_EQ(Redact(secrets, {"hunt", "ing"}), "hunting");
  EXPECT_EQ(Redact(secrets, {"hunter"}), "hunter");
  EXPECT_EQ(Redact(secrets, {"hunthunter2"}), "hunt\u00abredacted:key\u00bb");
}

TEST(RedactorTest, NothingIsHeldBackThatCannotBecomeASecret) {
  const SecretSet secrets(std::vector<Secret>{{"key", "hunter2"}});
  Redactor redactor(secrets);
  std::string out;
  redactor.Feed("Password: ", out);
  EXPECT_EQ(out, "Password: ");
  redactor.Feed("hunt", out);
  EXPECT_EQ(out, "Password: ");
}

TEST(RedactorTest, LongestWins) {
  const SecretSet secrets(std::vector<Secret>{{"short", "secret"}, {"long", "secret-long"}});
  EXPECT_EQ(Redact(secrets, {"secret-", "lonx secret-l", "ong"}),
            "\u00abredacted:short\u00bb-lonx \u00abredacted:long\u00bb");
}

TEST(RedactorTest, WithoutSecretsAllPasses) {
  EXPECT_EQ(Redact(SecretSet(std::vector<Secret>()), {"a", std::string("\0b", 2)}), std::string("a\0b", 3));
}

// Naive: replace in the whole text, from left to right, longest first.
std::string Model(const std::vector<Secret>& secrets, const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Secret* best = nullptr;
    for (const Secret& secret : secrets) {
      if (text.compare(at, secret.value.size(), secret.value) == 0 &&
          (best == nullptr || secret.value.size() > best->value.size())) {
        best = &secret;
      }
    }
    if (best == nullptr) {
      out += text[at++];
    } else {
      out += "\u00abredacted:" + best->name + "\u00bb";
      at += best->value.size();
    }
  }
  return out;
}

TEST(RedactorTest, AnyPiecesGiveWhatTheWholeGives) {
  for (const uint64_t seed : test::TestSeeds(500)) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_TEST_SEED=" << seed);
    test::SeededRandom random(seed);
    const auto letters = [&](uint64_t count) {  // of two letters, so that overlaps are common
      std::string text;
      while (count-- > 0) text += random.Percent(50) ? 'a' : 'b';
      return text;
    };
    std::vector<Secret> secrets;
    for (uint64_t i = 0; i <= random.Below(4); ++i)
      secrets.push_back({std::to_string(i), letters(1 + random.Below(6))});
    std::string whole;
    std::vector<std::string> pieces;
    for (uint64_t i = 0; i < random.Below(30); ++i) {
      pieces.push_back(letters(random.Below(7)));
      whole += pieces.back();
    }
    EXPECT_EQ(Redact(SecretSet(secrets), pieces), Model(secrets, whole)) << whole;
  }
}

}  // namespace
}  // namespace holdfast::sandbox
