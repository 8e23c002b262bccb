#include "model/cpu/attention.h"

#include <algorithm>

#include "tests/model/cpu/kernel_testing.h"

namespace holdfast::model::cpu {
namespace {

class AttentionTest : public KernelTest {
 protected:
  // Attention over `n` stored entries against a softmax in double over the decoded ones.
  void Check(int64_t heads, int32_t head_dim, int32_t rope_dim, size_t n) {
    SCOPED_TRACE(::testing::Message() << heads << " heads of " << head_dim << ", " << n << " keys");
    test::SeededRandom random(n * 7 + static_cast<uint64_t>(heads));
    const EntryCodec codec(KvMode::kStored, head_dim, rope_dim);
    const auto d = static_cast<size_t>(head_dim);
    std::vector<std::byte> entries(n * static_cast<size_t>(codec.bytes()));
    std::vector<float> decoded(n * d);
    AttentionScratch scratch;
    for (size_t j = 0; j < n; ++j) {
      std::byte* entry = &entries[j * static_cast<size_t>(codec.bytes())];
      codec.Encode(RandomFloats(random, d).data(), entry);
      codec.Decode(entry, &decoded[j * d]);
      scratch.keys.push_back(entry);
    }
    const auto q = RandomFloats(random, static_cast<size_t>(heads) * d);
    const auto sink = RandomFloats(random, static_cast<size_t>(heads));
    std::vector<float> o(q.size());
    AttendRow({q.data(), heads, codec, sink.data(), o.data()}, scratch);
    for (size_t h = 0; h < static_cast<size_t>(heads); ++h) {
      std::vector<double> want(d);
      double sum = std::exp(static_cast<double>(sink[h]));
      for (size_t j = 0; j < n; ++j) {
        double score = 0;
        for (size_t i = 0; i < d; ++i) score += static_cast<double>(q[h * d + i]) * decoded[j * d + i];
        const double p = std::exp(score / std::sqrt(static_cast<double>(d)));
        sum += p;
        for (size_t i = 0; i < d; ++i) want[i] += p * decoded[j * d + i];
      }
      for (size_t i = 0; i < d; ++i)
        ASSERT_NEAR(o[h * d + i], want[i] / sum, 3e-6) << "head " << h << " dim " << i;
    }
  }
};

TEST_P(AttentionTest, EqualsSoftmaxOverDecodedEntries) {
  for (const size_t n : {1, 2, 15, 16, 17, 31, 33, 130, 700}) Check(5, 128, 64, n);
}

TEST_P(AttentionTest, TakesAnyHeadShape) {
  Check(1, 80, 16, 20);
  Check(3, 192, 64, 20);
  Check(8, 512, 64, 40);
  Check(2, 96, 32, 20);
}

TEST_P(AttentionTest, AHeavySinkDrawsTheOutputToZero) {
  const EntryCodec codec(KvMode::kStored, 128, 64);
  std::vector<std::byte> entry(static_cast<size_t>(codec.bytes()));
  const std::vector<float> ones(128, 1.0f);
  codec.Encode(ones.data(), entry.data());
  AttentionScratch scratch;
  scratch.keys.push_back(entry.data());
  std::vector<float> o(128, 9.0f);
  const float sink = 200.0f;
  AttendRow({ones.data(), 1, codec, &sink, o.data()}, scratch);
  for (const float v : o) EXPECT_EQ(v, 0.0f);
}

INSTANTIATE_TEST_SUITE_P(Targets, AttentionTest, ::testing::ValuesIn(AvailableTargets()), TargetTestName);

}  // namespace
}  // namespace holdfast::model::cpu
