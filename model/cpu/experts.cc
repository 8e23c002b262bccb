#include "model/cpu/experts.h"

#include <algorithm>

#include "model/cpu/row_ops.h"

namespace holdfast::model::cpu {
namespace {

constexpr int64_t kInterTile = 64;  // rows of w1 and w3; a multiple of 32
constexpr int64_t kDownTile = 64;   // rows of w2

template <typename T>
void Grow(std::vector<T>& v, int64_t size) {
  if (static_cast<int64_t>(v.size()) < size) v.resize(static_cast<size_t>(size));
}

}  // namespace

ExpertRunner::ExpertRunner(base::ThreadPool& pool)
    : pool_(pool), scratch_(static_cast<size_t>(pool.threads())) {}

void ExpertRunner::Run(const ExpertsArgs& a) {
  MakeGroups(a);
  QuantiseInput(a);
  const auto slots = static_cast<int64_t>(rows_.size());
  Grow(activations_, slots * a.inter);
  const int64_t inter_tiles = (a.inter + kInterTile - 1) / kInterTile;
  pool_.ParallelFor(groups_.size() * static_cast<size_t>(inter_tiles), [&](size_t task, int thread) {
    const Group& group = groups_[task / static_cast<size_t>(inter_tiles)];
    const int64_t begin = static_cast<int64_t>(task) % inter_tiles * kInterTile;
    GateAndUp(a, group, begin, std::min<int64_t>(a.inter, begin + kInterTile),
              scratch_[static_cast<size_t>(thread)]);
  });

  int8_activations_.Resize(slots, a.inter);
  if (std::any_of(groups_.begin(), groups_.end(), [](const Group& g) { return WantsInt8(g.expert->w2); })) {
    pool_.ParallelFor(static_cast<size_t>(slots), [&](size_t slot, int) {
      QuantiseRow(&activations_[slot * static_cast<size_t>(a.inter)], a.inter, int8_activations_,
                  static_cast<int64_t>(slot));
    });
  }

  const int64_t down_tiles = (a.width + kDownTile - 1) / kDownTile;
  pool_.ParallelFor(static_cast<size_t>(down_tiles), [&](size_t task, int thread) {
    const int64_t begin = static_cast<int64_t>(task) * kDownTile;
    Down(a, begin, std::min<int64_t>(a.width, begin + kDownTile), scratch_[static_cast<size_t>(thread)]);
  });
}

// Sorts the (row, choice) pairs by expert, rows in order.
void ExpertRunner::MakeGroups(const ExpertsArgs& a) {
  const int64_t chosen = int64_t{a.n} * a.experts_per_token;
  const size_t num_experts = a.moe.experts.size();
  starts_.assign(num_experts + 1, 0);
  for (int64_t i = 0; i < chosen; ++i) ++starts_[static_cast<size_t>(a.experts[i]) + 1];
  for (size_t e = 0; e < num_experts; ++e) starts_[e + 1] += starts_[e];
  groups_.clear();
  for (size_t e = 0; e < num_experts; ++e) {
    if (starts_[e + 1] > starts_[e])
      groups_.push_back({&a.moe.experts[e], starts_[e], starts_[e + 1] - starts_[e]});
  }
  groups_.push_back({&a.moe.shared, chosen, a.n});
  rows_.resize(static_cast<size_t>(chosen + a.n));
  weights_.resize(rows_.size());
  while (slots_.size() < rows_.size()) slots_.push_back(static_cast<int32_t>(slots_.size()));
  for (int64_t i = 0; i < chosen; ++i) {
    const auto slot = static_cast<size_t>(starts_[static_cast<size_t>(a.experts[i])]++);
    rows_[slot] = static_cast<int32_t>(i / a.experts_per_token);
    weights_[slot] = a.weights[i];
  }
  for (int64_t i = 0; i < a.n; ++i) {
    rows_[static_cast<size_t>(chosen + i)] = static_cast<int32_t>(i);
    weights_[static_cast<size_t>(chosen + i)] = 1.0f;
  }
}

void ExpertRunner::QuantiseInput(const ExpertsArgs& a) {
  const bool wanted = std::any_of(groups_.begin(), groups_.end(), [](const Group& g) {
    return WantsInt8(g.expert->w1) || WantsInt8(g.expert->w3);
  });
  if (!wanted) return;
  int8_x_.Resize(a.n, a.width);
  pool_.ParallelFor(static_cast<size_t>(a.n), [&](size_t i, int) {
    QuantiseRow(a.x + static_cast<int64_t>(i) * a.width, a.width, int8_x_, static_cast<int64_t>(i));
  });
}

void ExpertRunner::GateAndUp(const ExpertsArgs& a, const Group& group, int64_t begin, int64_t end,
                             Scratch& s) {
  const int64_t tile = end - begin;
  Grow(s.gate, group.count * tile);
  Grow(s.up, group.count * tile);
  const MatmulRows x{a.x, a.width, &int8_x_, RowsOf(group)};
  DotRows(group.expert->w1, begin, end, x, s.gate.data(), tile, s.matmul);
  DotRows(group.expert->w3, begin, end, x, s.up.data(), tile, s.matmul);
  for (int64_t i = 0; i < group.count; ++i) {
    float* gate = &s.gate[static_cast<size_t>(i * tile)];
    const int64_t slot = group.first + i;
    SwiGlu(gate, &s.up[static_cast<size_t>(i * tile)], tile, weights_[static_cast<size_t>(slot)], a.limit);
    std::copy_n(gate, tile, &activations_[static_cast<size_t>(slot * a.inter + begin)]);
  }
}

void ExpertRunner::Down(const ExpertsArgs& a, int64_t begin, int64_t end, Scratch& s) {
  const int64_t tile = end - begin;
  for (int64_t i = 0; i < a.n; ++i) std::fill_n(a.y + i * a.width + begin, tile, 0.0f);
  for (const Group& group : groups_) {
    Grow(s.gate, group.count * tile);
    const MatmulRows x{
        activations_.data(), a.inter, &int8_activations_,
        std::span(slots_).subspan(static_cast<size_t>(group.first), static_cast<size_t>(group.count))};
    DotRows(group.expert->w2, begin, end, x, s.gate.data(), tile, s.matmul);
    for (int64_t i = 0; i < group.count; ++i) {
      float* y = a.y + rows_[static_cast<size_t>(group.first + i)] * int64_t{a.width} + begin;
      const float* add = &s.gate[static_cast<size_t>(i * tile)];
      for (int64_t d = 0; d < tile; ++d) y[d] += add[d];
    }
  }
}

}  // namespace holdfast::model::cpu
