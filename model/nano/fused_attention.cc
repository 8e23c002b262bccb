// Attention of nano's training as single passes, forward and backward: norms and rotations, pooled entries,
// the softmax over window, entries and sink, the indexer with its loss. fused.py calls these through ctypes;
// the plain twins are in attention.py. Every function takes (n: sizes, x: constants, p: pointers). B rows of
// T tokens, H heads of width d, N entries, rotary tables of 32 floats a position (fused.h, Turn).

#include <algorithm>
#include <functional>
#include <type_traits>
#include <vector>

#include "model/nano/fused.h"
#include "model/nano/fused_products.h"

namespace nano {
namespace {

bool g_matrix_units = false;  // whether the kernel lets this process use them

constexpr int kTile = 16;  // tokens at a time
constexpr int kTable = 2 * kLanes;

int PadTo16(int64_t n) { return static_cast<int>((n + 15) / 16 * 16); }

template <class P>
P* As(void* p) {
  return static_cast<P*>(p);
}

// out = rms(in) * w, its last 16 turned when a table is given. Returns nothing to keep: backward reads `in`
// again.
template <class In, class Out>
void NormTurn(const In* in, int d, float eps, const float* w, const float* table, Out* out) {
  Vec squares{};
  for (int c = 0; c < d; c += kLanes) squares += Load(in + c) * Load(in + c);
  const float r = 1.0F / std::sqrt(Sum(squares) / d + eps);
  for (int c = 0; c < d; c += kLanes) {
    Vec v = Load(in + c) * r;
    if (w) v *= Load(w + c);
    if (table && c + kLanes == d) v = Turn(v, table, false);
    Store(out + c, v);
  }
}

// gw is added to.
template <class In, class Grad>
void NormTurnBackward(const In* in, int d, float eps, const float* w, const float* table, const Grad* g,
                      float* gw, In* gin) {
  Vec squares{}, dots{}, turned[64];
  for (int c = 0; c < d; c += kLanes) {
    const Vec v = Load(in + c);
    Vec& gc = turned[c / kLanes] = Load(g + c);
    if (table && c + kLanes == d) gc = Turn(gc, table, true);
    squares += v * v;
    dots += gc * v * (w ? Load(w + c) : Splat(1));
  }
  const float r = 1.0F / std::sqrt(Sum(squares) / d + eps);
  const float mean = Sum(dots) * r * r / d;
  for (int c = 0; c < d; c += kLanes) {
    const Vec v = Load(in + c), gc = turned[c / kLanes];
    if (gw) Store(gw + c, Load(gw + c) + gc * v * r);
    Store(gin + c, r * ((w ? gc * Load(w + c) : gc) - v * mean));
  }
}

// --- pooled entries ---

struct Pool {
  int64_t batch, tokens, row;  // a row of z is `row` wide
  int ratio, d, at;            // columns from `at`: kv, then gate, each d (2d with overlap) wide
  bool overlap;
  float eps;
  int64_t Entries() const { return tokens / ratio; }
  int Width() const { return overlap ? 2 * d : d; }
};

// The rows of z that make entry i of one batch row: calls use(row of z, channel offset, row of ape).
template <class Use>
void EachRow(const Pool& pool, int64_t entry, Use use) {
  if (pool.overlap && entry > 0)
    for (int k = 0; k < pool.ratio; ++k) use((entry - 1) * pool.ratio + k, 0, k);
  for (int k = 0; k < pool.ratio; ++k) use(entry * pool.ratio + k, pool.overlap ? pool.d : 0, k);
}

template <class T>
Vec Pooled(const Pool& pool, const T* z, int64_t entry, int c, const float* ape, Vec* top, Vec* total) {
  const int width = pool.Width();
  *top = Splat(-1e30F);
  EachRow(pool, entry, [&](int64_t t, int shift, int k) {
    *top =
        Max(*top, Load(z + t * pool.row + pool.at + width + shift + c) + Load(ape + k * width + shift + c));
  });
  Vec sum{};
  *total = Vec{};
  EachRow(pool, entry, [&](int64_t t, int shift, int k) {
    const T* row = z + t * pool.row + pool.at + shift + c;
    const Vec e = Exp(Load(row + width) + Load(ape + k * width + shift + c) - *top);
    *total += e;
    sum += e * Load(row);
  });
  return sum / *total;
}

template <class T>
void Entries(const Pool& pool, const T* z, const float* ape, const float* norm, const float* table,
             float* out) {
  for (int64_t b = 0; b < pool.batch; ++b, z += pool.tokens * pool.row)
    for (int64_t i = 0; i < pool.Entries(); ++i, out += pool.d, table += kTable) {
      float pooled[1024];
      Vec top, total;
      for (int c = 0; c < pool.d; c += kLanes) Store(pooled + c, Pooled(pool, z, i, c, ape, &top, &total));
      NormTurn(pooled, pool.d, pool.eps, norm, table, out);
    }
}

// gz must be zero in these columns; gape and gnorm are added to.
template <class T>
void EntriesBackward(const Pool& pool, const T* z, const float* ape, const float* norm, const float* table,
                     const float* g, T* gz, float* gape, float* gnorm) {
  const int width = pool.Width();
  for (int64_t b = 0; b < pool.batch; ++b, z += pool.tokens * pool.row, gz += pool.tokens * pool.row)
    for (int64_t i = 0; i < pool.Entries(); ++i, g += pool.d, table += kTable) {
      float pooled[1024], back[1024], tops[1024], totals[1024];
      Vec top, total;
      for (int c = 0; c < pool.d; c += kLanes) {
        Store(pooled + c, Pooled(pool, z, i, c, ape, &top, &total));
        Store(tops + c, top);
        Store(totals + c, total);
      }
      NormTurnBackward(pooled, pool.d, pool.eps, norm, table, g, gnorm, back);
      EachRow(pool, i, [&](int64_t t, int shift, int k) {
        for (int c = 0; c < pool.d; c += kLanes) {
          const int64_t at = t * pool.row + pool.at + shift + c;
          float* ga = gape + k * width + shift + c;
          const Vec share = Exp(Load(z + at + width) + Load(ape + k * width + shift + c) - Load(tops + c)) /
                            Load(totals + c);
          const Vec gp = Load(back + c) * share;
          const Vec ggate = gp * (Load(z + at) - Load(pooled + c));
          Store(gz + at, gp);
          Store(gz + at + width, ggate);
          Store(ga, Load(ga) + ggate);
        }
      });
    }
}

// --- softmax over window, entries and sink ---

struct Core {
  int64_t batch, tokens, entries, row;  // a row of qz is `row` wide, its first H d columns are the queries
  int heads, d, window, ratio;
  float eps, scale;
  int Width() const { return heads * d; }
};

// Queries and weights of kTile tokens from `first`; rows are token-major (token * H + head).
struct TileWork {
  int64_t first;
  int count, low, near, far;          // tokens; first key; keys of the window and entries, both padded
  std::vector<float> q, p, pf, out;   // [rows, d], [rows, near], [rows, far], [rows, d]
  std::vector<float> g, dp, dpf, gq;  // backward
};

// lowest [T]: the first key in each token's window. It never falls: that of the first token holds for the
// tile.
void Place(const Core& core, int64_t first, const int32_t* lowest, int align, TileWork* work) {
  work->first = first;
  work->count = static_cast<int>(std::min<int64_t>(kTile, core.tokens - first));
  work->low = lowest[first] / align * align;
  work->near = PadTo(first + work->count - work->low, align);
  const int64_t seen = core.ratio ? std::min(core.entries, (first + work->count) / core.ratio) : 0;
  work->far = PadTo(seen, align);
  const size_t rows =
      PadTo(static_cast<int64_t>(kTile) * core.heads, 32);  // what no token fills is never read on
  for (auto* v : {&work->q, &work->out, &work->g, &work->gq}) v->resize(rows * core.d);
  for (auto* v : {&work->p, &work->dp}) v->assign(rows * work->near, 0);
  for (auto* v : {&work->pf, &work->dpf}) v->assign(rows * work->far, 0);
}

template <class T>
void Queries(const Core& core, const T* qz, const float* table, TileWork* work) {
  for (int i = 0; i < work->count; ++i)
    for (int h = 0; h < core.heads; ++h)
      NormTurn(qz + (work->first + i) * core.row + h * core.d, core.d, core.eps, nullptr,
               table + (work->first + i) * kTable, work->q.data() + (i * core.heads + h) * core.d);
}

// Masked logits, scaled. mask [T, padded N] or null.
template <class Products>
void Logits(const Core& core, Products* products, const int32_t* lowest, const uint8_t* mask,
            TileWork* work) {
  const int rows = work->count * core.heads, pitch = PadTo16(core.entries);
  products->SetRows(0, work->q.data(), rows);
  products->Scores(0, false, work->low, work->near, work->p.data());
  if (work->far) products->Scores(0, true, 0, work->far, work->pf.data());
  const IntVec ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Vec none = Splat(-1e30F);
  for (int r = 0; r < rows; ++r) {
    const int64_t t = work->first + r / core.heads;
    const int from = lowest[t], to = static_cast<int>(t);
    float* p = work->p.data() + r * work->near;
    for (int j = 0; j < work->near; j += kLanes) {
      const IntVec at = ramp + (work->low + j);
      const Vec v = Load(p + j) * core.scale;
      Store(p + j, (at >= from) & (at <= to) ? v : none);
    }
    const int seen = core.ratio ? static_cast<int>(std::min(core.entries, (t + 1) / core.ratio)) : 0;
    float* pf = work->pf.data() + r * work->far;
    for (int j = 0; j < work->far; ++j)
      pf[j] = j < seen && (!mask || mask[t * pitch + j]) ? pf[j] * core.scale : -1e30F;
  }
}

// lse [T, H], o [T, H d], mass [T, far pitch] or null.
template <class Products, class T>
void Attend(const Core& core, Products* products, const T* qz, const float* table, const int32_t* lowest,
            const uint8_t* mask, const float* sink, T* o, float* lse, float* mass) {
  TileWork work;
  const int pitch = PadTo16(core.entries);
  for (int64_t first = 0; first < core.tokens; first += kTile) {
    Place(core, first, lowest, Products::kAlign, &work);
    Queries(core, qz, table, &work);
    Logits(core, products, lowest, mask, &work);
    const int rows = work.count * core.heads, d = core.d;
    for (int r = 0; r < rows; ++r) {
      float *p = work.p.data() + r * work.near, *pf = work.pf.data() + r * work.far;
      Vec top = Splat(sink[r % core.heads]);
      for (int j = 0; j < work.near; j += kLanes) top = Max(top, Load(p + j));
      for (int j = 0; j < work.far; j += kLanes) top = Max(top, Load(pf + j));
      const float most = Largest(top);
      Vec sum{};
      const auto turn = [&](float* row, int count) {
        for (int j = 0; j < count; j += kLanes) {
          const Vec e = Exp(Load(row + j) - most);
          sum += e;
          Store(row + j, e);
        }
      };
      turn(p, work.near);
      turn(pf, work.far);
      const float total = Sum(sum) + std::exp(sink[r % core.heads] - most);
      lse[first * core.heads + r] = most + std::log(total);
      const float inverse = 1 / total;
      for (int j = 0; j < work.near; j += kLanes) Store(p + j, Load(p + j) * inverse);
      float* m = mass ? mass + (first + r / core.heads) * pitch : nullptr;
      for (int j = 0; j < work.far; j += kLanes) {
        const Vec v = Load(pf + j) * inverse;
        Store(pf + j, v);
        if (m && j < pitch) Store(m + j, Load(m + j) + v);
      }
    }
    products->Values(work.p.data(), false, work.low, work.near, work.out.data(), false);
    if (work.far) products->Values(work.pf.data(), true, 0, work.far, work.out.data(), true);
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < d; c += kLanes) {
        const Vec v = Load(work.out.data() + r * d + c);
        Store(o + first * core.Width() + r * d + c,
              c + kLanes == d ? Turn(v, table + (first + r / core.heads) * kTable, true) : v);
      }
  }
}

// The gradient of the keys is left in `products`; gsink [H] is added to; gqz's first H d columns are written.
template <class Products, class T>
void AttendBackward(const Core& core, Products* products, const T* qz, const float* table,
                    const int32_t* lowest, const uint8_t* mask, const float* sink, const T* o,
                    const float* lse, const T* go, T* gqz, float* gsink) {
  TileWork work;
  const int d = core.d;
  for (int64_t first = 0; first < core.tokens; first += kTile) {
    Place(core, first, lowest, Products::kAlign, &work);
    Queries(core, qz, table, &work);
    Logits(core, products, lowest, mask, &work);
    const int rows = work.count * core.heads;
    std::vector<float> dots(rows);
    for (int r = 0; r < rows; ++r) {
      Vec dot{};
      for (int c = 0; c < d; c += kLanes) {
        const int64_t at = first * core.Width() + r * d + c;
        const Vec v = Load(go + at);
        dot += v * Load(o + at);
        Store(work.g.data() + r * d + c,
              c + kLanes == d ? Turn(v, table + (first + r / core.heads) * kTable, false) : v);
      }
      dots[r] = Sum(dot);
    }
    products->SetRows(1, work.g.data(), rows);
    products->Scores(1, false, work.low, work.near, work.dp.data());
    if (work.far) products->Scores(1, true, 0, work.far, work.dpf.data());
    for (int r = 0; r < rows; ++r) {
      const float shift = lse[first * core.heads + r], dot = dots[r];
      gsink[r % core.heads] -= std::exp(sink[r % core.heads] - shift) * dot;
      const auto turn = [&](float* p, float* dp, int count) {
        for (int j = 0; j < count; j += kLanes) {
          const Vec e = Exp(Load(p + j) - shift);
          Store(p + j, e);
          Store(dp + j, e * (Load(dp + j) - dot) * core.scale);
        }
      };
      turn(work.p.data() + r * work.near, work.dp.data() + r * work.near, work.near);
      turn(work.pf.data() + r * work.far, work.dpf.data() + r * work.far, work.far);
    }
    const auto gather = [&](const float* p, const float* dp, bool far, int low, int count) {
      products->Values(dp, far, low, count, work.gq.data(), far);
      products->Gather(p, 1, far, low, count);
      products->Gather(dp, 0, far, low, count);
    };
    gather(work.p.data(), work.dp.data(), false, work.low, work.near);
    if (work.far) gather(work.pf.data(), work.dpf.data(), true, 0, work.far);
    for (int r = 0; r < rows; ++r) {
      const int64_t at = (first + r / core.heads) * core.row + r % core.heads * d;
      NormTurnBackward(qz + at, d, core.eps, nullptr, table + (first + r / core.heads) * kTable,
                       work.gq.data() + r * d, nullptr, gqz + at);
    }
  }
}

// --- indexer ---

struct Index {
  int64_t batch, tokens, entries, row;  // queries: columns `at` and on of qz
  int heads, d, at, ratio, topk;
  float scale;
  int Seen(int64_t t) const { return static_cast<int>(std::min(entries, (t + 1) / ratio)); }
};

void IndexQueries(const Index& index, const float* raw, const float* table, float* q, bool inverse) {
  for (int h = 0; h < index.heads; ++h)
    for (int c = 0; c < index.d; c += kLanes) {
      const Vec v = Load(raw + h * index.d + c);
      Store(q + h * index.d + c, c + kLanes == index.d ? Turn(v, table, inverse) : v);
    }
}

template <class T>
void TurnedQuery(const Index& index, const T* qz, const float* table, float* q) {
  for (int c = 0; c < index.heads * index.d; c += kLanes) Store(q + c, Load(qz + index.at + c));
  IndexQueries(index, q, table, q, false);
}

// keys_t [d, pitch]. dots [H, far] of one token, relu applied.
void IndexDots(const Index& index, const float* q, const std::vector<float>& keys_t, int pitch, int far,
               float* dots) {
  Gemm(index.heads, far, index.d, q, index.d, 1, keys_t.data(), pitch, dots, far, false);
  for (int j = 0; j < index.heads * far; j += kLanes) Store(dots + j, Max(Load(dots + j), Vec{}));
}

std::vector<float> Transposed(const float* keys, int64_t n, int d, int pitch) {
  std::vector<float> out(static_cast<size_t>(pitch) * d, 0);
  for (int64_t i = 0; i < n; ++i)
    for (int c = 0; c < d; ++c) out[static_cast<int64_t>(c) * pitch + i] = keys[i * d + c];
  return out;
}

// One batch row: scores [T, pitch], and mask [T, pitch]: the top-k of the visible, ties to the lower index.
template <class T>
void Scores(const Index& index, const T* qz, const float* keys, const float* weights, const float* table,
            float* scores, uint8_t* mask) {
  const int pitch = PadTo16(index.entries);
  const std::vector<float> keys_t = Transposed(keys, index.entries, index.d, pitch);
  std::vector<float> q(index.heads * index.d), dots(static_cast<size_t>(index.heads) * pitch), sorted;
  for (int64_t t = 0; t < index.tokens; ++t, scores += pitch, mask += pitch) {
    const int seen = index.Seen(t), far = PadTo16(seen);
    if (!seen) continue;
    TurnedQuery(index, qz + t * index.row, table + t * kTable, q.data());
    IndexDots(index, q.data(), keys_t, pitch, far, dots.data());
    for (int j = 0; j < far; j += kLanes) {
      Vec sum{};
      for (int h = 0; h < index.heads; ++h)
        sum += weights[t * index.heads + h] * index.scale * Load(dots.data() + h * far + j);
      Store(scores + j, sum);
    }
    if (seen <= index.topk) {
      std::fill_n(mask, seen, 1);
      continue;
    }
    sorted.assign(scores, scores + seen);
    std::nth_element(sorted.begin(), sorted.begin() + index.topk - 1, sorted.end(), std::greater<float>());
    const float bar = sorted[index.topk - 1];
    int left =
        index.topk - static_cast<int>(std::count_if(scores, scores + seen, [&](float v) { return v > bar; }));
    for (int j = 0; j < seen; ++j) mask[j] = scores[j] > bar || (scores[j] == bar && left-- > 0);
  }
}

// Returns (sum of mass x KL, sum of mass) and turns the scores into the gradient of the first.
void IndexLoss(const Index& index, const float* mass, const uint8_t* mask, float* scores, double* loss,
               double* weight) {
  const int pitch = PadTo16(index.entries);
  for (int64_t t = 0; t < index.tokens; ++t, scores += pitch, mask += pitch, mass += pitch) {
    const int seen = index.Seen(t);
    float total = 0, top = -1e30F, sum = 0, kl = 0;
    for (int j = 0; j < seen; ++j) {
      total += mass[j];
      if (mask[j]) top = std::max(top, scores[j]);
    }
    std::vector<float> e(seen);
    for (int j = 0; j < seen; ++j) sum += e[j] = mask[j] ? std::exp(scores[j] - top) : 0;
    const float log_sum = seen ? std::log(sum) + top : 0;
    for (int j = 0; j < seen; ++j) {
      const float target = mass[j] / std::max(total, 1e-9F);
      if (mask[j]) kl += target * (std::log(std::max(target, 1e-9F)) - (scores[j] - log_sum));
      scores[j] = total * (e[j] / sum - target);
    }
    for (int j = seen; j < pitch; ++j) scores[j] = 0;
    *loss += static_cast<double>(kl) * total;
    *weight += total;
  }
}

// g [T, pitch] of the scores, scaled by `by`; gkeys [N, d] is added to; gqz's index columns and gweights are
// written.
template <class T>
void ScoresBackward(const Index& index, const T* qz, const float* keys, const float* weights,
                    const float* table, const float* g, float by, T* gqz, float* gkeys, float* gweights) {
  const int pitch = PadTo16(index.entries), width = index.heads * index.d;
  const std::vector<float> keys_t = Transposed(keys, index.entries, index.d, pitch);
  std::vector<float> padded(static_cast<size_t>(pitch) * index.d, 0), gpadded(padded.size(), 0);
  std::copy_n(keys, index.entries * index.d, padded.data());
  std::vector<float> q(width), gq(width), dots(static_cast<size_t>(index.heads) * pitch);
  for (int64_t t = 0; t < index.tokens; ++t, g += pitch) {
    const int far = PadTo16(index.Seen(t));
    std::fill(gq.begin(), gq.end(), 0.0F);
    TurnedQuery(index, qz + t * index.row, table + t * kTable, q.data());
    if (far) IndexDots(index, q.data(), keys_t, pitch, far, dots.data());
    for (int h = 0; h < index.heads; ++h) {
      Vec sum{};
      const float w = weights[t * index.heads + h] * index.scale * by;
      for (int j = 0; j < far; j += kLanes) {
        const Vec dot = Load(dots.data() + h * far + j), gj = Load(g + j);
        sum += gj * dot;
        Store(dots.data() + h * far + j, dot > 0.0F ? gj * w : Vec{});
      }
      gweights[t * index.heads + h] = Sum(sum) * index.scale * by;
    }
    if (far) {
      Gemm(index.heads, index.d, far, dots.data(), far, 1, padded.data(), index.d, gq.data(), index.d, false);
      Gemm(far, index.d, index.heads, dots.data(), 1, far, q.data(), index.d, gpadded.data(), index.d, true);
    }
    IndexQueries(index, gq.data(), table + t * kTable, gq.data(), true);
    for (int c = 0; c < width; c += kLanes) Store(gqz + t * index.row + index.at + c, Load(gq.data() + c));
  }
  for (int64_t i = 0; i < index.entries * index.d; ++i) gkeys[i] += gpadded[i];
}

Pool PoolOf(const int64_t* n, const double* x) {
  return {n[0],
          n[1],
          n[2],
          static_cast<int>(n[3]),
          static_cast<int>(n[4]),
          static_cast<int>(n[5]),
          n[6] != 0,
          static_cast<float>(x[0])};
}

Core CoreOf(const int64_t* n, const double* x) {
  return {n[0],
          n[1],
          n[2],
          n[3],
          static_cast<int>(n[4]),
          static_cast<int>(n[5]),
          static_cast<int>(n[6]),
          static_cast<int>(n[7]),
          static_cast<float>(x[0]),
          static_cast<float>(x[1])};
}

Index IndexOf(const int64_t* n, const double* x) {
  return {n[0],
          n[1],
          n[2],
          n[3],
          static_cast<int>(n[4]),
          static_cast<int>(n[5]),
          static_cast<int>(n[6]),
          static_cast<int>(n[7]),
          static_cast<int>(n[8]),
          static_cast<float>(x[0])};
}

// A slice of a row of z, normed and turned: n = rows, row of z, column, d; p = z, w, table or null, out.
template <class T, class Out>
void Slice(const int64_t* n, const double* x, void** p) {
  for (int64_t t = 0; t < n[0]; ++t)
    NormTurn(As<T>(p[0]) + t * n[1] + n[2], static_cast<int>(n[3]), static_cast<float>(x[0]), As<float>(p[1]),
             p[2] ? As<float>(p[2]) + t * kTable : nullptr, As<Out>(p[3]) + t * n[3]);
}

// p = z, w, table or null, g, gw, gz.
template <class T, class Out>
void SliceBackward(const int64_t* n, const double* x, void** p) {
  for (int64_t t = 0; t < n[0]; ++t)
    NormTurnBackward(As<T>(p[0]) + t * n[1] + n[2], static_cast<int>(n[3]), static_cast<float>(x[0]),
                     As<float>(p[1]), p[2] ? As<float>(p[2]) + t * kTable : nullptr, As<Out>(p[3]) + t * n[3],
                     As<float>(p[4]), As<T>(p[5]) + t * n[1] + n[2]);
}

template <class T>
void EntriesCall(const int64_t* n, const double* x, void** p) {  // z, ape, norm, table, out
  Entries(PoolOf(n, x), As<T>(p[0]), As<float>(p[1]), As<float>(p[2]), As<float>(p[3]), As<float>(p[4]));
}

template <class T>
void EntriesBackwardCall(const int64_t* n, const double* x,
                         void** p) {  // z, ape, norm, table, g, gz, gape, gnorm
  EntriesBackward(PoolOf(n, x), As<T>(p[0]), As<float>(p[1]), As<float>(p[2]), As<float>(p[3]),
                  As<float>(p[4]), As<T>(p[5]), As<float>(p[6]), As<float>(p[7]));
}

template <class P>
P* At(void* p, int64_t offset) {
  return p ? As<P>(p) + offset : nullptr;
}

// Runs one batch row after the other, with keys set: use(products, row).
template <class Products, class Use>
void EachBatchRow(const Core& core, const float* kv, const float* far, Use use) {
  Products products(core.d, kTile * core.heads);
  for (int64_t b = 0; b < core.batch; ++b) {
    products.SetKeys(false, kv + b * core.tokens * core.d, core.tokens);
    if (core.entries) products.SetKeys(true, far + b * core.entries * core.d, core.entries);
    use(&products, b);
  }
}

template <class T, class Use>
void WithProducts(const Core& core, void* kv, void* far, Use use) {
#ifdef __AMX_BF16__
  if (std::is_same_v<T, Bf16> && g_matrix_units)
    return EachBatchRow<MatrixProducts>(core, As<float>(kv), As<float>(far), use);
#endif
  EachBatchRow<VectorProducts>(core, As<float>(kv), As<float>(far), use);
}

template <class T>
void AttendCall(const int64_t* n, const double* x,
                void** p) {  // qz, kv, far, table, lowest, mask, sink, o, lse, mass
  const Core core = CoreOf(n, x);
  const int64_t pitch = PadTo16(core.entries), t = core.tokens;
  WithProducts<T>(core, p[1], p[2], [&](auto* products, int64_t b) {
    Attend(core, products, At<T>(p[0], b * t * core.row), At<float>(p[3], b * t * kTable),
           At<int32_t>(p[4], b * t), At<uint8_t>(p[5], b * t * pitch), As<float>(p[6]),
           At<T>(p[7], b * t * core.Width()), At<float>(p[8], b * t * core.heads),
           At<float>(p[9], b * t * pitch));
  });
}

// qz, kv, far, table, lowest, mask, sink, o, lse, go, gqz, gkv, gfar, gsink
template <class T>
void AttendBackwardCall(const int64_t* n, const double* x, void** p) {
  const Core core = CoreOf(n, x);
  const int64_t pitch = PadTo16(core.entries), t = core.tokens, d = core.d;
  WithProducts<T>(core, p[1], p[2], [&](auto* products, int64_t b) {
    AttendBackward(core, products, At<T>(p[0], b * t * core.row), At<float>(p[3], b * t * kTable),
                   At<int32_t>(p[4], b * t), At<uint8_t>(p[5], b * t * pitch), As<float>(p[6]),
                   At<T>(p[7], b * t * core.Width()), At<float>(p[8], b * t * core.heads),
                   At<T>(p[9], b * t * core.Width()), At<T>(p[10], b * t * core.row), As<float>(p[13]));
    products->GetGradient(false, At<float>(p[11], b * t * d), t);
    if (core.entries) products->GetGradient(true, At<float>(p[12], b * core.entries * d), core.entries);
  });
}

template <class T>
void ScoresCall(const int64_t* n, const double* x, void** p) {  // qz, keys, weights, table, scores, mask
  const Index index = IndexOf(n, x);
  const int64_t pitch = PadTo16(index.entries), t = index.tokens;
  for (int64_t b = 0; b < index.batch; ++b)
    Scores(index, At<T>(p[0], b * t * index.row), At<float>(p[1], b * index.entries * index.d),
           At<float>(p[2], b * t * index.heads), At<float>(p[3], b * t * kTable),
           At<float>(p[4], b * t * pitch), At<uint8_t>(p[5], b * t * pitch));
}

// qz, keys, weights, table, g, gqz, gkeys, gweights
template <class T>
void ScoresBackwardCall(const int64_t* n, const double* x, void** p) {
  const Index index = IndexOf(n, x);
  const int64_t pitch = PadTo16(index.entries), t = index.tokens;
  for (int64_t b = 0; b < index.batch; ++b)
    ScoresBackward(index, At<T>(p[0], b * t * index.row), At<float>(p[1], b * index.entries * index.d),
                   At<float>(p[2], b * t * index.heads), At<float>(p[3], b * t * kTable),
                   At<float>(p[4], b * t * pitch), static_cast<float>(x[1]), At<T>(p[5], b * t * index.row),
                   At<float>(p[6], b * index.entries * index.d), At<float>(p[7], b * t * index.heads));
}

}  // namespace
}  // namespace nano

