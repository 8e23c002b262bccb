// The CPU backend: every operation of the graph as parallel loops over final-bits kernels. A task computes
// whole outputs and no sum is split between tasks, so the thread count cannot show in a result.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "base/check.h"
#include "base/parallel.h"
#include "base/process.h"
#include "model/backend.h"
#include "model/cpu/attention.h"
#include "model/cpu/experts.h"
#include "model/cpu/index_select.h"
#include "model/cpu/matmul.h"
#include "model/cpu/row_ops.h"
#include "model/engine.h"

namespace holdfast::model {
namespace {

class CpuBackend : public Backend {
 public:
  CpuBackend(int threads, base::Pinning pinning)
      : pool_(threads, pinning), scratch_(static_cast<size_t>(threads)), experts_(pool_) {}

  // Raise the last number with any change of a result bit (docs/invariance.md).
  std::string NumericsId() const override { return "cpu/kv-stored/1"; }
  KvMode kv_mode() const override { return KvMode::kStored; }

  Buffer Allocate(size_t bytes) override {
    auto* p = static_cast<std::byte*>(::operator new (std::max<size_t>(bytes, 1), std::align_val_t{64}));
    std::memset(p, 0, bytes);
    return Buffer(p, [](std::byte* q) { ::operator delete (q, std::align_val_t{64}); });
  }

  void Embed(const EmbedArgs& a) override {
    const int64_t d = a.embed.cols;
    ForRows(static_cast<int64_t>(a.tokens.size()), [&](int64_t i, int) {
      float* first = a.h + i * a.streams * d;
      for (int64_t c = 0; c < d; ++c) first[c] = MatrixElement(a.embed, a.tokens[static_cast<size_t>(i)], c);
      for (int32_t s = 1; s < a.streams; ++s) std::copy_n(first, d, first + s * d);
    });
  }

  void HcPre(const HcPreArgs& a) override {
    const int64_t s = a.streams;
    const int64_t rows = a.hc.fn.rows;
    Mix(a.n, s * a.width, a.h, a.hc.fn, a.rms_eps);
    ForRows(a.n, [&](int64_t i, int) {
      float* m = &mix_[static_cast<size_t>(i * rows)];
      const float* scale = a.hc.scale.data();
      for (int64_t j = 0; j < rows; ++j) {
        m[j] = m[j] * scale[j < s ? 0 : j < 2 * s ? 1 : 2] + a.hc.base[static_cast<size_t>(j)];
      }
      cpu::SigmoidArray(m, 2 * s);
      for (int64_t j = 0; j < s; ++j) {
        m[j] += a.hc_eps;
        a.post[i * s + j] = 2.0f * m[s + j];
      }
      cpu::Sinkhorn(m + 2 * s, s, a.sinkhorn_iters, a.hc_eps);
      std::copy_n(m + 2 * s, s * s, a.comb + i * s * s);
      Combine(a.h + i * s * a.width, m, s, a.width, a.y + i * a.width);
    });
  }

  void HcPost(const HcPostArgs& a) override {
    const int64_t s = a.streams;
    ForRows(a.n, [&](int64_t i, int) {
      PostRow(a.y + i * a.width, a.post + i * s, a.comb + i * s * s, s, a.width, a.h + i * s * a.width);
    });
  }

  void HcHead(const HcHeadArgs& a) override {
    const int64_t s = a.streams;
    Mix(a.n, s * a.width, a.h, a.hc.fn, a.rms_eps);
    ForRows(a.n, [&](int64_t i, int) {
      float* m = &mix_[static_cast<size_t>(i * s)];
      for (int64_t j = 0; j < s; ++j) m[j] = m[j] * a.hc.scale[0] + a.hc.base[static_cast<size_t>(j)];
      cpu::SigmoidArray(m, s);
      for (int64_t j = 0; j < s; ++j) m[j] += a.hc_eps;
      Combine(a.h + i * s * a.width, m, s, a.width, a.y + i * a.width);
    });
  }

  void RmsNorm(const RmsNormArgs& a) override {
    ForRows(a.n, [&](int64_t i, int) {
      Normalise(a.x + i * a.width, a.weight, a.width, a.eps, a.y + i * a.width);
    });
  }

  void Linear(const LinearArgs& a) override {
    const cpu::MatmulRows x{a.x, a.k, nullptr, AllRows(a.n)};
    tiles_.clear();
    for (const LinearProduct& p : a.products) AddTiles(*p.w, 0, p.w->rows, x, p.out, p.w->rows);
    RunTiles();
  }

