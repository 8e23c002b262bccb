#include "model/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <vector>

namespace holdfast::model {
namespace {

using testing::Each;
using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

int32_t SampleOnce(const SamplerOptions& options, const std::vector<float>& logits, const TokenMask* mask,
                   const base::RandomPoint& point) {
  auto sampler = Sampler::Make(options);
  EXPECT_TRUE(sampler.ok()) << sampler.status();
  return sampler->Sample(logits, mask, point).value_or(-1);
}

std::vector<int32_t> SampleMany(const SamplerOptions& options, const std::vector<float>& logits,
                                const TokenMask* mask, int count) {
  auto sampler = Sampler::Make(options);
  std::vector<int32_t> ids;
  for (int i = 0; i < count; ++i) {
    ids.push_back(
        sampler->Sample(logits, mask, {.seed = 11, .stream = 2, .position = static_cast<uint64_t>(i)})
            .value_or(-1));
  }
  return ids;
}

std::map<int32_t, double> Shares(const std::vector<int32_t>& ids) {
  std::map<int32_t, double> shares;
  for (const int32_t id : ids) shares[id] += 1.0 / static_cast<double>(ids.size());
  return shares;
}

TEST(SamplerTest, GreedyTakesTheLowerIdOnATie) {
  EXPECT_EQ(SampleOnce({.temperature = 0}, {1, 3, 2, 3}, nullptr, {}), 1);
}

TEST(SamplerTest, MaskedAndUnusableLogitsAreNeverChosen) {
  TokenMask mask(6);
  for (const int32_t id : {0, 2, 3, 4}) mask.Add(id);
  const std::vector<float> logits = {1, 9, 2, std::nanf(""), -kInfinity, 5, 7};
  EXPECT_EQ(SampleOnce({.temperature = 0}, logits, &mask, {}), 2);
  EXPECT_THAT(SampleMany({}, logits, &mask, 200), Each(testing::AnyOf(0, 2)));
}

TEST(SamplerTest, NothingLeftIsAnError) {
  auto sampler = Sampler::Make({});
  const TokenMask none(3);
  const auto id = sampler->Sample(std::vector<float>{1, 2, 3}, &none, {});
  EXPECT_THAT(base::Message(id.status()), HasSubstr("no permitted token"));
}

TEST(SamplerTest, FrequenciesFollowTheSoftmaxAtItsTemperature) {
  const std::vector<float> logits = {0, std::log(2.0f), std::log(5.0f)};
  auto shares = Shares(SampleMany({}, logits, nullptr, 40000));
  EXPECT_NEAR(shares[0], 0.125, 0.01);
  EXPECT_NEAR(shares[1], 0.25, 0.01);
  EXPECT_NEAR(shares[2], 0.625, 0.01);
  shares = Shares(SampleMany({.temperature = 0.5f}, logits, nullptr, 40000));  // weights 1, 4, 25
  EXPECT_NEAR(shares[0], 1 / 30.0, 0.01);
  EXPECT_NEAR(shares[2], 25 / 30.0, 0.01);
}

TEST(SamplerTest, TopKKeepsTheLikeliestAndTheLowerIdOnATie) {
  EXPECT_THAT(SampleMany({.top_k = 2}, {1, 2, 1, 1}, nullptr, 300), Each(testing::AnyOf(0, 1)));
  EXPECT_THAT(SampleMany({.top_k = 1}, {1, 2, 1, 1}, nullptr, 50), Each(1));
}

TEST(SamplerTest, TopPKeepsTheTokenThatReachesTheShare) {
  // Shares 0.625, 0.25, 0.125.
  const std::vector<float> logits = {0, std::log(2.0f), std::log(5.0f)};
  EXPECT_THAT(SampleMany({.top_p = 0.6f}, logits, nullptr, 300), Each(2));
  EXPECT_THAT(SampleMany({.top_p = 0.7f}, logits, nullptr, 300), Each(testing::AnyOf(1, 2)));
  EXPECT_THAT(SampleMany({.top_p = 0.0f}, logits, nullptr, 50), Each(2));
}

TEST(SamplerTest, TopPOfManyEqualsASortOfAll) {
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = static_cast<float>((i * 7919) % logits.size()) * 0.001f;
  // Likelihood falls by e^-0.001 from one to the next; 0.5 of the mass of 5000 such is its first 687 or so.
  for (const int32_t id : SampleMany({.top_p = 0.5f}, logits, nullptr, 300)) {
    EXPECT_GE(logits[static_cast<size_t>(id)], 4.999f - 0.690f);
  }
}

TEST(SamplerTest, MinPIsRelativeToTheLikeliest) {
  const std::vector<float> logits = {0, std::log(2.0f), std::log(5.0f)};
  EXPECT_THAT(SampleMany({.min_p = 0.3f}, logits, nullptr, 300), Each(testing::AnyOf(1, 2)));
  EXPECT_THAT(SampleMany({.min_p = 1.0f}, logits, nullptr, 50), Each(2));
}

TEST(SamplerTest, TheChoiceDependsOnSeedStreamAndPositionOnly) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i));
  const SamplerOptions options = {.temperature = 0.8f, .top_k = 100, .top_p = 0.95f};
  EXPECT_EQ(SampleOnce(options, logits, nullptr, {.seed = 1, .stream = 2, .position = 3}),
            SampleOnce(options, logits, nullptr, {.seed = 1, .stream = 2, .position = 3}));
  std::map<int32_t, int> seen;
  for (uint64_t i = 0; i < 20; ++i) {
    ++seen[SampleOnce(options, logits, nullptr, {.seed = 1, .stream = 2, .position = i})];
    ++seen[SampleOnce(options, logits, nullptr, {.seed = i + 5, .stream = 2, .position = 3})];
  }
  EXPECT_GT(seen.size(), 10u);
}

// Stored sessions are sampled again and must give the same tokens: these never change.
TEST(SamplerTest, PinnedChoices) {
  std::vector<float> logits(64);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>((i * 37) % 64) * 0.0625f;
  EXPECT_THAT(SampleMany({}, logits, nullptr, 6), testing::ElementsAre(50, 5, 48, 62, 47, 50));
  EXPECT_THAT(SampleMany({.temperature = 0.7f, .top_k = 20, .top_p = 0.9f}, logits, nullptr, 6),
              testing::ElementsAre(17, 19, 62, 48, 62, 17));
}

TEST(SamplerTest, OptionsOutOfRangeAreRefused) {
  for (const SamplerOptions& options :
       {SamplerOptions{.temperature = -1}, SamplerOptions{.temperature = std::nanf("")},
        SamplerOptions{.top_k = -1}, SamplerOptions{.min_p = 1.5f}, SamplerOptions{.top_p = -0.1f}}) {
    EXPECT_EQ(Sampler::Make(options).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace holdfast::model
