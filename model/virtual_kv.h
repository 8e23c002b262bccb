// KV that no token made: blocks and tails of random, plausible content, so that a benchmark can stand at the
// end of a window of a million tokens without a prefill of hours. What a model says after it means nothing;
// how long it takes to say it does.
//
// Content is that of entries as the codecs write them: finite, on the stored grid, of the size that normed
// entries have, index keys of differing length, so that scores spread and what is selected lies everywhere.
// It follows from (seed, block) or (seed, position) alone, on every machine. May be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/config.h"
#include "model/kv_layout.h"

namespace holdfast::model {

// Fills one block: its planes one after another, block_bytes() in all. Some 0.4 GB/s a thread.
void FillVirtualBlock(const KvLayout& layout, uint64_t seed, int64_t block, std::span<std::byte> out);

// Fills a boundary tail (model/sequence.h), BoundaryTailBytes in all. `position` is a multiple of
// block_tokens.
void FillVirtualTail(const ModelConfig& config, const KvLayout& layout, uint64_t seed, int64_t position,
                     std::span<std::byte> out);

}  // namespace holdfast::model