#define NANO_EXPORT(name, T)                                                                             \
  void norm_##name(const int64_t* n, const double* x, void** p) { nano::Slice<T, T>(n, x, p); }          \
  void norm_backward_##name(const int64_t* n, const double* x, void** p) {                               \
    nano::SliceBackward<T, T>(n, x, p);                                                                  \
  }                                                                                                      \
  void norm_turn_##name(const int64_t* n, const double* x, void** p) { nano::Slice<T, float>(n, x, p); } \
  void norm_turn_backward_##name(const int64_t* n, const double* x, void** p) {                          \
    nano::SliceBackward<T, float>(n, x, p);                                                              \
  }                                                                                                      \
  void entries_##name(const int64_t* n, const double* x, void** p) { nano::EntriesCall<T>(n, x, p); }    \
  void entries_backward_##name(const int64_t* n, const double* x, void** p) {                            \
    nano::EntriesBackwardCall<T>(n, x, p);                                                               \
  }                                                                                                      \
  void attend_##name(const int64_t* n, const double* x, void** p) { nano::AttendCall<T>(n, x, p); }      \
  void attend_backward_##name(const int64_t* n, const double* x, void** p) {                             \
    nano::AttendBackwardCall<T>(n, x, p);                                                                \
  }                                                                                                      \
  void scores_##name(const int64_t* n, const double* x, void** p) { nano::ScoresCall<T>(n, x, p); }      \
  void scores_backward_##name(const int64_t* n, const double* x, void** p) {                             \
    nano::ScoresBackwardCall<T>(n, x, p);                                                                \
  }

extern "C" {
NANO_EXPORT(f32, float)
NANO_EXPORT(bf16, nano::Bf16)

void allow_matrix_units() { nano::g_matrix_units = true; }

// n as for scores; p: mass, mask, scores (become their gradient), out double[2]: sum of mass x KL, sum of
// mass.
void index_loss_f32(const int64_t* n, const double* x, void** p) {
  const nano::Index index = nano::IndexOf(n, x);
  const int64_t size = nano::PadTo16(index.entries) * index.tokens;
  double* out = nano::As<double>(p[3]);
  for (int64_t b = 0; b < index.batch; ++b)
    nano::IndexLoss(index, nano::At<float>(p[0], b * size), nano::At<uint8_t>(p[1], b * size),
                    nano::At<float>(p[2], b * size), out, out + 1);
}
}
