// The oracle: each operation as the specification writes it, scalar, sums in double, libm where it serves.
// Its results depend on a row's own inputs only, in one order, but its bits are nobody's contract.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <new>
#include <vector>

#include "base/parallel.h"
#include "model/backend.h"
#include "model/engine.h"

namespace holdfast::model {
namespace {

double Dot(const float* a, const float* b, int64_t n) {
  double sum[4] = {0, 0, 0, 0};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int j = 0; j < 4; ++j) sum[j] += static_cast<double>(a[i + j]) * b[i + j];
  }
  for (; i < n; ++i) sum[0] += static_cast<double>(a[i]) * b[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

double InverseRms(const float* x, int64_t n, float eps) {
  return 1.0 / std::sqrt(Dot(x, x, n) / static_cast<double>(n) + eps);
}

double Sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// Rotates the pairs of `x` by the angles of one row; `sign` -1 is the inverse rotation.
void Rotate(float* x, const float* cos, const float* sin, int32_t rope_dim, float sign) {
  for (int32_t i = 0; i < rope_dim / 2; ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    const float s = sign * sin[i];
    x[2 * i] = a * cos[i] - b * s;
    x[2 * i + 1] = a * s + b * cos[i];
  }
}

// Sylvester-ordered Hadamard transform times n^-0.5.
void Hadamard(float* x, int32_t n) {
  const std::vector<float> old(x, x + n);
  const double scale = 1.0 / std::sqrt(static_cast<double>(n));
  for (uint32_t i = 0; i < static_cast<uint32_t>(n); ++i) {
    double sum = 0;
    for (uint32_t j = 0; j < old.size(); ++j) sum += std::popcount(i & j) % 2 == 0 ? old[j] : -old[j];
    x[i] = static_cast<float>(sum * scale);
  }
}

// C = softmax(C) + eps by rows, then columns; then rounds - 1 times rows and columns.
void Sinkhorn(double* c, int32_t s, int32_t rounds, double eps) {
  const auto rows = [&](double add) {
    for (int32_t j = 0; j < s; ++j) {
      double sum = 0;
      for (int32_t k = 0; k < s; ++k) sum += c[j * s + k];
      for (int32_t k = 0; k < s; ++k) c[j * s + k] /= sum + add;
    }
  };
  const auto columns = [&] {
    for (int32_t k = 0; k < s; ++k) {
      double sum = 0;
      for (int32_t j = 0; j < s; ++j) sum += c[j * s + k];
      for (int32_t j = 0; j < s; ++j) c[j * s + k] /= sum + eps;
    }
  };
  for (int32_t j = 0; j < s; ++j) {
    const double max = *std::max_element(c + j * s, c + (j + 1) * s);
    for (int32_t k = 0; k < s; ++k) c[j * s + k] = std::exp(c[j * s + k] - max);
  }
  rows(0.0);
  for (int32_t i = 0; i < s * s; ++i) c[i] += eps;
  columns();
  for (int32_t round = 1; round < rounds; ++round) {
    rows(eps);
    columns();
  }
}

class ReferenceBackend : public Backend {
 public:
  explicit ReferenceBackend(const ReferenceOptions& options)
      : kv_mode_(options.kv_mode), pool_(options.threads) {}

  std::string NumericsId() const override {
    constexpr const char* kIds[] = {"reference/kv-f32/1", "reference/kv-quantised/1",
                                    "reference/kv-stored/1"};
    return kIds[static_cast<size_t>(kv_mode_)];
  }
  KvMode kv_mode() const override { return kv_mode_; }

  Buffer Allocate(size_t bytes) override {
    auto* p = static_cast<std::byte*>(::operator new (std::max<size_t>(bytes, 1), std::align_val_t{64}));
    std::memset(p, 0, bytes);
    return Buffer(p, [](std::byte* q) { ::operator delete (q, std::align_val_t{64}); });
  }

  void Embed(const EmbedArgs& a) override {
    const int64_t d = a.embed.cols;
    for (size_t i = 0; i < a.tokens.size(); ++i) {
      for (int64_t c = 0; c < d; ++c) {
        const float value = MatrixElement(a.embed, a.tokens[i], c);
        for (int32_t s = 0; s < a.streams; ++s)
          a.h[(static_cast<int64_t>(i) * a.streams + s) * d + c] = value;
      }
    }
  }

  void HcPre(const HcPreArgs& a) override {
    const int32_t s = a.streams;
    const int64_t wide = int64_t{s} * a.width;
    const float* fn = Dense(a.hc.fn);
    pool_.ParallelFor(static_cast<size_t>(a.n), [&](size_t i, int) {
      const float* h = a.h + static_cast<int64_t>(i) * wide;
      const double r = InverseRms(h, wide, a.rms_eps);
      std::vector<double> m(static_cast<size_t>(a.hc.fn.rows));
      for (size_t k = 0; k < m.size(); ++k) m[k] = Dot(fn + static_cast<int64_t>(k) * wide, h, wide) * r;
      std::vector<double> pre(static_cast<size_t>(s));
      for (int32_t j = 0; j < s; ++j) {
        pre[size_t(j)] = Sigmoid(m[size_t(j)] * a.hc.scale[0] + a.hc.base[size_t(j)]) + a.hc_eps;
        a.post[static_cast<int64_t>(i) * s + j] =
            static_cast<float>(2 * Sigmoid(m[size_t(s + j)] * a.hc.scale[1] + a.hc.base[size_t(s + j)]));
      }
      double* comb = &m[static_cast<size_t>(2 * s)];
      for (int32_t k = 0; k < s * s; ++k) comb[k] = comb[k] * a.hc.scale[2] + a.hc.base[size_t(2 * s + k)];
      Sinkhorn(comb, s, a.sinkhorn_iters, a.hc_eps);
      for (int32_t k = 0; k < s * s; ++k)
        a.comb[static_cast<int64_t>(i) * s * s + k] = static_cast<float>(comb[k]);
      Combine(h, pre, a.width, a.y + static_cast<int64_t>(i) * a.width);
    });
  }

  void HcPost(const HcPostArgs& a) override {
    const int32_t s = a.streams;
    pool_.ParallelFor(static_cast<size_t>(a.n), [&](size_t i, int) {
      float* h = a.h + static_cast<int64_t>(i) * s * a.width;
      const float* y = a.y + static_cast<int64_t>(i) * a.width;
      const float* post = a.post + static_cast<int64_t>(i) * s;
      const float* comb = a.comb + static_cast<int64_t>(i) * s * s;
      std::vector<double> mixed(static_cast<size_t>(s));
      for (int32_t d = 0; d < a.width; ++d) {
        for (int32_t k = 0; k < s; ++k) {
          mixed[size_t(k)] = static_cast<double>(post[k]) * y[d];
          for (int32_t j = 0; j < s; ++j)
            mixed[size_t(k)] += static_cast<double>(comb[j * s + k]) * h[j * a.width + d];
        }
        for (int32_t k = 0; k < s; ++k) h[k * a.width + d] = static_cast<float>(mixed[size_t(k)]);
      }
    });
  }

  void HcHead(const HcHeadArgs& a) override {
    const int64_t wide = int64_t{a.streams} * a.width;
    const float* fn = Dense(a.hc.fn);
    for (int64_t i = 0; i < a.n; ++i) {
      const float* h = a.h + i * wide;
      const double r = InverseRms(h, wide, a.rms_eps);
      std::vector<double> pre(static_cast<size_t>(a.streams));
      for (size_t j = 0; j < pre.size(); ++j) {
        const double m = Dot(fn + static_cast<int64_t>(j) * wide, h, wide) * r;
        pre[j] = Sigmoid(m * a.hc.scale[0] + a.hc.base[j]) + a.hc_eps;
      }
      Combine(h, pre, a.width, a.y + i * a.width);
    }
  }

  void RmsNorm(const RmsNormArgs& a) override {
    for (int64_t i = 0; i < a.n; ++i)
      Normalise(a.x + i * a.width, a.weight, a.width, a.eps, a.y + i * a.width);
  }

  void Linear(const LinearArgs& a) override {
    for (const LinearProduct& p : a.products) Product(a.n, a.k, a.x, a.k, *p.w, p.out, p.w->rows);
  }

  void GroupedLinear(const GroupedLinearArgs& a) override {
    const int64_t rank = a.w.rows / a.groups;
    const float* w = Dense(a.w);
    const int64_t k = a.w.cols;
    pool_.ParallelFor(static_cast<size_t>(a.w.rows), [&](size_t r, int) {
      const int64_t group = static_cast<int64_t>(r) / rank;
      for (int64_t i = 0; i < a.n; ++i) {
        a.out[i * a.w.rows + static_cast<int64_t>(r)] =
            static_cast<float>(Dot(w + static_cast<int64_t>(r) * k, a.x + i * a.groups * k + group * k, k));
      }
    });
  }

  void Query(const QueryArgs& a) override {
    const int64_t pairs = a.rope_dim / 2;
    for (int64_t i = 0; i < a.n; ++i) {
      for (int64_t h = 0; h < a.heads; ++h) {
        float* q = a.q + (i * a.heads + h) * a.head_dim;
        const auto r = static_cast<float>(InverseRms(q, a.head_dim, a.eps));
        for (int32_t d = 0; d < a.head_dim; ++d) q[d] *= r;
        Rotate(q + a.head_dim - a.rope_dim, a.cos + i * pairs, a.sin + i * pairs, a.rope_dim, 1.0f);
      }
    }
  }

  void WindowRow(const WindowRowArgs& a) override {
    const int32_t d = a.codec.dim();
    const int64_t pairs = a.codec.rope() / 2;
    std::vector<float> row(static_cast<size_t>(d));
    for (int64_t i = 0; i < a.n; ++i) {
      Normalise(a.kv + i * d, a.norm, d, a.eps, row.data());
      Rotate(row.data() + a.codec.nope(), a.cos + i * pairs, a.sin + i * pairs, a.codec.rope(), 1.0f);
      a.codec.Encode(row.data(), a.rows + i * a.codec.bytes());
    }
  }

  void Compress(const CompressArgs& a) override {
    const int64_t overlap = a.ratio == kOverlapRatio ? 2 : 1;
    const int64_t w = overlap * a.d;
    const int64_t slots = overlap * a.ratio;
    for (const CompressSegment& s : a.segments) {
      for (int32_t i = 0; i < s.segment.rows; ++i) {
        const int64_t t = s.segment.first_position + i;
        const int64_t row = int64_t{s.segment.first_row} + i;
        const int64_t slot = t % slots;
        for (int64_t c = 0; c < w; ++c) {
          s.pending.kv[slot * w + c] = a.kv[row * w + c];
          s.pending.score[slot * w + c] = a.score[row * w + c] + a.weights.ape[size_t((t % a.ratio) * w + c)];
        }
        if ((t + 1) % a.ratio == 0) MakeEntry(a, s, t / a.ratio, overlap == 2);
      }
    }
  }

  void IndexQuery(const IndexQueryArgs& a) override {
    const int32_t d = a.codec.dim();
    const int64_t pairs = a.rope_dim / 2;
    for (int64_t i = 0; i < a.n; ++i) {
      for (int64_t h = 0; h < a.heads; ++h) {
        float* q = a.q + (i * a.heads + h) * d;
        Rotate(q + d - a.rope_dim, a.cos + i * pairs, a.sin + i * pairs, a.rope_dim, 1.0f);
        Hadamard(q, d);
        a.codec.Encode(q, a.rows + (i * a.heads + h) * a.codec.bytes());
      }
    }
  }

  void IndexSelect(const IndexSelectArgs& a) override {
    for (const IndexSelectSegment& s : a.segments) {
      pool_.ParallelFor(static_cast<size_t>(s.segment.rows),
                        [&](size_t i, int) { SelectRow(a, s, static_cast<int32_t>(i)); });
    }
  }

  void Attention(const AttentionArgs& a) override {
    for (const AttentionSegment& s : a.segments) {
      pool_.ParallelFor(static_cast<size_t>(s.segment.rows),
                        [&](size_t i, int) { AttendRow(a, s, static_cast<int32_t>(i)); });
    }
  }

  void KeepWindow(const KeepWindowArgs& a) override {
    for (const KeepWindowSegment& s : a.segments) {
      for (int32_t i = std::max(0, s.segment.rows - a.window); i < s.segment.rows; ++i) {
        const int64_t slot = (s.segment.first_position + i) % a.window;
        std::memcpy(s.window + slot * a.row_bytes, a.rows + int64_t{s.segment.first_row + i} * a.row_bytes,
                    static_cast<size_t>(a.row_bytes));
      }
    }
  }

  void Route(const RouteArgs& a) override {
    const auto num_experts = static_cast<int32_t>(a.moe.experts.size());
    const int32_t k = a.experts_per_token;
    std::vector<double> score(static_cast<size_t>(num_experts));
    for (size_t i = 0; i < a.tokens.size(); ++i) {
      for (int32_t e = 0; e < num_experts; ++e) {
        const double g = a.gate[static_cast<int64_t>(i) * num_experts + e];
        score[size_t(e)] = std::sqrt(std::max(g, 0.0) + std::log1p(std::exp(-std::fabs(g))));
      }
      int32_t* chosen = a.experts + static_cast<int64_t>(i) * k;
      if (a.moe.bias.empty()) {
        const int32_t* table = a.moe.tid2eid.data() + int64_t{a.tokens[i]} * k;
        std::copy(table, table + k, chosen);
      } else {
        std::vector<int32_t> order(static_cast<size_t>(num_experts));
        for (int32_t e = 0; e < num_experts; ++e) order[size_t(e)] = e;
        std::stable_sort(order.begin(), order.end(), [&](int32_t p, int32_t q) {
          return score[size_t(p)] + a.moe.bias[size_t(p)] > score[size_t(q)] + a.moe.bias[size_t(q)];
        });
        std::copy(order.begin(), order.begin() + k, chosen);
      }
      std::sort(chosen, chosen + k);
      double sum = 0;
      for (int32_t j = 0; j < k; ++j) sum += score[size_t(chosen[j])];
      for (int32_t j = 0; j < k; ++j) {
        a.weights[static_cast<int64_t>(i) * k + j] =
            static_cast<float>(score[size_t(chosen[j])] / sum * a.scale);
      }
    }
  }

  void Experts(const ExpertsArgs& a) override {
    std::fill(a.y, a.y + int64_t{a.n} * a.width, 0.0f);
    const auto num_experts = static_cast<int32_t>(a.moe.experts.size());
    std::vector<int64_t> rows;
    std::vector<float> weights;
    for (int32_t e = 0; e < num_experts; ++e) {
      rows.clear();
      weights.clear();
      for (int64_t i = 0; i < int64_t{a.n} * a.experts_per_token; ++i) {
        if (a.experts[i] != e) continue;
        rows.push_back(i / a.experts_per_token);
        weights.push_back(a.weights[i]);
      }
      if (!rows.empty()) RunExpert(a, a.moe.experts[size_t(e)], rows, weights);
    }
    rows.resize(static_cast<size_t>(a.n));
    for (int64_t i = 0; i < a.n; ++i) rows[size_t(i)] = i;
    weights.assign(static_cast<size_t>(a.n), 1.0f);
    RunExpert(a, a.moe.shared, rows, weights);
  }

  void AddToStreams(const AddToStreamsArgs& a) override {
    for (int64_t i = 0; i < a.n; ++i) {
      for (int64_t s = 0; s < a.streams; ++s) {
        for (int64_t d = 0; d < a.width; ++d) a.x[(i * a.streams + s) * a.width + d] += a.e[i * a.width + d];
      }
    }
  }

 private:
  static void Combine(const float* h, const std::vector<double>& pre, int32_t width, float* y) {
    for (int32_t d = 0; d < width; ++d) {
      double sum = 0;
      for (size_t j = 0; j < pre.size(); ++j) sum += pre[j] * h[static_cast<int64_t>(j) * width + d];
      y[d] = static_cast<float>(sum);
    }
  }

  static void Normalise(const float* x, const float* weight, int32_t width, float eps, float* y) {
    const auto r = static_cast<float>(InverseRms(x, width, eps));
    for (int32_t d = 0; d < width; ++d) y[d] = x[d] * r * weight[d];
  }

  // out[i, :] = W x[i, :], rows of x and out at the given strides.
  void Product(int64_t n, int64_t k, const float* x, int64_t x_stride, const Matrix& m, float* out,
               int64_t out_stride) {
    const float* w = Dense(m);
    pool_.ParallelFor(static_cast<size_t>(m.rows), [&](size_t r, int) {
      for (int64_t i = 0; i < n; ++i) {
        out[i * out_stride + static_cast<int64_t>(r)] =
            static_cast<float>(Dot(w + static_cast<int64_t>(r) * k, x + i * x_stride, k));
      }
    });
  }

  void RunExpert(const ExpertsArgs& a, const Expert& e, const std::vector<int64_t>& rows,
                 const std::vector<float>& weights) {
    const auto n = static_cast<int64_t>(rows.size());
    std::vector<float> x(static_cast<size_t>(n * a.width));
    for (int64_t i = 0; i < n; ++i) {
      std::copy_n(a.x + rows[size_t(i)] * a.width, a.width, x.begin() + i * a.width);
    }
    std::vector<float> gate(static_cast<size_t>(n * a.inter));
    std::vector<float> up(gate.size());
    std::vector<float> down(x.size());
    Product(n, a.width, x.data(), a.width, e.w1, gate.data(), a.inter);
    Product(n, a.width, x.data(), a.width, e.w3, up.data(), a.inter);
    for (size_t i = 0; i < gate.size(); ++i) {
      const double g = std::min(gate[i], a.limit);
      const double u = std::clamp(up[i], -a.limit, a.limit);
      gate[i] = static_cast<float>(weights[i / static_cast<size_t>(a.inter)] * (g * Sigmoid(g)) * u);
    }
    Product(n, a.inter, gate.data(), a.inter, e.w2, down.data(), a.width);
    for (int64_t i = 0; i < n; ++i) {
      for (int32_t d = 0; d < a.width; ++d)
        a.y[rows[size_t(i)] * a.width + d] += down[size_t(i * a.width + d)];
    }
  }

  // Entry `index` of a segment: its block's pending rows, and with overlap the first halves of the block
  // before.
  static void MakeEntry(const CompressArgs& a, const CompressSegment& s, int64_t index, bool overlap) {
    const int64_t w = (overlap ? 2 : 1) * int64_t{a.d};
    const int64_t slots = (overlap ? 2 : 1) * int64_t{a.ratio};
    const int64_t first = index * a.ratio;
    std::vector<float> entry(static_cast<size_t>(a.d));
    for (int32_t c = 0; c < a.d; ++c) {
      double max = -std::numeric_limits<double>::infinity();
      const auto each = [&](auto&& use) {
        for (int64_t t = overlap && index > 0 ? first - a.ratio : first; t < first + a.ratio; ++t) {
          use((t % slots) * w + (overlap && t >= first ? a.d : 0) + c);
        }
      };
      each([&](int64_t at) { max = std::max(max, static_cast<double>(s.pending.score[at])); });
      double sum = 0;
      double pooled = 0;
      each([&](int64_t at) {
        const double p = std::exp(s.pending.score[at] - max);
        sum += p;
        pooled += p * s.pending.kv[at];
      });
      entry[size_t(c)] = static_cast<float>(pooled / sum);
    }
    Normalise(entry.data(), a.weights.norm.data(), a.d, a.eps, entry.data());
    std::vector<float> cos(static_cast<size_t>(a.rope.pairs()));
    std::vector<float> sin(cos.size());
    a.rope.Fill(first, cos.data(), sin.data());
    Rotate(entry.data() + a.d - a.rope_dim, cos.data(), sin.data(), a.rope_dim, 1.0f);
    if (a.index_keys) {
      Hadamard(entry.data(), a.d);
      a.index_codec.Encode(entry.data(), s.out.entry(index));
    } else {
      a.entry_codec.Encode(entry.data(), s.out.entry(index));
    }
  }

  static void SelectRow(const IndexSelectArgs& a, const IndexSelectSegment& s, int32_t i) {
    const int64_t row = int64_t{s.segment.first_row} + i;
    const int64_t visible = (s.segment.first_position + i + 1) / a.ratio;
    const int32_t d = a.codec.dim();
    const double scale = 1.0 / std::sqrt(static_cast<double>(d) * a.heads);
    std::vector<float> q(static_cast<size_t>(a.heads) * static_cast<size_t>(d));
    for (int64_t h = 0; h < a.heads; ++h)
      a.codec.Decode(a.q + (row * a.heads + h) * a.codec.bytes(), &q[size_t(h * d)]);
    std::vector<float> key(static_cast<size_t>(d));
    std::vector<float> score(static_cast<size_t>(visible));
    for (int64_t e = 0; e < visible; ++e) {
      a.codec.Decode(s.keys.entry(e), key.data());
      double sum = 0;
      for (int64_t h = 0; h < a.heads; ++h) {
        const double dot = Dot(&q[size_t(h * d)], key.data(), d);
        sum += a.weights[row * a.heads + h] * (dot < 0 ? 0.0 : dot);
      }
      score[size_t(e)] = static_cast<float>(sum * scale);
      if (!std::isfinite(score[size_t(e)])) {  // nothing can be selected: the row is spoilt
        a.selected_count[row] = -1;
        return;
      }
    }
    std::vector<int32_t> order(score.size());
    for (size_t e = 0; e < order.size(); ++e) order[e] = static_cast<int32_t>(e);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t p, int32_t q2) { return score[size_t(p)] > score[size_t(q2)]; });
    order.resize(std::min<size_t>(order.size(), static_cast<size_t>(a.topk)));
    std::sort(order.begin(), order.end());
    std::copy(order.begin(), order.end(), a.selected + row * a.topk);
    a.selected_count[row] = static_cast<int32_t>(order.size());
  }

