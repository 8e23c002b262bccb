// Which instruction sets the kernels are compiled for: on x86-64 AVX-512 with VNNI, AVX-512, AVX2 and a
// baseline of 128-bit vectors (SSSE3, set in model/CMakeLists.txt). Included before hwy/foreach_target.h by
// every kernel file. Dispatch is at run time; all give the same bits.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSE4)
