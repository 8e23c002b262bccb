// The mixture of experts: rows grouped by expert, so that an expert's weights are read once for a batch.
// Private to model/.
#pragma once

#include <cstdint>
#include <vector>

#include "base/parallel.h"
#include "model/backend.h"
#include "model/cpu/matmul.h"

namespace holdfast::model::cpu {

// Two loops over tiles of weight rows: gate and up of every expert into activations, then down into y, where
// a tile adds its experts in ascending order and the shared one last.
class ExpertRunner {
 public:
  explicit ExpertRunner(base::ThreadPool& pool);
  void Run(const ExpertsArgs& args);

 private:
  // One expert with the rows that chose it; its activations stand in slots [first_slot, first_slot + rows).
  struct Group {
    const Expert* expert;
    int64_t first;  // in rows_ and weights_, and the first slot
    int64_t count;
  };
  struct Scratch {
    MatmulScratch matmul;
    std::vector<float> gate;
    std::vector<float> up;
  };

  void MakeGroups(const ExpertsArgs& args);
  void QuantiseInput(const ExpertsArgs& args);
  void GateAndUp(const ExpertsArgs& args, const Group& group, int64_t begin, int64_t end, Scratch& scratch);
  void Down(const ExpertsArgs& args, int64_t begin, int64_t end, Scratch& scratch);
  std::span<const int32_t> RowsOf(const Group& g) const {
    return std::span(rows_).subspan(static_cast<size_t>(g.first), static_cast<size_t>(g.count));
  }

  base::ThreadPool& pool_;
  std::vector<Scratch> scratch_;    // per thread
  std::vector<Group> groups_;       // ascending expert id, the shared expert last
  std::vector<int32_t> rows_;       // [slots] row of x
  std::vector<float> weights_;      // [slots]
  std::vector<int32_t> slots_;      // 0, 1, 2, ...
  std::vector<int64_t> starts_;     // [experts + 1]
  std::vector<float> activations_;  // [slots, inter]
  Int8Rows int8_x_;
  Int8Rows int8_activations_;
};

}  // namespace holdfast::model::cpu