  void GroupedLinear(const GroupedLinearArgs& a) override {
    const int64_t k = a.w.cols;
    const int64_t rank = a.w.rows / a.groups;
    tiles_.clear();
    for (int64_t g = 0; g < a.groups; ++g) {
      const cpu::MatmulRows x{a.x + g * k, a.groups * k, nullptr, AllRows(a.n)};
      AddTiles(a.w, g * rank, (g + 1) * rank, x, a.out + g * rank, a.w.rows);
    }
    RunTiles();
  }

  void Query(const QueryArgs& a) override {
    const int64_t pairs = a.rope_dim / 2;
    ForRows(a.n, [&](int64_t i, int) {
      for (int64_t h = 0; h < a.heads; ++h) {
        float* q = a.q + (i * a.heads + h) * a.head_dim;
        const float r = cpu::InverseRms(q, a.head_dim, a.eps);
        for (int64_t d = 0; d < a.head_dim; ++d) q[d] *= r;
        cpu::Rotate(q + a.head_dim - a.rope_dim, a.cos + i * pairs, a.sin + i * pairs, a.rope_dim, 1.0f);
      }
    });
  }

  void WindowRow(const WindowRowArgs& a) override {
    const int64_t d = a.codec.dim();
    const int64_t pairs = a.codec.rope() / 2;
    ForRows(a.n, [&](int64_t i, int thread) {
      std::vector<float>& row = scratch_[static_cast<size_t>(thread)].row;
      row.resize(static_cast<size_t>(d));
      Normalise(a.kv + i * d, a.norm, d, a.eps, row.data());
      cpu::Rotate(row.data() + a.codec.nope(), a.cos + i * pairs, a.sin + i * pairs, a.codec.rope(), 1.0f);
      a.codec.Encode(row.data(), a.rows + i * a.codec.bytes());
    });
  }

  void Compress(const CompressArgs& a) override {
    const int64_t overlap = a.ratio == kOverlapRatio ? 2 : 1;
    const int64_t w = overlap * a.d;
    entries_.clear();
    for (const CompressSegment& s : a.segments) {
      for (int64_t i = 0; i < s.segment.rows; ++i) {
        const int64_t t = s.segment.first_position + i;
        float* score = a.score + (s.segment.first_row + i) * w;
        const float* ape = a.weights.ape.data() + (t % a.ratio) * w;
        for (int64_t c = 0; c < w; ++c) score[c] += ape[c];
        if ((t + 1) % a.ratio == 0) entries_.push_back({&s, t / a.ratio});
      }
    }
    pool_.ParallelFor(entries_.size(), [&](size_t e, int thread) {
      MakeEntry(a, *entries_[e].segment, entries_[e].index, scratch_[static_cast<size_t>(thread)]);
    });
    const int64_t slots = overlap * a.ratio;
    for (const CompressSegment& s : a.segments) {
      for (int64_t i = std::max<int64_t>(0, s.segment.rows - slots); i < s.segment.rows; ++i) {
        const int64_t slot = (s.segment.first_position + i) % slots;
        std::copy_n(a.kv + (s.segment.first_row + i) * w, w, s.pending.kv + slot * w);
        std::copy_n(a.score + (s.segment.first_row + i) * w, w, s.pending.score + slot * w);
      }
    }
  }

  void IndexQuery(const IndexQueryArgs& a) override {
    const int64_t d = a.codec.dim();
    const int64_t pairs = a.rope_dim / 2;
    ForRows(a.n, [&](int64_t i, int) {
      for (int64_t h = 0; h < a.heads; ++h) {
        float* q = a.q + (i * a.heads + h) * d;
        cpu::Rotate(q + d - a.rope_dim, a.cos + i * pairs, a.sin + i * pairs, a.rope_dim, 1.0f);
        cpu::Hadamard(q, d);
        a.codec.Encode(q, a.rows + (i * a.heads + h) * a.codec.bytes());
      }
    });
  }

  void IndexSelect(const IndexSelectArgs& a) override {
    rows_.clear();
    for (const IndexSelectSegment& s : a.segments) AddRows(s.segment, &s);
    ForRows(static_cast<int64_t>(rows_.size()), [&](int64_t task, int thread) {
      const auto& s = *static_cast<const IndexSelectSegment*>(rows_[static_cast<size_t>(task)].segment);
      const int64_t i = rows_[static_cast<size_t>(task)].index;
      const int64_t row = s.segment.first_row + i;
      a.selected_count[row] = cpu::SelectRow({.q = a.q + row * a.heads * a.codec.bytes(),
                                              .heads = a.heads,
                                              .weights = a.weights + row * a.heads,
                                              .codec = a.codec,
                                              .keys = s.keys,
                                              .visible = (s.segment.first_position + i + 1) / a.ratio,
                                              .topk = a.topk,
                                              .selected = a.selected + row * a.topk},
                                             scratch_[static_cast<size_t>(thread)].index);
    });
  }

