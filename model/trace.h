// Runs one token sequence through an engine and records what it computes: for checks against other
// implementations, for tests and for audits.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"
#include "model/engine.h"

namespace holdfast::model {

struct TraceOptions {
  int64_t prefill = 0;  // positions below are fed in chunks, the rest one token at a time
  int32_t chunk = 0;    // tokens of a prefill chunk; 0: the engine's max_rows
  bool hidden = false;  // record every layer's streams
  bool mtp = false;     // run draft stage 0 along: entry t takes the final state at t and token t + 1
  // Called after each chunk with the positions done.
  std::function<void(int64_t)> progress;
};

struct Trace {
  std::vector<float> logits;               // [T, vocab]
  std::vector<std::vector<float>> hidden;  // per layer [T, hc_mult, D], when asked for
  std::vector<float> mtp_logits;           // [T - 1, vocab], when asked for
};

// Errors are those of Engine::Forward and ForwardDraft. `sequence` must be new; it is left at position T, and
// the engine without a layer observer.
base::StatusOr<Trace> RunTrace(Engine& engine, Sequence& sequence, std::span<const int32_t> tokens,
                               const TraceOptions& options);

}  // namespace holdfast::model