  static void AttendRow(const AttentionArgs& a, const AttentionSegment& s, int32_t i) {
    const int64_t row = int64_t{s.segment.first_row} + i;
    const int64_t t = s.segment.first_position + i;
    const int32_t d = a.codec.dim();
    std::vector<const std::byte*> keys;
    for (int64_t p = std::max(s.window_begin, t - a.window + 1); p <= t; ++p) {
      keys.push_back(p >= s.segment.first_position
                         ? a.rows + (s.segment.first_row + p - s.segment.first_position) * a.codec.bytes()
                         : s.window + (p % a.window) * a.codec.bytes());
    }
    if (a.selected != nullptr && a.selected_count[row] < 0) {
      std::fill_n(a.o + row * a.heads * d, a.heads * d, std::numeric_limits<float>::quiet_NaN());
      return;
    }
    if (a.ratio != 0) {
      const int64_t visible = a.selected != nullptr ? a.selected_count[row] : (t + 1) / a.ratio;
      for (int64_t e = 0; e < visible; ++e) {
        keys.push_back(s.entries.entry(a.selected != nullptr ? a.selected[row * a.topk + e] : e));
      }
    }
    std::vector<float> kv(keys.size() * static_cast<size_t>(d));
    for (size_t j = 0; j < keys.size(); ++j) a.codec.Decode(keys[j], &kv[j * static_cast<size_t>(d)]);

    const double scale = 1.0 / std::sqrt(static_cast<double>(d));
    std::vector<double> p(keys.size());
    std::vector<double> o(static_cast<size_t>(d));
    for (int64_t h = 0; h < a.heads; ++h) {
      const float* q = a.q + (row * a.heads + h) * d;
      double max = -std::numeric_limits<double>::infinity();
      for (size_t j = 0; j < p.size(); ++j) {
        p[j] = Dot(q, &kv[j * static_cast<size_t>(d)], d) * scale;
        max = std::max(max, p[j]);
      }
      double sum = std::exp(a.sink[h] - max);
      std::fill(o.begin(), o.end(), 0.0);
      for (size_t j = 0; j < p.size(); ++j) {
        p[j] = std::exp(p[j] - max);
        sum += p[j];
        for (size_t c = 0; c < o.size(); ++c) o[c] += p[j] * kv[j * static_cast<size_t>(d) + c];
      }
      float* out = a.o + (row * a.heads + h) * d;
      for (size_t c = 0; c < o.size(); ++c) out[c] = static_cast<float>(o[c] / sum);
      const int64_t pairs = a.codec.rope() / 2;
      Rotate(out + a.codec.nope(), a.cos + row * pairs, a.sin + row * pairs, a.codec.rope(), -1.0f);
    }
  }

  // The matrix as float32, dequantised once.
  const float* Dense(const Matrix& m) {
    std::vector<float>& dense = dense_[m.data];
    if (dense.empty()) {
      dense.resize(static_cast<size_t>(m.rows * m.cols));
      pool_.ParallelFor(static_cast<size_t>(m.rows), [&](size_t r, int) {
        for (int64_t c = 0; c < m.cols; ++c) {
          dense[r * static_cast<size_t>(m.cols) + static_cast<size_t>(c)] =
              MatrixElement(m, static_cast<int64_t>(r), c);
        }
      });
    }
    return dense.data();
  }

  const KvMode kv_mode_;
  base::ThreadPool pool_;
  std::map<const std::byte*, std::vector<float>> dense_;
};

}  // namespace

std::unique_ptr<Backend> MakeReferenceBackend(const ReferenceOptions& options) {
  return std::make_unique<ReferenceBackend>(options);
}

}  // namespace holdfast::model
