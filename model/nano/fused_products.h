// The products of attention over one row of a batch: queries (or gradients) in tiles of rows against the keys
// of a window and the pooled entries. Two ways with one interface: float32 vectors anywhere, BF16 matrix
// units (AMX) where the processor has them. `far` picks the entries, else the window, whose first key is
// `low`; `count` keys are a multiple of kAlign. Rows r of x, p and out are d, count and d wide. Slot 0 and 1
// hold the rows at hand.
#pragma once

#include <algorithm>
#include <vector>

#ifdef __AMX_BF16__
#include <immintrin.h>
#endif

#include "model/nano/fused.h"

namespace nano {

inline int PadTo(int64_t n, int align) { return static_cast<int>((n + align - 1) / align * align); }

class VectorProducts {
 public:
  static constexpr int kAlign = 16;

  VectorProducts(int d, int /*rows_max*/) : d_(d) {}

  void SetKeys(bool far, const float* keys, int64_t n) {
    Side& side = sides_[far];
    side.pitch = PadTo(n, kAlign);
    side.plain.assign(static_cast<size_t>(side.pitch) * d_, 0);
    side.turned.assign(side.plain.size(), 0);
    side.gradient.assign(side.plain.size(), 0);
    std::copy_n(keys, n * d_, side.plain.data());
    for (int64_t i = 0; i < n; ++i)
      for (int c = 0; c < d_; ++c) side.turned[static_cast<int64_t>(c) * side.pitch + i] = keys[i * d_ + c];
  }
  void SetRows(int slot, const float* x, int rows) { x_[slot] = x, rows_ = rows; }

  // out [rows, count] = x keys^T
  void Scores(int slot, bool far, int low, int count, float* out) {
    const Side& side = sides_[far];
    Gemm(rows_, count, d_, x_[slot], d_, 1, side.turned.data() + low, side.pitch, out, count, false);
  }
  // out [rows, d] = (add ? out : 0) + p keys
  void Values(const float* p, bool far, int low, int count, float* out, bool add) {
    Gemm(rows_, d_, count, p, count, 1, sides_[far].plain.data() + static_cast<int64_t>(low) * d_, d_, out,
         d_, add);
  }
  // gradient of the keys += p^T x
  void Gather(const float* p, int slot, bool far, int low, int count) {
    Gemm(count, d_, rows_, p, 1, count, x_[slot], d_,
         sides_[far].gradient.data() + static_cast<int64_t>(low) * d_, d_, true);
  }
  void GetGradient(bool far, float* out, int64_t n) const {
    std::copy_n(sides_[far].gradient.data(), n * d_, out);
  }

 private:
  struct Side {
    int pitch = 0;
    std::vector<float> plain, turned, gradient;  // [N, d], [d, pitch], [N, d]
  };
  int d_, rows_ = 0;
  Side sides_[2];
  const float* x_[2] = {};
};

#ifdef __AMX_BF16__

// BF16 inputs, float32 sums. "Words" are pairs of BF16 values, the lower one first: the form that the units
// read their right operand in, [k / 2, n].
class MatrixProducts {
 public:
  static constexpr int kAlign = 32;

  MatrixProducts(int d, int rows_max)
      : d_(d), depth_(PadTo(d, 32)), rows_(PadTo(rows_max, 32)), row_x_{}, p_words_(), p_rows_() {
    Configure();
    for (auto& x : row_x_) x.assign(static_cast<size_t>(rows_) * depth_, 0);
    for (auto& x : turned_x_) x.assign(static_cast<size_t>(d_) * rows_, 0);
  }
  ~MatrixProducts() { _tile_release(); }
  MatrixProducts(const MatrixProducts&) = delete;
  MatrixProducts& operator=(const MatrixProducts&) = delete;

  void SetKeys(bool far, const float* keys, int64_t n) {
    Side& side = sides_[far];
    side.pitch = PadTo(n, kAlign);
    side.by_channel.assign(static_cast<size_t>(depth_) / 2 * side.pitch, 0);
    side.by_key.assign(static_cast<size_t>(side.pitch) / 2 * d_, 0);
    side.gradient.assign(static_cast<size_t>(side.pitch) * d_, 0);
    std::vector<Bf16> row(2 * d_);
    for (int64_t i = 0; i < n; i += 2) {
      for (int c = 0; c < d_; c += kLanes) {
        const Vec a = Load(keys + i * d_ + c), b = i + 1 < n ? Load(keys + (i + 1) * d_ + c) : Vec{};
        Store(row.data() + c, a);
        Store(row.data() + d_ + c, b);
        Store(side.by_key.data() + i / 2 * d_ + c, Words(a, b));
      }
      for (int half = 0; half < 2 && i + half < n; ++half)
        for (int c = 0; c < d_; c += 2)
          std::memcpy(&side.by_channel[static_cast<int64_t>(c / 2) * side.pitch + i + half],
                      &row[half * d_ + c], 4);
    }
  }

