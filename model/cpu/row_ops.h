// Operations on single rows that need exp, log or a reduction. Private to model/. Each is a pure function of
// its arguments, with final bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/kv_layout.h"

namespace holdfast::model::cpu {

// sum of x[i]^2; n is a multiple of 16.
float SumOfSquares(const float* x, int64_t n);

// 1 / sqrt(sum(x^2) / n + eps).
float InverseRms(const float* x, int64_t n, float eps);

void ExpArray(float* values, int64_t n);
void SigmoidArray(float* values, int64_t n);
// sqrt(ln(1 + e^x)).
void SqrtSoftplusArray(float* values, int64_t n);

// a[i] = weight * silu(min(gate[i], limit)) * clamp(up[i], -limit, limit), into gate.
void SwiGlu(float* gate, const float* up, int64_t n, float weight, float limit);

// One pooled value per channel: softmax over the rows' scores, channel by channel, times their kv. `rows`
// lists where each row's first channel stands; rows are taken in order.
struct PoolRow {
  const float* kv = nullptr;
  const float* score = nullptr;
};
void PoolChannels(std::span<const PoolRow> rows, int64_t channels, float* out);

// In place, pairs of the last rope_dim values; `sign` -1 is the inverse rotation.
void Rotate(float* x, const float* cos, const float* sin, int64_t rope_dim, float sign);

// In place: Sylvester-ordered Hadamard transform times n^-0.5, n a power of two.
void Hadamard(float* x, int64_t n);

// In place, [s, s]: softmax by rows + eps, then columns; then rounds - 1 times rows and columns.
void Sinkhorn(float* c, int64_t s, int64_t rounds, float eps);

}  // namespace holdfast::model::cpu
