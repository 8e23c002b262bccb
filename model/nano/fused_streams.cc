// Hyper-connections, experts' activations and cross-entropy of nano's training as single passes, forward and
// backward. fused.py calls these through ctypes and says what each does; the plain twins are in net.py. Every
// function takes (n: sizes, x: constants, p: pointers), in the order of the first lines of its body. N
// tokens, S streams, D width.

#include <algorithm>
#include <type_traits>

#include "model/nano/fused.h"

namespace nano {
namespace {

constexpr int kStreamsMax = 4, kRoundsMax = 20, kRowsMax = (2 + kStreamsMax) * kStreamsMax;

struct Mix {
  int s, d, rows, rounds;  // rows: s for a head's mix (pre only), (2 + s) * s around a sublayer
  float eps, norm_eps;
  const float *fn, *scale, *base;
};

float Sigmoid1(float x) { return 1.0F / (1.0F + std::exp(-x)); }

// Sinkhorn with every stage kept: stages[0] the softmax, then one after each normalisation. Returns their
// number.
int Sinkhorn(const Mix& mix, const float* logits, float (*stages)[kStreamsMax * kStreamsMax], float* soft) {
  const int s = mix.s;
  for (int j = 0; j < s; ++j) {
    float top = logits[j * s], sum = 0;
    for (int k = 1; k < s; ++k) top = std::max(top, logits[j * s + k]);
    for (int k = 0; k < s; ++k) sum += soft[j * s + k] = std::exp(logits[j * s + k] - top);
    for (int k = 0; k < s; ++k) stages[0][j * s + k] = (soft[j * s + k] /= sum) + mix.eps;
  }
  const int count = 2 * mix.rounds;  // columns, then (rows, columns) rounds - 1 times
  for (int stage = 1; stage < count; ++stage) {
    const bool columns = stage % 2 == 1;
    const int step = columns ? s : 1, other = columns ? 1 : s;
    for (int a = 0; a < s; ++a) {
      float sum = mix.eps;
      for (int b = 0; b < s; ++b) sum += stages[stage - 1][a * other + b * step];
      for (int b = 0; b < s; ++b)
        stages[stage][a * other + b * step] = stages[stage - 1][a * other + b * step] / sum;
    }
  }
  return count;
}

// g [S, S]: in, the gradient of the last stage; out, of the logits.
void SinkhornBackward(const Mix& mix, const float (*stages)[kStreamsMax * kStreamsMax], const float* soft,
                      float* g) {
  const int s = mix.s;
  for (int stage = 2 * mix.rounds - 1; stage >= 1; --stage) {
    const bool columns = stage % 2 == 1;
    const int step = columns ? s : 1, other = columns ? 1 : s;
    for (int a = 0; a < s; ++a) {
      float sum = mix.eps, dot = 0;
      for (int b = 0; b < s; ++b) {
        sum += stages[stage - 1][a * other + b * step];
        dot += g[a * other + b * step] * stages[stage][a * other + b * step];
      }
      for (int b = 0; b < s; ++b) g[a * other + b * step] = (g[a * other + b * step] - dot) / sum;
    }
  }
  for (int j = 0; j < s; ++j) {
    float dot = 0;
    for (int k = 0; k < s; ++k) dot += g[j * s + k] * soft[j * s + k];
    for (int k = 0; k < s; ++k) g[j * s + k] = soft[j * s + k] * (g[j * s + k] - dot);
  }
}

template <int kS, int kRows>
float MixLogits(const Mix& mix, const float* h, float* m) {
  const int width = kS * mix.d;
  Vec squares{};
  Vec sums[kRows] = {};
  for (int c = 0; c < width; c += kLanes) {
    const Vec hc = Load(h + c);
    squares += hc * hc;
    for (int j = 0; j < kRows; ++j) sums[j] += hc * Load(mix.fn + j * width + c);
  }
  const float r = 1.0F / std::sqrt(Sum(squares) / width + mix.norm_eps);
  for (int j = 0; j < kRows; ++j) m[j] = Sum(sums[j]) * r;
  return r;
}

int Gate(const Mix& mix, int row) { return row < mix.s ? 0 : row < 2 * mix.s ? 1 : 2; }

template <int kS, int kRows, class T>
void MixIn(int64_t tokens, const Mix& mix, const float* h, const float* norm, T* x, float* coef) {
  constexpr int s = kS;
  const int d = mix.d;
  for (int64_t t = 0; t < tokens; ++t, h += s * d, x += d, coef += kRows) {
    float m[kRowsMax], stages[2 * kRoundsMax][kStreamsMax * kStreamsMax], soft[kStreamsMax * kStreamsMax];
    MixLogits<kS, kRows>(mix, h, m);
    for (int j = 0; j < kRows; ++j) m[j] = m[j] * mix.scale[Gate(mix, j)] + mix.base[j];
    for (int k = 0; k < s; ++k) coef[k] = Sigmoid1(m[k]) + mix.eps;
    if (kRows > kS) {
      for (int k = s; k < 2 * s; ++k) coef[k] = 2 * Sigmoid1(m[k]);
      const int count = Sinkhorn(mix, m + 2 * s, stages, soft);
      std::copy_n(stages[count - 1], s * s, coef + 2 * s);
    }
    Vec squares{};
    float y[1024];
    for (int c = 0; c < d; c += kLanes) {
      Vec sum{};
      for (int k = 0; k < s; ++k) sum += coef[k] * Load(h + k * d + c);
      squares += sum * sum;
      Store(y + c, sum);
    }
    const float r = 1.0F / std::sqrt(Sum(squares) / d + mix.norm_eps);
    for (int c = 0; c < d; c += kLanes) Store(x + c, Load(y + c) * r * Load(norm + c));
  }
}

// gh is added to. gfn, gscale, gbase, gnorm are added to.
template <int kS, int kRows, class T>
void MixInBackward(int64_t tokens, const Mix& mix, const float* h, const float* norm, const float* coef,
                   const T* gx, const float* gcoef, float* gh, float* gfn, float* gscale, float* gbase,
                   float* gnorm) {
  constexpr int s = kS;
  const int d = mix.d, width = s * d;
  for (int64_t t = 0; t < tokens; ++t, h += width, gh += width, gx += d, coef += kRows, gcoef += kRows) {
    float raw[kRowsMax], m[kRowsMax], g[kRowsMax] = {};
    float stages[2 * kRoundsMax][kStreamsMax * kStreamsMax], soft[kStreamsMax * kStreamsMax];
    const float r = MixLogits<kS, kRows>(mix, h, raw);
    for (int j = 0; j < kRows; ++j) m[j] = raw[j] * mix.scale[Gate(mix, j)] + mix.base[j];
    float y[1024];
    Vec squares{}, dots{};
    for (int c = 0; c < d; c += kLanes) {
      Vec sum{};
      for (int k = 0; k < s; ++k) sum += coef[k] * Load(h + k * d + c);
      Store(y + c, sum);
      squares += sum * sum;
      dots += sum * Load(gx + c) * Load(norm + c);
    }
    const float ry = 1.0F / std::sqrt(Sum(squares) / d + mix.norm_eps);
    const float mean = Sum(dots) * ry * ry / d;
    Vec gpre[kStreamsMax] = {};
    for (int c = 0; c < d; c += kLanes) {
      const Vec yc = Load(y + c), gxc = Load(gx + c);
      Store(gnorm + c, Load(gnorm + c) + gxc * yc * ry);
      const Vec gy = ry * (gxc * Load(norm + c) - yc * mean);
      for (int k = 0; k < s; ++k) {
        gpre[k] += gy * Load(h + k * d + c);
        Store(gh + k * d + c, Load(gh + k * d + c) + coef[k] * gy);
      }
    }
    for (int k = 0; k < s; ++k) {
      const float p = coef[k] - mix.eps;
      g[k] = Sum(gpre[k]) * p * (1 - p);
    }
    if (kRows > kS) {
      for (int k = s; k < 2 * s; ++k) g[k] = gcoef[k] * coef[k] * (1 - coef[k] / 2);
      Sinkhorn(mix, m + 2 * s, stages, soft);
      std::copy_n(gcoef + 2 * s, s * s, g + 2 * s);
      SinkhornBackward(mix, stages, soft, g + 2 * s);
    }
    float back = 0;
    for (int j = 0; j < kRows; ++j) {
      gbase[j] += g[j];
      gscale[Gate(mix, j)] += g[j] * raw[j];
      g[j] *= mix.scale[Gate(mix, j)];
      back += g[j] * raw[j];
    }
    back /= static_cast<float>(width);
    for (int c = 0; c < width; c += kLanes) {
      const Vec unit = Load(h + c) * r;
      Vec sum = -unit * back;
      for (int j = 0; j < kRows; ++j) {
        sum += g[j] * Load(mix.fn + j * width + c);
        Store(gfn + j * width + c, Load(gfn + j * width + c) + g[j] * unit);
      }
      Store(gh + c, Load(gh + c) + r * sum);
    }
  }
}

// out[k] = post[k] y + sum_j comb[j, k] h[j]; coef [N, (2 + S) S] holds pre, post, comb.
template <int s, class T>
void MixOut(int64_t tokens, int d, const T* y, const float* h, const float* coef, float* out) {
  for (int64_t t = 0; t < tokens; ++t, y += d, h += s * d, out += s * d, coef += (2 + s) * s)
    for (int c = 0; c < d; c += kLanes)
      for (int k = 0; k < s; ++k) {
        Vec sum = coef[s + k] * Load(y + c);
        for (int j = 0; j < s; ++j) sum += coef[2 * s + j * s + k] * Load(h + j * d + c);
        Store(out + k * d + c, sum);
      }
}

template <int s, class T>
void MixOutBackward(int64_t tokens, int d, const T* y, const float* h, const float* coef, const float* g,
                    T* gy, float* gh, float* gcoef) {
  const int rows = (2 + s) * s;
  for (int64_t t = 0; t < tokens;
       ++t, y += d, gy += d, h += s * d, g += s * d, gh += s * d, coef += rows, gcoef += rows) {
    Vec gpost[kStreamsMax] = {}, gcomb[kStreamsMax * kStreamsMax] = {};
    for (int c = 0; c < d; c += kLanes) {
      Vec sum{}, hs[kStreamsMax], back[kStreamsMax] = {};
      const Vec yc = Load(y + c);
      for (int j = 0; j < s; ++j) hs[j] = Load(h + j * d + c);
      for (int k = 0; k < s; ++k) {
        const Vec gk = Load(g + k * d + c);
        sum += coef[s + k] * gk;
        gpost[k] += gk * yc;
        for (int j = 0; j < s; ++j) {
          gcomb[j * s + k] += gk * hs[j];
          back[j] += coef[2 * s + j * s + k] * gk;
        }
      }
      Store(gy + c, sum);
      for (int j = 0; j < s; ++j) Store(gh + j * d + c, back[j]);
    }
    for (int k = 0; k < s; ++k) gcoef[k] = 0, gcoef[s + k] = Sum(gpost[k]);
    for (int j = 0; j < s * s; ++j) gcoef[2 * s + j] = Sum(gcomb[j]);
  }
}

struct Moe {
  int experts, width, row;  // routed; I; a row of u is (experts + 1) * 2 I wide, then the gate's logits
  float factor, limit;
};

// u [N, row]: for each expert (the shared one last) gate and up, then the router's logits; weight [N, E], 0
// where not chosen (chosen: uint8 [N, E]); a [N, (E + 1) I].
template <class T>
void Activate(int64_t tokens, const Moe& moe, const T* u, const uint8_t* chosen, T* a, float* weight) {
  const int e = moe.experts, w = moe.width;
  for (int64_t t = 0; t < tokens; ++t, u += moe.row, chosen += e, a += (e + 1) * w, weight += e) {
    float total = 0;
    for (int i = 0; i < e; ++i) {
      const float z = Get(u + (e + 1) * 2 * w + i);
      weight[i] = chosen[i] ? std::sqrt(z > 20 ? z : std::log1p(std::exp(z))) : 0;
      total += weight[i];
    }
    for (int i = 0; i < e; ++i) weight[i] *= moe.factor / total;
    for (int i = 0; i <= e; ++i) {
      const float by = i < e ? weight[i] : 1;
      for (int c = 0; c < w; c += kLanes) {
        if (by == 0) {
          Store(a + i * w + c, Vec{});
          continue;
        }
        const Vec gate = Min(Load(u + i * 2 * w + c), Splat(moe.limit));
        const Vec up = Max(Min(Load(u + i * 2 * w + w + c), Splat(moe.limit)), Splat(-moe.limit));
        Store(a + i * w + c, by * gate * Sigmoid(gate) * up);
      }
    }
  }
}

template <class T>
void ActivateBackward(int64_t tokens, const Moe& moe, const T* u, const float* weight, const T* ga, T* gu) {
  const int e = moe.experts, w = moe.width, used = (e + 1) * 2 * w;
  for (int64_t t = 0; t < tokens; ++t, u += moe.row, weight += e, ga += (e + 1) * w, gu += moe.row) {
    float gweight[64] = {};
    for (int i = 0; i <= e; ++i) {
      const float by = i < e ? weight[i] : 1;
      Vec dots{};
      for (int c = 0; c < w; c += kLanes) {
        if (by == 0) {
          Store(gu + i * 2 * w + c, Vec{});
          Store(gu + i * 2 * w + w + c, Vec{});
          continue;
        }
        const Vec gate_in = Load(u + i * 2 * w + c), up_in = Load(u + i * 2 * w + w + c),
                  g = Load(ga + i * w + c);
        const Vec gate = Min(gate_in, Splat(moe.limit));
        const Vec up = Max(Min(up_in, Splat(moe.limit)), Splat(-moe.limit));
        const Vec sig = Sigmoid(gate), silu = gate * sig;
        dots += g * silu * up;
        const Vec ggate = by * g * up * sig * (1 + gate * (1 - sig));
        const Vec gup = by * g * silu;
        Store(gu + i * 2 * w + c, gate_in <= moe.limit ? ggate : Vec{});
        Store(gu + i * 2 * w + w + c, up == up_in ? gup : Vec{});
      }
      if (i < e) gweight[i] = Sum(dots);
    }
    float mean = 0;
    for (int i = 0; i < e; ++i) mean += gweight[i] * weight[i] / moe.factor;
    float total = 0;  // of the chosen scores
    float score[64], z[64];
    for (int i = 0; i < e; ++i) {
      z[i] = Get(u + used + i);
      score[i] = weight[i] > 0 ? std::sqrt(z[i] > 20 ? z[i] : std::log1p(std::exp(z[i]))) : 0;
      total += score[i];
    }
    for (int i = used; i < moe.row; ++i) Put(gu + i, 0);
    for (int i = 0; i < e; ++i)
      if (weight[i] > 0)
        Put(gu + used + i, moe.factor / total * (gweight[i] - mean) / (2 * score[i]) * Sigmoid1(z[i]));
  }
}

// Row by row: loss [M], hit [M] (the target is the largest), and the gradient of sum(weight * loss) over the
// logits.
template <class T>
void Entropy(int64_t rows, int64_t width, T* logits, const int64_t* target, const float* weight, float* loss,
             uint8_t* hit) {
  for (int64_t i = 0; i < rows; ++i, logits += width) {
    Vec top = Splat(-1e30F);
    for (int64_t c = 0; c < width; c += kLanes) top = Max(top, Load(logits + c));
    const float most = Largest(top);
    Vec sum{};
    for (int64_t c = 0; c < width; c += kLanes) sum += Exp(Load(logits + c) - most);
    const float total = Sum(sum), at = Get(logits + target[i]);
    loss[i] = std::log(total) + most - at;
    hit[i] = at >= most;
    for (int64_t c = 0; c < width; c += kLanes)
      Store(logits + c, Exp(Load(logits + c) - most) * (weight[i] / total));
    Put(logits + target[i], (std::exp(at - most) / total - 1) * weight[i]);
  }
}

Mix MixOf(const int64_t* n, const double* x, void** p) {
  return {static_cast<int>(n[1]),    static_cast<int>(n[2]),    static_cast<int>(n[3]),
          static_cast<int>(n[4]),    static_cast<float>(x[0]),  static_cast<float>(x[1]),
          static_cast<float*>(p[0]), static_cast<float*>(p[1]), static_cast<float*>(p[2])};
}

Moe MoeOf(const int64_t* n, const double* x) {
  return {static_cast<int>(n[1]), static_cast<int>(n[2]), static_cast<int>(n[3]), static_cast<float>(x[0]),
          static_cast<float>(x[1])};
}

template <class P>
P* As(void* p) {
  return static_cast<P*>(p);
}

// Calls use(stream count as a constant) for the count at hand: the loops over streams then live in registers.
template <class Use>
void ForStreams(int64_t s, Use use) {
  switch (s) {
    case 1:
      return use(std::integral_constant<int, 1>());
    case 2:
      return use(std::integral_constant<int, 2>());
    case 3:
      return use(std::integral_constant<int, 3>());
    default:
      return use(std::integral_constant<int, 4>());
  }
}

template <class T>
void MixInCall(const int64_t* n, const double* x, void** p) {  // fn, scale, base, h, norm, x, coef
  const Mix mix = MixOf(n, x, p);
  ForStreams(mix.s, [&](auto s) {
    constexpr int kS = decltype(s)::value;
    const auto run = mix.rows == kS ? MixIn<kS, kS, T> : MixIn<kS, (2 + kS) * kS, T>;
    run(n[0], mix, As<float>(p[3]), As<float>(p[4]), As<T>(p[5]), As<float>(p[6]));
  });
}

// fn, scale, base, h, norm, coef, gx, gcoef, gh, gfn, gscale, gbase, gnorm
template <class T>
void MixInBackwardCall(const int64_t* n, const double* x, void** p) {
  const Mix mix = MixOf(n, x, p);
  ForStreams(mix.s, [&](auto s) {
    constexpr int kS = decltype(s)::value;
    const auto run = mix.rows == kS ? MixInBackward<kS, kS, T> : MixInBackward<kS, (2 + kS) * kS, T>;
    run(n[0], mix, As<float>(p[3]), As<float>(p[4]), As<float>(p[5]), As<T>(p[6]), As<float>(p[7]),
        As<float>(p[8]), As<float>(p[9]), As<float>(p[10]), As<float>(p[11]), As<float>(p[12]));
  });
}

template <class T>
void MixOutCall(const int64_t* n, void** p) {  // y, h, coef, out
  ForStreams(n[1], [&](auto s) {
    MixOut<decltype(s)::value>(n[0], static_cast<int>(n[2]), As<T>(p[0]), As<float>(p[1]), As<float>(p[2]),
                               As<float>(p[3]));
  });
}

template <class T>
void MixOutBackwardCall(const int64_t* n, void** p) {  // y, h, coef, g, gy, gh, gcoef
  ForStreams(n[1], [&](auto s) {
    MixOutBackward<decltype(s)::value>(n[0], static_cast<int>(n[2]), As<T>(p[0]), As<float>(p[1]),
                                       As<float>(p[2]), As<float>(p[3]), As<T>(p[4]), As<float>(p[5]),
                                       As<float>(p[6]));
  });
}

}  // namespace
}  // namespace nano