  void SetRows(int slot, const float* x, int rows) {
    Bf16* out = row_x_[slot].data();
    uint32_t* turned = reinterpret_cast<uint32_t*>(turned_x_[slot].data());
    for (int r = 0; r < rows_; r += 2)
      for (int c = 0; c < d_; c += kLanes) {
        const Vec a = r < rows ? Load(x + r * d_ + c) : Vec{},
                  b = r + 1 < rows ? Load(x + (r + 1) * d_ + c) : Vec{};
        Store(out + r * depth_ + c, a);
        Store(out + (r + 1) * depth_ + c, b);
        const BitVec words = Words(a, b);
        for (int i = 0; i < kLanes; ++i) turned[(c + i) * (rows_ / 2) + r / 2] = words[i];
      }
  }

  void Scores(int slot, bool far, int low, int count, float* out) {
    Side& side = sides_[far];
    Product(rows_, count, depth_, row_x_[slot].data(), depth_, side.by_channel.data() + low, side.pitch, out,
            count, false);
  }
  void Values(const float* p, bool far, int low, int count, float* out, bool add) {
    p_rows_.resize(static_cast<size_t>(rows_) * count);
    for (int i = 0; i < rows_ * count; i += kLanes) Store(p_rows_.data() + i, Load(p + i));
    Product(rows_, d_, count, p_rows_.data(), count,
            sides_[far].by_key.data() + static_cast<int64_t>(low) / 2 * d_, d_, out, d_, add);
  }
  void Gather(const float* p, int slot, bool far, int low, int count) {
    p_words_.resize(static_cast<size_t>(rows_) / 2 * count);
    for (int r = 0; r < rows_; r += 2)
      for (int j = 0; j < count; j += kLanes)
        Store(p_words_.data() + r / 2 * count + j,
              Words(Load(p + r * count + j), Load(p + (r + 1) * count + j)));
    Side& side = sides_[far];  // transposed: x^T p
    Product(d_, count, rows_, turned_x_[slot].data(), rows_, p_words_.data(), count,
            side.gradient.data() + low, side.pitch, true);
  }
  void GetGradient(bool far, float* out, int64_t n) const {
    const Side& side = sides_[far];
    for (int64_t i = 0; i < n; ++i)
      for (int c = 0; c < d_; ++c) out[i * d_ + c] = side.gradient[static_cast<int64_t>(c) * side.pitch + i];
  }

 private:
  struct Side {
    int pitch = 0;
    std::vector<uint32_t> by_channel, by_key;  // words [depth / 2, pitch], [pitch / 2, d]
    std::vector<float> gradient;               // [d, pitch]
  };

  static void Store(Bf16* p, Vec v) { nano::Store(p, v); }
  static void Store(uint32_t* p, BitVec v) { std::memcpy(p, &v, sizeof(v)); }
  static BitVec Rounded(Vec v) {
    BitVec bits = BitCast<BitVec>(v);
    return bits + 0x7fff + ((bits >> 16) & 1);
  }
  static BitVec Words(Vec low, Vec high) { return (Rounded(low) >> 16) | (Rounded(high) & 0xffff0000U); }

  static void Configure() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    _tile_loadconfig(&config);
  }

  // C [m, n] = (add ? C : 0) + A B; m, n multiples of 16, k of 32; A [m, k] BF16, B words [k / 2, n].
  static void Product(int m, int n, int k, const Bf16* a, int lda, const uint32_t* b, int ldb, float* c,
                      int ldc, bool add) {
    for (int i = 0; i < m; i += 32)
      for (int j = 0; j < n; j += 32) {
        const bool down = i + 16 < m, right = j + 16 < n;
        float* at = c + static_cast<int64_t>(i) * ldc + j;
        if (add) {
          _tile_loadd(0, at, ldc * 4);
          if (right) _tile_loadd(1, at + 16, ldc * 4);
          if (down) _tile_loadd(2, at + 16 * ldc, ldc * 4);
          if (down && right) _tile_loadd(3, at + 16 * ldc + 16, ldc * 4);
        } else {
          _tile_zero(0);
          _tile_zero(1);
          _tile_zero(2);
          _tile_zero(3);
        }
        for (int l = 0; l < k; l += 32) {
          const Bf16* left = a + static_cast<int64_t>(i) * lda + l;
          const uint32_t* top = b + static_cast<int64_t>(l / 2) * ldb + j;
          _tile_loadd(4, left, lda * 2);
          _tile_loadd(6, top, ldb * 4);
          _tile_dpbf16ps(0, 4, 6);
          if (right) {
            _tile_loadd(7, top + 16, ldb * 4);
            _tile_dpbf16ps(1, 4, 7);
          }
          if (down) {
            _tile_loadd(5, left + 16 * lda, lda * 2);
            _tile_dpbf16ps(2, 5, 6);
            if (right) _tile_dpbf16ps(3, 5, 7);
          }
        }
        _tile_stored(0, at, ldc * 4);
        if (right) _tile_stored(1, at + 16, ldc * 4);
        if (down) _tile_stored(2, at + 16 * ldc, ldc * 4);
        if (down && right) _tile_stored(3, at + 16 * ldc + 16, ldc * 4);
      }
  }

  int d_, depth_, rows_;
  Side sides_[2];
  std::vector<Bf16> row_x_[2], turned_x_[2];  // [rows, depth], [d, rows]
  std::vector<uint32_t> p_words_;
  std::vector<Bf16> p_rows_;
};

#endif  // __AMX_BF16__

}  // namespace nano
