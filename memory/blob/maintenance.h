// What is done to a blob store in the background: opening, sweeping, merging, checking.
//
// Threads: one at a time, while others read and commit; OpenStore before anybody does.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>

#include "absl/functional/function_ref.h"
#include "base/file.h"
#include "base/status.h"
#include "memory/blob/store_state.h"
#include "memory/blob_store.h"

namespace holdfast::memory::blob {

// Locks the directory and reads what is in it: the numbered list in docs/formats/blob_pack.md.
base::StatusOr<std::unique_ptr<base::FileLock>> OpenStore(StoreState& state);

base::StatusOr<SweepReport> Sweep(StoreState& state, int32_t until_seconds,
                                  absl::FunctionRef<bool(const BlobId&)> live, const std::stop_token& stop);

base::StatusOr<CompactReport> Compact(StoreState& state, uint64_t budget_bytes, const std::stop_token& stop);

base::StatusOr<BlobVerifyReport> Verify(StoreState& state,
                                        const std::function<void(uint64_t, uint64_t)>& progress,
                                        const std::stop_token& stop);

}  // namespace holdfast::memory::blob