  void Attention(const AttentionArgs& a) override {
    rows_.clear();
    for (const AttentionSegment& s : a.segments) AddRows(s.segment, &s);
    // Few rows: split the heads too, so that every thread has work.
    const auto n = static_cast<int64_t>(rows_.size());
    const int64_t threads = pool_.threads();
    const int64_t groups = n >= 2 * threads ? 1 : std::clamp<int64_t>(2 * threads / n, 1, (a.heads + 3) / 4);
    const int64_t per_group = ((a.heads + groups - 1) / groups + 3) / 4 * 4;
    pool_.ParallelFor(static_cast<size_t>(n * groups), [&](size_t task, int thread) {
      const BatchRow& row = rows_[task / static_cast<size_t>(groups)];
      const int64_t first_head = static_cast<int64_t>(task) % groups * per_group;
      const int64_t heads = std::min(per_group, a.heads - first_head);
      if (heads <= 0) return;
      Attend(a, *static_cast<const AttentionSegment*>(row.segment), row.index, first_head, heads, thread);
    });
  }

  void KeepWindow(const KeepWindowArgs& a) override {
    for (const KeepWindowSegment& s : a.segments) {
      for (int64_t i = std::max(0, s.segment.rows - a.window); i < s.segment.rows; ++i) {
        const int64_t slot = (s.segment.first_position + i) % a.window;
        std::memcpy(s.window + slot * a.row_bytes, a.rows + (s.segment.first_row + i) * a.row_bytes,
                    static_cast<size_t>(a.row_bytes));
      }
    }
  }

  void Route(const RouteArgs& a) override {
    ForRows(static_cast<int64_t>(a.tokens.size()),
            [&](int64_t i, int thread) { RouteRow(a, i, scratch_[static_cast<size_t>(thread)].row); });
  }

  void Experts(const ExpertsArgs& a) override { experts_.Run(a); }

  void AddToStreams(const AddToStreamsArgs& a) override {
    ForRows(a.n, [&](int64_t i, int) {
      for (int64_t s = 0; s < a.streams; ++s) {
        for (int64_t d = 0; d < a.width; ++d) a.x[(i * a.streams + s) * a.width + d] += a.e[i * a.width + d];
      }
    });
  }

 private:
  struct Scratch {
    cpu::MatmulScratch matmul;
    cpu::AttentionScratch attention;
    cpu::IndexScratch index;
    std::vector<float> row;
    std::vector<float> cos;
    std::vector<float> sin;
    std::vector<cpu::PoolRow> pool;
  };
  struct Tile {
    const Matrix* w;
    int64_t begin;
    int64_t end;
    cpu::MatmulRows x;
    float* out;  // of row `begin`
    int64_t out_stride;
  };
  struct Entry {
    const CompressSegment* segment;
    int64_t index;
  };

  // Row `index` of a segment, whichever kind of segment the operation has.
  struct BatchRow {
    const void* segment;
    int64_t index;
  };

  void AddRows(const Segment& segment, const void* owner) {
    for (int64_t i = 0; i < segment.rows; ++i) rows_.push_back({owner, i});
  }

  template <class Function>
  void ForRows(int64_t n, Function&& f) {
    pool_.ParallelFor(static_cast<size_t>(n),
                      [&](size_t i, int thread) { f(static_cast<int64_t>(i), thread); });
  }

  std::span<const int32_t> AllRows(int64_t n) {
    while (static_cast<int64_t>(all_rows_.size()) < n)
      all_rows_.push_back(static_cast<int32_t>(all_rows_.size()));
    return std::span(all_rows_).first(static_cast<size_t>(n));
  }

  // Cuts rows [begin, end) into tiles that give each thread a few; `out` is of row `begin`. Only experts are
  // FP4, and they have loops of their own (experts.cc).
  void AddTiles(const Matrix& w, int64_t begin, int64_t end, const cpu::MatmulRows& x, float* out,
                int64_t out_stride) {
    HF_CHECK(!cpu::WantsInt8(w));
    const int64_t wanted = (end - begin) / (pool_.threads() * 4);
    const int64_t unit = end - begin <= 64 ? 4 : 16;
    const int64_t tile = std::clamp<int64_t>((wanted + unit - 1) / unit * unit, unit, 256);
    for (int64_t r = begin; r < end; r += tile) {
      tiles_.push_back({&w, r, std::min(end, r + tile), x, out + (r - begin), out_stride});
    }
  }

