// Attention of nano's training as single passes, forward and backward: norms and rotations, pooled entries,
// the softmax over window, entries and sink, the indexer with its loss. fused.py calls these through ctypes;
// the plain twins are in attention.py. Every function takes (n: sizes, x: constants, p: pointers). B rows of
// T tokens, H heads of width d, N entries, rotary tables of 32 floats a position (fused.h, Turn).

#include <algorithm>
#include <vector>

#include "model/nano/fused.h"

namespace nano {
namespace {

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

// What one batch row reads, with transposed copies for the products.
struct Keys {
  const float *kv, *far;                    // [T, d], [N, d]
  std::vector<float> kv_t, far_t, far_pad;  // [d, padded T], [d, padded N], [padded N, d]
  std::vector<float> kv_pad;
  int near_pitch, far_pitch;
};

Keys MakeKeys(const Core& core, const float* kv, const float* far) {
  Keys keys;
  keys.near_pitch = PadTo16(core.tokens), keys.far_pitch = PadTo16(core.entries);
  const auto fill = [&](const float* from, int64_t rows, int pitch, std::vector<float>* plain,
                        std::vector<float>* turned) {
    plain->assign(static_cast<size_t>(pitch) * core.d, 0);
    turned->assign(static_cast<size_t>(pitch) * core.d, 0);
    std::copy_n(from, rows * core.d, plain->data());
    for (int64_t i = 0; i < rows; ++i)
      for (int c = 0; c < core.d; ++c) (*turned)[static_cast<int64_t>(c) * pitch + i] = from[i * core.d + c];
  };
  fill(kv, core.tokens, keys.near_pitch, &keys.kv_pad, &keys.kv_t);
  if (core.entries) fill(far, core.entries, keys.far_pitch, &keys.far_pad, &keys.far_t);
  return keys;
}

// Queries and weights of kTile tokens from `first`; rows are token-major (token * H + head).
struct TileWork {
  int64_t first;
  int count, low, near, far;  // tokens; first key; keys in the window buffer; entries (both multiples of 16)
  std::vector<float> q, p, pf;        // [rows, d], [rows, near], [rows, far]
  std::vector<float> g, dp, dpf, gq;  // backward
};

void Place(const Core& core, int64_t first, TileWork* work) {
  work->first = first;
  work->count = static_cast<int>(std::min<int64_t>(kTile, core.tokens - first));
  work->low = static_cast<int>(std::max<int64_t>(0, first - (core.window + 15) / 16 * 16));
  work->near = static_cast<int>(first) + kTile - work->low;
  const int64_t seen = core.ratio ? std::min(core.entries, (first + work->count) / core.ratio) : 0;
  work->far = PadTo16(seen);
  const size_t rows = static_cast<size_t>(kTile) * core.heads;
  work->q.resize(rows * core.d);
  work->p.resize(rows * work->near);
  work->pf.resize(rows * work->far);
}

template <class T>
void Queries(const Core& core, const T* qz, const float* table, TileWork* work) {
  for (int i = 0; i < work->count; ++i)
    for (int h = 0; h < core.heads; ++h)
      NormTurn(qz + (work->first + i) * core.row + h * core.d, core.d, core.eps, nullptr,
               table + (work->first + i) * kTable, work->q.data() + (i * core.heads + h) * core.d);
}

// Masked logits, scaled. lowest [T]: the first key in each token's window. mask [T, far pitch] or null.
void Logits(const Core& core, const Keys& keys, const int32_t* lowest, const uint8_t* mask, TileWork* work) {
  const int rows = work->count * core.heads, d = core.d;
  Gemm(rows, work->near, d, work->q.data(), d, 1, keys.kv_t.data() + work->low, keys.near_pitch,
       work->p.data(), work->near, false);
  if (work->far)
    Gemm(rows, work->far, d, work->q.data(), d, 1, keys.far_t.data(), keys.far_pitch, work->pf.data(),
         work->far, false);
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
      pf[j] = j < seen && (!mask || mask[t * keys.far_pitch + j]) ? pf[j] * core.scale : -1e30F;
  }
}

// lse [T, H], o [T, H d], mass [T, far pitch] or null.
template <class T>
void Attend(const Core& core, const Keys& keys, const T* qz, const float* table, const int32_t* lowest,
            const uint8_t* mask, const float* sink, T* o, float* lse, float* mass) {
  TileWork work;
  std::vector<float> out(static_cast<size_t>(kTile) * core.Width());
  for (int64_t first = 0; first < core.tokens; first += kTile) {
    Place(core, first, &work);
    Queries(core, qz, table, &work);
    Logits(core, keys, lowest, mask, &work);
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
      float* m = mass ? mass + (first + r / core.heads) * keys.far_pitch : nullptr;
      for (int j = 0; j < work.far; j += kLanes) {
        const Vec v = Load(pf + j) * inverse;
        Store(pf + j, v);
        if (m) Store(m + j, Load(m + j) + v);
      }
    }
    Gemm(rows, d, work.near, work.p.data(), work.near, 1, keys.kv_pad.data() + work.low * d, d, out.data(), d,
         false);
    if (work.far)
      Gemm(rows, d, work.far, work.pf.data(), work.far, 1, keys.far_pad.data(), d, out.data(), d, true);
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < d; c += kLanes) {
        const Vec v = Load(out.data() + r * d + c);
        Store(o + first * core.Width() + r * d + c,
              c + kLanes == d ? Turn(v, table + (first + r / core.heads) * kTable, true) : v);
      }
  }
}

