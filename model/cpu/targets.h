// Which instruction sets the kernels are compiled for: on x86-64 AVX-512 with VNNI, AVX-512, AVX2 and a
// baseline of 128-bit vectors (SSSE3, set in model/CMakeLists.txt). Included before hwy/foreach_target.h by
// every kernel file. Dispatch is at run time, to the best that the processor has; all give the same bits.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

// Scalable vectors have no constant width, which the 16 lanes need: on 64-bit Arm the target is NEON.
#define HWY_DISABLED_TARGETS (HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#define HWY_WANT_AVX3_DL

namespace holdfast::model::cpu {

// The targets that were compiled and that this processor has, best first.
std::vector<int64_t> AvailableTargets();
std::string TargetName(int64_t target);

// Dispatches to `target` alone from now on, in the whole process; 0 goes back to the best. For tests and
// benchmarks, while no kernel runs.
void ForceTarget(int64_t target);

}  // namespace holdfast::model::cpu