  void RunTiles() {
    pool_.ParallelFor(tiles_.size(), [&](size_t t, int thread) {
      const Tile& tile = tiles_[t];
      cpu::DotRows(*tile.w, tile.begin, tile.end, tile.x, tile.out, tile.out_stride,
                   scratch_[static_cast<size_t>(thread)].matmul);
    });
  }

  // mix_[i, :] = (fn . h[i]) * rsqrt(mean(h[i]^2) + eps).
  void Mix(int64_t n, int64_t width, const float* h, const Matrix& fn, float eps) {
    if (static_cast<int64_t>(mix_.size()) < n * fn.rows) mix_.resize(static_cast<size_t>(n * fn.rows));
    const LinearProduct product[] = {{&fn, mix_.data()}};
    Linear({static_cast<int32_t>(n), static_cast<int32_t>(width), h, product});
    ForRows(n, [&](int64_t i, int) {
      const float r = cpu::InverseRms(h + i * width, width, eps);
      for (int64_t j = 0; j < fn.rows; ++j) mix_[static_cast<size_t>(i * fn.rows + j)] *= r;
    });
  }

  // y = sum_j pre[j] h[j], streams in order.
  static void Combine(const float* h, const float* pre, int64_t streams, int64_t width, float* y) {
    for (int64_t d = 0; d < width; ++d) y[d] = pre[0] * h[d];
    for (int64_t j = 1; j < streams; ++j) {
      for (int64_t d = 0; d < width; ++d) y[d] += pre[j] * h[j * width + d];
    }
  }

  static void PostRow(const float* y, const float* post, const float* comb, int64_t streams, int64_t width,
                      float* h) {
    constexpr int64_t kBlock = 32;
    constexpr int64_t kMaxStreams = 64;  // ParseConfig bounds hc_mult
    float old[kMaxStreams * kBlock];
    for (int64_t d0 = 0; d0 < width; d0 += kBlock) {  // width is a multiple of 32
      for (int64_t j = 0; j < streams; ++j) std::copy_n(h + j * width + d0, kBlock, old + j * kBlock);
      for (int64_t k = 0; k < streams; ++k) {
        float mixed[kBlock];
        for (int64_t d = 0; d < kBlock; ++d) mixed[d] = post[k] * y[d0 + d];
        for (int64_t j = 0; j < streams; ++j) {
          const float c = comb[j * streams + k];
          for (int64_t d = 0; d < kBlock; ++d) mixed[d] += c * old[j * kBlock + d];
        }
        std::copy_n(mixed, kBlock, h + k * width + d0);
      }
    }
  }

  static void Normalise(const float* x, const float* weight, int64_t width, float eps, float* y) {
    const float r = cpu::InverseRms(x, width, eps);
    for (int64_t d = 0; d < width; ++d) y[d] = x[d] * r * weight[d];
  }

  // Entry `index`: its block's rows, and with overlap the first halves of the block before. Rows of this
  // batch stand in a.kv and a.score, earlier ones in the pending rows.
  static void MakeEntry(const CompressArgs& a, const CompressSegment& s, int64_t index, Scratch& scratch) {
    const bool overlap = a.ratio == kOverlapRatio;
    const int64_t w = (overlap ? 2 : 1) * int64_t{a.d};
    const int64_t slots = (overlap ? 2 : 1) * int64_t{a.ratio};
    const int64_t first = index * a.ratio;
    scratch.pool.clear();
    for (int64_t t = overlap && index > 0 ? first - a.ratio : first; t < first + a.ratio; ++t) {
      const int64_t half = overlap && t >= first ? a.d : 0;
      if (t >= s.segment.first_position) {
        const int64_t at = (s.segment.first_row + t - s.segment.first_position) * w + half;
        scratch.pool.push_back({a.kv + at, a.score + at});
      } else {
        const int64_t at = t % slots * w + half;
        scratch.pool.push_back({s.pending.kv + at, s.pending.score + at});
      }
    }
    std::vector<float>& entry = scratch.row;
    entry.resize(static_cast<size_t>(a.d));
    cpu::PoolChannels(scratch.pool, a.d, entry.data());
    Normalise(entry.data(), a.weights.norm.data(), a.d, a.eps, entry.data());
    scratch.cos.resize(static_cast<size_t>(a.rope.pairs()));
    scratch.sin.resize(static_cast<size_t>(a.rope.pairs()));
    a.rope.Fill(first, scratch.cos.data(), scratch.sin.data());
    cpu::Rotate(entry.data() + a.d - a.rope_dim, scratch.cos.data(), scratch.sin.data(), a.rope_dim, 1.0f);
    if (a.index_keys) {
      cpu::Hadamard(entry.data(), a.d);
      a.index_codec.Encode(entry.data(), s.out.entry(index));
    } else {
      a.entry_codec.Encode(entry.data(), s.out.entry(index));
    }
  }

