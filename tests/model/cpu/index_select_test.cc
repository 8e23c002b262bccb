#include "model/cpu/index_select.h"

#include <algorithm>
#include <numeric>

#include "tests/model/cpu/kernel_testing.h"

namespace holdfast::model::cpu {
namespace {

class IndexSelectTest : public KernelTest {
 protected:
  struct Case {
    int32_t heads;
    int32_t dim;
    int64_t visible;
    int64_t topk;
    bool ties;  // every key stands twice or more
  };

  // Scores by the definition: relu of the dot over decoded values, heads in 16 lanes.
  static std::vector<float> NaiveScores(const Case& c, const IndexCodec& codec,
                                        const std::vector<std::byte>& q, const std::vector<float>& weights,
                                        const std::vector<std::byte>& keys) {
    const auto d = static_cast<size_t>(c.dim);
    const float norm = 1.0f / std::sqrt(static_cast<float>(c.dim) * static_cast<float>(c.heads));
    std::vector<float> scores;
    std::vector<float> qv(d);
    std::vector<float> kv(d);
    for (int64_t e = 0; e < c.visible; ++e) {
      codec.Decode(&keys[static_cast<size_t>(e * codec.bytes())], kv.data());
      float lanes[16] = {};
      for (int32_t h = 0; h < c.heads; ++h) {
        codec.Decode(&q[static_cast<size_t>(h * codec.bytes())], qv.data());
        std::vector<float> blocks(d / 32);
        for (size_t b = 0; b < blocks.size(); ++b) {
          double sum = 0;  // exact
          for (size_t i = b * 32; i < b * 32 + 32; ++i) sum += static_cast<double>(qv[i]) * kv[i];
          blocks[b] = static_cast<float>(sum);
        }
        for (size_t step = 1; step < blocks.size(); step *= 2) {
          for (size_t b = 0; b + step < blocks.size(); b += 2 * step) blocks[b] += blocks[b + step];
        }
        lanes[h % 16] =
            std::fma(weights[static_cast<size_t>(h)] * norm, std::max(blocks[0], 0.0f), lanes[h % 16]);
      }
      scores.push_back(TreeSum(lanes));
    }
    return scores;
  }

  static void Check(const Case& c) {
    SCOPED_TRACE(::testing::Message()
                 << c.heads << " heads of " << c.dim << ", top " << c.topk << " of " << c.visible);
    test::SeededRandom random(static_cast<uint64_t>(c.visible * 100 + c.heads));
    const IndexCodec codec(KvMode::kStored, c.dim);
    const auto d = static_cast<size_t>(c.dim);
    std::vector<std::byte> q(static_cast<size_t>(c.heads * codec.bytes()));
    for (int32_t h = 0; h < c.heads; ++h) {
      codec.Encode(RandomFloats(random, d).data(), &q[static_cast<size_t>(h * codec.bytes())]);
    }
    const int32_t per_block = 32;
    const int64_t padded = (c.visible + per_block - 1) / per_block * per_block;
    std::vector<std::byte> keys(static_cast<size_t>(padded * codec.bytes()));
    for (int64_t e = 0; e < c.visible; ++e) {
      std::byte* key = &keys[static_cast<size_t>(e * codec.bytes())];
      if (c.ties && e >= 5) {
        std::copy_n(key - 5 * codec.bytes(), codec.bytes(), key);
      } else {
        codec.Encode(RandomFloats(random, d).data(), key);
      }
    }
    std::vector<std::byte*> blocks;
    for (int64_t b = 0; b < padded / per_block; ++b) {
      blocks.push_back(&keys[static_cast<size_t>(b * per_block * codec.bytes())]);
    }
    const auto weights = RandomFloats(random, static_cast<size_t>(c.heads));
    std::vector<int32_t> selected(static_cast<size_t>(c.topk));
    IndexScratch scratch;
    const int32_t count = SelectRow({.q = q.data(),
                                     .heads = c.heads,
                                     .weights = weights.data(),
                                     .codec = codec,
                                     .keys = {blocks.data(), per_block, codec.bytes()},
                                     .visible = c.visible,
                                     .topk = c.topk,
                                     .selected = selected.data()},
                                    scratch);
    const auto scores = NaiveScores(c, codec, q, weights, keys);
    std::vector<int32_t> want(scores.size());
    std::iota(want.begin(), want.end(), 0);
    std::stable_sort(want.begin(), want.end(), [&](int32_t a, int32_t b) {
      return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
    });
    want.resize(static_cast<size_t>(std::min(c.topk, c.visible)));
    std::sort(want.begin(), want.end());
    selected.resize(static_cast<size_t>(count));
    EXPECT_EQ(selected, want);
  }
};

TEST_P(IndexSelectTest, SelectsTheHighestScoresInIndexOrder) {
  for (const int64_t visible : {17, 64, 100, 675})
    Check({.heads = 16, .dim = 128, .visible = visible, .topk = 16});
  Check({.heads = 64, .dim = 128, .visible = 300, .topk = 50});
  Check({.heads = 24, .dim = 64, .visible = 300, .topk = 50});
  Check({.heads = 3, .dim = 32, .visible = 300, .topk = 1});
  Check({.heads = 2, .dim = 512, .visible = 90, .topk = 89});
}

TEST_P(IndexSelectTest, TiesGoToTheLowerIndex) {
  for (const int64_t topk : {1, 4, 6, 11, 33, 99}) {
    Check({.heads = 4, .dim = 128, .visible = 100, .topk = topk, .ties = true});
  }
}

TEST_P(IndexSelectTest, FewerThanTopKAreAllSelected) {
  Check({.heads = 4, .dim = 128, .visible = 0, .topk = 8});
  Check({.heads = 4, .dim = 128, .visible = 8, .topk = 8});
}

INSTANTIATE_TEST_SUITE_P(Targets, IndexSelectTest, ::testing::ValuesIn(AvailableTargets()), TargetTestName);

}  // namespace
}  // namespace holdfast::model::cpu
