#include "model/cpu/targets.h"

#include "hwy/highway.h"

namespace holdfast::model::cpu {

std::vector<int64_t> AvailableTargets() { return hwy::SupportedAndGeneratedTargets(); }

std::string TargetName(int64_t target) { return hwy::TargetName(target); }

void ForceTarget(int64_t target) {
  hwy::SetSupportedTargetsForTest(target);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace holdfast::model::cpu