#define NANO_EXPORT(name, T)                                                                               \
  void mix_in_##name(const int64_t* n, const double* x, void** p) { nano::MixInCall<T>(n, x, p); }         \
  void mix_in_backward_##name(const int64_t* n, const double* x, void** p) {                               \
    nano::MixInBackwardCall<T>(n, x, p);                                                                   \
  }                                                                                                        \
  void mix_out_##name(const int64_t* n, const double*, void** p) { nano::MixOutCall<T>(n, p); }            \
  void mix_out_backward_##name(const int64_t* n, const double*, void** p) {                                \
    nano::MixOutBackwardCall<T>(n, p);                                                                     \
  }                                                                                                        \
  void activate_##name(const int64_t* n, const double* x, void** p) {                                      \
    nano::Activate(n[0], nano::MoeOf(n, x), nano::As<T>(p[0]), nano::As<uint8_t>(p[1]), nano::As<T>(p[2]), \
                   nano::As<float>(p[3]));                                                                 \
  }                                                                                                        \
  void activate_backward_##name(const int64_t* n, const double* x, void** p) {                             \
    nano::ActivateBackward(n[0], nano::MoeOf(n, x), nano::As<T>(p[0]), nano::As<float>(p[1]),              \
                           nano::As<T>(p[2]), nano::As<T>(p[3]));                                          \
  }                                                                                                        \
  void entropy_##name(const int64_t* n, const double*, void** p) {                                         \
    nano::Entropy(n[0], n[1], nano::As<T>(p[0]), nano::As<int64_t>(p[1]), nano::As<float>(p[2]),           \
                  nano::As<float>(p[3]), nano::As<uint8_t>(p[4]));                                         \
  }

extern "C" {
NANO_EXPORT(f32, float)
NANO_EXPORT(bf16, nano::Bf16)
}