  void Attend(const AttentionArgs& a, const AttentionSegment& s, int64_t i, int64_t first_head, int64_t heads,
              int thread) {
    cpu::AttentionScratch& scratch = scratch_[static_cast<size_t>(thread)].attention;
    const int64_t row = s.segment.first_row + i;
    const int64_t t = s.segment.first_position + i;
    scratch.keys.clear();
    for (int64_t p = std::max(s.window_begin, t - a.window + 1); p <= t; ++p) {
      scratch.keys.push_back(p >= s.segment.first_position
                                 ? a.rows +
                                       (s.segment.first_row + p - s.segment.first_position) * a.codec.bytes()
                                 : s.window + p % a.window * a.codec.bytes());
    }
    const int64_t d = a.codec.dim();
    float* o = a.o + (row * a.heads + first_head) * d;
    if (a.selected != nullptr && a.selected_count[row] == cpu::kNotFinite) {
      std::fill_n(o, heads * d, std::numeric_limits<float>::quiet_NaN());
      return;
    }
    if (a.selected != nullptr) {
      for (int64_t e = 0; e < a.selected_count[row]; ++e) {
        scratch.keys.push_back(s.entries.entry(a.selected[row * a.topk + e]));
      }
    } else if (a.ratio != 0) {
      for (int64_t e = 0; e < (t + 1) / a.ratio; ++e) scratch.keys.push_back(s.entries.entry(e));
    }
    const int64_t pairs = a.codec.rope() / 2;
    cpu::AttendRow({a.q + (row * a.heads + first_head) * d, heads, a.codec, a.sink + first_head, o}, scratch);
    for (int64_t h = 0; h < heads; ++h) {
      cpu::Rotate(o + h * d + a.codec.nope(), a.cos + row * pairs, a.sin + row * pairs, a.codec.rope(),
                  -1.0f);
    }
  }

  static void RouteRow(const RouteArgs& a, int64_t i, std::vector<float>& score) {
    const auto num_experts = static_cast<int64_t>(a.moe.experts.size());
    const int64_t k = a.experts_per_token;
    score.assign(a.gate + i * num_experts, a.gate + (i + 1) * num_experts);
    cpu::SqrtSoftplusArray(score.data(), num_experts);
    int32_t* chosen = a.experts + i * k;
    if (a.moe.bias.empty()) {
      std::copy_n(&a.moe.tid2eid[static_cast<size_t>(a.tokens[static_cast<size_t>(i)] * k)], k, chosen);
    } else {
      ChooseTop(score.data(), a.moe.bias.data(), num_experts, k, chosen);
    }
    std::sort(chosen, chosen + k);
    float sum = 0;
    for (int64_t j = 0; j < k; ++j) sum += score[static_cast<size_t>(chosen[j])];
    for (int64_t j = 0; j < k; ++j)
      a.weights[i * k + j] = score[static_cast<size_t>(chosen[j])] / sum * a.scale;
  }

  // The k experts of highest score + bias; ties go to the lower id.
  static void ChooseTop(const float* score, const float* bias, int64_t n, int64_t k, int32_t* chosen) {
    for (int64_t j = 0; j < k; ++j) {
      int32_t best = -1;
      float best_score = 0;
      for (int32_t e = 0; e < n; ++e) {
        const float s = score[e] + bias[e];
        if ((best < 0 || s > best_score) && std::find(chosen, chosen + j, e) == chosen + j) {
          best = e;
          best_score = s;
        }
      }
      chosen[j] = best;
    }
  }

  base::ThreadPool pool_;
  std::vector<Scratch> scratch_;  // per thread
  cpu::ExpertRunner experts_;
  std::vector<float> mix_;
  std::vector<int32_t> all_rows_;  // 0, 1, 2, ...
  std::vector<Tile> tiles_;
  std::vector<BatchRow> rows_;
  std::vector<Entry> entries_;
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(const CpuOptions& options) {
  const int threads = options.threads > 0 ? options.threads : base::PhysicalCoreCount();
  return std::make_unique<CpuBackend>(
      threads, options.pin_threads ? base::Pinning::kPhysicalCores : base::Pinning::kNone);
}

}  // namespace holdfast::model
