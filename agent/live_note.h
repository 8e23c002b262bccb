// What may be seen of a session while it works, before it is durable: whoever shows it must say that a crash
// can take it back. Events with the same positions supersede it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <variant>

#include "sessions/scheduler.h"

namespace holdfast::agent {

// Tokens that were sampled and are not committed yet.
struct SampledTokens {
  uint32_t epoch = 0;
  int64_t position = 0;          // in the epoch, of the first
  std::span<const int32_t> ids;  // valid during the call
};

using LiveNote = std::variant<SampledTokens, sessions::PrefillProgress>;

// Called on the control lane, behind the events that are durable by then.
using LiveSink = std::function<void(const std::string& session, const LiveNote& note)>;

}  // namespace holdfast::agent
