#include "model/cpu/row_ops.h"

#include <algorithm>
#include <cstring>

#include "tests/model/cpu/kernel_testing.h"

namespace holdfast::model::cpu {
namespace {

class RowOpsTest : public KernelTest {};

// Distance in units of the last place of the float nearest to `want`.
double Ulps(float got, double want) {
  const auto nearest = static_cast<float>(want);
  const double ulp = std::fabs(static_cast<double>(std::nextafterf(nearest, HUGE_VALF)) - nearest);
  return std::fabs(got - want) / ulp;
}

std::vector<float> Grid(double low, double high, size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) {
    x[i] = static_cast<float>(low + (high - low) * static_cast<double>(i) / static_cast<double>(n - 1));
  }
  return x;
}

TEST_P(RowOpsTest, ExpIsWithinTwoUlps) {
  const auto x = Grid(-87.2, 88.7, 200'001);
  auto y = x;
  ExpArray(y.data(), static_cast<int64_t>(y.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, Ulps(y[i], std::exp(static_cast<double>(x[i]))));
  EXPECT_LE(worst, 2.0);
}

TEST_P(RowOpsTest, ExpSaturatesAtBothEnds) {
  std::vector<float> x = {-1e30f, -HUGE_VALF, -100.0f, 0.0f, 89.0f, 1e30f, HUGE_VALF};
  ExpArray(x.data(), static_cast<int64_t>(x.size()));
  EXPECT_EQ(x, (std::vector<float>{0.0f, 0.0f, 0.0f, 1.0f, HUGE_VALF, HUGE_VALF, HUGE_VALF}));
}

TEST_P(RowOpsTest, SigmoidAndSqrtSoftplusAreClose) {
  const auto x = Grid(-40, 40, 20'001);
  auto sigmoid = x;
  auto softplus = x;
  SigmoidArray(sigmoid.data(), static_cast<int64_t>(x.size()));
  SqrtSoftplusArray(softplus.data(), static_cast<int64_t>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    ASSERT_LE(Ulps(sigmoid[i], 1 / (1 + std::exp(-v))), 4.0) << v;
    ASSERT_LE(Ulps(softplus[i], std::sqrt(std::max(v, 0.0) + std::log1p(std::exp(-std::fabs(v))))), 4.0) << v;
  }
}

TEST_P(RowOpsTest, SumOfSquaresEqualsTheDefinition) {
  test::SeededRandom random(3);
  for (const size_t n : {16, 32, 48, 256, 4096}) {
    const auto x = RandomFloats(random, n);
    EXPECT_EQ(SumOfSquares(x.data(), static_cast<int64_t>(n)), LaneDot(x.data(), x.data(), n));
  }
}

TEST_P(RowOpsTest, SwiGluClampsGateAboveAndUpOnBothSides) {
  std::vector<float> gate(32, 50.0f);
  std::vector<float> up(32, -50.0f);
  gate[1] = -50.0f;
  up[1] = 1.0f;
  SwiGlu(gate.data(), up.data(), 32, 0.5f, 10.0f);
  EXPECT_NEAR(gate[0], 0.5 * 10.0 / (1 + std::exp(-10.0)) * -10.0, 1e-4);
  EXPECT_NEAR(gate[1], 0.5 * -50.0 / (1 + std::exp(50.0)), 1e-12);
}

TEST_P(RowOpsTest, PoolIsASoftmaxOverRowsForEachChannel) {
  test::SeededRandom random(4);
  const size_t channels = 48;
  for (const size_t rows : {1, 4, 8, 128}) {
    const auto kv = RandomFloats(random, rows * channels);
    const auto score = RandomFloats(random, rows * channels, 3.0f);
    std::vector<PoolRow> list;
    for (size_t r = 0; r < rows; ++r) list.push_back({&kv[r * channels], &score[r * channels]});
    std::vector<float> out(channels);
    PoolChannels(list, static_cast<int64_t>(channels), out.data());
    for (size_t c = 0; c < channels; ++c) {
      double sum = 0;
      double pooled = 0;
      for (size_t r = 0; r < rows; ++r) {
        const double p = std::exp(static_cast<double>(score[r * channels + c]));
        sum += p;
        pooled += p * kv[r * channels + c];
      }
      EXPECT_NEAR(out[c], pooled / sum, 2e-6);
    }
  }
}

TEST_P(RowOpsTest, SinkhornIsNearlyDoublyStochastic) {
  test::SeededRandom random(5);
  for (const int64_t s : {2, 4, 5}) {
    auto c = RandomFloats(random, static_cast<size_t>(s * s), 2.0f);
    Sinkhorn(c.data(), s, 30, 1e-6f);
    for (int64_t j = 0; j < s; ++j) {
      float row = 0;
      float column = 0;
      for (int64_t k = 0; k < s; ++k) {
        row += c[static_cast<size_t>(j * s + k)];
        column += c[static_cast<size_t>(k * s + j)];
      }
      EXPECT_NEAR(row, 1.0f, 1e-2f);
      EXPECT_NEAR(column, 1.0f, 1e-4f);
    }
  }
}

TEST_P(RowOpsTest, InverseRotationUndoesRotation) {
  std::vector<float> x = {1.0f, 2.0f, -3.0f, 0.5f};
  const std::vector<float> cos = {0.6f, -0.8f};
  const std::vector<float> sin = {0.8f, 0.6f};
  auto y = x;
  Rotate(y.data(), cos.data(), sin.data(), 4, 1.0f);
  EXPECT_FLOAT_EQ(y[0], 1.0f * 0.6f - 2.0f * 0.8f);
  EXPECT_FLOAT_EQ(y[1], 1.0f * 0.8f + 2.0f * 0.6f);
  Rotate(y.data(), cos.data(), sin.data(), 4, -1.0f);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 1e-6f);
}

TEST_P(RowOpsTest, HadamardMatchesItsMatrix) {
  test::SeededRandom random(6);
  const size_t n = 64;
  const auto x = RandomFloats(random, n);
  auto y = x;
  Hadamard(y.data(), static_cast<int64_t>(n));
  for (size_t i = 0; i < n; ++i) {
    double sum = 0;
    for (size_t j = 0; j < n; ++j) sum += (std::popcount(i & j) % 2 == 0 ? 1.0 : -1.0) * x[j];
    EXPECT_NEAR(y[i], sum / 8.0, 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, RowOpsTest, ::testing::ValuesIn(AvailableTargets()), TargetTestName);

}  // namespace
}  // namespace holdfast::model::cpu