// gkv [padded T, d], gfar [padded N, d] and gsink [H] are added to; gqz's first H d columns are written.
template <class T>
void AttendBackward(const Core& core, const Keys& keys, const T* qz, const float* table,
                    const int32_t* lowest, const uint8_t* mask, const float* sink, const T* o,
                    const float* lse, const T* go, T* gqz, float* gkv, float* gfar, float* gsink) {
  TileWork work;
  const int d = core.d;
  for (int64_t first = 0; first < core.tokens; first += kTile) {
    Place(core, first, &work);
    Queries(core, qz, table, &work);
    Logits(core, keys, lowest, mask, &work);
    const int rows = work.count * core.heads;
    work.g.resize(work.q.size());
    work.gq.resize(work.q.size());
    work.dp.resize(work.p.size());
    work.dpf.resize(work.pf.size());
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
    Gemm(rows, work.near, d, work.g.data(), d, 1, keys.kv_t.data() + work.low, keys.near_pitch,
         work.dp.data(), work.near, false);
    if (work.far)
      Gemm(rows, work.far, d, work.g.data(), d, 1, keys.far_t.data(), keys.far_pitch, work.dpf.data(),
           work.far, false);
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
    const auto products = [&](const float* p, const float* dp, int count, const float* values, float* gvalues,
                              bool add) {
      Gemm(rows, d, count, dp, count, 1, values, d, work.gq.data(), d, add);
      Gemm(count, d, rows, p, 1, count, work.g.data(), d, gvalues, d, true);
      Gemm(count, d, rows, dp, 1, count, work.q.data(), d, gvalues, d, true);
    };
    products(work.p.data(), work.dp.data(), work.near, keys.kv_pad.data() + work.low * d, gkv + work.low * d,
             false);
    if (work.far) products(work.pf.data(), work.dpf.data(), work.far, keys.far_pad.data(), gfar, true);
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

template <class T>
void AttendCall(const int64_t* n, const double* x,
                void** p) {  // qz, kv, far, table, lowest, mask, sink, o, lse, mass
  const Core core = CoreOf(n, x);
  const int64_t pitch = PadTo16(core.entries), t = core.tokens;
  for (int64_t b = 0; b < core.batch; ++b)
    Attend(core, MakeKeys(core, At<float>(p[1], b * t * core.d), At<float>(p[2], b * core.entries * core.d)),
           At<T>(p[0], b * t * core.row), At<float>(p[3], b * t * kTable), At<int32_t>(p[4], b * t),
           At<uint8_t>(p[5], b * t * pitch), As<float>(p[6]), At<T>(p[7], b * t * core.Width()),
           At<float>(p[8], b * t * core.heads), At<float>(p[9], b * t * pitch));
}

// qz, kv, far, table, lowest, mask, sink, o, lse, go, gqz, gkv, gfar, gsink
template <class T>
void AttendBackwardCall(const int64_t* n, const double* x, void** p) {
  const Core core = CoreOf(n, x);
  const int64_t pitch = PadTo16(core.entries), t = core.tokens, d = core.d;
  std::vector<float> gkv, gfar;
  for (int64_t b = 0; b < core.batch; ++b) {
    gkv.assign(PadTo16(t) * d, 0);
    gfar.assign(pitch * d, 0);
    AttendBackward(core, MakeKeys(core, At<float>(p[1], b * t * d), At<float>(p[2], b * core.entries * d)),
                   At<T>(p[0], b * t * core.row), At<float>(p[3], b * t * kTable), At<int32_t>(p[4], b * t),
                   At<uint8_t>(p[5], b * t * pitch), As<float>(p[6]), At<T>(p[7], b * t * core.Width()),
                   At<float>(p[8], b * t * core.heads), At<T>(p[9], b * t * core.Width()),
                   At<T>(p[10], b * t * core.row), gkv.data(), gfar.data(), As<float>(p[13]));
    std::copy_n(gkv.data(), t * d, At<float>(p[11], b * t * d));
    if (core.entries) std::copy_n(gfar.data(), core.entries * d, At<float>(p[12], b * core.entries * d));
  }
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
