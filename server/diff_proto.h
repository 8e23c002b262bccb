// What a session has changed, as clients see it.
//
// Threads: any.
#pragma once

#include <cstddef>

#include "agent/session_files.h"
#include "holdfast/v1/session_service.pb.h"

namespace holdfast::server {

// Together with the paths, of 4 KiB at most, below what a message may have.
inline constexpr size_t kDiffTextBytesMax = size_t{1} << 20;
inline constexpr size_t kDiffPathsMax = 2'000;

// `out` is empty. Bytes that are no UTF-8 are replaced.
void DiffToProto(const agent::FilesDiff& diff, v1::DiffSessionResponse* out);

}  // namespace holdfast::server
